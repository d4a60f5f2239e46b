"""The only way from a scenario to a living guest: its placement, its hosts, its life up to now.

Rows, `Guest`, pictures, written-out traces and warm-up all live on a `StagedGuest`, so what is
drawn or stepped through is the sweep's cell. What a `Guest` may do beyond its scenario changes
nothing until it is used: the pool's spare pages lie behind those that the layout takes, and the
hosts keep frames for the layout's holes from the first hole on that is populated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import IsStopped
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.hosts import given_frames
from p2mbatch.guests.churn import Churn, may_get_more, most_added
from p2mbatch.guests.dealt import deal, schedule_key
from p2mbatch.guests.file import guest_of
from p2mbatch.guests.file_placement import GuestPlacement, place_guest
from p2mbatch.guests.host_sizes import host_bytes, host_ranges
from p2mbatch.model import toolstacks
from p2mbatch.model.cpus.events import raced
from p2mbatch.model.cpus.race import Raced
from p2mbatch.model.cpus.schedule import Schedule
from p2mbatch.model.host_map import map_of
from p2mbatch.model.hosts import function_host
from p2mbatch.model.life import Life, Rounds
from p2mbatch.model.linear_shape import LinearFields
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.placement import Placement, place
from p2mbatch.model.runs import frame_runs
from p2mbatch.model.trace import REFUSED
from p2mbatch.model.xen import parse_xen

if TYPE_CHECKING:
    from p2mbatch.guests.fields import ScenarioFields


RESIDENT = ("auto", "all")
"""Which leaves are memory: those that hold structure pages, or all (model section 10)."""


def check_scenario(scenario: ScenarioFields) -> Placement:
    """Return where the guest's pages go, or raise `InputError` with the numbers that do not fit."""
    placement = _place(scenario)
    kept = placement.span if scenario.guest else placement.population.guest_frames
    if may_get_more(scenario):
        kept = placement.reach
    _check_hosts(scenario, placement, kept)
    return placement


def _check_hosts(scenario: ScenarioFields, placement: Placement, guest_frames: int) -> None:
    """Raise `InputError` with the numbers where one of the hosts can't hold `guest_frames`."""
    sizes = [(scenario.host_memory_bytes, scenario.host_memory_bytes)]
    if scenario.hosts:
        sizes = host_ranges(scenario.hosts)[: scenario.migrations + 1]
    orders = [scenario.build_order] + [scenario.restore_order] * max(len(sizes) - 1, 1)
    for order, ends in zip(orders, sizes + sizes[-1:], strict=False):
        for size in ends:
            placement.check_host(
                size // PAGE_BYTES,
                order,
                guest_frames=guest_frames,
                field="hosts" if scenario.hosts else "host_memory_bytes",
            )


def estimate_memory_bytes(scenario: ScenarioFields, resident: str = "auto") -> int:
    """Return the bytes that running the scenario touches at its peak, for admission."""
    return _place(scenario).table_bytes(resident=resident == "all") + (1 << 18)


def _place(scenario: ScenarioFields) -> Placement:
    if scenario.guest:
        return place_guest(guest_of(scenario.guest), scenario.policy)
    return place(
        memory_bytes=scenario.memory_bytes,
        sparsity=scenario.sparsity,
        layout=scenario.layout,
        policy=scenario.policy,
        word_bytes=scenario.word_bytes,
        seed=scenario.seed,
        max_domain_pages=scenario.max_domain_pages,
        linear=LinearFields(
            scenario.hotplug_gib, int(scenario.p2m_vaddr, 16), told=is_told(scenario)
        ),
        hole=hole_of(scenario),
        grow_pages=most_added(scenario),
        grow_where=scenario.grow_where,
        grow_cpus=_num_growing(scenario),
    )


