"""One random life, event by event, in the workspace of a thread, and what it broke.

An event is what `model/life`, `era_life` and `linear_life` say: the same functions in the same
order, on table hosts. A life goes on as long as its guest is whole: after a bug or a fault, a
migration that was refused, pages lost or a set that did not hold, it is over.
"""

from __future__ import annotations

import dataclasses

from p2mbatch.base.arrays import Int16Array, Int64Array
from p2mbatch.compiled.batch.clock import now_ns
from p2mbatch.compiled.hunt.calls import Calls
from p2mbatch.compiled.hunt.coverage import note_event, note_guest
from p2mbatch.compiled.hunt.fit import fit_set
from p2mbatch.compiled.hunt.kinds import FLAT, TREE, Kind
from p2mbatch.compiled.hunt.losses import count_losses, look
from p2mbatch.compiled.hunt.places import note_taken
from p2mbatch.compiled.hunt.program import (
    FAIL_ALLOC,
    MIGRATE,
    SET,
    Program,
    copy_event,
)
from p2mbatch.compiled.hunt.room import Room, arrive, leave, new_guest
from p2mbatch.compiled.hunt.rules import (
    LIST_WRONG,
    OF_HIT,
    WAS_HIT,
    WAS_REFUSED,
    Break,
    never_set,
    note,
    reads_back,
    where_stopped,
    wrong_in_list,
)
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline
from p2mbatch.compiled.looks import Walk
from p2mbatch.compiled.records import OneRecord, record_dtype
from p2mbatch.compiled.status import (
    BUG_NULL,
    BUG_OUT_OF_MEMORY,
    MORE_ROOM,
    NO_MEMORY,
    OK,
    SAVE_BAD_TABLE,
    SAVE_MAX_PFN,
)
from p2mbatch.compiled.tables import HostTables, P2MTables


@dataclasses.dataclass(slots=True, kw_only=True)
class Told:
    """What one event came to: the numbers of `model.life.EventResult`."""

    status: int = 0
    detail: int = 0
    entries_set: int = 0
    stray_writes: int = 0
    stray_pages: int = 0
    placeholder_writes: int = 0
    lost_pages: int = 0
    ghost_pages: int = 0
    lost_identity_pages: int = 0
    had_memory: int = 0
    """Of a set: whether every page that it asked for was there."""


TOLD = record_dtype(Told)


@inner_kernel
def live(
    kind: Kind,
    program: Program,
    room: Room,
    calls: Calls,
    told: OneRecord[Told],
    breaks: OneRecord[Break],
    features: Int16Array,
) -> None:
    """Live a program, which is fitted to what it may do and ends with its last event that ran.

    `told` (TOLD[MAX_EVENTS]), `breaks` (BREAK[7]) and `features` (int16[MAX_FEATURES], -1 from the
    last on) get what came of it: nothing, where the guest hit more pages than there is room for.
    """
    never_inline()
    for rule in range(len(breaks)):
        breaks[rule].event = -1
    room.so_far[:] = 0
    t = new_guest(kind, program, room)
    num_taken = note_taken(kind, program, room.taken)
    note_guest(kind, program, features, room)
    side, host = as_int(0), program.events[0].host
    here = arrive(kind, program, host, room, side)
    _begin(t, told[0])
    status = _boot(kind, t, here, program, room, calls)
    alive = _end(kind, t, here, program, 0, status, as_int(0), told[0], breaks, room, calls)
    reached = note_event(kind, t, program, as_int(0), status, as_int(0), features, room)
    at, moves = as_int(1), as_int(0)
    for k in range(1, program.guest[0].num_events):
        if not alive:
            break
        op = program.events[k].op
        if op == SET and fit_set(kind, program, k, here, room.taken, num_taken) == 0:
            continue
        copy_event(program, k, program, at)
        told_now = told[at]
        _begin(t, told_now)
        if op == FAIL_ALLOC:
            status = as_int(OK)
            t.state[0].fail_at = program.events[at].at
            t.state[0].allocs = 0
        elif op == SET:
            runs = program.runs[at, : program.events[at].num_runs]
            status = _set(t, here, runs, room, calls, told_now)
            alive = _end(kind, t, here, program, at, status, moves, told_now, breaks, room, calls)
        else:
            to = program.events[at].host
            away = arrive(kind, program, to, room, 1 - side)
            status = _migrate(kind, t, here, away, side, room, calls, told_now)
            if _is_refused(status):
                leave(program, to, room, 1 - side)
            else:
                leave(program, host, room, side)
                side, host, here = 1 - side, to, away
            alive = _end(kind, t, here, program, at, status, moves, told_now, breaks, room, calls)
            moves += 1
        reached = note_event(kind, t, program, at, status, reached, features, room)
        at += 1
    program.guest[0].num_events = at
    leave(program, host, room, side)
    if status == MORE_ROOM:
        room.features[0] = 0
        for rule in range(len(breaks)):
            breaks[rule].event = -1
    features[room.features[0] :] = -1


