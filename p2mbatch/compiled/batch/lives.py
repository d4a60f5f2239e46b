"""The lives of a batch's cells, one after the other: no Python for a cell, no lock held.

What a cell's life is, event by event, is `stage` and `life`: the same kernels in the
same order. They are handed over as functions of one type each, so that this is compiled once for
all policies and each of them by itself: a call so costs some 20 ns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.batch.cells import Cell, Control, Row
from p2mbatch.compiled.batch.clock import now_ns
from p2mbatch.compiled.batch.hosts import set_host, set_population
from p2mbatch.compiled.batch.room import Room, clear, new_tables
from p2mbatch.compiled.bijection import forward
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel, never_inline
from p2mbatch.compiled.records import HostParameters, OneRecord
from p2mbatch.compiled.status import (
    MISDIRECTED,
    MORE_ROOM,
    NO_MEMORY,
    OK,
    RESTORE_POPULATE,
    SAVE_MAX_PFN,
    STOPPED,
)
from p2mbatch.compiled.tables import P_LEAF, HostTables, P2MTables


class Calls(NamedTuple):
    """The kernels that a life calls."""

    load_mfn_list: Callable[..., None]
    boot: Callable[..., int]
    grow_leaves: Callable[..., int]
    save_walk: Callable[..., int]
    odd_leaves: Callable[..., int]
    move: Callable[..., int]
    rebuild: Callable[..., int]
    report: Callable[..., int]
    compare_leaves: Callable[..., None]
    count_stale: Callable[..., None]


@kernel
def live_cells(
    cells: Int64Array,
    sizes: Int64Array,
    resident: bool,
    room: Room,
    calls: Calls,
    rows: Int64Array,
    ends: Int64Array,
    took_ns: Int64Array,
    statics: Int64Array,
    control: OneRecord[Control],
) -> int:
    """Live through `cells` (CELL records) from `cell` of `control` on; return OK, or why not all.

    `sizes` (int64[k, 2]) are the hosts' least and largest bytes. `rows` (ROW records) has room for
    all rows that there can be; `ends` (int64[cells]) gets where each cell's rows end, `took_ns`
    (int64[cells]) how long it took, and `statics` (int64[cells, k], k 0 where nobody asks) the
    static variables of its policy. With `resident` every leaf is memory. MORE_ROOM: the cell
    `cell` of `control` is to be lived anew in a larger `room`; STOPPED: its `stop` was set.
    """
    while control[0].cell < len(cells):
        if control[0].stop != 0:
            return STOPPED
        k = control[0].cell
        start = now_ns()
        clear(room)
        status = _live(cells[k], sizes, resident, room, calls, rows, control)
        if status in (MORE_ROOM, STOPPED):
            return status
        for i in range(statics.shape[1]):
            statics[k, i] = room.statics[i]
        ends[k] = control[0].rows
        took_ns[k] = now_ns() - start
        control[0].cell = k + 1
    return OK


@inner_kernel
def _live(
    cell: Cell,
    sizes: Int64Array,
    resident: bool,
    room: Room,
    calls: Calls,
    rows: Int64Array,
    control: OneRecord[Control],
) -> int:
    """Live through one cell in a cleared room; `rows` of `control` moves on once it is done.

    Returns OK, MORE_ROOM or STOPPED.
    """
    t = new_tables(cell, room)
    shift = t.state[0].entries_shift
    set_population(cell, shift, room.first_par[0], room.message, room.digest)
    room.second_par[0] = room.first_par[0]
    set_host(cell, sizes, 0, room.first_par[0], room.message, room.digest)
    here = _host(room.first_par, cell, room)
    away = _host(room.second_par, cell, room)
    at = control[0].rows
    row = rows[at]
    status = _boot(t, here, cell, resident, room, calls, row)
    migration = 0
    while status != MORE_ROOM:
        _finish_row(t, here, cell, room, calls, row, status, migration)
        at += 1
        if migration == cell.migrations or not _goes_on(status, cell):
            control[0].rows = at
            return OK
        if control[0].stop != 0:
            return STOPPED
        migration += 1
        set_host(cell, sizes, migration, away.par[0], room.message, room.digest)
        row = rows[at]
        status = _migrate(t, here, away, room, calls, row)
        if _was_moved(status):
            here, away = away, here
    return MORE_ROOM


@inner_kernel
def _host(par: OneRecord[HostParameters], cell: Cell, room: Room) -> HostTables:
    """Return the tables of a host whose parameters are in `par`."""
    freed = cell.span if cell.keeps_freed != 0 else as_int(0)
    return HostTables(par, room.m2p, room.freed[:freed], room.domain)


@inner_kernel
def _goes_on(status: int, cell: Cell) -> bool:
    """Return whether a guest lives on: it came through, or was refused and stays where it was."""
    if status in (OK, NO_MEMORY):
        return True
    refused = SAVE_MAX_PFN <= status < MISDIRECTED or status == RESTORE_POPULATE
    return refused and cell.stays != 0


@inner_kernel
def _was_moved(status: int) -> bool:
    """Return whether a migration came as far as the restore, whatever the resume then met."""
    return not SAVE_MAX_PFN <= status <= RESTORE_POPULATE


@inner_kernel
def _begin_event(t: P2MTables) -> None:
    """Start counting what a new event writes."""
    state = t.state[0]
    state.event += 1
    state.stray_writes = 0
    state.stray_pages = 0
    state.entries_written = 0


@inner_kernel
def _boot(
    t: P2MTables,
    h: HostTables,
    cell: Cell,
    resident: bool,
    room: Room,
    calls: Calls,
    row: Row,
) -> int:
    """Boot and bring the layout about: `StagedGuest.boot`."""
    never_inline()
    n = t.words.shape[1]
    first = as_int(0)
    end = as_int(1 << 62)
    if not resident:
        struct = h.par[0].struct_pages
        first = cell.brk_pfn // n
        end = (cell.brk_pfn + struct - 1) // n + 1
    _begin_event(t)
    calls.load_mfn_list(t, h, first, end)
    start = now_ns()
    status = calls.boot(t, h, room.marked)
    row.rebuild_ns = now_ns() - start
    row.save_walk_ns = 0
    row.restore_ns = 0
    row.lost_pages = 0
    row.ghost_pages = 0
    row.entries_written = t.state[0].entries_written
    if status != OK or cell.num_grown == 0:
        return status
    for k in range(cell.num_grown):
        room.grown[k] = forward(h.par[0].holes_perm, k) + cell.nr_pages // n
    _begin_event(t)
    return calls.grow_leaves(t, h, room.grown[: cell.num_grown], not resident, as_int(0))


@inner_kernel
def _migrate(
    t: P2MTables, here: HostTables, away: HostTables, room: Room, calls: Calls, row: Row
) -> int:
    """Save, restore on `away`, resume: `Life.migrate`."""
    never_inline()
    state = t.state[0]
    _begin_event(t)
    row.rebuild_ns = 0
    row.restore_ns = 0
    row.lost_pages = 0
    row.ghost_pages = 0
    start = now_ns()
    status = calls.save_walk(t, here, room.work)
    saved = now_ns()
    row.save_walk_ns = saved - start
    row.entries_written = 0
    if status != OK:
        return status
    leaves = room.odd[: len(t.leaf_slot)]
    num_slots = state.num_slots
    odd = calls.odd_leaves(t, here, leaves, room.bits)
    start = now_ns()
    status = calls.move(t, here, away, room.work, as_int(0))
    if status != OK:
        row.save_walk_ns = 0
        return status
    resumed = now_ns()
    row.restore_ns = resumed - start
    status = calls.rebuild(t, away, as_int(0))
    row.rebuild_ns = now_ns() - resumed
    row.entries_written = state.entries_written
    if status == OK:
        status = calls.report(t, away)
    hit = state.stray_writes != 0 or state.wild != 0 or state.num_slots != num_slots
    if status == OK and (odd > 0 or hit):
        marks = room.marks[: len(t.leaf_slot) if hit else 0]
        marks[:] = 0
        room.counts[:] = 0
        calls.compare_leaves(
            t, away, leaves, room.bits, odd, num_slots, marks, room.row, room.counts
        )
        row.lost_pages = room.counts[0]
        row.ghost_pages = room.counts[2]
    return status


@inner_kernel
def _finish_row(
    t: P2MTables,
    h: HostTables,
    cell: Cell,
    room: Room,
    calls: Calls,
    row: Row,
    status: int,
    migration: int,
) -> None:
    """Write to `row` what an event came to and what the guest is now: `stepped.row_of`."""
    never_inline()
    state = t.state[0]
    row.migration = migration
    row.status = status
    row.detail = state.detail
    row.stray_writes = state.stray_writes
    row.stray_pages = state.stray_pages
    calls.count_stale(t, h, room.counts, room.work)
    row.stale_top_entries = room.counts[0]
    row.stale_mid_entries = room.counts[1]
    row.leaves = cell.num_boot_leaves + state.num_grown
    row.mids = state.num_mids
    row.mid_mfn_pages = state.num_mid_mfns
    pages = state.brk_used + state.bootmem_used + state.pool_used
    row.structure_pages = pages if cell.frees_list != 0 else pages + cell.num_boot_leaves
    resident = 0
    for slot in range(state.num_slots):
        resident += t.slots[slot, P_LEAF] >= 0
    row.resident_leaves = resident
