"""One cell of a sweep: a scenario lived through, its rows, its trace, and what it will cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from p2mbatch import tables as tb
from p2mbatch.errors import InputError
from p2mbatch.geometry import PAGE_BYTES
from p2mbatch.guestfile import guest_of
from p2mbatch.hosts import function_host
from p2mbatch.kernels import write_out_host
from p2mbatch.life import EventResult, Life
from p2mbatch.placement import Placement, place
from p2mbatch.placement_guest import GuestPlacement, place_guest
from p2mbatch.trace import GuestLayout, HostRuns, Trace

if TYPE_CHECKING:
    from p2mbatch.scenario import Scenario

RESIDENT = ("auto", "all")
"""Which leaves are memory: those that hold structure pages, or all (model section 10)."""

MAX_WRITTEN_FRAMES = 1 << 26
"""Frames of the largest host that `scenario_trace` writes out: 256 GiB."""


def check_scenario(scenario: Scenario) -> Placement:
    """Return where the guest's pages go, or raise `InputError` with the numbers that do not fit."""
    placement = _place(scenario)
    frames = scenario.host_memory_bytes // PAGE_BYTES
    kept = placement.span if scenario.guest else placement.population.guest_frames
    for order in (scenario.build_order, scenario.restore_order):
        placement.check_host(frames, order, guest_frames=kept)
    return placement


def estimate_memory_bytes(scenario: Scenario, resident: str = "auto") -> int:
    """Return the bytes that running the scenario touches at its peak, for admission."""
    return _place(scenario).table_bytes(resident=resident == "all") + (1 << 18)


def _place(scenario: Scenario) -> Placement:
    if scenario.guest:
        return place_guest(guest_of(scenario.guest), scenario.policy)
    return place(
        memory_bytes=scenario.memory_bytes,
        sparsity=scenario.sparsity,
        layout=scenario.layout,
        policy=scenario.policy,
        word_bytes=scenario.word_bytes,
        seed=scenario.seed,
    )


def _host(scenario: Scenario, placement: Placement, index: int) -> tb.HostTables:
    """Return the `index`-th host of the guest's life: 0 is where it boots."""
    return function_host(
        placement.population,
        frames=scenario.host_memory_bytes // PAGE_BYTES,
        order=scenario.restore_order if index else scenario.build_order,
        neighbours=scenario.neighbours,
        neighbour_pages=scenario.neighbour_memory_bytes // PAGE_BYTES,
        key=(scenario.seed, "host", index),
        first=index == 0,
        names_all=bool(scenario.guest),
    )


def run_scenario(scenario: Scenario, resident: str = "auto") -> list[dict[str, Any]]:
    """Live the scenario through and return one row for the boot and each migration that ran.

    The rows' exact columns do not depend on `resident` (docs/data-dictionary.md names them all).
    The life ends at the first outcome that is not `ok`, whose row is the last. Raises `InputError`
    where the guest can't be placed.
    """
    placement = check_scenario(scenario)
    everything = resident == "all" or bool(scenario.guest)
    life = placement.new_life(_host(scenario, placement, 0), resident=everything)
    result = life.boot() if everything else life.boot(*placement.struct_leaves())
    written = life.scalar(tb.S_ENTRIES_WRITTEN)
    if result.outcome == "ok" and placement.num_grown:
        grown = life.grow_leaves(placement.grown_leaves(), lazy=not everything)
        grown.rebuild_ns = result.rebuild_ns
        result = grown
    if isinstance(placement, GuestPlacement):
        result = placement.live_until_migration(life, result)
    rows = [row_of(life, placement, 0, result, written)]
    for migration in range(1, scenario.migrations + 1):
        if result.outcome != "ok":
            break
        result = life.migrate(_host(scenario, placement, migration))
        written = life.scalar(tb.S_ENTRIES_WRITTEN)
        rows.append(row_of(life, placement, migration, result, written))
    return rows


