"""The kernel after the change: the list's pages are known by their addresses (model section 6)."""

from __future__ import annotations

from numba import prange

from p2mbatch.base.arrays import Int32Array, Int64Array
from p2mbatch.compiled.boot import (
    booted,
    build_tree,
    first_list_page,
    set_shared_info,
    top_mfn_page,
)
from p2mbatch.compiled.grow import (
    alloc_p2m_page,
    install_mid_mfn,
    leaf_for,
    mid_for,
    populate_each,
    set_each,
)
from p2mbatch.compiled.inspect import p2m_words
from p2mbatch.compiled.jit import (
    as_int,
    inline_kernel,
    inner_kernel,
    kernel,
    never_inline,
    parallel_kernel,
)
from p2mbatch.compiled.lists import (
    FAULT_LIMIT,
    copy_mid,
    each_mid,
    extend_brk,
    fill_page,
    mid_mfn_init,
    num_leaves_listed,
)
from p2mbatch.compiled.lookup import (
    leaf_page_of,
    lookup,
    lookup_parallel,
    pfn_to_mfn,
    store_page,
)
from p2mbatch.compiled.loops import code_of, copy_each, copy_run, without_foreign_bit
from p2mbatch.compiled.pages import address, page_at, page_code
from p2mbatch.compiled.policies.operations import Operations
from p2mbatch.compiled.records import OneRecord, State
from p2mbatch.compiled.status import (
    BUG_MID_MFN_P,
    BUG_MIDIDX,
    BUG_TOP_MFN,
    FAULT_STORE,
    FAULT_TOP,
    NO_MEMORY,
    OK,
)
from p2mbatch.compiled.tables import (
    IMAGE_BASE,
    MID_MFN,
    NO_PAGE,
    P_KIND,
    P_PAGE,
    POINTER,
    UNREACHABLE,
    HostTables,
    P2MTables,
)


@inline_kernel
def _list_slots(t: P2MTables) -> tuple[int, int, int]:
    """Return the slots of `p2m_top`, `p2m_top_mfn_p` and `p2m_top_mfn`."""
    return (
        code_of(t.block_of, t.block_code, t.state[0].top),
        code_of(t.block_of, t.block_code, t.state[0].top_mfn_p),
        code_of(t.block_of, t.block_code, t.state[0].top_mfn),
    )


@inline_kernel
def _plain_page(state: State, where: int) -> int:
    """Return `pages.page_at` from the bare array."""
    if state.image_map != 0 and IMAGE_BASE <= where < 0:
        return (where - IMAGE_BASE) >> 12
    return ((where - state.va_base) >> 12) & state.va_mask


@inner_kernel
def _plain_present(t: P2MTables, page: int, tracked: int) -> bool:
    """Return whether a store through a list page whose leaf is resident gets there."""
    if t.state[0].presence == 0 or (t.state[0].image_map != 0 and IMAGE_BASE <= tracked < 0):
        return True
    if len(t.present) > 0:
        return page < len(t.present) and t.present[page] != 0
    shift = t.state[0].entries_shift
    i = page & ((1 << shift) - 1)
    return (int(t.own[t.leaf_slot[page >> shift], i >> 6]) >> int(i & 63)) & 1 != 0


@inner_kernel
def _plain_mid_mfn(state: State, leaf_slot: Int32Array, mid: int, tracked: int) -> int:
    """Return the page that the list has for a mid, or NO_PAGE where that is not plain.

    `mid` and `tracked` are the words of `p2m_top` and `p2m_top_mfn_p`. Both or neither must be the
    missing page, and the entry of the list's page must be in a resident leaf.
    """
    page = _plain_page(state, tracked)
    no_mid = _plain_page(state, mid) == state.mid_missing
    if no_mid != (page == state.mid_missing_mfn):
        return NO_PAGE
    x = page >> state.entries_shift
    if x >= len(leaf_slot) or leaf_slot[x] < 0:
        return NO_PAGE
    return as_int(page)


@inner_kernel
def rebuild_mid(
    state: OneRecord[State],
    words: Int64Array,
    leaf_slot: Int32Array,
    leaf_page: Int32Array,
    top_mfn: int,
    page: int,
    slot: int,
    x: int,
    stop: int,
) -> int:
    """Store one mid's part of the list; return how many entries, or -1 if it has not come through.

    `page` is the list's page for this mid, in `slot`; `top_mfn` the slot of `p2m_top_mfn`. What is
    stored before -1 is what the exact step stores too.
    """
    shift = state[0].entries_shift
    n = 1 << shift
    words[top_mfn, x >> shift] = without_foreign_bit(
        words[leaf_slot[page >> shift], page & (n - 1)]
    )
    if page == state[0].mid_missing_mfn:
        return 1
    row = words[slot]
    done = copy_run(words, leaf_slot, leaf_page, shift, x, stop, row)
    if done < stop:
        done = copy_each(words, leaf_slot, leaf_page, shift, done, stop, row)
    return stop - x + 1 if done == stop else -1


