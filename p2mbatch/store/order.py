"""A store's rows in the order of what their cells are, out of blocks in the order of finishing.

What the cells are is held, some dozen bytes each; rows are gathered from the blocks a piece at a
time, so that a table may be larger than the memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int32Array, Int64Array, UInt8Array
from p2mbatch.base.words import NULL, Column, Columns, Words, plain, taken
from p2mbatch.guests.fields import FIELDS
from p2mbatch.store.blocks import Cells, joined_cells, some_cells
from p2mbatch.store.columns import BY_NAME
from p2mbatch.store.ledger import Head, read_parts
from p2mbatch.store.packing import ROW_NAMES, ids_of, unpack_columns


class Missing(Exception):
    """A block's parts are not as they were written."""


class Shelf(NamedTuple):
    """All finished cells of a store, and where their rows are."""

    cells: Cells
    duration_ns: Int64Array
    num_rows: Int64Array
    block: Int32Array
    """Which of the store's heads each is in."""
    first_row: Int64Array
    """Where its rows begin there."""


class Piece(NamedTuple):
    """Some cells in order, with all their rows."""

    cells: Cells
    num_rows: Int64Array
    rows: Columns


def read_shelf(connection: sqlite3.Connection, heads: Sequence[Head]) -> Shelf:
    """Return the finished cells of the blocks `heads`; raises `Missing`."""
    parts, durations, counts, blocks, firsts = [], [], [], [], []
    for number, head in enumerate(heads):
        if not head.num_cells:
            continue
        found = read_parts(connection, head, ["ids", "cells"])
        if found is None:
            raise Missing
        columns = with_later(unpack_columns(found[1]), head.num_cells)
        durations.append(plain(columns.pop("duration_ns")))
        counts.append(plain(columns.pop("num_rows")).astype(np.int64))
        values = {n: narrow(c) if n in FIELDS else c for n, c in columns.items()}
        parts.append(Cells(ids_of(found[0])[: head.num_cells], values))
        blocks.append(np.full(head.num_cells, number, np.int32))
        firsts.append(np.cumsum(counts[-1]) - counts[-1])
    if not parts:
        none = np.zeros(0, np.int64)
        return Shelf(no_cells(), none, none, np.zeros(0, np.int32), none)
    return Shelf(
        joined_cells(parts),
        np.concatenate(durations),
        np.concatenate(counts),
        np.concatenate(blocks),
        np.concatenate(firsts),
    )


def narrow(column: Column) -> Column:
    """Return whole numbers in the narrowest type that holds them; anything else as it is."""
    if isinstance(column, Words) or column.dtype.kind != "i" or not len(column):
        return column
    low, high = int(column.min()), int(column.max())
    for dtype in (np.int8, np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return column.astype(dtype)
    return column


def no_cells() -> Cells:
    """Return the columns of no cell."""
    return Cells(np.zeros((0, 16), np.uint8), with_later({}, 0))


def with_later(columns: Columns, length: int, names: Collection[str] = FIELDS) -> Columns:
    """Return `columns` with what stores had that are older than some of `names`."""
    for name in names:
        if name not in columns:
            earlier = BY_NAME[name].earlier
            if isinstance(earlier, str):
                columns[name] = Words(np.zeros(length, np.int32), [earlier])
            else:
                columns[name] = np.full(length, earlier, BY_NAME[name].dtype)
    return columns


def sort_cells(cells: Cells) -> Int64Array:
    """Return the indices of `cells` in the order of their values, FIELDS by FIELDS, then ids."""
    keys: list[Any] = [rank(cells.values[name]) for name in FIELDS]
    keys += list(np.ascontiguousarray(cells.ids).view(">u8").T)
    varying = [key for key in keys if len(key) and (key != key[0]).any()]
    if not varying:
        return np.arange(len(cells))
    # Two keys tell most cells of large tables apart; the others put the rest in order.
    first = varying[:2]
    order: Int64Array = np.lexsort(first[::-1])
    same = np.ones(len(order) - 1, np.bool_)
    for key in first:
        ordered = key[order]
        same &= ordered[1:] == ordered[:-1]
    tied = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
    of_tied = order[tied]
    order[tied] = of_tied[np.lexsort([key[of_tied] for key in varying[::-1]])]
    return order


def rank(column: Column) -> Any:
    """Return numbers that sort as the values of `column` do."""
    if not isinstance(column, Words):
        return column
    found = np.zeros(len(column.words) + 1, np.int32)
    found[np.array(sorted(range(len(column.words)), key=column.words.__getitem__), np.intp)] = (
        np.arange(len(column.words))
    )
    found[NULL] = NULL
    return found[column.codes]


def pieces(
    connection: sqlite3.Connection,
    heads: Sequence[Head],
    shelf: Shelf,
    order: Int64Array,
    max_rows: int,
    names: Collection[str] = ROW_NAMES,
) -> Iterator[Piece]:
    """Yield the cells `order` of `shelf` with their rows' columns `names`, `max_rows` at a time.

    A cell's rows are never parted, so that a piece may have more. Raises `Missing`.
    """
    ends = np.cumsum(shelf.num_rows[order])
    first = 0
    while first < len(order):
        base = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, base + max_rows, "right")), first + 1)
        chosen = order[first:last]
        rows = _gather(connection, heads, shelf, chosen, names)
        yield Piece(some_cells(shelf.cells, chosen), shelf.num_rows[chosen], rows)
        first = last


