"""One guest's life, event by event: calls the kernels and turns their codes into outcomes.

Replays, sweep cells and the library's `Guest` all run on `Life`, so an event means the same thing
wherever it comes from.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from p2mbatch import kernels as kn
from p2mbatch import kernels_build as kb
from p2mbatch import kernels_rebuild as kr
from p2mbatch import kernels_save as ks
from p2mbatch import kernels_set as kset
from p2mbatch import tables as tb
from p2mbatch.tables import Int64Array

_BUGS = {
    kn.BUG_BRK_OVERFLOW: "brk overflow",
    kn.BUG_BRK_CLOSED: "_brk_start == 0",
    kn.BUG_SET: "mfn != INVALID_P2M_ENTRY",
    kn.BUG_TOP_MFN: "virt_to_mfn(mid_mfn) != *top_mfn_p",
    kn.BUG_MIDIDX: "mididx",
    kn.BUG_MID_MFN_P: "mid_mfn_p != p2m_mid_missing_mfn",
}
_FAULTS = {
    kn.FAULT_TOP: "p2m_top entry",
    kn.FAULT_MID: "p2m_mid entry",
    kn.FAULT_STORE: "mid_mfn store",
}
_SAVE_FAILURES = {
    ks.SAVE_MAX_PFN: "max_pfn-too-large",
    ks.SAVE_BAD_FLL_MFN: "bad-fll-mfn",
    ks.SAVE_MAP_FLL: "map-fll-failed",
    ks.SAVE_BAD_MFN_FLL: "bad-mfn-in-fll",
    ks.SAVE_MAP_FL: "map-fl-failed",
    ks.SAVE_BAD_MFN_FL: "bad-mfn-in-fl",
    ks.SAVE_MAP_LEAVES: "map-leaves-failed",
    ks.SAVE_BAD_MFN_LIST: "bad-mfn-in-p2m-frame-list",
}


@dataclass(slots=True)
class EventResult:
    """What an event came to (model section 7), and how long the kernels took."""

    outcome: str = "ok"
    """`ok`, `bug`, `fault`, `save-failed` or `misdirected`: all but `ok` lose the guest."""
    detail: str | None = None
    """The BUG's expression, what was reached, or the failed check; None when ok."""
    ok: bool = True
    """Of a set: False where `set_phys_to_machine` returned false."""
    entries_set: int = 0
    """Of a set: how many entries succeeded."""
    stray_writes: int = 0
    """Stores of this event through a mid_mfn page that is not the true one (model section 6)."""
    stray_pages: int = 0
    """Distinct pages that they hit."""
    rebuild_ns: int = 0
    save_walk_ns: int = 0
    restore_ns: int = 0


