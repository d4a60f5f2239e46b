"""Where a simulated guest keeps its pages, and how much room its tables need.

Placed like a small kernel's: brk from 16 MiB (lower in guests below 64 MiB), `mfn_list` behind it,
the pool of `alloc_p2m` where free pages begin (docs/sweeps.md; model section 3).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import IMAGE_MAP_PAGES, PAGE_BYTES, Geometry, geometry
from p2mbatch.base.sizes import format_size
from p2mbatch.compiled import bijection
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.hosts import holes_of
from p2mbatch.compiled.records import as_array
from p2mbatch.model.era_tables import static_pages, static_places, with_area, with_static
from p2mbatch.model.hosts import Population, reserved_frames
from p2mbatch.model.life import Life
from p2mbatch.model.linear_shape import USUAL_LINEAR, LinearFields, LinearShape, boot_runs
from p2mbatch.model.policies import MENDED, Policy, find

BRK_PFN = 4096
"""16 MiB, where brk begins in guests that boot with 64 MiB or more."""

SMALL_GUEST_PAGES = 16384


@dataclass(frozen=True)
class Placement:
    """A guest's shape and where its structures are. Counts and PFNs in pages."""

    geo: Geometry
    policy: Policy
    layout: int
    span: int
    """`max_p2m_pfn`."""
    nr_pages: int
    """Pages that it boots with."""
    num_holes: int
    """Pages of the span that stay unpopulated."""
    num_grown: int
    """Leaves that arrive after boot (extents layout)."""
    brk_pfn: int
    brk_pages: int
    pool_pages: int
    directmap_pages: int
    key: tuple[object, ...]
    max_domain_pages: int = field(default=0, kw_only=True)
    """PFNs that a p2m of two levels holds."""

    linear: LinearShape | None = field(default=None, kw_only=True)
    """How long its p2m is, where that is one flat table."""
    hole: tuple[int, int] = field(default=(0, 0), kw_only=True)
    """The 1:1 PFNs: the first, and the one after the last."""
    reach: int = field(default=0, kw_only=True)
    """The PFN after the last that may ever be populated."""

    grow_where: str = field(default="within", kw_only=True)
    """Where pages are that are populated later."""

    @property
    def num_static_pages(self) -> int:
        """Return how many pages the arrays of a p2m of two levels take."""
        if not self.max_domain_pages:
            return 0
        return sum(static_pages(self.geo.word_bytes, self.max_domain_pages).values())

    @property
    def static(self) -> dict[str, int]:
        """Return the first PFN of each static array of a p2m of two levels: in brk's place."""
        return static_places(self.geo.word_bytes, self.max_domain_pages, self.brk_pfn)

    @property
    def mfn_list_pfn(self) -> int:
        """Return the PFN of `mfn_list`."""
        return self.brk_pfn + self.brk_pages

    @property
    def num_boot_leaves(self) -> int:
        """Return the leaves that it boots with: pages of `mfn_list`."""
        return -(-self.nr_pages // self.geo.entries)

    @property
    def pool_pfn(self) -> int:
        """Return the first PFN of the pool."""
        return self.bootmem_pfn + self.bootmem_pages

    @property
    def bootmem_pfn(self) -> int:
        """Return the first PFN of the boot allocator's pages."""
        return self.mfn_list_pfn + self.num_boot_leaves

    @property
    def bootmem_pages(self) -> int:
        """Return the pages that the kernel takes from the boot allocator."""
        if self.linear is not None:
            return self.linear.boot_pages
        num_mids = -(-self.num_boot_leaves // self.geo.entries) + self._hole_mids
        return self.policy.bootmem_pages(num_mids, self.num_boot_leaves, self.geo.word_bytes)

    @property
    def _hole_mids(self) -> int:
        """Return how many mid pages marking the 1:1 PFNs may open, at most."""
        step = self.geo.entries**2
        return -(-self.hole[1] // step) - self.hole[0] // step + 1 if self.marks_hole else 0

    @property
    def marks_hole(self) -> bool:
        """Return whether there are 1:1 PFNs and its kernel knows of such."""
        return self.hole[1] > self.hole[0] and (self.policy.marks or self.policy.is_linear)

    @property
    def page_pool(self) -> Int64Array:
        """Return int64[k, 2]: the pool's runs [first PFN, count]."""
        runs = np.array([[self.pool_pfn, self.pool_pages]], np.int64)
        return runs[: int(self.pool_pages > 0)]

    @property
    def struct_pages(self) -> int:
        """Return the pages that the structures may take, from `brk_pfn` on."""
        return self.brk_pages + self.num_boot_leaves + self.bootmem_pages + self.pool_pages

    @property
    def structures(self) -> Int64Array:
        """Return int64[k, 2]: runs [first PFN, count] of pages that the kernel never gives away."""
        return np.array([[self.brk_pfn, self.struct_pages]], np.int64)

    @property
    def mapped_end(self) -> int:
        """Return where the pages end that structures can lie in: booted, and in the direct map."""
        return min(self.nr_pages, self.directmap_pages)

    @property
    def num_tops(self) -> int:
        """Return how many top entries the span needs."""
        return -(-self.span // self.geo.entries**2)

    @property
    def populated_pages(self) -> int:
        """Return the pages that are populated once the layout is in place."""
        below = min(self.hole[1], self.nr_pages) - min(self.hole[0], self.nr_pages)
        return self.span - self.num_holes - (below if self.marks_hole else 0)

    @cached_property
    def population(self) -> Population:
        """Return what a host must know of the guest."""
        return Population(
            layout=self.layout,
            entries_shift=self.geo.entries_shift,
            nr_pages=self.nr_pages,
            span=self.span,
            num_holes=self.num_holes,
            struct_first=self.brk_pfn,
            struct_pages=self.struct_pages,
            num_grown=self.num_grown,
            key=self.key,
        )

    def grown_leaves(self) -> Int64Array:
        """Return the leaves that arrive after boot, in their order: int64[num_grown]."""
        leaves = np.empty(self.num_grown, np.int64)
        holes_of(as_array(self.population.holes_parameters), 0, leaves)
        return leaves + self.nr_pages // self.geo.entries

    def added_pages(self, first: int, count: int) -> Int64Array:
        """Return the PFNs of up to `count` pages that are populated behind the first `first`.

        They are ascending: int64[k].
        """
        if self.grow_where == "beyond":
            return np.arange(self.span + first, min(self.span + first + count, self.reach))
        if self.grow_where == "identity":
            start, end = self.hole
            return np.arange(start + first, min(start + first + count, end))
        if self.layout == tb.TAIL:
            # Those past the booted pages, without the 1:1 ones.
            start, end = (max(pfn, self.nr_pages) for pfn in self.hole)
            pfns = np.arange(self.nr_pages + first, self.nr_pages + first + count)
            pfns[pfns >= start] += end - start
            return pfns[pfns < self.span]
        return np.sort(self.hole_pages(first, max(min(count, self.num_holes - first), 0)))

    def hole_pages(self, first: int, count: int) -> Int64Array:
        """Return the PFNs of `count` holes from number `first` on, where a bijection has them."""
        shift = self.geo.entries_shift
        perm = as_array(self.population.holes_parameters)
        ranks = np.arange(first, first + count)
        if self.layout == tb.SCATTERED:
            holes_of(perm, first, ranks)
            return ranks + self.struct_pages * (ranks >= self.brk_pfn)
        # Whole leaves, then what lies past the last of those.
        leaf = self.num_grown + (ranks >> shift)
        leaves = np.empty(max(self.population.choices - self.num_grown, 0), np.int64)
        holes_of(perm, self.num_grown, leaves)
        whole = leaf < self.population.choices
        ranks[~whole] += self.num_grown << shift
        ranks[whole] &= (1 << shift) - 1
        ranks[whole] |= leaves[leaf[whole] - self.num_grown] << shift
        return ranks + self.nr_pages

    def struct_leaves(self) -> tuple[int, int]:
        """Return the first leaf with entries of structure pages, and the one after the last."""
        n = self.geo.entries
        return self.brk_pfn // n, (self.brk_pfn + self.struct_pages - 1) // n + 1

    def num_slots(self, *, resident: bool) -> int:
        """Return how many pages come to hold something, with some room for stray writes."""
        first, end = self.struct_leaves()
        leaves = self.num_boot_leaves + self.num_grown if resident else end - first + 1
        if self.marks_hole:
            n = self.geo.entries
            below = min(self.hole[1], self.nr_pages + n) - min(self.hole[0], self.nr_pages)
            leaves += 4 + below // n + 3 * self._hole_mids
        mids = 2 * self.num_tops if self.pool_pages else 0
        # A resident leaf that is moved leaves its old page behind.
        shape = self.linear
        moved = leaves if shape or self.policy.moves_leaves(self.geo.word_bytes) else 0
        lists = self.num_tops + 3 if self.policy.late_list else 0
        if shape is not None:
            lists = 1 + shape.table_pages + shape.list_pages + 2
            leaves += shape.own_leaves - self.num_boot_leaves if resident else 2
        own = self.brk_pages + mids + self.num_tops + 16 + self.policy.spare_slots
        return leaves + moved + lists + own

    def num_blocks(self) -> int:
        """Return how many blocks of the page directory the structures and some strays take."""
        whole = (self.directmap_pages >> tb.BLOCK_SHIFT) + 1
        spare = self.policy.spare_slots
        return min((self.struct_pages >> tb.BLOCK_SHIFT) + 2 + self.num_tops + spare, whole) + 8

    def table_bytes(self, *, resident: bool) -> int:
        """Return the bytes of the guest's tables."""
        n = self.geo.entries
        slot_bytes = 8 * n + n // 8 + 8 * tb.P_WORDS
        directory = (self.num_blocks() << tb.BLOCK_SHIFT) * 4 + (self.directmap_pages >> 7)
        num_leaves = max(self.span, self.max_domain_pages, self.reach) // n + 1
        if self.linear is not None:
            num_leaves += self.linear.num_leaves
        return self.num_slots(resident=resident) * slot_bytes + directory + 8 * num_leaves + 16 * n

    def new_life(self, host: tb.HostTables, *, resident: bool) -> Life:
        """Return the guest on `host`, not booted yet."""
        tables = tb.allocate(
            self.geo,
            nr_pages=self.nr_pages,
            max_p2m_pfn=self.linear.area_pfns if self.linear else self.span,
            mfn_list_pfn=self.mfn_list_pfn,
            brk_pfn=self.brk_pfn,
            brk_pages=self.brk_pages,
            pool=self.page_pool,
            directmap_pages=self.directmap_pages,
            num_slots=self.num_slots(resident=resident),
            num_blocks=self.num_blocks(),
            machine=tb.MACHINE_2,
        )
        tables.state[0].bootmem_pfn = self.bootmem_pfn
        tables.state[0].bootmem_pages = self.bootmem_pages
        if self.max_domain_pages:
            tables = with_static(tables, self.static, self.max_domain_pages)
        elif self.linear is not None:
            state = tables.state[0]
            state.pgd, state.no_list = self.brk_pfn, self.linear.no_list
            state.p2m_vaddr = self.linear.signed_vaddr
            tables = with_area(tables, self.linear.num_leaves)
        elif self.reach > self.span:
            tables = with_area(tables, -(-self.reach // self.geo.entries))
        if not self.policy.is_era:
            return Life(tables, host, self.policy)
        # With the compiled functions of the eras, which most sweeps don't need.
        from p2mbatch.model.sweep_eras import FlatLife, TreeEraLife

        life = (FlatLife if self.linear else TreeEraLife)(tables, host, self.policy)
        arguments = self.boot_arguments
        life.marked = boot_runs(*arguments) if self.linear else arguments[0]
        # The end of extra memory may lie inside of a leaf, whose other pages are 1:1.
        part = self.linear is not None and self.span % self.geo.entries != 0
        life.has_identity = self.marks_hole or part
        return life

    @property
    def extra(self) -> Int64Array:
        """Return int64[k, 2]: runs [first PFN, count] of memory that may be populated later."""
        runs = np.array([[self.nr_pages, self.span - self.nr_pages]], np.int64)
        return runs[: int(self.span > self.nr_pages)]

    @property
    def boot_arguments(self) -> tuple[Int64Array, ...]:
        """Return what the kernel's boot is told: of a linear p2m pages, 1:1 PFNs, extra memory."""
        first, end = self.hole
        holes = int(self.marks_hole)
        if self.linear is not None:
            pages = np.array([[self.bootmem_pfn, self.bootmem_pages]], np.int64)
            return pages, np.array([[first, end - first]], np.int64)[:holes], self.extra
        return (np.array([[first, end]], np.int64)[:holes],)

    def check_host(
        self, frames: int, order: int, *, guest_frames: int, field: str = "host_memory_bytes"
    ) -> None:
        """Raise `InputError` with the numbers where a host can't hold the guest."""
        needed = reserved_frames(order) + guest_frames
        if needed > frames:
            raise InputError(
                f"{field}: {format_size(frames * PAGE_BYTES)} can't hold a guest of "
                f"{format_size(guest_frames * PAGE_BYTES)} beside Xen's "
                f"{format_size(reserved_frames(order) * PAGE_BYTES)}"
            )
        if frames > bijection.MAX_SIZE:
            raise InputError(
                f"{field}: {format_size(frames * PAGE_BYTES)} is over "
                f"{format_size(bijection.MAX_SIZE * PAGE_BYTES)}, the largest that is simulated"
            )


def place(
    *,
    memory_bytes: int,
    sparsity: float,
    layout: str,
    policy: str,
    word_bytes: int,
    seed: int,
    max_domain_pages: int = 0,
    linear: LinearFields = USUAL_LINEAR,
    hole: tuple[int, int] = (0, 0),
    grow_pages: int = 0,
    grow_where: str = "within",
    grow_cpus: int = 1,
) -> Placement:
    """Return where a guest's pages go.

    `max_domain_pages` is how many PFNs a kernel of two levels holds; 0: as it is configured.
    `linear` is what a linear p2m is like, `hole` the 1:1 PFNs (the first, and the one after the
    last). `grow_pages` may be populated later: "within" the holes of the span, "beyond" it, or in
    the 1:1 PFNs ("identity").
    Each of `grow_cpus` may take a page of its own for each that such growth needs. Raises
    `InputError` with the numbers where a span can't hold its own structures or is over MAX_P2M_PFN,
    and for a policy that there is not.
    """
    geo = geometry(word_bytes)
    n = geo.entries
    span = memory_bytes // PAGE_BYTES
    if not 1 <= span <= geo.max_p2m_pfn:
        raise InputError(
            f"memory_bytes: {format_size(memory_bytes)} is outside one page to "
            f"{format_size(geo.max_p2m_pfn * PAGE_BYTES)}, what the {8 * word_bytes}-bit tree holds"
        )
    populated = span - round(sparsity * span)
    nr_pages, num_grown = populated, 0
    # A guest with 1:1 pages is otherwise one of layout tail.
    kind = tb.LAYOUTS.get(layout, tb.TAIL)
    if kind == tb.SCATTERED:
        nr_pages = span
    elif kind == tb.EXTENTS and populated > n:
        nr_pages = max(-(-populated // 2) // n, 1) * n
        num_grown = (populated - nr_pages) // n
        populated = nr_pages + num_grown * n
    kernel = find(policy)
    most = max_domain_pages or kernel.most_pages(word_bytes)
    if most and nr_pages > most and not kernel.is_two_level:
        if kind != tb.TAIL:
            raise InputError(
                f"memory_bytes: a guest that boots with {nr_pages} pages is more than the "
                f"{most} that its kernel takes: use layout tail"
            )
        nr_pages = populated = most
    num_mids = -(-nr_pages // n**2)
    reach = min(span + grow_pages * (grow_where == "beyond"), geo.max_p2m_pfn)
    grow_pages = min(grow_pages, max(span, reach))
    shape = linear.shape(kernel, nr_pages, span, reach) if kernel.is_linear else None
    pool_pages = num_grown + 2 * -(-span // n**2) * bool(num_grown)
    if grow_pages:
        others = 2 + 2 * -(-reach // n**2)
        pool_pages += -(-grow_pages // n) + others
        room = {"within": span - populated, "identity": hole[1] - hole[0]}
        most_grown = min(grow_pages, room.get(grow_where, reach - span))
        pool_pages += (grow_cpus - 1) * (-(-most_grown // n) + others)
    if shape is not None:
        pool_pages += shape.later_pages
    elif kernel.late_list and grow_pages:
        pool_pages += -(-reach // n**2)
    tops = -(-hole[1] // n**2) - hole[0] // n**2 + 1 if hole[1] > hole[0] else 0
    most = most if kernel.is_two_level else 0
    arrays = sum(static_pages(word_bytes, most).values()) if most else 0
    brk_pages = max(policy.brk_pages(num_mids, word_bytes) for policy in (kernel, find(MENDED)))
    placement = Placement(
        geo=geo,
        policy=kernel,
        layout=kind,
        span=span,
        nr_pages=nr_pages,
        num_holes=span - populated,
        num_grown=num_grown,
        brk_pfn=BRK_PFN if nr_pages >= SMALL_GUEST_PAGES else nr_pages // 8,
        brk_pages=max(brk_pages, arrays) + 2 * tops + 2 * bool(tops),
        pool_pages=pool_pages,
        directmap_pages=min(span, geo.direct_map_limit_pages),
        key=(seed, "layout"),
        max_domain_pages=most,
        linear=shape,
        hole=hole,
        reach=reach,
        grow_where=grow_where,
    )
    _check_room(placement, memory_bytes)
    return placement


def check_image_map(placement: Placement, what: str = "memory_bytes") -> None:
    """Refuse a 64-bit guest whose brk or `mfn_list` the kernel image map does not reach."""
    end = max(
        placement.brk_pfn + placement.brk_pages, placement.mfn_list_pfn + placement.num_boot_leaves
    )
    if placement.geo.word_bytes == 8 and end > IMAGE_MAP_PAGES:
        raise InputError(
            f"{what}: a guest that boots with {placement.nr_pages} pages has brk and "
            f"mfn_list up to PFN {end}: the kernel image map ends at {IMAGE_MAP_PAGES}"
        )


def _check_room(placement: Placement, memory_bytes: int) -> None:
    """Refuse a guest whose structures do not fit below what its direct map reaches."""
    end = placement.brk_pfn + placement.struct_pages
    limit = placement.mapped_end
    if end > limit:
        raise InputError(
            f"memory_bytes: a span of {format_size(memory_bytes)} that boots with "
            f"{placement.nr_pages} pages needs {placement.struct_pages} pages of structures from "
            f"PFN {placement.brk_pfn} on, up to {end}: its direct map ends at {limit}"
        )
    if placement.hole[0] < end and placement.brk_pfn < placement.hole[1]:
        raise InputError(
            f"hole_at_bytes: the hole begins at PFN {placement.hole[0]} and ends at "
            f"{placement.hole[1]}: the structures lie from PFN {placement.brk_pfn} to {end}"
        )
    check_image_map(placement)
    free = placement.span - placement.struct_pages
    if placement.layout == tb.SCATTERED and placement.num_holes > free:
        raise InputError(
            f"sparsity: {placement.num_holes} scattered holes do not fit beside "
            f"{placement.struct_pages} pages of structures in {placement.span} pages"
        )