def _num_growing(scenario: ScenarioFields) -> int:
    """Return how many CPUs set something of what the guest gets before a migration."""
    return max(min(scenario.cpus, scenario.grow_bytes // PAGE_BYTES), 1)


def is_told(scenario: ScenarioFields) -> bool:
    """Return whether the domain builder says that a linear list can be read."""
    if scenario.told != "auto":
        return scenario.told == "yes"
    return toolstacks.find(scenario.toolstack).reads_table


def hole_of(scenario: ScenarioFields) -> tuple[int, int]:
    """Return the 1:1 PFNs, the first and the one after the last, inside of the span."""
    span, first = scenario.memory_bytes // PAGE_BYTES, scenario.hole_at_bytes // PAGE_BYTES
    return min(first, span), min(first + scenario.hole_bytes // PAGE_BYTES, span)


def nth_host(
    scenario: ScenarioFields, placement: Placement, index: int, *, names_all: bool = False
) -> tb.HostTables:
    """Return the `index`-th host of the guest's life: 0 is where it boots.

    With `names_all`, or for a guest from a file, it keeps a frame for every page of the span.
    """
    return function_host(
        placement.population,
        frames=nth_host_frames(scenario, index),
        order=scenario.restore_order if index else scenario.build_order,
        neighbours=scenario.neighbours,
        neighbour_pages=scenario.neighbour_memory_bytes // PAGE_BYTES,
        key=(scenario.seed, "host", index),
        first=index == 0,
        names_all=names_all or bool(scenario.guest) or may_get_more(scenario),
        reach=placement.reach,
        xen=parse_xen(scenario.xen) if scenario.xen else None,
        **({"known": map_of(scenario.neighbour_map).m2p} if scenario.neighbour_map else {}),
    )


def nth_host_frames(scenario: ScenarioFields, index: int) -> int:
    """Return the machine frames of the `index`-th host of the guest's life."""
    if not scenario.hosts:
        return scenario.host_memory_bytes // PAGE_BYTES
    return host_bytes(scenario.hosts, scenario.seed, index) // PAGE_BYTES


class StagedGuest:
    """A scenario's guest on its first host, not booted yet; `boot` once, then `migrate`."""

    def __init__(
        self, scenario: ScenarioFields, resident: str = "auto", *, spare_pool: bool = False
    ) -> None:
        """Place the guest. With `spare_pool` its pool lets every leaf of the span be grown.

        Raises `InputError` with the numbers where it does not fit.
        """
        self.scenario = scenario
        self.placement = check_scenario(scenario)
        if spare_pool:
            self.placement = _with_spare_pool(self.placement)
        self.num_migrations = 0
        """Migrations that were tried, refused ones too: each goes to the next host."""
        self._at = 0
        self.entries_written = 0
        """Entries that the last boot or rebuild wrote to the list."""
        self._resident = resident == "all" or bool(scenario.guest)
        self._names_all = False
        self._num_added = 0
        self.on_growth: Callable[[Int64Array, EventResult], None] | None = None
        """Is told the runs of what the guest got before a migration, and what came of them."""
        self.on_race: Callable[[list[Int64Array], int, EventResult, Raced], None] | None = None
        """Is told what several CPUs set before a migration, the schedule's key, and what came of
        it."""
        self.is_stopped: IsStopped | None = None
        """Says whether growth by several CPUs is to end with `StoppedError`."""
        self.on_rounds: Callable[[Rounds], None] | None = None
        """Is told what the guest is to do in the rounds of a live migration, before it begins."""
        self._churn = Churn(scenario, self.placement) if scenario.live == "yes" else None
        self.life: Life = self.placement.new_life(self._host(0), resident=self._resident)
        self.life.toolstack = toolstacks.find(scenario.toolstack).code

    def boot(self) -> EventResult:
        """Boot, bring the layout about and, with a file's guest, live up to its first migration.

        Returns all of it as one event.
        """
        life, placement, everything = self.life, self.placement, self._resident
        result = life.boot() if everything else life.boot(*placement.struct_leaves())
        self.entries_written = life.scalar("entries_written")
        if result.outcome == "ok" and placement.num_grown:
            grown = life.grow_leaves(placement.grown_leaves(), lazy=not everything)
            grown.rebuild_ns = result.rebuild_ns
            result = grown
        if isinstance(placement, GuestPlacement):
            result = placement.live_until_migration(life, result)
        return result

    def goes_on(self, result: EventResult) -> bool:
        """Return whether the guest lives on after `result`: through it, or refused and to stay."""
        return result.ok or (self.scenario.stuck == "stay" and result.outcome in REFUSED)

    def migrate(self, threads: int = 1) -> EventResult:
        """Save the guest, restore it on its next host and resume it (model section 7)."""
        self.num_migrations += 1
        grown = self._grow()
        if not grown.ok:
            return grown
        result = self._sent(threads)
        result.stray_writes += grown.stray_writes
        # A page that growth hits is fresh from the pool: no page is counted twice.
        result.stray_pages += grown.stray_pages
        result.placeholder_writes += grown.placeholder_writes
        if result.ok:
            result.lost_pages += grown.lost_pages
        if result.outcome not in REFUSED:
            self._at = self.num_migrations
        self.entries_written = self.life.scalar("entries_written")
        return result

    def _sent(self, threads: int) -> EventResult:
        """Migrate the life that there is, live or not."""
        host = self._host(self.num_migrations)
        if self._churn is None:
            return self.life.migrate(host, threads)
        planned = self._churn.plan(self.life, self.num_migrations, self._num_added)
        rounds = [one.runs for one in planned]
        if self.on_rounds is not None:
            self.on_rounds(rounds)
        result = self.life.migrate(host, threads, rounds)
        if self.life.rounds:
            # What it was given up before was not done.
            self._num_added += self._churn.done(planned[: len(self.life.rounds)])
        return result

    def _grow(self) -> EventResult:
        """Give the guest what it gets before a migration, as far as there is room for it."""
        count = self.scenario.grow_bytes // PAGE_BYTES
        if not count:
            return EventResult()
        pfns = self.placement.added_pages(self._num_added, count)
        self._num_added += len(pfns)
        mfns = np.empty(len(pfns), np.int64)
        given_frames(self.life.host.par, pfns, mfns)
        if self.scenario.cpus > 1 and len(pfns):
            sets = deal(pfns, mfns, self.scenario.cpus)
            key = schedule_key(self.scenario, self.num_migrations)
            result, done = raced(self.life, sets, Schedule(key), self.is_stopped)
            if self.on_race is not None:
                self.on_race(sets, key, result, done)
            return result
        runs = frame_runs(pfns, mfns)
        result = self.life.set_runs(runs)
        if self.on_growth is not None:
            self.on_growth(runs, result)
        return result

    def keep_frames_for_holes(self) -> None:
        """From now on let each host keep a frame for every page of the span, this host too.

        The frames of pages that are populated stay what they are; those of the layout's holes are
        no longer free or a neighbour's. Raises `InputError` where the host has not so many.
        """
        if self._names_all or self.scenario.guest or may_get_more(self.scenario):
            return
        _check_hosts(self.scenario, self.placement, self.placement.span)
        self._names_all = True
        # What was freed here keeps its words in m2p, if this host lets it.
        self.life.host = self._host(self._at)._replace(owned=self.life.host.owned)

    def _host(self, index: int) -> tb.HostTables:
        return nth_host(self.scenario, self.placement, index, names_all=self._names_all)


def _with_spare_pool(placement: Placement) -> Placement:
    """Return the same placement with as much more pool as growing every leaf takes, if it fits.

    The scattered layout boots with every leaf, and more pool would move its holes.
    """
    if isinstance(placement, GuestPlacement) or placement.layout == tb.SCATTERED:
        return placement
    num_leaves = -(-placement.span // placement.geo.entries)
    missing = num_leaves - placement.num_boot_leaves - placement.num_grown
    spare = missing + 2 * placement.num_tops
    room = placement.mapped_end - placement.brk_pfn - placement.struct_pages
    return replace(placement, pool_pages=placement.pool_pages + max(min(spare, room), 0))
