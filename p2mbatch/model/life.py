"""One guest's life, event by event: calls the kernels and turns their codes into outcomes.

Replays, sweep cells and the library's `Guest` all run on `Life`, so an event means the same thing
wherever it comes from.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled import boot as kb
from p2mbatch.compiled import save as ks
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.found import compare_leaves, listed_leaves, map_leaves
from p2mbatch.compiled.inspect import count_stale
from p2mbatch.compiled.jit import make_ready, threads_at_most
from p2mbatch.compiled.judge import Judge, judge_kernels
from p2mbatch.compiled.owners import note_presence
from p2mbatch.compiled.pages import poke_words, reached_pages
from p2mbatch.compiled.policies.operations import Operations, rebuild_parallel
from p2mbatch.compiled.restore import (
    missing_is_blank,
    move,
    restore,
    restore_left,
    restore_parallel,
    restore_slots,
    settle,
    settle_sent,
    shared_are_blank,
)
from p2mbatch.compiled.status import MORE_ROOM, NO_MEMORY, OK
from p2mbatch.model.outcomes import EventResult, meaning_of
from p2mbatch.model.owned import held_child
from p2mbatch.model.policies import Policy

_READY: set[tuple[object, ...]] = set()
"""Which policy's kernels, for which types of hosts, on one thread or on many, are loaded."""

Rounds = Sequence[Int64Array]
"""What a guest does while a live migration copies it: a set's runs (int64[k, 3]) for each round."""


class Round(NamedTuple):
    """What a guest did in one round of a live migration, and what came of it."""

    runs: Int64Array
    result: EventResult


def _at_most(threads: int) -> contextlib.AbstractContextManager[None]:
    """Let kernels use so many threads inside; one needs no setting, and setting it takes time."""
    return threads_at_most(threads) if threads > 1 else contextlib.nullcontext()


