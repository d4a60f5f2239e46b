"""Compiled inner loops for the plain case: sound pointers, resident leaves, nothing hit by a stray.

Handing the tables to a function costs more than most of what it then does, so what runs once per
leaf or per page takes bare arrays. Each of these loops says how far it came; where anything is out
of the ordinary it stops before having changed anything there, and the exact kernels go on. One
thread's kernels and the parallel ones call the same loops.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from p2mbatch.base.arrays import Int32Array, Int64Array, UInt64Array
from p2mbatch.base.geometry import FOREIGN_FRAME_BIT, INVALID
from p2mbatch.compiled.jit import as_int, inline_kernel, inner_kernel
from p2mbatch.compiled.tables import BLOCK_SHIFT, NO_PAGE

ALL_OWN = ~np.uint64(0)
"""A word of `P2MTables.own` when all of its 64 entries got their frames."""


@inline_kernel
def code_of(block_of: Int32Array, block_code: Int32Array, page: int) -> int:
    """Return `pages.page_code` from the bare arrays."""
    block = page >> BLOCK_SHIFT
    if page < 0 or block >= len(block_of) or block_of[block] < 0:
        return NO_PAGE
    return as_int(block_code[block_of[block], page & ((1 << BLOCK_SHIFT) - 1)])


@inline_kernel
def shift_of(n: int) -> int:
    """Return log2 of the entries per page, a power of two."""
    return 9 if n == 512 else 10


@inline_kernel
def without_foreign_bit(entry: int) -> int:
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
def copy_without(entries: Int64Array, out: Int64Array, flags: int, invalid: int) -> None:
    """Write each p2m entry without `flags` to the beginning of `out`; INVALID as `invalid`."""
    for j in range(len(entries)):
        out[j] = entries[j] & ~flags if entries[j] != INVALID else invalid


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
    flags: int = FOREIGN_FRAME_BIT,
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
        copy_without(entries[i : i + count], row[j : j + count], flags, INVALID)
        k += count
    return stop


@inline_kernel
def run_end(leaf_page: Int32Array, k: int, stop: int) -> int:
    """Return where the run of leaf pages ends that lie side by side, or are one page, from `k`."""
    first = as_int(leaf_page[k])
    # The last one tells almost all others apart, before all between is compared.
    if leaf_page[stop - 1] == first + stop - 1 - k and counts_up(leaf_page[k:stop]):
        return stop
    end = k + 1
    if end < stop and leaf_page[end] == first:
        while end < stop and leaf_page[end] == first:
            end += 1
        return end
    while end < stop and leaf_page[end] == first + (end - k):
        end += 1
    return end


@inline_kernel
def copy_eras(
    words: Int64Array,
    leaf_slot: Int32Array,
    leaf_page: Int32Array,
    x: int,
    stop: int,
    row: Int64Array,
    flags: int,
    invalid: int,
    identity: int,
) -> int:
    """Store the MFNs of leaves `x` to `stop` of one mid in `row`; return the first leaf not done.

    As `copy_run` for leaf pages in several runs, shared ones among them. `flags` are not part of an
    MFN, INVALID becomes `invalid`, and what lies in leaf page `identity` is left to the caller.
    """
    n = words.shape[1]
    shift = shift_of(n)
    k = x
    while k < stop:
        end = run_end(leaf_page, k, stop)
        pfn = as_int(leaf_page[k])
        step = 0 if end > k + 1 and leaf_page[k + 1] == pfn else 1
        while k < end:
            y = pfn >> shift
            if y >= len(leaf_slot) or leaf_slot[y] < 0 or leaf_page[y] == identity:
                return k
            i = pfn & (n - 1)
            j = k & (n - 1)
            if step == 0:
                entry = words[leaf_slot[y], i]
                mfn = entry & ~flags if entry != INVALID else invalid
                for at in range(j, j + end - k):
                    row[at] = mfn
                k = end
            else:
                count = min(n - i, end - k)
                copy_without(words[leaf_slot[y], i : i + count], row[j : j + count], flags, invalid)
                k += count
                pfn += count
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
    flags: int = FOREIGN_FRAME_BIT,
) -> int:
    """Like `copy_run` for leaf pages anywhere, `p2m_missing` among them."""
    n = 1 << shift
    for k in range(x, stop):
        pfn = as_int(leaf_page[k])
        if pfn >> shift >= len(leaf_slot) or leaf_slot[pfn >> shift] < 0:
            return k
        entry = words[leaf_slot[pfn >> shift], pfn & (n - 1)]
        row[k & (n - 1)] = entry & ~flags if entry != INVALID else INVALID
    return stop


@inline_kernel
def all_invalid(row: Int64Array) -> bool:
    """Return whether every word of `row` is INVALID."""
    differ = as_int(0)
    for i in range(len(row)):
        differ |= row[i] ^ INVALID
    return bool(differ == 0)


@inline_kernel
def all_own(own: UInt64Array, slot: int) -> bool:
    """Return whether every entry of the leaf in `slot` got its frame."""
    every = own[slot, 0]
    for i in range(1, own.shape[1]):
        every &= own[slot, i]
    return bool(every == ALL_OWN)
