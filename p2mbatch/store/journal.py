"""The result store on disk: a SQLite journal with one writer, in which only finished cells are.

A store is a directory. `journal.sqlite` holds the cells, their rows and the failures; `lock` is
held by the one process that writes. A transaction carries whole cells and is on disk (WAL,
synchronous=FULL) before it counts as done, so a process that dies loses only what it had not yet
said was finished.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from p2mbatch._version import MODEL_CHANGE, MODEL_VERSION
from p2mbatch.base import provenance
from p2mbatch.base.errors import InputError
from p2mbatch.spec.sections import Values
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.columns import ROW_COLUMNS, SCENARIO_COLUMNS, Column
from p2mbatch.store.lock import LOCK_NAME, hold_lock
from p2mbatch.store.messages import APPLICATION_ID, STORE_VERSION, check_format, damaged, explained

JOURNAL_NAME = "journal.sqlite"

_MAX_CHECKED_BYTES = 1 << 30
"""Journals up to this size are checked from end to end before they are written to."""

_SQL_TYPES = {"int64": "INTEGER", "float64": "REAL", "str": "TEXT"}

_CELL_IDS = "without defaults"
"""What the cells' ids are digests of; stores that do not say so are older and only read."""

_CELL_COLUMNS = tuple(column for column in SCENARIO_COLUMNS if column.name != "cell")


def _declare(columns: Iterable[Column]) -> str:
    return ", ".join(
        f"{c.name} {_SQL_TYPES[c.dtype]}{'' if c.nullable else ' NOT NULL'}" for c in columns
    )


