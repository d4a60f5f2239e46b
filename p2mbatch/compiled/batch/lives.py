"""The lives of a batch's cells, one after the other: no Python for a cell, no lock held.

What a cell's life is, event by event, is `stage` and `life`: the same kernels in the
same order. They are handed over as functions of one type each, so that this is compiled once for
all policies and each of them by itself: a call so costs some 20 ns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from p2mbatch.base.arrays import UInt8Array
from p2mbatch.compiled.batch.cells import Batch, Cell, Row
from p2mbatch.compiled.batch.clock import now_ns
from p2mbatch.compiled.batch.hosts import set_host, set_population
from p2mbatch.compiled.batch.room import (
    FOUND_SHORT,
    MOVED,
    NOTED,
    SHORT,
    WRITTEN,
    Room,
    clear,
    new_tables,
    put_marks,
)
from p2mbatch.compiled.bijection import forward
from p2mbatch.compiled.jit import Inner, as_int, inline_kernel, inner_kernel, kernel, never_inline
from p2mbatch.compiled.looks import Walk
from p2mbatch.compiled.records import HostParameters, OneRecord
from p2mbatch.compiled.status import (
    BUG_PTEP,
    BUG_SET,
    MISDIRECTED,
    MORE_ROOM,
    NO_MEMORY,
    NOT_PLAIN,
    OK,
    RESTORE_POPULATE,
    SAVE_ABORTED,
    SAVE_MAX_PFN,
    STOPPED,
)
from p2mbatch.compiled.tables import P_LEAF, SHARED_OWN, HostTables, P2MTables


class Calls(NamedTuple):
    """The kernels that a life calls."""

    load_mfn_list: Callable[..., None]
    boot: Callable[..., int]
    grow_leaves: Callable[..., int]
    save_walk: Callable[..., int]
    odd_leaves: Callable[..., int]
    find: Callable[..., int]
    look_again: Callable[..., int]
    """A save step by step, where `save_walk` says NOT_PLAIN (`table_walk`)."""
    move: Callable[..., int]
    rebuild: Callable[..., int]
    report: Callable[..., int]
    compare_leaves: Callable[..., None]
    count_stale: Callable[..., None]
    count_identity: Callable[..., int]
    more: Any
    """`more.MoreCalls` for guests that get more pages, else ()."""


@kernel
def live_cells(batch: Batch, resident: bool, room: Room, calls: Calls) -> int:
    """Do `live_each` for guests that get no page once they have booted."""
    return live_each(batch, resident, room, calls, _migrate)


@inline_kernel
def live_each(batch: Batch, resident: bool, room: Room, calls: Calls, migrate: Inner) -> int:
    """Live through a batch's cells from `cell` of its control on; return OK, or why not all.

    With `resident` every leaf is memory. MORE_ROOM: the cell `cell` is to be lived anew in a `room`
    that is larger in what its `now` says at SHORT; STOPPED: the control's `stop` was set. `migrate`
    takes a guest to its next host: `_migrate`, or as it.
    """
    control = batch.control
    while control[0].cell < len(batch.cells):
        if control[0].stop != 0:
            return STOPPED
        k = control[0].cell
        start = now_ns()
        clear(room)
        status = _live(batch.cells[k], batch, resident, room, calls, migrate)
        if status in (MORE_ROOM, STOPPED):
            return status
        for i in range(batch.statics.shape[1]):
            batch.statics[k, i] = room.statics[i]
        batch.ends[k] = control[0].rows
        batch.took_ns[k] = now_ns() - start
        control[0].cell = k + 1
    return OK


@inline_kernel
def _live(
    cell: Cell, batch: Batch, resident: bool, room: Room, calls: Calls, migrate: Inner
) -> int:
    """Live through one cell in a cleared room; `rows` of the control moves on once it is done.

    Returns OK, MORE_ROOM or STOPPED.
    """
    rows, control = batch.rows, batch.control
    t = new_tables(cell, room)
    shift = t.state[0].entries_shift
    set_population(cell, shift, room.first_par[0], room.message, room.digest)
    room.second_par[0] = room.first_par[0]
    set_host(cell, batch.sizes, 0, room.first_par[0], room.message, room.digest)
    here = _host(room.first_par, room.first_owned, cell, room)
    away = _host(room.second_par, room.second_owned, cell, room)
    room.now[NOTED] = _most_noted(cell)
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
        set_host(cell, batch.sizes, migration, away.par[0], room.message, room.digest)
        away.owned[: room.now[NOTED]] = 0
        row = rows[at]
        room.now[MOVED] = 0
        status = migrate(t, here, away, cell, room, calls, row)
        if room.now[MOVED] != 0:
            here, away = away, here
    return MORE_ROOM


@inner_kernel
def _host(par: OneRecord[HostParameters], owned: UInt8Array, cell: Cell, room: Room) -> HostTables:
    """Return the tables of a host whose parameters are in `par`."""
    noted = max(cell.span, cell.reach) if cell.notes_owned != 0 else as_int(0)
    return HostTables(par, room.m2p, owned[:noted], room.domain)


@inner_kernel
def _most_noted(cell: Cell) -> int:
    """Return how many PFNs may be noted in the hosts' `owned`, from 0 on; others only read it."""
    if cell.notes_owned == 0:
        return as_int(0)
    notes = cell.marks_hole != 0 or cell.names_all != 0 or cell.live != 0 or cell.may_share != 0
    return max(cell.span, cell.reach) if notes else as_int(0)


@inner_kernel
def _goes_on(status: int, cell: Cell) -> bool:
    """Return whether a guest lives on: it came through, or was refused and stays where it was."""
    if status in (OK, NO_MEMORY):
        return True
    refused = SAVE_MAX_PFN <= status < MISDIRECTED or RESTORE_POPULATE <= status <= SAVE_ABORTED
    return refused and cell.stays != 0


