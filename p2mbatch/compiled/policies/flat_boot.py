"""How the eras of the linear p2m boot: `mfn_list` mapped anew as a flat table (linear-spec L3)."""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline
from p2mbatch.compiled.pages import make_lazy, page_code, take_slot
from p2mbatch.compiled.policies.flat import (
    BLOCK_SHIFT,
    MAPS,
    SLOTS,
    build,
    is_shared_leaf,
    is_shared_table,
    level1_of,
    mapped,
    move_hint,
    report,
    set_entry,
    set_entry_of,
    table_index,
    take_filled,
    take_in_a_row,
    take_page,
)
from p2mbatch.compiled.policies.three_level import (
    cache_all,
    cache_leaf,
    hang_lazy,
    move_boot_leaf,
    move_lazy_leaves,
    num_lazy,
    store_word,
)
from p2mbatch.compiled.status import OK
from p2mbatch.compiled.tables import (
    FUNCTION_HOST,
    LAZY,
    LEAF,
    NO_PAGE,
    ORDINARY,
    P_KIND,
    P_LEAF,
    TABLE,
    HostTables,
    P2MTables,
)

# What a leaf's PFNs are, all of them.
_REAL, _MISSING, _IDENTITY = 0, 1, 2


@inner_kernel
def boot_flat(t: P2MTables, h: HostTables, runs: Int64Array, hash_pages: int) -> int:
    """Map the loaded `mfn_list` as a flat table, build the list and report. Returns OK or a BUG_.

    `runs` (int64[1 + k, 2]) begins with how many there are of pages of the boot allocator's and how
    many 1:1 ones; those follow, then the extra memory: [first PFN, count] each. `hash_pages` are
    taken for nothing of the p2m.
    """
    never_inline()
    state = t.state[0]
    marked = 1 + runs[0, 0]
    pages, identity = runs[1:marked], runs[marked : marked + runs[0, 1]]
    extra = runs[marked + runs[0, 1] :]
    bit = as_int(1) << 62
    state.identity_bit = bit
    state.flag_bits = bit | (bit << 1)
    state.identity_beyond = 1
    state.max_p2m = state.max_p2m_pfn
    state.m2p_order = h.par[0].m2p_order
    state.hint = _fill_up(t, h, identity)
    status = _shared_pages(t, pages)
    if status == OK:
        status = _map_area(t, pages)
    for run in range(len(extra)):
        if status == OK:
            status = _add_extra(t, h, pages, extra[run, 0], extra[run, 0] + extra[run, 1])
    for _ in range(hash_pages):
        if status == OK:
            page = take_page(t, pages)
            status = OK if page >= 0 else -page
    if status == OK:
        # A literal 0 would be a type of its own, and everything below be compiled twice.
        status = build(t, h, pages, state.brk_closed)
    if status == OK:
        state.brk_closed = 1
        state.xen_max = state.max_p2m_pfn
        status = report(t, h)
    return status


@inner_kernel
def _add_extra(t: P2MTables, h: HostTables, pages: Int64Array, first: int, end: int) -> int:
    """Set extra memory from PFN `first` below `end` INVALID, page by page. Returns OK or a BUG_.

    Each of its slots gets a leaf by its first page, and no other page of it can fail.
    """
    never_inline()
    state = t.state[0]
    pfn = first
    while pfn < end:
        some = _add_many(t, h, pages, pfn, end)
        if some > 0:
            pfn += some << 9
            continue
        x = pfn >> 9
        stop = min((x + 1) << 9, end)
        grows = x < state.num_leaves and is_shared_leaf(t, x)
        status = set_entry_of(t, h, pages, pfn, INVALID)
        if status != OK:
            return status
        if grows:
            slot = as_int(t.leaf_slot[x])
            for i in range(pfn & (SLOTS - 1), (stop - 1 & (SLOTS - 1)) + 1):
                t.words[slot, i] = INVALID
            if h.par[0].kind == FUNCTION_HOST and stop - pfn == SLOTS:
                make_lazy(t, slot, x)
        else:
            for at in range(pfn + 1, stop):
                status = set_entry_of(t, h, pages, at, INVALID)
                if status != OK:
                    return status
        pfn = stop
    return OK


