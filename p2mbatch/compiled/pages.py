"""Compiled kernels, ground floor: a guest's pages, a host's frames, and looking a PFN up.

Kernels take `P2MTables` (t) and `HostTables` (h), modify them in place, raise nothing and return
either a value or one of the status codes below. They never allocate: where a store needs a page
that has no room yet, the caller has seen to it beforehand (`room_left`).
"""

from __future__ import annotations

import numpy as np

from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.hosts import layout_frame
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline
from p2mbatch.compiled.rows import given_row
from p2mbatch.compiled.tables import (
    BLOCK_SHIFT,
    IMAGE_BASE,
    IMAGE_END,
    LAZY,
    LEAF,
    NO_PAGE,
    P_CLEAN,
    P_EVENT,
    P_KIND,
    P_LEAF,
    P_PAGE,
    POINTER,
    S_BRK_PAGES,
    S_BRK_PFN,
    S_DIRECTMAP,
    S_ENTRIES_SHIFT,
    S_EVENT,
    S_IMAGE_MAP,
    S_MFN_LIST_PFN,
    S_NR_PAGES,
    S_NUM_BLOCKS,
    S_NUM_SLOTS,
    S_SAVED_MAX_PFN,
    S_STRAY_PAGES,
    S_STRAY_WRITES,
    S_VA_BASE,
    S_VA_MASK,
    S_WILD,
    S_WORD_BITS,
    UNREACHABLE,
    HostTables,
    P2MTables,
)

# --- the guest's pages -------------------------------------------------------------------------


@inner_kernel
def address(t: P2MTables, page: int) -> int:
    """Return the address that the kernel knows `page` by, as a word of the guest's width.

    That of the kernel image map for brk and `mfn_list` of a 64-bit guest, where there is one.
    """
    state = t.state
    if state[S_IMAGE_MAP] != 0:
        n = 1 << state[S_ENTRIES_SHIFT]
        list_pages = (state[S_NR_PAGES] + n - 1) >> state[S_ENTRIES_SHIFT]
        if (
            0 <= page - state[S_BRK_PFN] < state[S_BRK_PAGES]
            or 0 <= page - state[S_MFN_LIST_PFN] < list_pages
        ):
            return IMAGE_BASE + (page << 12)
    return direct_address(t, page)


@inner_kernel
def direct_address(t: P2MTables, page: int) -> int:
    """Return the direct map's address of `page`, as a word of the guest's width."""
    where = t.state[S_VA_BASE] + (page << 12)
    return where & 0xFFFFFFFF if t.state[S_WORD_BITS] == 32 else where


@inner_kernel
def page_at(t: P2MTables, where: int) -> int:
    """Return the page of an address, in arithmetic of the guest's width; reachable or not."""
    if t.state[S_IMAGE_MAP] != 0 and IMAGE_BASE <= where < 0:
        return (where - IMAGE_BASE) >> 12
    return ((where - t.state[S_VA_BASE]) >> 12) & t.state[S_VA_MASK]


@inner_kernel
def reached_page(t: P2MTables, where: int) -> int:
    """Return the page that an access to an address reaches, at least UNREACHABLE where none.

    Source: machine-v2 section 3b, presence not looked at.
    """
    if t.state[S_IMAGE_MAP] != 0 and IMAGE_END <= where < 0:
        return UNREACHABLE
    page = page_at(t, where)
    return page if page < t.state[S_DIRECTMAP] else UNREACHABLE


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
def is_own(t: P2MTables, slot: int, i: int) -> bool:
    """Return whether the guest owns the frame given to entry `i` of the leaf in `slot`."""
    return (int(t.own[slot, i >> 6]) >> int(i & 63)) & 1 != 0


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
