"""How the eras of three levels boot: pages in their order, 1:1 ranges marked, leaves moved.

Source: policies-spec P3 to P6. Each policy's own file puts these steps in its order. All return OK
or a BUG_ code; after a BUG the guest is lost, and the caches are of no use any more.
"""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline
from p2mbatch.compiled.lists import extend_brk, fill_page
from p2mbatch.compiled.pages import address, make_leaf, page_at, page_code, set_page_code, take_slot
from p2mbatch.compiled.policies.three_level import (
    bootmem,
    cache_leaf,
    hang_leaf,
    leaf_at,
    list_page,
    mfn_of,
    point_identity,
    point_leaf,
    rebuild,
    report,
    store_word,
    track,
)
from p2mbatch.compiled.status import BUG_BRK_OVERFLOW, BUG_MID_MFN_P, OK
from p2mbatch.compiled.tables import (
    H_M2P_ORDER,
    LAZY,
    LEAF,
    MID_MFN,
    NO_PAGE,
    ORDINARY,
    P_CLEAN,
    P_KIND,
    P_LEAF,
    P_PAGE,
    POINTER,
    S_BRK_CLOSED,
    S_BRK_PAGES,
    S_BRK_USED,
    S_ENTRIES_SHIFT,
    S_FLAG_BITS,
    S_IDENTITY,
    S_IDENTITY_BIT,
    S_IDENTITY_PAGES,
    S_LATE_LIST,
    S_M2P_ORDER,
    S_MAX_P2M,
    S_MAX_P2M_PFN,
    S_MFN_LIST_PFN,
    S_MID_IDENTITY,
    S_MID_IDENTITY_MFN,
    S_MID_MISSING,
    S_MID_MISSING_MFN,
    S_MISSING,
    S_NR_PAGES,
    S_NUM_LEAVES,
    S_NUM_MIDS,
    S_TOP,
    S_TOP_MFN,
    S_TOP_MFN_P,
    S_WARNINGS,
    S_WORD_BITS,
    S_XEN_MAX,
    TOP_MFN,
    HostTables,
    P2MTables,
)

# --- words and pages ---------------------------------------------------------------------------


@inner_kernel
def flag_words(t: P2MTables, h: HostTables, identity: bool) -> None:
    """Say which bits flag a word: bit 31 to 2.6.38, the two highest ones where identity is known.

    And the order of the m2p, which the kernel works out at boot.
    """
    state = t.state
    state[S_M2P_ORDER] = h.par[H_M2P_ORDER]
    if not identity:
        state[S_FLAG_BITS] = 1 << 31
        return
    bit = as_int(1) << (state[S_WORD_BITS] - 2)
    state[S_IDENTITY_BIT] = bit
    state[S_FLAG_BITS] = bit | (bit << 1)


@inner_kernel
def brk_page(t: P2MTables, kind: int, word: int) -> int:
    """Take a page from brk, filled with `word`; return its PFN, or minus the BUG's code."""
    slot = extend_brk(t)
    if slot < 0:
        return slot
    t.slots[slot, P_KIND] = kind
    fill_page(t, slot, word)
    return t.slots[slot, P_PAGE]


@inner_kernel
def old_placeholders(t: P2MTables) -> int:
    """Take `p2m_missing`, `p2m_mid_missing` and `p2m_top`, as all kernels to 3.13 do."""
    state = t.state
    page = brk_page(t, LEAF, INVALID)
    if page < 0:
        return -page
    state[S_MISSING] = page
    page = brk_page(t, POINTER, address(t, page))
    if page < 0:
        return -page
    state[S_MID_MISSING] = page
    page = brk_page(t, POINTER, address(t, page))
    if page < 0:
        return -page
    state[S_TOP] = page
    return OK


@inner_kernel
def identity_page(t: P2MTables) -> int:
    """Take `p2m_identity`, all INVALID as `p2m_missing` is."""
    page = brk_page(t, LEAF, INVALID)
    if page < 0:
        return -page
    t.state[S_IDENTITY] = page
    return OK


