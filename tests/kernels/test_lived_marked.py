"""Kernels in C from 3.0 on, lived in a child: as recorded, and as our own policies of their eras.

Those of trees mark 1:1 ranges, those from 3.19 on have a linear p2m.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from kernels.lived_support import (
    exact_rows,
    lived,
    own_lookup_is_asked,
    set_and_read_alike,
    without_places,
)
from kernels.variants import VARIANTS, kernel_of
from oracle.eras.lives import life
from p2mbatch.base.cc import find_compiler
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.kernels.named import named_policy
from p2mbatch.model.policies import find
from p2mbatch.model.replay import replay
from p2mbatch.model.trace_file import parse_trace

TRACES = Path(__file__).parents[2] / "data" / "traces"
THOROUGH = os.environ.get("P2MBATCH_HYPOTHESIS") == "thorough"
SOON = ("moved", "late-list", "linear")
NUM_TRACES = 1 << 20 if THOROUGH else 6

pytestmark = [
    pytest.mark.skipif(find_compiler() is None, reason="no C compiler"),
    pytest.mark.skipif(bool(os.environ.get("NUMBA_DISABLE_JIT")), reason="too slow uncompiled"),
]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what each policy's kernel in C is named by."""
    folder = tmp_path_factory.mktemp("kernels")
    return {name: named_policy(f"kernel:{kernel_of(name, folder)}") for name in VARIANTS}


def recorded(policy: str) -> list[Path]:
    """Return the recordings of a policy, or some of them, of both machines, far apart."""
    found = [
        path
        for path in sorted(TRACES.glob(f"eras*/{policy}-*.json.gz"))
        if policy != "linear" or path.name[7].isalpha()
    ]
    return found[:: max(len(found) // NUM_TRACES, 1)]


@pytest.mark.parametrize("policy", VARIANTS)
def test_recorded_traces_come_out_as_recorded(policy: str, kernels: dict[str, str]) -> None:
    paths = recorded(policy)
    assert len(paths) >= 6
    for path in paths:
        got, expected = lived(path, kernels[policy])
        assert got == expected, path.name


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(policy, marks=[] if policy in SOON else pytest.mark.thorough)
        for policy in VARIANTS
    ],
)
def test_random_lives_come_out_as_the_naive_models(policy: str, kernels: dict[str, str]) -> None:
    for seed in range(40 if THOROUGH else 4):
        for second_machine in (False, True):
            drawn = life(policy, seed, second_machine)
            trace = dataclasses.replace(parse_trace(drawn, "drawn"), policy=kernels[policy])
            assert without_places(replay(trace)) == drawn["expected"], (seed, second_machine)


BROKEN = {
    "moved": ("p2m_top_mfn_p[topidx][mididx] = virt_to_mfn(&mfn_list[pfn_free]);", ";"),
    "linear": ("mid_mfn_p[mididx] = pte_mfn(*ptep);",
               "if (pfn) mid_mfn_p[mididx] = pte_mfn(*ptep);"),
}  # fmt: skip


@pytest.mark.parametrize("policy", BROKEN)
def test_a_file_with_a_line_changed_lives_otherwise(policy: str, tmp_path: Path) -> None:
    text = kernel_of(policy, tmp_path).read_text("utf-8")
    old, new = BROKEN[policy]
    assert text.count(old) == 1
    (tmp_path / "p2m.c").write_text(text.replace(old, new), "utf-8")
    kernel = named_policy(f"kernel:{tmp_path / 'p2m.c'}")
    pairs = [lived(path, kernel) for path in recorded(policy)[:6] if "-32-" not in path.name]
    assert any(got != expected for got, expected in pairs)


# --- as our own policies ----------------------------------------------------------------------

SHAPES: dict[str, tuple[dict[str, Any], ...]] = {
    "tree": (
        {"memory_bytes": "1GiB", "sparsity": 0.4, "layout": "extents"},
        {"memory_bytes": "2GiB", "layout": "tail", "sparsity": 0.5, "word_bytes": 4},
        {"memory_bytes": "256MiB", "grow_bytes": "8MiB"},
        {"memory_bytes": "4GiB", "layout": "identity", "hole_at_bytes": "1GiB",
         "hole_bytes": "1536MiB"},
    ),
    "linear": (
        {"memory_bytes": "1GiB", "sparsity": 0.4, "layout": "extents"},
        {"memory_bytes": "2GiB", "layout": "scattered", "sparsity": 0.2, "told": "no"},
        {"memory_bytes": "256MiB", "grow_bytes": "64MiB", "grow_where": "beyond"},
        {"memory_bytes": "4GiB", "layout": "identity", "hole_at_bytes": "1GiB",
         "hole_bytes": "1536MiB", "grow_bytes": "8MiB", "grow_where": "identity"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("policy", VARIANTS)
def test_a_sweeps_rows_are_those_of_the_policy(policy: str, kernels: dict[str, str]) -> None:
    for shape in SHAPES["linear" if find(policy).is_linear else "tree"]:
        assert exact_rows(kernels[policy], shape) == exact_rows(policy, shape), shape


@pytest.mark.parametrize("policy", ["late-list", "linear"])
def test_a_guest_is_set_and_read_as_the_policys(policy: str, kernels: dict[str, str]) -> None:
    set_and_read_alike(policy, kernels[policy])


def test_the_files_own_lookup_is_asked(tmp_path: Path) -> None:
    own_lookup_is_asked(kernel_of("linear", tmp_path).read_text("utf-8"), tmp_path / "p2m.c")


# --- what is wrong ----------------------------------------------------------------------------

TROUBLE = {
    "vm.size = ALIGN(sizeof(unsigned long) * max(xen_max_p2m_pfn, p2m_limit), PMD_SIZE);":
        ("vm.size = PMD_SIZE;", r"asks for a p2m of 2,097,152 bytes, which is not"),
    "p2m_missing_pte : p2m_identity_pte;": (
        "p2m_missing_pte : (pte_t *)xen_p2m_addr;", r"has page tables over its p2m that don't lead",
    ),
    "\txen_p2m_addr = vm.addr;":
        ("\txen_p2m_addr = vm.addr;\n\t*xen_p2m_addr = *(xen_p2m_addr + vm.size);", "fault"),
}  # fmt: skip


@pytest.mark.parametrize("old", TROUBLE)
def test_trouble_in_a_linear_file_is_one_line(old: str, tmp_path: Path) -> None:
    from p2mbatch.base.errors import PolicyError

    text = kernel_of("linear", tmp_path).read_text("utf-8")
    new, said = TROUBLE[old]
    assert text.count(old) == 1
    path = tmp_path / "p2m.c"
    path.write_text(text.replace(old, new), "utf-8")
    fields = {"memory_bytes": "64MiB", "policy": named_policy(f"kernel:{path}")}
    if said == "fault":
        assert [row["outcome"] for row in run_scenario(Scenario.make(**fields))] == ["fault"]
        return
    with pytest.raises(PolicyError, match=said):
        run_scenario(Scenario.make(**fields))