def blocks(
    connection: sqlite3.Connection, heads: Sequence[Head], names: Collection[str]
) -> Iterator[Piece]:
    """Yield the blocks as they are, with their rows' columns `names`; raises `Missing`."""
    for head in heads:
        if not head.num_cells:
            continue
        found = read_parts(connection, head, ["ids", "cells", "rows"])
        if found is None:
            raise Missing
        columns = with_later(unpack_columns(found[1]), head.num_cells)
        counts = plain(columns.pop("num_rows")).astype(np.int64)
        rows = with_later(unpack_columns(found[2], names), head.num_rows, names)
        yield Piece(Cells(ids_of(found[0])[: head.num_cells], columns), counts, rows)


def _gather(
    connection: sqlite3.Connection,
    heads: Sequence[Head],
    shelf: Shelf,
    chosen: Int64Array,
    names: Collection[str],
) -> Columns:
    """Return the rows of the cells `chosen`, cell after cell."""
    counts, blocks = shelf.num_rows[chosen], shelf.block[chosen]
    starts = np.cumsum(counts) - counts
    total = int(counts.sum())
    found: Columns = {
        name: Words(np.full(total, NULL, np.int32), [])
        if BY_NAME[name].dtype == "str"
        else np.zeros(total, BY_NAME[name].dtype)
        for name in names
    }
    by_block = np.argsort(blocks, kind="stable")
    for group in np.split(by_block, np.flatnonzero(np.diff(blocks[by_block])) + 1):
        head = heads[int(blocks[group[0]])]
        data = read_parts(connection, head, ["rows"])
        if data is None:
            raise Missing
        columns = with_later(unpack_columns(data[0], names), head.num_rows, names)
        source = spread(shelf.first_row[chosen[group]], counts[group])
        target = spread(starts[group], counts[group])
        for name in names:
            _put(found[name], target, taken(columns[name], source))
    return found


def spread(firsts: Int64Array, counts: Int64Array) -> Int64Array:
    """Return firsts[0], firsts[0] + 1, … `counts[0]` of them, then those of the next."""
    total = int(counts.sum())
    shift = np.repeat(firsts - (np.cumsum(counts) - counts), counts)
    found: Int64Array = np.arange(total) + shift
    return found


def _put(into: Column, at: Int64Array, values: Column) -> None:
    """Write `values` into the entries `at` of a column."""
    if not isinstance(into, Words):
        into[at] = values
        return
    assert isinstance(values, Words)
    known = {word: code for code, word in enumerate(into.words)}
    codes = [known.setdefault(word, len(known)) for word in values.words]
    into.words[:] = known
    into.codes[at] = np.array([*codes, NULL], np.int32)[values.codes]


def hex_names(ids: UInt8Array) -> Any:
    """Return ids as an Arrow array of the text that people see."""
    import pyarrow as pa

    offsets = np.arange(len(ids) + 1, dtype=np.int32) * 32
    text = np.ascontiguousarray(ids).tobytes().hex().encode()
    return pa.StringArray.from_buffers(len(ids), pa.py_buffer(offsets), pa.py_buffer(text))
