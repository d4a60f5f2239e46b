"""Stores of version 2, whose journal had a row of SQLite for each cell and each row: read only.

They are read by way of a copy in today's tables, in memory and compressed.
"""

from __future__ import annotations

import itertools
import operator
import sqlite3
from pathlib import Path
from typing import Any

from p2mbatch.guests.fields import FIELDS
from p2mbatch.store.blocks import Block, CellResult, block_of
from p2mbatch.store.columns import BY_NAME
from p2mbatch.store.ledger import (
    TABLES,
    Head,
    RunRow,
    SpecRow,
    Tally,
    write_block,
    write_meta,
    write_row,
)
from p2mbatch.store.messages import damaged
from p2mbatch.store.packing import ROW_NAMES, pack

_CHUNK_CELLS = 4096

_KINDS: dict[str, tuple[type, ...]] = {"int64": (int,), "float64": (int, float), "str": (str,)}


def converted(old: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """Return a connection to today's tables with what is in the journal `path` of version 2."""
    new = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    new.executescript(TABLES)
    for table, kind in (("specs", SpecRow), ("runs", RunRow)):
        names = ", ".join(kind._fields)
        for row in old.execute(f"SELECT {names} FROM {table} ORDER BY rowid"):
            write_row(new, table, kind(*row))
    tally = Tally()
    try:
        for number, (block, failed_at) in enumerate(_blocks(old), 1):
            packed = pack(block, failed_at)
            num_rows, num_failed = int(block.num_rows.sum()), len(block.failed.cells)
            head = Head(number, 0, len(block.cells), num_rows, num_failed, packed.checks(), b"")
            mark = write_block(new, head, packed, b"")
            tally = tally.after(mark, block.num_settled)
    except (TypeError, ValueError, OverflowError) as error:
        raise damaged(path, str(error)) from None
    meta = {str(key): value for key, value in old.execute("SELECT key, value FROM meta")}
    write_meta(new, meta, tally)
    return new


def _select(old: sqlite3.Connection, table: str, names: tuple[str, ...]) -> str:
    """Return what selects `names` of a table, with what stores had before there was a column."""
    there = {row[1] for row in old.execute(f"PRAGMA table_info({table})")}
    return ", ".join(name if name in there else _literal(BY_NAME[name].earlier) for name in names)


def _literal(value: int | str) -> str:
    return str(value) if isinstance(value, int) else f"'{value}'"


def _blocks(old: sqlite3.Connection) -> Any:
    """Yield (block, when its failures were) of the journal's cells, then of its failures."""
    of_cells, of_rows = _select(old, "cells", FIELDS), _select(old, "rows", ROW_NAMES)
    cells = old.execute(f"SELECT number, cell, duration_ns, {of_cells} FROM cells ORDER BY number")
    while chunk := cells.fetchmany(_CHUNK_CELLS):
        rows: dict[int, list[tuple[Any, ...]]] = {number: [] for number, *_ in chunk}
        found = old.execute(
            f"SELECT number, {of_rows} FROM rows WHERE number BETWEEN ? AND ? "
            "ORDER BY number, migration",
            (chunk[0][0], chunk[-1][0]),
        )
        for number, *row in found:
            rows[number].append(tuple(row))
        yield (
            _checked(
                [
                    CellResult(cell, tuple(values), rows[number], "", "", duration_ns)
                    for number, cell, duration_ns, *values in chunk
                ]
            ),
            "",
        )
    of_failures = _select(old, "failures", FIELDS)
    failures = old.execute(
        f"SELECT failed_at, cell, error, message, {of_failures} FROM failures ORDER BY failed_at"
    )
    for when, alike in itertools.groupby(failures, key=operator.itemgetter(0)):
        failed = [
            CellResult(cell, tuple(values), [], error, message, 0)
            for _, cell, error, message, *values in alike
        ]
        yield block_of(failed), when


def _checked(results: list[CellResult]) -> Block:
    """Return a block of `results`; ValueError where a value is none of its column's."""
    for names, rows in (
        (FIELDS, [result.values for result in results]),
        (ROW_NAMES, [row for result in results for row in result.rows]),
    ):
        for name, column in zip(names, zip(*rows, strict=True), strict=False):
            known = _KINDS[BY_NAME[name].dtype]
            for value in column:
                if not isinstance(value, known) and not (BY_NAME[name].nullable and value is None):
                    raise ValueError(f"{name} is {value!r}")
    return block_of(results)
