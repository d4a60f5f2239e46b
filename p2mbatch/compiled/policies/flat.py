"""What the eras of the linear p2m share: its page tables, the list, growing, one entry set.

Source: linear-spec L4 to L6. A page table entry is kept as the PFN of what it maps and shown as
that page's present MFN: a restore translates entries PFN for PFN. Lookups go by which page a leaf
is, as in a tree of three levels, and are those of `three_lookup`.
"""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.grow import alloc_p2m_page
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel, never_inline
from p2mbatch.compiled.lists import filled_slot
from p2mbatch.compiled.loops import copy_words
from p2mbatch.compiled.pages import address, page_code, room_left, take_slot
from p2mbatch.compiled.policies.three_level import cache_leaf, set_each_word, store_word
from p2mbatch.compiled.policies.three_list import refill, store_leaves, track
from p2mbatch.compiled.policies.three_lookup import mfn_of
from p2mbatch.compiled.status import (
    BUG_MID_MFN_P,
    BUG_PANIC,
    BUG_PTEP,
    BUG_SET,
    BUG_TOP_MFN,
    FAULT_LIST,
    MORE_ROOM,
    NO_MEMORY,
    OK,
)
from p2mbatch.compiled.tables import (
    LEAF,
    MID_MFN,
    NO_PAGE,
    P_CLEAN,
    P_LEAF,
    POINTER,
    TABLE,
    TOP_MFN,
    HostTables,
    P2MTables,
)

SLOTS = 512
"""Leaves that one level-1 page maps: a block."""

BLOCK_SHIFT = 18
"""log2 of the PFNs of a block."""

MAPS = 1 << 62
"""What marks an entry of a page table page, beside the PFN of what it maps; an absent one is 0."""

# --- page tables -------------------------------------------------------------------------------


@inner_kernel
def mapped(t: P2MTables, table: int, index: int) -> int:
    """Return the PFN that an entry of a page table page maps, or NO_PAGE."""
    word = t.words[page_code(t, table), index]
    return word & (MAPS - 1) if word != 0 else as_int(NO_PAGE)


@inner_kernel
def set_entry(t: P2MTables, table: int, index: int, page: int) -> None:
    """Let an entry of a page table page map `page`."""
    t.words[page_code(t, table), index] = page | MAPS


@inner_kernel
def table_index(t: P2MTables, block: int, level: int) -> int:
    """Return the index that the address of a block's table has at a level from 2 to 4."""
    where = t.state[0].p2m_vaddr + (block << 21)
    return (where >> (9 * level + 3)) & (SLOTS - 1)


@inner_kernel
def level1_of(t: P2MTables, block: int) -> int:
    """Return the PFN of a block's level-1 page."""
    table = t.state[0].pgd
    for k in range(3):
        table = mapped(t, table, table_index(t, block, 4 - k))
    return table


@inner_kernel
def is_shared_table(t: P2MTables, page: int) -> bool:
    """Return whether a level-1 page is one that many blocks share."""
    return page == t.state[0].missing_pte or page == t.state[0].identity_pte


@inner_kernel
def take_page(t: P2MTables, pages: Int64Array) -> int:
    """Return the next page, or minus BUG_PANIC or NO_MEMORY.

    While booting from `pages` (int64[k, 2]: first PFN, count), later from the pool.
    """
    state = t.state[0]
    if state.brk_closed != 0:
        page = alloc_p2m_page(t)
        return page if page >= 0 else -NO_MEMORY
    page, some = take_in_a_row(t, pages, as_int(1))
    return page if some > 0 else as_int(-BUG_PANIC)


@inner_kernel
def take_in_a_row(t: P2MTables, pages: Int64Array, count: int) -> tuple[int, int]:
    """Do `take_page` while booting up to `count` times, as far as pages lie in a row.

    Returns the first page and how many there are, which may be none.
    """
    state = t.state[0]
    skip = state.boot_used
    for run in range(len(pages)):
        if skip < pages[run, 1]:
            some = min(count, pages[run, 1] - skip)
            state.boot_used += some
            return as_int(pages[run, 0] + skip), as_int(some)
        skip -= pages[run, 1]
    return as_int(NO_PAGE), as_int(0)


@inner_kernel
def take_filled(t: P2MTables, pages: Int64Array, kind: int, word: int) -> int:
    """Do `take_page` and fill what it gives with `word`."""
    page = take_page(t, pages)
    if page >= 0:
        filled_slot(t, page, kind, word)
    return page


# --- xen_build_mfn_list_list -------------------------------------------------------------------


