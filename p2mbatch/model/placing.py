"""Where many guests keep their pages, as columns: what `placement.place` says of one at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import BoolArray, Float64Array, Int64Array
from p2mbatch.base.geometry import IMAGE_MAP_PAGES, PAGE_BYTES, geometry
from p2mbatch.compiled import bijection
from p2mbatch.compiled import tables as tb
from p2mbatch.model.era_tables import static_pages
from p2mbatch.model.hosts import RESERVED_FRAMES
from p2mbatch.model.linear_placing import FlatPlaces, flat_places
from p2mbatch.model.placement import BRK_PFN, SMALL_GUEST_PAGES
from p2mbatch.model.policies import MENDED, Policy, find


class Wanted(NamedTuple):
    """Guests of one policy and one width as their scenarios have them: one element for each."""

    memory_bytes: Int64Array
    sparsity: Float64Array
    layout: Int64Array
    """The codes of `tables.LAYOUTS`: `TAIL` for one with 1:1 pages too."""
    hole_pfn: Int64Array
    hole_pages: Int64Array
    """The 1:1 pages, which may reach past the span; 0 of them in other layouts."""
    max_domain_pages: Int64Array
    """Pages that the kernel takes; 0: as it is configured."""
    grow_pages: Int64Array
    """How many pages may be populated later."""
    beyond: BoolArray | Int64Array
    """Whether those lie past the span's end."""
    hotplug_gib: Int64Array
    p2m_vaddr: Int64Array
    """Where a linear p2m begins, as a signed word."""
    told: BoolArray | Int64Array
    """Whether the domain builder says that a linear list can be read."""


class Placements(NamedTuple):
    """Where guests of one policy and one width are placed: one element for each. In pages."""

    layout: Int64Array
    span: Int64Array
    nr_pages: Int64Array
    num_holes: Int64Array
    num_grown: Int64Array
    brk_pfn: Int64Array
    brk_pages: Int64Array
    num_boot_leaves: Int64Array
    bootmem_pages: Int64Array
    pool_pages: Int64Array
    directmap: Int64Array
    max_p2m_pfn: Int64Array
    """PFNs that the kernel's p2m is made for: the span, or a linear one's area."""
    max_domain_pages: Int64Array
    """Of a p2m of two levels: PFNs that it holds; else 0."""
    num_leaves: Int64Array
    """Leaves that are cached."""
    p2m_vaddr: Int64Array
    no_list: Int64Array
    """Of a linear p2m: 1 where no list is kept while the toolstack reads the table."""
    hole_first: Int64Array
    hole_end: Int64Array
    """The 1:1 PFNs, none where both are 0."""
    marks_hole: Int64Array
    """1 where there are any and boot marks them."""
    reach: Int64Array
    """The PFN after the last that may ever be populated."""
    has_identity: Int64Array
    """1 where words in leaves may say 1:1 from boot on."""
    fixed_pages: Int64Array
    """Pages of structures that are not counted as they are taken."""
    populated_pages: Int64Array
    num_slots: Int64Array
    """Pages that come to hold something."""
    num_blocks: Int64Array
    """Blocks of the page directory that the structures and some strays take."""
    guest_frames: Int64Array
    """How many of a host's frames are the guest's."""
    fits: BoolArray
    """Whether the guest can be: `place` raises nothing."""


