"""The table in narrow columns: what figures and reports of a million cells are made from.

A row takes some hundred bytes here and some thousand in `SweepResult.frame`: text is categories,
numbers are as wide as they have to be, a cell is its place in the table's order, and what neither
figures nor tables show is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.words import NULL, Column, Words, joined_words
from p2mbatch.guests.fields import FIELDS
from p2mbatch.model.fates import FATES
from p2mbatch.store.fates import FATE_COLUMNS, fate_codes
from p2mbatch.store.order import Piece, narrow, rank

if TYPE_CHECKING:
    import pandas as pd

ROWS = (
    "migration",
    *FATE_COLUMNS,
    "stray_pages",
    "leaves",
    "structure_overhead",
    "rebuild_ns",
    "save_walk_ns",
    "restore_ns",
)
"""The columns of rows that are kept."""

OF_RELEASES = ("lost_identity_pages", "structure_bytes", "entries_written")
"""Those that are kept too where releases of Linux are compared."""


def compares_releases(linux: Column) -> bool:
    """Return whether cells of these `linux` are of more than one release."""
    assert isinstance(linux, Words)
    names = {linux.words[code] for code in np.unique(linux.codes).tolist()}
    return len(names - {""}) > 1


def compact_frame(
    pieces: Iterable[Piece], order: Int64Array, names: Sequence[str] = ROWS
) -> pd.DataFrame:
    """Return `pieces` as one table: the fields, `names`, `cell` (a number) and `fate`.

    `order` are the indices that put the cells of all pieces in order. A cell's rows are together
    and in turn, the cells themselves as they come: `cell` is where it stands in the order.
    """
    import pandas as pd

    parts: dict[str, list[Any]] = {name: [] for name in (*FIELDS, *names)}
    counts, fates = [], []
    for piece in pieces:
        counts.append(piece.num_rows)
        fates.append(fate_codes(piece.rows, piece.num_rows))
        for name in FIELDS:
            parts[name].append(narrow(piece.cells.values[name]))
        for name in names:
            parts[name].append(narrow(piece.rows[name]))
    num_rows = np.concatenate(counts) if counts else np.zeros(0, np.int64)
    each = np.repeat(np.arange(len(num_rows), dtype=np.int32), num_rows)
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    found: dict[str, Any] = {"cell": place[each]}
    for name in FIELDS:
        found[name] = _series(_joined(parts.pop(name)), each)
    for name in names:
        found[name] = _series(_joined(parts.pop(name)), None)
    codes = np.concatenate(fates) if fates else np.zeros(0, np.int8)
    found["fate"] = pd.Categorical.from_codes(codes, pd.Index(FATES))
    return pd.DataFrame(found, copy=False)


def _joined(parts: list[Any]) -> Any:
    if parts and isinstance(parts[0], Words):
        return joined_words(parts)
    return narrow(np.concatenate(parts)) if parts else np.zeros(0, np.int64)


def _series(column: Any, each: npt.NDArray[Any] | None) -> Any:
    """Return a column as pandas has it, of cells (`each` row's cell) or of rows (None)."""
    import pandas as pd

    if not isinstance(column, Words):
        return _spread(column, each)
    assert NULL == -1  # pandas' own code for nothing
    # A reader wants categories in order, as it sorts them.
    codes: Any = narrow(rank(column))
    words = pd.Index(sorted(column.words))
    return pd.Categorical.from_codes(_spread(codes, each), words)


def _spread(values: npt.NDArray[Any], each: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    """Return values of cells for each row (`each` row's cell), or of rows as they are (None)."""
    if len(values) and (values == values[0]).all():
        # Most fields are alike in all cells: one value does, seen from every row. (pandas copies
        # the codes of categories all the same.)
        return np.broadcast_to(values[0], len(values) if each is None else len(each))
    return values if each is None else values[each]