@inner_kernel
def build(t: P2MTables, h: HostTables, pages: Int64Array, x: int) -> int:
    """Build the list from slot `x` on, a block's first. Returns as `rebuild`."""
    never_inline()
    state = t.state[0]
    if state.no_list != 0:
        return OK
    if x == 0:
        if not room_left(t):
            state.position = 0
            return MORE_ROOM
        if state.top_mfn == NO_PAGE:
            status = _first_pages(t, h, pages)
            if status != OK:
                return status
        else:
            refill(t, h)
    end = min(state.max_p2m_pfn >> 9, SLOTS * SLOTS)
    while x < end:
        x = build_shared(t, h, x >> 9, end >> 9) << 9
        if x == end:
            return OK
        if not room_left(t):
            state.position = x
            return MORE_ROOM
        status = _build_block(t, h, pages, x >> 9)
        if status != OK:
            return status
        x += SLOTS
    return OK


@inner_kernel
def build_shared(t: P2MTables, h: HostTables, block: int, end: int) -> int:
    """Do `_build_block` from `block` on, below `end`, as long as there is nothing but an entry.

    Those blocks share a level-1 page and have none of the list's; returns the first that does not.
    """
    never_inline()
    state = t.state[0]
    no_page = as_int(state.mid_missing_mfn)
    mfn = mfn_of(t, h, no_page)
    tops, lists = t.words[page_code(t, state.top_mfn)], t.true_mid_mfn
    missing, identity = state.missing_pte | MAPS, state.identity_pte | MAPS
    while block < end:
        table = mapped(t, state.pgd, table_index(t, block, 4))
        i = table_index(t, block, 2)
        row = t.words[page_code(t, mapped(t, table, table_index(t, block, 3))), i:]
        count = min(SLOTS - i, end - block)
        k = as_int(0)
        while k < count and (row[k] == identity or row[k] == missing):
            if lists[block + k] != no_page:
                break
            tops[block + k] = mfn
            k += 1
        state.entries_written += k
        block += k
        if k < count:
            break
    return block


@inner_kernel
def _no_list_page(page: int) -> int:
    """Return the status that a failed `take_page` means for the list: nobody looks at NULL."""
    return FAULT_LIST if page == -NO_MEMORY else -page


@inner_kernel
def _first_pages(t: P2MTables, h: HostTables, pages: Int64Array) -> int:
    """Take the list's own pages, each filled before the next is taken."""
    state = t.state[0]
    page = take_filled(t, pages, MID_MFN, mfn_of(t, h, state.missing))
    if page < 0:
        return _no_list_page(page)
    state.mid_missing_mfn = page
    t.true_mid_mfn[:] = page
    page = take_filled(t, pages, POINTER, address(t, page))
    if page < 0:
        return _no_list_page(page)
    state.top_mfn_p = page
    page = take_filled(t, pages, TOP_MFN, mfn_of(t, h, state.mid_missing_mfn))
    if page < 0:
        return _no_list_page(page)
    state.top_mfn = page
    return OK


@inner_kernel
def _build_block(t: P2MTables, h: HostTables, pages: Int64Array, block: int) -> int:
    """Build the list for one block. Returns OK, a BUG_ or a FAULT_ code."""
    never_inline()
    state = t.state[0]
    page = as_int(t.true_mid_mfn[block])
    top_mfn = page_code(t, state.top_mfn)
    if is_shared_table(t, level1_of(t, block)):
        if page != state.mid_missing_mfn:
            return BUG_MID_MFN_P
        t.words[top_mfn, block] = mfn_of(t, h, page)
        state.entries_written += 1
        return OK
    if page == state.mid_missing_mfn:
        page = take_page(t, pages)
        if page < 0:
            return _no_list_page(page)
        track(t, h, block, take_slot(t, page))
    t.words[top_mfn, block] = mfn_of(t, h, page)
    store_leaves(t, h, t.words[page_code(t, page)], block << 9, (block + 1) << 9)
    state.entries_written += SLOTS + 1
    return OK


@kernel
def rebuild(t: P2MTables, h: HostTables, x: int) -> int:
    """Build the list from slot `x` on, unless the start flag says that none is kept.

    Returns OK, a BUG_ or FAULT_ code, or MORE_ROOM with `State.position` the slot to go on from.
    """
    return build(t, h, t.pool, x)


@kernel
def report(t: P2MTables, h: HostTables) -> int:
    """Set what the toolstack finds the table and the list by (L6). Returns OK."""
    state = t.state[0]
    state.shared_fll = mfn_of(t, h, state.top_mfn) if state.no_list == 0 else INVALID
    if state.reports_table == 0:
        state.shared_max = state.max_p2m_pfn
        return OK
    state.shared_max = state.hint
    state.generation = 0
    state.shared_vaddr = state.p2m_vaddr
    state.shared_cr3 = mfn_of(t, h, state.pgd)
    return OK


# --- set_phys_to_machine and xen_alloc_p2m_entry -----------------------------------------------


@inner_kernel
def _own_table(t: P2MTables, pages: Int64Array, block: int) -> int:
    """Give a block a level-1 page of its own if it has none. Returns OK, or as `grow`."""
    state = t.state[0]
    shared = level1_of(t, block)
    if not is_shared_table(t, shared):
        return OK
    page = take_filled(t, pages, TABLE, as_int(0))
    if page < 0:
        return -page
    copy_words(t.words[page_code(t, shared)], t.words[page_code(t, page)])
    table = mapped(t, state.pgd, table_index(t, block, 4))
    set_entry(t, mapped(t, table, table_index(t, block, 3)), table_index(t, block, 2), page)
    state.generation += 2 * state.reports_table
    return OK


