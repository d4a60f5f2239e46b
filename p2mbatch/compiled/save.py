"""Compiled kernels of a migration: the toolstack's save walk, restore, and what reads the state.

Source: model section 7; libxc's `map_p2m_tree` and `x86_pv` save and restore.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from p2mbatch.base.arrays import Int32Array, Int64Array, UInt64Array
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel, never_inline, parallel_kernel
from p2mbatch.compiled.lookup import leaf_page_of
from p2mbatch.compiled.loops import all_own, code_of, counts_up, shift_of
from p2mbatch.compiled.owners import m2p, own_pfn
from p2mbatch.compiled.pages import is_own, page_code, page_word
from p2mbatch.compiled.status import (
    MISDIRECTED,
    OK,
    SAVE_BAD_FLL_MFN,
    SAVE_BAD_MFN_FL,
    SAVE_BAD_MFN_FLL,
    SAVE_BAD_MFN_LIST,
    SAVE_MAP_FL,
    SAVE_MAP_FLL,
    SAVE_MAP_LEAVES,
    SAVE_MAX_PFN,
)
from p2mbatch.compiled.tables import (
    FUNCTION_HOST,
    LEGACY,
    NO_PAGE,
    P_CLEAN,
    TRIMS,
    HostTables,
    P2MTables,
)


@inner_kernel
def _bad(frames: int, mfn: int) -> bool:
    """Return whether the toolstack refuses `mfn` on sight: 0, or above max_mfn, unsigned."""
    return mfn <= 0 or mfn > frames


@kernel
def save_walk(t: P2MTables, h: HostTables, found: Int64Array) -> int:
    """Walk the mfn list list as the toolstack does on save; return OK or a SAVE_ code.

    `found` (int64[n]) is a workspace for the PFNs of the frame list pages. `State.detail` is
    the failed check's number; `State.walked_max_pfn` of a walk that succeeds is the last PFN
    that is saved. MISDIRECTED: all checks passed on pages that are not the p2m.
    """
    max_pfn = as_int(map_frame_lists(t, h, found))
    if max_pfn < 0:
        return -max_pfn
    end = (max_pfn >> t.state[0].entries_shift) + 1
    if not _walk_is_plain(t, h, found, end, max_pfn):
        status = _walk_each(t, h, found, end, max_pfn)
        if status != OK:
            return status
    t.state[0].walked_max_pfn = max_pfn
    return OK


@inner_kernel
def map_frame_lists(t: P2MTables, h: HostTables, found: Int64Array) -> int:
    """Do the checks up to `map-fl-failed`; return the last PFN to save, or minus a SAVE_ code.

    `found` (int64[n]) gets the PFNs of the frame list pages.
    """
    state = t.state[0]
    shift = state.entries_shift
    n = 1 << shift
    frames = h.par[0].frames
    max_pfn = state.shared_max - 1
    num_fll = (max_pfn >> (2 * shift)) + 1
    state.detail = max_pfn
    if num_fll > n:
        return -SAVE_MAX_PFN
    fll_mfn = state.shared_fll
    state.detail = fll_mfn
    ranged = state.toolstack != LEGACY
    # A legacy toolstack waits while it is 0, then gives up, and looks at no other number.
    if fll_mfn == 0 or (ranged and _bad(frames, fll_mfn)):
        return -SAVE_BAD_FLL_MFN
    fll = own_pfn(t, h, fll_mfn)
    if fll < 0:
        return -SAVE_MAP_FLL
    last = 0
    for x in range(num_fll):
        mfn = page_word(t, h, fll, x)
        state.detail = x
        if ranged and _bad(frames, mfn):
            return -SAVE_BAD_MFN_FLL
        if mfn != page_word(t, h, fll, last):
            last = x
    trimmed = ((last + 1) << (2 * shift)) - 1
    if state.toolstack == TRIMS and trimmed < max_pfn:
        max_pfn = trimmed
        num_fll = last + 1
    for x in range(num_fll):
        found[x] = own_pfn(t, h, page_word(t, h, fll, x))
        if found[x] < 0:
            state.detail = x
            return -SAVE_MAP_FL
    return as_int(max_pfn)


@inner_kernel
def _walk_is_plain(t: P2MTables, h: HostTables, found: Int64Array, end: int, max_pfn: int) -> bool:
    """Return whether every entry of the list is its true leaf's unmasked entry and owned there.

    Then all of the toolstack's checks hold. A frame that restore gave to a PFN, in a leaf that
    nothing else has written to, is known to be owned without asking the host.
    """
    never_inline()
    state = t.state[0]
    if state.wild != 0 or end > state.num_leaves:
        return False
    shift = state.entries_shift
    words, own, slots, leaf_slot, leaf_page = t.words, t.own, t.slots, t.leaf_slot, t.leaf_page
    for top in range((end + (1 << shift) - 1) >> shift):
        x = top << shift
        stop = min((top + 1) << shift, end)
        slot = page_code(t, found[top])
        if slot < 0:
            return False
        if walk_list(words, own, slots, leaf_slot, leaf_page, h, max_pfn, x, stop, slot):
            continue
        if state.identity == NO_PAGE or not _lags(t, h, max_pfn, x, stop, slot):
            return False
    return True


@inner_kernel
def reads_table(t: P2MTables) -> bool:
    """Return whether the toolstack saves by the page table that the guest reports (L8)."""
    return t.state[0].shared_cr3 != 0 and t.state[0].toolstack == TRIMS


@inner_kernel
def is_shared(t: P2MTables, page: int) -> bool:
    """Return whether a leaf's page is one that many leaves share."""
    return page == t.state[0].missing or page == t.state[0].identity