@inner_kernel
def begin_event(t: P2MTables) -> None:
    """Start counting what a new event writes."""
    state = t.state[0]
    state.event += 1
    state.stray_writes = 0
    state.stray_pages = 0
    state.entries_written = 0
    state.placeholder_writes = 0


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
    begin_event(t)
    calls.load_mfn_list(t, h, first, end)
    start = now_ns()
    status = calls.boot(t, h, room.marked[: put_marks(cell, room.marked)])
    row.rebuild_ns = now_ns() - start
    row.save_walk_ns = 0
    row.restore_ns = 0
    nothing_lost(row)
    row.entries_written = t.state[0].entries_written
    if status != OK or cell.num_grown == 0:
        return status
    return _grow_layout(t, h, cell, resident, room, calls)


@inner_kernel
def _grow_layout(
    t: P2MTables, h: HostTables, cell: Cell, resident: bool, room: Room, calls: Calls
) -> int:
    """Populate the layout's leaves; the first past the p2m's end is a BUG."""
    state = t.state[0]
    shift = state.entries_shift
    fit = as_int(0)
    for k in range(cell.num_grown):
        room.grown[k] = forward(h.par[0].holes_perm, k) + (cell.nr_pages >> shift)
        if fit == k and room.grown[k] < state.max_p2m >> shift:
            fit += 1
    begin_event(t)
    status = calls.grow_leaves(t, h, room.grown[:fit], not resident, as_int(0))
    if fit == cell.num_grown or status not in (OK, NO_MEMORY):
        return status
    return as_int(BUG_PTEP if state.hint_rounds != 0 else BUG_SET)


@inner_kernel
def nothing_lost(row: Row) -> None:
    """Write that an event has lost nothing."""
    row.lost_pages = 0
    row.ghost_pages = 0
    row.lost_identity_pages = 0
    row.placeholder_writes = 0


@inner_kernel
def _migrate(
    t: P2MTables, here: HostTables, away: HostTables, cell: Cell, room: Room, calls: Calls, row: Row
) -> int:
    """Save, restore on `away`, resume: `Life.migrate`."""
    never_inline()
    begin_event(t)
    row.rebuild_ns = 0
    row.restore_ns = 0
    nothing_lost(row)
    status = save(t, here, room, calls, row)
    if status == OK:
        status = arrive(t, here, away, cell, room, calls, row)
    row.entries_written = t.state[0].entries_written
    return status


@inner_kernel
def save(t: P2MTables, h: HostTables, room: Room, calls: Calls, row: Row) -> int:
    """Walk the list or the table, as the toolstack does of a paused guest: `Life._walked`."""
    never_inline()
    start = now_ns()
    status = calls.save_walk(t, h, room.work)
    if status == NOT_PLAIN:
        walk = Walk(room.work, room.mfns, room.found, room.pages, room.levels)
        found = find(t, h, walk, room, calls)
        status = -found if found < 0 else calls.look_again(t, h, walk, found)
    row.save_walk_ns = now_ns() - start
    return status


@inner_kernel
def find(t: P2MTables, h: HostTables, walk: Walk, room: Room, calls: Calls) -> int:
    """Find the leaves, step by step: how many, or minus a SAVE_ code, or minus MORE_ROOM."""
    found = calls.find(t, h, walk)
    if found == -MORE_ROOM:
        room.now[SHORT] = FOUND_SHORT
    return found


@inner_kernel
def arrive(
    t: P2MTables, here: HostTables, away: HostTables, cell: Cell, room: Room, calls: Calls, row: Row
) -> int:
    """Restore a guest that was saved on `away`, and resume it: `Life._moved`."""
    never_inline()
    state = t.state[0]
    leaves = room.odd[: len(t.leaf_slot)]
    num_slots = state.num_slots
    odd = calls.odd_leaves(t, here, leaves, room.bits)
    identity = as_int(0)
    if cell.has_identity != 0:
        identity = calls.count_identity(t, state.max_p2m_pfn)
    start = now_ns()
    # The toolstack writes the start info's flags as 0.
    no_list = state.no_list
    state.no_list = 0
    status = calls.move(t, here, away, room.work, as_int(0))
    if status != OK:
        state.no_list = no_list
        row.save_walk_ns = 0
        return status
    room.now[MOVED] = 1
    resumed = now_ns()
    row.restore_ns = resumed - start
    status = calls.rebuild(t, away, as_int(0))
    row.rebuild_ns = now_ns() - resumed
    if status == OK:
        status = calls.report(t, away)
    hit = state.stray_writes != 0 or state.wild != 0 or state.num_slots != num_slots
    if status == OK and (odd > 0 or hit):
        marks = room.marks[: state.num_leaves if hit else 0]
        marks[:] = 0
        room.counts[:] = 0
        calls.compare_leaves(
            t, away, leaves, room.bits, odd, num_slots, marks, room.row, room.counts
        )
        row.lost_pages = room.counts[0]
        row.ghost_pages = room.counts[2]
    if status == OK and cell.has_identity != 0:
        row.lost_identity_pages = identity - calls.count_identity(t, state.max_p2m_pfn)
    if status == OK and cell.may_share != 0:
        # What m2p names for PFNs that read as 1:1, before and after, was never populated.
        for pfn in range(len(away.owned)):
            row.ghost_pages += away.owned[pfn] & SHARED_OWN != 0
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
    room.now[WRITTEN] = row.entries_written
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
    taken = state.brk_used + state.bootmem_used + state.pool_used + state.boot_used
    row.structure_pages = taken + cell.fixed_pages
    resident = 0
    for slot in range(state.num_slots):
        resident += t.slots[slot, P_LEAF] >= 0
    row.resident_leaves = resident
