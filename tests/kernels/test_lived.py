"""Kernels' C files lived in a child: as recorded, and as our own policies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kernels.lived_support import exact_rows, lived, own_lookup_is_asked, set_and_read_alike
from oracle.recordings import Recording, recordings
from p2mbatch.base.cc import find_compiler
from p2mbatch.kernels.named import named_policy
from p2mbatch.model.trace_file import load_trace

HERE = Path(__file__).parent
UNCOMPILED = bool(os.environ.get("NUMBA_DISABLE_JIT"))

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


@pytest.fixture(scope="module")
def kernels() -> dict[str, str]:
    return {name: named_policy(f"kernel:{HERE / name}.c") for name in ("stale", "tracked")}


# --- as recorded ------------------------------------------------------------------------------


def some(policy: str) -> list[Recording]:
    """The shortest recording of each family, width and format ."""
    found: dict[tuple[str, ...], Recording] = {}
    for recording in sorted(recordings(), key=lambda r: -r.path.stat().st_size):
        if load_trace(recording.path).policy == policy:
            found[recording.family, recording.bits, recording.format] = recording
    return list(found.values())[:: 1 if not UNCOMPILED else 48]


@pytest.mark.lane
@pytest.mark.parametrize("name", ["stale", "tracked"])
def test_recorded_traces_come_out_as_recorded(name: str, kernels: dict[str, str]) -> None:
    found = some(name)
    assert found
    for recording in found:
        got, expected = lived(recording.path, kernels[name])
        assert got == expected, recording.path.name


# --- as our own policies ----------------------------------------------------------------------

SHAPES: tuple[dict[str, Any], ...] = (
    {"memory_bytes": "1GiB", "sparsity": 0.4, "layout": "extents"},
    {"memory_bytes": "1032MiB"},
    {"memory_bytes": "5GiB", "layout": "scattered", "sparsity": 0.2},
    {"memory_bytes": "2GiB", "layout": "tail", "sparsity": 0.5, "word_bytes": 4},
    {"memory_bytes": "256MiB", "grow_bytes": "8MiB"},
    {"memory_bytes": "64MiB", "hosts": "8GiB,1GiB,16GiB", "stuck": "stay"},
)


@pytest.mark.parametrize("name", ["stale", "tracked"])
@pytest.mark.parametrize("shape", SHAPES[:: 1 if not UNCOMPILED else 5])
def test_a_sweeps_rows_are_those_of_the_policy(
    name: str, shape: dict[str, Any], kernels: dict[str, str]
) -> None:
    assert exact_rows(kernels[name], shape) == exact_rows(name, shape)


def test_a_guest_is_set_and_read_as_the_policys(kernels: dict[str, str]) -> None:
    guest = set_and_read_alike("tracked", kernels["tracked"])
    assert guest.lookup(range(100, 164)).tolist().count(-1) == 32


def test_the_files_own_lookup_is_asked(tmp_path: Path) -> None:
    own_lookup_is_asked((HERE / "tracked.c").read_text("utf-8"), tmp_path / "mmu.c")


def test_replay_takes_a_kernel_by_an_option_of_its_own() -> None:
    from click.testing import CliRunner

    from p2mbatch.cli.replay import replay as command

    trace = str(HERE.parents[1] / "data" / "traces" / "dense-64-0.json.gz")
    done = CliRunner().invoke(command, ["--check", "--kernel", str(HERE / "tracked.c"), trace])
    assert (done.exit_code, done.output) == (0, "1 of 1 trace exact\n")
