"""Cells of the eras' kernels: the same guest written out, by the naive reference and by ours."""

from __future__ import annotations

import os
from typing import Any

import pytest

from oracle import eras
from p2mbatch.base.errors import InputError
from p2mbatch.guests.guest import Guest
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.model import policies
from p2mbatch.model.replay import replay
from p2mbatch.model.trace_file import parse_trace, trace_to_json

THOROUGH = os.environ.get("P2MBATCH_HYPOTHESIS") == "thorough"
EVERY = [name for name in policies.names() if policies.find(name).is_era]
# Each is compiled for two kinds of hosts: one of each kind of p2m, all in thorough runs.
ERAS = EVERY if THOROUGH else ["two-level-none", "mid-identity", "linear-4.4"]
TWO_LEVELS = ("two-level", "two-level-none")
LAYOUTS = ("tail", "scattered", "extents")
LOSSES = ("lost_pages", "ghost_pages", "lost_identity_pages")
COMPARED = ("outcome", "detail", "stray_writes", *LOSSES)
GROWTHS: tuple[dict[str, Any], ...] = (
    {"grow_bytes": "1MiB", "layout": "scattered"},
    {"grow_bytes": "1MiB", "grow_where": "beyond", "layout": "tail"},
    {"hole_bytes": "3MiB", "hole_at_bytes": "5MiB", "layout": "identity"},
    {
        "grow_bytes": "8KiB",
        "grow_where": "identity",
        "layout": "identity",
        "hole_bytes": "5MiB",
        "hole_at_bytes": "10752KiB",
    },
)


def cell(policy: str, layout: str, word_bytes: int = 8, /, **fields: Any) -> Scenario:
    usual = {"memory_bytes": "16MiB", "host_memory_bytes": "40MiB", "migrations": 2}
    usual |= {"sparsity": 0.4, "layout": layout, "hotplug_gib": 0}
    return Scenario.make(policy=policy, word_bytes=word_bytes, **usual | fields)


def takes_brk(policy: str) -> bool:
    return not is_linear(policy) and policy not in TWO_LEVELS


def is_linear(policy: str) -> bool:
    return policies.find(policy).is_linear


def compare_with_trace(scenario: Scenario) -> list[dict[str, Any]]:
    """Assert that a cell's rows are its trace's events, here and by the reference; return them."""
    value = trace_to_json(scenario.to_trace())
    trace = parse_trace(value, "cell")
    assert trace.format == "p2mbatch-trace/3"
    results = replay(trace)
    assert results == eras.replay(value)
    rows = run_scenario(scenario)
    moves, written = [], 0
    for result in results[1:]:
        written += result.get("placeholder_writes", 0)
        if result["op"] == "migrate" or result["outcome"] != "ok":
            moves.append({"placeholder_writes": written, **result})
            moves[-1]["placeholder_writes"], written = written, 0
    assert [row["migration"] for row in rows] == list(range(len(moves) + 1))
    for row, result in zip(rows[1:], moves, strict=True):
        names = (*COMPARED, "placeholder_writes")
        assert {name: row[name] for name in names} == {name: result.get(name, 0) for name in names}
    return rows


@pytest.mark.parametrize("policy", ERAS)
def test_a_cell_is_its_trace(policy: str) -> None:
    """For any layout and width: row by row the trace's events, and those of the reference."""
    for layout in LAYOUTS:
        compare_with_trace(cell(policy, layout, 8))
    if not is_linear(policy):
        compare_with_trace(cell(policy, "extents", 4))


@pytest.mark.parametrize("policy", ERAS)
def test_a_cell_that_grows_is_its_trace(policy: str) -> None:
    """With 1:1 pages and with growth within, beyond and in the hole; all leaves resident too."""
    measured = {"rebuild_ns", "save_walk_ns", "restore_ns", "resident_leaves"}
    for fields in GROWTHS:
        scenario = cell(policy, "tail", **fields)
        rows, every = compare_with_trace(scenario), run_scenario(scenario, "all")
        for a, b in zip(rows, every, strict=True):
            assert {k: v for k, v in a.items() if k not in measured} == {
                k: v for k, v in b.items() if k not in measured
            }


@pytest.mark.parametrize("policy", ERAS)
def test_resident_leaves_change_no_row(policy: str) -> None:
    measured = {"rebuild_ns", "save_walk_ns", "restore_ns", "resident_leaves"}
    for layout in LAYOUTS:
        large = {"memory_bytes": "1200MiB", "host_memory_bytes": "4GiB", "hotplug_gib": 2}
        scenario = cell(policy, layout, 8, **large)
        few, every = (run_scenario(scenario, resident) for resident in ("auto", "all"))
        stuck = policy == "two-level-none"
        assert [row["outcome"] for row in few] == ["ok", "ok", "save-failed" if stuck else "ok"]
        for a, b in zip(few, every, strict=True):
            assert {k: v for k, v in a.items() if k not in measured} == {
                k: v for k, v in b.items() if k not in measured
            }
            assert a["resident_leaves"] < b["resident_leaves"]


@pytest.mark.parametrize(
    "policy", ["linear", "linear-4.4", "two-level"] if THOROUGH else ["linear-4.4"]
)
def test_leaves_past_the_end_of_a_p2m_are_a_bug(policy: str) -> None:
    """What arrives after boot may lie past a table's area, or past the arrays of two levels."""
    size = {"memory_bytes": "1200MiB", "host_memory_bytes": "4GiB", "max_domain_pages": 1 << 18}
    row = run_scenario(cell(policy, "extents", **size))[-1]
    detail = "!ptep || level != PG_LEVEL_4K" if policy == "linear" else "mfn != INVALID_P2M_ENTRY"
    assert (row["migration"], row["outcome"], row["detail"]) == (0, "bug", detail)


def test_eras_take_the_pages_that_they_take() -> None:
    """Beside `tracked`: four more pages of brk from 2.6.38 on, then each placeholder."""
    used = {}
    for policy in ("tracked", *filter(takes_brk, EVERY)):
        trace = cell(policy, "tail", 8).to_trace()
        used[policy] = replay(trace)[0]
    base = used["tracked"]["brk_pages_used"]
    taken = {name: used[name]["brk_pages_used"] - base for name in EVERY if takes_brk(name)}
    # Of a late list none is from brk: three pages and one for the one mid.
    assert taken == {"tail": 4, "identity": 5, "moved": 5, "mid-identity": 7, "late-list": 2}
    leaves = -(-cell("moved", "tail", 8).to_trace().guest.nr_pages // 512)
    assert used["moved"]["bootmem_pages_used"] == leaves
    assert used["late-list"]["bootmem_pages_used"] == leaves + 4


@pytest.mark.parametrize("policy", TWO_LEVELS)
def test_a_kernel_of_two_levels_ends_where_its_arrays_do(policy: str) -> None:
    """More memory than they hold is reported all the same: the first save finds zeros (P1)."""
    for size, detail in (("1GiB", None), ("1028MiB", "bad-mfn-in-fll 1")):
        small = {"memory_bytes": size, "host_memory_bytes": "8GiB", "migrations": 1}
        rows = run_scenario(cell(policy, "tail", 8, sparsity=0, max_domain_pages=1 << 18, **small))
        assert rows[1]["detail"] == detail
    with pytest.raises(InputError, match="max_domain_pages: 8192 is not a multiple of 262144"):
        cell(policy, "tail", 8, max_domain_pages=8192)


def test_an_era_does_not_take_a_files_place() -> None:
    path = "data/traces/dense-64-0.json.gz"
    with pytest.raises(InputError, match="policy: moved places its pages otherwise"):
        Guest.from_file(path, policy="moved")
