"""The life of a guest of an era on table hosts: what a save found is kept for the restore.

Some of its leaves share a page, which `life` knows nothing of (policies-spec P0).
"""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled import boot as kb
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.found import restore_found
from p2mbatch.compiled.status import OK
from p2mbatch.model.life import Life, Rounds
from p2mbatch.model.outcomes import EventResult

NO_RANGES = np.zeros((0, 2), np.int64)


class EraLife(Life):
    """A guest of an era on a table host."""

    def boot_marking(self, ranges: Int64Array = NO_RANGES) -> EventResult:
        """Boot with every leaf resident; `ranges` (int64[k, 2]) are the 1:1 ranges to mark."""
        self.begin_event()
        kb.load_mfn_list(self.tables, self.host, 0, 1 << 62)
        kb.load_domain(self.tables, self.host)
        return self.result_of(self._does.boot(self.tables, self.host, ranges))

    def migrate(
        self,
        host: tb.HostTables,
        threads: int = 1,
        rounds: Rounds | None = None,
        *,
        tree: bool = False,
    ) -> EventResult:
        """Save here, restore on `host`, resume (model section 7). Always on one thread.

        A live migration has `rounds`. `tree` is a toolstack that knows no linear list.
        """
        self.begin_event()
        if rounds is not None:
            saved = self._saved_live(rounds, tree)
            return self._judged(host).living(saved) if saved.ok else saved
        self.went_on = self.came_through = False
        saved = self.look(tree)
        return self._judged(host) if saved.ok else saved

    def look(self, tree: bool = False) -> EventResult:
        """Do a save's walk and all its checks, with no effect on the guest."""
        result = self._find(tree)
        return self._look_again() if result.ok else result

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
        return self.result_of(status)

    def _sends(self) -> tuple[bool, bool]:
        """Return whether only own frames are sent, and whether each of them needs a frame."""
        own_only = self.scalar("only_own_sent") != 0
        return own_only, own_only
