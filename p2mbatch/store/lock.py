"""The lock of a result store: one process writes, and a dead one leaves nothing behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from p2mbatch.base.errors import InputError, ResourceError
from p2mbatch.store.ledger import Tally
from p2mbatch.store.messages import not_plain

LOCK_NAME = "lock"

_MAX_BYTES = 4096
"""A pid and a tally are a few hundred."""


def holder_pid(directory: Path) -> int | None:
    """Return the pid of the process that writes the store, None where none does."""
    with contextlib.suppress(OSError), _opened(directory / LOCK_NAME) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = _text(descriptor).partition("\n")[0].strip()
            return int(text) if text.isdecimal() else 0
    return None


def read_tally(directory: Path) -> Tally | None:
    """Return what was ever written to the store, as its writer noted it; None where none did."""
    with contextlib.suppress(OSError), _opened(directory / LOCK_NAME) as descriptor:
        lines = _text(descriptor).splitlines()
        return Tally.of_text(lines[1]) if len(lines) > 1 else None
    return None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Have the lock's file open for reading; raises OSError where it can't be read.

    Raises `InputError` where it is no plain file: a pipe would be waited for.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check_plain(descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_plain(descriptor: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise not_plain(path)


def _text(descriptor: int) -> str:
    """Return what the file holds, as far as a lock's is long; what is no ASCII is no tally's."""
    return os.pread(descriptor, _MAX_BYTES, 0).decode("ascii", "replace")


class Lock:
    """The lock, held by this process until `close`; it goes with the process, however that ends.

    The file has the process's pid and, in a line of its own, the store's tally.
    """

    def __init__(self, descriptor: int, tally: Tally | None) -> None:
        self._descriptor = descriptor
        self.tally = tally
        """That of the file."""

    def note(self, tally: Tally) -> None:
        """Note what was written, once it is on the disk; raises OSError where there is no room."""
        text = f"{os.getpid()}\n{tally.text()}\n".encode()
        # In one piece: a reader, or a kill, finds the line before or this one.
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))
        self.tally = tally

    def close(self) -> None:
        """Let go of it; a second time does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether the open file is still the one at `path`: another store may have been made."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def hold_lock(directory: Path) -> Lock:
    """Take the store's lock for this process.

    Raises `ResourceError` where another process holds it, `InputError` where it is no plain file,
    OSError where it can't be written.
    """
    path = directory / LOCK_NAME
    # `holder_pid` holds a shared lock for a moment: that is no reason to give up.
    for attempts_left in reversed(range(5)):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
        try:
            _check_plain(descriptor, path)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except InputError:
            os.close(descriptor)
            raise
        except BlockingIOError:
            os.close(descriptor)
            time.sleep(0.05 * bool(attempts_left))
            continue
        if _is_at(descriptor, path):
            try:
                tally = read_tally(directory)
                lock = Lock(descriptor, tally)
                lock.note(tally or Tally())
                lock.tally = tally
            except (OSError, InputError):
                os.close(descriptor)
                raise
            return lock
        os.close(descriptor)
    pid = holder_pid(directory)
    who = f"process {pid}" if pid else "another process"
    raise ResourceError(
        f"{directory}: {who} is sweeping into this store: wait for it, or stop it first"
    )
