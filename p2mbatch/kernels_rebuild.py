"""Compiled kernels that build the mfn list list: `xen_build_mfn_list_list`, by policy.

Every loop follows the kernel's own order of reads and stores, because a stray write damages what
the same loop reads next. Where nothing that is read can be hit, a whole mid page is copied at once
(`_copy_mid`); `_tracked_mid` and `_stale_step` are the exact steps for all other cases.
"""

from __future__ import annotations

from p2mbatch._jit import as_int, inner_kernel, kernel, never_inline
from p2mbatch.geometry import FOREIGN_FRAME_BIT, INVALID
from p2mbatch.kernels import (
    BUG_BRK_CLOSED,
    BUG_BRK_OVERFLOW,
    BUG_MID_MFN_P,
    BUG_MIDIDX,
    FAULT_STORE,
    FAULT_TOP,
    MORE_ROOM,
    OK,
    address,
    leaf_page_of,
    mfn_to_page,
    page_at,
    page_code,
    pfn_to_mfn,
    room_left,
    stray_slot,
    stray_store,
    take_slot,
)
from p2mbatch.kernels_plain import copy_run, rebuild_plain
from p2mbatch.tables import (
    LAZY,
    MID_MFN,
    ORDINARY,
    P_KIND,
    P_PAGE,
    S_BRK_CLOSED,
    S_BRK_PAGES,
    S_BRK_PFN,
    S_BRK_USED,
    S_DIRECTMAP,
    S_ENTRIES_SHIFT,
    S_ENTRIES_WRITTEN,
    S_MID_MISSING,
    S_MID_MISSING_MFN,
    S_MISSING,
    S_NUM_LEAVES,
    S_NUM_MID_MFNS,
    S_POLICY,
    S_POSITION,
    S_STRAY_WRITES,
    S_TOP,
    S_TOP_MFN,
    S_TOP_MFN_P,
    S_WILD,
    S_XEN_MAX,
    STALE,
    HostTables,
    P2MTables,
)

# --- memory for structures ---------------------------------------------------------------------


@inner_kernel
def extend_brk(t: P2MTables) -> int:
    """Return the slot of the next brk page, or minus the BUG's code."""
    state = t.state
    if state[S_BRK_CLOSED] != 0:
        return -BUG_BRK_CLOSED
    if state[S_BRK_USED] >= state[S_BRK_PAGES]:
        return -BUG_BRK_OVERFLOW
    page = state[S_BRK_PFN] + state[S_BRK_USED]
    state[S_BRK_USED] += 1
    return take_slot(t, page)


@inner_kernel
def fill_page(t: P2MTables, slot: int, word: int) -> None:
    """Write `word` to every entry of a page."""
    for i in range(t.words.shape[1]):
        t.words[slot, i] = word


@inner_kernel
def mid_mfn_init(t: P2MTables, h: HostTables, slot: int) -> int:
    """Fill a mid_mfn page with the present MFN of `p2m_missing`; return OK or a FAULT_ code."""
    never_inline()
    mfn = pfn_to_mfn(t, h, t.state[S_MISSING])
    if mfn <= FAULT_TOP:
        return mfn
    fill_page(t, slot, mfn)
    return OK


# --- xen_build_mfn_list_list -------------------------------------------------------------------


@kernel
def rebuild(t: P2MTables, h: HostTables, x: int) -> int:
    """Build the mfn list list from leaf `x` on, by the guest's policy (model section 6).

    Source: kernel `xen_build_mfn_list_list`, before (`stale`) and after the change. Returns OK, a
    BUG_ or FAULT_ code with what was stored left in place, or MORE_ROOM with `state[S_POSITION]`
    the leaf to go on from. Only a call with `x` 0 refills `p2m_mid_missing_mfn`.
    """
    never_inline()
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    n = 1 << shift
    stale = state[S_POLICY] == STALE
    end = (state[S_XEN_MAX] + n - 1) >> shift
    if x == 0 and state[S_BRK_CLOSED] != 0 and not stale:
        status = mid_mfn_init(t, h, page_code(t, state[S_MID_MISSING_MFN]))
        if status != OK:
            return status
    if not stale and x & (n - 1) == 0 and state[S_BRK_CLOSED] != 0:
        x = rebuild_plain(t, x, end)
    while x < end:
        if not room_left(t):
            state[S_POSITION] = x
            return MORE_ROOM
        stop = min((x | (n - 1)) + 1, end)
        step = _stale_mid(t, h, x, stop) if stale else _tracked_mid(t, h, x, stop)
        if step <= 0:
            return -step if step > FAULT_LIMIT else step - FAULT_LIMIT
        x += step
    return OK


# A step returns how many leaves it did, minus a BUG's code, or a FAULT_ code moved below those.
FAULT_LIMIT = -100


