"""The toolstack's way to the leaves of a linear p2m list: the guest's page tables (`map_p2m_list`).

Linux since 4.3 keeps its p2m as one table in virtual memory and says in the shared info page where:
`p2m_cr3`, `p2m_vaddr`, `p2m_generation`. The checks and their order are libxc's since Xen 4.7
(7bf74582b3, with the trim of 9daed8321b). Page tables of a dump hold MFNs; those of a stream, where
it says that a page is one, hold PFNs, and their MFNs are the p2m's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array, UInt64Array
from p2mbatch.base.geometry import PAGE_SHIFT
from p2mbatch.dumps.audit.walk_state import (
    IMPOSSIBLE,
    NOT_OWN,
    FailingEntry,
    LinearList,
    Walk,
    fail,
    unknown,
)
from p2mbatch.dumps.model import DumpGuest

_TABLE_ENTRIES = 512

_PRESENT = np.uint64(1)

_FRAME_BITS = {8: 40, 4: 32}
"""By width: bits of the frame in an entry, from bit 12 on (libxc's pte_to_frame)."""

_ADDRESS_BITS = {8: 48, 4: 32}

_LEVELS = {8: 4, 4: 3}

_XEN_FIRST, _XEN_LAST = 0xFFFF_8000_0000_0000, 0xFFFF_87FF_FFFF_FFFF
"""64-bit: the range that Xen keeps for itself."""


class _Level(NamedTuple):
    """The entries of one level for the range, as one array."""

    first_index: int
    """Counted from the first entry of the first table page."""
    mfns: Int64Array
    pfns: Int64Array
    """-1 where an entry names no PFN of the guest's."""


def walk_linear(guest: DumpGuest, walk: Walk) -> None:
    """Find the leaves of `guest`'s linear list: sets `walk.fl`, `walk.listed_pfns`, `walk.linear`.

    Source: linear-spec (docs/model.md), save, list walk: the checks in order.
    """
    shared, width, n = guest.shared_info, guest.word_bytes, guest.geometry.entries
    assert shared is not None
    walk.max_pfn = (shared.max_pfn - 1) & ((1 << 64) - 1)
    mfn = _frame_of_cr3(shared.p2m_cr3, width)
    walk.linear = linear = LinearList(mfn, shared.p2m_vaddr, shared.p2m_generation)
    if mfn > walk.max_mfn:
        entry = FailingEntry("p2m_cr3 of the shared info page", mfn, IMPOSSIBLE)
        raise fail(walk, f"bad-p2m-cr3 {mfn}", f"Bad p2m_cr3 value {shared.p2m_cr3:#x}", entry)
    first = shared.p2m_vaddr
    last = (first + (walk.max_pfn // n + 1 << PAGE_SHIFT) - 1) & ((1 << 64) - 1)
    if not _is_range(first, last, width):
        words = f"Bad virtual p2m address range {first:#x}-{last:#x}"
        entry = FailingEntry("p2m_vaddr of the shared info page", None, f"{first:#x}-{last:#x}")
        raise fail(walk, "bad-p2m-range", words, entry)
    if walk.max_pfn >= guest.max_p2m_pfn:
        raise unknown(
            walk,
            f"the guest says max_pfn {shared.max_pfn}, the file shows {guest.max_p2m_pfn} PFNs",
        )
    mfns = np.array([mfn], np.int64)
    pfns = guest.p2m.find(mfns)
    for level in range(_LEVELS[width], 0, -1):
        tables = _read_tables(guest, walk, level, mfns, pfns)
        found = _entries(guest, walk, level, tables, first, last)
        mfns, pfns = found.mfns, found.pfns
        if level == 2:
            count, last = _trim(guest, walk, found, first, last)
            mfns, pfns = mfns[:count], pfns[:count]
        linear.tables[level - 1] = int(np.unique(pfns).size) if level > 1 else 0
    linear.tables[_LEVELS[width]] = 1
    del linear.tables[0]
    num_leaves = walk.max_pfn // n + 1
    walk.fl, walk.listed_pfns = mfns[:num_leaves], pfns[:num_leaves]


def check_tables(guest: DumpGuest, walk: Walk) -> None:
    """Check the present entries of the tables that the walk used, as the toolstack does on sending.

    Only where tables hold MFNs: a stream's were checked and translated when it was written.
    """
    assert walk.linear is not None
    for level, pfn in sorted(walk.linear.used, key=lambda table: table[1]):
        data = guest.pages.read_table(pfn)
        assert data is not None, "the walk has read it"
        present = np.flatnonzero((data.entries & _PRESENT).astype(bool))
        if level == _LEVELS[guest.word_bytes]:
            low, high = walk.linear.top_entries
            present = present[(present >= low) & (present <= high)]
        if data.holds_pfns or not present.size:
            continue
        mfns = frames_of(data.entries[present], guest.word_bytes)
        pfns = guest.p2m.find(mfns)
        bad = np.flatnonzero((pfns < 0) | (pfns > walk.max_pfn))
        if bad.size:
            x = int(bad[0])
            index, mfn = int(present[x]), int(mfns[x])
            pfn_beyond = int(pfns[x]) if pfns[x] >= 0 else guest.p2m.pfn_beyond(mfn)
            leads = NOT_OWN if pfn_beyond < 0 else f"PFN {pfn_beyond}, which lies beyond max_pfn"
            raise fail(
                walk,
                f"bad-mfn-in-page-table {level} {index}",
                f"Bad mfn for L{level}[{index}] - {mfn:#x}",
                FailingEntry(f"entry {index} of the level {level} table (PFN {pfn})", mfn, leads),
            )


def _frame_of_cr3(cr3: int, word_bytes: int) -> int:
    """Return the frame that cr3 names; a 32-bit one has its upper bits in the lower end."""
    if word_bytes == 8 or cr3 >> 32:
        return cr3 >> PAGE_SHIFT
    return (cr3 >> PAGE_SHIFT | cr3 << 20) & 0xFFFF_FFFF


def _is_range(first: int, last: int, word_bytes: int) -> bool:
    """Return whether the list may lie at addresses `first` to `last`."""
    if word_bytes == 4:
        return first <= last <= 0xFFFF_FFFF
    canonical = all(address >> 47 in (0, (1 << 17) - 1) for address in (first, last))
    in_xen = first <= _XEN_LAST and last > _XEN_FIRST
    return canonical and last >= first and not in_xen


def frames_of(entries: UInt64Array, word_bytes: int) -> Int64Array:
    """Return the frame of each page table entry as int64."""
    mask = np.uint64((1 << _FRAME_BITS[word_bytes]) - 1)
    return ((entries >> np.uint64(PAGE_SHIFT)) & mask).astype(np.int64)


def _read_tables(
    guest: DumpGuest, walk: Walk, level: int, mfns: Int64Array, pfns: Int64Array
) -> _Level:
    """Return all entries of the table pages `pfns`, frames by either number, as one array."""
    lost = np.flatnonzero(pfns < 0)
    if lost.size:
        x = int(lost[0])
        raise fail(
            walk,
            f"map-ptes-failed {level} {x}",
            f"Failed to map {pfns.size} page table pages for p2m list",
            FailingEntry(f"table page {x} of level {level}", int(mfns[x]), NOT_OWN),
        )
    unique, inverse = np.unique(pfns, return_inverse=True)
    guest.pages.prefetch(unique)
    all_mfns = np.empty((unique.size, _TABLE_ENTRIES), np.int64)
    all_pfns = np.empty((unique.size, _TABLE_ENTRIES), np.int64)
    by_mfn = np.zeros(unique.size, np.bool_)
    for row, pfn in enumerate(unique.tolist()):
        data = guest.pages.read_table(pfn)
        if data is None:
            raise unknown(
                walk,
                f"the page table of level {level} at PFN {pfn} is not in the file, or not kept",
            )
        assert walk.linear is not None
        walk.linear.used.add((level, pfn))
        frames = frames_of(data.entries, guest.word_bytes)
        present = (data.entries & _PRESENT).astype(bool)
        by_mfn[row] = not data.holds_pfns
        all_mfns[row], all_pfns[row] = frames, -1
        if data.holds_pfns:
            all_pfns[row] = np.where(present & (frames < guest.max_p2m_pfn), frames, -1)
            all_mfns[row] = mfns_of(guest, all_pfns[row], frames)
    if by_mfn.any():
        all_pfns[by_mfn] = guest.p2m.find(all_mfns[by_mfn])
    return _Level(0, all_mfns[inverse].reshape(-1), all_pfns[inverse].reshape(-1))


def mfns_of(guest: DumpGuest, pfns: Int64Array, frames: Int64Array) -> Int64Array:
    """Return the MFNs of `pfns`, and `frames` where an entry names no PFN."""
    unique, inverse = np.unique(pfns, return_inverse=True)
    found = (guest.p2m.chunk(pfn, pfn + 1)[0] if pfn >= 0 else -1 for pfn in unique.tolist())
    mfns = np.fromiter(found, np.int64, unique.size)
    return np.where(pfns >= 0, mfns[inverse].reshape(pfns.shape), frames)


def _entries(
    guest: DumpGuest, walk: Walk, level: int, tables: _Level, first: int, last: int
) -> _Level:
    """Return the entries for addresses `first` to `last`, checked on sight."""
    width = guest.word_bytes
    shift = PAGE_SHIFT + 9 * (level - 1)
    mask = (1 << _ADDRESS_BITS[width]) - 1
    offset = 0 if level == _LEVELS[width] else first >> (shift + 9) << (shift + 9)
    low, high = ((first - offset) & mask) >> shift, ((last - offset) & mask) >> shift
    if level == _LEVELS[width]:
        assert walk.linear is not None
        walk.linear.top_entries = (low, high)
    mfns, pfns = tables.mfns[low : high + 1], tables.pfns[low : high + 1]
    bad = np.flatnonzero((mfns <= 0) | (mfns > walk.max_mfn))
    if bad.size or mfns.size <= high - low:
        x = int(bad[0]) if bad.size else int(mfns.size)
        mfn = int(mfns[x]) if bad.size else 0
        address = first + (x << shift)
        raise fail(
            walk,
            f"bad-mfn-in-walk {level} {x}",
            f"Bad mfn {mfn:#x} during page table walk for vaddr {address:#x} at level {level} of "
            "p2m list",
            FailingEntry(
                f"entry {low + x} of the level {level} tables, for address {address:#x}",
                mfn,
                IMPOSSIBLE if mfn else "nothing: the entry is absent",
            ),
        )
    return _Level(low, mfns, pfns)


def _trim(guest: DumpGuest, walk: Walk, found: _Level, first: int, last: int) -> tuple[int, int]:
    """Return (level-1 tables that go on, the last address) after the trim; lowers `walk.max_pfn`.

    The toolstack compares the place of the last change, counted from the range's start, with the
    array's index of the range's end (linear-spec, L9 item 6): they agree where `p2m_vaddr` is a
    multiple of a level-3 entry's reach.
    """
    n = guest.geometry.entries
    changes = np.flatnonzero(found.mfns[1:] != found.mfns[:-1]) + 1
    end = found.first_index + found.mfns.size - 1
    keep = int(changes[-1]) if changes.size else 0
    if keep == end:
        keep += 1
    max_pfn = (keep * _TABLE_ENTRIES * n - 1) & ((1 << 64) - 1)
    if max_pfn >= walk.max_pfn:
        return found.mfns.size, last
    walk.max_pfn = max_pfn
    return keep + 1, first + ((max_pfn // n + 1) << PAGE_SHIFT) - 1
