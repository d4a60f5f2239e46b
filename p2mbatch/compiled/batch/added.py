"""Which pages a guest gets after it has booted, and how many by chance: `Placement.added_pages`."""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array, UInt8Array
from p2mbatch.compiled.batch.cells import BEYOND, INSIDE, Cell
from p2mbatch.compiled.batch.digest import blake2b, bytes_of, put_number, put_text, upper_half
from p2mbatch.compiled.batch.room import Room
from p2mbatch.compiled.bijection import forward
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline
from p2mbatch.compiled.records import HostParameters
from p2mbatch.compiled.tables import SCATTERED, TAIL

CHURN, BALLOON, FROM = (bytes_of(f"p2mbatch:{what}:") for what in ("churn", "balloon", "from"))

_COLON = bytes_of(":")


@inner_kernel
def drawn(what: UInt8Array, most: int, cell: Cell, migration: int, number: int, room: Room) -> int:
    """Return a number from 0 to `most`, any of them alike: `churn.Churn._drawn`."""
    never_inline()
    message = room.message
    end = put_text(message, put_number(message, put_text(message, 0, what), cell.seed), _COLON)
    end = put_text(message, put_number(message, end, migration), _COLON)
    blake2b(message, put_number(message, end, number), 8, room.digest)
    return upper_half(room.digest[0], np.uint64(most + 1))


@inner_kernel
def added_pages(cell: Cell, par: HostParameters, first: int, count: int, pfns: Int64Array) -> int:
    """Write to `pfns` up to `count` pages that are populated behind the first `first`, ascending.

    Returns how many there are.
    """
    never_inline()
    if cell.grow_where == BEYOND:
        return _in_a_row(pfns, cell.span + first, min(count, cell.reach - cell.span - first))
    if cell.grow_where == INSIDE:
        start = cell.hole_first + first
        return _in_a_row(pfns, start, min(count, cell.hole_end - start))
    if cell.layout == TAIL:
        # Those past the booted pages, without the 1:1 ones.
        start, end = max(cell.hole_first, cell.nr_pages), max(cell.hole_end, cell.nr_pages)
        k = as_int(0)
        while k < count:
            pfn = cell.nr_pages + first + k
            if pfn >= start:
                pfn += end - start
            if pfn >= cell.span:
                break
            pfns[k] = pfn
            k += 1
        return k
    k = max(min(count, cell.num_holes - first), as_int(0))
    for at in range(k):
        pfns[at] = _hole(cell, par, first + at)
    _sort(pfns, k)
    return k


@inner_kernel
def _in_a_row(pfns: Int64Array, first: int, count: int) -> int:
    """Write `count` PFNs from `first` on; return how many, 0 where that is less."""
    for k in range(count):
        pfns[k] = first + k
    return max(count, as_int(0))


@inner_kernel
def _hole(cell: Cell, par: HostParameters, rank: int) -> int:
    """Return the PFN of hole number `rank`, where a bijection has them: `Placement.hole_pages`."""
    shift = par.entries_shift
    if cell.layout == SCATTERED:
        pfn = forward(par.holes_perm, rank)
        return pfn + par.struct_pages if pfn >= cell.brk_pfn else pfn
    # Whole leaves, then what lies past the last of those.
    leaf = cell.num_grown + (rank >> shift)
    if leaf >= par.holes_perm.length:
        return cell.nr_pages + rank + (cell.num_grown << shift)
    low = rank & ((1 << shift) - 1)
    return cell.nr_pages + ((forward(par.holes_perm, leaf) << shift) | low)


@inner_kernel
def _sort(numbers: Int64Array, count: int) -> None:
    """Sort the first `count` numbers, in place: a heap's way."""
    never_inline()
    for root in range(count // 2 - 1, -1, -1):
        _sift(numbers, root, count)
    for end in range(count - 1, 0, -1):
        largest = numbers[0]
        numbers[0] = numbers[end]
        numbers[end] = largest
        _sift(numbers, as_int(0), end)


@inner_kernel
def _sift(numbers: Int64Array, root: int, end: int) -> None:
    """Let `numbers[root]` sink in the heap that lies before `end`."""
    sinking = numbers[root]
    child = 2 * root + 1
    while child < end:
        if child + 1 < end and numbers[child + 1] > numbers[child]:
            child += 1
        if numbers[child] <= sinking:
            break
        numbers[root] = numbers[child]
        root = child
        child = 2 * root + 1
    numbers[root] = sinking
