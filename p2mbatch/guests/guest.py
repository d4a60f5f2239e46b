"""`Guest`: one guest for notebooks and scripts, on hosts that follow from a seed.

The same placement, hosts and kernels as a sweep's cell, but its pages may be populated and
ballooned out at will, so every page of its span keeps a frame on every host.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import INVALID, PAGE_BYTES
from p2mbatch.base.sizes import GIB, parse_size
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.hosts import given_frames
from p2mbatch.compiled.inspect import list_entries
from p2mbatch.compiled.lookup import lookup_each
from p2mbatch.compiled.status import FAULT_TOP
from p2mbatch.guests.file import guest_of
from p2mbatch.guests.file_placement import place_guest
from p2mbatch.guests.tree_view import TreeView
from p2mbatch.model.hosts import function_host
from p2mbatch.model.life import EventResult, Life
from p2mbatch.model.placement import Placement, place
from p2mbatch.model.runs import leading, single_runs


class Guest:
    """A PV guest that has booted. Made by `Guest.boot`; changed by its methods until it is lost."""

    def __init__(self, placement: Placement, life: Life, hosts: dict[str, Any]) -> None:
        self.placement = placement
        self.life = life
        self._hosts = hosts
        self.num_migrations = 0
        self.lost: EventResult | None = None
        """The event that lost the guest, or None."""

    @classmethod
    def boot(
        cls,
        memory: str | int = "1GiB",
        policy: str = "tracked",
        seed: int = 0,
        *,
        sparsity: float = 0.0,
        layout: str = "tail",
        word_bytes: int = 8,
        host_memory: str | int | None = None,
        neighbours: float = 1.0,
        neighbour_memory: str | int | None = None,
        build_order: int = 9,
        restore_order: int = 0,
        resident: str = "auto",
    ) -> Guest:
        """Boot a guest that spans `memory`, with the hosts of `seed`.

        `sparsity` and `layout` say which pages it has at first, as in a scenario. `resident`
        "all" makes every leaf memory, for whole-guest lookups at full speed; "auto" only the
        leaves that hold structure pages. Raises `InputError` for what does not fit.
        Source: model section 4.
        """
        for name, value, known in (
            ("policy", policy, tb.POLICIES),
            ("layout", layout, tb.LAYOUTS),
            ("resident", resident, ("auto", "all")),
        ):
            if value not in known:
                raise InputError(f"{name}: {value!r} is unknown: use {', '.join(known)}")
        memory_bytes = parse_size(memory, "memory")
        placement = _place_with_pool(memory_bytes, sparsity, layout, policy, word_bytes, seed)
        orders = (build_order, restore_order)
        hosts = _hosts(memory_bytes, host_memory, neighbours, neighbour_memory, orders, seed)
        return cls._booted(placement, hosts, everything=resident == "all")

    @classmethod
    def from_file(
        cls,
        file: str,
        policy: str = "tracked",
        seed: int = 0,
        *,
        host_memory: str | int | None = None,
        neighbours: float = 1.0,
        neighbour_memory: str | int | None = None,
        build_order: int = 9,
        restore_order: int = 0,
    ) -> Guest:
        """Boot the guest of the trace file `file`, up to its first migration, on hosts of `seed`.

        `file` is a path, or what a sweep's table has in `guest`. Raises `InputError` where the file
        is not there, is no trace or does not fit.
        """
        if policy not in tb.POLICIES:
            raise InputError(f"policy: {policy!r} is unknown: use {', '.join(tb.POLICIES)}")
        found = guest_of(file)
        placement = place_guest(found, policy)
        orders = (build_order, restore_order)
        hosts = _hosts(found.memory_bytes, host_memory, neighbours, neighbour_memory, orders, seed)
        guest = cls._booted(placement, hosts, everything=True)
        if guest.lost is None:
            guest._happened(placement.live_until_migration(guest.life, EventResult()))
        return guest

    @classmethod
    def _booted(cls, placement: Placement, hosts: dict[str, Any], *, everything: bool) -> Guest:
        """Return the guest on its first host, with what the layout populates after boot."""
        for order in hosts["orders"]:
            placement.check_host(hosts["frames"], order, guest_frames=placement.span)
        life = placement.new_life(_host(placement, hosts, 0), resident=everything)
        guest = cls(placement, life, hosts)
        guest._happened(life.boot() if everything else life.boot(*placement.struct_leaves()))
        if guest.lost is None and placement.num_grown:
            guest._happened(life.grow_leaves(placement.grown_leaves(), lazy=not everything))
        return guest

    @property
    def max_p2m_pfn(self) -> int:
        """Return the guest's span in pages: the end of its PFNs."""
        return self.placement.span

    def lookup(self, pfns: npt.ArrayLike) -> Int64Array:
        """Return the MFN of each PFN, int64 of the shape of `pfns`; INVALID where there is none.

        Source: kernel `get_phys_to_machine`, no bit masked. An entry behind a wild pointer, which
        would fault the kernel, is WILD.
        """
        wanted = np.ascontiguousarray(pfns, np.int64)
        out = np.empty(wanted.size, np.int64)
        lookup_each(self.life.tables, self.life.host, wanted.ravel(), out)
        np.maximum(out, FAULT_TOP, out=out)
        return out.reshape(wanted.shape)

    def populate(self, pfns: npt.ArrayLike) -> EventResult:
        """Give the guest the pages `pfns` (int64, any order), growing the tree where it must.

        Pages that are populated already stay as they are. Raises `InputError` for PFNs outside the
        span or a guest that is lost. Source: kernel `set_phys_to_machine`, model section 5.
        """
        wanted = self._pages(pfns)
        wanted = wanted[self.lookup(wanted) == INVALID]
        mfns = np.empty(len(wanted), np.int64)
        given_frames(self.life.host.par, wanted, mfns)
        return self._happened(self.life.set_runs(single_runs(wanted, mfns)))

    def balloon_out(self, pfns: npt.ArrayLike) -> EventResult:
        """Take the pages `pfns` (int64, any order) from the guest; their frames become free.

        Raises `InputError` for PFNs outside the span or a guest that is lost.
        """
        wanted = self._pages(pfns)
        gone = np.full(len(wanted), INVALID, np.int64)
        return self._happened(self.life.set_runs(single_runs(wanted, gone)))

    def migrate(self) -> EventResult:
        """Save the guest, restore it on the next host and resume it (model section 7).

        Raises `InputError` for a guest that is lost.
        """
        self._alive()
        self.num_migrations += 1
        return self._happened(
            self.life.migrate(_host(self.placement, self._hosts, self.num_migrations))
        )

    def save(self) -> EventResult:
        """Return what the toolstack's checks would say now, with no effect on the guest."""
        return self.life.save()

    def tree(self) -> TreeView:
        """Return the tree and its mfn list list as they are now."""
        life = self.life
        n = self.placement.geo.entries
        num_leaves = -(-self.placement.span // n)
        num_tops = self.placement.num_tops
        tops = np.empty((2, num_tops), np.int64)
        lists = np.empty((2, num_leaves), np.int64)
        mids = np.empty(num_tops, np.bool_)
        list_entries(life.tables, life.host, tops, lists, mids)
        page = life.tables.leaf_page
        kind = np.where(page == life.scalar(tb.S_MISSING), 0, 2).astype(np.int8)
        first = self.placement.mfn_list_pfn
        kind[(page >= first) & (page < first + self.placement.num_boot_leaves)] = 1
        slots = life.tables.slots[: life.scalar(tb.S_NUM_SLOTS)]
        hit = slots[:, tb.P_EVENT] == life.scalar(tb.S_EVENT)
        return TreeView(
            entries=n,
            num_tops=num_tops,
            mid_exists=mids,
            leaf_kind=kind,
            top_entries=tops[0],
            top_true=tops[1],
            list_entries=lists[0],
            list_true=lists[1],
            hit_pages=np.sort(slots[hit, tb.P_PAGE]),
            structures={
                "brk": [(self.placement.brk_pfn, life.scalar(tb.S_BRK_USED))],
                "mfn_list": [(first, self.placement.num_boot_leaves)],
                "pool": leading(self.placement.page_pool, life.scalar(tb.S_POOL_USED)),
            },
        )

    def _happened(self, result: EventResult) -> EventResult:
        if result.outcome != "ok":
            self.lost = result
        return result

    def _alive(self) -> None:
        if self.lost is not None:
            raise InputError(f"the guest is lost: {self.lost.outcome} {self.lost.detail}")

    def _pages(self, pfns: npt.ArrayLike) -> Int64Array:
        """Return the distinct PFNs in ascending order, all inside the span of a living guest."""
        self._alive()
        wanted = np.unique(np.asarray(pfns, np.int64))
        if len(wanted) and (wanted[0] < 0 or wanted[-1] >= self.placement.span):
            bad = wanted[0] if wanted[0] < 0 else wanted[-1]
            raise InputError(
                f"pfns: {bad} is outside the guest: use 0 to {self.placement.span - 1}"
            )
        return wanted


def _place_with_pool(
    memory_bytes: int, sparsity: float, layout: str, policy: str, word_bytes: int, seed: int
) -> Placement:
    """Return a placement whose pool lets every leaf of the span be grown, where that fits."""
    fields: dict[str, Any] = {
        "memory_bytes": memory_bytes,
        "sparsity": sparsity,
        "layout": layout,
        "policy": policy,
        "word_bytes": word_bytes,
        "seed": seed,
    }
    plain = place(**fields)
    n = plain.geo.entries
    spare = -(-plain.span // n) - plain.num_boot_leaves - plain.num_grown + 2 * plain.num_tops
    room = plain.directmap_pages - plain.brk_pfn - plain.struct_pages
    return place(**fields, spare_pool_pages=max(min(spare, room), 0))


def _hosts(
    memory_bytes: int,
    host_memory: str | int | None,
    neighbours: float,
    neighbour_memory: str | int | None,
    orders: tuple[int, int],
    seed: int,
) -> dict[str, Any]:
    """Return what all hosts of a guest's life have in common, the scenario's defaults filled in."""
    host_bytes = max(4 * memory_bytes, GIB)
    if host_memory is not None:
        host_bytes = parse_size(host_memory, "host_memory")
    neighbour_bytes = parse_size(neighbour_memory or memory_bytes, "neighbour_memory")
    return {
        "frames": host_bytes // PAGE_BYTES,
        "neighbours": neighbours,
        "neighbour_pages": max(neighbour_bytes // PAGE_BYTES, 1),
        "orders": orders,
        "seed": seed,
    }


def _host(placement: Placement, hosts: dict[str, Any], index: int) -> tb.HostTables:
    return function_host(
        placement.population,
        frames=hosts["frames"],
        order=hosts["orders"][min(index, 1)],
        neighbours=hosts["neighbours"],
        neighbour_pages=hosts["neighbour_pages"],
        key=(hosts["seed"], "host", index),
        first=index == 0,
        names_all=True,
    )
