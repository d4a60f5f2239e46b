"""Ceilings: loops that only move bytes, what a machine can do at best."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.bench.measure import Call, Scaled, measure_in_turn
from p2mbatch.compiled import ceilings as kc

CEILINGS = ("fill", "copy", "read", "gather")

_BYTES_PER_WORD = {"copy": 16, "gather": 24}  # read and written, where not its own 8


class Ceilings:
    """The machine's ceilings, each measured when it is first asked for, at the footprint asked."""

    def __init__(self, max_bytes: int, *, seconds: float) -> None:
        self.max_bytes = max_bytes
        self._seconds = seconds
        self.found: dict[tuple[str, int, int], dict[str, Any]] = {}
        # From 4 MiB on NumPy asks for huge pages, as it does for the tables; written once, so
        # that no sample meets a page that is not there yet.
        self._a, self._b = np.ones(max_bytes // 8, np.int64), np.ones(max_bytes // 8, np.int64)
        self._random = np.random.default_rng(0)

    def get(self, name: str, footprint_bytes: int, threads: int = 1) -> dict[str, Any]:
        """Return the ceiling `name` over (about) `footprint_bytes`, on one thread or all.

        The footprint is that of the arrays gone through, or of the table that a gather reads from.
        """
        # Powers of two: sizes near each other share one measurement.
        size = min(1 << max(13, round(np.log2(max(footprint_bytes, 1)))), self.max_bytes)
        key = (name, size, threads)
        if key not in self.found:
            self.found[key] = self._measure(*key)
        return self.found[key]

    def _measure(self, name: str, size: int, threads: int) -> dict[str, Any]:
        if name == "chase":
            words = 1 << 16
            call: Call = partial(kc.chase, _one_cycle(size // 8), words)
        elif name == "gather":
            words = min(1 << 20, max(size // 8, 1 << 14))
            call = self.gathering(words, size, threads)
        else:
            words = size // 8 // (2 if name == "copy" else 1)
            call = self.moving(name, size, threads)
        timing = measure_in_turn({name: call}, seconds=self._seconds, max_samples=25)[name]
        per_word = timing.median_ns / words
        return {
            "name": name, "threads": threads, "footprint_bytes": size, "words": words,
            "ns_per_word": per_word, "bytes_per_s": _BYTES_PER_WORD.get(name, 8) / per_word * 1e9,
            **timing.to_dict(),
        }  # fmt: skip

    def moving(self, name: str, num_bytes: int, threads: int = 1) -> Call:
        """Return a call that fills, reads or copies so many bytes (of a copy, both sides)."""
        words = max(num_bytes // 8 // (2 if name == "copy" else 1), 1)
        fit = min(words, len(self._a))
        a = self._a[:fit]
        args = {"fill": (a, 7), "copy": (a, self._b[:fit]), "read": (a,)}[name]
        return Scaled(self._on(name, threads, *args), words / fit)

    def gathering(self, count: int, table_bytes: int, threads: int = 1) -> Call:
        """Return a call that reads `count` words at random from so large a table."""
        table = self._a[: max(table_bytes // 8, 1)]
        at, out = self._random.integers(0, len(table), count), np.ones(count, np.int64)
        return self._on("gather", threads, table, at, out)

    @staticmethod
    def _on(name: str, threads: int, *args: Any) -> Call:
        if threads > 1:
            return partial(getattr(kc, f"{name}_parallel"), *args, threads)
        return partial(getattr(kc, name), *args)


def _one_cycle(words: int) -> Int64Array:
    """Return a table of `words` (a power of two) whose links go once through every cache line.

    The order is that of a linear congruential generator of full period: no stride to be guessed.
    """
    lines = max(words // 8, 4)
    table = np.zeros(8 * lines, np.int64)
    at = np.arange(lines, dtype=np.int64)
    table[::8] = ((at * 1664525 + 1013904223) & (lines - 1)) * 8
    return table
