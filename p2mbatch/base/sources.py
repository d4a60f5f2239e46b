"""Where bytes come from: a file, a pipe or a gzip stream, all behind one cursor.

A cursor goes forwards only. `SeekableCursor` skips what nobody asks for, and what lies behind it
can be looked at again; `SequentialCursor` reads into one small buffer. Neither believes a length
before the bytes have been seen: what a lying length costs is bounded by what the file really holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import io
import os
import stat
import sys
import tempfile
import weakref
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from p2mbatch.base.errors import InputError, ResourceError
from p2mbatch.base.files import GZIP_MAGIC
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.limits import gzip_excess
from p2mbatch.base.sizes import MIB, format_size

Progress = Callable[[int], None]
"""Called with the bytes of the file (as it lies on disk) that have gone by so far."""

CHUNK_BYTES = 1 << 20

SMALL_BYTES = 64 * MIB
"""What comes through a pipe or gzip and is no longer than this is held whole: small guests are
then read as thoroughly as from a file."""

_WINDOW_BYTES = 16 << 10
"""Read at a time: a record's header and its PFNs, or a few leaves side by side."""

_FREE_STEPS = 1 << 14

_BYTES_PER_STEP = 1024
"""A record of pages has a page of 4096 bytes or more, one of none names up to 1024 PFNs."""


class Cursor(ABC):
    """A place in a file of `name`; `offset` counts the bytes (decompressed ones) before it."""

    name: str
    offset: int = 0
    num_steps: int = 0
    """Records that were begun."""
    packed_bytes: Callable[[], int] | None = None
    """Returns the compressed bytes gone by, where the file is gzip."""

    @abstractmethod
    def peek(self, num_bytes: int) -> bytes:
        """Return the next bytes without moving; fewer at the end of the file."""

    @abstractmethod
    def take(self, num_bytes: int, what: str) -> memoryview:
        """Return the next bytes and move on; the view lasts until the next call.

        Raises `InputError` naming `what` where the file ends before.
        """

    @abstractmethod
    def skip(self, num_bytes: int, what: str) -> None:
        """Move on without looking. Raises `InputError` where the file ends before."""

    def check_kept(self, kept_bytes: int) -> None:
        """Raise `InputError` where what is kept of a gzip file is out of all proportion to it."""
        if self.packed_bytes is not None:
            excess = gzip_excess(self.packed_bytes(), kept_bytes)
            if excess is not None:
                raise self.fail(excess)

    def step(self) -> None:
        """Count a record that begins here.

        Raises `InputError` where there are more than that many bytes can be worth: a record takes a
        program as long as some KiB of pages, and gzip makes nothing of a million empty ones.
        """
        self.num_steps += 1
        most = _FREE_STEPS + self.offset // _BYTES_PER_STEP
        if self.num_steps > most:
            raise self.fail(
                f"expected at most {most} records in {self.offset} bytes, found more: they hold "
                "next to nothing"
            )

    def fail(self, message: str, offset: int | None = None) -> InputError:
        """Return an `InputError` that names the file and the offset (this cursor's by default)."""
        at = self.offset if offset is None else offset
        return InputError(f"{self.name}: offset {at:#x}: {message}")

    def truncated(self, num_bytes: int, what: str, present: int) -> InputError:
        """Return the error for a file that ends inside `what`."""
        return self.fail(f"expected {num_bytes} bytes of {what}, but the file ends after {present}")


