"""Compiled inner loops for the plain case: sound pointers, resident leaves, nothing hit by a stray.

Handing the tables to a function costs more than most of what it then does, so what runs once per
leaf or per page takes bare arrays. Each of these loops says how far it came; where anything is out
of the ordinary it stops before having changed anything there, and the exact kernels go on. One
thread's kernels and the parallel ones call the same loops.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from p2mbatch._jit import as_int, inline_kernel, inner_kernel, prefetch
from p2mbatch.geometry import FOREIGN_FRAME_BIT, INVALID
from p2mbatch.kernels_rows import given_row
from p2mbatch.tables import (
    BLOCK_SHIFT,
    FUNCTION_HOST,
    H_FRAMES,
    H_KIND,
    NO_PAGE,
    P_CLEAN,
    P_LEAF,
    S_ENTRIES_SHIFT,
    S_ENTRIES_WRITTEN,
    S_MID_MISSING,
    S_MID_MISSING_MFN,
    S_MISSING,
    S_NUM_LEAVES,
    S_POLICY,
    S_TOP,
    S_TOP_MFN,
    S_TOP_MFN_P,
    S_VA_BASE,
    S_VA_MASK,
    S_WILD,
    STALE,
    HostTables,
    Int32Array,
    Int64Array,
    P2MTables,
    UInt64Array,
)

LOOKUP_BLOCK = 512
"""Lookups that are done together; a block with one that is not plain is left to the caller."""
LOOKUP_RUN = 1 << 12
"""PFNs that count up and are copied in one go, where their leaves lie side by side."""
LOOKUPS_AHEAD = np.uint64(24)
"""How many lookups ahead of its use an entry is asked for."""
ROW_BLOCK = 1 << 10
"""Leaves of which it is found out together whether they lie side by side."""
ALL_OWN = ~np.uint64(0)
"""A word of `P2MTables.own` when all of its 64 entries got their frames."""


@inline_kernel
def code_of(block_of: Int32Array, block_code: Int32Array, page: int) -> int:
    """Return `kernels.page_code` from the bare arrays."""
    block = page >> BLOCK_SHIFT
    if page < 0 or block >= len(block_of) or block_of[block] < 0:
        return NO_PAGE
    return as_int(block_code[block_of[block], page & ((1 << BLOCK_SHIFT) - 1)])


@inline_kernel
def _shift(n: int) -> int:
    """Return log2 of the entries per page, a power of two."""
    return 9 if n == 512 else 10


@inline_kernel
def _masked(entry: int) -> int:
    """Return what `pfn_to_mfn` makes of a p2m entry."""
    return entry & ~FOREIGN_FRAME_BIT if entry != INVALID else INVALID


# Loops over views from 0 on: where an index might be below 0, and so count from the end, the
# compiler does not take eight at a time.


@inner_kernel
def counts_up(numbers: npt.NDArray[np.integer]) -> bool:
    """Return whether each of `numbers` (at least one) is one more than the one before."""
    first = numbers[0]
    differ = first ^ first
    for j in range(len(numbers)):
        differ |= numbers[j] ^ (first + type(first)(j))
    return differ == 0


@inner_kernel
def copy_words(source: Int64Array, out: Int64Array) -> None:
    """Copy `source` to the beginning of `out`."""
    for j in range(len(source)):
        out[j] = source[j]


@inner_kernel
def copy_masked(entries: Int64Array, out: Int64Array) -> None:
    """Write what `pfn_to_mfn` makes of each p2m entry to the beginning of `out`."""
    for j in range(len(entries)):
        out[j] = _masked(entries[j])


# --- lookup ------------------------------------------------------------------------------------


@inner_kernel
def within(numbers: Int64Array, limit: int) -> bool:
    """Return whether each of `numbers` is 0 or more and less than `limit`."""
    sign = np.int64(0)
    for j in range(len(numbers)):
        sign |= numbers[j] | (limit - 1 - numbers[j])
    return bool(sign >= 0)


@inner_kernel
def _look_up_block(
    words: Int64Array,
    leaf_slot: Int32Array,
    up: np.uint64,
    mask: np.uint64,
    pfns: Int64Array,
    out: Int64Array,
) -> int:
    """Look up PFNs that are all inside the span; return the least slot met: below 0, redo them.

    Short, so that the processor sees many lookups at once; and as their entries are asked for
    ahead, those that it does not see yet are under way too.
    """
    least = np.int32(0)
    last = np.uint64(len(pfns) - 1)
    for j in range(np.uint64(len(pfns))):
        ahead = np.uint64(pfns[min(j + LOOKUPS_AHEAD, last)])
        # Asking for what is not there does no harm.
        prefetch(words, (np.uint64(leaf_slot[ahead >> up]) << up) | (ahead & mask))
        pfn = np.uint64(pfns[j])
        slot = leaf_slot[pfn >> up]
        least = min(least, slot)
        out[j] = words[np.uint64(max(slot, np.int32(0))), pfn & mask]
    return as_int(least)


@inner_kernel
def leaves_in_row(leaf_slot: Int32Array, num_lookups: int) -> int:
    """Return how many leaves, from the first, lie side by side in `words` as they do in the p2m.

    Those of a guest that has booted do. A lookup there needs no `leaf_slot`, whose entries cost as
    much as the words do once neither fits a cache. 0 for so few lookups that this would not pay.
    """
    if num_lookups < max(len(leaf_slot), 1) or leaf_slot[0] < 0:
        return 0
    first = as_int(leaf_slot[0])
    k = 0
    while k < len(leaf_slot) and leaf_slot[k] == first + k:
        stop = min(k + ROW_BLOCK, len(leaf_slot))
        k = stop if counts_up(leaf_slot[k:stop]) else k + 1
    return k


@inner_kernel
def _look_up_row(words: Int64Array, pfns: Int64Array, out: Int64Array) -> None:
    """Look up PFNs whose entries lie in `words` (int64[k]) as they do in the p2m."""
    last = np.uint64(len(pfns) - 1)
    for j in range(np.uint64(len(pfns))):
        prefetch(words, np.uint64(pfns[min(j + LOOKUPS_AHEAD, last)]))
        out[j] = words[np.uint64(pfns[j])]


@inner_kernel
def _look_up_any(
    words: Int64Array, leaf_slot: Int32Array, max_p2m_pfn: int, pfns: Int64Array, out: Int64Array
) -> bool:
    """Look up PFNs of any value; whether all were plain."""
    n = words.shape[1]
    shift = _shift(n)
    up, mask, zero = np.uint64(shift), np.uint64(n - 1), np.uint64(0)
    limit, max_p2m = np.uint64(len(leaf_slot) << shift), np.uint64(max_p2m_pfn)
    every = True
    # Unsigned, one comparison covers both ends and an index needs no look at its sign.
    for j in range(np.uint64(len(pfns))):
        pfn = np.uint64(pfns[j])
        inside = pfn < limit
        slot = leaf_slot[pfn >> up if inside else zero]
        good = inside & (slot >= 0)
        word = words[np.uint64(slot) if good else zero, pfn & mask]
        out[j] = word if good else INVALID
        every &= good
    if every:
        return True
    for j in range(len(pfns)):
        pfn = np.uint64(pfns[j])
        if pfn < max_p2m and (pfn >= limit or leaf_slot[pfn >> up] < 0):
            return False
    return True


@inner_kernel
def lookup_plain(
    words: Int64Array,
    leaf_slot: Int32Array,
    in_row: int,
    max_p2m_pfn: int,
    pfns: Int64Array,
    out: Int64Array,
    begin: int,
    end: int,
) -> int:
    """Look `pfns[begin:end]` up; return where a block begins that is not plain, or `end`.

    Plain are PFNs of resident leaves (`p2m_missing` is one) and those that no tree can hold.
    `in_row` is what `leaves_in_row` found.
    """
    n = words.shape[1]
    shift = _shift(n)
    up, mask = np.uint64(shift), np.uint64(n - 1)
    span, row_span = len(leaf_slot) << shift, in_row << shift
    row = words.reshape(-1)[as_int(leaf_slot[0]) << shift :] if in_row > 0 else words.reshape(-1)
    k = begin
    while k < end:
        first = pfns[k]
        # As far as PFNs that count up from here stay among leaves side by side, or in one leaf.
        # The end tells almost every block of scattered ones apart, before all of it is compared.
        if 0 <= first < row_span:
            stop = min(k + LOOKUP_RUN, end, k + row_span - first)
            if pfns[stop - 1] - first == stop - 1 - k and counts_up(pfns[k:stop]):
                copy_words(row[first : first + stop - k], out[k:stop])
                k = stop
                continue
        elif 0 <= first < span:
            stop = min(k + n - (first & (n - 1)), end)
            slot = as_int(leaf_slot[first >> shift])
            if pfns[stop - 1] - first == stop - 1 - k and slot >= 0 and counts_up(pfns[k:stop]):
                i = first & (n - 1)
                copy_words(words[slot, i : i + stop - k], out[k:stop])
                k = stop
                continue
        stop = min(k + LOOKUP_BLOCK, end)
        some, found = pfns[k:stop], out[k:stop]
        if within(some, row_span):
            _look_up_row(row, some, found)
        elif within(some, span):
            if _look_up_block(words, leaf_slot, up, mask, some, found) < 0:
                return k
        elif not _look_up_any(words, leaf_slot, max_p2m_pfn, some, found):
            return k
        k = stop
    return end


# --- xen_build_mfn_list_list -------------------------------------------------------------------


@inline_kernel
def copy_run(
    words: Int64Array,
    leaf_slot: Int32Array,
    leaf_page: Int32Array,
    shift: int,
    x: int,
    stop: int,
    row: Int64Array,
) -> int:
    """Store the MFNs of leaves `x` to `stop` of one mid in `row`; return the first leaf not done.

    Done are runs of leaf pages that lie side by side, as those of `mfn_list` do, in leaves that
    are resident: their entries are copied as they stand.
    """
    n = 1 << shift
    first = as_int(leaf_page[x])
    if not counts_up(leaf_page[x:stop]):
        return x
    k = x
    while k < stop:
        pfn = first + (k - x)
        if pfn >> shift >= len(leaf_slot) or leaf_slot[pfn >> shift] < 0:
            return k
        entries = words[leaf_slot[pfn >> shift]]
        i = pfn & (n - 1)
        count = min(n - i, stop - k)
        j = k & (n - 1)
        copy_masked(entries[i : i + count], row[j : j + count])
        k += count
    return stop


@inline_kernel
def copy_each(
    words: Int64Array,
    leaf_slot: Int32Array,
    leaf_page: Int32Array,
    shift: int,
    x: int,
    stop: int,
    row: Int64Array,
) -> int:
    """Like `copy_run` for leaf pages anywhere, `p2m_missing` among them."""
    n = 1 << shift
    for k in range(x, stop):
        pfn = as_int(leaf_page[k])
        if pfn >> shift >= len(leaf_slot) or leaf_slot[pfn >> shift] < 0:
            return k
        row[k & (n - 1)] = _masked(words[leaf_slot[pfn >> shift], pfn & (n - 1)])
    return stop


@inline_kernel
def _list_slots(t: P2MTables) -> tuple[int, int, int]:
    """Return the slots of `p2m_top`, `p2m_top_mfn_p` and `p2m_top_mfn`."""
    return (
        code_of(t.block_of, t.block_code, t.state[S_TOP]),
        code_of(t.block_of, t.block_code, t.state[S_TOP_MFN_P]),
        code_of(t.block_of, t.block_code, t.state[S_TOP_MFN]),
    )


@inner_kernel
def _plain_mid_mfn(state: Int64Array, leaf_slot: Int32Array, mid: int, tracked: int) -> int:
    """Return the page that the list has for a mid, or NO_PAGE where that is not plain.

    `mid` and `tracked` are the words of `p2m_top` and `p2m_top_mfn_p`. Both or neither must be the
    missing page, and the entry of the list's page must be in a resident leaf.
    """
    base, mask = state[S_VA_BASE], state[S_VA_MASK]
    page = ((tracked - base) >> 12) & mask
    no_mid = ((mid - base) >> 12) & mask == state[S_MID_MISSING]
    if no_mid != (page == state[S_MID_MISSING_MFN]):
        return NO_PAGE
    x = page >> state[S_ENTRIES_SHIFT]
    if x >= len(leaf_slot) or leaf_slot[x] < 0:
        return NO_PAGE
    return as_int(page)


@inner_kernel
def rebuild_mid(
    state: Int64Array,
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
    shift = state[S_ENTRIES_SHIFT]
    n = 1 << shift
    words[top_mfn, x >> shift] = _masked(words[leaf_slot[page >> shift], page & (n - 1)])
    if page == state[S_MID_MISSING_MFN]:
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
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    if state[S_WILD] != 0 or end > state[S_NUM_LEAVES]:
        return x
    words, leaf_slot, leaf_page = t.words, t.leaf_slot, t.leaf_page
    top_slot, tracked, top_mfn = _list_slots(t)
    while x < end:
        top = x >> shift
        page = _plain_mid_mfn(state, leaf_slot, words[top_slot, top], words[tracked, top])
        if page == NO_PAGE:
            return x
        stop = min((top + 1) << shift, end)
        slot = code_of(t.block_of, t.block_code, page)
        written = rebuild_mid(state, words, leaf_slot, leaf_page, top_mfn, page, slot, x, stop)
        if written < 0:
            return x
        state[S_ENTRIES_WRITTEN] += written
        x = stop
    return x


@inner_kernel
def list_pages(t: P2MTables, end: int, pages: Int64Array, slots: Int64Array) -> bool:
    """Write the list's page of each mid below leaf `end` and its slot; whether all are plain.

    `pages` and `slots` are int64[mids]. Where this is true, a rebuild can meet no BUG, so that
    the order in which the mids are done does not show.
    """
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    if state[S_WILD] != 0 or end > state[S_NUM_LEAVES] or state[S_POLICY] == STALE:
        return False
    top_slot, tracked, _ = _list_slots(t)
    for top in range((end + (1 << shift) - 1) >> shift):
        pages[top] = _plain_mid_mfn(
            state, t.leaf_slot, t.words[top_slot, top], t.words[tracked, top]
        )
        if pages[top] == NO_PAGE:
            return False
        slots[top] = code_of(t.block_of, t.block_code, pages[top])
    return refill_plain(t)


@inner_kernel
def refill_plain(t: P2MTables) -> bool:
    """Fill `p2m_mid_missing_mfn` with the present MFN of `p2m_missing`; whether it could."""
    missing = t.state[S_MISSING]
    shift = t.state[S_ENTRIES_SHIFT]
    x = missing >> shift
    slot = code_of(t.block_of, t.block_code, t.state[S_MID_MISSING_MFN])
    if x >= len(t.leaf_slot) or t.leaf_slot[x] < 0 or slot < 0:
        return False
    mfn = _masked(t.words[t.leaf_slot[x], missing & ((1 << shift) - 1)])
    for i in range(1 << shift):
        t.words[slot, i] = mfn
    return True


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
    frames = h.par[H_FRAMES]
    table = h.par[H_KIND] != FUNCTION_HOST
    shift = _shift(n)
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
        if not _same_frames(mfns, words[slot, j : j + count], frames):
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
def _same_frames(mfns: Int64Array, others: Int64Array, frames: int) -> bool:
    """Return whether two arrays are equal and hold frames of the machine, 0 not among them."""
    bad = np.int64(0)
    for j in range(len(mfns)):
        # Below 0 where a number is 0 or less, or not below `frames`.
        bad |= (mfns[j] ^ others[j]) | ((mfns[j] - 1) >> 63) | ((frames - 1 - mfns[j]) >> 63)
    return bool(bad == 0)


@inline_kernel
def all_own(own: UInt64Array, slot: int) -> bool:
    """Return whether every entry of the leaf in `slot` got its frame."""
    every = own[slot, 0]
    for i in range(1, own.shape[1]):
        every &= own[slot, i]
    return bool(every == ALL_OWN)


# --- restore and set ---------------------------------------------------------------------------


@inner_kernel
def restore_plain(
    words: Int64Array,
    own: UInt64Array,
    slots: Int64Array,
    par: Int64Array,
    max_pfn: int,
    slot: int,
) -> bool:
    """Overwrite the leaf in `slot` with a function host's frames; whether it could.

    It can where the whole leaf was saved, every entry was populated and nothing else has been
    written there, so that what it holds need not be read.
    """
    x = slots[slot, P_LEAF]
    if slots[slot, P_CLEAN] == 0 or (x + 1) * words.shape[1] - 1 > max_pfn:
        return False
    return bool(all_own(own, slot) and given_row(par, x, words[slot]))


@inner_kernel
def set_plain(
    words: Int64Array, own: UInt64Array, h: HostTables, slot: int, pfn: int, mfn: int, count: int
) -> None:
    """Set `count` entries of one resident leaf from `pfn` on, to `mfn` and up or all INVALID."""
    i = pfn & (words.shape[1] - 1)
    step = np.int64(mfn >= 0)
    frames = h.par[H_FRAMES]
    if h.par[H_KIND] == FUNCTION_HOST:
        entries = words[slot, i : i + count]
        for at in range(count):
            entries[at] = mfn + at * step
        # Frames are those of their PFNs; what is no frame of this host is nobody's.
        owned = 0 <= mfn < frames
        bits = own[slot]
        at = i
        while at < i + count:
            # As many bits as one word has of this run.
            some = min(64 - (at & 63), i + count - at)
            mask = (ALL_OWN >> np.uint64(64 - some)) << np.uint64(at & 63)
            word = bits[at >> 6]
            bits[at >> 6] = word | mask if owned else word & ~mask
            at += some
        return
    for at in range(count):
        before = words[slot, i + at]
        after = mfn + at * step
        words[slot, i + at] = after
        if 0 <= before < frames and h.owned[before] != 0 and h.m2p[before] == pfn + at:
            h.owned[before] = 0
            h.m2p[before] = INVALID
        if 0 <= after < frames:
            h.owned[after] = 1
            h.m2p[after] = pfn + at
