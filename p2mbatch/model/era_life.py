"""The life of a guest of an era on table hosts: what a save found is kept for the restore.

Some of its leaves share a page, which `life` knows nothing of (policies-spec P0).
"""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled import boot as kb
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.found import compare_leaves, find_leaves, restore_found
from p2mbatch.compiled.status import OK
from p2mbatch.model.life import EventResult, Life
from p2mbatch.model.policies import Policy

NO_RANGES = np.zeros((0, 2), np.int64)


class EraLife(Life):
    """A guest of an era on a table host."""

    def __init__(self, tables: tb.P2MTables, host: tb.HostTables, policy: Policy) -> None:
        super().__init__(tables, host, policy)
        self._found = np.zeros(len(tables.leaf_page), np.int32)

    def begin_event(self) -> None:
        """Start counting what a new event writes."""
        super().begin_event()
        self.tables.state[0].placeholder_writes = 0

    def boot_marking(self, ranges: Int64Array = NO_RANGES) -> EventResult:
        """Boot with every leaf resident; `ranges` (int64[k, 2]) are the 1:1 ranges to mark."""
        self.begin_event()
        kb.load_mfn_list(self.tables, self.host, 0, 1 << 62)
        kb.load_domain(self.tables, self.host)
        marked = (ranges,) if self.policy.marks else ()
        return self._result(self._does.boot(self.tables, self.host, *marked))

    def migrate(self, host: tb.HostTables, threads: int = 1) -> EventResult:
        """Save here, restore on `host`, resume (model section 7). Always on one thread."""
        self.begin_event()
        status = find_leaves(self.tables, self.host, self._work, self._found)
        if status == OK:
            status = compare_leaves(self.tables, self._found)
        return self._result(status) if status != OK else self._restored(host)

    def _restored(self, host: tb.HostTables) -> EventResult:
        own_only = self.scalar("only_own_sent") != 0
        status = restore_found(
            self.tables, self.host, host, self._found, self._work, own_only, own_only
        )
        if status == OK:
            self.host = host
            status = self._run(lambda x: self._does.rebuild(self.tables, self.host, x))
        if status == OK:
            status = self._does.report(self.tables, self.host)
        return self._result(status)
