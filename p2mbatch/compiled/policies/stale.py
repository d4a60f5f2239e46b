"""The rebuild before the change: the list's pages found by old MFNs (model section 6)."""

from __future__ import annotations

from p2mbatch.compiled.jit import inner_kernel, never_inline
from p2mbatch.compiled.lookup import mfn_to_virt, pfn_to_mfn, store_page
from p2mbatch.compiled.pages import address, page_at, page_code, reached_page, stray_slot
from p2mbatch.compiled.policies.common import (
    FAULT_LIMIT,
    copy_mid,
    extend_brk,
    mid_mfn_init,
    store_entry,
)
from p2mbatch.compiled.status import FAULT_STORE, FAULT_TOP, OK
from p2mbatch.compiled.tables import (
    LAZY,
    MID_MFN,
    ORDINARY,
    P_KIND,
    P_PAGE,
    S_ENTRIES_SHIFT,
    S_ENTRIES_WRITTEN,
    S_MID_MISSING_MFN,
    S_MISSING,
    S_NUM_LEAVES,
    S_NUM_MID_MFNS,
    S_STRAY_WRITES,
    S_TOP,
    S_TOP_MFN,
    S_WILD,
    UNREACHABLE,
    HostTables,
    P2MTables,
)


@inner_kernel
def stale_mid(t: P2MTables, h: HostTables, x: int, stop: int) -> int:
    """Do leaves from `x` of one mid as the kernel did before the change: all, or one exactly."""
    never_inline()
    state = t.state
    top = x >> state[S_ENTRIES_SHIFT]
    if state[S_WILD] != 0 or stop > state[S_NUM_LEAVES]:
        return _stale_step(t, h, x)
    begin = x
    while x < stop and t.leaf_page[x] == state[S_MISSING]:
        x += 1
    if x > begin:
        return x - begin
    where = mfn_to_virt(t, h, t.words[page_code(t, state[S_TOP_MFN]), top])
    page = store_page(t, h, where)
    if where == address(t, state[S_MID_MISSING_MFN]) or page >= UNREACHABLE:
        return _stale_step(t, h, x)
    slot = page_code(t, page)
    if slot <= LAZY or (slot >= 0 and t.slots[slot, P_KIND] not in (ORDINARY, MID_MFN)):
        # A page that this loop reads is about to be hit: every store must be seen by the next.
        return _stale_step(t, h, x)
    if page == t.true_mid_mfn[top]:
        copy_mid(t, h, x, stop, slot)
    else:
        slot = stray_slot(t, h, page)
        state[S_STRAY_WRITES] += copy_mid(t, h, x, stop, slot)
    return stop - x


@inner_kernel
def _stale_step(t: P2MTables, h: HostTables, x: int) -> int:
    """Do leaf `x` as the kernel did before the change, each read and store in its order."""
    never_inline()
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    top = x >> shift
    i = x & ((1 << shift) - 1)
    mid = reached_page(t, t.words[page_code(t, state[S_TOP]), top])
    if mid >= UNREACHABLE:
        return FAULT_LIMIT + FAULT_TOP
    pointer = t.words[page_code(t, mid), i]
    if pointer == address(t, state[S_MISSING]):
        return 1
    top_mfn = page_code(t, state[S_TOP_MFN])
    where = mfn_to_virt(t, h, t.words[top_mfn, top])
    if where == address(t, state[S_MID_MISSING_MFN]):
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
        state[S_NUM_MID_MFNS] += 1
        state[S_ENTRIES_WRITTEN] += 1
    mfn = pfn_to_mfn(t, h, page_at(t, pointer))
    if mfn <= FAULT_TOP:
        return FAULT_LIMIT + mfn
    page = store_page(t, h, where)
    if page >= UNREACHABLE:
        return FAULT_LIMIT + FAULT_STORE
    store_entry(t, h, top, page, i, mfn)
    state[S_ENTRIES_WRITTEN] += 1
    return 1
