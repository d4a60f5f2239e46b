"""Blocks: cells and their rows as columns, from the engine to the journal.

Plain numpy, so that a worker elsewhere sends them without anything else installed there. Text is a
column of codes beside its few words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from p2mbatch.base.arrays import Int32Array, Int64Array, UInt8Array
from p2mbatch.base.words import (
    Column,
    Columns,
    Words,
    joined_columns,
    joined_words,
    taken,
    words_of,
)
from p2mbatch.guests.fields import FIELDS
from p2mbatch.spec.sections import Values
from p2mbatch.store.columns import BY_NAME, ROW_COLUMNS


class Cells(NamedTuple):
    """Cells as columns."""

    ids: UInt8Array
    """uint8[n, 16]: the cells' ids, whose hex digits are what people see."""
    values: Columns
    """Their canonical values by the names of `fields.FIELDS`, n each."""

    def __len__(self) -> int:
        return len(self.ids)

    def names(self) -> list[str]:
        """Return the ids as people see them."""
        text = self.ids.tobytes().hex()
        return [text[at : at + 32] for at in range(0, len(text), 32)]


class Failed(NamedTuple):
    """Cells that failed, and with what."""

    cells: Cells
    error: Words
    """The kind of failure, such as "MemoryError"."""
    message: Words


class Block(NamedTuple):
    """Finished cells with their rows, and cells that failed: what one transaction writes."""

    cells: Cells
    duration_ns: Int64Array
    num_rows: Int32Array
    """How many rows each cell has."""
    rows: Columns
    """By the names of `columns.ROW_COLUMNS`: all rows of the first cell, then the next one's."""
    failed: Failed

    @property
    def num_settled(self) -> int:
        """How many cells it has, failed ones too."""
        return len(self.cells) + len(self.failed.cells)


class CellResult(NamedTuple):
    """What became of one cell."""

    cell: str
    """The cell's id."""
    values: Values
    """Its canonical values, in the order of `fields.FIELDS`."""
    rows: list[tuple[Any, ...]]
    """One tuple per row in the order of `columns.ROW_COLUMNS`; empty where the cell failed."""
    error: str
    """The kind of failure, such as "MemoryError"; empty where there was none."""
    message: str
    duration_ns: int


NO_ROWS: Columns = {
    column.name: words_of(()) if column.dtype == "str" else np.zeros(0, column.dtype)
    for column in ROW_COLUMNS
}
"""Every row column, with nothing in it."""


def column_of(name: str, values: Sequence[Any]) -> Column:
    """Return the values of the results' column `name` as a column."""
    dtype = BY_NAME[name].dtype
    return words_of(values) if dtype == "str" else np.array(values, dtype)


def cells_of(ids: Sequence[str], values: Sequence[Values]) -> Cells:
    """Return cells given one by one as columns."""
    by_field = zip(*values, strict=True) if values else [()] * len(FIELDS)
    columns = {n: column_of(n, column) for n, column in zip(FIELDS, by_field, strict=True)}
    return Cells(np.frombuffer(bytes.fromhex("".join(ids)), np.uint8).reshape(-1, 16), columns)


def block_of(results: Sequence[CellResult]) -> Block:
    """Return what became of cells one by one as a block."""
    done = [result for result in results if not result.error]
    failed = [result for result in results if result.error]
    rows = [row for result in done for row in result.rows]
    by_column = zip(*rows, strict=True) if rows else [()] * len(ROW_COLUMNS)
    return Block(
        cells_of([r.cell for r in done], [r.values for r in done]),
        np.array([r.duration_ns for r in done], np.int64),
        np.array([len(r.rows) for r in done], np.int32),
        {c.name: column_of(c.name, v) for c, v in zip(ROW_COLUMNS, by_column, strict=True)},
        Failed(
            cells_of([r.cell for r in failed], [r.values for r in failed]),
            words_of(r.error for r in failed),
            words_of(r.message for r in failed),
        ),
    )


def some_cells(cells: Cells, at: npt.NDArray[Any]) -> Cells:
    """Return the cells `at` (indices or a mask)."""
    values = {name: taken(column, at) for name, column in cells.values.items()}
    return Cells(cells.ids[at], values)


def failed_block(cells: Cells, errors: Sequence[str], messages: Sequence[str]) -> Block:
    """Return a block of `cells` that all failed."""
    none = np.zeros(0, np.int64)
    failed = Failed(cells, words_of(errors), words_of(messages))
    return Block(some_cells(cells, none), none, np.zeros(0, np.int32), dict(NO_ROWS), failed)


def joined(blocks: Sequence[Block]) -> Block:
    """Return the cells of `blocks`, of which there is at least one, as one block."""
    if len(blocks) == 1:
        return blocks[0]
    return Block(
        joined_cells([block.cells for block in blocks]),
        np.concatenate([block.duration_ns for block in blocks]),
        np.concatenate([block.num_rows for block in blocks]),
        joined_columns([block.rows for block in blocks]),
        joined_failed([block.failed for block in blocks]),
    )


def joined_failed(parts: Sequence[Failed]) -> Failed:
    """Return failed cells, of which there is at least one part, one behind the other."""
    return Failed(
        joined_cells([part.cells for part in parts]),
        joined_words([part.error for part in parts]),
        joined_words([part.message for part in parts]),
    )


def joined_cells(parts: Sequence[Cells]) -> Cells:
    """Return the cells of `parts`, of which there is at least one, one behind the other."""
    ids = np.concatenate([part.ids for part in parts])
    return Cells(ids, joined_columns([part.values for part in parts]))
