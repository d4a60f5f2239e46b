"""Sets of cells' ids that take 16 bytes a cell."""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import BoolArray, UInt8Array, UInt64Array


class IdSet:
    """Cells' ids: sorted runs, of which a new one swallows those that are not twice its size."""

    def __init__(self) -> None:
        self._runs: list[UInt64Array] = []

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    def add(self, ids: UInt8Array) -> None:
        """Add ids, uint8[n, 16]; those that are there already may be added again."""
        if not len(ids):
            return
        new = np.ascontiguousarray(ids).view(np.uint64)
        while self._runs and len(self._runs[-1]) < 2 * len(new):
            new = np.concatenate([self._runs.pop(), new])
        self._runs.append(new[np.lexsort((new[:, 1], new[:, 0]))])

    def holds(self, ids: UInt8Array) -> BoolArray:
        """Return bool[n]: which of `ids` (uint8[n, 16]) are in it."""
        found = np.zeros(len(ids), np.bool_)
        wanted = np.ascontiguousarray(ids).view(np.uint64)
        for run in self._runs:
            first = np.searchsorted(run[:, 0], wanted[:, 0], "left")
            last = np.searchsorted(run[:, 0], wanted[:, 0], "right")
            for step in range(int((last - first).max(initial=0))):
                at = np.minimum(first + step, len(run) - 1)
                found |= (first + step < last) & (run[at, 1] == wanted[:, 1])
        return found
