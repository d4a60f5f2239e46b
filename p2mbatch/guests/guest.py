"""`Guest`: one guest for notebooks and scripts, on hosts that follow from a seed.

It lives a sweep's cell event for event (`stage`). Beyond that its pages may be populated and
ballooned out at will: once a hole of its layout is populated, its hosts keep a frame for each.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import InputError, PolicyError
from p2mbatch.base.geometry import INVALID
from p2mbatch.base.markup import card
from p2mbatch.base.say import one_line
from p2mbatch.base.sizes import parse_size
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.child.layout import R_CHILD
from p2mbatch.compiled.hosts import given_frames
from p2mbatch.compiled.inspect import list_entries
from p2mbatch.compiled.jit import threads_at_most
from p2mbatch.compiled.m2p import lookup_m2p, lookup_m2p_parallel
from p2mbatch.compiled.status import FAULT_TOP
from p2mbatch.guests.dealt import deal
from p2mbatch.guests.fields import ScenarioFields
from p2mbatch.guests.stage import RESIDENT, StagedGuest
from p2mbatch.guests.tree_view import Snapshot, TreeView
from p2mbatch.kernels.named import named_policy
from p2mbatch.model.cpus.events import set_by_cpus
from p2mbatch.model.cpus.limits import MAX_CPUS, MAX_KEY, check_races
from p2mbatch.model.life import Life
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.placement import Placement
from p2mbatch.model.policies import MENDED, find
from p2mbatch.model.runs import leading, single_runs
from p2mbatch.model.trace import REFUSED

if TYPE_CHECKING:
    from p2mbatch.guests.explained import Action
    from p2mbatch.model.explain.story import Explanation


class Guest:
    """A PV guest that has booted; changed by its methods until it has ended.

    Made by `boot`, `from_scenario` and `from_file`.
    """

    def __init__(self, staged: StagedGuest) -> None:
        self._staged = staged
        self.lost: EventResult | None = None
        """The event that crashed it or moved it wrong, or None."""
        self.refused: EventResult | None = None
        """Its last migration if that was refused, or None: it runs on where it was, stuck."""
        self.booted = self._happened(staged.boot())
        """The boot, with all that comes before the first migration, as one event."""
        self._did: list[Action] = []

    @classmethod
    def from_scenario(cls, scenario: ScenarioFields, resident: str = "auto") -> Guest:
        """Boot the guest of `scenario`: what it lives is the sweep's cell, event for event.

        `resident` "all" makes every leaf memory, "auto" only those that hold structure pages.
        Raises `InputError` with the numbers where it does not fit.
        """
        if resident not in RESIDENT:
            raise InputError(f"resident: {resident!r} is unknown: use {', '.join(RESIDENT)}")
        return cls(StagedGuest(scenario, resident, spare_pool=True))

    @classmethod
    def boot(
        cls,
        memory: str | int = "1GiB",
        policy: str = MENDED,
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
        hosts: str | Sequence[str | int] = "",
        xen: str = "",
        stuck: str = "end",
        neighbour_map: str = "",
        resident: str = "auto",
    ) -> Guest:
        """Boot a guest that spans `memory`, with the hosts of `seed`.

        `sparsity` and `layout` say which pages it has at first, as in a scenario. `resident`
        "all" makes every leaf memory, for whole-guest lookups at full speed; "auto" only the
        leaves that hold structure pages. Raises `InputError` for what does not fit.
        Source: model section 4.
        """
        find(named_policy(policy))
        if layout not in tb.LAYOUTS:
            raise InputError(f"layout: {layout!r} is unknown: use {', '.join(tb.LAYOUTS)}")
        scenario = ScenarioFields.make(
            memory_bytes=parse_size(memory, "memory"),
            sparsity=sparsity,
            layout=layout,
            policy=policy,
            host_memory_bytes=_bytes_of(host_memory, "host_memory"),
            neighbours=neighbours,
            neighbour_memory_bytes=_bytes_of(neighbour_memory, "neighbour_memory"),
            build_order=build_order,
            restore_order=restore_order,
            hosts=hosts,
            xen=xen,
            stuck=stuck,
            neighbour_map=neighbour_map,
            word_bytes=word_bytes,
            seed=seed,
        )
        return cls.from_scenario(scenario, resident)

    @classmethod
    def from_file(
        cls,
        file: str,
        policy: str = MENDED,
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
        find(named_policy(policy))
        scenario = ScenarioFields.make(
            guest=file,
            policy=policy,
            host_memory_bytes=_bytes_of(host_memory, "host_memory"),
            neighbours=neighbours,
            neighbour_memory_bytes=_bytes_of(neighbour_memory, "neighbour_memory"),
            build_order=build_order,
            restore_order=restore_order,
            seed=seed,
        )
        return cls.from_scenario(scenario)

    @property
    def scenario(self) -> ScenarioFields:
        """Return the scenario that it lives."""
        return self._staged.scenario

    @property
    def placement(self) -> Placement:
        """Return where its pages are."""
        return self._staged.placement

    @property
    def ended(self) -> EventResult | None:
        """Return the event after which nothing more can be done with it, or None.

        It is lost, or it was refused and its scenario does not let it stay (`stuck`).
        """
        stays = self.scenario.stuck == "stay"
        return self.lost or (None if stays else self.refused)

    @property
    def life(self) -> Life:
        """Return the guest on its present host."""
        return self._staged.life

    @property
    def num_migrations(self) -> int:
        """Return how often it was migrated."""
        return self._staged.num_migrations

    @property
    def max_p2m_pfn(self) -> int:
        """Return the guest's span in pages: the end of its PFNs."""
        return self.placement.span

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """Copy and pickle as any object. Raises `PolicyError` where its kernel is a file in C.

        That runs in a process of its own, which two guests can't have and no file can hold.
        """
        if self.life.tables.statics[R_CHILD]:
            raise PolicyError(
                f"{one_line(self.life.policy.short)}: runs in a process of its own: its guests are "
                "neither copied nor pickled: boot another of the same seed"
            )
        return super().__reduce_ex__(protocol)

    def _repr_html_(self) -> str:
        """Return what the guest is and how it fares as a table, for notebooks."""
        end = self.ended
        fate = "runs" if end is None else f"{end.outcome} {end.detail or ''}".strip()
        facts = [
            ("policy", self.life.policy.short),
            ("span", f"{self.max_p2m_pfn:,} pages"),
            ("migrations", self.num_migrations),
            ("state", fate),
        ]
        return card("Guest", facts)

    def lookup(self, pfns: npt.ArrayLike, *, threads: int = 1) -> Int64Array:
        """Return the MFN of each PFN, int64 of the shape of `pfns`; INVALID where there is none.

        PFNs past the guest are no mistake: the kernel's function answers INVALID to them too.
        Raises `InputError` for fewer `threads` than one.
        Source: kernel `get_phys_to_machine`, no bit masked. An entry behind a wild pointer, which
        would fault the kernel, is WILD.
        """
        wanted = np.ascontiguousarray(pfns, np.int64)
        out = np.empty(wanted.size, np.int64)
        does = self.life.policy.operations
        look_up = does.get if _checked(threads) == 1 else does.get_parallel
        with threads_at_most(threads):
            look_up(self.life.tables, self.life.host, wanted.ravel(), out)
        np.maximum(out, FAULT_TOP, out=out)
        return out.reshape(wanted.shape)

    def m2p(self, mfns: npt.ArrayLike, *, threads: int = 1) -> Int64Array:
        """Return the PFN that the host's m2p holds for each MFN, int64 of the shape of `mfns`.

        INVALID for frames of nobody and out of range (model section 7); a neighbour's frame has
        the neighbour's PFN. Raises `InputError` for fewer `threads` than one.
        """
        wanted = np.ascontiguousarray(mfns, np.int64)
        out = np.empty(wanted.size, np.int64)
        look_up = lookup_m2p if _checked(threads) == 1 else lookup_m2p_parallel
        with threads_at_most(threads):
            look_up(self.life.tables, self.life.host, wanted.ravel(), out)
        return out.reshape(wanted.shape)

    def populate(
        self, pfns: npt.ArrayLike, *, cpus: SupportsIndex = 1, schedule: SupportsIndex = 0
    ) -> EventResult:
        """Give the guest the pages `pfns` (int64, any order), growing the tree where it must.

        Pages that are populated already stay as they are. With several `cpus` each sets one of the
        pages in turn, at the same time as the others, as `schedule` (0 to 2^64 - 1) has it; pages
        that are lost by that are the result's `lost_pages`. Raises `InputError` for PFNs outside
        the span, a guest that has ended, a host without frames for them, more CPUs than there may
        be or a policy of which their steps are not modelled.
        Source: kernel `set_phys_to_machine`, model sections 5 and 5.1.
        """
        num_cpus = _whole("cpus", cpus, 1, MAX_CPUS)
        key = _whole("schedule", schedule, 0, MAX_KEY)
        if num_cpus > 1:
            check_races(self.life.policy, "cpus")
        wanted = self._pages(pfns)
        wanted = wanted[self.lookup(wanted) == INVALID]
        mfns = np.empty(len(wanted), np.int64)
        given_frames(self.life.host.par, wanted, mfns)
        if (mfns == INVALID).any():
            self._staged.keep_frames_for_holes()
            self._did.append(("keep", None))
            given_frames(self.life.host.par, wanted, mfns)
        if num_cpus > 1 and len(wanted):
            sets = deal(wanted, mfns, num_cpus)
            self._did.append(("cpus", (sets, key)))
            return self._happened(set_by_cpus(self.life, sets, key))
        return self._set(single_runs(wanted, mfns))

    def balloon_out(self, pfns: npt.ArrayLike) -> EventResult:
        """Take the pages `pfns` (int64, any order) from the guest; their frames become free.

        Raises `InputError` for PFNs outside the span or a guest that has ended.
        """
        wanted = self._pages(pfns)
        gone = np.full(len(wanted), INVALID, np.int64)
        return self._set(single_runs(wanted, gone))

    def _set(self, runs: Int64Array) -> EventResult:
        self._did.append(("set", runs))
        return self._happened(self.life.set_runs(runs))

    def migrate(self, *, threads: int = 1) -> EventResult:
        """Save the guest, restore it on the next host and resume it (model section 7).

        Each call goes to a host further on, after a refusal too. On `threads` threads for one big
        guest; what happens is the same on any number.
        Raises `InputError` for a guest that has ended and for fewer `threads` than one.
        """
        self._alive()
        checked = _checked(threads)
        self._did.append(("migrate", None))
        result = self._happened(self._staged.migrate(checked))
        self.refused = result if result.outcome in REFUSED else None
        return result

    def save(self, *, threads: int = 1) -> EventResult:
        """Return what the toolstack's checks would say now, with no effect on the guest.

        Raises `InputError` for fewer `threads` than one.
        """
        return self.life.save(_checked(threads))

    def explain(self, *, pictures: bool = False) -> Explanation:
        """Return its life so far, told step by step: it is lived once more, with a log of stores.

        With `pictures` each step has the guest before and after it (`report/explain`).
        """
        from p2mbatch.guests.explained import explain_actions

        return explain_actions(self.scenario, self._did, pictures)

    def tree(self) -> TreeView:
        """Return the tree and its mfn list list as they are now.

        Raises `InputError` where its kernel's p2m is no tree of three levels.
        """
        life = self.life
        if life.policy.is_linear or life.policy.is_two_level:
            raise InputError(
                f"a p2m of policy {life.policy.name} is no tree of three levels: there is no "
                "picture of it"
            )
        n = self.placement.geo.entries
        num_leaves = -(-self.placement.span // n)
        num_tops = self.placement.num_tops
        tops = np.empty((2, num_tops), np.int64)
        lists = np.empty((2, num_leaves), np.int64)
        mids = np.empty(num_tops, np.bool_)
        list_entries(life.tables, life.host, tops, lists, mids)
        page = life.tables.leaf_page
        kind = np.where(page == life.scalar("missing"), 0, 2).astype(np.int8)
        first = self.placement.mfn_list_pfn
        kind[(page >= first) & (page < first + self.placement.num_boot_leaves)] = 1
        slots = life.tables.slots[: life.scalar("num_slots")]
        hit = slots[:, tb.P_EVENT] == life.scalar("event")
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
                "brk": [(self.placement.brk_pfn, life.scalar("brk_used"))],
                "mfn_list": [(first, self.placement.num_boot_leaves)],
                "pool": leading(self.placement.page_pool, life.scalar("pool_used")),
            },
        )

    def snapshot(self, title: str = "", event: EventResult | None = None) -> Snapshot:
        """Return what `plots.plot_tree` draws of the guest as it is now.

        `event` is what led here: its stray writes and its outcome are told in the picture.
        """
        when = f"after migration {self.num_migrations}" if self.num_migrations else "after its boot"
        shown = event or EventResult()
        return Snapshot(
            self.tree(),
            title or when,
            self.max_p2m_pfn,
            shown.stray_writes,
            shown.outcome,
            shown.detail,
        )

    def _happened(self, result: EventResult) -> EventResult:
        if not result.ok and result.outcome not in REFUSED:
            self.lost = result
        return result

    def _alive(self) -> None:
        end = self.ended
        if end is not None:
            said = "lost" if self.lost else 'stuck, and its scenario not stuck="stay"'
            raise InputError(f"the guest is {said}: {end.outcome} {end.detail}")

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


def _whole(name: str, value: SupportsIndex, least: int, most: int) -> int:
    """Return what a caller gave as an int; raise `InputError` for what is none in the range."""
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name}: {value!r}: use a whole number, {least} to {most}") from None
    if not least <= number <= most:
        raise InputError(f"{name}: {number}: use {least} to {most}")
    return number


def _checked(threads: int) -> int:
    if threads < 1:
        raise InputError(f"threads: {threads} is none: use 1 or more")
    return threads


def _bytes_of(size: str | int | None, name: str) -> int | None:
    return None if size is None else parse_size(size, name)
