"""Read an xl dump-core ELF of a PV guest.

Source: docs/misc/dump-core-format. The file is looked at by section, so it must be seekable;
nothing in a header is believed before it was held against the file's real size. The pairs come in
any order (the format has no rule). The ELF machine is the guest's own (dump-core goes by the
guest's width, not by that of the tools). Where the shared info page makes sense in the other width
only, one of the two was changed, and the page has the last word.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array, UInt64Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.sources import CHUNK_BYTES, Cursor, FileBytes, HeldBytes, SeekableCursor
from p2mbatch.dumps import formats
from p2mbatch.dumps.model import DumpGuest, excess_span, p2m_span, parse_shared_info
from p2mbatch.dumps.p2m import SparseP2M
from p2mbatch.dumps.readers.others import NO_P2M
from p2mbatch.dumps.stores import Page, PageStore, TableData, widen

_NEEDED = (".note.Xen", ".xen_pages", ".xen_p2m")

_MAX_NAME_BYTES = 64

_MAX_NOTE_BYTES = 1 << 16
"""Real ones have some 1500 bytes; a larger section is no list of notes."""

_NO_PFN = (1 << 64) - 1

_PAIRS_AT_ONCE = CHUNK_BYTES // 16


class _Section(NamedTuple):
    name: str
    header_at: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size


class CorePages(PageStore):
    """Pages of a dump-core file: page i of `.xen_pages` is that of pair i of `.xen_p2m`.

    `pfns` int64[num_pages] ascend; page `places[k]` is that of `pfns[k]` (page k where it is None).
    """

    complete = True

    def __init__(
        self,
        data: FileBytes | HeldBytes,
        first_page_at: int,
        pfns: Int64Array,
        places: Int64Array | None,
        word_bytes: int,
    ) -> None:
        self._data = data
        self._first_page_at = first_page_at
        self._pfns = pfns
        self._places = places
        self._word_bytes = word_bytes

    def read(self, pfn: int) -> Page | None:
        """Return the page's words; None where the dump has no such PFN."""
        data = self._bytes(pfn)
        return None if data is None else Page(widen(data, self._word_bytes), True)

    def read_table(self, pfn: int) -> TableData | None:
        """Return the page's entries, which name MFNs."""
        data = self._bytes(pfn)
        return None if data is None else TableData(np.frombuffer(data, "<u8"), False)

    def _bytes(self, pfn: int) -> memoryview | None:
        at = int(np.searchsorted(self._pfns, pfn))
        if at == self._pfns.size or self._pfns[at] != pfn:
            return None
        place = at if self._places is None else int(self._places[at])
        return self._data.read(self._first_page_at + place * PAGE_BYTES, PAGE_BYTES)


def read_core(cursor: Cursor) -> DumpGuest:
    """Read the dump-core file at `cursor`, which must be seekable, and return the guest.

    Raises `InputError` for anything that the format does not allow, HVM guests included.
    """
    assert isinstance(cursor, SeekableCursor)
    machine_bytes, sections = _read_sections(cursor)
    if ".xen_pfn" in sections and ".xen_p2m" not in sections:
        raise _hvm(cursor, sections[".xen_pfn"].header_at)
    for name in _NEEDED:
        if name not in sections:
            raise cursor.fail(f"expected a section {name}, found {len(sections)} others", 0)
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
    pfns, mfns, places = _read_pairs(cursor, pairs_at, num_pages)
    shared_page = _read_shared_page(cursor, sections)
    word_bytes, notes = _guest_width(machine_bytes, shared_page, mfns)
    shared, span = None, int(pfns[-1]) + 1 if pfns.size else 0
    if shared_page is not None:
        shared = parse_shared_info(shared_page, word_bytes)
        span = p2m_span(shared, word_bytes, span)
    excess = excess_span(span, word_bytes, int(pfns.size))
    if excess is not None:
        raise cursor.fail(excess, pairs_at.offset)
    end = max(section.end for section in sections.values())
    trailing = len(cursor) - end + cursor.num_trailing
    if trailing:
        notes.append(
            f"at least {trailing} bytes follow the last section (offset {end:#x}) and were not read"
        )
    return DumpGuest(
        name=cursor.name,
        format="xl dump-core ELF",
        word_bytes=word_bytes,
        max_p2m_pfn=span,
        p2m=SparseP2M(pfns, mfns, span),
        pages=CorePages(cursor.data, pages_at.offset, pfns, places, word_bytes),
        shared_info=shared,
        notes=tuple(notes),
        details=details | {"pages_with_data": int(pfns.size)},
        unplaced_pages=num_pages - int(pfns.size),
    )


def core_bytes(head: SeekableCursor) -> int | None:
    """Return how long the dump-core file that begins with `head` is by its own headers.

    None where the section headers are not in `head`. Raises `InputError` for another ELF file.
    """
    table_at, num_sections, _, _ = _read_elf_header(head)
    end = table_at + num_sections * formats.ELF_SECTION.size
    if end > len(head):
        return None
    headers = _section_headers(head, table_at, num_sections)
    ends = [h[4] + h[5] for h in headers if h[1] != formats.SHT_NULL]
    return max([end, *ends])