@inner_kernel
def _lags(t: P2MTables, h: HostTables, max_pfn: int, x: int, stop: int, slot: int) -> bool:
    """Return whether the frame list in `slot` is as `walk_list` asks, but for shared leaves.

    The list may name either of them where the leaf is the other (policies-spec P0).
    """
    never_inline()
    state = t.state[0]
    n = t.words.shape[1]
    missing = plain_frame(t, h, state.missing, max_pfn)
    identity = plain_frame(t, h, state.identity, max_pfn)
    if missing < 0 or identity < 0:
        return False
    for k in range(x, stop):
        page = as_int(t.leaf_page[k])
        mfn = t.words[slot, k & (n - 1)]
        if is_shared(t, page):
            if mfn != missing and mfn != identity:
                return False
        elif plain_frame(t, h, page, max_pfn) != mfn:
            return False
    return True


@inner_kernel
def plain_frame(t: P2MTables, h: HostTables, page: int, max_pfn: int) -> int:
    """Return the frame of a page that is saved, owned there for all that is cached; or -1."""
    shift = t.state[0].entries_shift
    y = page >> shift
    if page < 0 or page > max_pfn or y >= t.state[0].num_leaves or t.leaf_slot[y] < 0:
        return -1
    slot = as_int(t.leaf_slot[y])
    i = page & ((1 << shift) - 1)
    mfn = t.words[slot, i]
    if _bad(h.par[0].frames - 1, mfn) or mfn & t.state[0].flag_bits != 0:
        return -1
    if h.par[0].kind != FUNCTION_HOST:
        return mfn if h.m2p[mfn] == page and h.owned[mfn] != 0 else -1
    return mfn if t.slots[slot, P_CLEAN] != 0 and is_own(t, slot, i) else -1


@inner_kernel
def _walk_each(t: P2MTables, h: HostTables, found: Int64Array, end: int, max_pfn: int) -> int:
    """Do the checks on each frame list entry in the toolstack's order, then tell whose leaves."""
    never_inline()
    state = t.state[0]
    shift = state.entries_shift
    n = 1 << shift
    frames = h.par[0].frames
    for x in range(end if state.toolstack != LEGACY else as_int(0)):
        if _bad(frames, page_word(t, h, found[x >> shift], x & (n - 1))):
            state.detail = x
            return SAVE_BAD_MFN_FL
    for x in range(end):
        if own_pfn(t, h, page_word(t, h, found[x >> shift], x & (n - 1))) < 0:
            state.detail = x
            return SAVE_MAP_LEAVES
    for x in range(end):
        mfn = page_word(t, h, found[x >> shift], x & (n - 1))
        pfn = m2p(t, h, mfn)
        good = 0 <= pfn <= max_pfn
        if good:
            y = pfn >> shift
            leaf = own_pfn(t, h, page_word(t, h, found[y >> shift], y & (n - 1)))
            good = page_word(t, h, leaf, pfn & (n - 1)) == mfn
        if not good:
            state.detail = x
            return SAVE_BAD_MFN_LIST
    for x in range(end):
        page = own_pfn(t, h, page_word(t, h, found[x >> shift], x & (n - 1)))
        leaf = leaf_page_of(t, x)
        if page != leaf and not (is_shared(t, page) and is_shared(t, leaf)):
            return MISDIRECTED
    return OK


