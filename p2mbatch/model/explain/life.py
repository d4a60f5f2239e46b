"""A life lived once with the log on, told event by event."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.policies.operations import Operations
from p2mbatch.model import toolstacks
from p2mbatch.model.cpus.events import raced
from p2mbatch.model.cpus.race import Raced
from p2mbatch.model.cpus.schedule import Schedule
from p2mbatch.model.explain.boot import tell_boot, tell_layout, tell_poke, tell_tweak
from p2mbatch.model.explain.cpus import facts_of, tell_cpus
from p2mbatch.model.explain.large import MAX_LOGGED_LEAVES, LargeRebuild
from p2mbatch.model.explain.log import Logged
from p2mbatch.model.explain.picture import picture_of
from p2mbatch.model.explain.rebuild import Rebuild
from p2mbatch.model.explain.restore import tell_report, tell_restore
from p2mbatch.model.explain.save import TreeWalk
from p2mbatch.model.explain.save_legacy import LegacyWalk
from p2mbatch.model.explain.save_table import TableWalk, shared_info, tell_generation
from p2mbatch.model.explain.sets import LoggedSets, tell_rounds, tell_set
from p2mbatch.model.explain.story import RaceFacts, Step, folded
from p2mbatch.model.explain.view import Known, View
from p2mbatch.model.life import Life
from p2mbatch.model.outcomes import EventResult

MAX_PICTURES = 64
"""Pictures of one event; a rebuild of more parts has some of them alike."""

Told = tuple[EventResult, list[Step]]
"""What an event came to, and its steps."""


class Watcher:
    """Looks on at one life: swaps its policy's functions for ones with a log."""

    def __init__(self, life: Life, pictures: bool = False) -> None:
        """Look on at `life`, not booted yet. With `pictures` each step gets some."""
        self.life = life
        self._wants_pictures = pictures
        self.views: list[dict[str, Any]] = []
        """The pictures of the last event."""
        self.policy = life.policy
        self.num_events = self.num_migrations = 0
        self._plain: Operations = life.policy.operations
        self._logged = Logged()
        self._known = Known()
        self._host_number = self._next_host = 0
        self._tweak: dict[str, Any] = {}
        self._before = self.view()
        """The guest as what is being told began: an event, or the rest of one that began so."""
        self.race = RaceFacts()
        """What several CPUs did in the last event, or before its save."""
        self._grown: list[Step] = []
        self._has_died = False
        self._paused: View | None = None
        """Of a live migration: the guest as it was once it had been paused."""
        self._restored: View | None = None
        self._resumed: View | None = None
        self._looks = [0, 0]
        self._sets = LoggedSets(self._plain, self._logged)
        life.on_pause = self._pause
        if pictures:
            self._logged.log.look = self._look_at
        self._rebuild = self._logged.of(self._plain.rebuild)
        if self._is_large():
            self._rebuild = LargeRebuild(self._plain, self._logged).rebuild
        life.use(
            self._plain._replace(
                rebuild=self._resume,
                rebuild_mids=None,
                report=self._report,
                set_runs=self._sets.set_runs,
            )
        )

    def _is_large(self) -> bool:
        """Return whether a rebuild is too long for a log of each store, and can do without."""
        policy = self.policy
        by_address = policy.rebuilds and not policy.by_old_mfn and policy.own is None
        if policy.is_linear or policy.is_two_level or not by_address:
            return False
        n = self.life.tables.words.shape[1]
        return bool(self.life.scalar("max_p2m_pfn") > MAX_LOGGED_LEAVES * n)

    def _resume(self, t: tb.P2MTables, h: tb.HostTables, x: int) -> int:
        """Do `Operations.rebuild` with the log on, the guest as it arrived kept."""
        if self._restored is None:
            self._restored = View.kept(t, h, self.policy, self._next_host)
            self._looks = [self._look(self._restored)] * 2
        return int(self._rebuild(t, h, np.int64(x)))

    def _pause(self) -> None:
        """Keep the guest as a live migration has paused it."""
        life = self.life
        self._paused = View.kept(life.tables, life.host, self.policy, self._host_number)

    def _report(self, t: tb.P2MTables, h: tb.HostTables) -> int:
        """Do `Operations.report`, the guest as its rebuild left it kept."""
        self._resumed = View.kept(t, h, self.policy, self._next_host)
        self._looks[1] = self._look(self._resumed)
        return int(self._plain.report(t, h))

    def view(self) -> View:
        """Return a view of the guest as it is now."""
        return View(self.life.tables, self.life.host, self.policy, self._host_number)

    def _begin(self) -> None:
        """Begin an event."""
        self.views = []
        self._paused = self._restored = self._resumed = None
        self._looks = [0, 0]
        self._grown, self._has_died = [], False
        self.race = RaceFacts()
        self._go_on()
        self._look(self._before)

    def _go_on(self) -> None:
        """Tell from here on: what was logged is forgotten, the guest as it is now is kept."""
        self._logged.log.begin()
        self._sets.begin()
        self._before = View.kept(self.life.tables, self.life.host, self.policy, self._host_number)

    def _look(self, view: View) -> int:
        """Take a picture, if they are asked for; return its number."""
        if self._wants_pictures:
            self.views.append(picture_of(view, _hit(view)))
        return max(0, len(self.views) - 1)

    def _look_at(self, t: tb.P2MTables) -> int:
        """Do `_look` amid a rebuild."""
        if len(self.views) >= MAX_PICTURES:
            return len(self.views) - 1
        t = t._replace(words=t.words.view(np.ndarray))
        return self._look(View(t, self.life.host, self.policy, self._host_number))

    def _note_hits(self) -> None:
        """Note which pages stray writes hit, for later events to ask about."""
        self._known.hit.update(dict.fromkeys(_hit(self.view()), self.num_events))

    def _end(self, steps: list[Step]) -> list[Step]:
        """Note what later events may ask about; return the steps, like ones told once."""
        self._note_hits()
        self.num_events += 1
        return folded(steps)

    def _arrived(self) -> None:
        """Note which frames the guest's structures have on the host that it lives on."""
        self._known.mfns.append((self._host_number, self.view().structure_mfns()))

    def booted(self, result: EventResult, event: dict[str, Any], num_grown: int = 0) -> list[Step]:
        """Return the steps of a boot that has just run, with all that it did up to a migration.

        `num_grown` leaves were populated behind it.
        """
        view = self.view()
        self.views = []
        self._look(view)
        if result.ok or not self._sets.grown:
            steps = tell_boot(view, result, event)
        else:
            steps = tell_boot(view, EventResult(), event)
        if num_grown and result.ok:
            steps.append(tell_layout(view, num_grown))
        steps += tell_set(view, view, self._sets, None, result, "boot")
        self._sets.begin()
        if result.ok:
            self._arrived()
        return self._end(steps)

    def noted(self, event: dict[str, Any]) -> list[Step]:
        """Tell an event that the kernel does not do: `fail_alloc`, `tweak`, `poke`."""
        self.num_events += 1
        if event["op"] == "tweak":
            self._tweak = event
            return [tell_tweak(self.view(), event)]
        return [tell_poke(self.view(), event["words"])] if event["op"] == "poke" else []

    def set_runs(self, runs: Int64Array) -> Told:
        """Let the guest do a set; return what came of it and its steps."""
        self._begin()
        result = self.life.set_runs(runs)
        return result, self._end(self._set_steps(runs, result))

    def _set_steps(self, runs: Int64Array, result: EventResult) -> list[Step]:
        """Return the steps of a set that has just run."""
        last = self._look(self.view())
        steps = tell_set(self._before, self.view(), self._sets, runs, result)
        return [dataclasses.replace(step, views=(0, last)) for step in steps]

    def set_on_cpus(self, sets: Sequence[Int64Array], key: int) -> Told:
        """Let several CPUs set entries at once; return what came of it and its steps."""
        self._begin()
        result, done = raced(self.life, sets, Schedule(key))
        return result, self._end(self._race_steps(sets, key, result, done))

    def _race_steps(
        self, sets: Sequence[Int64Array], key: int, result: EventResult, done: Raced
    ) -> list[Step]:
        """Return the steps of a race that has just run."""
        last = self._look(self.view())
        self.race = facts_of(done, result, self._before.shift)
        steps = tell_cpus(self._before, self.view(), sets, key, done, result)
        return [dataclasses.replace(step, views=(0, last)) for step in steps]

    def grew(self, runs: Int64Array, result: EventResult) -> None:
        """Tell a set that came before the save of the migration that is under way."""
        self._came_first(self._set_steps(runs, result), result)

    def raced(self, sets: Sequence[Int64Array], key: int, result: EventResult, done: Raced) -> None:
        """Tell what several CPUs set before the save of the migration that is under way."""
        self._came_first(self._race_steps(sets, key, result, done), result)

    def _came_first(self, steps: list[Step], result: EventResult) -> None:
        self._grown, self._has_died = steps, not result.ok
        self._note_hits()
        self._go_on()

    def migrate(self, run: Callable[[], EventResult], number: int, event: dict[str, Any]) -> Told:
        """Migrate by `run()` to the host of that number; return what came of it and its steps."""
        self._begin()
        self.num_migrations += 1
        self._next_host = number
        tweak, self._tweak = self._tweak, {}
        result = run()
        if self._has_died:
            return result, self._end(self._grown)
        return result, self._end(self._grown + self._moved(result, event, tweak))

    def _moved(
        self, result: EventResult, event: dict[str, Any], tweak: dict[str, Any]
    ) -> list[Step]:
        """Return the steps of a migration that has just run, from the save on."""
        restored = self._restored
        if restored is not None:
            self._host_number = self._next_host
        # A guest that got more first is drawn with it.
        begin = self._grown[-1].views[1] if self._grown else 0
        walk = self._walk(result, event, tweak)
        steps = self._save_steps(walk, result, event, tweak)
        steps = [dataclasses.replace(step, views=(begin, begin)) for step in steps]
        first, last = self._looks
        sent = self._paused or (self.view() if restored is None else self._before)
        given = tell_restore(sent, restored, result, walk)
        steps += [dataclasses.replace(step, views=(begin, first)) for step in given]
        if restored is None:
            return steps
        rebuild = Rebuild(restored, self._resumed or self.view(), self._known)
        if self._resumed is None:
            last = self._look(self.view())
        end = (result.outcome, result.detail)
        steps += rebuild.tell(self._logged.log, end, (first, last))
        reported = self._look(self.view())
        told = tell_report(self.view(), result)
        steps += [dataclasses.replace(step, views=(last, reported)) for step in told]
        if result.ok:
            self._arrived()
        return steps

    def _walk(self, result: EventResult, event: dict[str, Any], tweak: dict[str, Any]) -> TreeWalk:
        """Return the walk of the save that has just been, by which way it went."""
        before, tool = self._before, toolstacks.of_code(int(self.life.toolstack))
        walk = LegacyWalk if tool.code == tb.LEGACY else TreeWalk
        if not before.policy.is_linear:
            return walk(before, result, self._known, tool)
        says = shared_info(before, tweak)
        reads_table = tool.reads_table and event.get("toolstack") != toolstacks.TREE_ONLY
        if says["p2m_cr3_mfn"] != 0 and reads_table:
            return TableWalk(before, result, self._known, tool, tweak)
        return walk(before, result, self._known, tool, says)

    def _save_steps(
        self, walk: TreeWalk, result: EventResult, event: dict[str, Any], tweak: dict[str, Any]
    ) -> list[Step]:
        """Return the steps up to the restore: the walk, what a live guest did, the rest."""
        before, tool, steps = walk.view, walk.tool, walk.tell()
        if steps and steps[-1].held is False:
            return steps
        # Of a guest that has moved only copies are left as it was.
        now = self._paused or (self.view() if self._restored is None else before)
        if self.life.went_on:
            steps += tell_rounds(before, now, self._sets, self.life.rounds)
        if result.outcome in ("bug", "fault") and self._restored is None:
            return steps
        if result.detail == "p2m-generation-changed":
            return [*steps, tell_generation(now, before, tool)]
        if isinstance(walk, TableWalk):
            steps += walk.tell_tables(now)
        elif result.detail and result.detail.startswith("bad-mfn-in-page-table"):
            tables = TableWalk(before, result, self._known, tool, tweak)
            tables.leaves = walk.found_leaves()
            steps += tables.tell_tables(now)
        if result.outcome == "misdirected":
            steps += walk.tell_misdirected(now)
        return steps


def _hit(view: View) -> list[int]:
    """Return the pages that stray writes of the guest's last event hit."""
    slots = view.t.slots[: int(view.state.num_slots)]
    found: list[int] = slots[slots[:, tb.P_EVENT] == view.state.event, tb.P_PAGE].tolist()
    return found
