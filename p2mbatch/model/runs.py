"""Runs: pairs of numbers that count up together, and how they are merged."""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.base.geometry import INVALID

_PIECE = 1 << 18
"""Pairs looked at at a time."""

_LONG = 64
"""A run of so many pairs is put down by itself: a call of NumPy costs as much as some dozens."""


OWN = -2
"""A value that stays along a run as INVALID does: "the page's own frame" (`guests/file`)."""


def _breaks(
    pfns: Int64Array, mfns: Int64Array, counts: Int64Array | int, stays: BoolArray
) -> Int64Array:
    """Return the indices from 1 on at which a run begins that does not go on the one before.

    `counts` are those of all runs but the last, or what all have; `stays` (bool[m]) are the values
    that don't count up.
    """
    before = mfns[:-1]
    goes_on = mfns[1:] == np.where(stays[:-1], before, before + counts)
    goes_on &= stays[1:] == stays[:-1]
    goes_on &= pfns[1:] == pfns[:-1] + counts
    return np.flatnonzero(~goes_on) + 1


def merged_runs(runs: Int64Array) -> Int64Array:
    """Return the same entries, in order, in as few runs [pfn, value, count] as there can be.

    int64[k, 3] of int64[m, 3]: values count up with the PFN, INVALID and OWN stay.
    """
    if not len(runs):
        return runs
    pfn, mfn, count = runs.T
    first = np.append(0, _breaks(pfn, mfn, count[:-1], (mfn == INVALID) | (mfn == OWN)))
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
        some = pfns[piece]
        # NumPy would ask a range for its numbers one by one.
        if isinstance(some, range):
            some = np.arange(some.start, some.stop, some.step)
        parts.append(_breaks(some, mfns[piece], 1, mfns[piece] == INVALID) + piece.start)
    firsts = np.concatenate(parts)
    starts = firsts + pfns.start if isinstance(pfns, range) else pfns[firsts]
    return np.stack([starts, mfns[firsts], np.diff(firsts, append=mfns.size)], axis=1)


def page_runs(pages: Int64Array) -> Int64Array:
    """Return int64[k, 2] of [first, count]: `pages`, in their order, as runs that count up."""
    return frame_runs(pages, pages)[:, [0, 2]]


def put_runs(words: Int64Array, runs: Int64Array) -> None:
    """Put what `runs` say into `words`, int64[m]: words[first + i] = value + i.

    `runs` is int64[k, 3] of [first, value, count] that lie within `words` and do not overlap.
    """
    is_long = runs[:, 2] >= _LONG
    for first, value, count in runs[is_long].tolist():
        words[first : first + count] = np.arange(value, value + count)
    short = runs[~is_long]
    for at in range(0, len(short), _PIECE // _LONG):
        first, value, count = short[at : at + _PIECE // _LONG].T
        inside = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        words[np.repeat(first, count) + inside] = np.repeat(value, count) + inside


def true_runs(mask: BoolArray) -> Int64Array:
    """Return int64[k, 2] of [first index, count]: the runs of bool[m] `mask` that are true."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return np.stack([edges[::2], np.diff(edges)[::2]], axis=1)


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


def written(runs: Int64Array, num_entries: int) -> tuple[Int64Array, Int64Array]:
    """Return the PFNs and the words of a set's first `num_entries` entries, int64[k] each."""
    counts = np.minimum(runs[:, 2], np.maximum(num_entries - _before(runs), 0))
    step = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    words = np.repeat(runs[:, 1], counts)
    return np.repeat(runs[:, 0], counts) + step, np.where(words == INVALID, INVALID, words + step)


def _before(runs: Int64Array) -> Int64Array:
    """Return how many entries come before each run."""
    before: Int64Array = np.cumsum(runs[:, 2]) - runs[:, 2]
    return before


def last_written(runs: Int64Array, num_entries: int) -> tuple[Int64Array, Int64Array]:
    """Do `written` with each PFN once, in order: of one that is set twice the last word counts."""
    pfns, words = written(runs, num_entries)
    each, at = np.unique(pfns[::-1], return_index=True)
    return each, words[::-1][at]
