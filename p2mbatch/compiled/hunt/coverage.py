"""What a life reached, as numbers: a life that reached something new is bred on.

A feature is a few small numbers (an outcome after an outcome, how many mids there are, where a set
grew the tree) hashed to a place in a map of `MAP` places; two that share a place cost little.
"""

from __future__ import annotations

from p2mbatch.base.arrays import Int16Array, UInt8Array
from p2mbatch.compiled.hunt.fit import meaning
from p2mbatch.compiled.hunt.kinds import Kind
from p2mbatch.compiled.hunt.program import BOOT, FAIL_ALLOC, MIGRATE, SET, Program
from p2mbatch.compiled.hunt.room import Room
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel, never_inline
from p2mbatch.compiled.tables import P2MTables

MAP = 1 << 13
"""Places of the map."""

MAX_FEATURES = 96
"""Features of one life that are noted."""

_PRIME = 1_000_003


@inner_kernel
def _add(features: Int16Array, room: Room, what: int, a: int, b: int, c: int) -> None:
    """Note a feature of the life."""
    count = room.features[0]
    if count == len(features):
        return
    mixed = what
    for word in (a, b, c):
        mixed = (mixed * _PRIME ^ (word & 0xFFFF)) & 0x7FFF_FFFF_FFFF
    mixed = (mixed ^ (mixed >> 17)) * _PRIME
    features[count] = (mixed ^ (mixed >> 23)) & (MAP - 1)
    room.features[0] = count + 1


@inner_kernel
def _size(number: int) -> int:
    """Return about how large a count is: 0, 1, 2, 3 up to 4, 4 up to 8, 5 beyond."""
    size = as_int(0)
    while size < 5 and number > (0 if size == 0 else 1 << (size - 1)):
        size += 1
    return size


@inner_kernel
def note_guest(kind: Kind, program: Program, features: Int16Array, room: Room) -> None:
    """Note what kind of guest a life has."""
    never_inline()
    room.features[0] = 0
    guest = program.guest[0]
    n = 4096 // kind.word_bytes
    ends = as_int(guest.nr_pages & (n - 1) == 0) + 2 * as_int(guest.max_p2m_pfn & (n - 1) == 0)
    _add(features, room, 1, ends, guest.reach // (n * n), guest.max_p2m_pfn // (n * n))
    _add(features, room, 2, guest.num_pool, guest.num_ranges, guest.num_extra)
    for k in range(guest.num_ranges):
        start, stop = program.ranges[k, 0], program.ranges[k, 1]
        edges = as_int(start & (n - 1) == 0) + 2 * as_int(stop & (n - 1) == 0)
        _add(features, room, 3, edges, _size((stop - start) // n), _size(stop // (n * n)))


@inner_kernel
def note_event(
    kind: Kind,
    t: P2MTables,
    program: Program,
    k: int,
    status: int,
    before: int,
    features: Int16Array,
    room: Room,
) -> int:
    """Note what event `k` came to and what the guest is like; return what names the outcome.

    `before` is what this returned of the event before.
    """
    never_inline()
    state, event = t.state[0], program.events[k]
    now = event.op << 8 | status & 255
    _add(features, room, 4, now, before, as_int(0))
    if event.op == FAIL_ALLOC:
        _add(features, room, 5, event.at, before, as_int(0))
        return now
    strays = _size(state.stray_pages) + 8 * _size(state.stray_writes)
    _add(features, room, 6, now, strays, state.wild + 2 * _size(state.placeholder_writes))
    _add(features, room, 7, now, _size(state.num_mids), _size(state.num_mid_mfns))
    pool = as_int(0)
    for run in range(len(t.pool)):
        pool += t.pool[run, 1]
    is_out = as_int(state.pool_used == pool)
    failed = as_int(state.fail_at >= 0) + as_int(0 <= state.fail_at < state.allocs)
    _add(features, room, 8, now, _size(state.num_grown) + 8 * is_out, failed)
    _add(features, room, 9, now, _size(state.pool_used), _size(state.late_pages))
    if event.op == SET:
        _note_runs(kind, program, k, now, before, features, room)
    elif event.op == MIGRATE:
        is_trimmed = as_int(state.walked_max_pfn < state.shared_max - 1)
        odd = as_int(state.shared_max & (t.words.shape[1] - 1) != 0)
        _add(features, room, 10, now, is_trimmed + 2 * odd, state.no_list)
    elif event.op == BOOT:
        _add(features, room, 11, now, _size(state.warnings), _size(state.identity_pages))
    return now


@inner_kernel
def _note_runs(
    kind: Kind,
    program: Program,
    k: int,
    now: int,
    before: int,
    features: Int16Array,
    room: Room,
) -> None:
    """Note what the runs of a set are and where they lie."""
    guest = program.guest[0]
    n = 4096 // kind.word_bytes
    for r in range(program.events[k].num_runs):
        run = program.runs[k, r]
        what = meaning(kind, run[1])
        where = as_int(run[0] >= guest.nr_pages) + as_int(run[0] >= guest.max_p2m_pfn)
        where = 8 * where + min(run[0] // (n * n), 3)
        crosses = as_int(run[0] // n != (run[0] + run[2] - 1) // n)
        edges = as_int(run[0] & (n - 1) == 0) + 2 * as_int((run[0] + run[2]) & (n - 1) == 0)
        _add(features, room, 12, now, what << 8 | where, before)
        _add(features, room, 13, now, what << 8 | where, crosses + 2 * edges)


@kernel
def merge(features: Int16Array, seen: UInt8Array, new: UInt8Array) -> int:
    """Mark in `new` (uint8[lives]) which lives reached what none before did; return how many.

    `features` is int16[lives, MAX_FEATURES], below 0 from a life's last on; `seen` (uint8[MAP]) is
    what has been reached, modified in place in the order of the lives.
    """
    count = as_int(0)
    for k in range(len(features)):
        found = as_int(0)
        for j in range(features.shape[1]):
            place = as_int(features[k, j])
            if place < 0:
                break
            found |= as_int(seen[place] == 0)
            seen[place] = 1
        new[k] = found
        count += found
    return count
