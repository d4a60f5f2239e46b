"""Looking PFNs up: the exact walk, whole arrays in the plain case, and in parallel.

Source: kernel `get_phys_to_machine`, model section 2.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from p2mbatch.base.arrays import Int32Array, Int64Array
from p2mbatch.base.geometry import FOREIGN_FRAME_BIT, INVALID
from p2mbatch.compiled.hosts import layout_frame
from p2mbatch.compiled.jit import (
    as_int,
    inline_kernel,
    inner_kernel,
    kernel,
    never_inline,
    parallel_kernel,
    prefetch,
)
from p2mbatch.compiled.loops import copy_words, counts_up, shift_of
from p2mbatch.compiled.owners import guest_m2p, is_present
from p2mbatch.compiled.pages import direct_address, page_code, page_word, reached_page
from p2mbatch.compiled.status import FAULT_MID, FAULT_TOP
from p2mbatch.compiled.tables import (
    IMAGE_BASE,
    NO_PAGE,
    UNREACHABLE,
    HostTables,
    P2MTables,
)

# --- lookup ------------------------------------------------------------------------------------


@inner_kernel
def leaf_page_of(t: P2MTables, x: int) -> int:
    """Return the PFN of leaf `x`'s page; FAULT_TOP or FAULT_MID of a wild pointer on the way.

    By the cache where it may be believed: not every policy keeps its p2m in the tree.
    """
    if x < t.state[0].num_leaves and t.state[0].wild == 0:
        return as_int(t.leaf_page[x])
    if t.state[0].top == NO_PAGE:
        # Of a linear p2m: what is not cached, or lies past its end, is 1:1.
        return t.state[0].identity
    shift = t.state[0].entries_shift
    top = page_code(t, t.state[0].top)
    if top < 0 or x >> shift >= t.words.shape[1]:
        return FAULT_TOP
    mid = reached_page(t, t.words[top, x >> shift])
    if mid >= UNREACHABLE:
        return FAULT_TOP
    code = page_code(t, mid)
    if code < 0:
        # Zeros, or a leaf's MFNs as its host gave them: neither is an address that is mapped.
        return FAULT_MID
    leaf = reached_page(t, t.words[code, x & ((1 << shift) - 1)])
    return leaf if leaf < UNREACHABLE else FAULT_MID


@inline_kernel
def get_phys_to_machine(t: P2MTables, h: HostTables, pfn: int) -> int:
    """Return the entry of `pfn`, no bit masked; INVALID beyond MAX_P2M_PFN; or a FAULT_ code.

    Source: kernel `get_phys_to_machine`, model section 2.
    """
    if pfn < 0 or pfn >= t.state[0].max_p2m:
        return INVALID
    shift = t.state[0].entries_shift
    x = pfn >> shift
    if x < t.state[0].num_leaves and t.state[0].wild == 0:
        slot = as_int(t.leaf_slot[x])
        if slot >= 0:
            return t.words[slot, pfn & ((1 << shift) - 1)]
        return layout_frame(h.par[0], t.state[0].saved_max_pfn, pfn)
    return _walk_to_entry(t, h, pfn)


@inner_kernel
def _walk_to_entry(t: P2MTables, h: HostTables, pfn: int) -> int:
    """Return the entry of `pfn` by way of the pointer pages' own words."""
    never_inline()
    shift = t.state[0].entries_shift
    page = leaf_page_of(t, pfn >> shift)
    return page_word(t, h, page, pfn & ((1 << shift) - 1)) if page >= 0 else page


@inner_kernel
def pfn_to_mfn(t: P2MTables, h: HostTables, pfn: int) -> int:
    """Return the entry of `pfn` without FOREIGN_FRAME_BIT (INVALID stays), or a FAULT_ code."""
    entry = get_phys_to_machine(t, h, pfn)
    return entry & ~FOREIGN_FRAME_BIT if entry >= 0 else entry