def _read_shared_page(cursor: SeekableCursor, sections: dict[str, _Section]) -> memoryview | None:
    """Return the shared info page; None where the file has no section of it (it is optional)."""
    section = sections.get(".xen_shared_info")
    if section is None:
        return None
    if section.size < PAGE_BYTES:
        raise cursor.fail(
            f"expected {PAGE_BYTES} bytes in .xen_shared_info, found {section.size}",
            section.header_at + 32,
        )
    return cursor.data.read(section.offset, PAGE_BYTES)


def _guest_width(
    machine_bytes: int, shared_page: memoryview | None, mfns: Int64Array
) -> tuple[int, list[str]]:
    """Return (word_bytes, notes), given the width that the ELF machine stands for."""

    def fits(word_bytes: int) -> bool:
        """Whether the fields of that width lead to the p2m."""
        assert shared_page is not None
        shared = parse_shared_info(shared_page, word_bytes)
        mfn = shared.frame_list_list_mfn
        is_listed = mfn >> formats.PFN_BITS == 0 and bool(np.any(mfns == mfn))
        return shared.max_pfn > 0 and (is_listed or shared.p2m_cr3 > 0)

    bits = 8 * machine_bytes
    if shared_page is None:
        note = f"no .xen_shared_info: the width is the ELF machine's ({bits}-bit), and the p2m ends"
        return machine_bytes, [f"{note} with its last page"]
    other = 12 - machine_bytes
    if fits(machine_bytes) or not fits(other):
        return machine_bytes, []
    note = f"the ELF machine is {bits}-bit, the shared info page that of a {8 * other}-bit guest"
    return other, [
        f"{note}: dump-core writes the guest's own width, so one of them was changed since; the "
        "shared info page is believed"
    ]


def _hvm(cursor: Cursor, at: int) -> InputError:
    return cursor.fail(f"expected a PV guest, found an HVM guest or PVH: {NO_P2M}", at)


def _read_elf_header(cursor: SeekableCursor) -> tuple[int, int, int, int]:
    """Return (where the section headers are, how many, which names them, ELF machine)."""
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
    return table_at, num_sections, names_index, machine


def _section_headers(
    cursor: SeekableCursor, table_at: int, num_sections: int
) -> list[tuple[int, ...]]:
    size = formats.ELF_SECTION.size
    table = cursor.data.read(table_at, num_sections * size)
    return [formats.ELF_SECTION.unpack_from(table, size * i) for i in range(num_sections)]


def _read_sections(cursor: SeekableCursor) -> tuple[int, dict[str, _Section]]:
    """Return (the machine's word_bytes, sections by name) of the ELF file."""
    fail, entry_bytes = cursor.fail, formats.ELF_SECTION.size
    table_at, num_sections, names_index, machine = _read_elf_header(cursor)
    if table_at + entry_bytes * num_sections > len(cursor):
        raise fail(
            f"expected {num_sections} section headers at {table_at:#x}, but the file has "
            f"{len(cursor)} bytes",
            40,
        )
    headers = _section_headers(cursor, table_at, num_sections)
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
        size = min(_MAX_NAME_BYTES, names_at + names_size - first)
        name = bytes(cursor.data.read(first, size)).partition(b"\0")[0].decode("latin-1")
        if name in sections:
            raise fail(f"expected one section {name!r}, found another", at)
        sections[name] = _Section(name, at, header[4], header[5])
    _check_overlaps(cursor, sections, table_at + entry_bytes * num_sections)
    return formats.ELF_MACHINES[machine], sections


def _check_overlaps(
    cursor: SeekableCursor, sections: dict[str, _Section], headers_end: int
) -> None:
    """Raise where two sections share bytes, or one lies in the headers, which come first."""
    headers = _Section("the section headers", 0, 0, headers_end)
    by_offset = sorted((s for s in sections.values() if s.size), key=lambda s: s.offset)
    for before, after in pairwise([headers, *by_offset]):
        if after.offset < before.end:
            raise cursor.fail(
                f"expected {after.name!r} behind {before.name!r}, which ends at {before.end:#x}, "
                f"found it at {after.offset:#x}: the sections overlap",
                after.header_at + 24,
            )