_TABLES = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE specs (
    digest TEXT PRIMARY KEY, spec TEXT NOT NULL, source TEXT NOT NULL, added_at TEXT NOT NULL,
    num_cells INTEGER NOT NULL, num_done INTEGER NOT NULL, settled_prefix INTEGER NOT NULL,
    complete INTEGER NOT NULL
);
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, spec TEXT NOT NULL, started_at TEXT NOT NULL, ended_at TEXT,
    state TEXT NOT NULL, provenance TEXT NOT NULL
);
CREATE TABLE cells (
    number INTEGER PRIMARY KEY, cell TEXT NOT NULL UNIQUE, {_declare(_CELL_COLUMNS)},
    duration_ns INTEGER NOT NULL
);
CREATE TABLE rows (
    number INTEGER NOT NULL, {_declare(ROW_COLUMNS)},
    PRIMARY KEY (number, migration)
) WITHOUT ROWID;
CREATE TABLE failures (
    cell TEXT PRIMARY KEY, {_declare(_CELL_COLUMNS)},
    error TEXT NOT NULL, message TEXT NOT NULL, failed_at TEXT NOT NULL
);
"""


def _insert(table: str, num_columns: int, verb: str = "INSERT") -> str:
    return f"{verb} INTO {table} VALUES ({', '.join('?' * num_columns)})"


_INSERT_CELL = _insert("cells", len(_CELL_COLUMNS) + 3)

_INSERT_ROW = _insert("rows", len(ROW_COLUMNS) + 1)

_INSERT_FAILURE = _insert("failures", len(_CELL_COLUMNS) + 4, "INSERT OR REPLACE")


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


def _logs_of(path: Path) -> tuple[Path, Path]:
    """Return the files that SQLite keeps beside a journal while it is open."""
    return path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


class Journal:
    """The store at `directory`, open for writing by this process alone.

    Made by `Journal.open`; a context manager. Every method raises `ResourceError` or `InputError`
    with one line where the disk or the file says no.
    """

    def __init__(
        self, directory: Path, lock: IO[str], connection: sqlite3.Connection, made: Sequence[Path]
    ) -> None:
        self.directory = directory
        self._made = made
        self._is_used = False
        self.path = directory / JOURNAL_NAME
        self._lock = lock
        self._connection = connection
        self._run = 0
        self._spec_digest = ""

    @classmethod
    def open(cls, directory: Path) -> Journal:
        """Open the store at `directory` for writing, or make it; nothing else may be there."""
        path = directory / JOURNAL_NAME
        made = [found for found in (path, directory) if not found.exists()]
        try:
            if directory.exists() and not directory.is_dir():
                raise InputError(f"{directory}: is a file: --out names a directory")
            if directory.is_dir() and not path.exists() and _foreign_files(directory):
                raise InputError(
                    f"{directory}: holds other files and no store: use a new directory as --out"
                )
            directory.mkdir(parents=True, exist_ok=True)
            lock = hold_lock(directory)
        except OSError as error:
            raise InputError(
                f"{directory}: can't be written ({error.strerror}): use another --out"
            ) from None
        try:
            with explained(path):
                connection = sqlite3.connect(path, isolation_level=None, timeout=30)
                try:
                    _prepare(connection, path)
                except BaseException:
                    connection.close()
                    raise
        except BaseException:
            lock.close()
            raise
        return cls(directory, lock, connection, made)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        if kind is not None and self.path in self._made and not self._is_used:
            self._discard()
        self.close()

    def _discard(self) -> None:
        """Take away the store that was made for a sweep that could not start."""
        with contextlib.suppress(OSError):
            for path in (self.path, *_logs_of(self.path), self.directory / LOCK_NAME):
                path.unlink(missing_ok=True)
            if self.directory in self._made:
                self.directory.rmdir()

    def close(self) -> None:
        """Fold the write-ahead log into the file and let go of the store."""
        with contextlib.suppress(sqlite3.Error):
            # Nothing is lost if this fails, on a full disk say: the log is read with the file.
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
        self._lock.close()

    def _meta(self, key: str) -> str | None:
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def admit(self, spec: SweepSpec, *, resident: str, extend: bool) -> None:
        """Enter `spec`, or find that it is the store's; raises `InputError` for another one.

        With `extend` another spec is added beside those there are.
        """
        with explained(self.path), self._transaction():
            is_new = self._meta("model_version") is None
            for key, value, what in (
                ("model_version", str(MODEL_VERSION), "model"),
                ("resident", resident, "--resident"),
            ):
                kept = self._meta(key)
                if kept is None:
                    self._connection.execute("INSERT INTO meta VALUES (?, ?)", (key, value))
                elif kept != value and key == "model_version":
                    raise InputError(
                        f"{self.directory}: its rows are of model {kept}, not {value} "
                        f"({MODEL_CHANGE}): it can be read, but no rows can be added; use "
                        "another --out"
                    )
                elif kept != value:
                    raise InputError(
                        f"{self.directory}: was made with {what} {kept}, not {value}: its rows "
                        "would not compare; use another --out"
                    )
            self._admit_ids(is_new=is_new)
            digest = spec.digest
            known = dict(self._connection.execute("SELECT digest, spec FROM specs"))
            if digest in known:
                self._renew(digest, known[digest], spec)
            elif known and not extend:
                raise InputError(
                    f"{self.directory}: was made for another spec (digest {list(known)[-1][:12]}, "
                    f"now {digest[:12]}): use another --out, or --extend to add the new cells"
                )
            else:
                self._connection.execute(
                    _insert("specs", 8),
                    (
                        digest,
                        json.dumps(spec.to_dict()),
                        spec.source,
                        provenance.now(),
                        spec.num_cells,
                        0,
                        0,
                        0,
                    ),
                )
            self._spec_digest = digest

    def _admit_ids(self, *, is_new: bool) -> None:
        """Enter which ids the store's cells have; raises `InputError` where they are others."""
        if is_new:
            self._connection.execute("INSERT INTO meta VALUES ('cell_ids', ?)", (_CELL_IDS,))
        elif self._meta("cell_ids") != _CELL_IDS:
            raise InputError(
                f"{self.directory}: its cells' ids are digests of every field, defaults too: "
                "it can be read, but no rows can be added; use another --out"
            )

    def _renew(self, digest: str, written: str, spec: SweepSpec) -> None:
        """Keep the spec that means the same as the one `written` before as it is written now.

        The same cells may come in another order, and then the first ones are not the settled ones.
        """
        now = spec.to_dict()
        if json.loads(written) != now:
            self._connection.execute(
                "UPDATE specs SET spec = ?, settled_prefix = 0 WHERE digest = ?",
                (json.dumps(now), digest),
            )

    def begin_run(self, details: dict[str, Any]) -> None:
        """Enter that a process with the provenance `details` starts to work."""
        self._is_used = True
        with explained(self.path), self._transaction():
            cursor = self._connection.execute(
                "INSERT INTO runs (spec, started_at, state, provenance) VALUES (?, ?, ?, ?)",
                (self._spec_digest, provenance.now(), "running", json.dumps(details)),
            )
            self._run = cursor.lastrowid or 0

    def end_run(self, state: str, *, complete: bool) -> None:
        """Enter how the work ended ("done", "interrupted", "failed"), and whether all is done."""
        with explained(self.path), self._transaction():
            self._connection.execute(
                "UPDATE runs SET ended_at = ?, state = ? WHERE run = ?",
                (provenance.now(), state, self._run),
            )
            if complete:
                self._connection.execute(
                    "UPDATE specs SET complete = 1, num_done = num_cells WHERE digest = ?",
                    (self._spec_digest,),
                )

    def known(self, cells: Sequence[str], *, failed_too: bool) -> set[str]:
        """Return which of the ids `cells` are finished, and with `failed_too` those that failed."""
        marks = ", ".join("?" * len(cells))
        query = f"SELECT cell FROM cells WHERE cell IN ({marks})"
        parameters = list(cells)
        if failed_too:
            query += f" UNION ALL SELECT cell FROM failures WHERE cell IN ({marks})"
            parameters += cells
        with explained(self.path):
            return {cell for (cell,) in self._connection.execute(query, parameters)}

    def settled_prefix(self) -> int:
        """Return how many of the spec's first cells are all settled, so need not be looked up."""
        query = "SELECT settled_prefix FROM specs WHERE digest = ?"
        with explained(self.path):
            return int(self._connection.execute(query, (self._spec_digest,)).fetchone()[0])

    def counts(self) -> tuple[int, int]:
        """Return how many cells are finished and how many failed."""
        with explained(self.path):
            done = self._connection.execute("SELECT COUNT(*) FROM cells").fetchone()[0]
            failed = self._connection.execute("SELECT COUNT(*) FROM failures").fetchone()[0]
        return done, failed

    def commit(self, results: Sequence[CellResult], num_done: int, settled_prefix: int = 0) -> None:
        """Write `results` in one transaction; on return they are on the disk.

        `num_done` is how many of the spec's cells are settled by now, `settled_prefix` how many of
        its first ones are so without a gap.
        """
        self._is_used = True
        with explained(self.path), self._transaction():
            first = self._connection.execute("SELECT IFNULL(MAX(number), 0) FROM cells")
            number = first.fetchone()[0]
            cells, rows, failures = [], [], []
            for result in results:
                if result.error:
                    failures.append(
                        (
                            result.cell,
                            *result.values,
                            result.error,
                            result.message,
                            provenance.now(),
                        )
                    )
                    continue
                number += 1
                cells.append((number, result.cell, *result.values, result.duration_ns))
                rows += [(number, *row) for row in result.rows]
            self._connection.executemany(_INSERT_CELL, cells)
            self._connection.executemany(_INSERT_ROW, rows)
            self._connection.executemany(_INSERT_FAILURE, failures)
            if cells:
                # A cell that failed before and was tried again with success.
                self._connection.executemany(
                    "DELETE FROM failures WHERE cell = ?", [(cell[1],) for cell in cells]
                )
            self._connection.execute(
                "UPDATE specs SET num_done = MAX(num_done, ?), "
                "settled_prefix = MAX(settled_prefix, ?) WHERE digest = ?",
                (num_done, settled_prefix, self._spec_digest),
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise


def _foreign_files(directory: Path) -> bool:
    return any(entry.name != LOCK_NAME for entry in directory.iterdir())


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a connection to the journal into shape: check what is there, or make the tables."""
    is_new = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] == 0
    if not is_new:
        check_format(connection, path)
        if path.stat().st_size <= _MAX_CHECKED_BYTES:
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise damaged(path, verdict)
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise InputError(
            f"{path}: SQLite can't keep a write-ahead log here (got {mode!r}): use an --out on a "
            "local file system"
        )
    connection.execute("PRAGMA synchronous = FULL")
    if is_new:
        connection.executescript(
            f"BEGIN; {_TABLES} PRAGMA application_id = {APPLICATION_ID}; "
            f"PRAGMA user_version = {STORE_VERSION}; COMMIT;"
        )
