"""`read_dump`: recognise a file by its content and read it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from p2mbatch.dumps import formats
from p2mbatch.dumps.core import read_core
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.dumps.sources import (
    SMALL_BYTES,
    Cursor,
    MappedCursor,
    Progress,
    SequentialCursor,
    open_source,
)
from p2mbatch.dumps.stream import looks_like_stream, read_stream
from p2mbatch.dumps.text import looks_like_text, read_text

_RECOGNISED = (
    "an xl save file, a libxl or libxc migration stream (v2, v3), an xl dump-core ELF, "
    "xen-mfndump text or debugfs xen/mmu/p2m text"
)
_PEEK_BYTES = 4096


def read_cursor(cursor: Cursor, small_bytes: int = SMALL_BYTES) -> DumpGuest:
    """Read the guest at `cursor`, whatever its format. Raises `InputError` for anything else.

    What is read only once (a pipe, gzip) is held whole up to `small_bytes`.
    """
    if isinstance(cursor, SequentialCursor):
        cursor = cursor.whole(small_bytes) or cursor
    head = cursor.peek(_PEEK_BYTES)
    if not head:
        raise cursor.fail(f"the file is empty: expected {_RECOGNISED}")
    if looks_like_stream(head):
        return read_stream(cursor)
    if head.startswith(formats.ELF_MAGIC):
        # The pages come before the table that says whose they are, so one pass cannot do.
        return read_core(cursor.spool() if isinstance(cursor, SequentialCursor) else cursor)
    if looks_like_text(head):
        return read_text(cursor)
    if head.startswith(b"LinuxGuestRecord") or head[8:16] == b"\xff" * 8:
        raise cursor.fail(
            "a legacy save file (xend, or libxc of Xen 4.5 and older): convert it with Xen's "
            "convert-legacy-stream"
        )
    raise cursor.fail(f"expected {_RECOGNISED}, found bytes {head[:16].hex(' ')}")


@contextmanager
def open_dump(
    path: str | os.PathLike[str], progress: Progress | None = None
) -> Iterator[DumpGuest]:
    """Read the guest in the file at `path` ("-": standard input) and yield it.

    The file stays mapped while the context lasts. `progress` is called with the bytes gone by.
    Raises `InputError` naming the file, the offset and what was expected.
    """
    with open_source(path, progress) as cursor:
        yield read_cursor(cursor)


def read_dump(path: str | os.PathLike[str], progress: Progress | None = None) -> DumpGuest:
    """Return the guest in the file at `path`; a mapping lives as long as the guest does."""
    with open_dump(path, progress) as guest:
        return guest


def read_bytes(data: bytes, name: str = "bytes") -> DumpGuest:
    """Return the guest in `data` (uncompressed), for tests and fuzzing."""
    return read_cursor(MappedCursor(data, name))
