"""What the eras of three levels share: growing, one entry set (policies-spec M5, P4, P5).

From 2.6.38 to 3.18 no MFN is ever turned into an address, so no pointer is wild and no store stray:
the caches `leaf_slot` and `leaf_page` always hold. What differs between these kernels is data in
the state: which bits flag a word, whether there is a shared leaf or mid for 1:1 ranges, and where
the list's pages come from. Words at or above 2^63 are negative here; INVALID alone is -1.
"""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.grow import alloc_p2m_page, mid_for, set_plain
from p2mbatch.compiled.hosts import given_frame
from p2mbatch.compiled.jit import Inner, as_int, inline_kernel, inner_kernel, kernel, never_inline
from p2mbatch.compiled.lists import filled_slot
from p2mbatch.compiled.lookup import store_page
from p2mbatch.compiled.loops import copy_words
from p2mbatch.compiled.owners import set_present
from p2mbatch.compiled.pages import (
    address,
    forget_codes,
    is_own,
    make_leaf,
    page_at,
    page_code,
    room_left,
    set_lazy_codes,
    set_own,
    set_page_code,
    take_slot,
)
from p2mbatch.compiled.policies.three_list import track
from p2mbatch.compiled.policies.three_lookup import leaf_at, mfn_of
from p2mbatch.compiled.status import (
    BUG_SET,
    BUG_TOP_MFN,
    FAULT_STORE,
    MORE_ROOM,
    NO_MEMORY,
    OK,
)
from p2mbatch.compiled.tables import (
    FUNCTION_HOST,
    LAZY,
    LEAF,
    NO_PAGE,
    ORDINARY,
    P_CLEAN,
    P_KIND,
    P_LEAF,
    SHARED_OWN,
    UNREACHABLE,
    WAS_FREED,
    HostTables,
    P2MTables,
)

# --- alloc_p2m ---------------------------------------------------------------------------------


@inner_kernel
def move_boot_leaf(t: P2MTables, x: int, page: int) -> None:
    """Let what `mfn_list` has of leaf `x` lie in `page`; the old page is an ordinary one then."""
    old_page = t.state[0].mfn_list_pfn + x
    old = page_code(t, old_page)
    if old <= LAZY:
        set_page_code(t, old_page, NO_PAGE)
        set_page_code(t, page, LAZY - x)
        return
    slot = take_slot(t, page)
    copy_words(t.words[old], t.words[slot])
    copy_words(t.own[old], t.own[slot])
    t.slots[slot, P_CLEAN] = t.slots[old, P_CLEAN]
    t.slots[slot, P_KIND] = LEAF
    t.slots[slot, P_LEAF] = x
    t.slots[old, P_KIND] = ORDINARY
    t.slots[old, P_LEAF] = -1


@inner_kernel
def num_lazy(t: P2MTables, x: int, end: int) -> int:
    """Return how many leaves from `x` on, below `end`, are pages of `mfn_list` not made yet."""
    page = t.state[0].mfn_list_pfn
    end = min(end, (t.state[0].nr_pages + t.words.shape[1] - 1) >> t.state[0].entries_shift)
    k = x
    while k < end and page_code(t, page + k) <= LAZY:
        k += 1
    return k - x


@inner_kernel
def move_lazy_leaves(t: P2MTables, x: int, page: int, count: int) -> None:
    """Do `move_boot_leaf` and `cache_leaf` of leaves not made yet, to pages from `page` on."""
    forget_codes(t, t.state[0].mfn_list_pfn + x, count)
    hang_lazy(t, x, page, count)


@inner_kernel
def hang_lazy(t: P2MTables, x: int, page: int, count: int) -> None:
    """Note that leaves from `x` on are pages from `page` on, and not made yet."""
    set_lazy_codes(t, page, x, count)
    cached = max(min(count, t.state[0].num_leaves - x), as_int(0))
    pages, slots = t.leaf_page[x : x + cached], t.leaf_slot[x : x + cached]
    for k in range(len(pages)):
        pages[k] = page + k
    for k in range(len(slots)):
        slots[k] = LAZY


@inner_kernel
def cache_leaf(t: P2MTables, x: int, page: int) -> None:
    """Note in the caches which page leaf `x` is."""
    if x < t.state[0].num_leaves:
        t.leaf_page[x] = page
        t.leaf_slot[x] = max(page_code(t, page), LAZY)


