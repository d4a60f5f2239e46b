"""The workspace of one thread: a guest's tables, two hosts, and what judging a life notes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int32Array, Int64Array, UInt8Array, UInt64Array
from p2mbatch.base.geometry import Geometry
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.hunt.kinds import ERA, FLAT, Kind
from p2mbatch.compiled.hunt.places import MAX_TAKEN
from p2mbatch.compiled.hunt.program import (
    KEEPING_XENS,
    MAX_EVENTS,
    SMALL_ORDER_XENS,
    Program,
)
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline
from p2mbatch.compiled.m2p_size import m2p_entries, m2p_order
from p2mbatch.compiled.records import (
    NO_PAGE,
    UNBOUNDED_ORDER,
    HostParameters,
    OneRecord,
    State,
    as_array,
)
from p2mbatch.compiled.tables import (
    BLOCK_SHIFT,
    KEEPS_FREED,
    TABLE_HOST,
    HostTables,
    P2MTables,
)

MOST_REACH = {8: (2 << 18) + (1 << 14), 4: (2 << 20) + (1 << 14)}
"""PFNs that a life of each width may set at most: into a third top entry."""

MOST_SPARE = 1 << 14
"""Frames that a host may have beyond those."""

NUM_SLOTS = 512
"""Pages of a guest that may come to hold anything; a life that hits more is given up."""

CHUNK = 2048
"""Frames or PFNs that are looked up together."""


OWNERS = 1024
"""Frames whose owners are looked at together."""


class Room(NamedTuple):
    """What lives are lived in, one after the other. `n` is entries per page.

    Between lives every word of the m2ps is INVALID and no frame is owned.
    """

    blank: OneRecord[State]
    """record[1]: the scalars of no guest, but with the geometry's and the machine's."""
    state: OneRecord[State]
    words: Int64Array
    slots: Int64Array
    own: UInt64Array
    block_of: Int32Array
    block_code: Int32Array
    leaf_slot: Int32Array
    leaf_page: Int32Array
    true_mid_mfn: Int64Array
    pool: Int64Array
    present: UInt8Array
    statics: Int64Array
    first_statics: Int64Array
    """What `statics` is as a guest begins: zeros, or which child a kernel in C runs in."""
    par: tuple[OneRecord[HostParameters], OneRecord[HostParameters]]
    """The host that the guest is on, and the one that it goes to, by turns; so `m2p`, `owned`."""
    m2p: tuple[Int64Array, Int64Array]
    owned: tuple[UInt8Array, UInt8Array]
    work: Int64Array
    """int64[n]."""
    mfns: Int64Array
    found: Int32Array
    """int64[leaves] and int32[leaves]: what a save finds."""
    pfns: Int64Array
    frames: Int64Array
    entries: Int64Array
    """int64[CHUNK] each."""
    bits: UInt64Array
    """uint64[reach / 64]: the pages that were populated; zeros between events."""
    counts: Int64Array
    """int64[4]: of a migration (`losses`)."""
    entries_set: Int64Array
    """int64[MAX_EVENTS]: entries that each set of the life has set."""
    so_far: Int64Array
    """int64[3]: what a life has come through (WAS_REFUSED, LIST_WRONG, WAS_HIT of `rules`)."""
    taken: Int64Array
    pieces: Int64Array
    dice: UInt64Array
    features: Int64Array
    """int64[1]: how many features the life has so far."""
    took_ns: Int64Array
    """int64[1]: what the kernels of the guests and of the toolstack took so far, all lives."""


def make_room(geo: Geometry) -> Room:
    """Return a workspace for guests of one width on the machine as it is (machine-v2)."""
    n, reach = geo.entries, MOST_REACH[geo.word_bytes]
    directmap = min(reach, geo.direct_map_limit_pages)
    num_leaves = reach // n + 3 * n
    tables = tb.allocate(
        geo,
        nr_pages=0,
        max_p2m_pfn=num_leaves * n,
        mfn_list_pfn=0,
        brk_pfn=0,
        brk_pages=0,
        pool=np.zeros((4, 2), np.int64),
        directmap_pages=directmap,
        num_slots=NUM_SLOTS,
        num_blocks=NUM_SLOTS,
        machine=tb.MACHINE_2,
        table_presence=True,
    )
    frames = reach + MOST_SPARE
    blank = tables.state.copy()  # type: ignore[attr-defined]
    return Room(
        blank,
        **tables._asdict(),
        first_statics=np.zeros(tb.STATIC_WORDS, np.int64),
        par=tuple(as_array(HostParameters(kind=TABLE_HOST, frames=0)) for _ in range(2)),
        m2p=tuple(np.full(frames, -1, np.int64) for _ in range(2)),
        owned=tuple(np.zeros(frames, np.uint8) for _ in range(2)),
        work=np.empty(n, np.int64),
        mfns=np.empty(num_leaves, np.int64),
        found=np.empty(num_leaves, np.int32),
        pfns=np.empty(CHUNK, np.int64),
        frames=np.empty(CHUNK, np.int64),
        entries=np.empty(CHUNK, np.int64),
        bits=np.zeros(reach // 64 + 2, np.uint64),
        counts=np.zeros(4, np.int64),
        entries_set=np.zeros(MAX_EVENTS, np.int64),
        so_far=np.zeros(3, np.int64),
        taken=np.zeros((MAX_TAKEN, 2), np.int64),
        pieces=np.zeros((MAX_TAKEN, 2), np.int64),
        dice=np.zeros(1, np.uint64),
        features=np.zeros(1, np.int64),
        took_ns=np.zeros(1, np.int64),
    )


@inner_kernel
def new_guest(kind: Kind, program: Program, room: Room) -> P2MTables:
    """Return the tables of a program's guest, not booted: `replay.new_life`."""
    never_inline()
    guest, state = program.guest[0], room.state[0]
    room.state[0] = room.blank[0]
    shift = state.entries_shift
    num_leaves = min((guest.max_p2m_pfn + (1 << shift) - 1) >> shift, 1 << (2 * shift))
    cached = num_leaves
    state.nr_pages = guest.nr_pages
    state.max_p2m_pfn = guest.max_p2m_pfn
    state.xen_max = guest.nr_pages
    state.mfn_list_pfn = guest.mfn_list_pfn
    state.brk_pfn = guest.brk_pfn
    state.brk_pages = guest.brk_pages
    state.directmap = guest.directmap
    state.saved_max_pfn = guest.max_p2m_pfn - 1
    state.walked_max_pfn = guest.max_p2m_pfn - 1
    if kind.family == FLAT:
        state.pgd = guest.pgd
        state.p2m_vaddr = guest.p2m_vaddr
        state.no_list = guest.told
        num_leaves = cached = guest.max_p2m_pfn >> shift
    if kind.two_level != 0:
        state.max_domain_pages = guest.max_domain_pages
        state.missing = guest.missing
        state.static_top = guest.top
        state.static_top_mfn = guest.top_mfn
        state.static_list = guest.top_mfn_list
        num_leaves = guest.max_domain_pages >> shift
        cached = max(num_leaves, (guest.nr_pages + (1 << shift) - 1) >> shift)
    if kind.family == ERA and guest.bootmem_pfn != NO_PAGE:
        state.bootmem_pfn = guest.bootmem_pfn
        state.bootmem_pages = guest.bootmem_pages
    state.num_leaves = num_leaves
    for k in range(guest.num_pool):
        room.pool[k, 0] = program.pool[k, 0]
        room.pool[k, 1] = program.pool[k, 1]
    blocks = (guest.directmap >> BLOCK_SHIFT) + 1
    room.block_of[:blocks] = -1
    room.leaf_slot[:cached] = 0
    room.leaf_page[:cached] = 0
    room.true_mid_mfn[:] = NO_PAGE
    room.present[: guest.directmap] = 0
    for i in range(len(room.statics)):
        room.statics[i] = room.first_statics[i]
    return P2MTables(
        room.state,
        room.words,
        room.slots,
        room.own,
        room.block_of[:blocks],
        room.block_code,
        room.leaf_slot[:cached],
        room.leaf_page[:cached],
        room.true_mid_mfn,
        room.pool[: guest.num_pool],
        room.present[: guest.directmap],
        room.statics,
    )


