"""A store's tables, and whether they hold what was written: every row of them has its digest.

A block's digest is over its parts, the spec and the provenance of the run that wrote it. `meta`
counts every change of the store and chains the blocks, so that one that is gone is missed; the lock
file has the same count, so that a log whose end is gone is noticed too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

from p2mbatch.store.packing import DIGEST_BYTES, Packed, digest

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE specs (
    digest TEXT PRIMARY KEY, spec TEXT NOT NULL, source TEXT NOT NULL, added_at TEXT NOT NULL,
    num_cells INTEGER NOT NULL, num_done INTEGER NOT NULL, settled_prefix INTEGER NOT NULL,
    complete INTEGER NOT NULL, mark BLOB NOT NULL
);
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, spec TEXT NOT NULL, started_at TEXT NOT NULL, ended_at TEXT,
    state TEXT NOT NULL, provenance TEXT NOT NULL, mark BLOB NOT NULL
);
CREATE TABLE blocks (
    number INTEGER PRIMARY KEY, run INTEGER NOT NULL, num_cells INTEGER NOT NULL,
    num_rows INTEGER NOT NULL, num_failed INTEGER NOT NULL, checks BLOB NOT NULL,
    mark BLOB NOT NULL, ids BLOB NOT NULL, cells BLOB NOT NULL, failed BLOB NOT NULL,
    rows BLOB NOT NULL
);
"""

_TALLY, _ROWS, _MARK = "tally", "rows", "mark"
"""Keys of `meta`: the tally, a digest over the marks of `specs` and `runs`, one over all others."""

_KEYS = {"specs": "digest", "runs": "run"}


class Tally(NamedTuple):
    """What was ever written to a store, in few numbers."""

    num_changes: int = 0
    num_blocks: int = 0
    num_cells: int = 0
    """Settled ones, those that were tried again in each try."""
    chain: str = ""
    """A digest over the blocks' digests, in turn."""

    def after(self, mark: bytes | None, num_cells: int = 0) -> Tally:
        """Return the tally after a block whose mark is `mark`, or after a change."""
        if mark is None:
            return self._replace(num_changes=self.num_changes + 1)
        return Tally(
            self.num_changes,
            self.num_blocks + 1,
            self.num_cells + num_cells,
            digest(self.chain, mark).hex(),
        )

    def text(self) -> str:
        """Return it as one line of text that ends in a digest of the rest."""
        line = f"{self.num_changes} {self.num_blocks} {self.num_cells} {self.chain or '-'}"
        return f"{line} {digest(line).hex()}"

    @classmethod
    def of_text(cls, text: str) -> Tally | None:
        """Return the tally that `text` tells, None where it is not as it was written."""
        line, _, check = text.strip().rpartition(" ")
        if digest(line).hex() != check:
            return None
        changes, blocks, cells, chain = line.split(" ")
        return cls(int(changes), int(blocks), int(cells), chain.replace("-", ""))


class SpecRow(NamedTuple):
    """A row of `specs` but for its mark."""

    digest: str
    spec: str
    source: str
    added_at: str
    num_cells: int
    num_done: int
    settled_prefix: int
    complete: int


class RunRow(NamedTuple):
    """A row of `runs` but for its mark."""

    run: int
    spec: str
    started_at: str
    ended_at: str | None
    state: str
    provenance: str

    def origin(self) -> bytes:
        """Return the digest over what its blocks come from: the spec and the provenance."""
        return digest(self.run, self.spec, self.started_at, self.provenance)


class Head(NamedTuple):
    """A row of `blocks` but for its parts."""

    number: int
    run: int
    num_cells: int
    num_rows: int
    num_failed: int
    checks: bytes
    mark: bytes

    def right_mark(self, origin: bytes) -> bytes:
        """Return what its mark must be."""
        return digest(*self[:-1], origin)


HEAD = ", ".join(Head._fields)


class Ledger(NamedTuple):
    """What a store's tables say but for the blocks' parts, and what of it can't be right."""

    meta: dict[str, str]
    tally: Tally
    specs: list[SpecRow]
    runs: list[RunRow]
    heads: list[Head]
    is_meta_wrong: bool
    is_row_missing: bool
    """Specs and runs are not those, or not as many as, there were."""
    wrong_specs: list[SpecRow]
    wrong_runs: list[RunRow]
    wrong_heads: list[Head]
    is_chain_wrong: bool
    """A block is missing or there is one too many."""
    num_lost_changes: int
    """Changes that the lock file knows of and the tables don't."""
    num_lost_cells: int
    """Cells that were settled in those, or that missing blocks had."""

    @property
    def is_right(self) -> bool:
        """Whether all is as it was written."""
        return not (
            self.is_meta_wrong
            or self.is_row_missing
            or self.wrong_specs
            or self.wrong_runs
            or self.wrong_heads
            or self.is_chain_wrong
            or self.num_lost_changes
        )