@inner_kernel
def cache_all(t: P2MTables, x: int, end: int, page: int) -> None:
    """Note in the caches that leaves from `x` on, below `end`, are all one page."""
    end = max(min(end, t.state[0].num_leaves), x)
    pages, slots = t.leaf_page[x:end], t.leaf_slot[x:end]
    slot = max(page_code(t, page), LAZY)
    for k in range(len(pages)):
        pages[k] = page
    for k in range(len(slots)):
        slots[k] = slot


@inner_kernel
def hang_leaf(t: P2MTables, x: int, page: int) -> None:
    """Hang `page`, made INVALID, into the mid page of leaf `x`, which has one of its own."""
    slot = filled_slot(t, page, as_int(LEAF), as_int(INVALID))
    t.slots[slot, P_LEAF] = x
    t.slots[slot, P_CLEAN] = 1
    point_leaf(t, x, page)
    t.state[0].num_grown += 1
    cache_leaf(t, x, page)


@inner_kernel
def point_leaf(t: P2MTables, x: int, page: int) -> None:
    """Let the mid page's entry for leaf `x` point to `page`, whatever mid page that is."""
    shift = t.state[0].entries_shift
    mid = page_at(t, t.words[page_code(t, t.state[0].top), x >> shift])
    t.words[page_code(t, mid), x & ((1 << shift) - 1)] = address(t, page)


@inner_kernel
def forget_mid(t: P2MTables, top: int) -> None:
    """Note in the caches that a top index has a fresh mid page: all `p2m_missing`."""
    shift = t.state[0].entries_shift
    cache_all(t, top << shift, (top + 1) << shift, t.state[0].missing)


@inner_kernel
def grow(t: P2MTables, h: HostTables, x: int) -> int:
    """Grow the tree for leaf `x`: `alloc_p2m`. Returns OK, a BUG_ or FAULT_ code, or NO_MEMORY."""
    never_inline()
    state = t.state[0]
    shift = state.entries_shift
    top = x >> shift
    fresh = page_at(t, t.words[page_code(t, state.top), top]) == state.mid_missing
    if mid_for(t, top) < 0:
        return NO_MEMORY
    if fresh:
        forget_mid(t, top)
    page = as_int(t.true_mid_mfn[top])
    top_mfn = page_code(t, state.top_mfn)
    if mfn_of(t, h, page) != t.words[top_mfn, top]:
        return BUG_TOP_MFN
    if page == state.mid_missing_mfn:
        page = alloc_p2m_page(t)
        if page < 0:
            return NO_MEMORY
        track(t, h, top, take_slot(t, page))
        t.words[top_mfn, top] = mfn_of(t, h, page)
    if leaf_at(t, x) != state.missing:
        return OK
    leaf = alloc_p2m_page(t)
    if leaf < 0:
        return NO_MEMORY
    hang_leaf(t, x, leaf)
    if store_page(t, h, address(t, page)) >= UNREACHABLE:
        return FAULT_STORE
    t.words[page_code(t, page), x & ((1 << shift) - 1)] = mfn_of(t, h, leaf)
    return OK


# --- set_phys_to_machine -----------------------------------------------------------------------


@inner_kernel
def store_word(t: P2MTables, h: HostTables, pfn: int, leaf: int, word: int) -> None:
    """Store `word` for `pfn` in the page that is its leaf, and move what it owns (M7, P0)."""
    state = t.state[0]
    i = pfn & ((1 << state.entries_shift) - 1)
    slot = page_code(t, leaf)
    if slot <= LAZY:
        slot = make_leaf(t, h, LAZY - slot)
    before = t.words[slot, i]
    t.words[slot, i] = word
    set_present(t, pfn, word != INVALID)
    frames = h.par[0].frames
    if h.par[0].kind == FUNCTION_HOST:
        if leaf != state.identity:
            is_frame = 0 <= word < frames
            if pfn < len(h.owned) and not is_frame and is_own(t, slot, i):
                h.owned[pfn] |= WAS_FREED
            set_own(t, slot, i, is_frame)
        elif pfn >= len(h.owned):
            # No host has a frame for it.
            return
        elif 0 <= word < frames:
            # A frame is that of its PFN; what another PFN of this place owns is still its own.
            h.owned[pfn] |= SHARED_OWN
        elif before == given_frame(h.par[0], pfn):
            h.owned[pfn] &= ~SHARED_OWN
        return
    if 0 <= before < frames and h.owned[before] != 0 and h.m2p[before] == pfn:
        h.owned[before] = 0
        if h.par[0].keeps_freed == 0:
            h.m2p[before] = INVALID
    if 0 <= word < frames:
        h.owned[word] = 1
        h.m2p[word] = pfn