def place_each(
    wanted: Wanted, policy: Policy, word_bytes: int, *, resident: bool = False
) -> Placements:
    """Return where guests go. With `resident` every leaf is memory."""
    geo = geometry(word_bytes)
    n = geo.entries
    span = wanted.memory_bytes // PAGE_BYTES
    layout = wanted.layout
    scattered = layout == tb.SCATTERED
    populated, grows = _populated(span, wanted.sparsity, layout, n)
    nr_pages = booted_pages(span, wanted.sparsity, layout, n)
    num_grown = np.where(grows, (populated - nr_pages) // n, 0)
    populated = np.where(grows, nr_pages + num_grown * n, populated)
    most = wanted.max_domain_pages
    fits = (span >= 1) & (span <= geo.max_p2m_pfn)
    if policy.is_two_level:
        most = np.where(most > 0, most, policy.most_pages(word_bytes))
    elif most.any():
        cut: BoolArray = (most > 0) & (nr_pages > most)
        fits &= ~cut | (layout == tb.TAIL)
        nr_pages, populated = np.where(cut, most, nr_pages), np.where(cut, most, populated)
        most = np.zeros_like(most)
    # Most guests have neither of these.
    hole_first = hole_end = marks = hole_mids = np.zeros_like(span)
    step = n**2
    if wanted.hole_pages.any() or wanted.hole_pfn.any():
        hole_first = np.minimum(wanted.hole_pfn, span)
        hole_end = np.minimum(wanted.hole_pfn + wanted.hole_pages, span)
        marks = (hole_end > hole_first) * int(policy.marks or policy.is_linear)
        hole_mids = (-(-hole_end // step) - hole_first // step + 1) * marks
    reach = np.minimum(span, geo.max_p2m_pfn)
    if wanted.grow_pages.any():
        reach = np.minimum(span + wanted.grow_pages * wanted.beyond, geo.max_p2m_pfn)
    flat = flat_places(wanted, policy, nr_pages, span, reach) if policy.is_linear else None
    pool_pages = _pool_pages(wanted, policy, n, span, reach, num_grown, flat)
    num_boot_leaves = -(-nr_pages // n)
    brk_pfn = np.where(nr_pages >= SMALL_GUEST_PAGES, BRK_PFN, nr_pages // 8)
    brk_pages = _brk_pages(policy, word_bytes, nr_pages, most, hole_first, hole_end)
    bootmem_pages = (
        policy.bootmem_pages(-(-num_boot_leaves // n) + hole_mids, num_boot_leaves, word_bytes)
        if flat is None
        else flat.boot_pages
    )
    directmap = np.minimum(span, geo.direct_map_limit_pages)
    struct_pages = brk_pages + num_boot_leaves + bootmem_pages + pool_pages
    end = brk_pfn + struct_pages
    fits &= end <= np.minimum(nr_pages, directmap)
    if hole_end.any():
        fits &= (hole_first >= end) | (brk_pfn >= hole_end)
    if word_bytes == 8:
        fits &= brk_pfn + brk_pages + num_boot_leaves <= IMAGE_MAP_PAGES
    num_holes = span - populated
    fits &= ~scattered | (num_holes <= span - struct_pages)
    num_tops = -(-span // step)
    whole = (directmap >> tb.BLOCK_SHIFT) + 1
    some = (struct_pages >> tb.BLOCK_SHIFT) + 2 + num_tops + policy.spare_slots
    populated_pages = populated
    if marks.any():
        below = np.minimum(hole_end, nr_pages) - np.minimum(hole_first, nr_pages)
        populated_pages = np.where(marks > 0, populated - below, populated)
    placed = Placements(
        layout=layout,
        span=span,
        nr_pages=nr_pages,
        num_holes=num_holes,
        num_grown=num_grown,
        brk_pfn=brk_pfn,
        brk_pages=brk_pages,
        num_boot_leaves=num_boot_leaves,
        bootmem_pages=bootmem_pages,
        pool_pages=pool_pages,
        directmap=directmap,
        max_p2m_pfn=span if flat is None else flat.area_pfns,
        max_domain_pages=most,
        num_leaves=_num_leaves(policy, n, span, reach, most) if flat is None else flat.num_leaves,
        p2m_vaddr=wanted.p2m_vaddr,
        no_list=np.zeros_like(marks) if flat is None else flat.no_list.astype(np.int64),
        hole_first=hole_first,
        hole_end=hole_end,
        marks_hole=marks,
        reach=reach,
        # The end of extra memory may lie inside of a leaf, whose other pages are 1:1.
        has_identity=marks | (span % n != 0) if policy.is_linear else marks,
        fixed_pages=_fixed_pages(policy, word_bytes, num_boot_leaves, most),
        populated_pages=populated_pages,
        num_slots=span,
        num_blocks=np.minimum(some, whole) + 8,
        guest_frames=np.where(scattered, span, nr_pages + num_grown * n),
        fits=fits,
    )
    return placed._replace(num_slots=_slots(placed, policy, word_bytes, resident, hole_mids, flat))


def _populated(
    span: Int64Array, sparsity: Float64Array, layout: Int64Array, entries: Int64Array | int
) -> tuple[Int64Array, BoolArray]:
    """Return how many pages guests have of their span, and which get some only after boot."""
    populated = span - np.rint(sparsity * span).astype(np.int64)
    return populated, (layout == tb.EXTENTS) & (populated > entries)


def booted_pages(
    span: Int64Array, sparsity: Float64Array, layout: Int64Array, entries: Int64Array | int
) -> Int64Array:
    """Return the pages that guests boot with, `entries` being the entries of a page of theirs."""
    populated, grows = _populated(span, sparsity, layout, entries)
    boots = np.maximum(-(-populated // 2) // entries, 1) * entries
    found: Int64Array = np.where(layout == tb.SCATTERED, span, np.where(grows, boots, populated))
    return found


def _pool_pages(
    wanted: Wanted,
    policy: Policy,
    n: int,
    span: Int64Array,
    reach: Int64Array,
    num_grown: Int64Array,
    flat: FlatPlaces | None,
) -> Int64Array:
    """Return the pages that `alloc_p2m` may take."""
    pool_pages: Int64Array = num_grown + 2 * -(-span // n**2) * (num_grown > 0)
    if wanted.grow_pages.any():
        grow_pages = np.minimum(wanted.grow_pages, np.maximum(span, reach))
        tops = -(-reach // n**2)
        more = -(-grow_pages // n) + 2 + (2 + policy.late_list) * tops
        pool_pages = pool_pages + more * (grow_pages > 0)
    return pool_pages if flat is None else pool_pages + flat.later_pages


def _brk_pages(
    policy: Policy,
    word_bytes: int,
    nr_pages: Int64Array,
    most: Int64Array,
    hole_first: Int64Array,
    hole_end: Int64Array,
) -> Int64Array:
    """Return the pages of brk, or of the arrays of two levels; with what 1:1 pages may ask for."""
    step = geometry(word_bytes).entries ** 2
    num_mids = -(-nr_pages // step)
    found = np.maximum(*(each.brk_pages(num_mids, word_bytes) for each in (policy, find(MENDED))))
    if policy.is_two_level:
        found = np.maximum(found, _array_pages(word_bytes, most))
    if hole_end.any():
        tops = -(-hole_end // step) - hole_first // step + 1
        found = found + (2 * tops + 2) * (hole_end > hole_first)
    return found


def _array_pages(word_bytes: int, most: Int64Array) -> Int64Array:
    """Return the pages of the static arrays of p2ms of two levels, which hold `most` PFNs."""
    one = sum(static_pages(word_bytes, 0).values())
    step = geometry(word_bytes).entries ** 2
    found: Int64Array = one + (sum(static_pages(word_bytes, step).values()) - one) * (most // step)
    return found


def _fixed_pages(
    policy: Policy, word_bytes: int, num_boot_leaves: Int64Array, most: Int64Array
) -> Int64Array:
    """Return the pages of structures that a guest does not take one by one.

    Those are `mfn_list`, which the kernel frees where it moved its leaves, and the static arrays of
    two levels; or the level-4 page of a linear p2m, which is part of the kernel's image.
    """
    if policy.is_linear:
        return np.ones_like(num_boot_leaves)
    if policy.is_two_level:
        return num_boot_leaves + _array_pages(word_bytes, most)
    return num_boot_leaves * (not policy.moves_leaves(word_bytes))


def _num_leaves(
    policy: Policy, n: int, span: Int64Array, reach: Int64Array, most: Int64Array
) -> Int64Array:
    """Return how many leaves of a tree's are cached."""
    if policy.is_two_level:
        return most // n
    tree = np.minimum(-(-span // n), n * n)
    found: Int64Array = np.where(reach > span, -(-reach // n), tree)
    return found


def _slots(
    placed: Placements,
    policy: Policy,
    word_bytes: int,
    resident: bool,
    hole_mids: Int64Array,
    flat: FlatPlaces | None,
) -> Int64Array:
    """Return what `Placement.num_slots` does."""
    n = geometry(word_bytes).entries
    brk_pfn, brk_pages, nr_pages = placed.brk_pfn, placed.brk_pages, placed.nr_pages
    leaves = placed.num_boot_leaves + placed.num_grown
    if not resident:
        struct_pages = brk_pages + placed.num_boot_leaves + placed.bootmem_pages
        struct_pages = struct_pages + placed.pool_pages
        leaves = (brk_pfn + struct_pages - 1) // n + 2 - brk_pfn // n
    if hole_mids.any():
        below = np.minimum(placed.hole_end, nr_pages + n) - np.minimum(placed.hole_first, nr_pages)
        leaves = leaves + np.where(hole_mids > 0, 4 + below // n + 3 * hole_mids, 0)
    num_tops = -(-placed.span // n**2)
    mids = np.where(placed.pool_pages > 0, 2 * num_tops, 0)
    found: Int64Array = leaves + brk_pages + mids + num_tops + 16 + policy.spare_slots
    if flat is not None or policy.moves_leaves(word_bytes):
        found += leaves
    if policy.late_list:
        found += num_tops + 3
    if flat is not None:
        found += 3 + flat.table_pages + flat.list_pages
        found += flat.own_leaves - placed.num_boot_leaves if resident else 2
    return found


def table_bytes(placed: Placements, word_bytes: int) -> Int64Array:
    """Return the bytes of the guests' tables: `Placement.table_bytes`."""
    n = geometry(word_bytes).entries
    slot_bytes = 8 * n + n // 8 + 8 * tb.P_WORDS
    directory = (placed.num_blocks << tb.BLOCK_SHIFT) * 4 + (placed.directmap >> 7)
    longest = np.maximum(np.maximum(placed.span, placed.max_domain_pages), placed.reach)
    num_leaves = longest // n + 1
    if (placed.max_p2m_pfn != placed.span).any():
        num_leaves = num_leaves + placed.num_leaves
    found: Int64Array = placed.num_slots * slot_bytes + directory + 8 * num_leaves + 16 * n
    return found


def holds(guest_frames: Int64Array, frames: Int64Array, order: Int64Array) -> BoolArray:
    """Return whether hosts of so many frames can hold guests: `Placement.check_host`."""
    reserved = np.maximum(RESERVED_FRAMES, 1 << order)
    found: BoolArray = (reserved + guest_frames <= frames) & (frames <= bijection.MAX_SIZE)
    return found
