"""Runs: pairs of numbers that count up together, and how they are merged."""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID

_PIECE = 1 << 18
"""Pairs looked at at a time."""


def merged_runs(runs: Int64Array) -> Int64Array:
    """Return the same entries, in order, in as few runs [pfn, value, count] as there can be."""
    pfn, mfn, count = runs.T
    follows = pfn[1:] == pfn[:-1] + count[:-1]
    alike = mfn[1:] == np.where(mfn[:-1] >= 0, mfn[:-1] + count[:-1], mfn[:-1])
    first = np.flatnonzero(np.append(True, ~(follows & alike))[: len(pfn)])
    return np.stack([pfn[first], mfn[first], np.add.reduceat(count, first)], axis=1)


def frame_runs(pfns: Int64Array | range, mfns: Int64Array) -> Int64Array:
    """Return int64[k, 3]: runs [pfn, mfn, count] in which both count up; INVALID stays INVALID.

    In the order of `pfns`; both are int64[m], read in pieces: nothing as large is made.
    """
    if not mfns.size:
        return np.zeros((0, 3), np.int64)
    parts = [np.zeros(1, np.int64)]
    for at in range(0, mfns.size, _PIECE):
        piece = slice(max(at - 1, 0), at + _PIECE)
        some, named = np.asarray(pfns[piece], np.int64), mfns[piece]
        keys = np.where(named == INVALID, np.iinfo(np.int64).min, named - some)
        breaks = (np.diff(keys) != 0) | (np.diff(some) != 1)
        parts.append(np.flatnonzero(breaks) + piece.start + 1)
    firsts = np.concatenate(parts)
    starts = firsts + pfns.start if isinstance(pfns, range) else pfns[firsts]
    return np.stack([starts, mfns[firsts], np.diff(firsts, append=mfns.size)], axis=1)


def leading(runs: Int64Array, num_pages: int) -> list[tuple[int, int]]:
    """Return the first `num_pages` pages of runs [first PFN, count], as runs; one at least."""
    found: list[tuple[int, int]] = []
    for pfn, count in runs.tolist():
        if num_pages > 0 or not found:
            found.append((pfn, min(count, num_pages)))
        num_pages -= count
    return found or [(0, 0)]


def single_runs(pfns: Int64Array, mfns: Int64Array) -> Int64Array:
    """Return int64[k, 3] of [pfn, mfn, 1]."""
    return np.stack([pfns, mfns, np.ones_like(pfns)], axis=1)
