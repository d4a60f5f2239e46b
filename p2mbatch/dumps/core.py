"""Read an xl dump-core ELF of a PV guest.

Source: docs/misc/dump-core-format. The file is looked at by section, so it must be mapped; nothing
in a header is believed before it was held against the file's real size.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from p2mbatch.dumps import formats
from p2mbatch.dumps.model import (
    DumpGuest,
    Int64Array,
    Page,
    PageStore,
    SparseP2M,
    parse_shared_info,
    widen,
)
from p2mbatch.dumps.sources import Cursor, MappedCursor
from p2mbatch.errors import InputError
from p2mbatch.geometry import PAGE_BYTES, geometry

_NEEDED = (".note.Xen", ".xen_shared_info", ".xen_pages", ".xen_p2m")
_MAX_NAME_BYTES = 64
_NO_PFN = (1 << 64) - 1


class _Section(NamedTuple):
    name: str
    header_at: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size


class CorePages(PageStore):
    """Pages of a dump-core file: page i of `.xen_pages` is that of pair i of `.xen_p2m`."""

    complete = True

    def __init__(self, pages: memoryview, pfns: Int64Array, word_bytes: int) -> None:
        self._pages = pages
        self._pfns = pfns
        self._word_bytes = word_bytes

    def read(self, pfn: int) -> Page | None:
        """Return the page's words; None where the dump has no such PFN."""
        at = int(np.searchsorted(self._pfns, pfn))
        if at == self._pfns.size or self._pfns[at] != pfn:
            return None
        data = self._pages[at * PAGE_BYTES : (at + 1) * PAGE_BYTES]
        return Page(widen(data, self._word_bytes), True)


def read_core(cursor: Cursor) -> DumpGuest:
    """Read the dump-core file at `cursor`, which must be mapped, and return the guest.

    Raises `InputError` for anything that the format does not allow, HVM guests included.
    """
    assert isinstance(cursor, MappedCursor)
    word_bytes, sections = _read_sections(cursor)
    if ".xen_pfn" in sections and ".xen_p2m" not in sections:
        raise _hvm(cursor, sections[".xen_pfn"].header_at)
    for name in _NEEDED:
        if name not in sections:
            raise cursor.fail(f"expected a section {name}, found {len(sections)} others", 0)
    _check_overlaps(cursor, sections)
    details: dict[str, int | str] = {}
    num_pages = _read_notes(cursor, sections[".note.Xen"], details)
    pairs_at, pages_at = sections[".xen_p2m"], sections[".xen_pages"]
    for section, each in ((pairs_at, 16), (pages_at, PAGE_BYTES)):
        if section.size != num_pages * each:
            raise cursor.fail(
                f"expected {num_pages * each} bytes in {section.name} for the {num_pages} pages of "
                f"the note, found {section.size}",
                section.header_at + 32,
            )
    pfns, mfns = _read_pairs(cursor, pairs_at, num_pages)
    shared_at = sections[".xen_shared_info"]
    if shared_at.size < PAGE_BYTES:
        raise cursor.fail(
            f"expected {PAGE_BYTES} bytes in .xen_shared_info, found {shared_at.size}",
            shared_at.header_at + 32,
        )
    shared_page = cursor.data[shared_at.offset : shared_at.offset + PAGE_BYTES]
    shared = parse_shared_info(shared_page, word_bytes)
    span = max(min(shared.max_pfn, geometry(word_bytes).max_p2m_pfn), 0)
    return DumpGuest(
        name=cursor.name,
        format="xl dump-core ELF",
        word_bytes=word_bytes,
        max_p2m_pfn=span,
        p2m=SparseP2M(pfns, mfns, span),
        pages=CorePages(cursor.data[pages_at.offset : pages_at.end], pfns, word_bytes),
        shared_info=shared,
        details=details | {"pages_with_data": int(pfns.size)},
    )


def _hvm(cursor: Cursor, at: int) -> InputError:
    return cursor.fail(
        "expected a PV guest, found an HVM guest: it has no p2m of its own, its frames are kept "
        "by Xen",
        at,
    )


def _read_sections(cursor: MappedCursor) -> tuple[int, dict[str, _Section]]:
    """Return (word_bytes, sections by name) of the ELF file."""
    fail = cursor.fail
    head = cursor.take(formats.ELF_HEADER.size, "the ELF header")
    fields = formats.ELF_HEADER.unpack(head)
    ident, kind, machine, table_at = fields[0], fields[1], fields[2], fields[6]
    entry_bytes, num_sections, names_index = fields[11:14]
    if ident[4] != formats.ELF_CLASS64:
        raise fail(f"expected a 64-bit ELF (class 2), found class {ident[4]}", 4)
    if ident[5] != formats.ELF_LSB:
        raise fail("expected a little-endian ELF, found a big-endian one", 5)
    if kind != formats.ET_CORE:
        raise fail(f"expected an ELF core (type 4), found type {kind}", 16)
    if machine not in formats.ELF_MACHINES:
        raise fail(f"expected ELF machine 62 (x86-64) or 3 (i386), found {machine}", 18)
    if entry_bytes != formats.ELF_SECTION.size or not num_sections:
        raise fail(
            f"expected ELF section headers of {formats.ELF_SECTION.size} bytes, found "
            f"{num_sections} of {entry_bytes}: not a file of xl dump-core",
            58,
        )
    if table_at + entry_bytes * num_sections > len(cursor):
        raise fail(
            f"expected {num_sections} section headers at {table_at:#x}, but the file has "
            f"{len(cursor)} bytes",
            40,
        )
    headers = [
        formats.ELF_SECTION.unpack_from(cursor.data, table_at + entry_bytes * i)
        for i in range(num_sections)
    ]
    for i, header in enumerate(headers):
        if header[1] != formats.SHT_NULL and header[4] + header[5] > len(cursor):
            raise fail(
                f"expected section {i} to lie in the file of {len(cursor)} bytes, found "
                f"{header[5]} bytes at {header[4]:#x}",
                table_at + entry_bytes * i + 24,
            )
    if names_index >= num_sections or headers[names_index][1] != formats.SHT_STRTAB:
        raise fail(f"expected a string table in section {names_index}", 62)
    names_at, names_size = headers[names_index][4:6]
    sections: dict[str, _Section] = {}
    for i, header in enumerate(headers):
        at = table_at + entry_bytes * i
        if header[1] == formats.SHT_NULL:
            continue
        if header[0] >= names_size:
            raise fail(f"expected the name of section {i} in the string table", at)
        first = names_at + header[0]
        raw = bytes(cursor.data[first : min(first + _MAX_NAME_BYTES, names_at + names_size)])
        name = raw.partition(b"\0")[0].decode("latin-1")
        if name in sections:
            raise fail(f"expected one section {name!r}, found another", at)
        sections[name] = _Section(name, at, header[4], header[5])
    return formats.ELF_MACHINES[machine], sections


