"""The lives of the eras' guests on function hosts: what sweeps run.

What is not plain is left to the lives on table hosts, whose walks take any host.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.flat_walk import flat_walk
from p2mbatch.compiled.inspect import count_identity
from p2mbatch.compiled.status import BUG_PTEP, BUG_SET, NOT_PLAIN, OK
from p2mbatch.model.era_tables import may_share_anywhere
from p2mbatch.model.life import Life
from p2mbatch.model.linear_life import LinearLife
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.policies import Policy


class TreeEraLife(Life):
    """A guest of an era that keeps its p2m in a tree, or in static arrays."""

    def __init__(self, tables: tb.P2MTables, host: tb.HostTables, policy: Policy) -> None:
        super().__init__(tables, host, policy)
        self._may_share = policy.marks
        """Whether what it owns under a shared leaf is noted once there may be some."""
        if may_share_anywhere(policy):
            self._may_share = True
            self.host = host if len(host.owned) else _noting_shared(host)
        self.has_identity = False
        """Whether there may be words in leaves that say 1:1."""

    def _set(self, runs: Int64Array) -> EventResult:
        if self._may_share and len(self.host.owned) == 0 and self._hits_shared(runs):
            self.host = _noting_shared(self.host)
        bit = self.scalar("identity_bit")
        self.has_identity |= bool(((runs[:, 1] != -1) & (runs[:, 1] & bit != 0)).any())
        return super()._set(runs)

    def grow_leaves(self, leaves: Int64Array, *, lazy: bool) -> EventResult:
        """Populate whole leaves, as a `Life` does; the first past the p2m's end is a BUG."""
        end = self.scalar("max_p2m") >> self.scalar("entries_shift")
        beyond = np.flatnonzero(leaves >= end)
        if not len(beyond):
            return super().grow_leaves(leaves, lazy=lazy)
        result = super().grow_leaves(leaves[: beyond[0]], lazy=lazy)
        rounds = self.scalar("hint_rounds")
        return self.result_of(BUG_PTEP if rounds else BUG_SET) if result.ok else result

    def _hits_shared(self, runs: Int64Array) -> bool:
        """Return whether a run has PFNs under `p2m_identity`."""
        shift, identity = self.scalar("entries_shift"), self.scalar("identity")
        for first, _, count in runs.tolist():
            pages = self.tables.leaf_page[first >> shift : (first + count - 1 >> shift) + 1]
            if (pages == identity).any():
                return True
        return False

    def _moved(self, host: tb.HostTables, saved: EventResult, parallel: bool) -> EventResult:
        if self._may_share and len(self.host.owned) and not len(host.owned):
            host = _noting_shared(host)
        before = self._num_identity()
        result = super()._moved(host, saved, parallel)
        if result.ok:
            result.lost_identity_pages = before - self._num_identity()
            if self._may_share and len(host.owned):
                # What m2p names for PFNs that read as 1:1, before and after, was never populated.
                result.ghost_pages += int(np.count_nonzero(host.owned & tb.SHARED_OWN))
        return result

    def _num_identity(self) -> int:
        if not self.has_identity:
            return 0
        return int(count_identity(self.tables, self.scalar("max_p2m_pfn")))


class FlatLife(TreeEraLife):
    """A guest of an era with a linear p2m."""

    def _set(self, runs: Int64Array) -> EventResult:
        # A leaf that grows may leave its neighbours 1:1.
        self.has_identity = True
        return super()._set(runs)

    def _walks(self) -> tuple[Callable[..., int], Callable[..., int]]:
        return flat_walk, flat_walk

    def _walked(self, parallel: bool) -> EventResult:
        start = time.perf_counter_ns()
        status = flat_walk(self.tables, self.host, self._work)
        result = self._step_by_step() if status == NOT_PLAIN else self.result_of(status)
        result.save_walk_ns = time.perf_counter_ns() - start
        return result

    def _step_by_step(self) -> EventResult:
        """Walk and look at the page tables one entry after another."""
        return LinearLife(self.tables, self.host, self.policy).look(self.toolstack != tb.TRIMS)

    def _find(self, tree: bool = False) -> EventResult:
        self._walker = LinearLife(self.tables, self.host, self.policy)
        return self._walker._find(tree or self.toolstack != tb.TRIMS)

    def _look_between(self) -> EventResult:
        self._walker.tables = self.tables
        return self._walker._look_between()

    def _look_again(self) -> EventResult:
        # It grew, and its tables were replaced, while the walk's leaves stayed what they are.
        self._walker.tables = self.tables
        return self._walker._look_again()

    def _restore_on(self, host: tb.HostTables, parallel: bool) -> int:
        # The toolstack writes the start info's flags as 0.
        kept = self.scalar("no_list")
        self.tables.state[0].no_list = 0
        status = super()._restore_on(host, parallel)
        if status != OK:
            self.tables.state[0].no_list = kept
        return status


def _noting_shared(host: tb.HostTables) -> tb.HostTables:
    """Return the host with a byte for each page of the span."""
    return host._replace(owned=np.zeros(int(host.par[0].span), np.uint8))
