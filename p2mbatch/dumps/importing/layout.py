"""From a dump to a guest's layout: how many pages it booted with, and where its structures are.

What the dump shows is taken over (leaves, frame lists, mids, brk); what it does not show is placed
in pages that the guest has. Only pages that are populated in the end can hold structures: the
rebuild looks their frames up.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import IMAGE_MAP_PAGES, Geometry
from p2mbatch.dumps.audit.structures import Structures, true_leaves
from p2mbatch.dumps.audit.walk_state import Walk
from p2mbatch.dumps.importing.pool import find_pool
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.model.era_tables import static_pages, static_places
from p2mbatch.model.policies import MENDED, Policy, find
from p2mbatch.model.runs import true_runs
from p2mbatch.model.trace import GuestLayout
from p2mbatch.model.trace_eras import EraLayout

NO_RANGES = np.zeros((0, 2), np.int64)


class FoundLayout(NamedTuple):
    """A layout for the trace of a guest with a tree."""

    layout: GuestLayout
    exact: bool
    """Whether brk, the leaves and the list are where the dump shows them."""


class _Parts(NamedTuple):
    """First page and number of pages of what boot takes side by side."""

    brk: tuple[int, int]
    mfn_list: tuple[int, int]
    bootmem: tuple[int, int]

    @property
    def all(self) -> list[tuple[int, int]]:
        """Those that there are."""
        return [part for part in self if part[1]]


def find_layout(
    guest: DumpGuest,
    populated: BoolArray,
    walk: Walk,
    structures: Structures,
    policy: Policy,
    ranges: Int64Array,
    half_grown: list[int],
) -> FoundLayout:
    """Return the layout of `guest` under `policy`; `populated` bool[span] are the pages it has.

    `ranges` (int64[k, 2]: start, end) are the 1:1 PFNs that its boot marks, `half_grown` the tops
    that have a mid page and nothing under it. Raises `InputError` where its populated pages do not
    hold the structures of such a p2m.
    """
    leaves = true_leaves(guest, walk)
    geo, span = guest.geometry, guest.max_p2m_pfn
    if not populated.any():
        raise InputError(f"{guest.name}: no page is populated: there is no guest to import")
    found = (span, -1) if policy.is_two_level else _boot_from_leaves(geo, span, leaves, populated)
    nr_pages = found[0] if found is not None else int(np.flatnonzero(populated)[-1]) + 1
    sizes = _sizes(guest, policy, nr_pages, ranges)
    parts = _shown_parts(guest, policy, walk, structures, found, sizes, populated)
    exact = parts is not None
    if parts is None:
        parts = _placed(guest, geo, populated, nr_pages, sizes)
    taken = np.zeros(span, np.bool_)
    for first, count in parts.all:
        taken[first : first + count] = True
    # The direct map spans the extra memory too; pages of structures are among those of the boot.
    directmap = min(span, geo.direct_map_limit_pages)
    usable = populated & ~taken
    usable[min(nr_pages, directmap) :] = False
    pool = find_pool(guest, walk, structures, leaves, nr_pages, usable, ranges, half_grown)
    brk_pages = 0 if policy.is_two_level else parts.brk[1]
    common = (
        *(guest.word_bytes, nr_pages, span, parts.mfn_list[0], parts.brk[0], brk_pages),
        *(pool, directmap),
    )
    if not policy.is_era:
        return FoundLayout(GuestLayout(*common), exact)
    most = policy.most_pages(guest.word_bytes)
    static = static_places(guest.word_bytes, most, parts.brk[0]) if policy.is_two_level else None
    bootmem = parts.bootmem if policy.bootmem else None
    layout = EraLayout(*common, bootmem=bootmem, static=static, max_domain_pages=most)
    return FoundLayout(layout, exact and not policy.is_two_level)


def _sizes(
    guest: DumpGuest, policy: Policy, nr_pages: int, ranges: Int64Array
) -> tuple[int, int, int]:
    """Return the pages of brk (or static arrays), of `mfn_list` and of the boot allocator."""
    geo, width = guest.geometry, guest.word_bytes
    leaves, mids = -(-nr_pages // geo.entries), -(-nr_pages // geo.entries**2)
    if policy.is_two_level:
        arrays = static_pages(width, policy.most_pages(width))
        return sum(arrays.values()), leaves, 0
    opened = _opened(geo, nr_pages, ranges)
    # What the usual policy takes at most is there for every other of its kind.
    brk = max(kernel.brk_pages(mids, width) for kernel in (policy, find(MENDED))) + opened
    bootmem = policy.bootmem_pages(mids, leaves, width)
    return brk, leaves, bootmem + (opened if policy.late_list else 0)


def _opened(geo: Geometry, nr_pages: int, ranges: Int64Array) -> int:
    """Return the pages that marking `ranges` may take: leaves at their ends, mids and their list.

    Source: policies-spec P4, the steps of marking.
    """
    if not len(ranges):
        return 0
    n = geo.entries
    ends = ranges[ranges % n != 0] // n
    tops = {
        top
        for start, end in ranges.tolist()
        for top in range(start // n**2, end // n**2 + 1)
        if top >= -(-nr_pages // n**2)
    }
    return int(np.unique(ends[ends >= -(-nr_pages // n)]).size) + 2 * len(tops)


def _boot_from_leaves(
    geo: Geometry, span: int, leaves: Int64Array, populated: BoolArray
) -> tuple[int, int] | None:
    """Return (nr_pages, first leaf's PFN) where the leading leaves lie side by side."""
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


def _shown_parts(
    guest: DumpGuest,
    policy: Policy,
    walk: Walk,
    structures: Structures,
    found: tuple[int, int] | None,
    sizes: tuple[int, int, int],
    populated: BoolArray,
) -> _Parts | None:
    """Return where the file shows what boot took, None where that is not as `policy` lays it out.

    Every era takes `p2m_missing` first of brk. `found` is (nr_pages, the first leaf's PFN).
    """
    if found is None or policy.is_two_level:
        return None
    geo, (brk_pages, mfn_list_pages, bootmem_pages) = guest.geometry, sizes
    nr_pages, first_leaf = found
    mids = -(-nr_pages // geo.entries**2)
    moved = policy.moves_leaves(guest.word_bytes)
    behind: int | None = policy.list_distance(mids, guest.word_bytes)
    if policy.late_list:
        # The list lies in the boot allocator's pages, behind the leaves that were moved there.
        behind = None
        if walk.fll_pfn != first_leaf + mfn_list_pages * moved + policy.list_brk_pages - 1:
            return None
    brk = structures.missing
    if brk < 0:
        brk = -1 if behind is None else walk.fll_pfn - behind
    elif behind is not None and walk.fll_pfn - brk != behind:
        return None
    if brk < 0:
        return None
    bootmem = first_leaf if moved else walk.fll_pfn - policy.list_brk_pages + 1
    parts = _Parts(
        (brk, brk_pages),
        (-1 if moved else first_leaf, mfn_list_pages),
        (bootmem if bootmem_pages else 0, bootmem_pages),
    )
    if moved:
        # The kernel gave the pages of mfn_list back: any stretch will do.
        free = populated.copy()
        for first, count in (parts.brk, parts.bootmem):
            free[max(first, 0) : first + count] = False
        at = _stretch(free[: _mapped_end(geo, nr_pages)], mfn_list_pages + 1)
        parts = parts._replace(mfn_list=(at, mfn_list_pages))
    return parts if _fits(geo, populated, nr_pages, parts) else None


def _mapped_end(geo: Geometry, nr_pages: int) -> int:
    """Return where the pages end that brk and `mfn_list` can lie in."""
    reach = IMAGE_MAP_PAGES if geo.word_bytes == 8 else geo.direct_map_limit_pages
    return min(nr_pages, reach)


def _fits(geo: Geometry, populated: BoolArray, nr_pages: int, parts: _Parts) -> bool:
    """Return whether all parts lie apart, in mapped pages that the guest has."""
    end = _mapped_end(geo, nr_pages)
    apart = sorted(parts.all)
    if any(first + count > following for (first, count), (following, _) in pairwise(apart)):
        return False
    return all(
        first >= 0 and first + count <= end and bool(populated[first : first + count].all())
        for first, count in apart
    )


def _stretch(free: BoolArray, num_pages: int) -> int:
    """Return the first page of `num_pages` in a row that are free, -1 where there are none."""
    starts, lengths = true_runs(free).T
    good = np.flatnonzero(lengths >= num_pages)
    return int(starts[good[0]]) if good.size else -1


def _placed(
    guest: DumpGuest,
    geo: Geometry,
    populated: BoolArray,
    nr_pages: int,
    sizes: tuple[int, int, int],
) -> _Parts:
    """Place everything in the first stretch of populated pages that is long enough."""
    brk_pages, mfn_list_pages, bootmem_pages = sizes
    num_pages, end = sum(sizes), _mapped_end(geo, nr_pages)
    at = _stretch(populated[:end], num_pages)
    if at < 0:
        longest = int(true_runs(populated[:end])[:, 1].max(initial=0))
        raise InputError(
            f"{guest.name}: the tree of {nr_pages} pages needs {num_pages} populated pages in a "
            f"row below PFN {end}, the guest has {longest} at most"
        )
    # mfn_list comes last: a kernel that moves its leaves takes the page right behind for one too.
    bootmem = (at + brk_pages, bootmem_pages)
    return _Parts((at, brk_pages), (bootmem[0] + bootmem_pages, mfn_list_pages), bootmem)
