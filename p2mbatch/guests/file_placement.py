"""Where a guest from a trace file keeps its pages, and what it lives through before it migrates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import INVALID, PAGE_BYTES, geometry
from p2mbatch.base.sizes import format_size
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.hosts import given_frames
from p2mbatch.guests.file import GuestFile
from p2mbatch.model.life import Life
from p2mbatch.model.linear_shape import LinearShape
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.placement import Placement, check_image_map
from p2mbatch.model.places import check_places
from p2mbatch.model.policies import Policy, find
from p2mbatch.model.runs import OWN, merged_runs
from p2mbatch.model.structures import structures_of
from p2mbatch.model.trace_eras import EraLayout
from p2mbatch.model.trace_linear import LinearLayout

_BYTES_PER_OWN_ENTRY = 120
"""What giving frames to the entries that its sets populate takes, for each."""


@dataclass(frozen=True)
class GuestPlacement(Placement):
    """A guest's shape as its file has it. All its leaves are resident: guests have real sizes.

    A host keeps a frame for each page of the span, populated or not, since the sets say which are.
    """

    guest: GuestFile

    @property
    def mfn_list_pfn(self) -> int:
        """Return the PFN of `mfn_list`."""
        return self.guest.layout.mfn_list_pfn

    @property
    def bootmem_pfn(self) -> int:
        """Return the first PFN of the boot allocator's pages."""
        layout = self.guest.layout
        return layout.bootmem[0] if isinstance(layout, EraLayout) and layout.bootmem else 0

    @property
    def bootmem_pages(self) -> int:
        """Return the pages of the boot allocator."""
        layout = self.guest.layout
        if isinstance(layout, LinearLayout):
            return int(layout.boot_pool[:, 1].sum())
        return layout.bootmem[1] if isinstance(layout, EraLayout) and layout.bootmem else 0

    @property
    def static(self) -> dict[str, int]:
        """Return the first PFN of each static array of a p2m of two levels."""
        layout = self.guest.layout
        assert isinstance(layout, EraLayout) and layout.static is not None
        return layout.static

    @property
    def structures(self) -> Int64Array:
        """Return int64[k, 2]: runs [first PFN, count] of pages that the kernel never gives away."""
        return structures_of(self.guest.layout)

    @property
    def marks_hole(self) -> bool:
        """Return whether its boot event names 1:1 PFNs."""
        return len(self.guest.ranges) > 0

    @property
    def boot_arguments(self) -> tuple[Int64Array, ...]:
        """Return what the kernel's boot takes beside the tables: pages, 1:1 PFNs, extra memory."""
        layout = self.guest.layout
        if isinstance(layout, LinearLayout):
            return layout.boot_pool, layout.identity, layout.extra
        return (self.guest.ranges,)

    @property
    def page_pool(self) -> Int64Array:
        """Return int64[k, 2]: the pool's runs [first PFN, count]."""
        return self.guest.layout.page_pool

    @property
    def populated_pages(self) -> int:
        """Return the pages that are populated once its sets are done."""
        return self.guest.populated_pages

    def struct_leaves(self) -> tuple[int, int]:
        """Return the first resident leaf and the one after the last: all."""
        return 0, self.num_boot_leaves

    def num_slots(self, *, resident: bool) -> int:
        """Return how many pages come to hold something, with some room for stray writes."""
        guest = self.guest
        lists = self.linear.list_pages if self.linear is not None else self.num_tops
        return (
            self.num_boot_leaves
            # What a linear p2m boots with, tables and the level-4 page among it.
            + guest.layout.boot_pages
            + min(guest.num_grown + 2 * guest.num_new_tops + lists, self.pool_pages)
            + self.num_tops
            + 16
        )

    def num_blocks(self) -> int:
        """Return how many blocks of the page directory the structures and some strays take."""
        whole = (self.directmap_pages >> tb.BLOCK_SHIFT) + 1
        runs = self.page_pool
        pool = ((runs[:, 1] >> tb.BLOCK_SHIFT) + 2).sum()
        boot = self.guest.layout.boot_pages + self.num_boot_leaves
        others = (boot >> tb.BLOCK_SHIFT) + 4
        if self.policy.is_linear:
            others += len(self.boot_arguments[0])
        if self.max_domain_pages:
            others += len(self.static)
        return min(int(pool) + others + self.num_tops, whole) + 8

    def new_life(self, host: tb.HostTables, *, resident: bool) -> Life:
        """Return the guest on `host`, not booted yet."""
        life = super().new_life(host, resident=resident)
        life.absent = self.guest.absent
        if self.policy.marks or self.policy.is_linear:
            # Any set may bring a 1:1 word.
            life.has_identity = True  # type: ignore[attr-defined]
        return life

    def table_bytes(self, *, resident: bool) -> int:
        """Return the bytes of the guest's tables, and of its sets with frames."""
        return super().table_bytes(resident=True) + _BYTES_PER_OWN_ENTRY * self.guest.num_own

    def check_machine(self) -> None:
        """Raise `InputError` with the numbers where the file's guest can't be on this machine.

        Files of format 1 may have such guests: structures past the kernel image map, or a direct
        map longer than there is on 32-bit.
        """
        limit = self.geo.direct_map_limit_pages
        if self.policy.is_era:
            # Addresses are nothing to them (machine-v2), and their files were checked.
            return
        if self.directmap_pages > limit:
            raise InputError(
                f"{self.guest.path}: guest.directmap_pages is {self.directmap_pages}: a "
                f"{8 * self.geo.word_bytes}-bit kernel has {limit} at most"
            )
        check_image_map(self, self.guest.path)

    def check_policy(self) -> None:
        """Raise `InputError` with the numbers where brk is too small for the policy's boot."""
        damaged = self.guest.damaged_policy
        if damaged not in (None, self.policy.name):
            raise InputError(
                f"policy: {self.guest.path} begins with a damaged list of policy {damaged}, and "
                f"{self.policy.short} has its own in other pages: use {damaged}, or a guest that "
                "was imported with --heal"
            )
        if self.policy.is_two_level or self.policy.is_linear:
            return
        num_mids = -(-self.nr_pages // self.geo.entries**2)
        needed = self.policy.brk_pages(num_mids, self.geo.word_bytes)
        if needed > self.brk_pages:
            raise InputError(
                f"policy: {self.policy.name} takes {needed} pages of brk to boot this guest, "
                f"and {self.guest.path} has {self.brk_pages}"
            )

    def check_host(
        self, frames: int, order: int, *, guest_frames: int, field: str = "host_memory_bytes"
    ) -> None:
        """Raise `InputError` with the numbers where a host can't hold the guest or hides it.

        An entry that is no frame of the guest's (foreign, identity) must be no frame of the host.
        """
        super().check_host(frames, order, guest_frames=guest_frames, field=field)
        lowest = self.guest.lowest_kept
        if lowest is not None and lowest < frames:
            raise InputError(
                f"{field}: {format_size(frames * PAGE_BYTES)} has a frame {lowest:#x}, "
                f"which {self.guest.path} holds as no frame of its host's: use at most "
                f"{format_size(lowest * PAGE_BYTES)}"
            )

    def live_until_migration(self, life: Life, booted: EventResult) -> EventResult:
        """Run what the file has between boot and migration; return all of it as one event.

        `booted` is how the boot ended; nothing is run where that lost the guest.
        """
        total = booted
        for event in self.events(life.host) if booted.outcome == "ok" else []:
            if event["op"] == "fail_alloc":
                life.fail_alloc(event["at"])
                continue
            if event["op"] == "poke":
                life.poke(event["words"])
                continue
            result = life.set_runs(event["runs"])
            # Stray writes of growth hit pages fresh from the pool: no page is counted twice.
            result.stray_writes += total.stray_writes
            result.stray_pages += total.stray_pages
            result.rebuild_ns = booted.rebuild_ns
            total = result
            if total.outcome != "ok":
                break
        return total

    def events(self, host: tb.HostTables) -> list[dict[str, Any]]:
        """Return what happens before the first migration, with the frames of `host`."""
        return [_on_host(event, host) for event in self.guest.events]


def place_guest(guest: GuestFile, policy: str) -> GuestPlacement:
    """Return where the guest's pages are; raises `InputError` where `policy` can't boot it."""
    layout = guest.layout
    kernel = find(policy)
    check_places(guest.policy, policy, guest.path)
    pgd = layout.pgd_pfn if isinstance(layout, LinearLayout) else layout.brk_pfn
    most = layout.max_domain_pages if isinstance(layout, EraLayout) else 0
    placement = GuestPlacement(
        geo=geometry(layout.word_bytes),
        policy=kernel,
        layout=tb.TAIL,
        span=guest.span,
        nr_pages=layout.nr_pages,
        num_holes=guest.span - layout.nr_pages,
        num_grown=0,
        brk_pfn=pgd,
        brk_pages=layout.brk_pages,
        pool_pages=int(layout.page_pool[:, 1].sum()),
        directmap_pages=layout.directmap_pages,
        key=(),
        max_domain_pages=most,
        linear=_shape(layout, guest.span, kernel) if isinstance(layout, LinearLayout) else None,
        reach=guest.span,
        guest=guest,
    )
    placement.check_machine()
    placement.check_policy()
    return placement


def _shape(layout: LinearLayout, span: int, kernel: Policy) -> LinearShape:
    """Return what a linear p2m of a file is like."""
    return LinearShape(
        end=span,
        reach=span,
        area_pfns=layout.max_p2m_pfn,
        p2m_vaddr=layout.p2m_vaddr % (1 << 64),
        no_list=layout.virt_p2m_4tools and not kernel.whole_area,
        hash_pages=kernel.hash_pages,
    )


def _on_host(event: dict[str, Any], host: tb.HostTables) -> dict[str, Any]:
    """Return an event of a guest's file with the frames of `host` in place of its own.

    A poked word that was no frame of the guest's stays the number that it is.
    """
    if event["op"] == "set":
        return {"op": "set", "runs": _with_frames(event["runs"], host)}
    if event["op"] != "poke":
        return event
    words, own = event["words"].copy(), event["pfns"] != INVALID
    mfns = np.empty(np.count_nonzero(own), np.int64)
    given_frames(host.par, event["pfns"][own], mfns)
    words[own, 2] = mfns
    return {"op": "poke", "words": words}


def _with_frames(runs: Int64Array, host: tb.HostTables) -> Int64Array:
    """Return runs [pfn, mfn or INVALID, count]: the entries of `runs` with the frames of `host`."""
    own = runs[:, 1] == OWN
    parts = np.where(own, runs[:, 2], 1)
    run = np.repeat(np.arange(len(runs)), parts)
    at = np.arange(len(run)) - np.repeat(np.cumsum(parts) - parts, parts)
    found = runs[run]
    found[:, 0] += at
    chosen = own[run]
    found[chosen, 2] = 1
    mfns = np.empty(np.count_nonzero(chosen), np.int64)
    given_frames(host.par, found[chosen, 0], mfns)
    found[chosen, 1] = mfns
    return merged_runs(found)