@inner_kernel
def point_identity(t: P2MTables, x: int) -> bool:
    """Return whether pointers say all of an identity value in leaf `x`, made to if need be.

    A missing leaf becomes `p2m_identity`, under `p2m_mid_missing` too: then so it is under every
    missing top index. From 3.14 on a missing top entry becomes `p2m_mid_identity` instead.
    """
    never_inline()
    state = t.state[0]
    shift = state.entries_shift
    identity = state.identity
    if leaf_at(t, x) != state.missing:
        return leaf_at(t, x) == identity
    top_slot = page_code(t, state.top)
    top = x >> shift
    under_missing = page_at(t, t.words[top_slot, top]) == state.mid_missing
    if under_missing and state.mid_identity != NO_PAGE:
        t.words[top_slot, top] = address(t, state.mid_identity)
        cache_all(t, top << shift, (top + 1) << shift, identity)
        return True
    point_leaf(t, x, identity)
    cache_leaf(t, x, identity)
    if under_missing:
        state.placeholder_writes += 1
        for other in range(1 << shift):
            if page_at(t, t.words[top_slot, other]) == state.mid_missing:
                cache_leaf(t, (other << shift) | (x & ((1 << shift) - 1)), identity)
    return True


@inner_kernel
def set_one(t: P2MTables, h: HostTables, pfn: int, word: int) -> int:
    """Set one entry. Returns OK, a BUG_ or FAULT_ code, or NO_MEMORY (it returned false)."""
    state = t.state[0]
    if pfn >= state.max_p2m:
        return OK if word == INVALID else BUG_SET
    x = pfn >> state.entries_shift
    if word != INVALID and word & state.identity_bit != 0 and point_identity(t, x):
        return OK
    leaf = leaf_at(t, x)
    if leaf == state.missing:
        if word == INVALID:
            return OK
        status = grow(t, h, x)
        if status != OK:
            return status
        leaf = leaf_at(t, x)
    if leaf == state.identity:
        state.placeholder_writes += 1
    store_word(t, h, pfn, leaf, word)
    return OK


@inline_kernel
def _is_plain(t: P2MTables, pfn: int, word: int, last: int) -> bool:
    """Return whether a run of words in one leaf needs nothing but stores in a resident page."""
    state = t.state[0]
    x = pfn >> state.entries_shift
    if x >= state.num_leaves or t.leaf_slot[x] < 0 or word < INVALID:
        return False
    page = t.leaf_page[x]
    if page == state.missing or page == state.identity:
        return False
    return word == INVALID or (word | last) & state.identity_bit == 0


@inline_kernel
def set_each_word(t: P2MTables, h: HostTables, runs: Int64Array, done: int, one: Inner) -> int:
    """Do `set_phys_to_machine` over runs: as `grow.set_each`, the words' upper bits included.

    `one(t, h, pfn, word)` sets one entry where that is not a mere store in a resident leaf.
    """
    skip = done
    state = t.state[0]
    n = 1 << state.entries_shift
    state.position = done
    for run in range(len(runs)):
        pfn, word, count = runs[run, 0], runs[run, 1], runs[run, 2]
        k = min(skip, count)
        skip -= k
        up = np.int64(word != INVALID)
        while k < count:
            at = pfn + k
            step = min(count - k, n - (at & (n - 1)))
            if _is_plain(t, at, word + k * up, word + (k + step - 1) * up):
                slot = as_int(t.leaf_slot[at >> state.entries_shift])
                set_plain(t.words, t.own, h, slot, at, word + k * up, step)
                for page in range(at, min(at + step, len(t.present))):
                    t.present[page] = up
            else:
                if not room_left(t):
                    return MORE_ROOM
                status = one(t, h, at, word + k * up)
                if status != OK:
                    return status
                step = 1
            k += step
            state.position += step
    return OK


@kernel
def set_runs(t: P2MTables, h: HostTables, runs: Int64Array, done: int) -> int:
    """Do `set_each_word` in a tree of three levels."""
    return set_each_word(t, h, runs, done, set_one)
