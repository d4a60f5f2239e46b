"""Ceilings: loops that only move bytes, what a machine can do at best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.bench.measure import Call, Timing, measure_in_turn, scaled
from p2mbatch.compiled import ceilings as kc

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
