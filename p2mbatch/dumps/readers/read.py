"""`read_dump`: recognise a file by its content and read it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import INVALID
from p2mbatch.base.listing import RANGE, first_line
from p2mbatch.base.sources import (
    CHUNK_BYTES,
    SMALL_BYTES,
    Cursor,
    HeldBytes,
    Progress,
    SeekableCursor,
    SequentialCursor,
    open_source,
)
from p2mbatch.dumps import formats
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.dumps.readers.containers import looks_like_stream, read_stream
from p2mbatch.dumps.readers.core import core_bytes, read_core
from p2mbatch.dumps.readers.debugfs import read_debugfs
from p2mbatch.dumps.readers.mfndump import read_p2m_listing
from p2mbatch.dumps.readers.others import describe, describe_core
from p2mbatch.model.host_map import is_host_map, read_m2p_listing

_RECOGNISED = (
    "a save file of xl, libvirt, XenServer or xend, a libxl or libxc migration stream (v1 to v3), "
    "an xl dump-core ELF, xen-mfndump text or debugfs xen/mmu/p2m text"
)

_PEEK_BYTES = 4096

_TEXT_PEEK_BYTES = 1 << 16
"""How far down a listing may begin: a mail has a head and words of its own."""


def read_cursor(
    cursor: Cursor, small_bytes: int = SMALL_BYTES, word_bytes: int | None = None
) -> DumpGuest:
    """Read the guest at `cursor`, whatever its format. Raises `InputError` for anything else.

    What is read only once (a pipe, gzip) is held whole up to `small_bytes`. `word_bytes` is the
    guest's width where a listing does not tell it; a file that tells another is an `InputError`.
    """
    if isinstance(cursor, SequentialCursor):
        cursor = cursor.whole(small_bytes) or cursor
    guest = _read(cursor, word_bytes)
    if word_bytes not in (None, guest.word_bytes):
        text = f"the file is of a {8 * guest.word_bytes}-bit guest, --width says otherwise"
        raise cursor.fail(text, 0)
    return guest


def _read(cursor: Cursor, word_bytes: int | None) -> DumpGuest:
    """Read the guest at `cursor` by what the file begins with."""
    head = cursor.peek(_PEEK_BYTES)
    if not head:
        raise cursor.fail(f"the file is empty: expected {_RECOGNISED}")
    if looks_like_stream(head):
        return read_stream(cursor)
    if head.startswith(formats.ELF_MAGIC):
        other = describe_core(cursor.peek(_TEXT_PEEK_BYTES))
        if other is not None:
            raise cursor.fail(f"expected an xl dump-core ELF, found {other}")
        return read_core(cursor if isinstance(cursor, SeekableCursor) else _spool_core(cursor))
    head = cursor.peek(_TEXT_PEEK_BYTES)
    first = first_line(head)
    if first is None:
        raise cursor.fail(f"expected {_RECOGNISED}, found {describe(head)}")
    if is_host_map(head):
        raise _host_map(cursor)
    if RANGE.fullmatch(first):
        return read_debugfs(cursor, word_bytes)
    return read_p2m_listing(cursor, word_bytes)


def _host_map(cursor: Cursor) -> InputError:
    """Return the error that says what a host's map is and what it is for."""
    m2p = read_m2p_listing(cursor).m2p
    owned = int(np.count_nonzero(m2p != INVALID))
    return cursor.fail(
        f"expected a guest, found a host's map (xen-mfndump dump-m2p): of its {m2p.size} frames "
        f"{owned} stand for somebody's page; a sweep takes it as the guest's neighbours "
        "(neighbour_map)",
        0,
    )


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
    path: str | os.PathLike[str],
    progress: Progress | None = None,
    word_bytes: int | None = None,
) -> Iterator[DumpGuest]:
    """Read the guest in the file at `path` ("-": standard input) and yield it.

    The file stays open as long as the guest is there. `progress` is called with the bytes gone by,
    `word_bytes` is the guest's width where a listing does not tell it.
    Raises `InputError` naming the file, the offset and what was expected.
    """
    with open_source(path, progress) as cursor:
        yield read_cursor(cursor, word_bytes=word_bytes)


def read_dump(
    path: str | os.PathLike[str],
    progress: Progress | None = None,
    word_bytes: int | None = None,
) -> DumpGuest:
    """Return the guest in the file at `path`, which stays open as long as the guest is there."""
    with open_dump(path, progress, word_bytes) as guest:
        return guest


def read_bytes(data: bytes, name: str = "bytes", word_bytes: int | None = None) -> DumpGuest:
    """Return the guest in `data` (uncompressed), for tests and fuzzing."""
    return read_cursor(SeekableCursor(HeldBytes(data), name), word_bytes=word_bytes)
