"""Compiled kernels, ground floor: a guest's pages, a host's frames, and looking a PFN up.

Kernels take `P2MTables` (t) and `HostTables` (h), modify them in place, raise nothing and return
either a value or one of the status codes below. They never allocate: where a store needs a page
that has no room yet, the caller has seen to it beforehand (`room_left`).
"""

from __future__ import annotations

import numpy as np

from p2mbatch._jit import as_int, inner_kernel, kernel, never_inline
from p2mbatch.bijection import forward, inverse
from p2mbatch.geometry import FOREIGN_FRAME_BIT, INVALID
from p2mbatch.kernels_rows import given_row
from p2mbatch.tables import (
    BLOCK_SHIFT,
    EXTENTS,
    FUNCTION_HOST,
    H_ENTRIES_SHIFT,
    H_FRAMES,
    H_FRAMES_PERM,
    H_GUEST_FRAMES,
    H_HOLES_PERM,
    H_HOLES_TO_OTHERS,
    H_KIND,
    H_LAYOUT,
    H_NAMES_ALL,
    H_NEIGHBOUR_PAGES,
    H_NR_PAGES,
    H_NUM_EXTENTS,
    H_NUM_GROWN,
    H_NUM_HOLES,
    H_NUM_NEIGHBOUR,
    H_ORDER,
    H_RESERVED,
    H_SPAN,
    H_STRUCT_FIRST,
    H_STRUCT_PAGES,
    LAZY,
    LEAF,
    NO_PAGE,
    P_CLEAN,
    P_EVENT,
    P_KIND,
    P_LEAF,
    P_PAGE,
    POINTER,
    S_DIRECTMAP,
    S_ENTRIES_SHIFT,
    S_EVENT,
    S_MAX_P2M,
    S_NUM_BLOCKS,
    S_NUM_LEAVES,
    S_NUM_SLOTS,
    S_SAVED_MAX_PFN,
    S_STRAY_PAGES,
    S_STRAY_WRITES,
    S_TOP,
    S_VA_BASE,
    S_VA_MASK,
    S_WILD,
    S_WORD_BITS,
    TAIL,
    HostTables,
    Int64Array,
    P2MTables,
)

# Status codes of kernels that change something. Faults double as what a lookup returns in place
# of an entry, which is INVALID or not negative.
OK = 0
BUG_BRK_OVERFLOW, BUG_BRK_CLOSED, BUG_SET, BUG_TOP_MFN, BUG_MIDIDX, BUG_MID_MFN_P = range(1, 7)
NO_MEMORY = 10
"""`alloc_p2m` got no page: set_phys_to_machine returns false."""
MORE_ROOM = 11
"""Out of slots: `grown` tables and call again from `state[S_POSITION]`."""
FAULT_TOP, FAULT_MID, FAULT_STORE = -2, -3, -4


# --- hosts -------------------------------------------------------------------------------------


@inner_kernel
def host_frame(par: Int64Array, index: int) -> int:
    """Return the MFN of the `index`-th frame that a function host hands out."""
    order = par[H_ORDER]
    extent = index >> order
    if extent >= par[H_NUM_EXTENTS]:
        return par[H_RESERVED] + index
    low = index & ((1 << order) - 1)
    return par[H_RESERVED] + ((forward(par, H_FRAMES_PERM, extent) << order) | low)


@inner_kernel
def host_index(par: Int64Array, mfn: int) -> int:
    """Return when a function host hands out frame `mfn`: the inverse of `host_frame`; -1 never."""
    never_inline()
    at = mfn - par[H_RESERVED]
    if at < 0 or mfn >= par[H_FRAMES]:
        return -1
    order = par[H_ORDER]
    extent = at >> order
    if extent >= par[H_NUM_EXTENTS]:
        return at
    return (inverse(par, H_FRAMES_PERM, extent) << order) | (at & ((1 << order) - 1))