class Life:
    """A guest on its present host; `tables` and `host` are replaced as it grows and moves."""

    def __init__(self, tables: tb.P2MTables, host: tb.HostTables) -> None:
        self.tables = tables
        self.host = host
        self._work = np.empty(tables.words.shape[1], np.int64)

    def scalar(self, index: int) -> int:
        """Return one word of the state, by its `S_` index."""
        return int(self.tables.state[index])

    def begin_event(self) -> None:
        """Start counting what a new event writes."""
        state = self.tables.state
        state[tb.S_EVENT] += 1
        state[tb.S_STRAY_WRITES : tb.S_ENTRIES_WRITTEN + 1] = 0

    def boot(self, first_leaf: int = 0, end_leaf: int = 1 << 62) -> EventResult:
        """Boot with leaves `first_leaf` <= x < `end_leaf` resident (all, where nothing is said)."""
        self.begin_event()
        kb.load_mfn_list(self.tables, self.host, first_leaf, end_leaf)
        if self.host.par[tb.H_KIND] == tb.TABLE_HOST:
            kb.load_domain(self.tables, self.host)
        start = time.perf_counter_ns()
        result = self._result(kb.boot(self.tables, self.host))
        result.rebuild_ns = time.perf_counter_ns() - start
        return result

    def fail_alloc(self, at: int) -> None:
        """Make the `at`-th next page allocation, from 0, return NULL."""
        self.tables.state[tb.S_FAIL_AT] = at
        self.tables.state[tb.S_ALLOCS] = 0

    def set_runs(self, runs: Int64Array) -> EventResult:
        """Apply set_phys_to_machine over `runs`, int64[k, 3] of [pfn, mfn or INVALID, count]."""
        self.begin_event()
        status = self._run(lambda done: kset.set_runs(self.tables, self.host, runs, done))
        result = self._result(status)
        result.entries_set = self.scalar(tb.S_POSITION)
        return result

    def grow_leaves(self, leaves: Int64Array, *, lazy: bool) -> EventResult:
        """Populate the whole leaves `leaves` (int64[k]) on a function host; made if not `lazy`."""
        self.begin_event()
        return self._result(
            self._run(lambda k: kset.grow_leaves(self.tables, self.host, leaves, lazy, k))
        )

    def save(self) -> EventResult:
        """Walk the list as the toolstack does on save, with no effect on the guest."""
        start = time.perf_counter_ns()
        result = self._result(ks.save_walk(self.tables, self.host, self._work))
        result.save_walk_ns = time.perf_counter_ns() - start
        return result

    def migrate(self, host: tb.HostTables) -> EventResult:
        """Save here, restore on `host`, resume (model section 7)."""
        self.begin_event()
        saved = self.save()
        if saved.outcome != "ok":
            return saved
        start = time.perf_counter_ns()
        whole = self.scalar(tb.S_SAVED_MAX_PFN) == self.scalar(tb.S_XEN_MAX) - 1
        if host.par[tb.H_KIND] == tb.FUNCTION_HOST and not whole:
            self._run(lambda x: ks.settle_unsaved(self.tables, self.host, x))
        self.host = host
        ks.restore(self.tables, host, self._work)
        resumed = time.perf_counter_ns()
        status = kn.OK
        if self.scalar(tb.S_POLICY) != tb.NONE:
            status = self._run(lambda x: kr.rebuild(self.tables, self.host, x))
        done = time.perf_counter_ns()
        if status == kn.OK:
            status = kb.set_shared_info(self.tables, self.host)
        result = self._result(status)
        result.save_walk_ns = saved.save_walk_ns
        result.restore_ns = resumed - start
        result.rebuild_ns = done - resumed
        return result

    def count_stale(self) -> tuple[int, int]:
        """Return how many entries of the frame list list and of the frame list are not true."""
        counts = np.zeros(2, np.int64)
        ks.count_stale(self.tables, self.host, counts, self._work)
        return int(counts[0]), int(counts[1])

    def _run(self, call: Callable[[int], int]) -> int:
        """Call a kernel from position 0 on, giving it more room as often as it asks."""
        status = call(0)
        while status == kn.MORE_ROOM:
            extra = max(64, len(self.tables.words) // 8)
            self.tables = tb.grown(self.tables, extra, extra)
            status = call(self.scalar(tb.S_POSITION))
        return status

    def _result(self, status: int) -> EventResult:
        """Return what a kernel's status code means, with the event's stray writes."""
        result = self._meaning(status)
        result.stray_writes = self.scalar(tb.S_STRAY_WRITES)
        result.stray_pages = self.scalar(tb.S_STRAY_PAGES)
        return result

    def _meaning(self, status: int) -> EventResult:
        if status == kn.OK:
            return EventResult()
        if status == kn.NO_MEMORY:
            return EventResult(ok=False)
        if status in _BUGS:
            return EventResult("bug", _BUGS[status])
        if status in _FAULTS:
            return EventResult("fault", _FAULTS[status])
        if status == ks.MISDIRECTED:
            return EventResult("misdirected", "-")
        number = self.scalar(tb.S_DETAIL) % (1 << self.scalar(tb.S_WORD_BITS))
        return EventResult("save-failed", f"{_SAVE_FAILURES[status]} {number}")
