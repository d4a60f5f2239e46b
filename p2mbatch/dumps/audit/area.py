"""All page tables under a linear p2m list, as a file shows them: where each lies, what it maps.

A save's walk reads as much as max_pfn asks for; a guest's boot laid out the whole area. A trace's
digests are of all of it (linear-spec L10), and so are those here.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.base.entries import IDENTITY_FLAG
from p2mbatch.base.geometry import INVALID
from p2mbatch.dumps.audit.walk_linear import frames_of, mfns_of
from p2mbatch.dumps.audit.walk_state import LinearList
from p2mbatch.dumps.model import FREE_PFNS, DumpGuest
from p2mbatch.model.linear_shape import BLOCK_PFNS

_MOST_BLOCKS = 1 << 14

_SLOTS = 512

ADDRESSES = (1 << 48) - 1
"""The bits of an address that the page tables translate."""


class AreaTables(NamedTuple):
    """The area of a linear list. A block is what one level-1 table maps."""

    num_blocks: int
    pages: dict[tuple[int, int], int]
    """(level, address of the first entry over the table's reach) -> PFN of that table."""
    leaves: Int64Array
    """int64[512 * num_blocks]: PFN of the page that each slot maps, -1 where it is not told."""
    shared: BoolArray
    """bool[512 * num_blocks]: whether the slot is mapped read-only, as the shared leaves are."""
    frames: Int64Array
    """int64[512 * num_blocks]: the frame in each slot's entry, told or not whose it is."""

    def identity_page(self, max_pfn: int) -> int:
        """Return the PFN of `p2m_identity`, -1 where it is not told from `p2m_missing`.

        Both are full of INVALID. It is what slots behind the guest's end are mapped to: `max_pfn`
        is the count that the guest reports.
        """
        last = len(self.leaves) - 1
        behind = last >= 0 and self.shared[last] and max_pfn <= last * _SLOTS
        return int(self.leaves[last]) if behind else -1


class _Entries(NamedTuple):
    """The entries of some tables, [k, 512] each."""

    pfns: Int64Array
    frames: Int64Array
    present: BoolArray
    writable: BoolArray


def area_tables(guest: DumpGuest, linear: LinearList) -> AreaTables | None:
    """Return the tables of `guest`'s list from its first address on, as far as they go on.

    None where the file does not show them. 64-bit guests only.
    """
    first = linear.vaddr & ADDRESSES
    tables = guest.p2m.find(np.array([linear.cr3_mfn], np.int64))
    pages = {(4, 0): int(tables[0])}
    for level in (4, 3, 2):
        found = _read(guest, tables)
        if found is None:
            return None
        shift = 9 * level + 3
        numbers = (first >> shift) + np.arange((_MOST_BLOCKS << 21 >> shift) + 2)
        row = (numbers >> 9) - (first >> shift + 9)
        numbers, row = numbers[row < len(tables)], row[row < len(tables)]
        tables = found.pfns[row, numbers & 511]
        tables = tables[: _first(tables < 0)][:_MOST_BLOCKS]
        pages |= {
            (level - 1, number): pfn
            for number, pfn in zip(numbers.tolist(), tables.tolist(), strict=False)
        }
    unique, inverse = np.unique(tables, return_inverse=True)
    found = _read(guest, unique)
    if found is None:
        return None
    num_blocks = _first(~found.present[inverse].ravel()) >> 9
    rows = inverse[:num_blocks]
    return AreaTables(
        num_blocks,
        pages,
        found.pfns[rows].ravel(),
        ~found.writable[rows].ravel(),
        found.frames[rows].ravel(),
    )


def digests(guest: DumpGuest, area: AreaTables) -> dict[str, Any]:
    """Return what a trace's digests of a linear p2m say of the same guest, `area_pfns` beside them.

    That of the p2m is None where a leaf is not in the file, `p2m_identity` is not told, or the area
    is longer than any file may claim for nothing.
    """
    identity = area.identity_page(guest.shared_info.max_pfn if guest.shared_info else 0)
    return {
        "area_pfns": area.num_blocks * BLOCK_PFNS,
        "leaf_frames_sha256": hashlib.sha256(area.frames.astype("<i8").data).hexdigest(),
        "area_p2m_sha256": _p2m_sha256(guest, area, identity) if identity >= 0 else None,
    }


def _p2m_sha256(guest: DumpGuest, area: AreaTables, identity: int) -> str | None:
    """Return the digest of what the guest's kernel gets of every PFN of the area."""
    if area.num_blocks * BLOCK_PFNS > FREE_PFNS:
        return None
    digest, holes = hashlib.sha256(), np.full(_SLOTS, INVALID, np.int64).data
    own = area.leaves[~area.shared]
    guest.pages.prefetch(own)
    for slot, (leaf, shared) in enumerate(
        zip(area.leaves.tolist(), area.shared.tolist(), strict=True)
    ):
        if shared and leaf == identity:
            first = slot * _SLOTS
            digest.update((np.arange(first, first + _SLOTS) | IDENTITY_FLAG[8]).data)
        elif shared:
            digest.update(holes)
        else:
            page = guest.pages.read(leaf)
            if page is None or not page.complete:
                return None
            digest.update(np.ascontiguousarray(page.words.astype("<i8")).data)
    return digest.hexdigest()


def _first(mask: BoolArray) -> int:
    """Return the first index at which `mask` is true, its length where it nowhere is."""
    hit = np.flatnonzero(mask)
    return int(hit[0]) if hit.size else mask.size


def _read(guest: DumpGuest, pfns: Int64Array) -> _Entries | None:
    """Return the entries of the tables at `pfns` (int64[k]); None where one is not in the file."""
    if not pfns.size or pfns.min() < 0:
        return None
    guest.pages.prefetch(pfns)
    words = np.empty((pfns.size, 512), np.uint64)
    names_pfns = np.zeros(pfns.size, np.bool_)
    for k, pfn in enumerate(pfns.tolist()):
        data = guest.pages.read_table(pfn)
        if data is None:
            return None
        words[k], names_pfns[k] = data.entries, data.holds_pfns
    frames = frames_of(words, 8)
    present = (words & np.uint64(1)).astype(np.bool_)
    named = frames.copy()
    if not names_pfns.all():
        named[~names_pfns] = guest.p2m.find(frames[~names_pfns])
    named[~present | (named >= guest.max_p2m_pfn)] = -1
    mfns = frames.copy()
    if names_pfns.any():
        mfns[names_pfns] = mfns_of(guest, named[names_pfns], frames[names_pfns])
    return _Entries(named, mfns, present, (words & np.uint64(2)).astype(np.bool_))
