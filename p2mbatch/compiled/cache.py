"""Compiled kernels on disk: a directory that nobody else can have touched, files that are checked.

A cached kernel is machine code in a pickle: who can write it can run code as its reader. So the
directory is opened name by name, without following links, and everything on the way must belong to
root or to this user and be writable by nobody else (a sticky directory, as /tmp is, may be). What
is used is the open descriptor, so that nothing can be put in its place afterwards.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pickle
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from numba.core import caching
from numba.core.serialize import dumps

from p2mbatch.base.say import one_line, say

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_DIGEST_BYTES = 32

_said: set[str] = set()


class Untrusted(Exception):
    """Why a directory can't hold compiled kernels, in one line."""


def say_once(line: str) -> None:
    """Write `line` to stderr, once in a process."""
    if line not in _said:
        _said.add(line)
        say(f"p2mbatch: {one_line(line)}", err=True)


def _check(fd: int, path: str, own: bool) -> None:
    """Raise `Untrusted` where others could change what the directory `fd` leads to.

    `own`: it must be this user's, and sticky is not enough.
    """
    found = os.fstat(fd)
    if found.st_uid != os.geteuid() and (own or found.st_uid != 0):
        raise Untrusted(f"{path}: belongs to user {found.st_uid}")
    if found.st_mode & 0o022 and (own or not found.st_mode & stat.S_ISVTX):
        raise Untrusted(f"{path}: others may write there")


def open_trusted(base: Path, parts: tuple[str, ...]) -> int:
    """Return a descriptor of `base`/`parts`, made with mode 0700 where it is not there.

    `base` and all below it must be this user's alone; what leads to `base` may also be root's.
    Raises `Untrusted` where anything on the way could be somebody else's, `OSError` where a
    directory can't be made.
    """
    # Links above are the machine's own (/home may be one); each step of what they lead to is
    # checked. Below, none is followed.
    outside = Path(os.path.realpath(base.parent))
    steps = [(name, False) for name in outside.parts[1:]]
    steps += [(name, True) for name in (base.name, *parts)]
    fd, path = os.open("/", _FLAGS), "/"
    try:
        _check(fd, path, False)
        for name, own in steps:
            path = f"{path.rstrip('/')}/{name}"
            try:
                below = os.open(name, _FLAGS, dir_fd=fd)
            except FileNotFoundError:
                os.mkdir(name, 0o700, dir_fd=fd)
                below = os.open(name, _FLAGS, dir_fd=fd)
            except NotADirectoryError:
                raise Untrusted(f"{path}: is a link or no directory") from None
            os.close(fd)
            fd = below
            _check(fd, path, own)
        os.fchmod(fd, 0o700)
    except BaseException:
        os.close(fd)
        raise
    return fd


def usable_path(fd: int) -> Path:
    """Return a path that leads to the open directory `fd` whatever becomes of its name.

    Raises `Untrusted` where there is no /proc, or the directory takes no files.
    """
    path = Path(f"/proc/self/fd/{fd}")
    if not path.is_dir() or not os.access(path, os.W_OK):
        raise Untrusted("can't be written to")
    return path


def builds(fd: int) -> dict[str, int]:
    """Return the versions whose kernels lie in the open directory `fd`, with their bytes."""
    found = {}
    with os.scandir(fd) as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    for name in names:
        found[name] = sum(
            os.stat(file, dir_fd=below, follow_symlinks=False).st_size
            for _, _, files, below in os.fwalk(name, dir_fd=fd)
            for file in files
        )
    return found


def clear(fd: int) -> None:
    """Delete every version's kernels in the open directory `fd`; links are not followed."""
    for name in builds(fd):
        shutil.rmtree(name, dir_fd=fd, ignore_errors=True)


def _read_own(path: Path) -> bytes:
    """Return what the plain file `path` holds, nothing where somebody else put it there.

    The directory may have been open to others once. Raises `OSError` where there is none.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            return b""
        return file.read()


@contextlib.contextmanager
def locked(directory: Path | None) -> Iterator[bool]:
    """Hold the lock of `directory`; yields whether there is one, which no full disk prevents."""
    try:
        lock = None if directory is None else (directory / "lock").open("w")
    except OSError as error:
        say_once(f"the kernels' cache can't be written to: {error.strerror}")
        lock = None
    if lock is None:
        yield False
        return
    with lock:
        # Closing it ends the lock.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield True


class _CheckedFile:
    """One kernel's compiled overloads, a file each, named by its key, with a digest before it.

    Numba's own index is a second file that processes can overwrite one another; the key in the
    name does without.
    """

    def __init__(self, folder: str, base: str) -> None:
        self._folder, self._base = Path(folder), base

    def _path(self, key: object) -> Path:
        return self._folder / f"{self._base}.{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}"

    def load(self, key: object) -> Any:
        """Return what was saved for `key`, None where there is nothing or it is damaged."""
        try:
            data = _read_own(self._path(key))
        except OSError:
            return None
        payload = data[_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() == data[:_DIGEST_BYTES]:
            return pickle.loads(payload)
        self.damaged(key)
        return None

    def damaged(self, key: object) -> None:
        """Throw the file of `key` away, with one line."""
        say_once("a damaged file of the kernels' cache was thrown away: it is compiled again")
        self._path(key).unlink(missing_ok=True)

    def save(self, key: object, data: object) -> None:
        """Write the file of `key`, whole or not at all; without room there is no file."""
        payload, path = dumps(data), self._path(key)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            part.unlink(missing_ok=True)
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(hashlib.sha256(payload).digest() + payload)
            part.replace(path)
        except OSError as error:
            say_once(f"a compiled kernel can't be kept ({error.strerror}): compiled each time")
        finally:
            part.unlink(missing_ok=True)


class CheckedCache(caching.FunctionCache):  # type: ignore[misc]
    """Numba's cache of one function, over files that are checked before they are believed."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _CheckedFile(self._cache_path, self._impl.filename_base)

    def flush(self) -> None:
        """Do nothing: stale files are in other directories."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled overload, None where it has to be compiled."""
        try:
            return super().load_overload(sig, target_context)
        except (MemoryError, KeyboardInterrupt):
            raise
        except Exception:
            # Whole by its digest and yet not to be had: written by a broken build.
            self._cache_file.damaged(self._index_key(sig, target_context.codegen()))
            return None
