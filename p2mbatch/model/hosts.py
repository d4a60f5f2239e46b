"""Hosts: which frame a page gets on a machine and who owns the others (model sections 7 and 10).

A table host is written out in runs and costs nine bytes a frame; a function host follows from a
seed and costs nothing, whatever its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.compiled import bijection
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.records import Bijection, HostParameters, as_array
from p2mbatch.model.runs import put_runs
from p2mbatch.model.xen import Version, has_small_m2p_order, keeps_freed_frames

RESERVED_FRAMES = 512
"""The first 2 MiB of every function host are Xen's own: MFN 0 is never handed out, as in Xen."""

_EMPTY = np.zeros(0, np.int64)

_NONE_OWNED = np.zeros(0, np.uint8)

_NO_RUNS = np.zeros((0, 3), np.int64)


def table_host(
    frames: int,
    domain: Int64Array,
    foreign: Int64Array,
    *,
    m2p_order: int = tb.UNBOUNDED_ORDER,
    m2p_entries: int = tb.UNBOUNDED_ENTRIES,
    keeps_freed: bool = False,
) -> tb.HostTables:
    """Return a host with an explicit m2p of `frames` entries.

    `domain` is int64[k, 3] of [pfn, mfn, count], ascending by PFN; `foreign` int64[k, 3] of
    [mfn, pfn, count]. Both must lie within `frames` and name no frame twice. `m2p_order` and
    `m2p_entries` bound what a guest reads of m2p (machine-v2 section 7); nothing, if left out.
    With `keeps_freed` a frame that is freed keeps its PFN in m2p.
    """
    par = HostParameters(
        kind=tb.TABLE_HOST,
        frames=frames,
        m2p_order=m2p_order,
        m2p_entries=m2p_entries,
        keeps_freed=tb.KEEPS_FREED if keeps_freed else 0,
    )
    m2p = np.full(frames, -1, np.int64)
    put_runs(m2p, foreign)
    return tb.HostTables(as_array(par), m2p, np.zeros(frames, np.uint8), domain)


def m2p_order(word_bytes: int, frames: int = 0, xen: Version | None = None) -> int:
    """Return log2 of the m2p's size as a kernel that boots on a host of so many frames has it.

    `xen` is the hypervisor's version, None one of today. Source: machine-v2 section 7.
    """
    if word_bytes == 8 and has_small_m2p_order(xen):
        return (frames - 1).bit_length()
    return 32 if word_bytes == 8 else 26


def m2p_entries(word_bytes: int, frames: int) -> int:
    """Return how many entries of a host's m2p are mapped for guests (machine-v2 section 7)."""
    chunks = -(-frames // 262_144)
    if word_bytes == 8:
        return 262_144 * chunks
    return min(524_288 * -(-chunks // 2), 43_515_904)


@dataclass(frozen=True)
class Population:
    """Which pages of a guest's span are populated, as far as a host must know it."""

    layout: int
    """TAIL, SCATTERED or EXTENTS."""
    entries_shift: int
    nr_pages: int
    """Pages that the guest boots with."""
    span: int
    """`max_p2m_pfn`."""
    num_holes: int
    """Pages of the span that are not populated once the layout is in place."""
    struct_first: int = 0
    struct_pages: int = 0
    """The pages of structures, which are never holes of the scattered layout."""
    num_grown: int = 0
    """Leaves populated later in the extents layout."""
    key: tuple[object, ...] = ()
    """Names the bijection that places the holes (scattered) or the grown leaves (extents)."""

    @property
    def choices(self) -> int:
        """Return how many places the layout's bijection chooses from."""
        if self.layout == tb.SCATTERED:
            return self.span - self.struct_pages
        if self.layout == tb.EXTENTS:
            return (self.span - self.nr_pages) >> self.entries_shift
        return 0

    @cached_property
    def holes_parameters(self) -> Bijection:
        """Return the bijection that places the holes or the grown leaves."""
        return bijection.parameters(self.choices, "holes", *self.key)

    @property
    def guest_frames(self) -> int:
        """Return how many of a host's frames, in the order of handing out, are the guest's."""
        if self.layout == tb.SCATTERED:
            return self.span
        return self.nr_pages + (self.num_grown << self.entries_shift)


def function_host(
    population: Population,
    *,
    frames: int,
    order: int,
    neighbours: float,
    neighbour_pages: int,
    key: tuple[object, ...],
    first: bool,
    names_all: bool = False,
    reach: int = 0,
    xen: Version | None = None,
    known: Int64Array = _EMPTY,
) -> tb.HostTables:
    """Return a host whose frames go out in aligned extents of 2^`order` pages, shuffled by `key`.

    `neighbours` is the fraction of the frames that are not the guest's that belong to domains of
    `neighbour_pages` each. `first` is the host to boot on: what is ballooned out there is free.
    With `names_all` every page of the span has a frame kept for it, populated or not, and so has
    every page below `reach` past it. Before Xen
    4.2 (`xen`; None: one of today) m2p keeps the word of a frame that is freed: all frames that are
    not the guest's have one, of domains that departed where not of neighbours. Where `known`
    (int64[k]) is a real host's m2p, that says what all frames stand for that are not the guest's.
    """
    reserved = reserved_frames(order)
    num_extents = (frames - reserved) >> order
    inside = population.layout == tb.SCATTERED
    populated = population.span - (0 if inside and first else population.num_holes)
    word_bytes = PAGE_BYTES >> population.entries_shift
    keeps_freed = keeps_freed_frames(xen)
    par = HostParameters(
        kind=tb.FUNCTION_HOST,
        frames=frames,
        reserved=reserved,
        order=order,
        num_extents=num_extents,
        layout=population.layout,
        entries_shift=population.entries_shift,
        nr_pages=population.nr_pages,
        span=max(population.span, reach),
        num_holes=population.num_holes,
        holes_to_others=inside and not first and not names_all,
        names_all=names_all,
        struct_first=population.struct_first,
        struct_pages=population.struct_pages,
        num_grown=population.num_grown,
        guest_frames=max(population.span, reach) if names_all else population.guest_frames,
        num_neighbour=frames - populated
        if keeps_freed
        else round(neighbours * (frames - populated)),
        neighbour_pages=neighbour_pages,
        m2p_order=m2p_order(word_bytes, frames, xen),
        m2p_entries=m2p_entries(word_bytes, frames),
        keeps_freed=(tb.KEEPS_BOOTED if first else tb.KEEPS_FREED) if keeps_freed else 0,
        frames_perm=bijection.parameters(num_extents, "frames", *key),
        holes_perm=population.holes_parameters,
    )
    freed = np.zeros(max(population.span, reach), np.uint8) if keeps_freed else _NONE_OWNED
    return tb.HostTables(as_array(par), known[:frames], freed, _NO_RUNS)


def reserved_frames(order: int) -> int:
    """Return the frames at the bottom of a function host that are handed out to nobody."""
    return max(RESERVED_FRAMES, 1 << order)
