"""What a batch of cells comes to: rows as columns, and how columns of several parts are joined."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int32Array, Int64Array
from p2mbatch.base.words import Columns, joined_columns, taken, values_in


class Failure(NamedTuple):
    """A cell that could not be lived."""

    cell: int
    """Its place in the batch."""
    error: str
    message: str


class Lived(NamedTuple):
    """What a batch of cells came to."""

    num_rows: Int32Array
    """int32[cells]: 0 for one that failed."""
    duration_ns: Int64Array
    """int64[cells]."""
    rows: Columns
    """The row columns by name, the cells' rows in the order of the cells."""
    failures: list[Failure]

    def as_rows(self) -> list[dict[str, Any]]:
        """Return each row by itself, its values as plain Python ones."""
        columns = [values_in(column) for column in self.rows.values()]
        return [dict(zip(self.rows, row, strict=True)) for row in zip(*columns, strict=True)]


class Part(NamedTuple):
    """Rows of some of a batch's cells."""

    places: Int64Array
    """int64[k]: which cells."""
    num_rows: Int64Array
    duration_ns: Int64Array
    rows: Columns


def joined(num_cells: int, parts: list[Part], failures: list[Failure]) -> Lived:
    """Return the rows of all parts in the order of the cells."""
    num_rows = np.zeros(num_cells, np.int32)
    duration_ns = np.zeros(num_cells, np.int64)
    for part in parts:
        num_rows[part.places] = part.num_rows
        duration_ns[part.places] = part.duration_ns
    having = [part for part in parts if part.rows]
    if not having:
        return Lived(num_rows, duration_ns, {}, failures)
    if len(having) == 1:
        return Lived(num_rows, duration_ns, having[0].rows, failures)
    cell = np.concatenate([np.repeat(part.places, part.num_rows) for part in having])
    order = np.argsort(cell, kind="stable")
    joint = joined_columns([part.rows for part in having])
    rows = {name: taken(column, order) for name, column in joint.items()}
    return Lived(num_rows, duration_ns, rows, failures)
