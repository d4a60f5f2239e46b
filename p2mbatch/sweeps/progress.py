"""Progress of a sweep: a bar on a terminal, a line every 30 s without one, or nothing."""

from __future__ import annotations

import sys
import time
from typing import IO, Any, Literal

from tqdm import tqdm

from p2mbatch.base.say import say, say_above
from p2mbatch.base.terminal import is_terminal

Mode = Literal["auto", "bar", "lines", "quiet"]

LINE_INTERVAL_S = 30.0

STEP_INTERVAL_S = 5.0


def format_duration(seconds: float) -> str:
    """Return a duration as a person says it: "40 ms", "12 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 1:
        return f"{max(round(seconds * 1000), 1)} ms"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"


def pace(num_done: int, num_left: int, elapsed_s: float) -> str:
    """Return how fast cells are done and how long the others take: "12.0 cells/s, 40 s left"."""
    rate = num_done / max(elapsed_s, 1e-9)
    return f"{rate:,.1f} cells/s, {format_duration(num_left / rate)} left"


class ProgressReport:
    """Tells a person how a sweep gets on. A context manager.

    `total` is the number of cells, `file` (stderr by default) where it is told.
    """

    def __init__(self, total: int, mode: Mode = "auto", file: IO[str] | None = None) -> None:
        self._file = sys.stderr if file is None else file
        if mode == "auto":
            mode = "bar" if is_terminal(self._file) else "lines"
        self._mode = mode
        self._total = total
        self._skipped = 0
        self._done = 0
        self._failed = 0
        self._start = self._last_line = time.monotonic()
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> ProgressReport:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def begin(self) -> None:
        """Start the clock: what came before, such as compiling, is no part of the rate."""
        self._start = self._last_line = time.monotonic()
        if self._mode == "bar":
            self._bar = tqdm(
                total=self._total,
                unit="cell",
                file=self._file,
                dynamic_ncols=True,
                smoothing=0.1,
                postfix={"failed": 0},
            )

    def notice(self, text: str) -> None:
        """Tell something that happened, above the bar."""
        if self._mode == "quiet":
            return
        if self._bar is not None:
            say_above(self._bar, text, self._file)
        else:
            say(text, file=self._file)

    def skip(self, num_cells: int) -> None:
        """Count cells that were settled before: done, but no part of the rate."""
        self._skipped += num_cells
        if self._bar is not None:
            self._bar.initial += num_cells
            self._bar.update(num_cells)

    def add(self, num_done: int, num_failed: int) -> None:
        """Count cells that are now on the disk, `num_failed` of them as failures."""
        self._done += num_done
        self._failed += num_failed
        if self._bar is not None:
            if num_failed:
                self._bar.set_postfix({"failed": self._failed}, refresh=False)
            self._bar.update(num_done)
        elif self._mode == "lines" and time.monotonic() - self._last_line >= LINE_INTERVAL_S:
            self._last_line = time.monotonic()
            self.notice(self.line())

    def line(self) -> str:
        """Return the present state as one line."""
        settled = self._done + self._skipped
        told = "0.0 cells/s, starting"
        if self._done:
            told = pace(self._done, self._total - settled, time.monotonic() - self._start)
        return f"{settled:,} of {self._total:,} cells done, {self._failed:,} failed, {told}"


class StepReport:
    """Tells a person what is being made, a step after the other. A context manager.

    A bar on a terminal; without one a line for each step that comes after some seconds, so that
    what is quick is not told at all.
    """

    def __init__(
        self, what: str, total: int, mode: Mode = "auto", file: IO[str] | None = None
    ) -> None:
        self._what = what
        self._file = sys.stderr if file is None else file
        if mode == "auto":
            mode = "bar" if is_terminal(self._file) else "lines"
        self._mode = mode
        self._total = total
        self._last = time.monotonic()
        self._done = -1
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> StepReport:
        if self._mode == "bar":
            self._bar = tqdm(total=self._total, desc=self._what, file=self._file, leave=False)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def next(self, step: str) -> None:
        """Say that `step` begins: those before it are done."""
        self._done += 1
        if self._bar is not None:
            self._bar.set_postfix_str(step, refresh=False)
            self._bar.update(int(self._done > 0))
        elif self._mode == "lines" and time.monotonic() - self._last >= STEP_INTERVAL_S:
            self._last = time.monotonic()
            say(f"{self._what}: {step} ({self._done} of {self._total} done)", file=self._file)
