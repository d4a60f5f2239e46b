"""What a batch of cells comes to: rows as columns, and how columns of several parts are joined."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int32Array, Int64Array


class Coded(NamedTuple):
    """A column of few words, each by its number."""

    codes: Int32Array
    """-1: none."""
    words: list[str]


Column = np.ndarray[Any, Any] | Coded


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
    rows: dict[str, Column]
    """The row columns by name, the cells' rows in the order of the cells."""
    failures: list[Failure]

    def as_rows(self) -> list[dict[str, Any]]:
        """Return each row by itself, its values as plain Python ones."""
        columns = [_plain(column) for column in self.rows.values()]
        return [dict(zip(self.rows, row, strict=True)) for row in zip(*columns, strict=True)]


class Part(NamedTuple):
    """Rows of some of a batch's cells."""

    places: Int64Array
    """int64[k]: which cells."""
    num_rows: Int64Array
    duration_ns: Int64Array
    rows: dict[str, Column]


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
    rows = {name: _taken([part.rows[name] for part in having], order) for name in having[0].rows}
    return Lived(num_rows, duration_ns, rows, failures)


def _taken(columns: list[Column], order: Int64Array) -> Column:
    """Return the columns one after the other, their elements put in `order`."""
    coded = [column for column in columns if isinstance(column, Coded)]
    if not coded:
        plain: list[Any] = list(columns)
        return np.concatenate(plain)[order]
    words: dict[str, int] = {}
    codes = []
    for column in coded:
        new = [words.setdefault(word, len(words)) for word in column.words]
        codes.append(np.array([*new, -1], np.int32)[column.codes])
    return Coded(np.concatenate(codes)[order], list(words))


def _plain(column: Column) -> list[Any]:
    """Return the values of a column."""
    if not isinstance(column, Coded):
        return list(column.tolist())
    words: list[str | None] = [*column.words, None]
    return [words[code] for code in column.codes.tolist()]
