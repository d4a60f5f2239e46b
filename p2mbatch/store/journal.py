"""The result store on disk: a SQLite journal with one writer, in which only finished cells are.

A store is a directory. `journal.sqlite` holds blocks of cells with their rows (`blocks.py`), each
with a digest, and the specs and runs that they are of; `lock` is held by the one process that
writes. A transaction carries one block of whole cells and is on disk (WAL, synchronous=FULL) before
it counts as done, so a process that dies loses only what it had not yet said was finished.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from p2mbatch._version import MODEL_CHANGE, MODEL_VERSION
from p2mbatch.base import provenance
from p2mbatch.base.arrays import BoolArray, UInt8Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.filenames import JOURNAL_NAME
from p2mbatch.base.paths import is_dir, is_there
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.blocks import Block
from p2mbatch.store.damage import Damage, error_of, find_damage
from p2mbatch.store.id_set import IdSet
from p2mbatch.store.ledger import (
    TABLES,
    Head,
    Ledger,
    RunRow,
    SpecRow,
    Tally,
    meta_mark,
    read_ledger,
    read_parts,
    write_block,
    write_meta,
    write_row,
)
from p2mbatch.store.lock import LOCK_NAME, Lock, hold_lock
from p2mbatch.store.messages import (
    APPLICATION_ID,
    STORE_VERSION,
    check_plain,
    check_writable,
    damaged,
    explained,
    logs_of,
)
from p2mbatch.store.packing import ids_of, pack

_MAX_CHECKED_BYTES = 1 << 30
"""Journals up to this size are checked from end to end before they are written to."""

_CELL_IDS = "without defaults"
"""What the cells' ids are digests of; stores that do not say so are older and only read."""


