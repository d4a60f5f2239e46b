"""Cells: the same rows with some leaves resident, with all, and as the replayed trace."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.sizes import GIB, MIB
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.stage import check_scenario, estimate_memory_bytes
from p2mbatch.guests.stepped import row_of
from p2mbatch.guests.written_out import scenario_trace
from p2mbatch.model.replay import new_life, run_event
from p2mbatch.model.trace import goes_on
from p2mbatch.model.trace_file import parse_trace, trace_to_json

MEASURED = ("rebuild_ns", "save_walk_ns", "restore_ns", "resident_leaves")


def exact(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in MEASURED} for row in rows]


def trace_rows(scenario: Scenario) -> list[dict[str, Any]]:
    """Return the rows of the scenario's trace, written out as JSON and replayed on its runs."""
    value = json.loads(json.dumps(trace_to_json(scenario_trace(scenario))))
    trace = parse_trace(value)
    life, placement = new_life(trace), check_scenario(scenario)
    rows: list[dict[str, Any]] = []
    for event in trace.events:
        result = run_event(life, trace, event)
        written = life.scalar("entries_written")
        if event["op"] == "fail_alloc":
            continue
        if event["op"] == "set":
            # The layout's own events belong to the boot.
            result.stray_writes += rows[0]["stray_writes"]
            result.stray_pages += rows[0]["stray_pages"]
            rows[0] = row_of(life, placement, 0, result, rows[0]["entries_written"])
        else:
            rows.append(row_of(life, placement, len(rows), result, written))
        if not goes_on(event, result.outcome):
            break
    return rows