@inner_kernel
def mid_placeholders(t: P2MTables) -> int:
    """Take the two leaves, the two mids and `p2m_top` in the order of 3.14 and later (P5)."""
    state = t.state
    page = brk_page(t, LEAF, INVALID)
    if page < 0:
        return -page
    state[S_MISSING] = page
    status = identity_page(t)
    if status != OK:
        return status
    page = brk_page(t, POINTER, address(t, state[S_MISSING]))
    if page < 0:
        return -page
    state[S_MID_MISSING] = page
    page = brk_page(t, POINTER, address(t, state[S_IDENTITY]))
    if page < 0:
        return -page
    state[S_MID_IDENTITY] = page
    page = brk_page(t, POINTER, address(t, state[S_MID_MISSING]))
    if page < 0:
        return -page
    state[S_TOP] = page
    return OK


# --- the tree ----------------------------------------------------------------------------------


@inner_kernel
def hang_boot_leaves(t: P2MTables) -> int:
    """Hang `mfn_list` into the tree, its tail INVALID, then make the request for m2p overrides.

    That is four pages of brk on 64-bit, two on 32-bit, or none where so many aren't left (P3).
    """
    never_inline()
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    n = 1 << shift
    nr_pages = state[S_NR_PAGES]
    num_boot = (nr_pages + n - 1) >> shift
    for x in range(num_boot, state[S_NUM_LEAVES]):
        cache_leaf(t, x, state[S_MISSING])
    for x in range(num_boot):
        if x & (n - 1) == 0:
            mid = hang_mid(t, x >> shift)
            if mid < 0:
                return -mid
        point_leaf(t, x, as_int(t.leaf_page[x]))
    if nr_pages & (n - 1) != 0:
        # A partial last leaf is always resident.
        for i in range(nr_pages & (n - 1), n):
            t.words[t.leaf_slot[num_boot - 1], i] = INVALID
    count = 4 if state[S_WORD_BITS] == 64 else 2
    if state[S_BRK_PAGES] - state[S_BRK_USED] < count:
        return BUG_BRK_OVERFLOW
    state[S_BRK_USED] += count
    return OK


@inner_kernel
def hang_mid(t: P2MTables, top: int) -> int:
    """Take a mid page from brk for a top index; return its PFN, or minus the BUG's code."""
    mid = brk_page(t, POINTER, address(t, t.state[S_MISSING]))
    if mid >= 0:
        t.words[page_code(t, t.state[S_TOP]), top] = address(t, mid)
        t.state[S_NUM_MIDS] += 1
    return mid


@inner_kernel
def move_leaves(t: P2MTables, h: HostTables) -> int:
    """Move a 64-bit guest's leaves out of `mfn_list` into pages of the boot allocator (P4b).

    The old pages are ordinary from then on. That of a leaf which is not resident reads as zeros
    here; what it holds nobody asks.
    """
    never_inline()
    state = t.state
    if state[S_WORD_BITS] != 64:
        return OK
    shift = state[S_ENTRIES_SHIFT]
    num_boot = (state[S_NR_PAGES] + (1 << shift) - 1) >> shift
    first = bootmem(t, num_boot)
    if first < 0:
        return -first
    for x in range(num_boot):
        page = first + x
        if state[S_LATE_LIST] == 0:
            # Before the page is hung in: its MFN does not depend on where the leaf lies.
            t.words[page_code(t, t.true_mid_mfn[x >> shift]), x & ((1 << shift) - 1)] = mfn_of(
                t, h, page
            )
        _move_leaf(t, x, page)
    return OK


