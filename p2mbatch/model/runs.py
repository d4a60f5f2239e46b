"""Runs: pairs of numbers that count up together, and how they are merged."""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID


def merged_runs(runs: Int64Array) -> Int64Array:
    """Return the same entries, in order, in as few runs [pfn, value, count] as there can be."""
    pfn, mfn, count = runs.T
    follows = pfn[1:] == pfn[:-1] + count[:-1]
    alike = mfn[1:] == np.where(mfn[:-1] >= 0, mfn[:-1] + count[:-1], mfn[:-1])
    first = np.flatnonzero(np.append(True, ~(follows & alike))[: len(pfn)])
    return np.stack([pfn[first], mfn[first], np.add.reduceat(count, first)], axis=1)


def frame_runs(pfns: Int64Array, mfns: Int64Array) -> Int64Array:
    """Return int64[k, 3]: runs [pfn, mfn, count] in which both count up; INVALID stays INVALID.

    `pfns` ascend; both are int64[m].
    """
    if not pfns.size:
        return np.zeros((0, 3), np.int64)
    keys = np.where(mfns == INVALID, np.iinfo(np.int64).min, mfns - pfns)
    breaks = (np.diff(keys) != 0) | (np.diff(pfns) != 1)
    firsts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    return np.stack([pfns[firsts], mfns[firsts], np.diff(firsts, append=pfns.size)], axis=1)


def paired_runs(a: Int64Array, b: Int64Array) -> Int64Array:
    """Return int64[k, 3] of [a, b, count]: the pairs, in order, as runs that count up together."""
    if not len(a):
        return np.zeros((0, 3), np.int64)
    starts = np.flatnonzero(np.concatenate(([True], (np.diff(a) != 1) | (np.diff(b) != 1))))
    counts = np.diff(np.append(starts, len(a)))
    return np.stack([a[starts], b[starts], counts], axis=1).astype(np.int64)


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