@inner_kernel
def _tracked_mid(t: P2MTables, h: HostTables, x: int, stop: int) -> int:
    """Do leaves `x` to `stop` of one mid as the kernel does after the change."""
    never_inline()
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    n = 1 << shift
    top = x >> shift
    mid = page_at(t, t.words[page_code(t, state[S_TOP]), top])
    tracked = page_code(t, state[S_TOP_MFN_P])
    mid_mfn = page_at(t, t.words[tracked, top])
    top_mfn = page_code(t, state[S_TOP_MFN])
    if mid == state[S_MID_MISSING]:
        if x & (n - 1) != 0:
            return -BUG_MIDIDX
        if mid_mfn != state[S_MID_MISSING_MFN]:
            return -BUG_MID_MFN_P
        mfn = pfn_to_mfn(t, h, mid_mfn)
        if mfn <= FAULT_TOP:
            return FAULT_LIMIT + mfn
        t.words[top_mfn, top] = mfn
        state[S_ENTRIES_WRITTEN] += 1
        return n
    if mid_mfn == state[S_MID_MISSING_MFN]:
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
        state[S_NUM_MID_MFNS] += 1
    mfn = pfn_to_mfn(t, h, mid_mfn)
    if mfn <= FAULT_TOP:
        return FAULT_LIMIT + mfn
    t.words[top_mfn, top] = mfn
    state[S_ENTRIES_WRITTEN] += 1
    if state[S_WILD] == 0 and stop <= state[S_NUM_LEAVES]:
        _copy_mid(t, h, x, stop, page_code(t, mid_mfn))
        return stop - x
    leaf = leaf_page_of(t, x)
    if leaf < 0:
        return FAULT_LIMIT + leaf
    mfn = pfn_to_mfn(t, h, leaf)
    if mfn <= FAULT_TOP:
        return FAULT_LIMIT + mfn
    t.words[page_code(t, mid_mfn), x & (n - 1)] = mfn
    state[S_ENTRIES_WRITTEN] += 1
    return 1


@inner_kernel
def _copy_mid(t: P2MTables, h: HostTables, x: int, stop: int, slot: int) -> int:
    """Store the MFNs of leaves `x` to `stop` of one mid in the page in `slot`; return how many.

    Only for a tree whose pointers are sound and a page whose words nothing here reads.
    """
    never_inline()
    shift = t.state[S_ENTRIES_SHIFT]
    n = 1 << shift
    row = t.words[slot]
    missing = t.state[S_MISSING]
    missing_mfn = pfn_to_mfn(t, h, missing)
    # Before the change the kernel passed over missing leaves; and `p2m_missing` may well be the
    # page beside the last of mfn_list.
    skip_missing = t.state[S_POLICY] == STALE
    first = as_int(t.leaf_page[x])
    k = x
    if not (skip_missing and first <= missing < first + stop - x):
        k = copy_run(t.words, t.leaf_slot, t.leaf_page, shift, x, stop, row)
    done = k - x
    while k < stop:
        pfn = as_int(t.leaf_page[k])
        if pfn == missing:
            if not skip_missing:
                row[k & (n - 1)] = missing_mfn
                done += 1
        else:
            source = LAZY
            if pfn >> shift < t.state[S_NUM_LEAVES]:
                source = as_int(t.leaf_slot[pfn >> shift])
            if source >= 0:
                entry = t.words[source, pfn & (n - 1)]
                row[k & (n - 1)] = entry & ~FOREIGN_FRAME_BIT if entry != INVALID else INVALID
            else:
                row[k & (n - 1)] = pfn_to_mfn(t, h, pfn)
            done += 1
        k += 1
    t.state[S_ENTRIES_WRITTEN] += done
    return done


@inner_kernel
def _stale_mid(t: P2MTables, h: HostTables, x: int, stop: int) -> int:
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
    page = mfn_to_page(t, h, t.words[page_code(t, state[S_TOP_MFN]), top])
    if page == state[S_MID_MISSING_MFN] or page >= state[S_DIRECTMAP]:
        return _stale_step(t, h, x)
    slot = page_code(t, page)
    if slot <= LAZY or (slot >= 0 and t.slots[slot, P_KIND] not in (ORDINARY, MID_MFN)):
        # A page that this loop reads is about to be hit: every store must be seen by the next.
        return _stale_step(t, h, x)
    if page == t.true_mid_mfn[top]:
        _copy_mid(t, h, x, stop, slot)
    else:
        slot = stray_slot(t, h, page)
        state[S_STRAY_WRITES] += _copy_mid(t, h, x, stop, slot)
    return stop - x


@inner_kernel
def _stale_step(t: P2MTables, h: HostTables, x: int) -> int:
    """Do leaf `x` as the kernel did before the change, each read and store in its order."""
    never_inline()
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    top = x >> shift
    i = x & ((1 << shift) - 1)
    mid = page_at(t, t.words[page_code(t, state[S_TOP]), top])
    if mid >= state[S_DIRECTMAP]:
        return FAULT_LIMIT + FAULT_TOP
    pointer = t.words[page_code(t, mid), i]
    if pointer == address(t, state[S_MISSING]):
        return 1
    top_mfn = page_code(t, state[S_TOP_MFN])
    page = mfn_to_page(t, h, t.words[top_mfn, top])
    if page == state[S_MID_MISSING_MFN]:
        slot = extend_brk(t)
        if slot < 0:
            return slot
        t.slots[slot, P_KIND] = MID_MFN
        status = mid_mfn_init(t, h, slot)
        if status != OK:
            return FAULT_LIMIT + status
        page = t.slots[slot, P_PAGE]
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
    if page >= state[S_DIRECTMAP]:
        return FAULT_LIMIT + FAULT_STORE
    store_entry(t, h, top, page, i, mfn)
    state[S_ENTRIES_WRITTEN] += 1
    return 1


@inner_kernel
def store_entry(t: P2MTables, h: HostTables, top: int, page: int, i: int, mfn: int) -> None:
    """Store a leaf's MFN through a mid_mfn page: the true one of `top`, or a stray write."""
    if page == t.true_mid_mfn[top]:
        t.words[page_code(t, page), i] = mfn
    else:
        stray_store(t, h, page, i, mfn)