@inner_kernel
def _add_many(t: P2MTables, h: HostTables, pages: Int64Array, first: int, end: int) -> int:
    """Do what `_add_extra` does of a whole slot for as many as are alike, if any are.

    Those are 1:1 slots of a block that has a level-1 page of its own, on a function host: nothing
    but a page is taken for each, which is not made yet. Returns how many.
    """
    state = t.state[0]
    x = first >> 9
    if first & (SLOTS - 1) != 0 or h.par[0].kind != FUNCTION_HOST or state.top_mfn != NO_PAGE:
        return as_int(0)
    level1 = level1_of(t, x >> 9)
    stop = min(end >> 9, (x | (SLOTS - 1)) + 1, state.num_leaves)
    if is_shared_table(t, level1):
        return as_int(0)
    count = as_int(0)
    while x + count < stop and t.leaf_page[x + count] == state.identity:
        count += 1
    page, count = take_in_a_row(t, pages, count)
    if count > 0:
        hang_lazy(t, x, page, count)
        _map_in_a_row(t, level1, x, page, count)
        state.generation += 2 * state.reports_table * count
        state.num_grown += count
        move_hint(t, (x + count - 1) << 9)
    return count


@inner_kernel
def _fill_up(t: P2MTables, h: HostTables, identity: Int64Array) -> int:
    """Make the tail of `mfn_list` INVALID and mark the 1:1 runs; return its size in PFNs."""
    state = t.state[0]
    size = ((state.nr_pages + SLOTS - 1) >> 9) << 9
    for pfn in range(state.nr_pages, size):
        t.words[t.leaf_slot[pfn >> 9], pfn & (SLOTS - 1)] = INVALID
    for run in range(len(identity)):
        first = identity[run, 0]
        for pfn in range(first, min(first + identity[run, 1], size)):
            store_word(t, h, pfn, as_int(t.leaf_page[pfn >> 9]), pfn | state.identity_bit)
    return size


@inner_kernel
def _shared_pages(t: P2MTables, pages: Int64Array) -> int:
    """Take the two shared leaves and the two shared level-1 pages. Returns OK or a BUG_ code."""
    state = t.state[0]
    t.slots[take_slot(t, state.pgd), P_KIND] = TABLE
    page = take_filled(t, pages, LEAF, INVALID)
    if page < 0:
        return -page
    state.missing = page
    page = take_filled(t, pages, LEAF, INVALID)
    if page < 0:
        return -page
    state.identity = page
    page = take_filled(t, pages, TABLE, state.missing | MAPS)
    if page < 0:
        return -page
    state.missing_pte = page
    page = take_filled(t, pages, TABLE, state.identity | MAPS)
    if page < 0:
        return -page
    state.identity_pte = page
    return OK


@inner_kernel
def _kind_of(t: P2MTables, x: int) -> int:
    """Return what all PFNs of slot `x` are, by `mfn_list`; beyond it they are 1:1."""
    state = t.state[0]
    if x >= (state.nr_pages + SLOTS - 1) >> 9:
        return _IDENTITY
    code = page_code(t, state.mfn_list_pfn + x)
    if code <= LAZY:
        return _REAL
    row = t.words[code]
    kind = _kind_of_word(row[0], state.identity_bit)
    for i in range(1, SLOTS):
        if kind == _REAL or _kind_of_word(row[i], state.identity_bit) != kind:
            return _REAL
    return kind


@inner_kernel
def _kind_of_word(word: int, identity_bit: int) -> int:
    """Return what the PFN of a word of `mfn_list` is."""
    if word == INVALID:
        return _MISSING
    return _IDENTITY if word & identity_bit != 0 else _REAL


@inner_kernel
def _map_area(t: P2MTables, pages: Int64Array) -> int:
    """Map every slot of the area: `xen_rebuild_p2m_list`. Returns OK or a BUG_ code."""
    never_inline()
    state = t.state[0]
    size = (state.nr_pages + SLOTS - 1) >> 9
    num_blocks = state.max_p2m_pfn >> BLOCK_SHIFT
    for block in range(num_blocks):
        if block << 9 >= size:
            return _share_beyond(t, pages, as_int(block), num_blocks)
        kind = _kind_of(t, block << 9)
        i = 1
        while kind != _REAL and i < SLOTS:
            if _kind_of(t, (block << 9) + i) != kind:
                kind = _REAL
            i += 1
        if kind == _REAL:
            status = _map_block(t, pages, block)
        else:
            status = _share_block(t, pages, block, kind == _MISSING)
        if status != OK:
            return status
    return OK


@inner_kernel
def _share_beyond(t: P2MTables, pages: Int64Array, block: int, end: int) -> int:
    """Map blocks past `mfn_list` by the level-1 page of 1:1 PFNs. Returns OK or a BUG_ code."""
    never_inline()
    state = t.state[0]
    cache_all(t, block << 9, state.num_leaves, state.identity)
    while block < end:
        table = _level2_of(t, pages, block)
        if table < 0:
            return -table
        i = table_index(t, block, 2)
        row = t.words[page_code(t, table), i : i + end - block]
        for k in range(len(row)):
            row[k] = state.identity_pte | MAPS
        block += len(row)
    return OK


