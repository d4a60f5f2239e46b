"""Axes with more values than a figure or a table can show, in ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from p2mbatch.base.arrays import Int64Array
from p2mbatch.store.columns import BY_NAME

if TYPE_CHECKING:
    import pandas as pd


class Bins(NamedTuple):
    """One axis cut into places."""

    codes: Int64Array
    """Which place each entry is in."""
    values: list[Any]
    """What stands for each place: its value, or the middle of its range."""
    edges: npt.NDArray[Any] | None
    """The ends of the ranges, one more than there are places; None where places are values."""

    @property
    def each(self) -> npt.NDArray[Any]:
        """What stands for the place of each entry, float64."""
        return np.array(self.values, np.float64)[self.codes]

    def ends(self, at: int) -> str:
        """Return the ends of a range as an address has them: "low..<high", the last "low..high"."""
        assert self.edges is not None
        return ends_text(self.edges.tolist(), at)


def ends_text(edges: Sequence[float], at: int) -> str:
    """Return the ends of the range between `edges[at]` and the next.

    A page's script reads them: the upper end is in the last range only, where the largest value is.
    """
    return f"{edges[at]:.15g}..{'<' if at + 2 < len(edges) else ''}{edges[at + 1]:.15g}"


def is_size(name: str) -> bool:
    """Return whether a column is in bytes and spread over orders of magnitude."""
    return BY_NAME[name].unit == "bytes" and name != "word_bytes"


def binned(values: pd.Series[Any], name: str, max_values: int, num_ranges: int) -> Bins:
    """Return the entries of column `name` in places, ascending.

    Each value is a place of its own where there are at most `max_values`, or where they are text;
    otherwise `num_ranges` or a few more ranges: octaves of sizes where those do, round steps else.
    """
    import pandas as pd

    codes, found = pd.factorize(values, sort=False)
    kept = list(found)
    if len(kept) <= max_values or isinstance(kept[0], str):
        order = np.argsort(np.array(kept, object) if isinstance(kept[0], str) else np.array(kept))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        return Bins(rank[codes], [kept[i] for i in order], None)
    numbers = values.to_numpy()
    low, high = float(numbers.min()), float(numbers.max())
    # There is no octave with 0 in it.
    are_octaves = is_size(name) and low > 0
    edges = _octaves(low, high, num_ranges) if are_octaves else _steps(low, high, num_ranges)
    # As they are written, so that whoever reads them cuts at the same numbers.
    edges = np.array([float(f"{edge:.15g}") for edge in edges.tolist()])
    place = np.clip(np.searchsorted(edges, numbers, "right") - 1, 0, len(edges) - 2)
    middle = np.sqrt(edges[:-1] * edges[1:]) if are_octaves else (edges[:-1] + edges[1:]) / 2
    return Bins(place, list(middle), edges)


def _octaves(low: float, high: float, num_ranges: int) -> npt.NDArray[Any]:
    """Return edges that are powers of two, or parts of such steps where these are too few."""
    first, last = np.floor(np.log2(low)), np.ceil(np.log2(high))
    per_octave = max(int(num_ranges // max(last - first, 1)), 1)
    step = 1 / per_octave if per_octave > 1 else np.ceil((last - first) / num_ranges)
    edges: npt.NDArray[Any] = 2.0 ** np.arange(first, last + step / 2, step)
    # Of the parts below and above all values none is shown.
    keep = (np.append(edges[1:], np.inf) > low) & (np.insert(edges[:-1], 0, 0) < high)
    kept: npt.NDArray[Any] = edges[keep]
    return kept


def _steps(low: float, high: float, num_ranges: int) -> npt.NDArray[Any]:
    """Return edges at multiples of 1, 2 or 5 times a power of ten."""
    wanted = (high - low) / num_ranges
    power = 10.0 ** np.floor(np.log10(wanted))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= wanted * 0.999)
    first, last = np.floor(low / step), np.floor(high / step) + 1
    edges: npt.NDArray[Any] = np.arange(first, last + 0.5) * step
    return edges