@inner_kernel
def rebuild_plain(t: P2MTables, x: int, end: int) -> int:
    """Build the list of a `tracked` guest from leaf `x` on; return the first leaf not done.

    `x` begins a mid. The exact `rebuild` goes on from there.
    """
    state = t.state[0]
    shift = state.entries_shift
    if state.wild != 0 or end > state.num_leaves:
        return x
    words, leaf_slot, leaf_page = t.words, t.leaf_slot, t.leaf_page
    top_slot, tracked, top_mfn = _list_slots(t)
    while x < end:
        top = x >> shift
        page = _plain_mid_mfn(state, leaf_slot, words[top_slot, top], words[tracked, top])
        if page == NO_PAGE or not (
            page == state.mid_missing_mfn or _plain_present(t, page, words[tracked, top])
        ):
            return x
        stop = min((top + 1) << shift, end)
        slot = code_of(t.block_of, t.block_code, page)
        written = rebuild_mid(t.state, words, leaf_slot, leaf_page, top_mfn, page, slot, x, stop)
        if written < 0:
            return x
        state.entries_written += written
        x = stop
    return x


@inner_kernel
def list_pages(t: P2MTables, end: int, pages: Int64Array, slots: Int64Array) -> bool:
    """Write the list's page of each mid below leaf `end` and its slot; whether all are plain.

    `pages` and `slots` are int64[mids]. Where this is true, a rebuild can meet no BUG, so that
    the order in which the mids are done does not show.
    """
    state = t.state[0]
    shift = state.entries_shift
    if state.wild != 0 or end > state.num_leaves:
        return False
    top_slot, tracked, _ = _list_slots(t)
    for top in range((end + (1 << shift) - 1) >> shift):
        pages[top] = _plain_mid_mfn(
            state, t.leaf_slot, t.words[top_slot, top], t.words[tracked, top]
        )
        if pages[top] == NO_PAGE or not (
            pages[top] == state.mid_missing_mfn
            or _plain_present(t, pages[top], t.words[tracked, top])
        ):
            return False
        slots[top] = code_of(t.block_of, t.block_code, pages[top])
    return refill_plain(t)


@inner_kernel
def refill_plain(t: P2MTables) -> bool:
    """Fill `p2m_mid_missing_mfn` with the present MFN of `p2m_missing`; whether it could."""
    missing = t.state[0].missing
    shift = t.state[0].entries_shift
    x = missing >> shift
    slot = code_of(t.block_of, t.block_code, t.state[0].mid_missing_mfn)
    if x >= len(t.leaf_slot) or t.leaf_slot[x] < 0 or slot < 0:
        return False
    mfn = without_foreign_bit(t.words[t.leaf_slot[x], missing & ((1 << shift) - 1)])
    for i in range(1 << shift):
        t.words[slot, i] = mfn
    return True


@inner_kernel
def _tracked_mid(t: P2MTables, h: HostTables, x: int, stop: int) -> int:
    """Do leaves `x` to `stop` of one mid as the kernel does after the change."""
    never_inline()
    state = t.state[0]
    shift = state.entries_shift
    n = 1 << shift
    top = x >> shift
    mid = page_at(t, t.words[page_code(t, state.top), top])
    tracked = page_code(t, state.top_mfn_p)
    mid_mfn = page_at(t, t.words[tracked, top])
    top_mfn = page_code(t, state.top_mfn)
    if mid == state.mid_missing:
        if x & (n - 1) != 0:
            return -BUG_MIDIDX
        if mid_mfn != state.mid_missing_mfn:
            return -BUG_MID_MFN_P
        mfn = pfn_to_mfn(t, h, mid_mfn)
        if mfn <= FAULT_TOP:
            return FAULT_LIMIT + mfn
        t.words[top_mfn, top] = mfn
        state.entries_written += 1
        return n
    if mid_mfn == state.mid_missing_mfn:
        slot = extend_brk(t)
        if slot < 0:
            return slot
        t.slots[slot, P_KIND] = MID_MFN
        status = mid_mfn_init(t, h, slot)
        if status != OK:
            return FAULT_LIMIT + status
        mid_mfn = t.slots[slot, P_PAGE]
        t.words[tracked, top] = address(t, mid_mfn)
        t.true_mid_mfn[top] = mid_mfn
        state.num_mid_mfns += 1
    mfn = pfn_to_mfn(t, h, mid_mfn)
    if mfn <= FAULT_TOP:
        return FAULT_LIMIT + mfn
    t.words[top_mfn, top] = mfn
    state.entries_written += 1
    reached = store_page(t, h, t.words[tracked, top]) < UNREACHABLE
    if state.wild == 0 and stop <= state.num_leaves:
        if not reached:
            return FAULT_LIMIT + FAULT_STORE
        copy_mid(t, h, x, stop, page_code(t, mid_mfn), False)
        return stop - x
    leaf = leaf_page_of(t, x)
    if leaf < 0:
        return FAULT_LIMIT + leaf
    mfn = pfn_to_mfn(t, h, leaf)
    if mfn <= FAULT_TOP:
        return FAULT_LIMIT + mfn
    if not reached:
        return FAULT_LIMIT + FAULT_STORE
    t.words[page_code(t, mid_mfn), x & (n - 1)] = mfn
    state.entries_written += 1
    return 1


