"""Measuring for the performance report: samples taken in turn, their spread, the ceilings."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from p2mbatch import kernels_ceilings as kc

Int64Array = npt.NDArray[np.int64]
Call = Callable[[], object]

SHORT_NS = 200_000
"""Shorter calls are repeated within one sample, so that the clock does not show."""
WARM_NS = 30_000_000
"""Before shorter calls' samples comes an untimed one: what ran in between emptied the caches, and
threads that had nothing to do must be woken."""


SLOW_NS = 500_000_000
"""Where one turn of all calls takes longer, fewer samples are enough."""


class SelfTimed:
    """A call that knows its own time: `sample(repeats)` returns the ns of one call."""

    def __init__(self, sample: Callable[[int], float]) -> None:
        self.sample = sample

    def __call__(self) -> None:
        """Run once."""
        self.sample(1)


def scaled(call: Call, did: int, wanted: int) -> Call:
    """Return a call timed as if it had done `wanted` items where it does `did`."""
    if did == wanted:
        return call

    def sample(repeats: int) -> float:
        return _timed(call, repeats) * wanted / did

    return SelfTimed(sample)


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
    def low_ns(self) -> float:
        """Return the lower quartile."""
        return float(np.quantile(self.samples_ns, 0.25))

    @property
    def high_ns(self) -> float:
        """Return the upper quartile."""
        return float(np.quantile(self.samples_ns, 0.75))

    @property
    def spread(self) -> float:
        """Return half the distance between the quartiles, as a fraction of the median."""
        return (self.high_ns - self.low_ns) / 2 / self.median_ns

    def to_dict(self) -> dict[str, Any]:
        """Return the timing as JSON values."""
        return {
            "median_ns": self.median_ns,
            "low_ns": self.low_ns,
            "high_ns": self.high_ns,
            "spread": self.spread,
            **asdict(self),
        }


def _timed(call: Call, repeats: int) -> float:
    """Return the time of one call, in ns, over `repeats` of them."""
    if isinstance(call, SelfTimed):
        return call.sample(repeats)
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
        timings[name] = Timing(_timed(call, 1))
        once = _timed(call, 1)
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


@contextlib.contextmanager
def num_threads(count: int) -> Iterator[None]:
    """Let the parallel kernels use `count` threads inside this context."""
    from p2mbatch._jit import set_num_threads

    before = set_num_threads(count)
    try:
        yield
    finally:
        set_num_threads(before)


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
        return (
            sum(times) - extra,
            sum(times) - extra - idle,
            own.user + own.system + own.children_user + own.children_system,
        )

    def share(self) -> float:
        """Return the part, 0 to 1, that went to other programs (and machines, if it is shared)."""
        there, busy, own = (b - a for a, b in zip(self._begin, self._now(), strict=True))
        return min(max((busy - own) / there, 0.0), 1.0) if there > 0 else 0.0


# --- ceilings ----------------------------------------------------------------------------------

CEILINGS = ("fill", "copy", "read", "gather")
_BYTES_PER_WORD = {"fill": 8, "copy": 16, "read": 8, "gather": 24}


@dataclass(slots=True)
class Ceiling:
    """What the machine does at best for one access pattern over one footprint."""

    name: str
    threads: int
    footprint_bytes: int
    """Bytes of the arrays that are gone through; of the table that a gather reads from."""
    timing: Timing
    words: int
    """Words of 8 bytes in one call."""

    @property
    def ns_per_word(self) -> float:
        """Return the median time of one word of 8 bytes."""
        return self.timing.median_ns / self.words

    @property
    def bytes_per_s(self) -> float:
        """Return bytes read and written per second (0 where the rate says more: gather, chase)."""
        return _BYTES_PER_WORD.get(self.name, 8) / self.ns_per_word * 1e9

    def to_dict(self) -> dict[str, Any]:
        """Return the ceiling as JSON values."""
        return {
            "name": self.name,
            "threads": self.threads,
            "footprint_bytes": self.footprint_bytes,
            "words": self.words,
            "ns_per_word": self.ns_per_word,
            "bytes_per_s": self.bytes_per_s,
            **self.timing.to_dict(),
        }


class Ceilings:
    """The machine's ceilings, each measured when it is first asked for, at the footprint asked."""

    def __init__(self, max_bytes: int, *, seconds: float) -> None:
        self.max_bytes = max_bytes
        self._seconds = seconds
        self._found: dict[tuple[str, int, int], Ceiling] = {}
        words = max_bytes // 8
        # From 4 MiB on NumPy asks for huge pages, as it does for the tables; written once, so
        # that no sample meets a page that is not there yet.
        self._a = np.ones(words, np.int64)
        self._b = np.ones(words, np.int64)
        self._random = np.random.default_rng(0)

    def all(self) -> list[Ceiling]:
        """Return the ceilings measured so far."""
        return list(self._found.values())

    def get(self, name: str, footprint_bytes: int, threads: int = 1) -> Ceiling:
        """Return the ceiling `name` over (about) `footprint_bytes`, on one thread or all."""
        # Powers of two: sizes near each other share one measurement.
        size = 1 << max(13, round(np.log2(max(footprint_bytes, 1))))
        size = min(size, self.max_bytes)
        key = (name, size, threads)
        if key not in self._found:
            self._found[key] = self._measure(name, size, threads)
        return self._found[key]

    def _measure(self, name: str, size: int, threads: int) -> Ceiling:
        if name == "chase":
            words = 1 << 16
            table = _one_cycle(size // 8)
            call: Call = lambda: kc.chase(table, words)  # noqa: E731
        elif name == "gather":
            words = min(1 << 20, max(size // 8, 1 << 14))
            call = self.gathering(words, size, threads)
        else:
            words = size // 8 // (2 if name == "copy" else 1)
            call = self.moving(name, size, threads)
        timing = measure_in_turn({name: call}, seconds=self._seconds, max_samples=25)[name]
        return Ceiling(name, threads, size, timing, words)

    def moving(self, name: str, num_bytes: int, threads: int = 1) -> Call:
        """Return a call that fills, reads or copies so many bytes (of a copy, both sides)."""
        words = max(num_bytes // 8 // (2 if name == "copy" else 1), 1)
        fit = min(words, len(self._a))
        a, b = self._a[:fit], self._b[:fit]
        calls: dict[tuple[str, bool], Call] = {
            ("fill", False): lambda: kc.fill(a, 7),
            ("fill", True): lambda: kc.fill_parallel(a, 7, threads),
            ("copy", False): lambda: kc.copy(a, b),
            ("copy", True): lambda: kc.copy_parallel(a, b, threads),
            ("read", False): lambda: kc.read(a),
            ("read", True): lambda: kc.read_parallel(a, threads),
        }
        return scaled(calls[name, threads > 1], fit, words)

    def gathering(self, count: int, table_bytes: int, threads: int = 1) -> Call:
        """Return a call that reads `count` words at random from so large a table."""
        table = self._a[: max(table_bytes // 8, 1)]
        at, out = self._random.integers(0, len(table), count), np.ones(count, np.int64)
        if threads > 1:
            return lambda: kc.gather_parallel(table, at, out, threads)
        return lambda: kc.gather(table, at, out)


def _one_cycle(words: int) -> Int64Array:
    """Return a table of `words` (a power of two) whose links go once through every cache line.

    The order is that of a linear congruential generator of full period: no stride to be guessed.
    """
    lines = max(words // 8, 4)
    table = np.zeros(8 * lines, np.int64)
    at = np.arange(lines, dtype=np.int64)
    table[::8] = ((at * 1664525 + 1013904223) & (lines - 1)) * 8
    return table
