"""Measuring for the performance report: samples taken in turn, their spread, the ceilings."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import psutil

Call = Callable[[], object]

SHORT_NS = 200_000  # shorter calls are repeated within one sample: the clock does not show then
# Before shorter calls' samples comes an untimed one: what ran in between emptied the caches, and
# threads that had nothing to do must be woken.
WARM_NS = 30_000_000
SLOW_NS = 500_000_000  # where one turn of all calls takes longer, fewer samples are enough


@dataclass(frozen=True, slots=True)
class Scaled:
    """A call whose time counts `factor` times: it does so much less than the others."""

    call: Call
    factor: float

    def __call__(self) -> None:
        """Run once."""
        self.call()


@dataclass(slots=True)
class Timing:
    """The time of one call, in ns: warm-up apart, the rest as median and spread."""

    warmup_ns: float
    samples_ns: list[float] = field(default_factory=list)

    @property
    def median_ns(self) -> float:
        """Return the median of the samples."""
        return statistics.median(self.samples_ns)

    @property
    def quartiles_ns(self) -> tuple[float, float]:
        """Return the lower and the upper quartile."""
        low, high = np.quantile(self.samples_ns, [0.25, 0.75]).tolist()
        return low, high

    def to_dict(self) -> dict[str, Any]:
        """Return the timing as JSON values; `spread` is half the quartiles' distance by median."""
        median, (low, high) = self.median_ns, self.quartiles_ns
        spread = (high - low) / 2 / median
        found = {"median_ns": median, "low_ns": low, "high_ns": high, "spread": spread}
        return found | asdict(self)


def _timed(call: Call, repeats: int) -> float:
    """Return the time of one call, in ns, over `repeats` of them."""
    if isinstance(call, Scaled):
        return _timed(call.call, repeats) * call.factor
    begin = time.perf_counter_ns()
    for _ in range(repeats):
        call()
    return (time.perf_counter_ns() - begin) / repeats


def measure_in_turn(
    calls: Mapping[str, Call], *, seconds: float, min_samples: int = 5, max_samples: int = 41
) -> dict[str, Timing]:
    """Return the timing of each of `calls`, whose samples are taken in turn.

    Whatever slows the machine for a while then slows all of them, and their ratios stay true.
    Stops after `seconds` (but takes `min_samples` of each first) or `max_samples`.
    """
    timings: dict[str, Timing] = {}
    repeats, warm = {}, {}
    for name, call in calls.items():
        timings[name], once = Timing(_timed(call, 1)), _timed(call, 1)
        warm[name] = once < WARM_NS
        repeats[name] = max(1, min(1000, int(SHORT_NS / max(once, 1.0))))
    end = time.monotonic() + seconds
    # A guest's whole restore takes so long that three samples must do.
    slow = sum(timing.warmup_ns for timing in timings.values()) > SLOW_NS
    for turn in range(max_samples):
        if turn >= (min(3, min_samples) if slow else min_samples) and time.monotonic() > end:
            break
        for name, call in calls.items():
            if warm[name]:
                call()
            timings[name].samples_ns.append(_timed(call, repeats[name]))
    return timings


class OtherLoad:
    """How much of the machine's processors others took since this object was made."""

    def __init__(self) -> None:
        self._begin = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Return the seconds that the processors were there, were busy, and were so for us."""
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        # What guests of this machine take is part of its own time, and so counted there already.
        extra = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        own = psutil.Process().cpu_times()
        # The processes that this one has waited for are counted as its own.
        return sum(times) - extra, sum(times) - extra - idle, sum(own[:4])

    def share(self) -> float:
        """Return the part, 0 to 1, that went to other programs (and machines, if it is shared)."""
        there, busy, own = (b - a for a, b in zip(self._begin, self._now(), strict=True))
        return min(max((busy - own) / there, 0.0), 1.0) if there > 0 else 0.0
