"""Kernels' C files of two levels lived in a child: as recorded, and as our own policies."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from kernels.lived_support import exact_rows, lived, set_and_read_alike, without_times
from kernels.two_level_files import TEXT, built_by_report, never_rebuilt
from p2mbatch.base.cc import find_compiler
from p2mbatch.base.errors import InputError, PolicyError
from p2mbatch.guests.guest import Guest
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.hunt.batch import Hunter
from p2mbatch.kernels.named import named_policy
from p2mbatch.model.policies import find
from p2mbatch.model.replay import replay
from p2mbatch.model.trace_file import load_trace

HERE = Path(__file__).parent
TRACES = HERE.parents[1] / "data" / "traces"
UNCOMPILED = bool(os.environ.get("NUMBA_DISABLE_JIT"))
THOROUGH = os.environ.get("P2MBATCH_HYPOTHESIS") == "thorough"
ONE_IN = 32 if UNCOMPILED else 1 if THOROUGH else 3
NAMES = ("two-level", "two-level-none")

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("files")
    files = {"two-level": HERE / "two_level.c", "two-level-none": never_rebuilt(folder)}
    return {name: named_policy(f"kernel:{file}") for name, file in files.items()}


def recorded(policy: str) -> list[Path]:
    """The recordings of a policy, of both widths and all the eras' folders."""
    files = sorted(TRACES.glob("eras*/two-level-*.json.gz"))
    return [f for f in files if f.name.startswith("two-level-none-") == (policy == NAMES[1])]


@pytest.mark.lane
@pytest.mark.parametrize("name", NAMES)
def test_recorded_traces_come_out_as_recorded(name: str, kernels: dict[str, str]) -> None:
    found = recorded(name)
    assert len(found) == 32
    for path in found[::ONE_IN]:
        assert load_trace(path).policy == name
        got, expected = lived(path, kernels[name])
        assert got == expected, path.name


def test_a_list_that_the_report_builds_is_lived(tmp_path: Path) -> None:
    policy = named_policy(f"kernel:{built_by_report(tmp_path)}")
    for path in recorded("two-level")[:: ONE_IN * 3]:
        got = replay(dataclasses.replace(load_trace(path), policy=policy))
        for event in got:
            event.pop("where", None)
        assert got == load_trace(path).expected, path.name


SHAPES: tuple[dict[str, Any], ...] = (
    {"memory_bytes": "1GiB", "sparsity": 0.4, "layout": "extents"},
    {"memory_bytes": "5GiB", "layout": "scattered", "sparsity": 0.2},
    {"memory_bytes": "2GiB", "layout": "tail", "sparsity": 0.5, "word_bytes": 4},
    {"memory_bytes": "1GiB", "max_domain_pages": 1 << 18, "grow_bytes": "8MiB",
     "grow_where": "beyond"},
    {"memory_bytes": "64MiB", "hosts": "8GiB,1GiB,16GiB", "stuck": "stay"},
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES[:: 1 if not UNCOMPILED else 5])
def test_a_sweeps_rows_are_those_of_the_policy(
    name: str, shape: dict[str, Any], kernels: dict[str, str]
) -> None:
    assert exact_rows(kernels[name], shape) == exact_rows(name, shape)


def test_a_guest_is_set_and_read_as_the_policys(kernels: dict[str, str]) -> None:
    guest = set_and_read_alike("two-level", kernels["two-level"])
    assert guest.lookup(range(100, 164)).tolist().count(-1) == 32


def test_a_line_changed_is_another_life(tmp_path: Path) -> None:
    old = "p2m_top_mfn[i] = virt_to_mfn(p2m_top[i]);"
    assert TEXT.count(old) == 1
    path = tmp_path / "mmu.c"
    path.write_text(TEXT.replace(old, f"if (!p2m_top_mfn[i]) {old}"), "utf-8")
    mine = named_policy(f"kernel:{path}")
    outcomes = [
        [row["outcome"] for row in run_scenario(
            Scenario.make(policy=policy, memory_bytes="64MiB", migrations=2, seed=1))]
        for policy in ("two-level", mine)
    ]  # fmt: skip
    assert outcomes[0] == ["ok"] * 3
    assert outcomes[1] != outcomes[0]


