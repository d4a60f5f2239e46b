"""What a store's damage, age or absence is said in."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from p2mbatch.base.errors import InputError, ResourceError
from p2mbatch.base.paths import is_file, is_there

STORE_VERSION = 3
"""Raised when the tables change. 2: cells have a guest. 3: blocks of cells, with digests."""

OLDEST_READ = 2
"""The oldest version that is still read."""

APPLICATION_ID = 0x70326D62
"""`p2mb`: marks a SQLite file as one of ours."""


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite says about the journal at `path` into one line that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise explanation(path, error) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        # Text in it, or SQLite's own message about it, is not what was written.
        raise damaged(path, str(error)) from None


def logs_of(path: Path) -> tuple[Path, Path]:
    """Return the files that SQLite keeps beside the journal at `path`."""
    return path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def not_plain(path: Path) -> InputError:
    """Return the error for a store's file that is a pipe, a device or a directory."""
    return InputError(f"{path}: is not a plain file, as a store's is: take it away")


def check_plain(path: Path) -> None:
    """Raise `InputError` where the journal at `path`, or a log of it, is there and no plain file.

    SQLite would take a pipe or a device for a disk that is full.
    """
    for file in (path, *logs_of(path)):
        if is_there(file) and not is_file(file):
            raise not_plain(file)


def explanation(path: Path, error: sqlite3.Error) -> InputError | ResourceError:
    """Return the error for a person that stands for SQLite's `error` about the journal `path`."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return ResourceError(
            f"{path}: the disk is full or can't be written ({error}); the finished cells in it "
            "are safe: make room and give the same command again"
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return InputError(
            f"{path}: can't be written ({error}): use another --out or change its permissions"
        )
    # The driver itself finds text that is none, and has no name for it.
    if not name or name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")):
        return damaged(path, str(error))
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return ResourceError(f"{path}: another program holds it ({error}): close that and go on")
    return ResourceError(f"{path}: {name or type(error).__name__}: {error}")


def damaged(path: Path, what: str) -> InputError:
    """Return the error for a journal that is not whole."""
    return InputError(
        f"{path}: the store is damaged ({what.splitlines()[0] if what else 'unreadable'}): move "
        f"it away and give the same command again, or save what can be read with "
        f"`sqlite3 {path} .recover`"
    )


def check_format(connection: sqlite3.Connection, path: Path) -> int:
    """Return the version of the journal; raises `InputError` for one that this p2mbatch can't read.

    And for what is no journal of p2mbatch's.
    """
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if not connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
        raise InputError(
            f"{path}: holds nothing yet: the sweep that made it was stopped as it began; give the "
            "same command again"
        )
    if application_id != APPLICATION_ID:
        raise InputError(f"{path}: not a p2mbatch result store: use another --out")
    if version > STORE_VERSION:
        raise InputError(
            f"{path}: written by a newer p2mbatch (store version {version}, this one knows "
            f"{STORE_VERSION}): update p2mbatch or use another --out"
        )
    if version < OLDEST_READ:
        raise InputError(
            f"{path}: written by an older p2mbatch (store version {version}, this one reads "
            f"{OLDEST_READ} to {STORE_VERSION}): use another --out"
        )
    return int(version)


def check_writable(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `InputError` unless rows can be added to the journal: it is read, but was older."""
    version = check_format(connection, path)
    if version != STORE_VERSION:
        raise InputError(
            f"{path}: written by an older p2mbatch (store version {version}, this one writes "
            f"{STORE_VERSION}): it can be read, but no rows can be added; use another --out"
        )
