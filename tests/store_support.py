"""What tests do to a finished store: other values with right digests, the tables of version 2."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p2mbatch.base.filenames import JOURNAL_NAME
from p2mbatch.base.words import Columns, Words
from p2mbatch.guests.fields import FIELDS
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.blocks import CellResult
from p2mbatch.store.columns import ROW_COLUMNS, SCENARIO_COLUMNS
from p2mbatch.store.ledger import HEAD, Head, Tally, read_ledger, write_block, write_meta
from p2mbatch.store.lock import LOCK_NAME
from p2mbatch.store.messages import APPLICATION_ID
from p2mbatch.store.packing import Packed, pack_columns, unpack_columns

Change = Callable[[Columns, Columns], None]


def rewrite(store: Path, change: Change) -> None:
    """Let `change` change the columns of cells and rows of each block, and mend the digests."""
    with sqlite3.connect(store / JOURNAL_NAME) as connection:
        ledger = read_ledger(connection, None)
        origins = {run.run: run.origin() for run in ledger.runs} | {0: b""}
        tally = Tally()
        found = connection.execute(f"SELECT {HEAD}, ids, cells, failed, rows FROM blocks")
        for row in found.fetchall():
            head, packed = Head(*row[: len(Head._fields)]), Packed(*row[len(Head._fields) :])
            cells, rows = unpack_columns(packed.cells), unpack_columns(packed.rows)
            change(cells, rows)
            packed = packed._replace(cells=pack_columns(cells), rows=pack_columns(rows))
            number = len(next(iter(rows.values()))) if rows else 0
            head = head._replace(num_rows=number, checks=packed.checks())
            connection.execute("DELETE FROM blocks WHERE number = ?", (head.number,))
            mark = write_block(connection, head, packed, origins[head.run])
            tally = tally.after(mark, head.num_cells + head.num_failed)
        tally = tally._replace(num_changes=ledger.tally.num_changes)
        write_meta(connection, ledger.meta, tally)
    connection.close()


def tamper(store: Path, column: str, value: Any, row: int = 5) -> int:
    """Change one value of a finished store of one block; return the row's migration."""
    migrations: list[int] = []

    def change(cells: Columns, rows: Columns) -> None:
        found = rows[column]
        if isinstance(found, Words):
            codes = found.codes.copy()
            codes[row] = len(found.words)
            rows[column] = Words(codes, [*found.words, value])
        else:
            rows[column] = found.copy()
            rows[column][row] = value  # type: ignore[index]
        migrations.append(int(rows["migration"][row]))  # type: ignore[call-overload]

    rewrite(store, change)
    return migrations[0]


def without_row(store: Path, row: int) -> None:
    """Take a row out of a finished store of one block."""

    def change(cells: Columns, rows: Columns) -> None:
        num_rows = np.array(cells["num_rows"])
        num_rows[np.searchsorted(np.cumsum(num_rows), row, "right")] -= 1
        cells["num_rows"] = num_rows
        for name, column in rows.items():
            if isinstance(column, Words):
                rows[name] = Words(np.delete(column.codes, row), column.words)
            else:
                rows[name] = np.delete(column, row)

    rewrite(store, change)


_TYPES = {"int64": "INTEGER", "float64": "REAL", "str": "TEXT"}


def _declare(names: Sequence[str]) -> str:
    columns = {column.name: column for column in (*SCENARIO_COLUMNS, *ROW_COLUMNS)}
    return ", ".join(
        f"{name} {_TYPES[columns[name].dtype]}{'' if columns[name].nullable else ' NOT NULL'}"
        for name in names
    )


def write_older(
    directory: Path, spec: SweepSpec, results: Sequence[CellResult], details: dict[str, Any]
) -> None:
    """Write a store as version 2 was: a row of SQLite for each cell and each row."""
    fields, names = list(FIELDS), [column.name for column in ROW_COLUMNS]
    directory.mkdir(parents=True)
    (directory / LOCK_NAME).write_text("12345\n")
    with sqlite3.connect(directory / JOURNAL_NAME) as connection:
        connection.executescript(f"""
            CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
            CREATE TABLE specs (digest TEXT PRIMARY KEY, spec TEXT NOT NULL, source TEXT NOT NULL,
                added_at TEXT NOT NULL, num_cells INTEGER NOT NULL, num_done INTEGER NOT NULL,
                settled_prefix INTEGER NOT NULL, complete INTEGER NOT NULL);
            CREATE TABLE runs (run INTEGER PRIMARY KEY, spec TEXT NOT NULL, started_at TEXT NOT
                NULL, ended_at TEXT, state TEXT NOT NULL, provenance TEXT NOT NULL);
            CREATE TABLE cells (number INTEGER PRIMARY KEY, cell TEXT NOT NULL UNIQUE,
                {_declare(fields)}, duration_ns INTEGER NOT NULL);
            CREATE TABLE rows (number INTEGER NOT NULL, {_declare(names)},
                PRIMARY KEY (number, migration)) WITHOUT ROWID;
            CREATE TABLE failures (cell TEXT PRIMARY KEY, {_declare(fields)}, error TEXT NOT NULL,
                message TEXT NOT NULL, failed_at TEXT NOT NULL);
            PRAGMA application_id = {APPLICATION_ID};
            PRAGMA user_version = 2;
        """)

        def insert(table: str, *values: Any) -> None:
            marks = ", ".join("?" * len(values))
            connection.execute(f"INSERT INTO {table} VALUES ({marks})", values)

        for pair in (
            ("model_version", "2"),
            ("resident", "auto"),
            ("cell_ids", "without defaults"),
        ):
            insert("meta", *pair)
        text, when = json.dumps(spec.to_dict()), "2026-11-01T00:00:00Z"
        num = len(results)
        insert("specs", spec.digest, text, spec.source, when, spec.num_cells, num, num, 0)
        insert("runs", 1, spec.digest, when, when, "interrupted", json.dumps(details))
        for number, one in enumerate(results, 1):
            if one.error:
                insert("failures", one.cell, *one.values, one.error, one.message, when)
                continue
            insert("cells", number, one.cell, *one.values, one.duration_ns)
            for row in one.rows:
                insert("rows", number, *row)
    connection.close()