@inner_kernel
def _share_block(t: P2MTables, pages: Int64Array, block: int, missing: bool) -> int:
    """Map a block by a shared level-1 page. Returns OK or a BUG_ code."""
    state = t.state[0]
    table = _level2_of(t, pages, block)
    if table < 0:
        return -table
    set_entry(
        t, table, table_index(t, block, 2), state.missing_pte if missing else state.identity_pte
    )
    for x in range(block << 9, (block + 1) << 9):
        _forget_boot_leaf(t, x)
    cache_all(t, block << 9, (block + 1) << 9, state.missing if missing else state.identity)
    return OK


@inner_kernel
def _forget_boot_leaf(t: P2MTables, x: int) -> None:
    """Let the page of `mfn_list` that was leaf `x` be an ordinary one, as it is not copied."""
    if x >= (t.state[0].nr_pages + SLOTS - 1) >> 9:
        return
    slot = page_code(t, t.state[0].mfn_list_pfn + x)
    if slot >= 0:
        t.slots[slot, P_KIND] = ORDINARY
        t.slots[slot, P_LEAF] = -1


@inner_kernel
def _map_block(t: P2MTables, pages: Int64Array, block: int) -> int:
    """Map a block slot by slot. Returns OK or a BUG_ code."""
    state = t.state[0]
    level1 = as_int(NO_PAGE)
    x, end = block << 9, (block + 1) << 9
    while x < end:
        some = _map_many(t, pages, level1, x, end) if level1 != NO_PAGE else as_int(0)
        if some > 0:
            x += some
            continue
        kind = _kind_of(t, x)
        leaf = state.missing if kind == _MISSING else state.identity
        if kind == _REAL:
            leaf = _copy_leaf(t, pages, x)
            if leaf < 0:
                return -leaf
        else:
            _forget_boot_leaf(t, x)
        if level1 == NO_PAGE:
            # Page table pages are taken where an entry is needed: behind the first leaf's own.
            table = _level2_of(t, pages, block)
            if table < 0:
                return -table
            level1 = take_filled(t, pages, TABLE, as_int(0))
            if level1 < 0:
                return -level1
            set_entry(t, table, table_index(t, block, 2), level1)
        set_entry(t, level1, x & (SLOTS - 1), leaf)
        cache_leaf(t, x, leaf)
        x += 1
    return OK


@inner_kernel
def _map_many(t: P2MTables, pages: Int64Array, level1: int, x: int, end: int) -> int:
    """Do what `_map_block` does of one slot for as many as are alike from `x` on, if any are.

    Those are leaves of `mfn_list` that are not made yet, or slots past it. Returns how many.
    """
    state = t.state[0]
    if x >= (state.nr_pages + SLOTS - 1) >> 9:
        cache_all(t, x, end, state.identity)
        row = t.words[page_code(t, level1), x & (SLOTS - 1) :]
        for k in range(len(row)):
            row[k] = state.identity | MAPS
        return end - x
    page, count = take_in_a_row(t, pages, num_lazy(t, x, end))
    if count > 0:
        move_lazy_leaves(t, x, page, count)
        _map_in_a_row(t, level1, x, page, count)
    return count


@inner_kernel
def _map_in_a_row(t: P2MTables, level1: int, x: int, page: int, count: int) -> None:
    """Let `count` slots of one block from `x` on map the pages from `page` on."""
    row = t.words[page_code(t, level1), x & (SLOTS - 1) :]
    for k in range(count):
        row[k] = (page + k) | MAPS


@inner_kernel
def _copy_leaf(t: P2MTables, pages: Int64Array, x: int) -> int:
    """Copy slot `x` of `mfn_list` to a page of its own; return its PFN, or minus a BUG_ code.

    What it is copied from is an ordinary page from then on.
    """
    leaf = take_page(t, pages)
    if leaf >= 0:
        move_boot_leaf(t, x, leaf)
    return leaf


@inner_kernel
def _level2_of(t: P2MTables, pages: Int64Array, block: int) -> int:
    """Return the PFN of the level-2 page that maps a block, made if need be; or minus a BUG_."""
    table = t.state[0].pgd
    for k in range(2):
        index = table_index(t, block, 4 - k)
        page = mapped(t, table, index)
        if page == NO_PAGE:
            page = take_filled(t, pages, TABLE, as_int(0))
            if page < 0:
                return page
            set_entry(t, table, index, page)
        table = page
    return table
