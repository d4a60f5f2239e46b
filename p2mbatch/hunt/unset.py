"""Rule 7: an entry that was never set reads INVALID, or its PFN's identity where that was asked.

INVALID is always right: 1:1 marks in leaves of their own are gone after a migration (policies-spec
P0, linear-spec L9), and nothing of the guest's is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.hunt.look import entries_of, is_shared, page_of_leaf, pages_of_leaves, words_of
from p2mbatch.hunt.world import flags_of
from p2mbatch.model.life import Life
from p2mbatch.model.runs import written
from p2mbatch.model.trace import Trace
from p2mbatch.model.trace_linear import LinearLayout


class Unset:
    """Knows which entries of a life were never set, and looks at them."""

    def __init__(self, trace: Trace, life: Life) -> None:
        self._life = life
        self._n = life.tables.words.shape[1]
        self._nr_pages = trace.guest.nr_pages
        self._set: dict[int, BoolArray] = {}
        self._end = 0
        guest = trace.guest
        self._ranges = trace.events[0].get("identity", np.zeros((0, 2), np.int64))
        self._size = 1 << 62
        if isinstance(guest, LinearLayout):
            self._ranges = np.column_stack([guest.identity[:, 0], guest.identity.sum(axis=1)])
            self._size = -(-guest.nr_pages // self._n) * self._n
        self._bit = flags_of(life.policy, guest.word_bytes)[1]
        self._clean_mids: Int64Array | None = None

    def note(self, runs: Int64Array, num_entries: int) -> None:
        """Note the first `num_entries` entries of a set's runs, int64[k, 3]."""
        self._end = max(self._end, -(-int((runs[:, 0] + runs[:, 2]).max(initial=0)) // self._n))
        pfns, _ = written(runs, num_entries)
        for x in np.unique(pfns // self._n).tolist():
            row = self._set.setdefault(x, np.zeros(self._n, np.bool_))
            row[pfns[pfns // self._n == x] % self._n] = True

    def check(self, was_hit: bool) -> Iterator[tuple[str, str, str]]:
        """Yield (what, where, detail), one for each kind of place that has a wrong entry."""
        seen = set()
        for pfn, word in self._wrong():
            where = "hit by strays" if was_hit else self.place_of(pfn)
            if where not in seen:
                seen.add(where)
                yield "unset-entry", where, f"PFN {pfn} reads {word % (1 << 64):#x}"
        self._clean_mids = self._mids()

    def _wrong(self) -> Iterator[tuple[int, int]]:
        """Yield (PFN, word) of the first wrong entry of each leaf, and of a hole."""
        life, n = self._life, self._n
        pages = pages_of_leaves(life, len(life.tables.leaf_page))
        own = np.flatnonzero(~is_shared(life, pages))
        own = np.union1d(own[own >= self._nr_pages // n], self._further(len(pages)))
        for x in own.tolist():
            pfns = np.arange(x * n, (x + 1) * n)
            words = entries_of(life, pfns)
            never = (pfns >= self._nr_pages) & ~self._set.get(x, np.zeros(n, np.bool_))
            bad = never & (words != INVALID) & ~self._is_identity(pfns, words)
            if bad.any():
                i = int(np.flatnonzero(bad)[0])
                yield int(pfns[i]), int(words[i])
        words = words_of(life, life.scalar("missing"))
        bad = np.flatnonzero(words != INVALID)
        if len(bad) and (hole := self._first_hole(len(pages))) >= 0:
            yield int(hole * n + bad[0]), int(words[bad[0]])

    def _first_hole(self, num_leaves: int) -> int:
        """Return the first missing leaf as far as memory and sets have reached; -1 without one."""
        end = num_leaves if self._life.policy.is_two_level else max(num_leaves, self._end)
        holes = np.flatnonzero(pages_of_leaves(self._life, end) == self._life.scalar("missing"))
        return int(holes[0]) if len(holes) else -1

    def _further(self, num_leaves: int) -> Int64Array:
        """Return the leaves past the cached ones that were set in."""
        return np.array(sorted(x for x in self._set if x >= num_leaves), np.int64)

    def _is_identity(self, pfns: Int64Array, words: Int64Array) -> BoolArray:
        """Return which entries are their PFN's identity, where that was asked for."""
        if self._bit == 0:
            return np.zeros(len(pfns), np.bool_)
        asked = pfns >= self._size
        for start, end in self._ranges.tolist():
            asked |= (pfns >= start) & (pfns < end)
        same: BoolArray = asked & (words == pfns | self._bit)
        return same

    def place_of(self, pfn: int) -> str:
        """Return what kind of place of the p2m a PFN is in, of one that should not be there."""
        life, n = self._life, self._n
        page = page_of_leaf(life, pfn // n)
        if page >= 0 and page == life.scalar("identity"):
            return "in an identity leaf"
        if page == life.scalar("missing"):
            return "in a hole"
        if self._nr_pages <= pfn < -(-self._nr_pages // n) * n:
            return "in the tail"
        return "in a grown leaf" if pfn >= self._nr_pages else "in the memory booted with"

    def shared_page_hit(self) -> str:
        """Return which page that many PFNs share a set wrote to."""
        mids = self._mids()
        if self._clean_mids is not None and mids is not None and (mids != self._clean_mids).any():
            return "p2m_mid_missing"
        return "p2m_identity"

    def _mids(self) -> Int64Array | None:
        page = self._life.scalar("mid_missing")
        return words_of(self._life, page).copy() if page >= 0 else None