@st.composite
def scenarios(draw: st.DrawFn, largest_mib: int = 24) -> Scenario:
    pages = draw(st.integers(2 * MIB // PAGE_BYTES, largest_mib * MIB // PAGE_BYTES))
    memory = pages * PAGE_BYTES
    # A host that the guest almost fills gives it its own old frames again.
    sizes = st.sampled_from([memory + 4 * MIB, 2 * memory + 4 * MIB, 64 * MIB])
    ranges = st.builds("{0}..{1}".format, st.just(memory + 4 * MIB), st.just(3 * memory + 9 * MIB))
    hosts = draw(st.none() | st.lists(sizes | ranges, min_size=1, max_size=3))
    size = {"hosts": hosts} if hosts else {"host_memory_bytes": draw(sizes)}
    return Scenario.make(
        memory_bytes=memory,
        sparsity=draw(st.sampled_from([0.0, 0.1, 0.5, 0.9]) | st.floats(0, 0.95)),
        layout=draw(st.sampled_from(["tail", "scattered", "extents"])),
        migrations=draw(st.integers(0, 4)),
        policy=draw(st.sampled_from(["tracked", "stale", "stale", "none"])),
        neighbours=draw(st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1)),
        word_bytes=draw(st.sampled_from([8, 4])),
        build_order=draw(st.sampled_from([0, 3, 9])),
        restore_order=draw(st.sampled_from([0, 3, 9])),
        **size,
        xen=draw(st.sampled_from(["", "", "4.0", "4.1.2", "4.2"])),
        stuck=draw(st.sampled_from(["end", "stay"])),
        neighbour_memory_bytes=draw(st.sampled_from([50 * PAGE_BYTES, memory, 4 * memory])),
        seed=draw(st.integers(0, 1 << 20)),
    )


@settings(deadline=None, max_examples=60)
@given(scenarios())
def test_rows_do_not_depend_on_what_is_resident(scenario: Scenario) -> None:
    try:
        rows = run_scenario(scenario)
    except InputError:
        return
    assert exact(rows) == exact(run_scenario(scenario, "all"))
    assert exact(rows) == exact(trace_rows(scenario))


LANE = [
    {"layout": layout, "policy": policy, "word_bytes": w}
    for layout in ("tail", "scattered", "extents")
    for policy, w in (("tracked", 8), ("stale", 8), ("stale", 4))
]


@pytest.mark.lane
@pytest.mark.parametrize("fields", LANE)
def test_representative_cells_are_their_traces(fields: dict[str, Any]) -> None:
    scenario = Scenario.make(
        memory_bytes=6 * MIB,
        sparsity=0.4,
        migrations=2,
        neighbours=0.7,
        host_memory_bytes=16 * MIB,
        seed=3,
        **fields,
    )
    rows = run_scenario(scenario)
    assert len(rows) >= 2
    assert exact(rows) == exact(trace_rows(scenario))


@pytest.mark.parametrize("layout", ["tail", "scattered", "extents"])
@pytest.mark.parametrize("word_bytes", [8, 4])
def test_several_mids_and_any_residency(layout: str, word_bytes: int) -> None:
    memory = 5 * GIB if word_bytes == 4 else 3 * GIB
    for policy in ("tracked", "stale"):
        scenario = Scenario.make(
            memory_bytes=memory,
            sparsity=0.3,
            layout=layout,
            policy=policy,
            migrations=3,
            word_bytes=word_bytes,
            seed=11,
        )
        assert exact(run_scenario(scenario)) == exact(run_scenario(scenario, "all"))


def test_written_out_hosts_hold_what_the_scenario_says() -> None:
    scenario = Scenario.make(
        memory_bytes=16 * MIB,
        sparsity=0.25,
        layout="scattered",
        neighbours=0.5,
        host_memory_bytes=64 * MIB,
        neighbour_memory_bytes=8 * MIB,
        migrations=1,
    )
    trace = scenario_trace(scenario)
    placement = check_scenario(scenario)
    host = trace.hosts[1]
    populated = 4096 - 1024
    assert host.domain[:, 2].sum() == populated
    others = host.frames - populated
    assert host.foreign[:, 2].sum() == round(0.5 * others)
    # Neighbours' PFNs count from 0 within each domain.
    pfns = np.concatenate([np.arange(p, p + c) for _, p, c in host.foreign.tolist()])
    assert pfns.max() < 2048
    assert np.bincount(pfns).max() == -(-len(pfns) // 2048)
    holes = trace.events[1]["runs"]
    assert holes[:, 2].sum() == 1024
    first, end = placement.brk_pfn, placement.brk_pfn + placement.struct_pages
    assert not any(first <= pfn < end for pfn in holes[:, 0].tolist())


def test_restore_order_keeps_extents_together() -> None:
    scenario = Scenario.make(
        memory_bytes=16 * MIB, migrations=1, restore_order=9, host_memory_bytes=64 * MIB
    )
    trace = scenario_trace(scenario)
    assert (trace.hosts[1].domain[:, 2] % 512 == 0).all()
    assert (trace.hosts[1].domain[:, 1] % 512 == 0).all()


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"memory_bytes": 512 * GIB, "host_memory_bytes": 256 * GIB}, "host_memory_bytes"),
        ({"memory_bytes": PAGE_BYTES * 9}, "memory_bytes"),
        ({"memory_bytes": 2048 * GIB, "word_bytes": 4}, "direct map"),
        ({"memory_bytes": MIB, "sparsity": 0.99, "layout": "scattered"}, "sparsity"),
        ({"memory_bytes": GIB, "host_memory_bytes": 17 << 40}, "16TiB"),
    ],
)
def test_what_does_not_fit_is_refused_with_numbers(fields: dict[str, Any], names: str) -> None:
    with pytest.raises(InputError, match=names) as caught:
        run_scenario(Scenario.make(**fields))
    assert any(c.isdigit() for c in str(caught.value))


def test_tracked_guest_of_512_gib_survives_and_stays_small() -> None:
    scenario = Scenario.make(memory_bytes=512 * GIB, migrations=2)
    rows = run_scenario(scenario)
    assert [row["outcome"] for row in rows] == ["ok"] * 3
    assert rows[-1]["leaves"] == 262144
    assert rows[-1]["stale_mid_entries"] == 0
    assert rows[-1]["resident_leaves"] < 600
    assert estimate_memory_bytes(scenario) < 40 * MIB
    assert estimate_memory_bytes(scenario, "all") > 512 * 2 * MIB
