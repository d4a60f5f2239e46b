"""A result's table as Arrow has it: batches of rows, and of cells with how each ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from p2mbatch.base.words import Column, Words, taken
from p2mbatch.model.fates import FATES
from p2mbatch.store.columns import COLUMNS, SCENARIO_COLUMNS
from p2mbatch.store.fates import fate_codes
from p2mbatch.store.order import Piece, hex_names
from p2mbatch.store.packing import arrow_array

if TYPE_CHECKING:
    import pyarrow as pa


def record_batch(piece: Piece) -> pa.RecordBatch:
    """Return a piece of the table as a batch of `arrow_schema`."""
    import pyarrow as pa

    each = np.repeat(np.arange(len(piece.cells)), piece.num_rows)
    arrays = []
    for column in COLUMNS:
        if column.name == "cell":
            array = hex_names(piece.cells.ids[each])
        elif column.name in piece.rows:
            array = plain_array(piece.rows[column.name])
        else:
            array = plain_array(taken(piece.cells.values[column.name], each))
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema())


def lives_batch(piece: Piece) -> pa.RecordBatch:
    """Return a row for each cell of a piece: its scenario, and how it ended."""
    import pyarrow as pa

    last = np.cumsum(piece.num_rows) - 1
    arrays = [hex_names(piece.cells.ids)]
    arrays += [plain_array(piece.cells.values[c.name]) for c in SCENARIO_COLUMNS[1:]]
    arrays += [plain_array(taken(piece.rows[name], last)) for name in _ENDS]
    codes = fate_codes(piece.rows, piece.num_rows)[last]
    fate = pa.array([FATES[code] for code in codes.tolist()], pa.string())
    return pa.RecordBatch.from_arrays([*arrays, fate], schema=lives_schema())


_ENDS = ("migration", "outcome", "detail")
"""What `cells` has of each cell's last row."""


def lives_schema() -> pa.Schema:
    """Return the schema of `lives_batch`."""
    import pyarrow as pa

    schema = arrow_schema()
    names = [*(c.name for c in SCENARIO_COLUMNS), *_ENDS]
    return pa.schema([*(schema.field(name) for name in names), pa.field("fate", pa.string())])


def plain_array(column: Column) -> pa.Array:
    """Return a column as an Arrow array of its plain type."""
    import pyarrow as pa

    array = arrow_array(column)
    if isinstance(column, Words):
        return array.cast(pa.string())
    return array.cast(pa.int64()) if column.dtype.kind == "i" else array


def arrow_schema() -> pa.Schema:
    """Return the table's Arrow schema; each field's metadata says its unit, kind and meaning."""
    import pyarrow as pa

    types = {"int64": pa.int64(), "float64": pa.float64(), "str": pa.string()}
    return pa.schema(
        [
            pa.field(
                column.name,
                types[column.dtype],
                nullable=column.nullable,
                metadata={"unit": column.unit, "kind": column.kind, "meaning": column.meaning},
            )
            for column in COLUMNS
        ]
    )
