"""Guests for random lives: small ones, their structures in any order, holes and extra memory."""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array, UInt64Array
from p2mbatch.compiled.dice import below, between, one_in, one_of
from p2mbatch.compiled.hunt.kinds import FLAT, Kind
from p2mbatch.compiled.hunt.program import MAX_RANGES, GuestPlan, Program
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline

_ONE_IN_WIDE_64, _ONE_IN_WIDE_32 = 24, 192

MOST_BESIDE_BRK = 28
"""Pages of a tree's guest of one leaf that its other structures, spare brk and gaps take at most,
where its boot marks nothing."""

_BLOCK = 1 << 18
"""PFNs of a linear p2m's block."""

_VADDR = 0xFFFF_C900_0000_0000 - (1 << 64)
_MIB_2, _GIB = 1 << 21, 1 << 30

_LEAVES = np.array([1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 4])
_POOLS = np.array(
    [[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 1, 0], [1, 2, 4], [9, 0, 0], [5, 9, 0], [12, 0, 0]]
)
_GAPS = np.array([0, 0, 1, 7, 7, 30])
_BLOCKS = np.array([1, 1, 2, 2, 3])
_NUM_RANGES = np.array([0, 0, 0, 1, 1, 2, 3])
_SPARE_BRK = np.array([0, 0, 1, 4])

# What a piece of a layout is.
_BRK, _LIST, _BOOTMEM, _MISSING, _TOP, _TOP_MFN, _TOPS, _PGD, _BOOT_POOL, _POOL = range(10)


@inner_kernel
def one_in_wide(kind: Kind) -> int:
    """Return of how many guests one may be set pages of further top entries, by its width.

    Of those that could be bred on one in so many is, too.
    """
    return as_int(_ONE_IN_WIDE_64 if kind.word_bytes == 8 else _ONE_IN_WIDE_32)


