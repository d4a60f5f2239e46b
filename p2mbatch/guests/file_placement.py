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
from p2mbatch.guests.file import OWN, GuestFile
from p2mbatch.model.life import EventResult, Life
from p2mbatch.model.placement import Placement, check_image_map
from p2mbatch.model.policies import find, names
from p2mbatch.model.runs import merged_runs

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
        return (
            self.num_boot_leaves
            + self.brk_pages
            + min(guest.num_grown + 2 * guest.num_new_tops, self.pool_pages)
            + self.num_tops
            + 16
        )

    def num_blocks(self) -> int:
        """Return how many blocks of the page directory the structures and some strays take."""
        whole = (self.directmap_pages >> tb.BLOCK_SHIFT) + 1
        runs = self.page_pool
        pool = ((runs[:, 1] >> tb.BLOCK_SHIFT) + 2).sum()
        others = (self.brk_pages + self.num_boot_leaves >> tb.BLOCK_SHIFT) + 4
        return min(int(pool) + others + self.num_tops, whole) + 8

    def table_bytes(self, *, resident: bool) -> int:
        """Return the bytes of the guest's tables, and of its sets with frames."""
        return super().table_bytes(resident=True) + _BYTES_PER_OWN_ENTRY * self.guest.num_own

    def check_machine(self) -> None:
        """Raise `InputError` with the numbers where the file's guest can't be on this machine.

        Files of format 1 may have such guests: structures past the kernel image map, or a direct
        map longer than there is on 32-bit.
        """
        limit = self.geo.direct_map_limit_pages
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
    if kernel.is_era:
        raise InputError(
            f"policy: {policy!r} places its pages otherwise than {guest.path} has them: "
            f"use {', '.join(name for name in names() if not find(name).is_era)}"
        )
    placement = GuestPlacement(
        geo=geometry(layout.word_bytes),
        policy=kernel,
        layout=tb.TAIL,
        span=layout.max_p2m_pfn,
        nr_pages=layout.nr_pages,
        num_holes=layout.max_p2m_pfn - layout.nr_pages,
        num_grown=0,
        brk_pfn=layout.brk_pfn,
        brk_pages=layout.brk_pages,
        pool_pages=int(layout.page_pool[:, 1].sum()),
        directmap_pages=layout.directmap_pages,
        key=(),
        guest=guest,
    )
    placement.check_machine()
    placement.check_policy()
    return placement


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
