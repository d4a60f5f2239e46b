"""What a move lost, on table hosts: `judge.Judge`, of the frames that are owned alone."""

from __future__ import annotations

import numpy as np

from p2mbatch.compiled.hunt.calls import Calls
from p2mbatch.compiled.hunt.room import CHUNK, OWNERS, Room, any_owned
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline
from p2mbatch.compiled.judge import compare_populated, mark_populated
from p2mbatch.compiled.tables import HostTables, P2MTables

_BEFORE, _AFTER, _STILL = range(3)
"""What is done with the frames: mark the populated, count losses, unmark those there still."""

PAST_END, TRIMMED, WITHIN = 1, 2, 4
"""Where pages were lost: past what the guest reported, past what was saved, or neither."""


@inner_kernel
def look(t: P2MTables, h: HostTables, room: Room, calls: Calls, side: int) -> int:
    """Note which pages are populated on host `h`, which is on a `side` of the room.

    Returns how many words of `bits` may be set.
    """
    room.counts[:] = 0
    return _each_chunk(t, h, room, calls, side, _BEFORE)


@inner_kernel
def count_losses(
    t: P2MTables, h: HostTables, room: Room, calls: Calls, side: int, reported: int, marked: int
) -> None:
    """Count pages populated still (`counts[1]`), and those that were not (`counts[2]`).

    `counts[3]` gets where any were lost. `reported` is how many PFNs the guest had said that it
    has, `marked` what `look` returned.
    """
    _each_chunk(t, h, room, calls, side, _AFTER)
    if room.counts[0] != room.counts[1]:
        _each_chunk(t, h, room, calls, side, _STILL)
        room.counts[3] = _places(room, marked, reported, t.state[0].walked_max_pfn)


@inner_kernel
def _places(room: Room, marked: int, reported: int, walked: int) -> int:
    """Return where the pages lie whose bits are left."""
    never_inline()
    found = as_int(0)
    for at in range(marked):
        if room.bits[at] == np.uint64(0):
            continue
        for k in range(64):
            if (room.bits[at] >> np.uint64(k)) & np.uint64(1) != np.uint64(0):
                pfn = (at << 6) + k
                found |= PAST_END if pfn >= reported else TRIMMED if pfn > walked else WITHIN
    return found


@inner_kernel
def _each_chunk(t: P2MTables, h: HostTables, room: Room, calls: Calls, side: int, what: int) -> int:
    """Look the PFNs of the guest's frames up, some at a time; return the end of their bits."""
    never_inline()
    frames = h.par[0].frames
    k = as_int(0)
    end = as_int(0)
    # Many at a time: of a host for far PFNs almost none is the guest's.
    eights = room.owned[0].view(np.uint64)
    if side != 0:
        eights = room.owned[1].view(np.uint64)
    for first in range(0, frames, OWNERS):
        if not any_owned(eights, first):
            continue
        for mfn in range(first, min(first + OWNERS, frames)):
            if h.owned[mfn] != 0:
                room.frames[k] = mfn
                room.pfns[k] = h.m2p[mfn]
                end = max(end, (h.m2p[mfn] >> 6) + 1)
                k += 1
        if k > CHUNK - OWNERS:
            _count(t, h, room, calls, what, k)
            k = as_int(0)
    _count(t, h, room, calls, what, k)
    return end


@inner_kernel
def _count(t: P2MTables, h: HostTables, room: Room, calls: Calls, what: int, k: int) -> None:
    """Mark, compare or unmark the first `k` frames of the chunk."""
    pfns, entries = room.pfns[:k], room.entries[:k]
    calls.get(t, h, pfns, entries)
    if what == _BEFORE:
        mark_populated(room.bits, pfns, room.frames, entries, k, room.counts)
    elif what == _STILL:
        for j in range(k):
            if entries[j] == room.frames[j]:
                room.bits[pfns[j] >> 6] &= ~(np.uint64(1) << np.uint64(pfns[j] & 63))
    else:
        compare_populated(room.bits, pfns, room.frames, entries, k, room.counts)