# --- the save walk -----------------------------------------------------------------------------


@inner_kernel
def walk_list(
    words: Int64Array,
    own: UInt64Array,
    slots: Int64Array,
    leaf_slot: Int32Array,
    leaf_page: Int32Array,
    h: HostTables,
    max_pfn: int,
    x: int,
    stop: int,
    slot: int,
) -> bool:
    """Return whether the frame list in `slot` has leaves `x` to `stop` as they are, and owned.

    That is: each entry is the unmasked entry of the true leaf's page, is a frame, and belongs to
    the guest there; then all of the toolstack's checks on it hold.
    """
    n = words.shape[1]
    frames = h.par[0].frames
    table = h.par[0].kind != FUNCTION_HOST
    shift = shift_of(n)
    one_run = counts_up(leaf_page[x:stop])
    k = x
    while k < stop:
        pfn = as_int(leaf_page[k])
        y = pfn >> shift
        if y >= len(leaf_slot) or leaf_slot[y] < 0:
            return False
        source = as_int(leaf_slot[y])
        i = pfn & (n - 1)
        count = min(n - i, stop - k) if one_run else 1
        if pfn + count - 1 > max_pfn:
            return False
        j = k & (n - 1)
        mfns = words[source, i : i + count]
        if not same_frames(mfns, words[slot, j : j + count], frames):
            return False
        bad = 0
        if table:
            for at in range(count):
                mfn = mfns[at]
                bad |= (h.m2p[mfn] ^ (pfn + at)) | np.int64(h.owned[mfn] == 0)
        elif slots[source, P_CLEAN] == 0:
            return False
        elif not all_own(own, source):
            for at in range(i, i + count):
                bad |= (~np.int64(own[source, at >> 6]) >> (at & 63)) & 1
        if bad != 0:
            return False
        k += count
    return True


@inner_kernel
def same_frames(mfns: Int64Array, others: Int64Array, frames: int) -> bool:
    """Return whether two arrays are equal and hold frames of the machine, 0 not among them."""
    bad = np.int64(0)
    for j in range(len(mfns)):
        # Below 0 where a number is 0 or less, or not below `frames`.
        bad |= (mfns[j] ^ others[j]) | ((mfns[j] - 1) >> 63) | ((frames - 1 - mfns[j]) >> 63)
    return bool(bad == 0)


@parallel_kernel
def walk_mids(t: P2MTables, h: HostTables, found: Int64Array, end: int, max_pfn: int) -> int:
    """Return how many mids' frame lists are not plain, on all cores."""
    words, own, slots, leaf_slot, leaf_page = t.words, t.own, t.slots, t.leaf_slot, t.leaf_page
    shift = t.state[0].entries_shift
    block_of, block_code = t.block_of, t.block_code
    odd = 0
    for top in prange((end + (1 << shift) - 1) >> shift):
        x = as_int(top) << shift
        stop = min(x + (1 << shift), end)
        slot = code_of(block_of, block_code, found[top])
        if slot < 0 or not walk_list(
            words, own, slots, leaf_slot, leaf_page, h, max_pfn, x, stop, slot
        ):
            odd += 1
    return odd


@kernel
def frame_lists_of(t: P2MTables, h: HostTables, found: Int64Array) -> int:
    """Do `map_frame_lists`."""
    return map_frame_lists(t, h, found)


def save_walk_parallel(t: P2MTables, h: HostTables, found: Int64Array) -> int:
    """Do `save_walk` on all cores; returns as it does."""
    max_pfn = int(frame_lists_of(t, h, found))
    if max_pfn < 0:
        return -max_pfn
    end = (max_pfn >> int(t.state[0].entries_shift)) + 1
    if t.state[0].wild != 0 or end > len(t.leaf_slot) or walk_mids(t, h, found, end, max_pfn):
        return int(save_walk(t, h, found))
    t.state[0].walked_max_pfn = max_pfn
    return OK
