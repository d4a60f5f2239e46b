"""The kernel before the change: the list's pages are found by old MFNs (model section 6)."""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
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
from p2mbatch.compiled.jit import inner_kernel, kernel, never_inline
from p2mbatch.compiled.lists import (
    FAULT_LIMIT,
    copy_mid,
    each_mid,
    extend_brk,
    mid_mfn_init,
    store_entry,
)
from p2mbatch.compiled.lookup import (
    lookup,
    lookup_parallel,
    mfn_to_virt,
    pfn_to_mfn,
    store_page,
)
from p2mbatch.compiled.pages import address, page_at, page_code, reached_page, stray_slot
from p2mbatch.compiled.policies.operations import Operations
from p2mbatch.compiled.status import FAULT_STORE, FAULT_TOP, NO_MEMORY, OK
from p2mbatch.compiled.tables import (
    LAZY,
    MID_MFN,
    ORDINARY,
    P_KIND,
    P_PAGE,
    UNREACHABLE,
    HostTables,
    P2MTables,
)


@inner_kernel
def _stale_mid(t: P2MTables, h: HostTables, x: int, stop: int) -> int:
    """Do leaves from `x` of one mid as the kernel did before the change: all, or one exactly."""
    never_inline()
    state = t.state[0]
    top = x >> state.entries_shift
    if state.wild != 0 or stop > state.num_leaves:
        return _stale_step(t, h, x)
    begin = x
    while x < stop and t.leaf_page[x] == state.missing:
        x += 1
    if x > begin:
        return x - begin
    where = mfn_to_virt(t, h, t.words[page_code(t, state.top_mfn), top])
    page = store_page(t, h, where)
    if where == address(t, state.mid_missing_mfn) or page >= UNREACHABLE:
        return _stale_step(t, h, x)
    slot = page_code(t, page)
    if slot <= LAZY or (slot >= 0 and t.slots[slot, P_KIND] not in (ORDINARY, MID_MFN)):
        # A page that this loop reads is about to be hit: every store must be seen by the next.
        return _stale_step(t, h, x)
    if page == t.true_mid_mfn[top]:
        copy_mid(t, h, x, stop, slot, True)
    else:
        slot = stray_slot(t, h, page)
        state.stray_writes += copy_mid(t, h, x, stop, slot, True)
    return stop - x


@inner_kernel
def _stale_step(t: P2MTables, h: HostTables, x: int) -> int:
    """Do leaf `x` as the kernel did before the change, each read and store in its order."""
    never_inline()
    state = t.state[0]
    shift = state.entries_shift
    top = x >> shift
    i = x & ((1 << shift) - 1)
    mid = reached_page(t, t.words[page_code(t, state.top), top])
    if mid >= UNREACHABLE:
        return FAULT_LIMIT + FAULT_TOP
    pointer = t.words[page_code(t, mid), i]
    if pointer == address(t, state.missing):
        return 1
    top_mfn = page_code(t, state.top_mfn)
    where = mfn_to_virt(t, h, t.words[top_mfn, top])
    if where == address(t, state.mid_missing_mfn):
        slot = extend_brk(t)
        if slot < 0:
            return slot
        t.slots[slot, P_KIND] = MID_MFN
        status = mid_mfn_init(t, h, slot)
        if status != OK:
            return FAULT_LIMIT + status
        page = t.slots[slot, P_PAGE]
        where = address(t, page)
        mfn = pfn_to_mfn(t, h, page)
        if mfn <= FAULT_TOP:
            return FAULT_LIMIT + mfn
        t.words[top_mfn, top] = mfn
        t.true_mid_mfn[top] = page
        state.num_mid_mfns += 1
        state.entries_written += 1
    mfn = pfn_to_mfn(t, h, page_at(t, pointer))
    if mfn <= FAULT_TOP:
        return FAULT_LIMIT + mfn
    page = store_page(t, h, where)
    if page >= UNREACHABLE:
        return FAULT_LIMIT + FAULT_STORE
    store_entry(t, h, top, page, i, mfn)
    state.entries_written += 1
    return 1


@kernel
def rebuild(t: P2MTables, h: HostTables, x: int) -> int:
    """Build the list from leaf `x` on: `xen_build_mfn_list_list` before the change.

    Returns as `each_mid` does, with what was stored left in place.
    """
    never_inline()
    return each_mid(t, h, x, _stale_mid)


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
        status = top_mfn_page(t, h)
    if status == OK:
        # A literal 0 would be a type of its own, and everything below be compiled twice.
        status = rebuild(t, h, t.state[0].brk_closed)
    return booted(t, h) if status == OK else status


@inner_kernel
def _grow(t: P2MTables, h: HostTables, x: int) -> int:
    """Grow the tree for leaf `x`: `alloc_p2m` before the change, the list's page by its old MFN."""
    never_inline()
    state = t.state[0]
    top = x >> state.entries_shift
    mid = mid_for(t, top)
    if mid < 0:
        return NO_MEMORY
    where = mfn_to_virt(t, h, t.words[page_code(t, state.top_mfn), top])
    if where == address(t, state.mid_missing_mfn):
        page = alloc_p2m_page(t)
        if page < 0:
            return NO_MEMORY
        where = address(t, page)
        status = install_mid_mfn(t, h, top, page)
        if status != OK:
            return status
    return leaf_for(t, h, mid, x, where)


@kernel
def set_runs(t: P2MTables, h: HostTables, runs: Int64Array, done: int) -> int:
    """Do `grow.set_each` before the change."""
    return set_each(t, h, runs, done, _grow)


@kernel
def grow_leaves(t: P2MTables, h: HostTables, leaves: Int64Array, lazy: bool, first: int) -> int:
    """Do `grow.populate_each` before the change."""
    return populate_each(t, h, leaves, lazy, first, _grow)


OPERATIONS = Operations(
    boot=boot,
    set_runs=set_runs,
    grow_leaves=grow_leaves,
    rebuild=rebuild,
    report=set_shared_info,
    get=lookup,
    get_parallel=lookup_parallel,
    get_row=p2m_words,
)