@inner_kernel
def hole_rank(par: Int64Array, pfn: int) -> int:
    """Return the rank among the layout's holes of `pfn`, 0 <= pfn < span, or -1 if it is none."""
    never_inline()
    layout = par[H_LAYOUT]
    if layout == TAIL:
        return pfn - par[H_NR_PAGES] if pfn >= par[H_NR_PAGES] else -1
    if layout == EXTENTS:
        shift = par[H_ENTRIES_SHIFT]
        beyond = pfn - par[H_NR_PAGES]
        if beyond < 0:
            return -1
        if beyond >> shift >= par[H_HOLES_PERM]:
            return beyond - (par[H_NUM_GROWN] << shift)
        rank = inverse(par, H_HOLES_PERM, beyond >> shift) - par[H_NUM_GROWN]
        return (rank << shift) | (beyond & ((1 << shift) - 1)) if rank >= 0 else -1
    candidate = pfn
    if pfn >= par[H_STRUCT_FIRST]:
        candidate -= par[H_STRUCT_PAGES]
        if candidate < par[H_STRUCT_FIRST]:
            return -1
    rank = inverse(par, H_HOLES_PERM, candidate)
    return rank if rank < par[H_NUM_HOLES] else -1


@inner_kernel
def given_frame(par: Int64Array, pfn: int) -> int:
    """Return the MFN that a function host has for `pfn`, or INVALID where it names none."""
    never_inline()
    if pfn < 0 or pfn >= par[H_SPAN]:
        return INVALID
    if par[H_NAMES_ALL] == 0 and par[H_NUM_HOLES] > 0 and hole_rank(par, pfn) >= 0:
        return INVALID
    index = pfn
    if par[H_LAYOUT] == EXTENTS and pfn >= par[H_NR_PAGES]:
        shift = par[H_ENTRIES_SHIFT]
        beyond = pfn - par[H_NR_PAGES]
        if beyond >> shift < par[H_HOLES_PERM]:
            rank = inverse(par, H_HOLES_PERM, beyond >> shift)
            index = par[H_NR_PAGES] + ((rank << shift) | (beyond & ((1 << shift) - 1)))
    return host_frame(par, index)


@inner_kernel
def layout_frame(par: Int64Array, saved_max_pfn: int, pfn: int) -> int:
    """Return what the entry of `pfn` in a leaf not yet made holds: its frame, or INVALID."""
    never_inline()
    if pfn > saved_max_pfn or pfn >= par[H_SPAN]:
        return INVALID
    if par[H_NUM_HOLES] > 0 and hole_rank(par, pfn) >= 0:
        return INVALID
    return given_frame(par, pfn)


@inner_kernel
def _index_pfn(par: Int64Array, index: int) -> int:
    """Return the PFN that gets the `index`-th frame, index < H_GUEST_FRAMES."""
    never_inline()
    if par[H_LAYOUT] != EXTENTS or index < par[H_NR_PAGES]:
        return index
    shift = par[H_ENTRIES_SHIFT]
    beyond = index - par[H_NR_PAGES]
    if beyond >> shift >= par[H_HOLES_PERM]:
        return index
    leaf = forward(par, H_HOLES_PERM, beyond >> shift)
    return par[H_NR_PAGES] + ((leaf << shift) | (beyond & ((1 << shift) - 1)))


@inner_kernel
def _has_frame(t: P2MTables, h: HostTables, pfn: int) -> bool:
    """Return whether the guest owns the frame that a function host has for `pfn`."""
    shift = t.state[S_ENTRIES_SHIFT]
    x = pfn >> shift
    if x >= t.state[S_NUM_LEAVES]:
        return False
    slot = as_int(t.leaf_slot[x])
    if slot < 0:
        return layout_frame(h.par, t.state[S_SAVED_MAX_PFN], pfn) != INVALID
    # A hole whose `p2m_missing` was hit looked populated when it was saved: `restore` notes those.
    if t.slots[slot, P_LEAF] != x and pfn > t.state[S_SAVED_MAX_PFN]:
        return False
    i = pfn & ((1 << shift) - 1)
    return (int(t.own[slot, i >> 6]) >> int(i & 63)) & 1 != 0


