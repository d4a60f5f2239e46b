"""How the eras of three levels boot: pages in their order, 1:1 ranges marked, leaves moved.

Source: policies-spec P3 to P6. Each policy's own file puts these steps in its order. All return OK
or a BUG_ code; after a BUG the guest is lost, and the caches are of no use any more.
"""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline
from p2mbatch.compiled.lists import extend_brk, fill_page
from p2mbatch.compiled.pages import address, page_at, page_code
from p2mbatch.compiled.policies.three_level import (
    cache_all,
    cache_leaf,
    hang_leaf,
    move_boot_leaf,
    move_lazy_leaves,
    num_lazy,
    point_identity,
    point_leaf,
    store_word,
)
from p2mbatch.compiled.policies.three_list import (
    bootmem,
    list_page,
    rebuild,
    report,
    store_leaves,
    track,
)
from p2mbatch.compiled.policies.three_lookup import leaf_at, mfn_of
from p2mbatch.compiled.status import BUG_BRK_OVERFLOW, BUG_MID_MFN_P, OK
from p2mbatch.compiled.tables import (
    LEAF,
    MID_MFN,
    NO_PAGE,
    P_KIND,
    P_PAGE,
    POINTER,
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
    state = t.state[0]
    state.m2p_order = h.par[0].m2p_order
    if not identity:
        state.flag_bits = 1 << 31
        return
    bit = as_int(1) << (state.word_bits - 2)
    state.identity_bit = bit
    state.flag_bits = bit | (bit << 1)


@inner_kernel
def _begun(t: P2MTables, slot: int, kind: int, word: int) -> int:
    """Fill the page just taken with `word`; return its PFN, or minus the BUG's code as it came."""
    if slot < 0:
        return slot
    t.slots[slot, P_KIND] = kind
    fill_page(t, slot, word)
    return t.slots[slot, P_PAGE]


@inner_kernel
def brk_page(t: P2MTables, kind: int, word: int) -> int:
    """Take a page from brk, filled with `word`; return its PFN, or minus the BUG's code."""
    return _begun(t, extend_brk(t), kind, word)


@inner_kernel
def old_placeholders(t: P2MTables) -> int:
    """Take `p2m_missing`, `p2m_mid_missing` and `p2m_top`, as all kernels to 3.13 do."""
    state = t.state[0]
    page = brk_page(t, LEAF, INVALID)
    if page < 0:
        return -page
    state.missing = page
    page = brk_page(t, POINTER, address(t, page))
    if page < 0:
        return -page
    state.mid_missing = page
    page = brk_page(t, POINTER, address(t, page))
    if page < 0:
        return -page
    state.top = page
    return OK


@inner_kernel
def identity_page(t: P2MTables) -> int:
    """Take `p2m_identity`, all INVALID as `p2m_missing` is."""
    page = brk_page(t, LEAF, INVALID)
    if page < 0:
        return -page
    t.state[0].identity = page
    return OK


@inner_kernel
def mid_placeholders(t: P2MTables) -> int:
    """Take the two leaves, the two mids and `p2m_top` in the order of 3.14 and later (P5)."""
    state = t.state[0]
    page = brk_page(t, LEAF, INVALID)
    if page < 0:
        return -page
    state.missing = page
    status = identity_page(t)
    if status != OK:
        return status
    page = brk_page(t, POINTER, address(t, state.missing))
    if page < 0:
        return -page
    state.mid_missing = page
    page = brk_page(t, POINTER, address(t, state.identity))
    if page < 0:
        return -page
    state.mid_identity = page
    state.identity_beyond = 1
    page = brk_page(t, POINTER, address(t, state.mid_missing))
    if page < 0:
        return -page
    state.top = page
    return OK


# --- the tree ----------------------------------------------------------------------------------


@inner_kernel
def hang_boot_leaves(t: P2MTables) -> int:
    """Hang `mfn_list` into the tree, its tail INVALID, then make the request for m2p overrides.

    That is four pages of brk on 64-bit, two on 32-bit, or none where so many aren't left (P3).
    """
    never_inline()
    state = t.state[0]
    shift = state.entries_shift
    n = 1 << shift
    nr_pages = state.nr_pages
    num_boot = (nr_pages + n - 1) >> shift
    cache_all(t, num_boot, state.num_leaves, state.missing)
    for first in range(0, num_boot, n):
        mid = hang_mid(t, first >> shift)
        if mid < 0:
            return -mid
        row = t.words[page_code(t, mid), : min(n, num_boot - first)]
        for k in range(len(row)):
            row[k] = address(t, as_int(t.leaf_page[first + k]))
    if nr_pages & (n - 1) != 0:
        # A partial last leaf is always resident.
        for i in range(nr_pages & (n - 1), n):
            t.words[t.leaf_slot[num_boot - 1], i] = INVALID
    count = 4 if state.word_bits == 64 else 2
    if state.brk_pages - state.brk_used < count:
        return BUG_BRK_OVERFLOW
    state.brk_used += count
    return OK


@inner_kernel
def hang_mid(t: P2MTables, top: int) -> int:
    """Take a mid page from brk for a top index; return its PFN, or minus the BUG's code."""
    mid = brk_page(t, POINTER, address(t, t.state[0].missing))
    if mid >= 0:
        t.words[page_code(t, t.state[0].top), top] = address(t, mid)
        t.state[0].num_mids += 1
    return mid


@inner_kernel
def move_leaves(t: P2MTables, h: HostTables) -> int:
    """Move a 64-bit guest's leaves out of `mfn_list` into pages of the boot allocator (P4b).

    The old pages are ordinary from then on. That of a leaf which is not resident reads as zeros
    here; what it holds nobody asks.
    """
    never_inline()
    state = t.state[0]
    if state.word_bits != 64:
        return OK
    shift = state.entries_shift
    num_boot = (state.nr_pages + (1 << shift) - 1) >> shift
    first = bootmem(t, num_boot)
    if first < 0:
        return -first
    x = as_int(0)
    while x < num_boot:
        page = first + x
        count = num_lazy(t, x, (x | ((1 << shift) - 1)) + 1)
        if count > 0:
            _move_lazy(t, h, x, page, count)
            x += count
            continue
        if state.late_list == 0:
            # Before the page is hung in: its MFN does not depend on where the leaf lies.
            t.words[page_code(t, t.true_mid_mfn[x >> shift]), x & ((1 << shift) - 1)] = mfn_of(
                t, h, page
            )
        _move_leaf(t, x, page)
        x += 1
    return OK


@inner_kernel
def _move_lazy(t: P2MTables, h: HostTables, x: int, page: int, count: int) -> None:
    """Do what `move_leaves` does of one leaf for `count` of one mid that are not made yet."""
    state = t.state[0]
    n = t.words.shape[1]
    top = x >> state.entries_shift
    i = x & (n - 1)
    mid = page_at(t, t.words[page_code(t, state.top), top])
    pointers = t.words[page_code(t, mid)]
    for k in range(count):
        pointers[i + k] = address(t, page + k)
    move_lazy_leaves(t, x, page, count)
    if state.late_list == 0:
        store_leaves(t, h, t.words[page_code(t, t.true_mid_mfn[top])], x, x + count)


@inner_kernel
def _move_leaf(t: P2MTables, x: int, page: int) -> None:
    """Let leaf `x` lie in `page` from now on."""
    move_boot_leaf(t, x, page)
    cache_leaf(t, x, page)
    point_leaf(t, x, page)


# --- the list for the first time ---------------------------------------------------------------


@inner_kernel
def first_list(t: P2MTables, h: HostTables) -> int:
    """Take the list's own pages and build it for the first time, to `xen_max_p2m_pfn`."""
    never_inline()
    state = t.state[0]
    page = _begun(t, list_page(t), MID_MFN, mfn_of(t, h, state.missing))
    if page < 0:
        return -page
    state.mid_missing_mfn = page
    t.true_mid_mfn[:] = page
    if state.mid_identity != NO_PAGE and state.late_list == 0:
        page = _begun(t, list_page(t), MID_MFN, mfn_of(t, h, state.identity))
        if page < 0:
            return -page
        state.mid_identity_mfn = page
    page = _begun(t, list_page(t), POINTER, address(t, state.mid_missing_mfn))
    if page < 0:
        return -page
    state.top_mfn_p = page
    page = _begun(t, list_page(t), TOP_MFN, mfn_of(t, h, state.mid_missing_mfn))
    if page < 0:
        return -page
    state.top_mfn = page
    # A literal 0 would be a type of its own, and everything below be compiled twice.
    return rebuild(t, h, state.brk_closed)


@inner_kernel
def end_boot(t: P2MTables, h: HostTables) -> int:
    """Close brk and report the list."""
    t.state[0].brk_closed = 1
    t.state[0].xen_max = t.state[0].max_p2m_pfn
    return report(t, h)


# --- 1:1 ranges --------------------------------------------------------------------------------


@inner_kernel
def mark_each(t: P2MTables, h: HostTables, ranges: Int64Array) -> int:
    """Mark 1:1 ranges (int64[k, 2]: start, end) in their order: `set_phys_range_identity`.

    `state` counts the pages marked and the warnings. Later kernels (P5) have `p2m_mid_identity`.
    """
    never_inline()
    for k in range(len(ranges)):
        if t.state[0].mid_identity == NO_PAGE:
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
    state = t.state[0]
    max_p2m = state.max_p2m
    if start >= max_p2m or end >= max_p2m or start > end:
        return OK
    mid_shift = 2 * state.entries_shift
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
    state.identity_pages += end - start
    return OK


@inner_kernel
def _mark_with_mids(t: P2MTables, h: HostTables, start: int, end: int) -> int:
    """Mark one range as 3.14 to 3.18 do (P5), whole mids at once."""
    never_inline()
    state = t.state[0]
    shift = state.entries_shift
    if start >= state.max_p2m or start > end:
        return OK
    end = min(end, state.max_p2m)
    for k in range(2):
        split = start if k == 0 else end
        if split & ((1 << (2 * shift)) - 1) != 0:
            status = _open_mid(t, h, split >> (2 * shift))
            if status == OK:
                status = _open_leaf(t, h, split)
            if status != OK:
                return status
    top_slot = page_code(t, state.top)
    pfn = start
    while pfn < end:
        x = pfn >> shift
        pfn = _mark_leaf(t, h, pfn, end)
        if page_at(t, t.words[top_slot, x >> shift]) == state.mid_identity:
            # To where the shared mid ends, if that is past the range's end.
            pfn = ((x >> shift) + 1) << (2 * shift)
        elif leaf_at(t, x) == state.identity:
            pfn = (x + 1) << shift
    state.warnings += pfn != end
    state.identity_pages += pfn - start
    return OK


@inner_kernel
def _mark_leaf(t: P2MTables, h: HostTables, pfn: int, end: int) -> int:
    """Mark PFNs from `pfn` on in its leaf; return the first that is not: there, or `end`."""
    state = t.state[0]
    shift = state.entries_shift
    x = pfn >> shift
    stop = min((x + 1) << shift, end)
    if not point_identity(t, x):
        leaf = leaf_at(t, x)
        for at in range(pfn, stop):
            store_word(t, h, at, leaf, at | state.identity_bit)
    return stop


@inner_kernel
def _open_mid(t: P2MTables, h: HostTables, top: int) -> int:
    """Give a top index a mid page of its own and, where there is a list, a page of it."""
    state = t.state[0]
    has_list = state.top_mfn != NO_PAGE
    no_page = t.true_mid_mfn[top] == state.mid_missing_mfn
    if page_at(t, t.words[page_code(t, state.top), top]) == state.mid_missing:
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
        t.words[page_code(t, state.top_mfn), top] = mfn_of(t, h, page)
    return OK


@inner_kernel
def _open_leaf(t: P2MTables, h: HostTables, pfn: int) -> int:
    """Give a range's end inside of a missing leaf a leaf of its own, in the list too."""
    state = t.state[0]
    shift = state.entries_shift
    n = 1 << shift
    x = pfn >> shift
    if pfn & (n - 1) == 0:
        return OK
    state.warnings += leaf_at(t, x) == state.identity
    if leaf_at(t, x) != state.missing:
        return OK
    slot = extend_brk(t)
    if slot < 0:
        return -slot
    page = as_int(t.slots[slot, P_PAGE])
    hang_leaf(t, x, page)
    if state.top_mfn != NO_PAGE:
        row = t.words[page_code(t, t.true_mid_mfn[x >> shift])]
        state.warnings += row[x & (n - 1)] != mfn_of(t, h, state.missing)
        row[x & (n - 1)] = mfn_of(t, h, page)
    return OK