def _read_notes(cursor: SeekableCursor, section: _Section, details: dict[str, int | str]) -> int:
    """Check the Xen notes, put what they say into `details` and return the number of pages."""
    fail, at, num_pages = cursor.fail, section.offset, None
    if section.size > _MAX_NOTE_BYTES:
        raise fail(
            f"expected at most {_MAX_NOTE_BYTES} bytes in .note.Xen, found {section.size}",
            section.header_at + 32,
        )
    while at < section.end:
        if section.end - at < formats.NOTE.size:
            raise fail("expected a whole note header at the end of .note.Xen", at)
        head = cursor.data.read(at, formats.NOTE.size)
        name_bytes, size, kind, name = formats.NOTE.unpack(head)
        if name_bytes != 4 or name != b"Xen\0":
            raise fail(f"expected a note named 'Xen', found {name!r}", at)
        body = at + formats.NOTE.size
        if size > section.end - body:
            raise fail(f"expected a note of at most {section.end - body} bytes, found {size}", at)
        if kind == formats.NOTE_HEADER:
            num_pages = _read_core_header(cursor, body, size, details)
        elif kind == formats.NOTE_XEN_VERSION and size >= 16:
            major, minor = struct.unpack("<QQ", cursor.data.read(body, 16))
            details["xen_version"] = f"{major}.{minor}"
        elif kind == formats.NOTE_FORMAT_VERSION:
            version = int.from_bytes(cursor.data.read(body, min(size, 8)), "little")
            if version >> 32 or version != formats.CORE_FORMAT_VERSION:
                raise fail(f"expected dump-core format version 1, found {version}", body)
        at = body + size + -size % 4
    if num_pages is None:
        raise fail("expected a header note (0x2000001) in .note.Xen", section.offset)
    return num_pages


def _read_core_header(
    cursor: SeekableCursor, at: int, size: int, details: dict[str, int | str]
) -> int:
    if size != formats.CORE_HEADER.size:
        raise cursor.fail(f"expected 32 bytes in the header note, found {size}", at)
    magic, num_vcpus, num_pages, page_bytes = formats.CORE_HEADER.unpack(cursor.data.read(at, size))
    if magic == formats.CORE_MAGIC_HVM:
        raise _hvm(cursor, at)
    if magic != formats.CORE_MAGIC_PV:
        raise cursor.fail(f"expected magic 0xf00febed (PV), found {magic:#x}", at)
    if page_bytes != PAGE_BYTES:
        raise cursor.fail(f"expected pages of {PAGE_BYTES} bytes, found {page_bytes}", at + 24)
    details["vcpus"] = num_vcpus
    return int(num_pages)


def _check_once(cursor: SeekableCursor, at: int, pfns: UInt64Array) -> None:
    """Raise where a PFN is twice among `pfns`, those of the pairs from offset `at` on."""
    if np.all(pfns[1:] > pfns[:-1]):
        return
    order = np.argsort(pfns, kind="stable")
    again = np.flatnonzero((np.diff(pfns[order]) == 0) & (pfns[order][1:] != np.uint64(_NO_PFN)))
    if again.size:
        later = int(order[again + 1].min())
        raise cursor.fail(
            f"expected each PFN once in .xen_p2m, found {int(pfns[later])} again", at + 16 * later
        )


def _read_pairs(
    cursor: SeekableCursor, section: _Section, num_pages: int
) -> tuple[Int64Array, Int64Array, Int64Array | None]:
    """Return int64 (PFNs, MFNs, places) of `.xen_p2m` without unused pairs, by ascending PFN.

    `places` are the pairs' places in the file, None where they are 0, 1, 2, ….
    """
    parts = [np.zeros((0, 2), np.uint64)]
    for first in range(0, num_pages, _PAIRS_AT_ONCE):
        count = min(_PAIRS_AT_ONCE, num_pages - first)
        data = cursor.data.read(section.offset + 16 * first, 16 * count)
        pairs = np.frombuffer(data, "<u8").reshape(-1, 2)
        parts.append(pairs)
        # A file with holes can hold pairs without end that take no room: all of one PFN.
        _check_once(cursor, section.offset + 16 * first, pairs[:, 0])
    pfns, mfns = np.concatenate([p[:, 0] for p in parts]), np.concatenate([p[:, 1] for p in parts])
    places: Int64Array | None = None
    used = pfns != np.uint64(_NO_PFN)
    num_used = int(np.count_nonzero(used))
    if not used[:num_used].all():
        places = np.flatnonzero(used)
        pfns, mfns = pfns[used], mfns[used]
    else:
        pfns, mfns = pfns[:num_used], mfns[:num_used]

    def place_of(at: int) -> int:
        return section.offset + 16 * (at if places is None else int(places[at]))

    for column, what in ((pfns, "PFN"), (mfns, "frame number")):
        beyond = np.flatnonzero(column >> np.uint64(formats.PFN_BITS))
        if beyond.size:
            raise cursor.fail(
                f"expected a {what} below 2^52, found {int(column[beyond[0]]):#x}",
                place_of(int(beyond[0])) + (0 if what == "PFN" else 8),
            )
    if np.any(pfns[1:] < pfns[:-1]):
        order = np.argsort(pfns, kind="stable")
        places = order if places is None else places[order]
        pfns, mfns = pfns[order], mfns[order]
    again = np.flatnonzero(pfns[1:] == pfns[:-1])
    if again.size:
        first = int(again[0])
        raise cursor.fail(
            f"expected each PFN once in .xen_p2m, found {int(pfns[first])} again",
            place_of(first + 1),
        )
    return pfns.view(np.int64), mfns.view(np.int64), places