class Life:
    """A guest on its present host; `tables` and `host` are replaced as it grows and moves."""

    def __init__(self, tables: tb.P2MTables, host: tb.HostTables, policy: Policy) -> None:
        self.tables = tables
        self.host = host
        self.policy = policy
        self._does = policy.operations
        self.marked = np.zeros((0, 2), np.int64)
        """What the policy's boot takes beside the tables: 1:1 ranges; of a linear p2m runs."""
        self.absent = np.zeros(0, np.int64)
        """PFNs below `nr_pages` that boot without a frame, whatever the host would give them."""
        self._work = np.empty(tables.words.shape[1], np.int64)
        self._ready: tb.HostTables | None = None
        self._judge = Judge(tables.words.shape[1])
        self._found = np.zeros(0, np.int32)
        self.went_on = False
        """Whether the guest went on living in the last migration, behind the save's walk."""
        self.came_through = False
        """Whether it did so without a BUG or a fault."""
        self.rounds: list[Round] = []
        """What the guest did in each round that the last migration came to."""
        self.on_pause: Callable[[], None] | None = None
        """Is called when a live migration pauses the guest, before what is then looked at."""
        self._held = held_child(tables, policy.own)

    @property
    def toolstack(self) -> int:
        """Return which toolstack saves it next (`tables`)."""
        return self.scalar("toolstack")

    @toolstack.setter
    def toolstack(self, code: int) -> None:
        self.tables.state[0].toolstack = code

    def use(self, operations: Operations) -> None:
        """Run these functions from now on in place of the policy's: the same, watched."""
        self._does = operations

    def scalar(self, name: str) -> int:
        """Return one field of the guest's `State`."""
        return int(self.tables.state[name][0])

    def begin_event(self) -> None:
        """Start counting what a new event writes."""
        scalars = self.tables.state
        scalars["event"] += 1
        scalars["stray_writes"] = scalars["stray_pages"] = scalars["entries_written"] = 0
        scalars["placeholder_writes"] = 0

    def boot(self, first_leaf: int = 0, end_leaf: int = 1 << 62) -> EventResult:
        """Boot with leaves `first_leaf` <= x < `end_leaf` resident (all, where nothing is said)."""
        self.begin_event()
        self._make_ready(self.host)
        kb.load_mfn_list(self.tables, self.host, first_leaf, end_leaf)
        self._leave_out(self.absent)
        if self.host.par[0].kind == tb.TABLE_HOST:
            kb.load_domain(self.tables, self.host)
        start = time.perf_counter_ns()
        result = self.result_of(self._does.boot(self.tables, self.host, self.marked))
        result.rebuild_ns = time.perf_counter_ns() - start
        return result

    def _leave_out(self, pfns: Int64Array) -> None:
        """Take the frames of `pfns` (int64[k]) out of `mfn_list`, whose leaves are resident."""
        t, shift = self.tables, self.scalar("entries_shift")
        slots, at = t.leaf_slot[pfns >> shift], pfns & (1 << shift) - 1
        t.words[slots, at] = INVALID
        bits = np.uint64(1) << (at & 63).astype(np.uint64)
        np.bitwise_and.at(t.own, (slots, at >> 6), ~bits)
        t.slots[slots, tb.P_CLEAN] = 0

    def fail_alloc(self, at: int) -> None:
        """Make the `at`-th next page allocation, from 0, return NULL."""
        self.tables.state[0].fail_at = at
        self.tables.state[0].allocs = 0

    def set_runs(self, runs: Int64Array) -> EventResult:
        """Apply set_phys_to_machine over `runs`, int64[k, 3] of [pfn, mfn or INVALID, count]."""
        self.begin_event()
        return self._set(runs)

    def _set(self, runs: Int64Array) -> EventResult:
        """Do `set_runs` as a part of an event."""
        self.keep_presence(runs)
        status = self._run(lambda done: self._does.set_runs(self.tables, self.host, runs, done))
        result = self.result_of(status)
        result.entries_set = self.scalar("position")
        result.placeholder_writes = self.scalar("placeholder_writes")
        return result

    def poke(self, words: Int64Array) -> EventResult:
        """Write `words`, int64[k, 3] of [page, index, word], into the guest's pages.

        The pages lie in the direct map. Raises `InputError` for pages of pointers that the kernels
        take for whole: all of an era's, page tables too, and `p2m_top_mfn_p`; and for a word that
        no entry of a leaf can be.
        """
        num_slots = self.scalar("num_slots")
        slots = self.tables.slots[:num_slots]
        self._check_poke(words, slots)
        reached = np.empty(len(words), np.int64)
        reached_pages(self.tables, np.ascontiguousarray(words[:, 2]), reached)
        pages = np.union1d(words[:, 0], reached[reached >= 0])
        more = int(np.count_nonzero(~np.isin(pages, slots[:, tb.P_PAGE])))
        if num_slots + more > len(self.tables.words):
            self.tables = tb.grown(self.tables, more, 0)
        if self.scalar("num_blocks") + more > len(self.tables.block_code):
            self.tables = tb.grown(self.tables, 0, more)
        poke_words(self.tables, self.host, pages, words)
        self.begin_event()
        return EventResult()

    def _check_poke(self, words: Int64Array, slots: Int64Array) -> None:
        """Raise `InputError` for words that the kernels would not see as they are."""
        pages, kinds = slots[:, tb.P_PAGE], slots[:, tb.P_KIND]
        fixed = pages == self.scalar("top_mfn_p")
        if self.policy.is_era:
            fixed = np.isin(kinds, (tb.POINTER, tb.TABLE))
        if hit := np.intersect1d(words[:, 0], pages[fixed]).tolist():
            what = "holds pointers or page table entries" if self.policy.is_era else "is top_mfn_p"
            raise InputError(
                f"poke: page {hit[0]} {what}: under policy {self.policy.short} that is not modelled"
            )
        large = (words[:, 2] < INVALID) & np.isin(words[:, 0], pages[kinds == tb.LEAF])
        if large.any() and not self.policy.is_era:
            page, index, word = words[large][0].tolist()
            raise InputError(
                f"poke: page {page} is a leaf, and its entry {index} can't be {word % (1 << 64):#x}"
                f": under policy {self.policy.short} entries are below 2^63, or null"
            )

    def grow_leaves(self, leaves: Int64Array, *, lazy: bool) -> EventResult:
        """Populate the whole leaves `leaves` (int64[k]) on a function host; made if not `lazy`."""
        self.begin_event()
        return self.result_of(
            self._run(lambda k: self._does.grow_leaves(self.tables, self.host, leaves, lazy, k))
        )

    def save(self, threads: int = 1) -> EventResult:
        """Walk the list as the toolstack does on save, with no effect on the guest."""
        self._make_ready(self.host, threads)
        with _at_most(threads):
            return self._walked(threads > 1)

    def _walks(self) -> tuple[Callable[..., int], Callable[..., int]]:
        """Return how the toolstack walks the list, on one thread and on many."""
        return ks.save_walk, ks.save_walk_parallel

    def _walked(self, parallel: bool) -> EventResult:
        walk = self._walks()[parallel]
        start = time.perf_counter_ns()
        status = walk(self.tables, self.host, self._work)
        save_walk_ns = time.perf_counter_ns() - start
        result = self.result_of(status)
        result.save_walk_ns = save_walk_ns
        return result

    def migrate(
        self, host: tb.HostTables, threads: int = 1, rounds: Rounds | None = None
    ) -> EventResult:
        """Save here, restore on `host`, resume (model section 7), on so many threads.

        A live migration has `rounds`; its save is on one thread.
        """
        self.begin_event()
        self._make_ready(host, threads)
        if rounds is not None:
            self._make_live_ready()
            saved = self._saved_live(rounds)
            with _at_most(threads):
                return self._moved(host, saved, threads > 1).living(saved) if saved.ok else saved
        self.went_on = self.came_through = False
        with _at_most(threads):
            saved = self._walked(threads > 1)
            return self._moved(host, saved, threads > 1) if saved.ok else saved

    def _saved_live(self, rounds: Rounds, tree: bool = False) -> EventResult:
        """Save a guest that goes on living behind the walk; what it set is in the result.

        `tree` is a toolstack that knows no linear list.
        """
        self.went_on = self.came_through = False
        self.rounds = []
        start = time.perf_counter_ns()
        result = self._find(tree)
        took = time.perf_counter_ns() - start
        if result.ok:
            went = self._go_on(rounds)
            if went.ok and self.on_pause is not None:
                self.on_pause()
            start = time.perf_counter_ns()
            result = self._look_again().living(went) if went.ok else went
            took += time.perf_counter_ns() - start
        result.save_walk_ns = took
        return result

    def _find(self, tree: bool = False) -> EventResult:
        """Walk the mfn list list; keep what leaves were found."""
        max_pfn = int(ks.frame_lists_of(self.tables, self.host, self._work))
        if max_pfn < 0:
            return self.result_of(-max_pfn)
        mfns = np.empty((max_pfn >> self.scalar("entries_shift")) + 1, np.int64)
        status = listed_leaves(self.tables, self.host, self._work, mfns)
        return self._mapped(mfns, max_pfn) if status == OK else self.result_of(status)

    def _mapped(self, mfns: Int64Array, max_pfn: int) -> EventResult:
        """Do the checks that every walk ends in, on the leaves' MFNs."""
        self._found = np.empty(len(mfns), np.int32)
        return self.result_of(map_leaves(self.tables, self.host, mfns, self._found, max_pfn))

    def _go_on(self, rounds: Rounds) -> EventResult:
        """Let the guest live on the source, a set for each round of copying, of this same event.

        A set that gets no memory ends its round; a BUG, a fault or an abort ends the migration.
        """
        self.went_on = True
        result, entries_set, returned = EventResult(), 0, True
        for runs in rounds:
            result = self._set(runs)
            self.rounds.append(Round(runs, result))
            entries_set += result.entries_set
            returned = returned and result.set_returned
            if not result.ok:
                break
            result = self._look_between()
            if not result.ok:
                break
        self.came_through = all(done.result.ok for done in self.rounds)
        went = self.result_of(OK) if result.ok else result
        went.entries_set, went.set_returned = entries_set, returned
        went.placeholder_writes = self.scalar("placeholder_writes")
        return went

    def _look_between(self) -> EventResult:
        """Do what the toolstack checks after a round: one that walked a tree looks at nothing."""
        return EventResult()

    def _look_again(self) -> EventResult:
        """Do what is left to check once the guest is paused."""
        return self.result_of(compare_leaves(self.tables, self._found))

    def _moved(self, host: tb.HostTables, saved: EventResult, parallel: bool) -> EventResult:
        self._judge.look(self.tables, self.host, self._does.get)
        start = time.perf_counter_ns()
        status = self._restore_on(host, parallel)
        if status != OK:
            return self.result_of(status)
        self.host = host
        resumed = time.perf_counter_ns()
        status = self._run(
            lambda x: (
                rebuild_parallel(self._does, self.tables, self.host)
                if parallel and not x
                else self._does.rebuild(self.tables, self.host, x)
            )
        )
        done = time.perf_counter_ns()
        if status == OK:
            status = self._does.report(self.tables, self.host)
        result = self.result_of(status)
        if status == OK:
            result.lost_pages, result.ghost_pages = self._judge.losses(
                self.tables, self.host, self._does.get
            )
        result.save_walk_ns = saved.save_walk_ns
        result.restore_ns = resumed - start
        result.rebuild_ns = done - resumed
        return result

    def _restore_on(self, host: tb.HostTables, parallel: bool) -> int:
        """Restore the guest on `host`; return OK, or a RESTORE_ code with nothing changed."""
        if host.par[0].kind == tb.TABLE_HOST:
            if self.tables.state[0].only_own_sent:
                status = settle_sent(self.tables, self.host, host)
                if status != OK:
                    return status
            return restore(self.tables, host, self._work)
        if len(self.tables.present):
            # After a restore present is what got a frame, and that a function host knows.
            kept = self.tables
            self.tables = kept._replace(present=np.zeros(0, np.uint8))
            status = self._restore_on(host, parallel)
            if status != OK:
                self.tables = kept
            return status
        if parallel:
            status = self._run(lambda x: settle(self.tables, self.host, host, self._work, x))
            return status if status != OK else restore_parallel(self.tables, host, self._work)
        return self._run(lambda x: move(self.tables, self.host, host, self._work, x))

    def keep_presence(self, runs: Int64Array) -> None:
        """From a set on after which presence is not what the layout and `own` say, keep it apart.

        That is one of entries that are no frames of the host's, and any after stray writes: what
        they hit is present, or absent, whoever owns the frame.
        """
        t, par = self.tables, self.host.par[0]
        kept = t.state[0].presence == 0 or par.kind != tb.FUNCTION_HOST or len(t.present)
        if kept:
            return
        slots = t.slots[: self.scalar("num_slots")]
        written = (slots[:, tb.P_LEAF] >= 0) & (slots[:, tb.P_CLEAN] == 0)
        if not (
            (runs[:, 1] + runs[:, 2] > par.frames).any() or written.any() or not missing_is_blank(t)
        ):
            return
        present = np.zeros(self.scalar("directmap"), np.uint8)
        note_presence(t, self.host, present)
        self.tables = t._replace(present=present)

    def count_stale(self) -> tuple[int, int]:
        """Return how many entries of the frame list list and of the frame list are not true."""
        counts = np.zeros(2, np.int64)
        count_stale(self.tables, self.host, counts, self._work)
        return int(counts[0]), int(counts[1])

    def _make_live_ready(self) -> None:
        """Load what a live save calls beside `_make_ready`'s."""
        if self._does is not self.policy.operations:
            return
        t, h, none = self.tables, self.host, np.zeros(0, np.int64)
        make_ready(ks.frame_lists_of, t, h, self._work)
        make_ready(listed_leaves, t, h, self._work, none)
        make_ready(map_leaves, t, h, none, self._found, 0)
        make_ready(self._does.set_runs, t, h, np.zeros((0, 3), np.int64), 0)
        make_ready(compare_leaves, t, self._found)

    def _make_ready(self, host: tb.HostTables, threads: int = 1) -> None:
        """Load what is about to be timed, or compile it: no time is to hold that."""
        watched = self._does is not self.policy.operations
        if watched or (self._ready is host and threads == 1):
            return
        self._ready = host
        t, none = self.tables, np.zeros(0, np.int64)
        # Runs of hosts may be views, and another layout in memory is another type.
        kind = int(host.par["kind"][0])
        key = (self._does, threads > 1, kind, *(array.flags.num for array in host))
        if key in _READY:
            return
        make_ready(self._does.boot, t, host, self.marked)
        make_ready(self._walks()[0], t, host, self._work)
        if kind == tb.FUNCTION_HOST:
            make_ready(move, t, self.host, host, self._work, 0)
        else:
            make_ready(settle_sent, t, self.host, host)
            make_ready(restore, t, host, self._work)
        make_ready(self._does.rebuild, t, host, 0)
        make_ready(self._does.report, t, host)
        for judging, *arguments in judge_kernels(t, host, self._does.get):
            make_ready(judging, *arguments)
        if threads > 1:
            left = np.zeros(0, np.uint8)
            make_ready(ks.frame_lists_of, t, host, self._work)
            make_ready(ks.walk_mids, t, host, none, 0, 0)
            make_ready(settle, t, self.host, host, self._work, 0)
            make_ready(restore, t, host, self._work)
            make_ready(shared_are_blank, t)
            make_ready(restore_slots, t, host, 0, left)
            make_ready(restore_left, t, host, 0, left)
            make_ready(self._does.rebuild_mids, t, 0, none, none)
        _READY.add(key)

    def _run(self, call: Callable[[int], int]) -> int:
        """Call a kernel from position 0 on, giving it more room as often as it asks."""
        status = call(0)
        while status == MORE_ROOM:
            extra = max(64, len(self.tables.words) // 8)
            self.tables = tb.grown(self.tables, extra, extra)
            status = call(self.scalar("position"))
        return status

    def result_of(self, status: int) -> EventResult:
        """Return what a kernel's status code means, with the event's stray writes."""
        result = self._meaning(status)
        result.stray_writes = self.scalar("stray_writes")
        result.stray_pages = self.scalar("stray_pages")
        own = self.policy.own
        if own is not None:
            result.where = own.where(status, self.tables.statics, result.stray_writes)
        return result

    def _meaning(self, status: int) -> EventResult:
        if status == NO_MEMORY:
            return EventResult(set_returned=False)
        number = self.scalar("detail") % (1 << self.scalar("word_bits"))
        return EventResult(*meaning_of(status, number, self.policy, self.tables.statics))