def test_pages_of_the_arrays_found_by_their_mfns_are_the_arrays(tmp_path: Path) -> None:
    """What is stored through an alias is where the array is read."""
    old = "p2m_top_mfn[i] = virt_to_mfn(p2m_top[i]);"
    new = (
        "((unsigned long *)mfn_to_virt(virt_to_mfn(p2m_top_mfn + i - i % P2M_ENTRIES_PER_PAGE)))"
        "[i % P2M_ENTRIES_PER_PAGE] = virt_to_mfn(p2m_top[i]);"
    )
    path = tmp_path / "mmu.c"
    path.write_text(TEXT.replace(old, new), "utf-8")
    fields = {"memory_bytes": "64MiB", "migrations": 2, "seed": 1, "max_domain_pages": 1 << 18}
    rows = [
        run_scenario(Scenario.make(policy=policy, **fields))
        for policy in ("two-level", named_policy(f"kernel:{path}"))
    ]
    assert without_times(rows[1]) == without_times(rows[0])


def test_drawn_lives_break_the_same_rules(kernels: dict[str, str]) -> None:
    """Both judges agree on them: none is left unconfirmed by a child for another length."""
    from p2mbatch.hunt.judge import judge
    from p2mbatch.model.trace_file import parse_trace

    hunter = Hunter(find(kernels["two-level"]), seed=1, threads=1)
    made = hunter.generation(0, 24 if not UNCOMPILED else 2)
    rules: dict[int, set[int]] = {}
    for life, rule in zip(made.failures.life.tolist(), made.failures.rule.tolist(), strict=True):
        rules.setdefault(life, set()).add(rule)
    assert rules or UNCOMPILED
    for life, broken in list(rules.items())[:8]:
        found = judge(parse_trace(made.trace(life), "life")).broken
        assert {one.rule for one in found} == broken


def test_a_file_without_what_builds_the_list_is_refused(tmp_path: Path) -> None:
    path = built_by_report(tmp_path)
    text = path.read_text("utf-8").replace(
        "p2m_top_mfn[i] = virt_to_mfn(p2m_top[i]);", "barrier();"
    )
    text = text.replace("virt_to_mfn(p2m_top_mfn + i * P2M_ENTRIES_PER_PAGE)", "0")
    path.write_text(text, "utf-8")
    with pytest.raises(PolicyError, match=r"no xen_build_mfn_list_list in .*two_level_first\.c"):
        named_policy(f"kernel:{path}")


# --- what is no such p2m -----------------------------------------------------------------------


def test_a_file_without_one_of_the_arrays_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mmu.c"
    path.write_text(TEXT.replace("p2m_top_mfn_list", "p2m_list_of_lists"), "utf-8")
    with pytest.raises(InputError, match=r"mmu\.c: no array p2m_top_mfn_list in it"):
        named_policy(f"kernel:{path}")


def test_an_array_of_another_length_is_refused_at_its_line(tmp_path: Path) -> None:
    old = "p2m_top_mfn[TOP_ENTRIES]"
    text = TEXT.replace(f"static unsigned long {old}", "static unsigned long p2m_top_mfn[64]")
    line = text[: text.index("p2m_top_mfn[64]")].count("\n") + 1
    path = tmp_path / "mmu.c"
    path.write_text(text, "utf-8")
    policy = named_policy(f"kernel:{path}")
    with pytest.raises(PolicyError, match=rf"mmu\.c:{line}: p2m_top_mfn has 512 bytes: a p2m of "):
        Guest.boot("64MiB", policy=policy)