@inner_kernel
def _move_leaf(t: P2MTables, x: int, page: int) -> None:
    """Let leaf `x` lie in `page` from now on."""
    old_page = t.state[S_MFN_LIST_PFN] + x
    old = page_code(t, old_page)
    if old <= LAZY:
        set_page_code(t, old_page, NO_PAGE)
        set_page_code(t, page, LAZY - x)
        t.leaf_page[x] = page
    else:
        slot = take_slot(t, page)
        t.words[slot, :] = t.words[old]
        t.own[slot, :] = t.own[old]
        t.slots[slot, P_CLEAN] = t.slots[old, P_CLEAN]
        t.slots[slot, P_KIND] = LEAF
        t.slots[slot, P_LEAF] = x
        t.slots[old, P_KIND] = ORDINARY
        t.slots[old, P_LEAF] = -1
        cache_leaf(t, x, page)
    point_leaf(t, x, page)


# --- the list for the first time ---------------------------------------------------------------


@inner_kernel
def first_list(t: P2MTables, h: HostTables) -> int:
    """Take the list's own pages and build it for the first time, to `xen_max_p2m_pfn`."""
    never_inline()
    state = t.state
    slot = list_page(t)
    if slot < 0:
        return -slot
    t.slots[slot, P_KIND] = MID_MFN
    state[S_MID_MISSING_MFN] = t.slots[slot, P_PAGE]
    fill_page(t, slot, mfn_of(t, h, state[S_MISSING]))
    t.true_mid_mfn[:] = state[S_MID_MISSING_MFN]
    if state[S_MID_IDENTITY] != NO_PAGE and state[S_LATE_LIST] == 0:
        slot = list_page(t)
        if slot < 0:
            return -slot
        t.slots[slot, P_KIND] = MID_MFN
        state[S_MID_IDENTITY_MFN] = t.slots[slot, P_PAGE]
        fill_page(t, slot, mfn_of(t, h, state[S_IDENTITY]))
    slot = list_page(t)
    if slot < 0:
        return -slot
    t.slots[slot, P_KIND] = POINTER
    state[S_TOP_MFN_P] = t.slots[slot, P_PAGE]
    fill_page(t, slot, address(t, state[S_MID_MISSING_MFN]))
    slot = list_page(t)
    if slot < 0:
        return -slot
    t.slots[slot, P_KIND] = TOP_MFN
    state[S_TOP_MFN] = t.slots[slot, P_PAGE]
    fill_page(t, slot, mfn_of(t, h, state[S_MID_MISSING_MFN]))
    # A literal 0 would be a type of its own, and everything below be compiled twice.
    return rebuild(t, h, state[S_BRK_CLOSED])


@inner_kernel
def end_boot(t: P2MTables, h: HostTables) -> int:
    """Close brk and report the list."""
    t.state[S_BRK_CLOSED] = 1
    t.state[S_XEN_MAX] = t.state[S_MAX_P2M_PFN]
    return report(t, h)


# --- 1:1 ranges --------------------------------------------------------------------------------


@inner_kernel
def mark_each(t: P2MTables, h: HostTables, ranges: Int64Array) -> int:
    """Mark 1:1 ranges (int64[k, 2]: start, end) in their order: `set_phys_range_identity`.

    `state` counts the pages marked and the warnings. Later kernels (P5) have `p2m_mid_identity`.
    """
    never_inline()
    for k in range(len(ranges)):
        if t.state[S_MID_IDENTITY] == NO_PAGE:
            status = _mark(t, h, ranges[k, 0], ranges[k, 1])
        else:
            status = _mark_with_mids(t, h, ranges[k, 0], ranges[k, 1])
        if status != OK:
            return status
    return OK


@inner_kernel
def _mark(t: P2MTables, h: HostTables, start: int, end: int) -> int:
    """Mark one range as 3.0 to 3.13 do (P4)."""
    never_inline()
    state = t.state
    max_p2m = state[S_MAX_P2M]
    if start >= max_p2m or end >= max_p2m or start > end:
        return OK
    mid_shift = 2 * state[S_ENTRIES_SHIFT]
    for top in range(start >> mid_shift, (end + (1 << mid_shift) - 1) >> mid_shift):
        status = _open_mid(t, h, top)
        if status != OK:
            return status
    for k in range(2):
        status = _open_leaf(t, h, start if k == 0 else end)
        if status != OK:
            return status
    pfn = start
    while pfn < end:
        pfn = _mark_leaf(t, h, pfn, end)
    state[S_IDENTITY_PAGES] += end - start
    return OK


