"""What the toolstack does with a linear p2m: the list walk, and the page tables' last look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oracle.ends import SaveFailed
from oracle.eras.machine import Found, Json
from oracle.eras.toolstack import MASK64, names_itself

if TYPE_CHECKING:
    from oracle.eras.linear import Linear

N = 512


def entry_frame(guest: Linear, table: int, index: int) -> int:
    """The frame in an entry of the page with PFN `table`, as the save reads it; absent is 0."""
    entries = guest.tables.get(table)
    if entries is None:
        return guest.page(table)[index] >> 12 & ((1 << 40) - 1)
    if index not in entries:
        return 0
    return guest.ptes.get((table, index), guest.pfn_to_mfn(entries[index]))


def check_range(first: int, last: int) -> None:
    canonical = all(address >> 47 in (0, (1 << 17) - 1) for address in (first, last))
    in_hole = first <= 0xFFFF_87FF_FFFF_FFFF and last > 0xFFFF_8000_0000_0000
    if not canonical or last < first or in_hole:
        raise SaveFailed("bad-p2m-range")


def list_walk(guest: Linear, says: Json) -> tuple[int, list[int]]:
    """Return the max_pfn that stands after the trim, and the MFN of each leaf."""
    max_mfn = guest.host.frames
    max_pfn = (says["max_pfn"] - 1) & MASK64
    if says["p2m_cr3_mfn"] > max_mfn:
        raise SaveFailed(f"bad-p2m-cr3 {says['p2m_cr3_mfn']}")
    first: int = says["p2m_vaddr"]
    last = (first + 4096 * (max_pfn // N + 1) - 1) & MASK64
    check_range(first, last)
    frames = [says["p2m_cr3_mfn"]]
    for level in (4, 3, 2, 1):
        for x, mfn in enumerate(frames):
            if mfn not in guest.host.owned:
                raise SaveFailed(f"map-ptes-failed {level} {x}")
        tables = [guest.host.m2p[mfn] for mfn in frames]
        shift = 9 * level + 3
        offset = 0 if level == 4 else first >> (shift + 9) << (shift + 9)
        low, high = (((end - offset) & ((1 << 48) - 1)) >> shift for end in (first, last))
        frames = []
        for index in range(low, high + 1):
            mfn = entry_frame(guest, tables[index // N], index % N)
            if mfn == 0 or mfn > max_mfn:
                raise SaveFailed(f"bad-mfn-in-walk {level} {index - low}")
            frames.append(mfn)
        if level == 2:
            k = max((x for x in range(1, len(frames)) if frames[x] != frames[x - 1]), default=0)
            # A distance against an index of the array: the same only where `low` is 0.
            if k == high:
                k += 1
            trimmed = (k * N * N - 1) & MASK64
            if trimmed < max_pfn:
                max_pfn = trimmed
                last = (first + 4096 * (max_pfn // N + 1) - 1) & MASK64
                frames = frames[: k + 1]
    return max_pfn, frames[: max_pfn // N + 1]


def page_table_check(guest: Linear, found: Found) -> None:
    """Every present entry of the p2m's own table pages, as saving those pages translates them."""
    levels: dict[int, int] = {guest.pgd: 4}
    for level in (4, 3, 2):
        for pfn in [pfn for pfn, at in levels.items() if at == level]:
            levels.update(dict.fromkeys(guest.tables[pfn].values(), level - 1))
    for pfn in sorted(pfn for pfn in levels if pfn <= found.max_pfn):
        entries = guest.tables[pfn]
        for index in sorted(entries):
            mfn = guest.ptes.get((pfn, index), guest.pfn_to_mfn(entries[index]))
            if not names_itself(guest, mfn, found.max_pfn, found.leaves):
                raise SaveFailed(f"bad-mfn-in-page-table {levels[pfn]} {index}")