def _check_overlaps(cursor: MappedCursor, sections: dict[str, _Section]) -> None:
    """Raise where two sections share bytes."""
    by_offset = sorted((s for s in sections.values() if s.size), key=lambda s: s.offset)
    for before, after in pairwise(by_offset):
        if after.offset < before.end:
            raise cursor.fail(
                f"expected {after.name!r} behind {before.name!r}, which ends at {before.end:#x}, "
                f"found it at {after.offset:#x}: the sections overlap",
                after.header_at + 24,
            )


def _read_notes(cursor: MappedCursor, section: _Section, details: dict[str, int | str]) -> int:
    """Check the Xen notes, put what they say into `details` and return the number of pages."""
    fail, at, num_pages = cursor.fail, section.offset, None
    while at < section.end:
        if section.end - at < formats.NOTE.size:
            raise fail("expected a whole note header at the end of .note.Xen", at)
        name_bytes, size, kind, name = formats.NOTE.unpack_from(cursor.data, at)
        if name_bytes != 4 or name != b"Xen\0":
            raise fail(f"expected a note named 'Xen', found {name!r}", at)
        body = at + formats.NOTE.size
        if size > section.end - body:
            raise fail(f"expected a note of at most {section.end - body} bytes, found {size}", at)
        if kind == formats.NOTE_HEADER:
            num_pages = _read_core_header(cursor, body, size, details)
        elif kind == formats.NOTE_XEN_VERSION and size >= 16:
            major, minor = (
                int.from_bytes(cursor.data[body + o : body + o + 8], "little") for o in (0, 8)
            )
            details["xen_version"] = f"{major}.{minor}"
        elif kind == formats.NOTE_FORMAT_VERSION:
            version = int.from_bytes(cursor.data[body : body + min(size, 8)], "little")
            if version >> 32 or version != formats.CORE_FORMAT_VERSION:
                raise fail(f"expected dump-core format version 1, found {version}", body)
        at = body + size + -size % 4
    if num_pages is None:
        raise fail("expected a header note (0x2000001) in .note.Xen", section.offset)
    return num_pages


def _read_core_header(
    cursor: MappedCursor, at: int, size: int, details: dict[str, int | str]
) -> int:
    if size != formats.CORE_HEADER.size:
        raise cursor.fail(f"expected 32 bytes in the header note, found {size}", at)
    magic, num_vcpus, num_pages, page_bytes = formats.CORE_HEADER.unpack_from(cursor.data, at)
    if magic == formats.CORE_MAGIC_HVM:
        raise _hvm(cursor, at)
    if magic != formats.CORE_MAGIC_PV:
        raise cursor.fail(f"expected magic 0xf00febed (PV), found {magic:#x}", at)
    if page_bytes != PAGE_BYTES:
        raise cursor.fail(f"expected pages of {PAGE_BYTES} bytes, found {page_bytes}", at + 24)
    details["vcpus"] = num_vcpus
    return int(num_pages)


def _read_pairs(
    cursor: MappedCursor, section: _Section, num_pages: int
) -> tuple[Int64Array, Int64Array]:
    """Return int64 (PFNs, MFNs) of `.xen_p2m` without its tail, checked to ascend."""
    pairs = np.frombuffer(cursor.data, "<u8", 2 * num_pages, section.offset).reshape(-1, 2)
    pfns = pairs[:, 0].copy()
    unused = np.flatnonzero(pfns == np.uint64(_NO_PFN))
    num_used = int(unused[0]) if unused.size else num_pages
    if unused.size != num_pages - num_used:
        at = section.offset + 16 * (num_used + int(np.argmax(pfns[num_used:] != _NO_PFN)))
        raise cursor.fail("expected only unused pairs behind the first unused one", at)
    pfns, mfns = pfns[:num_used], pairs[:num_used, 1].copy()
    for column, what in ((pfns, "PFN"), (mfns, "frame number")):
        beyond = np.flatnonzero(column >> np.uint64(formats.PFN_BITS))
        if beyond.size:
            at = section.offset + 16 * int(beyond[0]) + (0 if what == "PFN" else 8)
            raise cursor.fail(
                f"expected a {what} below 2^52, found {int(column[beyond[0]]):#x}", at
            )
    falls = np.flatnonzero(pfns[1:] <= pfns[:-1])
    if falls.size:
        first = int(falls[0]) + 1
        raise cursor.fail(
            f"expected PFNs to ascend in .xen_p2m, found {int(pfns[first])} after "
            f"{int(pfns[first - 1])}",
            section.offset + 16 * first,
        )
    return pfns.view(np.int64), mfns.view(np.int64)
