"""The life of a guest of an era on table hosts: what a save found is kept for the restore.

Some of its leaves share a page, which `life` knows nothing of (policies-spec P0).
"""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled import boot as kb
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.found import compare_leaves, listed_leaves, map_leaves, restore_found
from p2mbatch.compiled.save import frame_lists_of
from p2mbatch.compiled.status import OK
from p2mbatch.model.life import EventResult, Life
from p2mbatch.model.policies import Policy

NO_RANGES = np.zeros((0, 2), np.int64)


class EraLife(Life):
    """A guest of an era on a table host."""

    def __init__(self, tables: tb.P2MTables, host: tb.HostTables, policy: Policy) -> None:
        super().__init__(tables, host, policy)
        self._found = np.zeros(0, np.int32)
        self.went_on = False
        """Whether the guest went on living in the last migration, behind the save's walk."""
        self.came_through = False
        """Whether it did so without a BUG or a fault."""

    def boot_marking(self, ranges: Int64Array = NO_RANGES) -> EventResult:
        """Boot with every leaf resident; `ranges` (int64[k, 2]) are the 1:1 ranges to mark."""
        self.begin_event()
        kb.load_mfn_list(self.tables, self.host, 0, 1 << 62)
        kb.load_domain(self.tables, self.host)
        return self._result(self._does.boot(self.tables, self.host, ranges))

    def migrate(
        self,
        host: tb.HostTables,
        threads: int = 1,
        *,
        tree: bool = False,
        during: Int64Array | None = None,
    ) -> EventResult:
        """Save here, restore on `host`, resume (model section 7). Always on one thread.

        `tree` is a toolstack that knows no linear list. A live migration has `during`, the runs of
        a `set` that the guest does once the walk is done; what that sets is in the result.
        """
        self.begin_event()
        self.went_on = self.came_through = False
        result = self._find(tree)
        if result.ok and during is not None:
            self.went_on = True
            result = self._live(during)
        went = result
        if result.ok:
            result = self._look_again()
        if result.ok:
            result = self._judged(host)
        result.set_returned, result.entries_set = went.set_returned, went.entries_set
        result.placeholder_writes = went.placeholder_writes
        return result

    def _find(self, tree: bool) -> EventResult:
        """Walk the mfn list list; keep what leaves were found."""
        max_pfn = int(frame_lists_of(self.tables, self.host, self._work))
        if max_pfn < 0:
            return self._result(-max_pfn)
        mfns = np.empty((max_pfn >> self.scalar("entries_shift")) + 1, np.int64)
        status = listed_leaves(self.tables, self.host, self._work, mfns)
        return self._mapped(mfns, max_pfn) if status == OK else self._result(status)

    def _mapped(self, mfns: Int64Array, max_pfn: int) -> EventResult:
        """Do the checks that every walk ends in, on the leaves' MFNs."""
        self._found = np.empty(len(mfns), np.int32)
        return self._result(map_leaves(self.tables, self.host, mfns, self._found, max_pfn))

    def _live(self, during: Int64Array) -> EventResult:
        """Let the guest do `during` on the source, as a set of this same event."""
        status = self._run(lambda done: self._does.set_runs(self.tables, self.host, during, done))
        result = self._result(status)
        result.entries_set = self.scalar("position")
        self.came_through = result.ok
        result.placeholder_writes = self.scalar("placeholder_writes")
        return result

    def _look_again(self) -> EventResult:
        """Do what is left to check once the guest is paused."""
        return self._result(compare_leaves(self.tables, self._found))

    def _judged(self, host: tb.HostTables) -> EventResult:
        """Restore on `host` and resume, with what that lost where the machine is as it is now."""
        if self.scalar("only_own_sent") == 0:
            return self._restored(host)
        get = self._does.get
        self._judge.look(self.tables, self.host, get)
        identity = self._identity_pfns()
        result = self._restored(host)
        if result.ok:
            result.lost_pages, result.ghost_pages = self._judge.losses(self.tables, self.host, get)
            now = np.empty(len(identity), np.int64)
            get(self.tables, self.host, identity, now)
            lost = now != identity | self.scalar("identity_bit")
            result.lost_identity_pages = int(np.count_nonzero(lost))
        return result

    def _identity_pfns(self) -> Int64Array:
        """Return the PFNs whose word, in a leaf of their own, is their identity value."""
        bit, t = self.scalar("identity_bit"), self.tables
        if bit == 0:
            return np.zeros(0, np.int64)
        n = t.words.shape[1]
        shared = (t.leaf_page == self.scalar("missing")) | (t.leaf_page == self.scalar("identity"))
        own = np.flatnonzero(~shared)
        pfns = own[:, np.newaxis] * n + np.arange(n)
        pfns = pfns[t.words[t.leaf_slot[own]] == pfns | bit]
        below: Int64Array = pfns[pfns < self.scalar("max_p2m_pfn")]
        return below

    def _restored(self, host: tb.HostTables) -> EventResult:
        own_only, all_named = self._sends()
        status = restore_found(
            self.tables, self.host, host, self._found, self._work, own_only, all_named
        )
        if status == OK:
            self.host = host
            status = self._run(lambda x: self._does.rebuild(self.tables, self.host, x))
        if status == OK:
            status = self._does.report(self.tables, self.host)
        return self._result(status)

    def _sends(self) -> tuple[bool, bool]:
        """Return whether only own frames are sent, and whether each of them needs a frame."""
        own_only = self.scalar("only_own_sent") != 0
        return own_only, own_only
