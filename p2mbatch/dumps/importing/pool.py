"""From a dump to the pages that a guest's tree grows by, in the order in which it took them."""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.base.entries import is_identity
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import INVALID
from p2mbatch.dumps.audit.structures import Structures
from p2mbatch.dumps.audit.walk_state import Walk
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.model.runs import page_runs

SPARE_POOL_PAGES = 512
"""Pages left for `alloc_p2m` beyond what this guest used, so that it can be grown further."""


def find_pool(
    guest: DumpGuest,
    walk: Walk,
    structures: Structures,
    leaves: Int64Array,
    nr_pages: int,
    usable: BoolArray,
    ranges: Int64Array,
    half_grown: list[int],
) -> Int64Array:
    """Return the runs of pages that growing the tree takes, in `alloc_p2m`'s order, and spare ones.

    Growing by ascending PFN takes, for each leaf: its mid and frame list where the top index is
    new, then the leaf. Pages that the dump names are used where they can be. What marking `ranges`
    opens (int64[k, 2]: start, end) is there before. The mids of `half_grown` tops come last.
    """
    n, span = guest.geometry.entries, guest.max_p2m_pfn
    num_boot, num_mids = -(-nr_pages // n), -(-nr_pages // n**2)
    wanted: list[int] = []
    seen_tops = set(range(num_mids))
    for start, end in ranges.tolist():
        seen_tops.update(range(start // n**2, -(-end // n**2)))
    marked = set((ranges[ranges % n != 0] // n).tolist())
    for x in _grown_leaves(guest, num_boot, marks=len(ranges) > 0):
        if x in marked:
            continue
        top = x // n
        if top not in seen_tops:
            seen_tops.add(top)
            wanted.append(structures.mids.get(top, -1))
            wanted.append(int(walk.fl_pfns[top]) if top < walk.fl_pfns.size else -1)
        wanted.append(int(leaves[x]) if x < leaves.size else -1)
    wanted += [structures.mids[top] for top in half_grown if top not in seen_tops]
    free = usable.copy()
    for i, pfn in enumerate(wanted):
        if 0 <= pfn < span and free[pfn]:
            free[pfn] = False
        else:
            wanted[i] = -1
    spare = np.flatnonzero(free)
    # The first pages of a real guest are taken by what the builder put there: they come last.
    at, missing = int(np.searchsorted(spare, walk.fll_pfn)), wanted.count(-1)
    num_spare = min(spare.size, missing + SPARE_POOL_PAGES)
    if missing > spare.size:
        raise InputError(
            f"{guest.name}: growing its tree takes {len(wanted)} pages, and only "
            f"{len(wanted) - missing + spare.size} pages are free for that below PFN {nr_pages}"
        )
    others = iter(spare[(np.arange(num_spare) + at) % max(spare.size, 1)].tolist())
    pages = [pfn if pfn >= 0 else next(others) for pfn in wanted]
    pages += others
    return page_runs(np.array(pages, np.int64))


def _grown_leaves(guest: DumpGuest, num_boot: int, *, marks: bool) -> list[int]:
    """Return the leaves from `num_boot` on with an entry that had to be set, ascending.

    Those of 1:1 words alone had not, where boot `marks` them.
    """
    n = guest.geometry.entries
    grown: list[int] = []
    for start, entries in guest.p2m.chunks():
        there = entries != INVALID
        if marks:
            there &= ~is_identity(entries, guest.word_bytes)
        present = np.flatnonzero(there) + start
        grown.extend(x for x in np.unique(present // n).tolist() if x >= num_boot)
    return grown