@inner_kernel
def arrive(kind: Kind, program: Program, i: int, room: Room, side: int) -> HostTables:
    """Make a program's `i`-th host on one side of the room, as it is before the guest is there."""
    never_inline()
    host = program.hosts[i]
    par, m2p, owned = _side(room, side)
    par[0].frames = host.frames
    is_wide = kind.word_bytes == 8
    order, entries = as_int(host.m2p_order), as_int(host.m2p_entries)
    if order < 0:
        order = m2p_order(is_wide, host.frames, 1 <= host.xen <= SMALL_ORDER_XENS)
    if entries < 0:
        entries = m2p_entries(is_wide, host.frames)
    par[0].m2p_order = min(order, as_int(UNBOUNDED_ORDER))
    par[0].m2p_entries = entries
    par[0].keeps_freed = KEEPS_FREED if 1 <= host.xen <= KEEPING_XENS else 0
    for k in range(host.num_foreign):
        mfn, pfn = program.foreign[i, k, 0], program.foreign[i, k, 1]
        for at in range(program.foreign[i, k, 2]):
            m2p[mfn + at] = pfn + at
    return HostTables(
        par, m2p[: host.frames], owned[: host.frames], program.domain[i, : host.num_domain]
    )


@inner_kernel
def _side(room: Room, side: int) -> tuple[OneRecord[HostParameters], Int64Array, UInt8Array]:
    """Return one side's parameters, m2p and owners."""
    if side == 0:
        return room.par[0], room.m2p[0], room.owned[0]
    return room.par[1], room.m2p[1], room.owned[1]


@inner_kernel
def leave(program: Program, i: int, room: Room, side: int) -> None:
    """Clear the side of the room on which a program's `i`-th host was."""
    never_inline()
    host = program.hosts[i]
    par, m2p, owned = _side(room, side)
    if par[0].keeps_freed != 0:
        m2p[: host.frames] = -1
        owned[: host.frames] = 0
        return
    for k in range(host.num_foreign):
        mfn = program.foreign[i, k, 0]
        m2p[mfn : mfn + program.foreign[i, k, 2]] = -1
    # But for those every word is that of an own frame.
    eights = owned.view(np.uint64)
    for first in range(0, host.frames, OWNERS):
        if any_owned(eights, first):
            for mfn in range(first, min(first + OWNERS, host.frames)):
                if owned[mfn] != 0:
                    m2p[mfn] = -1
                    owned[mfn] = 0


@inner_kernel
def any_owned(eights: UInt64Array, first: int) -> bool:
    """Return whether any of the OWNERS frames from `first` on is owned.

    `eights` are the owners, eight to a word.
    """
    words = eights[first >> 3 : (first + OWNERS) >> 3]
    found = np.uint64(0)
    for k in range(len(words)):
        found |= words[k]
    return bool(found != 0)