@inner_kernel
def draw_guest(kind: Kind, dice: UInt64Array, program: Program, pieces: Int64Array) -> None:
    """Draw the layout, 1:1 ranges and extra memory; `pieces` (int64[14, 2]) is a workspace."""
    never_inline()
    guest = program.guest[0]
    n = as_int(4096 // kind.word_bytes)
    leaves = one_of(dice, _LEAVES)
    guest.num_ranges = one_of(dice, _NUM_RANGES) if kind.marks or kind.family == FLAT else as_int(0)
    count = _draw_pieces(kind, dice, program, pieces, leaves)
    total = as_int(4)
    for i in range(count):
        total += pieces[i, 1] + 1
    # Most are small, whole leaves and not: what goes wrong seldom needs many pages.
    short = below(dice, 8)
    nr_pages = leaves * n
    if short == 1:
        nr_pages -= 1
    elif short == 2:
        nr_pages -= n // 2
    elif short >= 4:
        nr_pages -= n - 80 - below(dice, 10)
    guest.nr_pages = max(nr_pages, min(total, leaves * n))
    end = _place_pieces(kind, dice, program, pieces, count, guest.nr_pages - total)
    _draw_reach(kind, dice, guest, n)
    limit = as_int(229_376) if kind.word_bytes == 4 else as_int(1 << 27)
    directmap = guest.nr_pages
    if one_in(dice, 3):
        directmap = guest.reach
    elif one_in(dice, 3):
        directmap = guest.nr_pages + between(dice, 1, n)
    guest.directmap = min(directmap, limit)
    if kind.family == FLAT:
        _draw_runs(dice, program, end)
        _draw_extra(dice, program)
    else:
        _draw_marks(dice, program, end, n)


@inner_kernel
def _draw_pieces(
    kind: Kind, dice: UInt64Array, program: Program, pieces: Int64Array, leaves: int
) -> int:
    """Write what the guest's structures are, as [what, pages]; return how many pieces."""
    never_inline()
    guest = program.guest[0]
    count = _add(pieces, as_int(0), _LIST, leaves)
    if kind.two_level != 0:
        # The arrays' tops are as many as `max_domain_pages` has squares of a page's entries.
        tops = between(dice, 1, kind.two_level)
        n = 4096 // kind.word_bytes
        guest.max_domain_pages = tops * n * n
        count = _add(pieces, count, _MISSING, as_int(1))
        count = _add(pieces, count, _TOP, tops)
        count = _add(pieces, count, _TOP_MFN, tops)
        count = _add(pieces, count, _TOPS, as_int(1))
    elif kind.family == FLAT:
        count = _add(pieces, count, _PGD, as_int(1))
        count = _add(pieces, count, _BOOT_POOL, leaves + 42)
    else:
        more = one_of(dice, _SPARE_BRK) + 14 * guest.num_ranges
        count = _add(pieces, count, _BRK, kind.brk_one + more)
        if kind.takes_bootmem != 0:
            count = _add(pieces, count, _BOOTMEM, leaves + 14)
    pool = below(dice, len(_POOLS))
    for i in range(3):
        if _POOLS[pool, i] > 0:
            count = _add(pieces, count, _POOL, _POOLS[pool, i])
    return count


@inner_kernel
def _add(pieces: Int64Array, count: int, what: int, pages: int) -> int:
    pieces[count, 0] = what
    pieces[count, 1] = pages
    return count + 1


@inner_kernel
def _place_pieces(
    kind: Kind, dice: UInt64Array, program: Program, pieces: Int64Array, count: int, slack: int
) -> int:
    """Place the pieces in any order, with gaps of `slack` pages in all; return where they end."""
    never_inline()
    guest = program.guest[0]
    pfn = as_int(1)
    for i in range(count):
        j = between(dice, i, count - 1)
        what, pages = pieces[j, 0], pieces[j, 1]
        pieces[j, 0], pieces[j, 1] = pieces[i, 0], pieces[i, 1]
        gap = min(max(slack, 0), one_of(dice, _GAPS))
        slack -= gap
        pfn += gap
        _put(guest, program.pool, what, pfn, pages)
        # The page right behind mfn_list is moved along where leaves are.
        pfn += pages + (1 if what == _LIST and kind.moves != 0 else 0)
    for i in range(guest.num_pool - 1, 0, -1):
        j = below(dice, i + 1)
        for k in range(2):
            program.pool[i, k], program.pool[j, k] = program.pool[j, k], program.pool[i, k]
    return pfn


@inner_kernel
def _put(guest: GuestPlan, pool: Int64Array, what: int, pfn: int, pages: int) -> None:
    """Note where a piece lies."""
    if what == _BRK:
        guest.brk_pfn = pfn
        guest.brk_pages = pages
    elif what == _LIST:
        guest.mfn_list_pfn = pfn
    elif what == _BOOTMEM:
        guest.bootmem_pfn = pfn
        guest.bootmem_pages = pages
    elif what == _MISSING:
        guest.missing = pfn
    elif what == _TOP:
        guest.top = pfn
    elif what == _TOP_MFN:
        guest.top_mfn = pfn
    elif what == _TOPS:
        guest.top_mfn_list = pfn
    elif what == _PGD:
        guest.pgd = pfn
    elif what == _BOOT_POOL:
        guest.boot_pool_pfn = pfn
        guest.boot_pool_pages = pages
    else:
        pool[guest.num_pool, 0] = pfn
        pool[guest.num_pool, 1] = pages
        guest.num_pool += 1


@inner_kernel
def _draw_reach(kind: Kind, dice: UInt64Array, guest: GuestPlan, n: int) -> None:
    """Draw how far extra memory reaches, and how far sets do."""
    never_inline()
    extra = below(dice, 6)
    span = guest.nr_pages
    if extra == 1:
        span += 5
    elif extra == 2:
        span += n
    elif extra == 3:
        span += 2 * n + 17
    elif extra == 4:
        span += 5 * n
    elif extra == 5:
        span = (span + n) // n * n
    more = below(dice, 4)
    reach = span
    if more == 1:
        reach = span + 9
    elif more >= 2:
        reach = span + n + below(dice, 2 * n)
    if kind.two_level != 0:
        guest.max_p2m_pfn = min(span, guest.max_domain_pages)
        guest.reach = min(reach, guest.max_domain_pages)
        return
    if one_in(dice, one_in_wide(kind)):
        top = n * n
        far = below(dice, 4)
        reach = top + 3
        if far == 1:
            reach = top + n + 7
        elif far == 2:
            reach = top + 2 * n
        elif far == 3:
            reach = 2 * top + 5
        within = below(dice, 4)
        if within == 1:
            span = reach
        elif within == 2:
            span = top - between(dice, 0, 2) * n
        elif within == 3:
            span = min(top + between(dice, 0, n), reach)
    guest.max_p2m_pfn = span
    guest.reach = max(span, reach)
    if kind.family == FLAT:
        blocks = max(one_of(dice, _BLOCKS), (guest.nr_pages + _BLOCK - 1) // _BLOCK)
        guest.max_p2m_pfn = blocks * _BLOCK
        guest.reach = min(guest.reach, guest.max_p2m_pfn)
        _draw_table(kind, dice, guest, blocks)


@inner_kernel
def _draw_table(kind: Kind, dice: UInt64Array, guest: GuestPlan, blocks: int) -> None:
    """Draw where a linear p2m's table begins, and whether the toolstack is told of it."""
    never_inline()
    where = below(dice, 8)
    vaddr = as_int(_VADDR) + below(dice, 64) * _GIB
    if where in (5, 6):
        vaddr += _MIB_2 * between(dice, 1, 400)
    elif where == 4:
        vaddr += _GIB - _MIB_2 * between(dice, 1, blocks)
    elif where == 7:
        vaddr = as_int(_VADDR) + 512 * _GIB - _MIB_2 * between(dice, 1, blocks)
    guest.p2m_vaddr = vaddr
    guest.told = below(dice, 2) if kind.whole_area == 0 else as_int(0)


@inner_kernel
def _draw_marks(dice: UInt64Array, program: Program, end: int, n: int) -> None:
    """Draw the 1:1 ranges of a tree that marks them, behind PFN `end` of the last structure."""
    never_inline()
    guest = program.guest[0]
    top = n * n
    for i in range(guest.num_ranges):
        shape = below(dice, 6)
        start = between(dice, end, guest.nr_pages + n)
        stop = start + between(dice, 1, n)
        if shape == 1:
            start = (start + n - 1) // n * n
            stop = start + n * between(dice, 1, 3)
        elif shape == 2:
            stop = start + n + below(dice, 2 * n)
        elif shape == 3 and guest.reach > top:
            # A whole top entry, or more or less of it.
            start = top - n * below(dice, 2)
            stop = 2 * top + below(dice, 2) * between(dice, 1, n)
        elif shape == 4 and one_in(dice, 3):
            stop = n * top
        program.ranges[i, 0] = start
        program.ranges[i, 1] = stop


@inner_kernel
def _draw_runs(dice: UInt64Array, program: Program, end: int) -> None:
    """Draw the 1:1 runs of a linear p2m's boot, behind PFN `end` of the last structure."""
    never_inline()
    guest = program.guest[0]
    for i in range(guest.num_ranges):
        first = between(dice, end, guest.nr_pages + 30)
        count = between(dice, 1, 300)
        if one_in(dice, 3):
            first = (first + 511) // 512 * 512
            count = 512 * between(dice, 1, 2) + below(dice, 2) * 7
        program.ranges[i, 0] = first
        program.ranges[i, 1] = count


@inner_kernel
def _draw_extra(dice: UInt64Array, program: Program) -> None:
    """Draw the extra memory of a linear p2m, within what sets may reach."""
    never_inline()
    guest = program.guest[0]
    pfn = guest.nr_pages
    for _ in range(min(below(dice, 4), MAX_RANGES)):
        where = below(dice, 4)
        if where == 1:
            pfn += between(dice, 1, 40)
        elif where == 2:
            pfn = (pfn + 512) // 512 * 512
        elif where == 3:
            pfn = max(pfn, guest.reach - between(dice, 1, 700))
        count = min(between(dice, 1, 600), guest.reach - pfn)
        if count <= 0:
            return
        program.extra[guest.num_extra, 0] = pfn
        program.extra[guest.num_extra, 1] = count
        guest.num_extra += 1
        pfn += count