@inner_kernel
def own_pfn(t: P2MTables, h: HostTables, mfn: int) -> int:
    """Return the PFN at which the guest owns frame `mfn`, or -1 where it is not the guest's."""
    if mfn < 0 or mfn >= h.par[H_FRAMES]:
        return -1
    if h.par[H_KIND] != FUNCTION_HOST:
        return h.m2p[mfn] if h.owned[mfn] != 0 else -1
    index = host_index(h.par, mfn)
    if index < 0 or index >= h.par[H_GUEST_FRAMES]:
        return -1
    pfn = _index_pfn(h.par, index)
    return pfn if _has_frame(t, h, pfn) else -1


@inner_kernel
def _neighbour_pfn(par: Int64Array, index: int) -> int:
    """Return what m2p holds for the `index`-th frame, one that is not the guest's."""
    other = index - par[H_GUEST_FRAMES]
    if par[H_HOLES_TO_OTHERS] != 0:
        other = other + par[H_NUM_HOLES] if other >= 0 else hole_rank(par, _index_pfn(par, index))
    if other < 0 or other >= par[H_NUM_NEIGHBOUR]:
        return INVALID
    return other % par[H_NEIGHBOUR_PAGES]


@inner_kernel
def m2p(t: P2MTables, h: HostTables, mfn: int) -> int:
    """Return what the host's m2p holds for `mfn`: a PFN of whichever domain, or INVALID."""
    par = h.par
    if mfn < 0 or mfn >= par[H_FRAMES]:
        return INVALID
    if par[H_KIND] != FUNCTION_HOST:
        return h.m2p[mfn]
    index = host_index(par, mfn)
    if index < 0:
        return INVALID
    if index < par[H_GUEST_FRAMES]:
        pfn = _index_pfn(par, index)
        if _has_frame(t, h, pfn):
            return pfn
    return _neighbour_pfn(par, index)


@kernel
def write_out_host(par: Int64Array, mfns: Int64Array, others: Int64Array) -> None:
    """Write a function host out in full.

    `mfns` (int64[span]) gets the frame named for each PFN; `others` (int64[frames]) what m2p holds
    for each frame that is nobody's or another domain's; INVALID where there is none.
    """
    for pfn in range(len(mfns)):
        mfns[pfn] = given_frame(par, pfn)
    for mfn in range(len(others)):
        index = host_index(par, mfn)
        others[mfn] = _neighbour_pfn(par, index) if index >= 0 else INVALID
    for pfn in range(len(mfns)):
        if mfns[pfn] != INVALID:
            others[mfns[pfn]] = INVALID


# --- the guest's pages -------------------------------------------------------------------------


@inner_kernel
def address(t: P2MTables, page: int) -> int:
    """Return the direct map's address of `page`, as a word of the guest's width."""
    where = t.state[S_VA_BASE] + (page << 12)
    return where & 0xFFFFFFFF if t.state[S_WORD_BITS] == 32 else where


@inner_kernel
def page_at(t: P2MTables, where: int) -> int:
    """Return the page that an address reaches, in arithmetic of the guest's width."""
    return ((where - t.state[S_VA_BASE]) >> 12) & t.state[S_VA_MASK]


@inner_kernel
def page_code(t: P2MTables, page: int) -> int:
    """Return the directory's code for `page`: a slot, NO_PAGE, or LAZY - x."""
    block = page >> BLOCK_SHIFT
    if page < 0 or block >= len(t.block_of):
        return NO_PAGE
    row = as_int(t.block_of[block])
    if row < 0:
        return NO_PAGE
    return as_int(t.block_code[row, page & ((1 << BLOCK_SHIFT) - 1)])