class HeldBytes:
    """Bytes in memory that are read by place."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def __len__(self) -> int:
        return len(self._data)

    def read(self, offset: int, num_bytes: int) -> memoryview:
        """Return the `num_bytes` bytes from `offset` on, which must be there."""
        return self._data[offset : offset + num_bytes]


class FileBytes:
    """A regular file that is read by place, from byte `start` on.

    Read, not mapped: a mapped file that somebody cuts short kills the process that looks at it.
    So that two looks never see two different files, any change since the file was opened is an
    `InputError`.
    """

    def __init__(self, fd: int, name: str, start: int = 0) -> None:
        self._fd = os.dup(fd)
        self._close = weakref.finalize(self, os.close, self._fd)
        self._name = name
        self._start = start
        self._state = self._look()
        # Only headers and a few pages are looked at: reading ahead would read the whole guest.
        with contextlib.suppress(OSError):
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_RANDOM)
        self._window = memoryview(b"")
        self._window_at = 0

    def _look(self) -> tuple[int, int]:
        status = os.fstat(self._fd)
        return status.st_size, status.st_mtime_ns

    def __len__(self) -> int:
        return self._state[0] - self._start

    def read(self, offset: int, num_bytes: int) -> memoryview:
        """Return the `num_bytes` bytes from `offset` on, which must be there.

        Raises `InputError` where the file changed since it was opened, or the disk fails.
        """
        at = offset - self._window_at
        if at < 0 or at + num_bytes > len(self._window):
            self._window = self._pread(offset, max(num_bytes, _WINDOW_BYTES), num_bytes)
            self._window_at, at = offset, 0
        return self._window[at : at + num_bytes]

    def _pread(self, offset: int, most: int, least: int) -> memoryview:
        """Return at least `least` and at most `most` bytes from `offset` on."""
        parts: list[bytes] = []
        have = 0
        try:
            while have < least:
                part = os.pread(self._fd, most - have, self._start + offset + have)
                if not part:
                    break
                parts.append(part)
                have += len(part)
            state = self._look()
        except OSError as error:
            raise InputError(
                f"{self._name}: offset {offset + have:#x}: cannot read: {error.strerror or error}"
            ) from None
        if state != self._state or have < least:
            raise InputError(
                f"{self._name}: offset {offset:#x}: the file changed while it was read (it had "
                f"{self._state[0]} bytes, now {state[0]}): wait until it is whole, or read a copy"
            )
        return memoryview(parts[0] if len(parts) == 1 else b"".join(parts))


class SeekableCursor(Cursor):
    """A cursor over bytes that can be looked at again: in memory, or a regular file."""

    num_trailing: int = 0
    """Bytes known to follow that are not in `data`."""

    def __init__(
        self, data: HeldBytes | FileBytes, name: str, progress: Progress | None = None
    ) -> None:
        self.name = name
        self.data = data
        self._progress = progress

    def __len__(self) -> int:
        return len(self.data)

    def peek(self, num_bytes: int) -> bytes:
        """Return the next bytes without moving; fewer at the end of the file."""
        return bytes(self.data.read(self.offset, min(num_bytes, len(self.data) - self.offset)))

    def _require(self, num_bytes: int, what: str) -> None:
        present = len(self.data) - self.offset
        if num_bytes > present:
            raise self.truncated(num_bytes, what, present)

    def take(self, num_bytes: int, what: str) -> memoryview:
        """Return the next bytes and move on."""
        self._require(num_bytes, what)
        view = self.data.read(self.offset, num_bytes)
        self.offset += num_bytes
        return view

    def skip(self, num_bytes: int, what: str) -> None:
        """Move on; nothing is read."""
        self._require(num_bytes, what)
        self.offset += num_bytes
        if self._progress is not None:
            self._progress(self.offset)


class SequentialCursor(Cursor):
    """A cursor over something that can be read only once: a pipe, or a gzip stream."""

    def __init__(
        self,
        readinto: Callable[[memoryview], int | None],
        name: str,
        compressed_offset: Callable[[], int] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.name = name
        self._readinto = readinto
        self.packed_bytes = compressed_offset
        self._progress = progress
        self._buffer = bytearray(2 * CHUNK_BYTES)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._stop = 0
        self._ended = False

    def _read(self, view: memoryview) -> int:
        try:
            count = self._readinto(view) or 0
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            at = self.offset + self._stop - self._start
            raise self.fail(f"the gzip data is damaged or cut short ({error})", at) from None
        except OSError as error:
            raise InputError(f"{self.name}: cannot read: {error.strerror or error}") from None
        if self._progress is not None:
            position = self.packed_bytes
            self._progress(position() if position else self.offset + self._stop - self._start)
        return count

    def _fill(self, num_bytes: int) -> int:
        """Have `num_bytes` (at most the buffer) ready; return how many there really are."""
        if self._start + num_bytes > len(self._buffer):
            rest = bytes(self._view[self._start : self._stop])
            if len(self._buffer) > 2 * CHUNK_BYTES:
                self._buffer = bytearray(2 * CHUNK_BYTES)
                self._view = memoryview(self._buffer)
            self._view[: len(rest)] = rest
            self._start, self._stop = 0, len(rest)
        while self._stop - self._start < num_bytes and not self._ended:
            count = self._read(self._view[self._stop :])
            self._ended = count == 0
            self._stop += count
        return min(self._stop - self._start, num_bytes)

    def peek(self, num_bytes: int) -> bytes:
        """Return the next bytes (at most a chunk) without moving; fewer at the end."""
        ready = self._fill(min(num_bytes, CHUNK_BYTES))
        return bytes(self._view[self._start : self._start + ready])

    def take(self, num_bytes: int, what: str) -> memoryview:
        """Return the next bytes; more than a chunk is gathered only as the bytes arrive."""
        if num_bytes > CHUNK_BYTES:
            gathered = bytearray()
            while len(gathered) < num_bytes:
                step = min(num_bytes - len(gathered), CHUNK_BYTES)
                gathered += self.take(step, what)
                self.check_kept(len(gathered))
            return memoryview(gathered)
        ready = self._fill(num_bytes)
        if ready < num_bytes:
            raise self.truncated(num_bytes, what, ready)
        view = self._view[self._start : self._start + num_bytes]
        self._start += num_bytes
        self.offset += num_bytes
        return view

    def whole(self, limit_bytes: int = SMALL_BYTES) -> SeekableCursor | None:
        """Return a cursor over the whole rest if it is at most `limit_bytes`, else None.

        Either way nothing is lost: what was read waits in the buffer.
        """
        larger = bytearray(max(limit_bytes + 1, 2 * CHUNK_BYTES))
        ready = self._stop - self._start
        larger[:ready] = self._view[self._start : self._stop]
        self._buffer, self._view = larger, memoryview(larger)
        self._start, self._stop = 0, ready
        if self._fill(limit_bytes + 1) > limit_bytes:
            return None
        held = SeekableCursor(HeldBytes(bytes(self._view[: self._stop])), self.name)
        held.packed_bytes = self.packed_bytes
        return held

    def buffered(self) -> bytes:
        """Return all bytes that were read and not yet taken."""
        return bytes(self._view[self._start : self._stop])

    def skip(self, num_bytes: int, what: str) -> None:
        """Read and forget."""
        while num_bytes:
            step = min(num_bytes, CHUNK_BYTES)
            self.take(step, what)
            num_bytes -= step

    def spool(self, most_bytes: int | None = None) -> SeekableCursor:
        """Put the rest, up to `most_bytes`, into an unlinked temporary file; return its cursor.

        Pages of zeros become holes of the file. Raises `ResourceError` where the disk is full.
        """
        kept, size = 0, 0
        with tempfile.TemporaryFile(prefix="p2mbatch-") as file:
            try:
                while most_bytes is None or size < most_bytes:
                    want = PAGE_BYTES if most_bytes is None else min(PAGE_BYTES, most_bytes - size)
                    ready = self._fill(want)
                    if not ready:
                        break
                    page = bytes(self.take(ready, "the file"))
                    if page.count(0) != ready:
                        file.seek(size)
                        file.write(page)
                        kept += ready
                    size += ready
                    self.check_kept(kept)
                file.truncate(size)
                file.flush()
            except OSError as error:
                raise ResourceError(
                    f"{self.name}: after {format_size(size)}, no room in {tempfile.gettempdir()} "
                    f"({error.strerror}): unpack the file and name it, or set TMPDIR"
                ) from None
            return SeekableCursor(FileBytes(file.fileno(), self.name), self.name)


class _CountedFile(io.RawIOBase):
    """A raw file that counts what has been read of it, for files that cannot tell."""

    def __init__(self, raw: BinaryIO, first: bytes = b"") -> None:
        self._raw = raw
        self._first = first
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._first:
            count = min(len(self._first), len(buffer))
            buffer[:count] = self._first[:count]
            self._first = self._first[count:]
        else:
            data = self._raw.read(len(buffer))
            count = len(data)
            buffer[:count] = data
        self.count += count
        return count


def _gzip_cursor(raw: BinaryIO, name: str, first: bytes, progress: Progress | None) -> Cursor:
    counted = _CountedFile(raw, first)
    unpacked = gzip.GzipFile(fileobj=io.BufferedReader(counted, CHUNK_BYTES))
    cursor = SequentialCursor(unpacked.readinto, name, lambda: counted.count, progress)
    if cursor.peek(2) == GZIP_MAGIC:
        raise cursor.fail("gzip inside gzip: unpack the outer file first")
    return cursor


def _pipe_cursor(raw: io.FileIO, name: str, progress: Progress | None) -> Cursor:
    with contextlib.suppress(OSError, AttributeError):
        # The default pipe holds 64 KiB; a larger one means far fewer system calls.
        fcntl.fcntl(raw.fileno(), fcntl.F_SETPIPE_SZ, CHUNK_BYTES)
    cursor = SequentialCursor(raw.readinto, name, progress=progress)
    if cursor.peek(2) != GZIP_MAGIC:
        return cursor
    return _gzip_cursor(raw, name, cursor.buffered(), progress)


@contextlib.contextmanager
def open_source(path: str | os.PathLike[str], progress: Progress | None = None) -> Iterator[Cursor]:
    """Open `path` ("-" is standard input) and yield a cursor at its first byte.

    Regular files are read by place, gzip is unpacked on the fly, anything else is read as a pipe.
    Raises `InputError` where the file is missing, unreadable or empty.
    """
    name = os.fspath(path)
    try:
        raw = _standard_input() if name == "-" else io.FileIO(name)
        status = os.fstat(raw.fileno())
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}") from None
    if name == "-":
        name = "standard input"
    with raw:
        # Files of /proc and debugfs (xen/mmu/p2m is one) say that they hold nothing.
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            yield _pipe_cursor(raw, name, progress)
            return
        start = raw.tell()
        if status.st_size <= start:
            raise InputError(f"{name}: the file is empty")
        if raw.read(2) == GZIP_MAGIC:
            raw.seek(start)
            yield _gzip_cursor(raw, name, b"", progress)
            return
        yield SeekableCursor(FileBytes(raw.fileno(), name, start), name, progress)


def _standard_input() -> io.FileIO:
    """Return standard input, unbuffered. Raises `InputError` where there is none."""
    try:
        return io.FileIO(sys.stdin.fileno(), closefd=False)
    except (AttributeError, ValueError):
        # A closed one is None; its number may be another file's by now.
        raise InputError("standard input: is closed, or not a file or pipe") from None


def file_bytes(path: str | os.PathLike[str]) -> int | None:
    """Return how long the file at `path` is on disk, for a progress bar; None for a pipe."""
    if os.fspath(path) == "-":
        return None
    with contextlib.suppress(OSError):
        status = Path(path).stat()
        if stat.S_ISREG(status.st_mode):
            return status.st_size
    return None