@kernel
def rebuild(t: P2MTables, h: HostTables, x: int) -> int:
    """Build the list from leaf `x` on: `xen_build_mfn_list_list` after the change.

    Returns as `each_mid` does, with what was stored left in place. Only a call with `x` 0 refills
    `p2m_mid_missing_mfn`.
    """
    never_inline()
    state = t.state[0]
    if state.brk_closed != 0:
        if x == 0:
            status = mid_mfn_init(t, h, page_code(t, state.mid_missing_mfn))
            if status != OK:
                return status
        if x & ((1 << state.entries_shift) - 1) == 0:
            begins = x == 0
            x = rebuild_plain(t, x, num_leaves_listed(t))
            if begins:
                state.listed = x
                state.listed_event = state.event
    return each_mid(t, h, x, _tracked_mid)


@parallel_kernel
def rebuild_mids(t: P2MTables, end: int, pages: Int64Array, slots: Int64Array) -> int:
    """Build the list below leaf `end` on all cores; return the entries written, or -1 if not plain.

    `pages` and `slots` are workspaces, int64[mids].
    """
    if not list_pages(t, end, pages, slots):
        return -1
    state, words, leaf_slot, leaf_page = t.state, t.words, t.leaf_slot, t.leaf_page
    shift = state[0].entries_shift
    top_mfn = code_of(t.block_of, t.block_code, state[0].top_mfn)
    written = 0
    odd = 0
    for top in prange(len(pages)):
        # What prange counts with is unsigned, and mixed with an int64 it would become a float.
        x = as_int(top) << shift
        stop = min(x + (1 << shift), end)
        count = rebuild_mid(
            state, words, leaf_slot, leaf_page, top_mfn, pages[top], slots[top], x, stop
        )
        written += count
        if count < 0:
            odd += 1
    if odd != 0:
        return -1
    state[0].listed = end
    state[0].listed_event = state[0].event
    return written


# --- boot and growth ---------------------------------------------------------------------------


@kernel
def boot(t: P2MTables, h: HostTables, ranges: Int64Array) -> int:
    """Build the tree and the first list (model section 4). Returns OK, a BUG_ or a FAULT_ code.

    No `ranges` are marked: this kernel has no 1:1 entries.
    """
    status = build_tree(t, h)
    if status == OK:
        status = first_list_page(t, h)
    if status == OK:
        status = _tracking_page(t)
    if status == OK:
        status = top_mfn_page(t, h)
    if status == OK:
        # A literal 0 would be a type of its own, and everything below be compiled twice.
        status = rebuild(t, h, t.state[0].brk_closed)
    return booted(t, h) if status == OK else status


@inner_kernel
def _tracking_page(t: P2MTables) -> int:
    """Make `p2m_top_mfn_p`, which has the address of each mid's page of the list."""
    slot = extend_brk(t)
    if slot < 0:
        return -slot
    t.slots[slot, P_KIND] = POINTER
    t.state[0].top_mfn_p = t.slots[slot, P_PAGE]
    fill_page(t, slot, address(t, t.state[0].mid_missing_mfn))
    return OK


@inner_kernel
def _grow(t: P2MTables, h: HostTables, x: int) -> int:
    """Grow the tree for leaf `x` (model section 5). Source: kernel `alloc_p2m`."""
    never_inline()
    state = t.state[0]
    top = x >> state.entries_shift
    mid = mid_for(t, top)
    if mid < 0:
        return NO_MEMORY
    tracked = page_code(t, state.top_mfn_p)
    mfn = pfn_to_mfn(t, h, page_at(t, t.words[tracked, top]))
    if mfn <= FAULT_TOP:
        return mfn
    if mfn != t.words[page_code(t, state.top_mfn), top]:
        return BUG_TOP_MFN
    where = t.words[tracked, top]
    if where == address(t, state.mid_missing_mfn):
        page = alloc_p2m_page(t)
        if page < 0:
            return NO_MEMORY
        where = address(t, page)
        status = install_mid_mfn(t, h, top, page)
        if status != OK:
            return status
        if t.true_mid_mfn[top] == page:
            t.words[tracked, top] = where
    return leaf_for(t, h, mid, x, where)


@kernel
def set_runs(t: P2MTables, h: HostTables, runs: Int64Array, done: int) -> int:
    """Do `grow.set_each` after the change."""
    return set_each(t, h, runs, done, _grow)


@kernel
def grow_leaves(t: P2MTables, h: HostTables, leaves: Int64Array, lazy: bool, first: int) -> int:
    """Do `grow.populate_each` after the change."""
    return populate_each(t, h, leaves, lazy, first, _grow)


OPERATIONS = Operations(
    boot=boot,
    set_runs=set_runs,
    grow_leaves=grow_leaves,
    rebuild=rebuild,
    rebuild_mids=rebuild_mids,
    report=set_shared_info,
    get=lookup,
    get_parallel=lookup_parallel,
    get_row=p2m_words,
)
