"""Reading a journal: connections that change nothing, and the check of what is in it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from p2mbatch.base.paths import is_there
from p2mbatch.store.damage import error_of, find_damage
from p2mbatch.store.ledger import Ledger, read_ledger
from p2mbatch.store.lock import read_tally
from p2mbatch.store.messages import STORE_VERSION, check_format, check_plain, damaged, explained
from p2mbatch.store.older import converted
from p2mbatch.store.order import Missing


class Reading:
    """The journal at `path` of the store at `directory`, read-only."""

    def __init__(self, directory: Path, path: Path) -> None:
        self._directory = directory
        self._path = path
        self._today: sqlite3.Connection | None = None

    @contextlib.contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        """Connect to it; where it is of an older version, to the same in today's tables."""
        with explained(self._path):
            check_plain(self._path)
            uri = self._path.resolve().as_uri()
            if os.access(self._directory, os.W_OK) and os.access(self._path, os.W_OK):
                # A connection that could write clears the write-ahead log away when it is the last.
                uri += "?mode=rw"
            elif self._has_log():
                uri += "?mode=ro"
            else:
                # The log's index can't be made here; the file is whole without it.
                uri += "?mode=ro&immutable=1"
            with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=30)) as connection:
                connection.execute("PRAGMA query_only = ON")
                if check_format(connection, self._path) == STORE_VERSION:
                    yield connection
                    return
                # Nobody writes to it any more.
                self._today = self._today or converted(connection, self._path)
                yield self._today

    @contextlib.contextmanager
    def checked(self, known: Ledger | None = None) -> Iterator[tuple[sqlite3.Connection, Ledger]]:
        """Connect, with what the tables say (`known` where that was read before).

        Raises `InputError` naming the cells where something isn't as it was written, or is found
        not to be inside.
        """
        # Before the tables: its writer notes what it wrote afterwards.
        tally = read_tally(self._directory) if known is None else None
        with self.connected() as connection:
            ledger = known or read_ledger(connection, tally)
            if not ledger.is_right:
                raise error_of(self._path, find_damage(connection, ledger))
            try:
                yield connection, ledger
            except Missing:
                now = read_ledger(connection, None)
                found = find_damage(connection, now)
                raise (
                    error_of(self._path, found)
                    if found
                    else damaged(self._path, "its blocks were changed while it was read")
                ) from None

    def _has_log(self) -> bool:
        log = self._path.with_name(self._path.name + "-wal")
        return is_there(log) and log.stat().st_size > 0
