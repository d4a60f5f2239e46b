"""The rebuild of a large guest with the log on: compiled mid by mid where nothing can surprise.

A mid is quiet where its tree and its list agree and its list page can be reached: then what is
stored is read off the pages, before and after. The others run as everywhere, store by store.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from p2mbatch.compiled import lookup, pages
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.interpreted import Interpreter
from p2mbatch.compiled.policies.operations import Operations
from p2mbatch.compiled.status import OK
from p2mbatch.model.explain.log import Began, Logged, Store

MAX_LOGGED_LEAVES = 1 << 13
"""Leaves of a list whose rebuild is logged store by store."""


class LargeRebuild:
    """A policy's `rebuild` with the log on, for a tree whose list's pages are addresses."""

    def __init__(self, plain: Operations, logged: Logged) -> None:
        self._plain, self._logged = plain, logged
        self._twin = logged.of(plain.rebuild)
        self._bare = Interpreter({})

    def rebuild(self, t: tb.P2MTables, h: tb.HostTables, x: int) -> int:
        """Do `Operations.rebuild`."""
        state: Any = t.state[0]
        x = int(x)
        shift, whole = int(state.entries_shift), int(state.xen_max)
        end = -(-whole >> shift)
        status, told = OK, set()
        try:
            while x < end and status == OK:
                stop = min((x | ((1 << shift) - 1)) + 1, end)
                # What the loop takes for its end.
                state.xen_max = min(stop << shift, whole)
                kind = self._kind(t, h, x >> shift)
                if kind in told and x:
                    status = self._observed(t, h, x, stop)
                else:
                    status = int(self._twin(t, h, np.int64(x)))
                told |= {kind} - {""}
                x = stop
        finally:
            state.xen_max = whole
        return status

    def _kind(self, t: tb.P2MTables, h: tb.HostTables, top: int) -> str:
        """Return what a quiet mid is; "" where it is not quiet."""
        state: Any = t.state[0]
        mid = self._call(pages.page_at, t, self._word(t, int(state.top), top))
        page = int(t.true_mid_mfn[top])
        if state.wild or (mid == state.mid_missing) != (page == state.mid_missing_mfn):
            return ""
        if mid == state.mid_missing:
            return "missing"
        where = self._word(t, int(state.top_mfn_p), top)
        return "mid" if self._call(lookup.store_page, t, h, where) == page else ""

    def _word(self, t: tb.P2MTables, page: int, i: int) -> Any:
        return t.words[self._call(pages.page_code, t, page), i]

    def _call(self, kernel: Any, t: tb.P2MTables, *arguments: Any) -> int:
        wide = [np.int64(a) if isinstance(a, int) else a for a in arguments]
        with np.errstate(over="ignore"):
            return int(self._bare.of(kernel)(t, *wide))

    def _observed(self, t: tb.P2MTables, h: tb.HostTables, x: int, stop: int) -> int:
        """Do one quiet mid compiled, and write down what has changed in its two pages."""
        state: Any = t.state[0]
        top = x >> int(state.entries_shift)
        page = int(t.true_mid_mfn[top])
        top_slot = self._call(pages.page_code, t, int(state.top_mfn))
        slot = self._call(pages.page_code, t, page)
        before, row = int(t.words[top_slot, top]), t.words[slot, : stop - x].copy()
        status = int(self._plain.rebuild(t, h, x))
        records = self._logged.log.records
        records.append(Began(x, int(state.stray_writes)))
        after = int(t.words[top_slot, top])
        records.append(
            Store(int(state.top_mfn), top, 1, int(before != after), before, after, "rebuild", 0)
        )
        if page != state.mid_missing_mfn:
            now = t.words[slot, : stop - x]
            changed = int(np.count_nonzero(now != row))
            records.append(
                Store(page, 0, len(row), changed, int(row[0]), int(now[0]), "rebuild", 0)
            )
        return status
