"""What became of each guest, and which axes, cells and migrations tell it best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from p2mbatch.base.arrays import Int8Array, Int64Array
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.words import Columns, Words
from p2mbatch.model import policies
from p2mbatch.model.fates import (
    ABORTED,
    ABORTED_DETAIL,
    BY_OUTCOME,
    CORRUPTED,
    DAMAGE,
    FATES,
    STUCK,
    SURVIVED,
)
from p2mbatch.store.columns import SCENARIO_COLUMNS

if TYPE_CHECKING:
    import pandas as pd


def ordered(values: Sequence[Any], known: Sequence[str]) -> list[Any]:
    """Return the distinct values, those of `known` in its order, others behind them."""
    found = set(values)
    return [v for v in known if v in found] + sorted(v for v in found if v not in known)


def fates(frame: pd.DataFrame) -> pd.Series[Any]:
    """Return each row's fate: what the outcome is, and whether a survivor was damaged by then.

    `frame` must hold all rows of each cell up to the one in question: damage counts for as long as
    the guest lives on with it.
    """
    if "fate" in frame:
        return frame["fate"]
    damage = frame[list(DAMAGE)].sum(axis=1).groupby(frame["cell"], sort=False).cumsum()
    fate = frame["outcome"].map(BY_OUTCOME).astype(object)
    aborted = frame["detail"].astype(object).str.startswith(ABORTED_DETAIL, na=False)
    fate = fate.mask((fate == STUCK) & aborted.astype(bool), ABORTED)
    return fate.mask((fate == SURVIVED) & (damage > 0), CORRUPTED)


FATE_COLUMNS = ("outcome", "detail", *DAMAGE)
"""The columns of rows that tell their fates."""


def fate_codes(rows: Columns, num_rows: Int64Array) -> Int8Array:
    """Return each row's fate as an index of `FATES`.

    `rows` has `FATE_COLUMNS` of whole cells, of which each has `num_rows`, by migration.
    """
    outcome, detail = rows["outcome"], rows["detail"]
    assert isinstance(outcome, Words) and isinstance(detail, Words)
    plain = [FATES.index(BY_OUTCOME[word]) for word in outcome.words]
    code = np.array([*plain, 0], np.int8)[outcome.codes]
    is_abort = np.array([*(w.startswith(ABORTED_DETAIL) for w in detail.words), False], np.bool_)
    code[(code == FATES.index(STUCK)) & is_abort[detail.codes]] = FATES.index(ABORTED)
    damage = np.zeros(len(code), np.int64)
    for name in DAMAGE:
        column = rows[name]
        assert not isinstance(column, Words)
        # Of a sum only whether it is above zero is asked, and counts may be large.
        damage += column > 0
    total = np.cumsum(damage)
    first = np.cumsum(num_rows) - num_rows
    before = np.repeat((total - damage)[first] if len(total) else total, num_rows)
    code[(code == FATES.index(SURVIVED)) & (total > before)] = FATES.index(CORRUPTED)
    return code


def fate_order(found: Sequence[str]) -> list[str]:
    """Return the fates that were found, in the order in which figures and tables show them."""
    return ordered(found, FATES)


_TELLING = [
    *("cell", "memory_bytes", "word_bytes", "sparsity", "layout", "seed", "outcome"),
    "stray_writes",
]
"""What `telling_cell` goes by: of a million cells' table the rest is not copied."""


