"""Lives of guests that get more pages once they have booted: before a move, or in the midst of one.

What such a life is, event by event, is `guests/stage` and `guests/churn`. It hands `lives` what it
does in place of a plain migration, and is compiled apart: most sweeps have no such guests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.batch.added import BALLOON, CHURN, FROM, added_pages, drawn
from p2mbatch.compiled.batch.cells import Batch, Cell, Row
from p2mbatch.compiled.batch.clock import now_ns
from p2mbatch.compiled.batch.lives import (
    Calls,
    arrive,
    begin_event,
    find,
    live_each,
    nothing_lost,
    save,
)
from p2mbatch.compiled.batch.room import (
    ADDED,
    KEPT,
    MOVED,
    MOVES,
    RUNS_SHORT,
    SHORT,
    WRITTEN,
    Room,
)
from p2mbatch.compiled.hosts import given_frame
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel, never_inline
from p2mbatch.compiled.looks import Walk
from p2mbatch.compiled.owners import note_presence
from p2mbatch.compiled.restore import missing_is_blank
from p2mbatch.compiled.save import reads_table
from p2mbatch.compiled.status import (
    MORE_ROOM,
    NO_MEMORY,
    OK,
    SAVE_ABORTED,
)
from p2mbatch.compiled.tables import (
    P_CLEAN,
    P_LEAF,
    HostTables,
    P2MTables,
)


class MoreCalls(NamedTuple):
    """The kernels that change single entries, and read them: `Calls.more`."""

    set_runs: Callable[..., int]
    get: Callable[..., None]


@kernel
def live_more_cells(batch: Batch, resident: bool, room: Room, calls: Calls) -> int:
    """Do `live_each` for any guests: `calls` and `room` have `more`."""
    return live_each(batch, resident, room, calls, _move)


@inner_kernel
def _move(
    t: P2MTables,
    here: HostTables,
    away: HostTables,
    cell: Cell,
    room: Room,
    calls: Calls,
    row: Row,
) -> int:
    """Give a guest what it gets before a move, then take it to `away`: `StagedGuest.migrate`."""
    never_inline()
    state = t.state[0]
    row.save_walk_ns = row.restore_ns = row.rebuild_ns = 0
    row.entries_written = room.now[WRITTEN]
    nothing_lost(row)
    if room.now[MOVES] == 0:
        room.more.out_end[0] = 0
    room.now[MOVES] += 1
    strays, stray_pages, shared = as_int(0), as_int(0), as_int(0)
    if cell.grow_pages > 0:
        begin_event(t)
        status = _grow(t, here, cell, cell.grow_pages, room, calls)
        if status not in (OK, NO_MEMORY):
            row.placeholder_writes = state.placeholder_writes
            return status
        strays, stray_pages = as_int(state.stray_writes), as_int(state.stray_pages)
        shared = as_int(state.placeholder_writes)
    begin_event(t)
    if cell.live != 0:
        status = _save_live(t, here, cell, room, calls, row)
    else:
        status = save(t, here, room, calls, row)
    if status == OK:
        status = arrive(t, here, away, cell, room, calls, row)
        if room.now[MOVED] != 0:
            # After a restore present is what got a frame, and that a function host knows.
            room.now[KEPT] = 0
    row.entries_written = state.entries_written
    row.placeholder_writes = state.placeholder_writes + shared
    # A page that growth hits is fresh from the pool: no page is counted twice.
    state.stray_writes += strays
    state.stray_pages += stray_pages
    return status


# --- sets --------------------------------------------------------------------------------------


@inner_kernel
def _grow(t: P2MTables, h: HostTables, cell: Cell, count: int, room: Room, calls: Calls) -> int:
    """Give the guest up to `count` pages more, as a set; returns as `_set`."""
    _keep_presence(t, h, room)
    return _add(t, h, cell, count, room, calls)


@inner_kernel
def _add(t: P2MTables, h: HostTables, cell: Cell, count: int, room: Room, calls: Calls) -> int:
    """Do `_grow` as a part of a set."""
    never_inline()
    number = added_pages(cell, h.par[0], room.now[ADDED], count, room.more.pfns)
    room.now[ADDED] += number
    return _give(t, h, room.more.pfns[:number], room, calls)


@inner_kernel
def _give(t: P2MTables, h: HostTables, pfns: Int64Array, room: Room, calls: Calls) -> int:
    """Give pages the frames that the host has for them, as a part of a set; returns as `_set`."""
    never_inline()
    runs = room.more.runs
    k = as_int(0)
    for at in range(len(pfns)):
        k = _put(runs, k, pfns[at], given_frame(h.par[0], pfns[at]))
        if k == len(runs):
            status = _set(t, h, k, room, calls)
            if status != OK:
                return status
            k = as_int(0)
    return _set(t, h, k, room, calls)


@inner_kernel
def _put(runs: Int64Array, k: int, pfn: int, mfn: int) -> int:
    """Put one entry behind the first `k` runs of a set, or into the last; return how many now."""
    if k > 0:
        ahead = runs[k - 1, 2]
        follows = runs[k - 1, 1] + ahead if runs[k - 1, 1] != INVALID else as_int(INVALID)
        if runs[k - 1, 0] + ahead == pfn and follows == mfn:
            runs[k - 1, 2] += 1
            return k
    runs[k, 0] = pfn
    runs[k, 1] = mfn
    runs[k, 2] = 1
    return k + 1


@inner_kernel
def _set(t: P2MTables, h: HostTables, k: int, room: Room, calls: Calls) -> int:
    """Set the first `k` runs; return OK, a BUG_ or FAULT_ code, NO_MEMORY, or MORE_ROOM."""
    if k == 0:
        return as_int(OK)
    return calls.more.set_runs(_with_presence(t, room), h, room.more.runs[:k], as_int(0))


@inner_kernel
def _with_presence(t: P2MTables, room: Room) -> P2MTables:
    """Return the tables with presence kept apart, where it is."""
    kept = t.state[0].directmap if room.now[KEPT] != 0 else as_int(0)
    return P2MTables(
        t.state,
        t.words,
        t.slots,
        t.own,
        t.block_of,
        t.block_code,
        t.leaf_slot,
        t.leaf_page,
        t.true_mid_mfn,
        t.pool,
        room.more.kept[:kept],
        t.statics,
    )


@inner_kernel
def _keep_presence(t: P2MTables, h: HostTables, room: Room) -> None:
    """Keep presence apart from a set on after which `own` does not tell it: `Life.keep_presence`.

    No entry that is set here is other than a frame of the host's.
    """
    never_inline()
    if room.now[KEPT] != 0:
        return
    written = not missing_is_blank(t)
    for slot in range(t.state[0].num_slots):
        written = written or (t.slots[slot, P_LEAF] >= 0 and t.slots[slot, P_CLEAN] == 0)
    if written:
        note_presence(t, h, room.more.kept[: t.state[0].directmap])
        room.now[KEPT] = 1


# --- a live save -------------------------------------------------------------------------------


@inner_kernel
def _save_live(t: P2MTables, h: HostTables, cell: Cell, room: Room, calls: Calls, row: Row) -> int:
    """Save a guest that lives on behind the walk: `Life._saved_live`."""
    never_inline()
    if not _plan(t, h, cell, room, calls):
        room.now[SHORT] = RUNS_SHORT
        return as_int(MORE_ROOM)
    walk = Walk(room.work, room.mfns, room.found, room.pages, room.levels)
    start = now_ns()
    found = find(t, h, walk, room, calls)
    row.save_walk_ns = now_ns() - start
    if found < 0:
        return -found
    state = t.state[0]
    generation = as_int(state.generation)
    by_table = reads_table(t)
    number = as_int(0)
    status = as_int(OK)
    while status == OK and number < cell.rounds:
        status = _round(t, h, cell, number, room, calls)
        if status == NO_MEMORY:
            status = as_int(OK)
        number += 1
        if status == OK and by_table and state.generation != generation:
            status = as_int(SAVE_ABORTED)
    if number > 0 and status != MORE_ROOM:
        _keep_out(room, number)
    if status != OK:
        return status
    start = now_ns()
    status = calls.look_again(t, h, walk, found)
    row.save_walk_ns += now_ns() - start
    return status


@inner_kernel
def _plan(t: P2MTables, h: HostTables, cell: Cell, room: Room, calls: Calls) -> bool:
    """Note what the guest is to give back in each round; return whether there was room for it.

    As the guest is before the first of them: `Churn.plan`.
    """
    never_inline()
    k = room.more.out_end[0]
    for number in range(cell.rounds):
        migration = room.now[MOVES]
        count = as_int(0)
        if cell.balloon_pages > 0:
            count = drawn(BALLOON, 2 * cell.balloon_pages, cell, migration, number, room)
        if count > 0:
            first = drawn(FROM, cell.nr_pages - 1, cell, migration, number, room)
            k = _leaving(t, h, cell, first, count, k, room, calls)
            if k < 0:
                return False
        room.more.out_end[number + 1] = k
    return True


@inner_kernel
def _leaving(
    t: P2MTables,
    h: HostTables,
    cell: Cell,
    first: int,
    count: int,
    k: int,
    room: Room,
    calls: Calls,
) -> int:
    """Put up to `count` pages from `first` on behind the first `k` runs: but for tables and holes.

    Returns how many runs there are then, -1 where there is no room for them.
    """
    struct = h.par[0].struct_pages
    end = min(first + 2 * count + struct, cell.nr_pages)
    begin = k
    pfn = first
    while pfn < end and count > 0:
        some = as_int(0)
        while pfn < end and some < len(room.more.some):
            if not cell.brk_pfn <= pfn < cell.brk_pfn + struct:
                room.more.some[some] = pfn
                some += 1
            pfn += 1
        calls.more.get(t, h, room.more.some[:some], room.more.has[:some])
        for at in range(some):
            mfn = given_frame(h.par[0], room.more.some[at])
            if count == 0 or mfn == INVALID or room.more.has[at] != mfn:
                continue
            count -= 1
            if (
                k > begin
                and room.more.out[k - 1, 0] + room.more.out[k - 1, 1] == room.more.some[at]
            ):
                room.more.out[k - 1, 1] += 1
                continue
            if k == len(room.more.out):
                return as_int(-1)
            room.more.out[k, 0] = room.more.some[at]
            room.more.out[k, 1] = 1
            k += 1
    return k


@inner_kernel
def _round(t: P2MTables, h: HostTables, cell: Cell, number: int, room: Room, calls: Calls) -> int:
    """Let the guest live through one round, as one set: what comes back, what goes, what is new."""
    never_inline()
    _keep_presence(t, h, room)
    back = room.more.out_end[number - 1] if number > 0 else as_int(0)
    middle, end = room.more.out_end[number], room.more.out_end[number + 1]
    status = as_int(OK)
    for k in range(back, middle):
        if status == OK:
            status = _give_back(t, h, room.more.out[k, 0], room.more.out[k, 1], room, calls)
    for k in range(middle, end):
        if status == OK:
            room.more.runs[0, 0] = room.more.out[k, 0]
            room.more.runs[0, 1] = INVALID
            room.more.runs[0, 2] = room.more.out[k, 1]
            status = _set(t, h, as_int(1), room, calls)
    count = as_int(0)
    if cell.churn_pages > 0:
        count = drawn(CHURN, 2 * cell.churn_pages, cell, room.now[MOVES], number, room)
    if status != OK:
        # What it would have got counts as done.
        room.now[ADDED] += added_pages(cell, h.par[0], room.now[ADDED], count, room.more.pfns)
        return status
    return _add(t, h, cell, count, room, calls)


@inner_kernel
def _give_back(
    t: P2MTables, h: HostTables, first: int, count: int, room: Room, calls: Calls
) -> int:
    """Give pages in a row their frames; returns as `_set`."""
    pfns = room.more.some
    done = as_int(0)
    while done < count:
        some = min(count - done, len(pfns))
        for at in range(some):
            pfns[at] = first + done + at
        status = _give(t, h, pfns[:some], room, calls)
        if status != OK:
            return status
        done += some
    return as_int(OK)


@inner_kernel
def _keep_out(room: Room, rounds: int) -> None:
    """Keep what is ballooned out after so many rounds, at least one: `Churn.done`."""
    first = room.more.out_end[rounds - 1]
    kept = room.more.out_end[rounds] - first
    for k in range(kept):
        room.more.out[k, 0] = room.more.out[first + k, 0]
        room.more.out[k, 1] = room.more.out[first + k, 1]
    room.more.out_end[0] = kept
