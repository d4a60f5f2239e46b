"""Where many guests keep their pages, as columns: what `placement.place` says of one at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import BoolArray, Float64Array, Int64Array
from p2mbatch.base.geometry import IMAGE_MAP_PAGES, PAGE_BYTES, geometry
from p2mbatch.compiled import bijection
from p2mbatch.compiled import tables as tb
from p2mbatch.model.hosts import RESERVED_FRAMES
from p2mbatch.model.placement import BRK_PFN, SMALL_GUEST_PAGES
from p2mbatch.model.policies import MENDED, Policy, find


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
    num_leaves: Int64Array
    num_slots: Int64Array
    """Pages that come to hold something."""
    num_blocks: Int64Array
    """Blocks of the page directory that the structures and some strays take."""
    guest_frames: Int64Array
    """How many of a host's frames are the guest's."""
    fits: BoolArray
    """Whether the guest can be: `place` raises nothing."""


def place_each(
    memory_bytes: Int64Array,
    sparsity: Float64Array,
    layout: Int64Array,
    policy: Policy,
    word_bytes: int,
    *,
    resident: bool = False,
) -> Placements:
    """Return where guests go; `layout` are the codes of `tables.LAYOUTS`.

    With `resident` every leaf is memory.
    """
    geo = geometry(word_bytes)
    n = geo.entries
    span = memory_bytes // PAGE_BYTES
    scattered = layout == tb.SCATTERED
    populated = span - np.rint(sparsity * span).astype(np.int64)
    grows = (layout == tb.EXTENTS) & (populated > n)
    nr_pages = booted_pages(span, sparsity, layout, n)
    num_grown = np.where(grows, (populated - nr_pages) // n, 0)
    num_holes = span - np.where(grows, nr_pages + num_grown * n, populated)
    num_mids = -(-nr_pages // n**2)
    num_tops = -(-span // n**2)
    pool_pages = num_grown + np.where(num_grown > 0, 2 * num_tops, 0)
    brk_pfn = np.where(nr_pages >= SMALL_GUEST_PAGES, BRK_PFN, nr_pages // 8)
    brk_pages = np.maximum(
        *(kernel.brk_pages(num_mids, word_bytes) for kernel in (policy, find(MENDED)))
    )
    num_boot_leaves = -(-nr_pages // n)
    bootmem_pages = policy.bootmem_pages(-(-num_boot_leaves // n), num_boot_leaves, word_bytes)
    directmap = np.minimum(span, geo.direct_map_limit_pages)
    struct_pages = brk_pages + num_boot_leaves + bootmem_pages + pool_pages
    fits = (span >= 1) & (span <= geo.max_p2m_pfn)
    fits &= brk_pfn + struct_pages <= np.minimum(nr_pages, directmap)
    if word_bytes == 8:
        fits &= brk_pfn + brk_pages + num_boot_leaves <= IMAGE_MAP_PAGES
    fits &= ~scattered | (num_holes <= span - struct_pages)
    num_slots = _slots(
        policy, word_bytes, resident, brk_pfn, brk_pages, struct_pages,
        num_boot_leaves + num_grown, pool_pages, num_tops,
    )  # fmt: skip
    whole = (directmap >> tb.BLOCK_SHIFT) + 1
    some = (struct_pages >> tb.BLOCK_SHIFT) + 2 + num_tops + policy.spare_slots
    return Placements(
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
        num_leaves=np.minimum(-(-span // n), n * n),
        num_slots=num_slots,
        num_blocks=np.minimum(some, whole) + 8,
        guest_frames=np.where(scattered, span, nr_pages + num_grown * n),
        fits=fits,
    )


def booted_pages(
    span: Int64Array, sparsity: Float64Array, layout: Int64Array, entries: Int64Array | int
) -> Int64Array:
    """Return the pages that guests boot with, `entries` being the entries of a page of theirs."""
    populated = span - np.rint(sparsity * span).astype(np.int64)
    grows = (layout == tb.EXTENTS) & (populated > entries)
    boots = np.maximum(-(-populated // 2) // entries, 1) * entries
    found: Int64Array = np.where(layout == tb.SCATTERED, span, np.where(grows, boots, populated))
    return found


def _slots(
    policy: Policy,
    word_bytes: int,
    resident: bool,
    brk_pfn: Int64Array,
    brk_pages: Int64Array,
    struct_pages: Int64Array,
    all_leaves: Int64Array,
    pool_pages: Int64Array,
    num_tops: Int64Array,
) -> Int64Array:
    """Return what `Placement.num_slots` does."""
    n = geometry(word_bytes).entries
    leaves = all_leaves
    if not resident:
        leaves = (brk_pfn + struct_pages - 1) // n + 2 - brk_pfn // n
    moved = leaves if policy.moves_leaves(word_bytes) else 0
    lists = num_tops + 3 if policy.late_list else 0
    mids = np.where(pool_pages > 0, 2 * num_tops, 0)
    return leaves + moved + lists + brk_pages + mids + num_tops + 16 + policy.spare_slots


def table_bytes(placed: Placements, word_bytes: int) -> Int64Array:
    """Return the bytes of the guests' tables: `Placement.table_bytes`."""
    n = geometry(word_bytes).entries
    slot_bytes = 8 * n + n // 8 + 8 * tb.P_WORDS
    directory = (placed.num_blocks << tb.BLOCK_SHIFT) * 4 + (placed.directmap >> 7)
    num_leaves = placed.span // n + 1
    found: Int64Array = placed.num_slots * slot_bytes + directory + 8 * num_leaves + 16 * n
    return found


def holds(guest_frames: Int64Array, frames: Int64Array, order: Int64Array) -> BoolArray:
    """Return whether hosts of so many frames can hold guests: `Placement.check_host`."""
    reserved = np.maximum(RESERVED_FRAMES, 1 << order)
    found: BoolArray = (reserved + guest_frames <= frames) & (frames <= bijection.MAX_SIZE)
    return found