def read_ledger(connection: sqlite3.Connection, known: Tally | None) -> Ledger:
    """Return what the tables say; `known` is the lock file's tally, read before.

    Raises what sqlite3 raises.
    """
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    tally = Tally.of_text(str(meta.get(_TALLY, "")))
    is_meta_wrong = tally is None or meta.get(_MARK) != meta_mark(meta)
    is_row_missing = meta.get(_ROWS) != _rows_mark(connection)
    specs, wrong_specs = _rows(connection, "specs", SpecRow)
    runs, wrong_runs = _rows(connection, "runs", RunRow)
    origins = {run.run: run.origin() for run in runs} | {0: b""}
    heads, wrong_heads, chain = list[Head](), list[Head](), Tally()
    for row in connection.execute(f"SELECT {HEAD} FROM blocks ORDER BY number"):
        head = Head(*row)
        chain = chain.after(bytes(head.mark) if isinstance(head.mark, bytes) else b"", 0)
        right = head.run in origins and head.mark == head.right_mark(origins[head.run])
        (heads if right else wrong_heads).append(head)
    found = tally or Tally()
    is_chain_wrong = tally is not None and (chain.num_blocks, chain.chain) != (
        tally.num_blocks,
        tally.chain,
    )
    lost = known if known and known.num_changes > found.num_changes else None
    settled = sum(head.num_cells + head.num_failed for head in heads)
    num_missing = 0 if wrong_heads or not is_chain_wrong else found.num_cells - settled
    return Ledger(
        meta,
        found,
        specs,
        runs,
        heads,
        is_meta_wrong,
        is_row_missing,
        wrong_specs,
        wrong_runs,
        wrong_heads,
        is_chain_wrong,
        lost.num_changes - found.num_changes if lost else 0,
        max(num_missing, 0) + (lost.num_cells - found.num_cells if lost else 0),
    )


def _rows(connection: sqlite3.Connection, table: str, kind: Any) -> tuple[list[Any], list[Any]]:
    """Return the rows of `table` whose marks are right, and the others."""
    names = ", ".join(kind._fields)
    right, wrong = list[Any](), list[Any]()
    for *row, mark in connection.execute(f"SELECT {names}, mark FROM {table} ORDER BY rowid"):
        (right if mark == digest(*row) else wrong).append(kind(*row))
    return right, wrong


def meta_mark(meta: dict[str, str]) -> str:
    """Return what the mark in `meta` must be."""
    pairs = sorted((str(k), v) for k, v in meta.items() if k != _MARK)
    return digest(*(part for pair in pairs for part in pair)).hex()


def _rows_mark(connection: sqlite3.Connection) -> str:
    """Return a digest over which specs and runs there are."""
    marks = [
        row[0]
        for table in _KEYS
        for row in connection.execute(f"SELECT mark FROM {table} ORDER BY rowid")
    ]
    return digest(*marks).hex()


def write_meta(connection: sqlite3.Connection, meta: dict[str, str], tally: Tally) -> None:
    """Write `meta` with `tally`, the last of a transaction."""
    now = {**meta, _TALLY: tally.text(), _ROWS: _rows_mark(connection)}
    now[_MARK] = meta_mark(now)
    connection.execute("DELETE FROM meta")
    connection.executemany("INSERT INTO meta VALUES (?, ?)", now.items())


def write_row(connection: sqlite3.Connection, table: str, row: SpecRow | RunRow) -> None:
    """Write a row of `specs` or `runs` with its mark, in the place of the one with its key."""
    names = [*row._fields, "mark"]
    kept = ", ".join(f"{name} = excluded.{name}" for name in names)
    connection.execute(
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
        f"ON CONFLICT ({_KEYS[table]}) DO UPDATE SET {kept}",
        (*row, digest(*row)),
    )


def write_block(connection: sqlite3.Connection, head: Head, packed: Packed, origin: bytes) -> bytes:
    """Write a block; `head` has everything but its mark, which is returned."""
    mark = head.right_mark(origin)
    marks = ", ".join("?" * (len(Head._fields) + len(packed)))
    connection.execute(f"INSERT INTO blocks VALUES ({marks})", (*head[:-1], mark, *packed))
    return mark


def read_parts(
    connection: sqlite3.Connection, head: Head, names: Iterable[str]
) -> list[bytes] | None:
    """Return the named parts of a block (`Packed`), None where one isn't what was written."""
    names = list(names)
    found = connection.execute(
        f"SELECT {', '.join(names)} FROM blocks WHERE number = ?", (head.number,)
    ).fetchone()
    if found is None:
        return None
    for name, part in zip(names, found, strict=True):
        at = Packed._fields.index(name) * DIGEST_BYTES
        if digest(part) != head.checks[at : at + DIGEST_BYTES]:
            return None
    return list(found)
