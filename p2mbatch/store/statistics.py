"""What figures say of many rows at once: medians, quantiles, shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from p2mbatch.model.fates import DAMAGE

if TYPE_CHECKING:
    import pandas as pd


def came_through(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the migrations that were reported ok; a boot is none."""
    return frame[(frame["migration"] > 0) & (frame["outcome"] == "ok")]


def medians(rows: pd.DataFrame, column: str, over: str) -> pd.Series[float]:
    """Return the median of `column` for each value of `over`, ascending; both name columns."""
    found: pd.Series[float] = rows.groupby(over)[column].median()
    return found


def quantiles(rows: pd.DataFrame, column: str, over: str, levels: Sequence[float]) -> pd.DataFrame:
    """Return a row for each value of `over`, ascending, with a column for each of `levels`.

    `levels` are 0 to 1; between two samples the quantile is where a straight line has it.
    """
    return rows.groupby(over)[column].quantile(np.array(levels)).unstack()


def list_bytes(frame: pd.DataFrame) -> pd.Series[float]:
    """Return the bytes of each row's frame list, float64 per row: a word for each leaf.

    The rebuild must at least read so many (the entry of each leaf's own page) and write as many,
    which is what copying the list does.
    """
    words: pd.Series[float] = frame["leaves"] * frame["word_bytes"]
    return words


def silent_shares(rows: pd.DataFrame) -> pd.Series[float]:
    """Return by (policy, memory_bytes) the share of `rows` that damaged the guest, 0 to 1.

    Of rows that were reported ok it is the corruption that nobody is told of.
    """
    damaged = (rows[list(DAMAGE)].sum(axis=1) > 0).astype(np.float64)
    found: pd.Series[float] = damaged.groupby([rows["policy"], rows["memory_bytes"]]).mean()
    return found
