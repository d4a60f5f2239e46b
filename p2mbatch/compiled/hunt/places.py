"""Where a life's structures lie, and PFNs that matter: what hosts and events are aimed at."""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array, UInt64Array
from p2mbatch.compiled.dice import below, between, one_in
from p2mbatch.compiled.hunt.kinds import Kind
from p2mbatch.compiled.hunt.program import Program
from p2mbatch.compiled.jit import inner_kernel, never_inline
from p2mbatch.compiled.records import NO_PAGE

MAX_TAKEN = 16


@inner_kernel
def note_taken(kind: Kind, program: Program, taken: Int64Array) -> int:
    """Write the runs of structure and pool pages to `taken` (int64[16, 2]); return how many."""
    never_inline()
    guest = program.guest[0]
    shift = 9 if kind.word_bytes == 8 else 10
    count = _take(taken, 0, guest.mfn_list_pfn, (guest.nr_pages + (1 << shift) - 1) >> shift)
    count = _take(taken, count, guest.brk_pfn, guest.brk_pages)
    count = _take(taken, count, guest.bootmem_pfn, guest.bootmem_pages)
    if guest.max_domain_pages > 0:
        tops = guest.max_domain_pages >> (2 * shift)
        count = _take(taken, count, guest.missing, 1)
        count = _take(taken, count, guest.top, tops)
        count = _take(taken, count, guest.top_mfn, tops)
        count = _take(taken, count, guest.top_mfn_list, 1)
    if guest.pgd != NO_PAGE:
        count = _take(taken, count, guest.pgd, 1)
        count = _take(taken, count, guest.boot_pool_pfn, guest.boot_pool_pages)
    for i in range(guest.num_pool):
        count = _take(taken, count, program.pool[i, 0], program.pool[i, 1])
    return count


@inner_kernel
def _take(taken: Int64Array, count: int, first: int, pages: int) -> int:
    """Write one run, if it is of any pages; return how many there are now."""
    if pages <= 0:
        return count
    taken[count, 0] = first
    taken[count, 1] = pages
    return count + 1


@inner_kernel
def first_taken(taken: Int64Array, count: int, first: int, end: int) -> int:
    """Return the lowest structure page from PFN `first` below `end`; `end` where there is none."""
    lowest = end
    for i in range(count):
        if taken[i, 0] < lowest and taken[i, 0] + taken[i, 1] > first:
            lowest = max(taken[i, 0], first)
    return lowest


@inner_kernel
def structure(dice: UInt64Array, taken: Int64Array, count: int) -> int:
    """Draw a page of a structure: often one of a run's first, where the hubs lie."""
    run = below(dice, count)
    pages = taken[run, 1]
    return taken[run, 0] + below(dice, min(pages, 8) if one_in(dice, 2) else pages)


@inner_kernel
def any_page(dice: UInt64Array, program: Program, taken: Int64Array, count: int) -> int:
    """Draw a page of the guest: often a structure's."""
    if one_in(dice, 3):
        return below(dice, program.guest[0].nr_pages)
    return structure(dice, taken, count)


@inner_kernel
def edge(kind: Kind, dice: UInt64Array, program: Program) -> int:
    """Draw a PFN at or beside a boundary: of memory, a leaf, a top entry, or what sets reach."""
    never_inline()
    guest = program.guest[0]
    n = 4096 // kind.word_bytes
    what = below(dice, 8)
    pfn = guest.nr_pages
    if what == 1:
        pfn = guest.max_p2m_pfn
    elif what == 2:
        pfn = (guest.nr_pages + n - 1) // n * n
    elif what == 3:
        pfn = (guest.max_p2m_pfn + n - 1) // n * n
    elif what == 4:
        pfn = guest.reach
    elif what == 5:
        pfn = n * n if guest.reach > n * n else n * between(dice, 1, max(guest.reach // n, 1))
    elif what == 6:
        pfn = n * n + n if guest.reach > n * n + n else guest.nr_pages + below(dice, n)
    elif what == 7:
        pfn = 2 * n * n if guest.reach > 2 * n * n else guest.nr_pages // 2
    return max(min(pfn - below(dice, 3) + below(dice, 3), guest.reach - 1), 0)