@inner_kernel
def _own_list_page(t: P2MTables, h: HostTables, pages: Int64Array, block: int) -> int:
    """Give a block a page of the list if it has none. Returns OK, or as `grow`."""
    state = t.state[0]
    page = as_int(t.true_mid_mfn[block])
    top_mfn = page_code(t, state.top_mfn)
    if mfn_of(t, h, page) != t.words[top_mfn, block]:
        return BUG_TOP_MFN
    if page == state.mid_missing_mfn:
        page = take_page(t, pages)
        if page < 0:
            return -page
        track(t, h, block, take_slot(t, page))
        t.words[top_mfn, block] = mfn_of(t, h, page)
    return OK


@inner_kernel
def _own_leaf(t: P2MTables, pages: Int64Array, x: int) -> int:
    """Give slot `x`, which has a shared leaf, one of its own. Returns OK, or as `grow`."""
    state = t.state[0]
    was_identity = t.leaf_page[x] == state.identity
    leaf = take_filled(t, pages, LEAF, INVALID)
    if leaf < 0:
        return -leaf
    slot = page_code(t, leaf)
    t.slots[slot, P_LEAF] = x
    t.slots[slot, P_CLEAN] = 1
    if was_identity:
        for i in range(SLOTS):
            t.words[slot, i] = ((x << 9) | i) | state.identity_bit
    set_entry(t, level1_of(t, x >> 9), x & (SLOTS - 1), leaf)
    cache_leaf(t, x, leaf)
    state.generation += 2 * state.reports_table
    state.num_grown += 1
    return OK


@inner_kernel
def grow(t: P2MTables, h: HostTables, pages: Int64Array, pfn: int) -> int:
    """Give `pfn` a leaf of its own: `xen_alloc_p2m_entry`. Returns OK, a BUG_ code or NO_MEMORY."""
    never_inline()
    state = t.state[0]
    x = pfn >> 9
    status = _own_table(t, pages, x >> 9)
    listed = state.top_mfn != NO_PAGE and x < SLOTS * SLOTS
    if status == OK and listed:
        status = _own_list_page(t, h, pages, x >> 9)
    if status == OK and is_shared_leaf(t, x):
        status = _own_leaf(t, pages, x)
        if status == OK and listed:
            row = t.words[page_code(t, as_int(t.true_mid_mfn[x >> 9]))]
            row[x & (SLOTS - 1)] = mfn_of(t, h, as_int(t.leaf_page[x]))
    if status == OK:
        move_hint(t, pfn)
    return status


@inner_kernel
def grow_slot(t: P2MTables, h: HostTables, x: int) -> int:
    """Do `grow` for the first page of slot `x`, after boot."""
    return grow(t, h, t.pool, x << 9)


@inner_kernel
def is_shared_leaf(t: P2MTables, x: int) -> bool:
    """Return whether slot `x` of the table has one of the shared leaves."""
    return t.leaf_page[x] == t.state[0].missing or t.leaf_page[x] == t.state[0].identity


@inner_kernel
def move_hint(t: P2MTables, pfn: int) -> None:
    """Raise the hint past a page that the table grew for, and report it at once (L5)."""
    state = t.state[0]
    before = state.hint
    if state.hint_rounds != 0:
        if pfn >= before:
            state.hint = ((pfn >> 9) + 1) << 9
    elif state.reports_table != 0 and pfn > before:
        state.hint = pfn
    if state.hint != before:
        state.shared_max = state.hint


@inner_kernel
def set_entry_of(t: P2MTables, h: HostTables, pages: Int64Array, pfn: int, word: int) -> int:
    """Set one entry. Returns OK, a BUG_ code, or NO_MEMORY (it returned false)."""
    state = t.state[0]
    if pfn >= state.max_p2m_pfn:
        if word == INVALID:
            return OK
        return BUG_PTEP if state.hint_rounds != 0 else BUG_SET
    x = pfn >> 9
    if is_shared_leaf(t, x):
        same = pfn | state.identity_bit if t.leaf_page[x] == state.identity else INVALID
        if word == same:
            return OK
        status = grow(t, h, pages, pfn)
        if status != OK:
            return status
    store_word(t, h, pfn, as_int(t.leaf_page[x]), word)
    return OK


@inner_kernel
def _set_one(t: P2MTables, h: HostTables, pfn: int, word: int) -> int:
    """Do `set_entry_of` after boot."""
    return set_entry_of(t, h, t.pool, pfn, word)


@kernel
def set_runs(t: P2MTables, h: HostTables, runs: Int64Array, done: int) -> int:
    """Do `set_each_word` in a linear p2m."""
    return set_each_word(t, h, runs, done, _set_one)