@inner_kernel
def mfn_to_virt(t: P2MTables, h: HostTables, mfn: int) -> int:
    """Return the address that the kernel's `mfn_to_virt` gives: the direct map's, wrapped."""
    return direct_address(t, guest_m2p(t, h, mfn))


@inner_kernel
def store_page(t: P2MTables, h: HostTables, where: int) -> int:
    """Return the page that a store through a mid_mfn page at `where` reaches, or UNREACHABLE.

    Through the direct map the page must be present too (machine-v2 section 3b).
    """
    page = reached_page(t, where)
    if page >= UNREACHABLE or t.state[0].presence == 0:
        return page
    if t.state[0].image_map != 0 and IMAGE_BASE <= where < 0:
        return page
    return page if is_present(t, h, page) else UNREACHABLE


LOOKUP_BLOCK = 512
"""Lookups that are done together; a block with one that is not plain is left to the caller."""

LOOKUP_RUN = 1 << 12
"""PFNs that count up and are copied in one go, where their leaves lie side by side."""

LOOKUPS_AHEAD = np.uint64(24)
"""How many lookups ahead of its use an entry is asked for."""

ROW_BLOCK = 1 << 10
"""Leaves of which it is found out together whether they lie side by side."""

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
    shift = shift_of(n)
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
    shift = shift_of(n)
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


CHUNK = 1 << 14
"""Lookups that one thread takes at a time."""

# --- lookup ------------------------------------------------------------------------------------


@inner_kernel
def _lookup_rest(t: P2MTables, h: HostTables, pfns: Int64Array, out: Int64Array, k: int) -> None:
    """Look `pfns[k:]` up, block by block, exactly where a block is not plain."""
    words, leaf_slot, max_p2m_pfn = t.words, t.leaf_slot, t.state[0].max_p2m
    plain = t.state[0].wild == 0
    end = len(pfns)
    in_row = leaves_in_row(leaf_slot, end - k)
    while k < end:
        if plain:
            k = lookup_plain(words, leaf_slot, in_row, max_p2m_pfn, pfns, out, k, end)
        stop = min(k + LOOKUP_BLOCK, end)
        while k < stop:
            out[k] = get_phys_to_machine(t, h, pfns[k])
            k += 1


@kernel
def lookup(t: P2MTables, h: HostTables, pfns: Int64Array, out: Int64Array) -> None:
    """Write `get_phys_to_machine` of each of `pfns` (int64[k]) to `out` (int64[k]).

    FAULT_ codes stand where a wild pointer is in the way.
    """
    _lookup_rest(t, h, pfns, out, as_int(0))


@parallel_kernel
def lookup_chunks(
    words: Int64Array,
    leaf_slot: Int32Array,
    max_p2m_pfn: int,
    pfns: Int64Array,
    out: Int64Array,
    done: Int64Array,
) -> None:
    """Look each chunk up as far as it is plain; `done` (int64[chunks]) gets how far that was."""
    in_row = leaves_in_row(leaf_slot, len(pfns))
    for chunk in prange(len(done)):
        begin = as_int(chunk) * CHUNK
        end = min(begin + CHUNK, len(pfns))
        done[chunk] = lookup_plain(words, leaf_slot, in_row, max_p2m_pfn, pfns, out, begin, end)


@kernel
def _lookup_left(
    t: P2MTables, h: HostTables, pfns: Int64Array, out: Int64Array, done: Int64Array
) -> None:
    """Look up what `lookup_chunks` left."""
    for chunk in range(len(done)):
        end = min((chunk + 1) * CHUNK, len(pfns))
        if done[chunk] < end:
            _lookup_rest(t, h, pfns[:end], out[:end], done[chunk])


def lookup_parallel(t: P2MTables, h: HostTables, pfns: Int64Array, out: Int64Array) -> None:
    """Do `lookup` on all cores."""
    done = np.arange(-(-len(pfns) // CHUNK), dtype=np.int64) * CHUNK
    if t.state[0].wild == 0:
        lookup_chunks(t.words, t.leaf_slot, int(t.state[0].max_p2m), pfns, out, done)
    _lookup_left(t, h, pfns, out, done)
