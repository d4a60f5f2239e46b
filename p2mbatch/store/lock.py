"""The lock of a result store: one process writes, and a dead one leaves nothing behind."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import IO

from p2mbatch.base.errors import ResourceError

LOCK_NAME = "lock"


def holder_pid(directory: Path) -> int | None:
    """Return the pid of the process that writes the store, None where none does."""
    try:
        with (directory / LOCK_NAME).open("r") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = lock.read().strip()
                return int(text) if text.isdecimal() else 0
    except OSError:
        pass
    return None


def _is_at(lock: IO[str], path: Path) -> bool:
    """Return whether the open file is still the one at `path`: another store may have been made."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False


def hold_lock(directory: Path) -> IO[str]:
    """Take the store's lock for this process; it goes with the process, however that ends."""
    path = directory / LOCK_NAME
    # `holder_pid` holds a shared lock for a moment: that is no reason to give up.
    for attempts_left in reversed(range(5)):
        lock = path.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            time.sleep(0.05 * bool(attempts_left))
            continue
        if _is_at(lock, path):
            try:
                lock.truncate(0)
                # Unbuffered: on a full disk closing it would fail once more.
                os.write(lock.fileno(), f"{os.getpid()}\n".encode())
            except OSError:
                lock.close()
                raise
            return lock
        lock.close()
    pid = holder_pid(directory)
    who = f"process {pid}" if pid else "another process"
    raise ResourceError(
        f"{directory}: {who} is sweeping into this store: wait for it, or stop it first"
    )