class Journal:
    """The store at `directory`, open for writing by this process alone.

    Made by `Journal.open`; a context manager. Every method raises `ResourceError` or `InputError`
    with one line where the disk or the file says no.
    """

    def __init__(
        self, directory: Path, lock: Lock, connection: sqlite3.Connection, made: Sequence[Path]
    ) -> None:
        self.directory = directory
        self._made = made
        self._is_used = False
        self.path = directory / JOURNAL_NAME
        self._lock = lock
        self._connection = connection
        known = None if self.path in made else lock.tally
        ledger = read_ledger(connection, known)
        self.damage: Damage = find_damage(connection, ledger)
        """What is not as it was written; `admit` takes it out of the store."""
        self._ledger: Ledger | None = ledger
        self._meta, self._tally, self._heads = ledger.meta, ledger.tally, ledger.heads
        self._run: RunRow | None = None
        self._spec_digest = ""
        self._finished: IdSet | None = None
        self._failed = IdSet()

    @classmethod
    def open(cls, directory: Path) -> Journal:
        """Open the store at `directory` for writing, or make it; nothing else may be there."""
        path = directory / JOURNAL_NAME
        makes_directory = not is_there(directory)
        try:
            if is_there(directory) and not is_dir(directory):
                raise InputError(f"{directory}: is a file: --out names a directory")
            if is_dir(directory) and not is_there(path) and _foreign_files(directory):
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
            # Under the lock: while it was waited for, another sweep may have made a store and left.
            made = [] if is_there(path) else [path, *[directory] * makes_directory]
            with explained(path):
                check_plain(path)
                connection = sqlite3.connect(path, isolation_level=None, timeout=30)
                try:
                    _prepare(connection, path)
                    return cls(directory, lock, connection, made)
                except BaseException:
                    connection.close()
                    raise
        except BaseException:
            lock.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        if kind is not None:
            self.discard_unused()
        self.close()

    def discard_unused(self) -> None:
        """Take away the store that was made for a sweep that could not start."""
        if self.path not in self._made or self._is_used:
            return
        with contextlib.suppress(OSError):
            for path in (self.path, *logs_of(self.path), self.directory / LOCK_NAME):
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

    def admit(self, spec: SweepSpec, *, resident: str, extend: bool) -> None:
        """Enter `spec`, or find that it is the store's; raises `InputError` for another one.

        With `extend` another spec is added beside those there are. What is damaged is taken out,
        so that its cells are run anew.
        """
        wanted = {"model_version": str(MODEL_VERSION), "resident": resident, "cell_ids": _CELL_IDS}
        with explained(self.path), self._changes():
            self._mend_meta(wanted)
            is_new = "model_version" not in self._meta
            for key, what in (("model_version", "model"), ("resident", "--resident")):
                kept = self._meta.setdefault(key, wanted[key])
                if kept != wanted[key] and key == "model_version":
                    raise InputError(
                        f"{self.directory}: its rows are of model {kept}, not {MODEL_VERSION} "
                        f"({MODEL_CHANGE}): it can be read, but no rows can be added; use "
                        "another --out"
                    )
                if kept != wanted[key]:
                    raise InputError(
                        f"{self.directory}: was made with {what} {kept}, not {wanted[key]}: its "
                        "rows would not compare; use another --out"
                    )
            if is_new:
                self._meta["cell_ids"] = _CELL_IDS
            elif self._meta.get("cell_ids") != _CELL_IDS:
                raise InputError(
                    f"{self.directory}: its cells' ids are digests of every field, defaults too: "
                    "it can be read, but no rows can be added; use another --out"
                )
            self._mend()
            self._admit_spec(spec, extend=extend)
            self._spec_digest = spec.digest

    def _admit_spec(self, spec: SweepSpec, *, extend: bool) -> None:
        known = {row.digest: row for row in self._specs()}
        digest, now = spec.digest, spec.to_dict()
        if digest in known:
            if json.loads(known[digest].spec) != now:
                # It means the same. The same cells may come in another order, and then the first
                # ones are not the settled ones.
                row = known[digest]._replace(spec=json.dumps(now), settled_prefix=0)
                write_row(self._connection, "specs", row)
            return
        if known and not extend:
            raise InputError(
                f"{self.directory}: was made for another spec (digest {list(known)[-1][:12]}, "
                f"now {digest[:12]}): use another --out, or --extend to add the new cells"
            )
        row = SpecRow(
            digest, json.dumps(now), spec.source, provenance.now(), spec.num_cells, 0, 0, 0
        )
        write_row(self._connection, "specs", row)

    def _mend_meta(self, wanted: dict[str, str]) -> None:
        """Put `wanted` in the place of settings one of which was damaged, where they were these."""
        ledger = self._ledger
        if ledger is None or not ledger.is_meta_wrong:
            return
        mended = {**self._meta, **wanted}
        if mended != self._meta and meta_mark(mended) != self._meta.get("mark"):
            raise error_of(self.path, self.damage)
        self._meta = mended

    def _mend(self) -> None:
        """Take out what is damaged, so that it is missing: its cells are then run anew."""
        ledger, self._ledger = self._ledger, None
        if not self.damage or ledger is None:
            return
        wrong = set(self.damage.blocks)
        self._connection.executemany(
            "DELETE FROM blocks WHERE number = ?", [(number,) for number in wrong]
        )
        self._connection.executemany(
            "DELETE FROM runs WHERE run = ?", [(run.run,) for run in ledger.wrong_runs]
        )
        # A spec can't be told from its damaged text; the one at hand is entered anew.
        gone = [(row.digest,) for row in ledger.wrong_specs]
        self._connection.executemany("DELETE FROM specs WHERE digest = ?", gone)
        for row in self._specs():
            write_row(
                self._connection, "specs", row._replace(num_done=0, settled_prefix=0, complete=0)
            )
        self._heads = [head for head in self._heads if head.number not in wrong]
        changes = max(self._tally.num_changes, (self._lock.tally or Tally()).num_changes)
        self._tally = Tally()
        for head in self._heads:
            self._tally = self._tally.after(head.mark, head.num_cells + head.num_failed)
        self._tally = self._tally._replace(num_changes=changes)

    def _specs(self) -> list[SpecRow]:
        names = ", ".join(SpecRow._fields)
        found = self._connection.execute(f"SELECT {names} FROM specs ORDER BY rowid")
        return [SpecRow(*row) for row in found]

    def _spec(self) -> SpecRow | None:
        return next((row for row in self._specs() if row.digest == self._spec_digest), None)

    def begin_run(self, details: dict[str, Any]) -> None:
        """Enter that a process with the provenance `details` starts to work."""
        self._is_used = True
        with explained(self.path), self._changes():
            number = self._connection.execute("SELECT IFNULL(MAX(run), 0) + 1 FROM runs")
            self._run = RunRow(
                number.fetchone()[0],
                self._spec_digest,
                provenance.now(),
                None,
                "running",
                json.dumps(details),
            )
            write_row(self._connection, "runs", self._run)

    def end_run(self, state: str, *, complete: bool) -> None:
        """Enter how the work ended ("done", "interrupted", "failed"), and whether all is done."""
        with explained(self.path), self._changes():
            if self._run is not None:
                ended = self._run._replace(ended_at=provenance.now(), state=state)
                write_row(self._connection, "runs", ended)
            spec = self._spec()
            if complete and spec is not None:
                now = spec._replace(complete=1, num_done=spec.num_cells)
                write_row(self._connection, "specs", now)

    def known(self, ids: UInt8Array, *, failed_too: bool) -> BoolArray:
        """Return bool[n]: which of the ids are of finished cells, or with `failed_too` failed ones.

        As of when the store was opened, and of what `note` was told since.
        """
        known = self._load_ids().holds(ids)
        return known | self._failed.holds(ids) if failed_too else known

    def _load_ids(self) -> IdSet:
        """Return the ids of the cells that were finished when the store was opened."""
        if self._finished is None:
            self._finished = IdSet()
            with explained(self.path):
                for head in self._heads:
                    parts = read_parts(self._connection, head, ["ids"])
                    if parts is None:
                        raise damaged(self.path, f"the ids of block {head.number}")
                    found = ids_of(parts[0])
                    self._finished.add(found[: head.num_cells])
                    self._failed.add(found[head.num_cells :])
        return self._finished

    def note(self, block: Block) -> None:
        """Let `known` know of a block that was committed: where the same cell may come again."""
        self._load_ids().add(block.cells.ids)
        self._failed.add(block.failed.cells.ids)

    def settled_prefix(self) -> int:
        """Return how many of the spec's first cells are all settled, so need not be looked up."""
        with explained(self.path):
            spec = self._spec()
            return 0 if spec is None else spec.settled_prefix

    def num_finished(self) -> int:
        """Return how many cells are finished."""
        with explained(self.path):
            found = self._connection.execute("SELECT IFNULL(SUM(num_cells), 0) FROM blocks")
            return int(found.fetchone()[0])

    def commit(self, block: Block, num_done: int, settled_prefix: int = 0) -> None:
        """Write `block` in one transaction; on return it is on the disk.

        `num_done` is how many of the spec's cells are settled by now, `settled_prefix` how many of
        its first ones are so without a gap.
        """
        self._is_used = True
        packed = pack(block, provenance.now())
        origin = b"" if self._run is None else self._run.origin()
        with explained(self.path), self._changes():
            number = self._connection.execute("SELECT IFNULL(MAX(number), 0) + 1 FROM blocks")
            head = Head(
                number.fetchone()[0],
                0 if self._run is None else self._run.run,
                len(block.cells),
                int(block.num_rows.sum()),
                len(block.failed.cells),
                packed.checks(),
                b"",
            )
            mark = write_block(self._connection, head, packed, origin)
            self._tally = self._tally.after(mark, block.num_settled)
            spec = self._spec()
            if spec is not None:
                row = spec._replace(
                    num_done=max(spec.num_done, num_done),
                    settled_prefix=max(spec.settled_prefix, settled_prefix),
                )
                write_row(self._connection, "specs", row)

    @contextlib.contextmanager
    def _changes(self) -> Iterator[None]:
        """Do what is inside as one transaction, which the tally counts."""
        before = self._tally, dict(self._meta), list(self._heads)
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._tally = self._tally.after(None)
            write_meta(self._connection, self._meta, self._tally)
            self._connection.execute("COMMIT")
        except BaseException:
            self._tally, self._meta, self._heads = before
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise
        with contextlib.suppress(OSError):
            # It is there to miss a log's end; where it can't be written none is missed.
            self._lock.note(self._tally)


def _foreign_files(directory: Path) -> bool:
    return any(entry.name != LOCK_NAME for entry in directory.iterdir())


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a connection to the journal into shape: check what is there, or make the tables."""
    is_new = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] == 0
    if not is_new:
        check_writable(connection, path)
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
            f"BEGIN; {TABLES} PRAGMA application_id = {APPLICATION_ID}; "
            f"PRAGMA user_version = {STORE_VERSION};"
        )
        write_meta(connection, {}, Tally())
        connection.execute("COMMIT")
