"""A sweep that runs, seen from outside: how fast, how long yet, and what became of its guests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p2mbatch.store.results import SweepResult


class Watch:
    """What was seen first, so that there is a rate."""

    def __init__(self, result: SweepResult) -> None:
        self._start = time.monotonic()
        self._first = result.progress.num_settled

    def line(self, result: SweepResult) -> str:
        """Return how far a sweep is in one line. `result` was just refreshed."""
        from p2mbatch.store.survival import ends
        from p2mbatch.sweeps.progress import pace

        progress = result.progress
        done = progress.num_settled
        text = f"{done:,} of {progress.num_cells:,} cells done"
        if progress.num_failed:
            text += f", {progress.num_failed:,} failed"
        if done > self._first:
            left = max(progress.num_cells - done, 0)
            text += ", " + pace(done - self._first, left, time.monotonic() - self._start)
        fates = ", ".join(f"{n:,} {fate}" for fate, n in ends(result).items() if n)
        return f"{text}; {fates}" if fates else text
