"""What figures say of many rows at once: medians, quantiles, shares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from p2mbatch.base.arrays import Float64Array, Int64Array
from p2mbatch.model.fates import DAMAGE
from p2mbatch.store.bins import binned
from p2mbatch.store.fates import last_rows

if TYPE_CHECKING:
    import pandas as pd


def came_through(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the migrations that were reported ok; a boot is none."""
    return frame[(frame["migration"] > 0) & (frame["outcome"] == "ok")]


def through_all(frame: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """Return the migrations of the guests that came through all of theirs, with those columns.

    Beside them it has `cell` and `migration`: at each migration of one length are the same guests.
    """
    rows = frame[["cell", "migration", "migrations", "outcome", *columns]]
    ends = last_rows(rows)
    through = ((ends["outcome"] == "ok") & (ends["migration"] == ends["migrations"])).to_numpy()
    kept = rows["cell"].isin(ends["cell"][through]) & (rows["migration"] > 0)
    return rows[kept.to_numpy()]


def medians(rows: pd.DataFrame, column: str, over: str) -> pd.Series[float]:
    """Return the median of `column` for each value of `over`, ascending; both name columns."""
    found: pd.Series[float] = rows.groupby(over, observed=True)[column].median()
    return found


def medians_of(values: npt.NDArray[Any], group: Int64Array, num_groups: int) -> Float64Array:
    """Return the median of the values of each group, float64[num_groups], NaN where it has none."""
    if values.dtype.kind == "i" and len(values) and 0 <= values.min() <= values.max() < 1 << 32:
        # One sort of numbers takes a tenth of a sort by two keys.
        ordered = np.sort((group << 32) | values) & 0xFFFFFFFF
    else:
        ordered = values[np.lexsort((values, group))]
    counts = np.bincount(group, minlength=num_groups)
    first = np.cumsum(counts) - counts
    found = np.full(num_groups, np.nan)
    has = counts > 0
    low, high = (first + (counts - 1) // 2)[has], (first + counts // 2)[has]
    found[has] = (ordered[low].astype(np.float64) + ordered[high]) / 2
    return found


def quantiles(rows: pd.DataFrame, column: str, over: str, levels: Sequence[float]) -> pd.DataFrame:
    """Return a row for each value of `over`, ascending, with a column for each of `levels`.

    `levels` are 0 to 1; between two samples the quantile is where a straight line has it.
    """
    grouped = rows.groupby(over, observed=True)[column]
    return grouped.quantile(np.array(levels)).unstack()


def list_bytes(frame: pd.DataFrame) -> pd.Series[float]:
    """Return the bytes of each row's frame list, float64 per row: a word for each leaf.

    The rebuild must at least read so many (the entry of each leaf's own page) and write as many,
    which is what copying the list does.
    """
    words: pd.Series[float] = frame["leaves"].astype(np.int64) * frame["word_bytes"]
    return words


_MAX_SIZES, _NUM_RANGES = 48, 24
"""Of more sizes ranges are shown."""


def by_size(rows: pd.DataFrame) -> pd.DataFrame:
    """Return `rows` with `size`: their guests' memory, or of many sizes the middle of a range."""
    if rows.empty:
        return rows.assign(size=np.zeros(0))
    places = binned(rows["memory_bytes"], "memory_bytes", _MAX_SIZES, _NUM_RANGES)
    return rows.assign(size=places.each)


def silent_shares(rows: pd.DataFrame, over: str = "memory_bytes") -> pd.Series[float]:
    """Return by (policy, `over`) the share of `rows` that damaged the guest, 0 to 1.

    Of rows that were reported ok it is the corruption that nobody is told of.
    """
    damaged = (rows[list(DAMAGE)] > 0).any(axis=1).astype(np.float64)
    found: pd.Series[float] = damaged.groupby([rows["policy"], rows[over]], observed=True).mean()
    return found
