"""Where bytes come from: a mapped file, a pipe or a gzip stream, all behind one cursor.

A cursor goes forwards only. `MappedCursor` hands out views of the file; `SequentialCursor` reads
into one small buffer. Neither believes a length before the bytes have been seen: what a lying
length costs is bounded by what the file really holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import io
import mmap
import os
import stat
import sys
import tempfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from p2mbatch.errors import InputError, ResourceError
from p2mbatch.geometry import MIB, PAGE_BYTES, format_size

Progress = Callable[[int], None]
"""Called with the bytes of the file (as it lies on disk) that have gone by so far."""

CHUNK_BYTES = 1 << 20
SMALL_BYTES = 64 * MIB
"""What comes through a pipe or gzip and is no longer than this is held whole: small guests are
then read as thoroughly as from a file."""
GZIP_MAGIC = b"\x1f\x8b"
_RELEASE_BYTES = 256 * MIB
_FREE_KEPT_BYTES = 64 * MIB
_KEPT_PER_COMPRESSED = 16
"""A guest's p2m is 1/512 of its memory and gzip shrinks by 1030 at most, so an honest file never
keeps more than about twice its compressed size; the factor leaves room for list candidates."""
_SPOOLED_PER_COMPRESSED = 256


class Cursor(ABC):
    """A place in a file of `name`; `offset` counts the bytes (decompressed ones) before it."""

    name: str
    offset: int = 0

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

    def check_kept(self, kept_bytes: int) -> None:  # noqa: B027 - only gzip has to check
        """Raise `InputError` where what is kept of the file outgrows what the file can be."""

    def fail(self, message: str, offset: int | None = None) -> InputError:
        """Return an `InputError` that names the file and the offset (this cursor's by default)."""
        at = self.offset if offset is None else offset
        return InputError(f"{self.name}: offset {at:#x}: {message}")

    def truncated(self, num_bytes: int, what: str, present: int) -> InputError:
        """Return the error for a file that ends inside `what`."""
        return self.fail(f"expected {num_bytes} bytes of {what}, but the file ends after {present}")


class MappedCursor(Cursor):
    """A cursor over bytes in memory or a mapped file: views, no copies."""

    def __init__(
        self, data: bytes | mmap.mmap, name: str, start: int = 0, progress: Progress | None = None
    ) -> None:
        self.name = name
        self.base = start
        self.data = memoryview(data)[start:]
        self._map = data if isinstance(data, mmap.mmap) else None
        self._released = 0
        self._progress = progress

    def __len__(self) -> int:
        return len(self.data)

    def peek(self, num_bytes: int) -> bytes:
        """Return the next bytes without moving; fewer at the end of the file."""
        return bytes(self.data[self.offset : self.offset + num_bytes])

    def _require(self, num_bytes: int, what: str) -> None:
        present = len(self.data) - self.offset
        if num_bytes > present:
            raise self.truncated(num_bytes, what, present)

    def take(self, num_bytes: int, what: str) -> memoryview:
        """Return a view of the next bytes and move on."""
        self._require(num_bytes, what)
        view = self.data[self.offset : self.offset + num_bytes]
        self.offset += num_bytes
        return view

    def skip(self, num_bytes: int, what: str) -> None:
        """Move on; pages that lie behind are given back, so a long walk does not look resident."""
        self._require(num_bytes, what)
        self.offset += num_bytes
        if self.offset - self._released >= _RELEASE_BYTES:
            self.release()
        if self._progress is not None:
            self._progress(self.offset)

    def release(self) -> None:
        """Drop the mapping's pages from this process; they stay in the page cache."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)
        self._released = self.offset


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
        self._compressed_offset = compressed_offset
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
            position = self._compressed_offset
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

    def whole(self, limit_bytes: int = SMALL_BYTES) -> MappedCursor | None:
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
        return MappedCursor(bytes(self._view[: self._stop]), self.name)

    def buffered(self) -> bytes:
        """Return all bytes that were read and not yet taken."""
        return bytes(self._view[self._start : self._stop])

    def skip(self, num_bytes: int, what: str) -> None:
        """Read and forget."""
        while num_bytes:
            step = min(num_bytes, CHUNK_BYTES)
            self.take(step, what)
            num_bytes -= step

    def check_kept(self, kept_bytes: int, factor: int = _KEPT_PER_COMPRESSED) -> None:
        """Raise `InputError` for a decompression bomb: kept bytes out of all proportion."""
        if self._compressed_offset is None:
            return
        allowed = _FREE_KEPT_BYTES + factor * self._compressed_offset()
        if kept_bytes > allowed:
            raise self.fail(
                f"{self._compressed_offset()} compressed bytes grew to {kept_bytes} bytes that "
                f"would have to be kept, more than a guest's file can hold: a decompression bomb"
            )

    def spool(self) -> MappedCursor:
        """Put the whole rest into an unlinked temporary file and return a mapped cursor over it.

        Pages of zeros become holes of the file. Raises `ResourceError` where the disk is full.
        """
        kept, size = 0, 0
        with tempfile.TemporaryFile(prefix="p2mbatch-") as file:
            try:
                while ready := self._fill(PAGE_BYTES):
                    page = bytes(self.take(ready, "the file"))
                    if page.count(0) != ready:
                        file.seek(size)
                        file.write(page)
                        kept += ready
                    size += ready
                    self.check_kept(kept, _SPOOLED_PER_COMPRESSED)
                file.truncate(size)
                file.flush()
            except OSError as error:
                raise ResourceError(
                    f"{self.name}: after {format_size(size)}, no room in {tempfile.gettempdir()} "
                    f"({error.strerror}): unpack the file and name it, or set TMPDIR"
                ) from None
            if not size:
                raise InputError(f"{self.name}: the file is empty")
            mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        return MappedCursor(mapped, self.name)


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

    Regular files are mapped, gzip is unpacked on the fly, anything else is read as a pipe.
    Raises `InputError` where the file is missing, unreadable or empty.
    """
    name = os.fspath(path)
    try:
        raw = io.FileIO(sys.stdin.fileno(), closefd=False) if name == "-" else io.FileIO(name)
        status = os.fstat(raw.fileno())
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}") from None
    if name == "-":
        name = "standard input"
    with raw:
        if not stat.S_ISREG(status.st_mode):
            yield _pipe_cursor(raw, name, progress)
            return
        start = raw.tell()
        if status.st_size <= start:
            raise InputError(f"{name}: the file is empty")
        if raw.read(2) == GZIP_MAGIC:
            raw.seek(start)
            yield _gzip_cursor(raw, name, b"", progress)
            return
        mapped = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
        # Only headers and a few pages are looked at: reading ahead would read the whole guest.
        mapped.madvise(mmap.MADV_RANDOM)
        yield MappedCursor(mapped, name, start, progress)


def write_whole(path: str | os.PathLike[str], write: Callable[[BinaryIO], None]) -> None:
    """Have `write` fill the file at `path`, gzipped where its name ends in .gz; all or nothing.

    The bytes go to a file beside it that takes its place at the end. Raises `InputError` where the
    place can't be written to.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as raw:
            if target.suffix == ".gz":
                with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
                    write(packed)  # type: ignore[arg-type]
            else:
                write(raw)
        part.replace(target)
    except OSError as error:
        raise InputError(f"{target}: cannot write: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)


def file_bytes(path: str | os.PathLike[str]) -> int | None:
    """Return how long the file at `path` is on disk, for a progress bar; None for a pipe."""
    if os.fspath(path) == "-":
        return None
    with contextlib.suppress(OSError):
        status = Path(path).stat()
        if stat.S_ISREG(status.st_mode):
            return status.st_size
    return None
