"""From a dump to a guest's layout: how many pages it booted with, and where its structures are.

What the dump shows is taken over (leaves, frame lists, mids, brk); what it does not show is placed
in pages that the guest has. Only pages that are populated in the end can hold structures: the
rebuild looks their frames up.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import IMAGE_MAP_PAGES, Geometry
from p2mbatch.dumps.audit.structures import Structures, true_leaves
from p2mbatch.dumps.audit.walk_state import Walk
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.model.policies import MENDED, find, names
from p2mbatch.model.runs import frame_runs, true_runs
from p2mbatch.model.trace import GuestLayout

_SPARE_POOL_PAGES = 512
"""Pages left for `alloc_p2m` beyond what this guest used, so that it can be grown further."""


class FoundLayout(NamedTuple):
    """A layout for the trace, and the policy whose first rebuild leaves this order of pages."""

    layout: GuestLayout
    policy: str | None
    """None where the file does not show which it is."""
    why_not: str
    """Why the policy can't be told, where it can't."""
    exact: bool
    """Whether brk and mfn_list are where the dump shows them."""


def policy_shown(
    guest: DumpGuest, walk: Walk, structures: Structures, nr_pages: int
) -> tuple[str | None, str]:
    """Return (the policy of the guest's kernel, "") as its tree shows it, or (None, why not).

    `nr_pages` is what it booted with, 0 where that is not known. Of the kernels whose list is found
    through this tree, only `tracked` (2.6.37, 375b2a9ada6) has `p2m_top_mfn_p` between
    `p2m_mid_missing_mfn` and `p2m_top_mfn`, and `stale` (58e05027b53) has nothing there. Later
    kernels put more pages into brk, or move the leaves.
    """
    if guest.shared_info is not None and guest.shared_info.p2m_cr3:
        return None, "it keeps a linear p2m list, and has no tree to tell by"
    if not structures.found or structures.missing < 0:
        return None, structures.reason or "p2m_missing was not found"
    if structures.boot_leaf_base != structures.pointer_base:
        why = "its first leaf is linked by another address than its mid pages"
        return None, f"{why}: Linux 3.7 and later move the leaves, several policies do"
    if not nr_pages:
        return None, "its first leaves do not lie side by side, as those of mfn_list do"
    between = walk.fll_pfn - structures.missing - 3 - -(-nr_pages // guest.geometry.entries**2)
    fitting = _fitting(between)
    if fitting:
        return fitting[0], ""
    return None, f"{between} pages lie between its last mid and its frame list list, not 1 or 2"


def find_layout(
    guest: DumpGuest, populated: BoolArray, walk: Walk, structures: Structures
) -> FoundLayout:
    """Return the layout of `guest`; `populated` bool[max_p2m_pfn] are the pages it has.

    Raises `InputError` where its populated pages do not hold the structures of such a tree.
    """
    leaves = true_leaves(guest, walk)
    geo, span = guest.geometry, guest.max_p2m_pfn
    if not populated.any():
        raise InputError(f"{guest.name}: no page is populated: there is no guest to import")
    found = _boot_from_leaves(geo, span, leaves, populated)
    brk = _find_brk(geo, walk, structures, found[0]) if found is not None else None
    policy, why_not = policy_shown(guest, walk, structures, found[0] if found is not None else 0)
    exact = False
    if found is not None and brk is not None:
        nr_pages, mfn_list_pfn = found
        brk_pfn, brk_pages = brk
        exact = _fits(geo, populated, nr_pages, mfn_list_pfn, brk_pfn, brk_pages)
    if not exact:
        nr_pages = found[0] if found is not None else int(np.flatnonzero(populated)[-1]) + 1
        brk_pages = _brk_need(geo, nr_pages)
        mfn_list_pages = -(-nr_pages // geo.entries)
        start = _free_stretch(guest, geo, populated, nr_pages, brk_pages + mfn_list_pages)
        brk_pfn, mfn_list_pfn = start, start + brk_pages
    taken = np.zeros(span, np.bool_)
    taken[brk_pfn : brk_pfn + brk_pages] = True
    taken[mfn_list_pfn : mfn_list_pfn - (-nr_pages // geo.entries)] = True
    # The direct map spans the extra memory too; pages of structures are among those of the boot.
    directmap = min(span, geo.direct_map_limit_pages)
    usable = populated & ~taken
    usable[min(nr_pages, directmap) :] = False
    pool = _find_pool(guest, walk, structures, leaves, nr_pages, usable)
    layout = GuestLayout(
        word_bytes=guest.word_bytes,
        nr_pages=nr_pages,
        max_p2m_pfn=span,
        mfn_list_pfn=mfn_list_pfn,
        brk_pfn=brk_pfn,
        brk_pages=brk_pages,
        page_pool=pool,
        directmap_pages=directmap,
    )
    return FoundLayout(layout, policy, why_not, exact)


def _boot_from_leaves(
    geo: Geometry, span: int, leaves: Int64Array, populated: BoolArray
) -> tuple[int, int] | None:
    """Return (nr_pages, mfn_list_pfn): the leading leaves side by side are pages of mfn_list."""
    if not leaves.size or leaves[0] < 0:
        return None
    steps = np.flatnonzero(leaves != leaves[0] + np.arange(leaves.size))
    num_boot = int(steps[0]) if steps.size else int(leaves.size)
    end = num_boot * geo.entries
    if end >= span:
        return span, int(leaves[0])
    # The builder made the last page for at least one PFN.
    first = end - geo.entries
    last = np.flatnonzero(populated[first:end])
    return first + (int(last[-1]) + 1 if last.size else 1), int(leaves[0])


def _brk_need(geo: Geometry, nr_pages: int) -> int:
    """Return the brk pages that booting takes at most (model sections 4 and 6)."""
    return find(MENDED).brk_pages(-(-nr_pages // geo.entries**2), geo.word_bytes)


def laid_out() -> list[str]:
    """Return the policies whose guests an import lays out: an era's have pages of other kinds."""
    return [name for name in names() if not find(name).is_era]


def _fitting(between: int) -> list[str]:
    """Return the policies whose first list takes `between` pages before `p2m_top_mfn`."""
    return [name for name in laid_out() if find(name).list_brk_pages == between + 1]


def _find_brk(
    geo: Geometry, walk: Walk, structures: Structures, nr_pages: int
) -> tuple[int, int] | None:
    """Return (brk_pfn, brk_pages) from where the frame list list lies in brk."""
    if walk.fll_pfn < 0:
        return None
    num_mids = -(-nr_pages // geo.entries**2)
    brk_pfn = walk.fll_pfn - 5 - num_mids
    if structures.missing >= 0:
        between = walk.fll_pfn - structures.missing - 3 - num_mids
        if not _fitting(between):
            return None
        brk_pfn = structures.missing
    return brk_pfn, _brk_need(geo, nr_pages)


def _mapped_end(geo: Geometry, nr_pages: int) -> int:
    """Return where the pages end that brk and `mfn_list` can lie in."""
    reach = IMAGE_MAP_PAGES if geo.word_bytes == 8 else geo.direct_map_limit_pages
    return min(nr_pages, reach)


def _fits(
    geo: Geometry,
    populated: BoolArray,
    nr_pages: int,
    mfn_list_pfn: int,
    brk_pfn: int,
    brk_pages: int,
) -> bool:
    """Return whether brk and mfn_list lie apart, in mapped pages that the guest has."""
    end = _mapped_end(geo, nr_pages)
    mfn_list_end = mfn_list_pfn - (-nr_pages // geo.entries)
    brk_end = brk_pfn + brk_pages
    if brk_pfn < 0 or brk_end > end or mfn_list_end > end:
        return False
    if brk_pfn < mfn_list_end and mfn_list_pfn < brk_end:
        return False
    parts = populated[brk_pfn:brk_end], populated[mfn_list_pfn:mfn_list_end]
    return all(bool(part.all()) for part in parts)


def _free_stretch(
    guest: DumpGuest, geo: Geometry, populated: BoolArray, nr_pages: int, num_pages: int
) -> int:
    """Return the first PFN of `num_pages` populated pages in a row below the direct map's end."""
    end = _mapped_end(geo, nr_pages)
    starts, lengths = true_runs(populated[:end]).T
    good = np.flatnonzero(lengths >= num_pages)
    if not good.size:
        raise InputError(
            f"{guest.name}: the tree of {nr_pages} pages needs {num_pages} populated pages in a "
            f"row below PFN {end}, the guest has {int(lengths.max(initial=0))} at most"
        )
    return int(starts[good[0]])


def _find_pool(
    guest: DumpGuest,
    walk: Walk,
    structures: Structures,
    leaves: Int64Array,
    nr_pages: int,
    usable: BoolArray,
) -> Int64Array:
    """Return the runs of pages that growing the tree takes, in `alloc_p2m`'s order, and spare ones.

    Growing by ascending PFN takes, for each leaf: its mid and frame list where the top index is
    new, then the leaf. Pages that the dump names are used where they can be.
    """
    n, span = guest.geometry.entries, guest.max_p2m_pfn
    num_boot, num_mids = -(-nr_pages // n), -(-nr_pages // n**2)
    wanted: list[int] = []
    seen_tops = set(range(num_mids))
    for x in _grown_leaves(guest, num_boot, span):
        top = x // n
        if top not in seen_tops:
            seen_tops.add(top)
            wanted.append(structures.mids.get(top, -1))
            wanted.append(int(walk.fl_pfns[top]) if top < walk.fl_pfns.size else -1)
        wanted.append(int(leaves[x]) if x < leaves.size else -1)
    free = usable.copy()
    for i, pfn in enumerate(wanted):
        if 0 <= pfn < span and free[pfn]:
            free[pfn] = False
        else:
            wanted[i] = -1
    spare = np.flatnonzero(free)
    # The first pages of a real guest are taken by what the builder put there: they come last.
    at, missing = int(np.searchsorted(spare, walk.fll_pfn)), wanted.count(-1)
    num_spare = min(spare.size, missing + _SPARE_POOL_PAGES)
    if missing > spare.size:
        raise InputError(
            f"{guest.name}: growing its tree takes {len(wanted)} pages, and only "
            f"{len(wanted) - missing + spare.size} pages are free for that below PFN {nr_pages}"
        )
    others = iter(spare[(np.arange(num_spare) + at) % max(spare.size, 1)].tolist())
    pages = [pfn if pfn >= 0 else next(others) for pfn in wanted]
    pages += others
    found = np.array(pages, np.int64)
    return frame_runs(found, found)[:, [0, 2]]


def _grown_leaves(guest: DumpGuest, num_boot: int, span: int) -> list[int]:
    """Return the leaves from `num_boot` on with an entry that is not INVALID, ascending."""
    n = guest.geometry.entries
    grown: list[int] = []
    for start, entries in guest.p2m.chunks():
        present = np.flatnonzero(entries != -1) + start
        grown.extend(x for x in np.unique(present // n).tolist() if x >= num_boot)
    return grown
