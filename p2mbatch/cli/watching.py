"""A sweep that runs, seen from outside: how fast, how long yet, and what became of its guests."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p2mbatch.store.results import SweepResult


class Watch:
    """What was seen first, so that there is a rate."""

    def __init__(self, result: SweepResult) -> None:
        self._start = time.monotonic()
        self._first = result.progress.num_settled
        self._ends: Counter[str] = Counter()
        self._known: set[bytes] = set()

    def line(self, result: SweepResult) -> str:
        """Return how far a sweep is in one line. `result` was just refreshed."""
        from p2mbatch.sweeps.progress import pace

        progress = result.progress
        done = progress.num_settled
        text = f"{done:,} of {progress.num_cells:,} cells done"
        if progress.num_failed:
            text += f", {progress.num_failed:,} failed"
        if done > self._first:
            left = max(progress.num_cells - done, 0)
            text += ", " + pace(done - self._first, left, time.monotonic() - self._start)
        fates = ", ".join(f"{n:,} {fate}" for fate, n in self._counted(result).items() if n)
        return f"{text}; {fates}" if fates else text

    def _counted(self, result: SweepResult) -> dict[str, int]:
        """Return how many cells came to each fate; of the store only what is new is read."""
        from p2mbatch.model.fates import FATES
        from p2mbatch.store.fate_counts import count_fates
        from p2mbatch.store.fates import FATE_COLUMNS

        marks = result.marks
        if not self._known <= marks:
            # Blocks that were damaged are gone, their cells to be run anew.
            self._known, self._ends = set(), Counter()
        new = result.blocks(["migration", *FATE_COLUMNS], self._known)
        for (*_, fate, is_last), number in count_fates(new).items():
            self._ends[fate] += number * is_last
        self._known = marks
        return {fate: self._ends[fate] for fate in FATES}
