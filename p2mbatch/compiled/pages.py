"""Compiled kernels, ground floor: a guest's pages, a host's frames, and looking a PFN up.

Kernels take `P2MTables` (t) and `HostTables` (h), modify them in place, raise nothing and return
either a value or one of the status codes below. They never allocate: where a store needs a page
that has no room yet, the caller has seen to it beforehand (`room_left`).
"""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.hosts import layout_frame
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel, never_inline
from p2mbatch.compiled.rows import given_row
from p2mbatch.compiled.tables import (
    BLOCK_SHIFT,
    IMAGE_BASE,
    IMAGE_END,
    LAZY,
    LEAF,
    NO_PAGE,
    ORDINARY,
    P_CLEAN,
    P_EVENT,
    P_KIND,
    P_LEAF,
    P_PAGE,
    POINTER,
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
    state = t.state[0]
    if state.image_map != 0:
        n = 1 << state.entries_shift
        list_pages = (state.nr_pages + n - 1) >> state.entries_shift
        if (
            0 <= page - state.brk_pfn < state.brk_pages
            or 0 <= page - state.mfn_list_pfn < list_pages
        ):
            return IMAGE_BASE + (page << 12)
    return direct_address(t, page)


@inner_kernel
def direct_address(t: P2MTables, page: int) -> int:
    """Return the direct map's address of `page`, as a word of the guest's width."""
    where = t.state[0].va_base + (page << 12)
    return where & 0xFFFFFFFF if t.state[0].word_bits == 32 else where


@inner_kernel
def page_at(t: P2MTables, where: int) -> int:
    """Return the page of an address, in arithmetic of the guest's width; reachable or not."""
    if t.state[0].image_map != 0 and IMAGE_BASE <= where < 0:
        return (where - IMAGE_BASE) >> 12
    return ((where - t.state[0].va_base) >> 12) & t.state[0].va_mask


@inner_kernel
def reached_page(t: P2MTables, where: int) -> int:
    """Return the page that an access to an address reaches, at least UNREACHABLE where none.

    Source: machine-v2 section 3b, presence not looked at.
    """
    if t.state[0].image_map != 0 and IMAGE_END <= where < 0:
        return UNREACHABLE
    page = page_at(t, where)
    return page if page < t.state[0].directmap else UNREACHABLE


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
        row = _take_block(t, block)
    t.block_code[row, page & ((1 << BLOCK_SHIFT) - 1)] = code


@inner_kernel
def _take_block(t: P2MTables, block: int) -> int:
    """Return a row of `block_code` for a block that had none, none of its pages coded."""
    never_inline()
    row = t.state[0].num_blocks
    t.state[0].num_blocks = row + 1
    t.block_of[block] = row
    codes = t.block_code[row]
    for i in range(len(codes)):
        codes[i] = NO_PAGE
    return row


@inner_kernel
def set_lazy_codes(t: P2MTables, page: int, x: int, count: int) -> None:
    """Set the directory's codes for the pages, from `page` on, of leaves `x` ... not yet made."""
    _set_codes(t, page, LAZY - x, as_int(-1), count)


@inner_kernel
def forget_codes(t: P2MTables, page: int, count: int) -> None:
    """Set the directory's codes for `count` pages from `page` on to that of an ordinary page."""
    _set_codes(t, page, as_int(NO_PAGE), as_int(0), count)


@inner_kernel
def _set_codes(t: P2MTables, page: int, code: int, step: int, count: int) -> None:
    """Set the directory's codes for the pages from `page` on to `code`, `code` + `step`, ..."""
    never_inline()
    done = as_int(0)
    while done < count:
        first = page + done
        i = first & ((1 << BLOCK_SHIFT) - 1)
        some = min((1 << BLOCK_SHIFT) - i, count - done)
        row = as_int(t.block_of[first >> BLOCK_SHIFT])
        if row < 0:
            row = _take_block(t, first >> BLOCK_SHIFT)
        codes = t.block_code[row, i : i + some]
        begin = code + step * done
        for k in range(some):
            codes[k] = begin + step * k
        done += some


@inner_kernel
def room_left(t: P2MTables) -> bool:
    """Return whether one more step of any loop has the slots and blocks it may need."""
    return t.state[0].num_slots + 6 <= len(t.words) and t.state[0].num_blocks + 6 <= len(
        t.block_code
    )


@inner_kernel
def take_slot(t: P2MTables, page: int) -> int:
    """Return the slot of `page`, given one (of zeros) if it had none."""
    slot = page_code(t, page)
    if slot < 0:
        slot = new_slot(t, page)
        row = t.words[slot]
        for i in range(len(row)):
            row[i] = 0
    return slot


@inner_kernel
def new_slot(t: P2MTables, page: int) -> int:
    """Return a slot for `page`, which has none: its words are to be written by the caller.

    A workspace is used again and again: what the slot was for last is forgotten here.
    """
    slot = t.state[0].num_slots
    t.state[0].num_slots = slot + 1
    t.slots[slot, P_PAGE] = page
    t.slots[slot, P_KIND] = ORDINARY
    t.slots[slot, P_LEAF] = -1
    t.slots[slot, P_EVENT] = 0
    t.slots[slot, P_CLEAN] = 0
    for i in range(t.own.shape[1]):
        t.own[slot, i] = 0
    set_page_code(t, page, slot)
    return slot


@inner_kernel
def fill_leaf(t: P2MTables, h: HostTables, slot: int, x: int) -> None:
    """Write leaf `x` as a function host gave it into `slot`, with who owns its frames."""
    shift = t.state[0].entries_shift
    saved = ((x + 1) << shift) - 1 <= t.state[0].saved_max_pfn
    if saved and given_row(h.par[0], x, t.words[slot]):
        for i in range(t.own.shape[1]):
            t.own[slot, i] = ~np.uint64(0)
    else:
        for i in range(1 << shift):
            mfn = layout_frame(h.par[0], t.state[0].saved_max_pfn, (x << shift) | i)
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
    slot = new_slot(t, as_int(t.leaf_page[x]))
    t.slots[slot, P_KIND] = LEAF
    fill_leaf(t, h, slot, x)
    return slot


@inner_kernel
def make_lazy(t: P2MTables, slot: int, x: int) -> bool:
    """Give the slot of leaf `x` back if it is the last one taken; return whether it is.

    Only where the leaf holds what the layout says of it.
    """
    if slot != t.state[0].num_slots - 1:
        return False
    t.state[0].num_slots = slot
    t.leaf_slot[x] = LAZY
    set_page_code(t, as_int(t.leaf_page[x]), LAZY - x)
    return True


@inner_kernel
def page_word(t: P2MTables, h: HostTables, page: int, i: int) -> int:
    """Return word `i` of a page of the guest: what it holds, zeros where nobody has written."""
    code = page_code(t, page)
    if code >= 0:
        return t.words[code, i]
    if code == NO_PAGE:
        return 0
    return layout_frame(
        h.par[0], t.state[0].saved_max_pfn, ((LAZY - code) << t.state[0].entries_shift) | i
    )


@inner_kernel
def stray_store(t: P2MTables, h: HostTables, page: int, i: int, word: int) -> None:
    """Store `word` into a page of the direct map that is not what the storer took it for."""
    slot = stray_slot(t, h, page)
    t.words[slot, i] = word
    t.state[0].stray_writes += 1


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
        t.state[0].wild = 1
    if t.slots[code, P_EVENT] != t.state[0].event:
        t.slots[code, P_EVENT] = t.state[0].event
        t.state[0].stray_pages += 1
    return code


@kernel
def reached_pages(t: P2MTables, words: Int64Array, out: Int64Array) -> None:
    """Write to `out` (int64[k]) the page that each of `words` reaches as an address, or NO_PAGE."""
    for k in range(len(words)):
        page = reached_page(t, words[k])
        out[k] = page if page < UNREACHABLE else NO_PAGE


@kernel
def poke_words(t: P2MTables, h: HostTables, pages: Int64Array, words: Int64Array) -> None:
    """Write `words`, int64[k, 3] of [page, index, word], whatever the pages are.

    `pages` are those and what the words reach as addresses: a page that a pointer leads to has a
    slot. There must be room for them. Ownership, m2p and presence stay.
    """
    for k in range(len(pages)):
        if page_code(t, pages[k]) == NO_PAGE:
            take_slot(t, pages[k])
    for k in range(len(words)):
        t.words[stray_slot(t, h, words[k, 0]), words[k, 1]] = words[k, 2]