def telling_cell(frame: pd.DataFrame) -> pd.Series[Any]:
    """Return the row of the run's cell whose picture explains most, as a row of the table.

    Of the first migrations, rather one that was reported ok with stray writes, rather one of
    four to sixteen mid pages (their links can be told apart), rather a dense guest.
    """
    at = np.flatnonzero(frame["migration"] == 1)
    if not len(at):
        at = np.flatnonzero(frame["migration"] == 0)
    rows = frame[_TELLING].take(at)
    # Where cells are numbers they need not be in order.
    in_turn = ["cell"] if rows["cell"].dtype.kind == "i" else []
    tops = rows["memory_bytes"] / (PAGE_BYTES * (PAGE_BYTES / rows["word_bytes"]) ** 2)
    rank = rows.assign(
        _quiet=(rows["outcome"] != "ok") | (rows["stray_writes"] == 0),
        _far=np.abs(np.log2(tops.clip(lower=1 / 64).to_numpy()) - 3).round(3),
        _at=at,
    )
    for name in ("_quiet", "sparsity", "_far"):
        rank = rank[rank[name] == rank[name].min()]
    rank = rank.sort_values(["layout", "seed", *in_turn], kind="stable")
    found: pd.Series[Any] = frame.iloc[int(rank["_at"].iloc[0])]
    return found


TELLING_AXES = tuple(
    c.name for c in SCENARIO_COLUMNS if c.name not in ("cell", "policy", "migrations")
)


def last_places(frame: pd.DataFrame) -> Int64Array:
    """Return where in `frame` the last row of each cell stands, int64[cells]."""
    cell = frame["cell"].to_numpy()
    if frame["cell"].dtype.kind == "i" and len(cell):
        # Its rows are together and in turn.
        return np.flatnonzero(np.append(cell[1:] != cell[:-1], True))
    last = frame.groupby("cell", sort=False)["migration"].idxmax()
    found: Int64Array = frame.index.get_indexer(frame["cell"].loc[last].index)
    return found


def last_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the last row of each cell: how far it came and how it ended."""
    return frame.take(last_places(frame))


def varies(column: pd.Series[Any]) -> bool:
    """Return whether `column` has more than one value; what has none counts as no value."""
    values = column.cat.codes.to_numpy() if column.dtype == "category" else column.to_numpy()
    if values.dtype.kind not in "iub" or (values[:1] < 0).any():
        return bool(column.nunique() > 1)
    # Of millions of rows to compare them takes a tenth of counting what they have.
    others = values != values[:1]
    if column.dtype == "category":
        others &= values >= 0
    return bool(others.any())


def varying_axes(frame: pd.DataFrame) -> list[str]:
    """Return the scenario columns that have more than one value, in the schema's order.

    Columns that `frame` leaves out have one. Sizes of hosts and neighbours that only follow the
    guest's memory are no axes of their own.
    """
    names = [name for name in TELLING_AXES if name in frame and varies(frame[name])]
    follow = [
        name
        for name in ("host_memory_bytes", "neighbour_memory_bytes")
        if name in names and frame.groupby("memory_bytes")[name].nunique().max() == 1
    ]
    return [name for name in names if name not in follow]


def worst_policy(frame: pd.DataFrame) -> str:
    """Return the policy whose guests came through the smallest part of their migrations."""
    ends = last_rows(frame[["cell", "policy", "migration", "migrations", "outcome"]])
    come_through = ends["migration"] - (ends["outcome"] != "ok")
    reached = (come_through + 1) / (ends["migrations"] + 1.0)
    share = reached.groupby(ends["policy"], observed=True).mean()
    return str(
        min(sorted(share.index, key=policies.sort_key), key=lambda policy: float(share[policy]))
    )


def telling_migration(frame: pd.DataFrame) -> int:
    """Return the migration by which the guests' fates differ most: the first of the widest mix."""
    order = list(FATES)
    code = fates(frame).astype("category").cat.set_categories(order).cat.codes.to_numpy()
    at = frame["migration"].to_numpy()
    is_last = np.zeros(len(frame), np.bool_)
    is_last[last_places(frame)] = True
    best, most = 0, -1.0
    ended = np.zeros(len(order))
    for migration in sorted(np.unique(at))[:50]:
        here = at == migration
        # Those whose life ended before count by how it did.
        counts = ended + np.bincount(code[here], minlength=len(order))
        ended = ended + np.bincount(code[here & is_last], minlength=len(order))
        shares = counts[counts > 0] / counts.sum()
        mixed = float(-(shares * np.log(shares)).sum())
        if mixed > most + 1e-9 or (best == 0 and mixed >= most):
            best, most = int(migration), mixed
    return best
