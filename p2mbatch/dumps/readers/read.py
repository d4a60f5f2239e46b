"""`read_dump`: recognise a file by its content and read it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from p2mbatch.dumps import formats
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.dumps.readers.containers import looks_like_stream, read_stream
from p2mbatch.dumps.readers.core import core_bytes, read_core
from p2mbatch.dumps.readers.sources import (
    CHUNK_BYTES,
    SMALL_BYTES,
    Cursor,
    HeldBytes,
    Progress,
    SeekableCursor,
    SequentialCursor,
    open_source,
)
from p2mbatch.dumps.readers.text import looks_like_text, read_text

_RECOGNISED = (
    "a save file of xl, libvirt, XenServer or xend, a libxl or libxc migration stream (v1 to v3), "
    "an xl dump-core ELF, xen-mfndump text or debugfs xen/mmu/p2m text"
)

_PEEK_BYTES = 4096

_KNOWN_OTHERS = {
    b"\xfd7zXZ\0": "xz data (unpack it first)",
    b"BZh": "bzip2 data (unpack it first)",
    b"\x28\xb5\x2f\xfd": "zstd data (unpack it first)",
    b"\x04\x22\x4d\x18": "lz4 data (unpack it first)",
    b"PK\3\4": "a zip archive (unpack it first)",
}


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
        return read_core(cursor if isinstance(cursor, SeekableCursor) else _spool_core(cursor))
    if looks_like_text(head):
        return read_text(cursor)
    found = next((what for magic, what in _KNOWN_OTHERS.items() if head.startswith(magic)), "bytes")
    if head.lstrip()[:1] == b"{":
        found = "JSON (replay reads traces)"
    raise cursor.fail(f"expected {_RECOGNISED}, found {found} {head[:16].hex(' ')}")


def _spool_core(cursor: Cursor) -> SeekableCursor:
    """Return a cursor over the dump-core file at `cursor`, which can be read only once.

    The pages come before the table that says whose they are, so one pass cannot do. Not more is
    unpacked than the section headers name.
    """
    assert isinstance(cursor, SequentialCursor)
    head = SeekableCursor(HeldBytes(cursor.peek(CHUNK_BYTES)), cursor.name)
    spooled = cursor.spool(core_bytes(head))
    spooled.num_trailing = len(cursor.peek(CHUNK_BYTES))
    return spooled


@contextmanager
def open_dump(
    path: str | os.PathLike[str], progress: Progress | None = None
) -> Iterator[DumpGuest]:
    """Read the guest in the file at `path` ("-": standard input) and yield it.

    The file stays open as long as the guest is there. `progress` is called with the bytes gone by.
    Raises `InputError` naming the file, the offset and what was expected.
    """
    with open_source(path, progress) as cursor:
        yield read_cursor(cursor)


def read_dump(path: str | os.PathLike[str], progress: Progress | None = None) -> DumpGuest:
    """Return the guest in the file at `path`, which stays open as long as the guest is there."""
    with open_dump(path, progress) as guest:
        return guest


def read_bytes(data: bytes, name: str = "bytes") -> DumpGuest:
    """Return the guest in `data` (uncompressed), for tests and fuzzing."""
    return read_cursor(SeekableCursor(HeldBytes(data), name))