@inner_kernel
def set_page_code(t: P2MTables, page: int, code: int) -> None:
    """Set the directory's code for a page of the direct map."""
    block = page >> BLOCK_SHIFT
    row = as_int(t.block_of[block])
    if row < 0:
        row = t.state[S_NUM_BLOCKS]
        t.state[S_NUM_BLOCKS] = row + 1
        t.block_of[block] = row
    t.block_code[row, page & ((1 << BLOCK_SHIFT) - 1)] = code


@inner_kernel
def room_left(t: P2MTables) -> bool:
    """Return whether one more step of any loop has the slots and blocks it may need."""
    return t.state[S_NUM_SLOTS] + 6 <= len(t.words) and t.state[S_NUM_BLOCKS] + 6 <= len(
        t.block_code
    )


@inner_kernel
def take_slot(t: P2MTables, page: int) -> int:
    """Return the slot of `page`, given one (of zeros) if it had none."""
    slot = page_code(t, page)
    if slot < 0:
        slot = t.state[S_NUM_SLOTS]
        t.state[S_NUM_SLOTS] = slot + 1
        t.slots[slot, P_PAGE] = page
        set_page_code(t, page, slot)
    return slot


@inner_kernel
def fill_leaf(t: P2MTables, h: HostTables, slot: int, x: int) -> None:
    """Write leaf `x` as a function host gave it into `slot`, with who owns its frames."""
    shift = t.state[S_ENTRIES_SHIFT]
    saved = ((x + 1) << shift) - 1 <= t.state[S_SAVED_MAX_PFN]
    if saved and given_row(h.par, x, t.words[slot]):
        for i in range(t.own.shape[1]):
            t.own[slot, i] = ~np.uint64(0)
    else:
        for i in range(1 << shift):
            mfn = layout_frame(h.par, t.state[S_SAVED_MAX_PFN], (x << shift) | i)
            t.words[slot, i] = mfn
            set_own(t, slot, i, mfn != INVALID)
    t.slots[slot, P_LEAF] = x
    t.slots[slot, P_CLEAN] = 1
    t.leaf_slot[x] = slot


@inner_kernel
def set_own(t: P2MTables, slot: int, i: int, owned: bool) -> None:
    """Set whether the guest owns the frame given to entry `i` of the leaf in `slot`."""
    word = int(t.own[slot, i >> 6])
    bit = 1 << int(i & 63)
    t.own[slot, i >> 6] = word | bit if owned else word & ~bit


@inner_kernel
def make_leaf(t: P2MTables, h: HostTables, x: int) -> int:
    """Make the LAZY leaf `x` resident and return its slot."""
    never_inline()
    slot = t.state[S_NUM_SLOTS]
    t.state[S_NUM_SLOTS] = slot + 1
    page = as_int(t.leaf_page[x])
    t.slots[slot, P_PAGE] = page
    t.slots[slot, P_KIND] = LEAF
    set_page_code(t, page, slot)
    fill_leaf(t, h, slot, x)
    return slot


@inner_kernel
def page_word(t: P2MTables, h: HostTables, page: int, i: int) -> int:
    """Return word `i` of a page of the guest: what it holds, zeros where nobody has written."""
    code = page_code(t, page)
    if code >= 0:
        return t.words[code, i]
    if code == NO_PAGE:
        return 0
    return layout_frame(
        h.par, t.state[S_SAVED_MAX_PFN], ((LAZY - code) << t.state[S_ENTRIES_SHIFT]) | i
    )


@inner_kernel
def stray_store(t: P2MTables, h: HostTables, page: int, i: int, word: int) -> None:
    """Store `word` into a page of the direct map that is not what the storer took it for."""
    slot = stray_slot(t, h, page)
    t.words[slot, i] = word
    t.state[S_STRAY_WRITES] += 1