def row_of(
    life: Life, placement: Placement, migration: int, result: EventResult, entries_written: int
) -> dict[str, Any]:
    """Return one row: what happened, what it costs, what was measured."""
    stale_top, stale_mid = life.count_stale()
    state = life.tables.state.tolist()
    leaves = placement.num_boot_leaves + state[tb.S_NUM_GROWN]
    pages = placement.num_boot_leaves + state[tb.S_BRK_USED] + state[tb.S_POOL_USED]
    num_resident = np.count_nonzero(life.tables.slots[: state[tb.S_NUM_SLOTS], tb.P_LEAF] >= 0)
    return {
        "migration": migration,
        "outcome": result.outcome,
        "detail": result.detail,
        "stray_writes": result.stray_writes,
        "stray_pages": result.stray_pages,
        "stale_top_entries": stale_top,
        "stale_mid_entries": stale_mid,
        "leaves": leaves,
        "mids": state[tb.S_NUM_MIDS],
        "mid_mfn_pages": state[tb.S_NUM_MID_MFNS],
        "structure_bytes": pages * PAGE_BYTES,
        "structure_overhead": pages / placement.populated_pages,
        "entries_written": entries_written,
        "resident_leaves": int(num_resident),
        "rebuild_ns": result.rebuild_ns,
        "save_walk_ns": result.save_walk_ns,
        "restore_ns": result.restore_ns,
    }


# --- the same scenario as a trace --------------------------------------------------------------


def scenario_trace(scenario: Scenario) -> Trace:
    """Return the scenario written out: replaying the trace is living the scenario.

    The boot's row is the state after the events before the first migration. Raises `InputError`
    where a host is too large to write out.
    """
    placement = check_scenario(scenario)
    frames = scenario.host_memory_bytes // PAGE_BYTES
    if frames > MAX_WRITTEN_FRAMES:
        raise InputError(
            f"host_memory_bytes: a host of {frames} frames is too large to write out: "
            f"{MAX_WRITTEN_FRAMES} is the limit"
        )
    hosts, events = [], [{"op": "boot", "host": 0}]
    for index in range(scenario.migrations + 1):
        mfns = np.empty(placement.span, np.int64)
        others = np.empty(frames, np.int64)
        write_out_host(_host(scenario, placement, index).par, mfns, others)
        if index == 0:
            events += (
                placement.events(_host(scenario, placement, 0))
                if isinstance(placement, GuestPlacement)
                else _layout_events(placement, mfns)
            )
            _boot_frames(scenario, placement, mfns, others)
        else:
            events.append({"op": "migrate", "host": index})
        pfns = np.flatnonzero(mfns >= 0)
        owned = np.flatnonzero(others >= 0)
        hosts.append(HostRuns(frames, _runs(pfns, mfns[pfns]), _runs(owned, others[owned])))
    guest = GuestLayout(
        word_bytes=placement.geo.word_bytes,
        nr_pages=placement.nr_pages,
        max_p2m_pfn=placement.span,
        mfn_list_pfn=placement.mfn_list_pfn,
        brk_pfn=placement.brk_pfn,
        brk_pages=placement.brk_pages,
        page_pool=placement.page_pool,
        directmap_pages=placement.directmap_pages,
    )
    return Trace(f"cell-{scenario.cell_id}", scenario.policy, guest, hosts, events)


def _boot_frames(
    scenario: Scenario, placement: Placement, mfns: tb.Int64Array, others: tb.Int64Array
) -> None:
    """Make `mfns` what the guest boots with: the scattered layout's holes are still populated."""
    if placement.layout == tb.SCATTERED:
        whole = place(
            memory_bytes=scenario.memory_bytes,
            sparsity=0.0,
            layout="tail",
            policy=scenario.policy,
            word_bytes=scenario.word_bytes,
            seed=scenario.seed,
        )
        write_out_host(_host(scenario, whole, 0).par, mfns, np.empty_like(others))
    mfns[placement.nr_pages :] = -1


def _layout_events(placement: Placement, mfns: tb.Int64Array) -> list[dict[str, Any]]:
    """Return the set events that bring the layout about, from the frames on the first host."""
    if placement.layout == tb.SCATTERED and placement.num_holes:
        pfns = np.flatnonzero(mfns < 0)
        runs = _runs(pfns, pfns)
        runs[:, 1] = -1
        return [{"op": "set", "runs": runs}]
    if placement.num_grown:
        n = placement.geo.entries
        pfns = (placement.grown_leaves()[:, None] * n + np.arange(n)).ravel()
        return [{"op": "set", "runs": _runs(pfns, mfns[pfns])}]
    return []


def _runs(a: tb.Int64Array, b: tb.Int64Array) -> tb.Int64Array:
    """Return int64[k, 3] of [a, b, count]: the pairs, in order, as runs that count up together."""
    if not len(a):
        return np.zeros((0, 3), np.int64)
    starts = np.flatnonzero(np.concatenate(([True], (np.diff(a) != 1) | (np.diff(b) != 1))))
    counts = np.diff(np.append(starts, len(a)))
    return np.stack([a[starts], b[starts], counts], axis=1).astype(np.int64)
