"""SweepResult: a sweep's store, open for reading, also while the sweep still runs.

The table has the columns of `store.columns` in that order, one row per cell and migration, sorted
by what the cells are, never by when they were finished: an interrupted sweep, another engine or
another number of threads gives the same table.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from p2mbatch.base.errors import InputError
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.columns import COLUMNS, ROW_COLUMNS, SCENARIO_COLUMNS
from p2mbatch.store.journal import JOURNAL_NAME
from p2mbatch.store.lock import holder_pid
from p2mbatch.store.messages import check_format, damaged, explained

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


_CHUNK_ROWS = 65_536
"""Rows that are held as Python objects at once while a table is read."""

_ORDER = ", ".join(f"c.{c.name}" for c in SCENARIO_COLUMNS if c.name != "cell") + ", c.cell"

_SELECT = (
    "SELECT "
    + ", ".join([f"c.{c.name}" for c in SCENARIO_COLUMNS] + [f"r.{c.name}" for c in ROW_COLUMNS])
    + f" FROM cells c JOIN rows r ON r.number = c.number ORDER BY {_ORDER}, r.migration"
)

_FAILURE_COLUMNS = [*(c.name for c in SCENARIO_COLUMNS), "error", "message", "failed_at"]


class Progress(NamedTuple):
    """How far the work on a store has come."""

    state: str
    """ "running", "complete", "interrupted" (stopped or killed) or "empty"."""
    pid: int | None
    """The process at work, None where there is none."""
    num_cells: int
    """Cells of all specs of the store, at most: those that two specs share count in each."""
    num_settled: int
    """Of those, the ones that are finished or failed."""
    num_finished: int
    """Distinct finished cells in the store."""
    num_failed: int
    num_rows: int


class SweepResult:
    """The results under `path`, read-only; `SweepResult.open` makes it.

    Every property reads the store when it is first used and then keeps what it read; `refresh`
    forgets it, so that more of a sweep that still runs is seen.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        """The store's directory."""
        self.journal_path = path / JOURNAL_NAME

    @classmethod
    def open(cls, path: str | Path) -> SweepResult:
        """Return the results of the sweep whose `--out` was `path`.

        Raises `InputError` where there is no store, or one that this version can't read.
        """
        result = cls(Path(path))
        if not result.journal_path.is_file():
            raise InputError(f"{path}: no sweep's results are here ({JOURNAL_NAME} is missing)")
        with result._connected() as connection:
            check_format(connection, result.journal_path)
        return result

    def __repr__(self) -> str:
        progress = self.progress
        return (
            f"SweepResult({str(self.path)!r}: {progress.state}, {progress.num_finished} cells, "
            f"{progress.num_failed} failed)"
        )

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with explained(self.journal_path):
            uri = self.journal_path.resolve().as_uri()
            if os.access(self.path, os.W_OK) and os.access(self.journal_path, os.W_OK):
                # A connection that could write clears the write-ahead log away when it is the last.
                uri += "?mode=rw"
            elif self._has_log():
                uri += "?mode=ro"
            else:
                # The log's index can't be made here; the file is whole without it.
                uri += "?mode=ro&immutable=1"
            with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=30)) as connection:
                _show_later_columns(connection)
                connection.execute("PRAGMA query_only = ON")
                yield connection

    def _has_log(self) -> bool:
        log = self.journal_path.with_name(JOURNAL_NAME + "-wal")
        return log.exists() and log.stat().st_size > 0

    def refresh(self) -> None:
        """Forget what was read, so that the next use reads the store as it is then."""
        for name in ("frame", "failures", "provenance", "spec", "specs", "progress"):
            self.__dict__.pop(name, None)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the table in order as Arrow record batches, in bounded memory."""
        import pyarrow as pa

        schema = arrow_schema()
        with self._connected() as connection:
            cursor = connection.execute(_SELECT)
            while chunk := cursor.fetchmany(_CHUNK_ROWS):
                arrays = [
                    self._array(values, field)
                    for values, field in zip(zip(*chunk, strict=True), schema, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _array(self, values: Sequence[Any], field: pa.Field) -> pa.Array:
        """Return one column's values; raises `InputError` where they are not the column's."""
        import pyarrow as pa

        try:
            array = pa.array(values, type=field.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise damaged(self.journal_path, f"{field.name}: {error}") from None
        if array.null_count and not field.nullable:
            raise damaged(self.journal_path, f"{field.name} is missing in a row")
        return array

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the table's rows in order as plain tuples."""
        with self._connected() as connection:
            yield from connection.execute(_SELECT)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The table: one row per cell and migration, the columns of `store.columns`."""
        import pyarrow as pa

        table = pa.Table.from_batches(self.batches(), schema=arrow_schema())
        frame: pd.DataFrame = table.to_pandas(self_destruct=True, split_blocks=True)
        return frame

    @cached_property
    def failures(self) -> pd.DataFrame:
        """The cells that failed: their scenario, `error`, `message` and `failed_at`."""
        import pandas as pd

        with self._connected() as connection:
            columns = ", ".join(f"c.{name}" for name in _FAILURE_COLUMNS)
            found = connection.execute(f"SELECT {columns} FROM failures c ORDER BY {_ORDER}")
            return pd.DataFrame(found.fetchall(), columns=_FAILURE_COLUMNS)

    @cached_property
    def specs(self) -> list[SweepSpec]:
        """The specs whose cells the store is for, the first first; more than one by --extend."""
        with self._connected() as connection:
            found = connection.execute("SELECT spec, source FROM specs ORDER BY rowid").fetchall()
            return [SweepSpec.from_dict(_plain(text), source) for text, source in found]

    @cached_property
    def spec(self) -> SweepSpec:
        """The store's spec; where it was extended, all sections of all its specs as one."""
        specs = self.specs
        if not specs:
            raise InputError(f"{self.path}: no spec was entered into this store yet")
        if len(specs) == 1:
            return specs[0]
        parts = [spec.to_dict() for spec in specs]
        merged: dict[str, list[Any]] = {
            key: [entry for part in parts for entry in part[key]]
            for key in ("grid", "cells", "sample")
        }
        questions = dict.fromkeys(part["question"] for part in parts if part["question"])
        return SweepSpec.from_dict({"question": " ".join(questions), **merged}, str(self.path))

    @cached_property
    def policies(self) -> dict[str, str]:
        """The text of each policy of the user's own that wrote rows, by its name in the tables."""
        found: dict[str, str] = {}
        with self._connected() as connection:
            for (text,) in connection.execute("SELECT provenance FROM runs ORDER BY run"):
                found |= _plain(text).get("policies", {})
        return found

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Where the rows come from: the last run's provenance, and "specs" and "runs" of all.

        Keys as in `p2mbatch.base.provenance.collect`, and "started_at" of the first run,
        "ended_at" of the last (None while it runs). JSON values only.
        """
        with self._connected() as connection:
            meta = dict(connection.execute("SELECT key, value FROM meta"))
            specs = connection.execute(
                "SELECT digest, source, added_at, num_cells, spec FROM specs ORDER BY rowid"
            ).fetchall()
            runs = connection.execute(
                "SELECT started_at, ended_at, state, spec, provenance FROM runs ORDER BY run"
            ).fetchall()
            details = [
                {
                    "started_at": start,
                    "ended_at": end,
                    "state": state,
                    "spec": spec,
                    **_plain(text),
                }
                for start, end, state, spec, text in runs
            ]
            plain = [_plain(row[4]) for row in specs]
        keys = ("digest", "source", "added_at", "num_cells")
        return {
            **(details[-1] if details else {}),
            "started_at": details[0]["started_at"] if details else None,
            "resident": meta.get("resident"),
            "spec": plain[-1] if plain else None,
            "specs": [
                {**dict(zip(keys, row, strict=False)), "spec": spec}
                for row, spec in zip(specs, plain, strict=True)
            ],
            "runs": details,
        }

    @cached_property
    def progress(self) -> Progress:
        """How far the sweep has come."""
        with self._connected() as connection:

            def value(query: str) -> int:
                return int(connection.execute(query).fetchone()[0] or 0)

            num_cells = value("SELECT SUM(num_cells) FROM specs")
            settled = value("SELECT SUM(num_done) FROM specs")
            incomplete = value("SELECT COUNT(*) FROM specs WHERE NOT complete")
            finished = value("SELECT COUNT(*) FROM cells")
            failed = value("SELECT COUNT(*) FROM failures")
            num_rows = value("SELECT COUNT(*) FROM rows")
        pid = holder_pid(self.path)
        if pid is not None:
            state = "running"
        elif num_cells == 0:
            state = "empty"
        else:
            state = "interrupted" if incomplete else "complete"
        return Progress(state, pid, num_cells, settled, finished, failed, num_rows)

    @property
    def num_failed(self) -> int:
        """How many cells failed."""
        return self.progress.num_failed

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Return what the SELECT `sql` finds over the tables `cells`, `rows` and `failures`.

        `cells.number` = `rows.number`; other columns as in `store.columns`. Raises `InputError`
        for one that is none.
        """
        with self._connected() as connection:
            try:
                return connection.execute(sql).fetchall()
            except sqlite3.OperationalError as error:
                if getattr(error, "sqlite_errorname", "") != "SQLITE_ERROR":
                    raise
                raise InputError(f"{self.path}: not a query of its tables: {error}") from None


_TABLES = {"cells": SCENARIO_COLUMNS, "rows": ROW_COLUMNS, "failures": SCENARIO_COLUMNS}


def _show_later_columns(connection: sqlite3.Connection) -> None:
    """Let the tables of a store that is older than some columns be read as if it had these."""
    for table, columns in _TABLES.items():
        found = {row[1] for row in connection.execute(f"PRAGMA main.table_info({table})")}
        later = [column for column in columns if found and column.name not in found]
        if later:
            added = ", ".join(f"{_literal(column.earlier)} AS {column.name}" for column in later)
            # A temporary view is found before a table of its name.
            connection.execute(f"CREATE TEMP VIEW {table} AS SELECT *, {added} FROM main.{table}")


def _literal(value: int | str) -> str:
    return str(value) if isinstance(value, int) else f"'{value}'"


def _plain(text: Any) -> Any:
    """Return the JSON value that a store's column holds; what is no text is no JSON either."""
    return json.loads(text if isinstance(text, str) else "")


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