@inner_kernel
def _mark_with_mids(t: P2MTables, h: HostTables, start: int, end: int) -> int:
    """Mark one range as 3.14 to 3.18 do (P5), whole mids at once."""
    never_inline()
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    if start >= state[S_MAX_P2M] or start > end:
        return OK
    end = min(end, state[S_MAX_P2M])
    for k in range(2):
        split = start if k == 0 else end
        if split & ((1 << (2 * shift)) - 1) != 0:
            status = _open_mid(t, h, split >> (2 * shift))
            if status == OK:
                status = _open_leaf(t, h, split)
            if status != OK:
                return status
    top_slot = page_code(t, state[S_TOP])
    pfn = start
    while pfn < end:
        x = pfn >> shift
        pfn = _mark_leaf(t, h, pfn, end)
        if page_at(t, t.words[top_slot, x >> shift]) == state[S_MID_IDENTITY]:
            # To where the shared mid ends, if that is past the range's end.
            pfn = ((x >> shift) + 1) << (2 * shift)
        elif leaf_at(t, x) == state[S_IDENTITY]:
            pfn = (x + 1) << shift
    state[S_WARNINGS] += pfn != end
    state[S_IDENTITY_PAGES] += pfn - start
    return OK


@inner_kernel
def _mark_leaf(t: P2MTables, h: HostTables, pfn: int, end: int) -> int:
    """Mark PFNs from `pfn` on in its leaf; return the first that is not: there, or `end`."""
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    x = pfn >> shift
    stop = min((x + 1) << shift, end)
    if not point_identity(t, x):
        leaf = leaf_at(t, x)
        for at in range(pfn, stop):
            store_word(t, h, at, leaf, at | state[S_IDENTITY_BIT])
    return stop


@inner_kernel
def _open_mid(t: P2MTables, h: HostTables, top: int) -> int:
    """Give a top index a mid page of its own and, where there is a list, a page of it."""
    state = t.state
    has_list = state[S_TOP_MFN] != NO_PAGE
    no_page = t.true_mid_mfn[top] == state[S_MID_MISSING_MFN]
    if page_at(t, t.words[page_code(t, state[S_TOP]), top]) == state[S_MID_MISSING]:
        mid = hang_mid(t, top)
        if mid < 0:
            return -mid
        if has_list and not no_page:
            return BUG_MID_MFN_P
    if has_list and no_page:
        slot = list_page(t)
        if slot < 0:
            return -slot
        page = track(t, h, top, slot)
        t.words[page_code(t, state[S_TOP_MFN]), top] = mfn_of(t, h, page)
    return OK


@inner_kernel
def _open_leaf(t: P2MTables, h: HostTables, pfn: int) -> int:
    """Give a range's end inside of a missing leaf a leaf of its own, in the list too."""
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    n = 1 << shift
    x = pfn >> shift
    if pfn & (n - 1) == 0:
        return OK
    state[S_WARNINGS] += leaf_at(t, x) == state[S_IDENTITY]
    if leaf_at(t, x) != state[S_MISSING]:
        return OK
    slot = extend_brk(t)
    if slot < 0:
        return -slot
    page = as_int(t.slots[slot, P_PAGE])
    hang_leaf(t, x, page)
    if state[S_TOP_MFN] != NO_PAGE:
        row = t.words[page_code(t, t.true_mid_mfn[x >> shift])]
        state[S_WARNINGS] += row[x & (n - 1)] != mfn_of(t, h, state[S_MISSING])
        row[x & (n - 1)] = mfn_of(t, h, page)
    return OK