@inner_kernel
def _begin(t: P2MTables, told: Told) -> None:
    """Start counting what a new event does: `Life.begin_event`."""
    state = t.state[0]
    state.event += 1
    state.stray_writes = state.stray_pages = state.entries_written = 0
    state.placeholder_writes = 0
    told.status = told.detail = told.entries_set = 0
    told.lost_pages = told.ghost_pages = told.lost_identity_pages = 0
    told.stray_writes = told.stray_pages = told.placeholder_writes = told.had_memory = 0


@inner_kernel
def _is_refused(status: int) -> bool:
    """Return whether a migration ended before the guest had gone."""
    return SAVE_MAX_PFN <= status <= SAVE_BAD_TABLE


@inner_kernel
def _boot(
    kind: Kind, t: P2MTables, h: HostTables, program: Program, room: Room, calls: Calls
) -> int:
    """Boot: `Life.boot`, `EraLife.boot_marking`."""
    start = now_ns()
    calls.load_mfn_list(t, h, as_int(0), as_int(1 << 62))
    calls.load_domain(t, h)
    if kind.family == FLAT:
        status = calls.boot(t, h, room.pieces[: _put_runs(program, room.pieces)])
    else:
        status = calls.boot(t, h, program.ranges[: program.guest[0].num_ranges])
    room.took_ns[0] += now_ns() - start
    return status


@inner_kernel
def _put_runs(program: Program, runs: Int64Array) -> int:
    """Write what the boot of a linear p2m takes (`linear_shape.boot_runs`); return its rows."""
    guest = program.guest[0]
    runs[0, 0], runs[0, 1] = as_int(1), guest.num_ranges
    runs[1, 0], runs[1, 1] = guest.boot_pool_pfn, guest.boot_pool_pages
    end = 2 + guest.num_ranges
    for k in range(guest.num_ranges):
        runs[2 + k, 0], runs[2 + k, 1] = program.ranges[k, 0], program.ranges[k, 1]
    for k in range(guest.num_extra):
        runs[end + k, 0], runs[end + k, 1] = program.extra[k, 0], program.extra[k, 1]
    return end + guest.num_extra


@inner_kernel
def _set(
    t: P2MTables, h: HostTables, runs: Int64Array, room: Room, calls: Calls, told: Told
) -> int:
    """Do a set: `Life.set_runs`."""
    state = t.state[0]
    allocs, used = state.allocs, state.pool_used
    start = now_ns()
    status = calls.set_runs(t, h, runs, as_int(0))
    room.took_ns[0] += now_ns() - start
    told.entries_set = state.position
    told.had_memory = state.allocs - allocs == state.pool_used - used
    return status


@inner_kernel
def _migrate(
    kind: Kind,
    t: P2MTables,
    here: HostTables,
    away: HostTables,
    side: int,
    room: Room,
    calls: Calls,
    told: Told,
) -> int:
    """Save, restore on `away`, resume; `side` of the room is where the guest is."""
    never_inline()
    state = t.state[0]
    leaves, reported = as_int(0), as_int(state.shared_max)
    start = now_ns()
    if kind.family == TREE:
        status = calls.save_walk(t, here, room.work)
    else:
        walk = Walk(room.work, room.mfns, room.found, room.pfns, room.frames)
        leaves = calls.find(t, here, walk)
        status = -leaves if leaves < 0 else calls.look_again(t, here, walk, leaves)
    room.took_ns[0] += now_ns() - start
    if status != OK:
        return status
    marked = look(t, here, room, calls, side)
    before = as_int(0)
    if state.identity_bit != 0:
        before = calls.count_identity(t, state.max_p2m_pfn)
    start = now_ns()
    status = _restore(kind, t, here, away, leaves, room, calls)
    if status == OK:
        status = calls.rebuild(t, away, as_int(0))
        if status == OK:
            status = calls.report(t, away)
    room.took_ns[0] += now_ns() - start
    if status == OK:
        count_losses(t, away, room, calls, 1 - side, reported, marked)
        told.lost_pages = room.counts[0] - room.counts[1]
        told.ghost_pages = room.counts[2]
        if state.identity_bit != 0:
            told.lost_identity_pages = before - calls.count_identity(t, state.max_p2m_pfn)
    room.bits[:marked] = 0
    return status


