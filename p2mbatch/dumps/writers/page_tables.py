"""The page tables of a linear p2m list, made from a plain list of which leaf lies where.

x86-64 entries in both widths (a 32-bit PV guest has the same, in three levels): bit 0 present,
bit 1 writable, the frame from bit 12 on. Entries name PFNs here; a dump of them has MFNs instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import INVALID, PAGE_SHIFT

_TABLE_ENTRIES = 512

_PRESENT, _WRITABLE = 1, 2

LEVELS = {8: 4, 4: 3}
"""Page table levels of a PV guest of each width."""

_ADDRESS_BITS = {8: 48, 4: 32}


class LinearEntry(NamedTuple):
    """One slot of the list: where a leaf is mapped."""

    slot: int
    """The leaf's number: it holds the entries of PFNs from slot * n on."""
    pfn: int
    """The page it is mapped to; slots may share one."""
    writable: bool = True


class PageTable(NamedTuple):
    """One page table page."""

    level: int
    entries: Int64Array
    """int64[512]: PFN << 12 and flags, 0 where nothing is mapped."""


@dataclass(frozen=True)
class LinearTables:
    """A linear p2m list as the shared info page and the page tables have it."""

    top_pfn: int
    """The top table's page: the shared info names its frame as p2m_cr3."""
    vaddr: int
    generation: int
    tables: dict[int, PageTable]
    """PFN -> table."""
    leaf_tables: Int64Array
    """int64[num_blocks]: PFN of the level-1 table of each block that is mapped, in its order."""
    reported: bool = True
    """Whether the shared info page says where the list is."""


def build_tables(
    entries: Iterable[LinearEntry],
    vaddr: int,
    pages: Iterator[int],
    word_bytes: int,
    generation: int = 0,
) -> LinearTables:
    """Return the tables that map `entries` from address `vaddr` on, in pages taken from `pages`.

    Pages are taken from the top down as the entries need them. Raises `InputError` where `vaddr` is
    no multiple of a page, a slot lies beyond the address space, or `pages` runs out.
    """
    if vaddr & ((1 << PAGE_SHIFT) - 1):
        raise InputError(f"p2m_vaddr: {vaddr:#x} is not a multiple of a page")
    num_levels, mask = LEVELS[word_bytes], (1 << _ADDRESS_BITS[word_bytes]) - 1
    tables: dict[int, PageTable] = {}
    by_place: dict[tuple[int, int], int] = {}

    def table_at(level: int, address: int) -> int:
        """Return the page of the table of `level` for `address`, made and linked if need be."""
        reach = PAGE_SHIFT + 9 * level
        place = (level, address >> reach if level < num_levels else 0)
        if place not in by_place:
            try:
                pfn = next(pages)
            except StopIteration:
                raise InputError(f"no page is left for a level {level} page table") from None
            by_place[place] = pfn
            tables[pfn] = PageTable(level, np.zeros(_TABLE_ENTRIES, np.int64))
            if level < num_levels:
                above = tables[table_at(level + 1, address)].entries
                above[address >> reach & 511] = pfn << PAGE_SHIFT | _PRESENT | _WRITABLE
        return by_place[place]

    blocks: dict[int, int] = {}
    for slot, pfn, writable in entries:
        address = (vaddr + (slot << PAGE_SHIFT)) & mask
        for level in range(num_levels, 1, -1):
            table_at(level, address)
        leaf_table = table_at(1, address)
        flags = _PRESENT | (_WRITABLE if writable else 0)
        tables[leaf_table].entries[address >> PAGE_SHIFT & 511] = pfn << PAGE_SHIFT | flags
        blocks[address >> PAGE_SHIFT + 9] = leaf_table
    if not tables:
        raise InputError("a linear list needs one entry at least")
    leaf_tables = np.array([blocks[block] for block in sorted(blocks)], np.int64)
    return LinearTables(by_place[num_levels, 0], vaddr, generation, tables, leaf_tables)


def table_bytes(table: PageTable, p2m: Int64Array | None) -> bytes:
    """Return the 4096 bytes of `table`: PFNs in it, or the MFNs that `p2m` (int64[span]) names."""
    entries = table.entries.copy()
    if p2m is not None:
        used = entries != 0
        mfns = p2m[entries[used] >> PAGE_SHIFT]
        flags = entries[used] & ((1 << PAGE_SHIFT) - 1)
        entries[used] = np.where(mfns == INVALID, 0, mfns << PAGE_SHIFT | flags)
    return entries.astype("<u8").tobytes()


def saved_leaf_tables(linear: LinearTables, first_index: int) -> int:
    """Return how many blocks the toolstack's trim leaves, more than there are where it cuts none.

    It drops the tables at the end that repeat one, and compares the number of the last change with
    the index of the last table, counted from `first_index` (its own reckoning).
    """
    tables = linear.leaf_tables
    changes = np.flatnonzero(tables[1:] != tables[:-1]) + 1
    keep = int(changes[-1]) if changes.size else 0
    return keep + 1 if keep == first_index + tables.size - 1 else keep