@inner_kernel
def stray_slot(t: P2MTables, h: HostTables, page: int) -> int:
    """Return the slot of a page that is about to be hit, with the damage to the caches noted."""
    never_inline()
    code = page_code(t, page)
    if code <= LAZY:
        code = make_leaf(t, h, LAZY - code)
    elif code == NO_PAGE:
        code = take_slot(t, page)
    t.slots[code, P_CLEAN] = 0
    if t.slots[code, P_KIND] == POINTER:
        t.state[S_WILD] = 1
    if t.slots[code, P_EVENT] != t.state[S_EVENT]:
        t.slots[code, P_EVENT] = t.state[S_EVENT]
        t.state[S_STRAY_PAGES] += 1
    return code


# --- lookup ------------------------------------------------------------------------------------


@inner_kernel
def leaf_page_of(t: P2MTables, x: int) -> int:
    """Return the PFN of leaf `x`'s page by walking the tree; FAULT_TOP or FAULT_MID on the way."""
    shift = t.state[S_ENTRIES_SHIFT]
    mid = page_at(t, t.words[page_code(t, t.state[S_TOP]), x >> shift])
    if mid >= t.state[S_DIRECTMAP]:
        return FAULT_TOP
    leaf = page_at(t, t.words[page_code(t, mid), x & ((1 << shift) - 1)])
    return leaf if leaf < t.state[S_DIRECTMAP] else FAULT_MID


@inner_kernel
def get_phys_to_machine(t: P2MTables, h: HostTables, pfn: int) -> int:
    """Return the entry of `pfn`, no bit masked; INVALID beyond MAX_P2M_PFN; or a FAULT_ code.

    Source: kernel `get_phys_to_machine`, model section 2.
    """
    if pfn < 0 or pfn >= t.state[S_MAX_P2M]:
        return INVALID
    shift = t.state[S_ENTRIES_SHIFT]
    x = pfn >> shift
    if x < t.state[S_NUM_LEAVES] and t.state[S_WILD] == 0:
        slot = as_int(t.leaf_slot[x])
        if slot >= 0:
            return t.words[slot, pfn & ((1 << shift) - 1)]
        return layout_frame(h.par, t.state[S_SAVED_MAX_PFN], pfn)
    return _walk_to_entry(t, h, pfn)


@inner_kernel
def _walk_to_entry(t: P2MTables, h: HostTables, pfn: int) -> int:
    """Return the entry of `pfn` by way of the pointer pages' own words."""
    never_inline()
    shift = t.state[S_ENTRIES_SHIFT]
    page = leaf_page_of(t, pfn >> shift)
    return page_word(t, h, page, pfn & ((1 << shift) - 1)) if page >= 0 else page


@inner_kernel
def pfn_to_mfn(t: P2MTables, h: HostTables, pfn: int) -> int:
    """Return the entry of `pfn` without FOREIGN_FRAME_BIT (INVALID stays), or a FAULT_ code."""
    entry = get_phys_to_machine(t, h, pfn)
    return entry & ~FOREIGN_FRAME_BIT if entry >= 0 else entry


@inner_kernel
def mfn_to_page(t: P2MTables, h: HostTables, mfn: int) -> int:
    """Return the page that `mfn_to_virt(mfn)` reaches; the direct map's end is not checked."""
    return m2p(t, h, mfn) & t.state[S_VA_MASK]


@kernel
def lookup(t: P2MTables, h: HostTables, pfns: Int64Array, out: Int64Array) -> None:
    """Write get_phys_to_machine of each of `pfns` (int64[k]) to `out` (int64[k]).

    FAULT_ codes stand where a wild pointer is in the way.
    """
    for k in range(len(pfns)):
        out[k] = get_phys_to_machine(t, h, pfns[k])


@kernel
def holes_of(par: Int64Array, out: Int64Array) -> None:
    """Write to `out` (int64[k]) where the bijection at `par[0:]` sends 0 ... k - 1."""
    for k in range(len(out)):
        out[k] = forward(par, 0, k)


@kernel
def given_frames(par: Int64Array, pfns: Int64Array, out: Int64Array) -> None:
    """Write to `out` (int64[k]) the frame that a function host keeps for each of `pfns`."""
    for k in range(len(pfns)):
        out[k] = given_frame(par, pfns[k])