@inner_kernel
def _restore(
    kind: Kind,
    t: P2MTables,
    here: HostTables,
    away: HostTables,
    leaves: int,
    room: Room,
    calls: Calls,
) -> int:
    """Restore the guest on `away`; return OK, or RESTORE_POPULATE with nothing changed."""
    if kind.family == TREE:
        status = calls.settle_sent(t, here, away)
        return calls.restore(t, away, room.work) if status == OK else status
    state = t.state[0]
    kept = state.no_list
    # The toolstack writes the start info's flags as 0.
    state.no_list = 0
    status = calls.restore_found(t, here, away, room.found[:leaves], room.work, True, True)
    if status != OK:
        state.no_list = kept
    return status


# --- what an event broke -----------------------------------------------------------------------


@inner_kernel
def _end(
    kind: Kind,
    t: P2MTables,
    h: HostTables,
    program: Program,
    k: int,
    status: int,
    moves: int,
    told: Told,
    breaks: OneRecord[Break],
    room: Room,
    calls: Calls,
) -> bool:
    """Write what event `k` came to and which rules it broke; return whether the life goes on."""
    never_inline()
    state = t.state[0]
    told.status = status
    told.detail = state.detail
    told.stray_writes = state.stray_writes
    told.stray_pages = state.stray_pages
    told.placeholder_writes = state.placeholder_writes
    if status == MORE_ROOM:
        return False
    op = program.events[k].op
    so_far = room.so_far
    if state.stray_writes != 0:
        so_far[WAS_HIT] = 1
    if op == SET:
        room.entries_set[k] = told.entries_set
        so_far[WAS_REFUSED] |= status == NO_MEMORY
    hit = OF_HIT * so_far[WAS_HIT]
    if state.stray_writes != 0 or state.placeholder_writes != 0:
        which = as_int(state.stray_writes != 0) + 2 * as_int(state.placeholder_writes != 0)
        note(breaks, 3, k, op, status, moves, which)
    if _is_refused(status):
        note(breaks, 5, k, op, status, moves, hit + so_far[LIST_WRONG])
        return False
    if status not in (OK, NO_MEMORY):
        if status not in (BUG_NULL, BUG_OUT_OF_MEMORY):
            note(breaks, 1, k, op, status, moves, hit + where_stopped(t, program, k, room))
        return False
    alive = True
    if op == MIGRATE:
        wrong = wrong_in_list(t, h) if breaks[1].event < 0 else as_int(0)
        if breaks[1].event < 0:
            so_far[LIST_WRONG] = wrong != 0
        if wrong != 0:
            note(breaks, 2, k, op, status, moves, wrong)
        if told.lost_pages != 0 or told.ghost_pages != 0:
            which = as_int(told.lost_pages != 0) + 2 * as_int(told.ghost_pages != 0)
            note(breaks, 4, k, op, status, moves, hit + which + 4 * room.counts[3])
            alive = False
    elif op == SET:
        runs = program.runs[k, : program.events[k].num_runs]
        if status == NO_MEMORY and told.had_memory != 0:
            note(breaks, 6, k, op, status, moves, as_int(0))
            alive = False
        odd = reads_back(t, h, kind, room, calls, runs, told.entries_set)
        if odd != 0:
            note(breaks, 6, k, op, status, moves, hit + odd)
            alive = False
    # What is known to be broken is not looked at again.
    odd = as_int(0)
    if breaks[6].event < 0:
        odd = never_set(t, h, kind, program, k + 1, room, calls)
    if odd != 0:
        note(breaks, 7, k, op, status, moves, hit + odd)
    return alive
