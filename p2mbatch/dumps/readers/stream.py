"""Read a libxc migration stream, v2 or v3, bare, in a libxl stream or in an xl save file.

Source: docs/specs/libxc-migration-stream and libxl-migration-stream; what a receiver must refuse is
refused here, with the offset and what would be right.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import geometry
from p2mbatch.dumps import formats
from p2mbatch.dumps.model import DumpGuest, SharedInfo, p2m_span, parse_shared_info
from p2mbatch.dumps.p2m import LeafP2M
from p2mbatch.dumps.readers.pages import SeekablePages, SequentialPages, StreamPages
from p2mbatch.dumps.readers.sources import CHUNK_BYTES, Cursor, SeekableCursor

WRAPPERS = ("libxc", "libxl", "xl")

_VALID_TYPE = np.array([code in formats.VALID_TYPES for code in range(16)])

_PV_ONLY_REFUSED = {formats.HVM_CONTEXT, formats.HVM_PARAMS}


def looks_like_stream(head: bytes) -> bool:
    """Return whether a file that begins with `head` is a save file or a migration stream."""
    return (
        head.startswith(formats.XL_MAGIC[:16])
        or head[:8] == formats.IMAGE_MARKER.to_bytes(8, "big")
        or head[:8] == formats.LIBXL_IDENT.to_bytes(8, "big")
    )


def read_stream(cursor: Cursor) -> DumpGuest:
    """Read the stream at `cursor` to its end and return the guest.

    Raises `InputError` for anything that the specifications do not allow, HVM guests included.
    """
    head = cursor.peek(8)
    if head == formats.XL_MAGIC[:8]:
        _read_xl_header(cursor)
        guest = _read_libxl(cursor, "xl")
    elif head == formats.LIBXL_IDENT.to_bytes(8, "big"):
        guest = _read_libxl(cursor, "libxl")
    else:
        guest = _LibxcReader(cursor, "libxc").read()
    trailing = len(cursor.peek(CHUNK_BYTES))
    if trailing:
        more = f"{trailing}" if trailing < CHUNK_BYTES else f"at least {trailing}"
        note = f"{more} bytes follow the stream's end (offset {cursor.offset:#x}) and were not read"
        guest = replace(guest, notes=(*guest.notes, note))
    return guest


def _read_xl_header(cursor: Cursor) -> None:
    at = cursor.offset
    magic = bytes(cursor.take(len(formats.XL_MAGIC), "xl save file header"))
    if magic != formats.XL_MAGIC:
        raise cursor.fail(f"expected the xl save file magic, found {magic!r}", at)
    at = cursor.offset
    head = cursor.take(formats.XL_HEADER.size, "xl save file header")
    order, mandatory, _, optional_bytes = formats.XL_HEADER.unpack(head)
    if order != formats.XL_BYTE_ORDER:
        what = "a big-endian file" if order == 0x04030201 else f"byte order {order:#x}"
        raise cursor.fail(f"expected byte order {formats.XL_BYTE_ORDER:#010x}, found {what}", at)
    if not mandatory & formats.XL_FLAG_STREAM_V2:
        raise cursor.fail(
            "expected a version 2 stream (mandatory flag 2), found a legacy one of Xen 4.5 or "
            "older: convert it with Xen's convert-legacy-stream",
            at + 4,
        )
    unknown = mandatory & ~(formats.XL_FLAG_JSON | formats.XL_FLAG_STREAM_V2)
    if unknown:
        raise cursor.fail(f"expected mandatory flags 1 and 2, found unknown {unknown:#x}", at + 4)
    cursor.skip(optional_bytes, "xl's optional data")


def _read_libxl(cursor: Cursor, wrapper: str) -> DumpGuest:
    at = cursor.offset
    head = cursor.take(formats.LIBXL_HEADER.size, "libxl stream header")
    ident, version, options = formats.LIBXL_HEADER.unpack(head)
    if ident != formats.LIBXL_IDENT:
        raise cursor.fail(
            f"expected a libxl stream ({formats.LIBXL_IDENT:#x}), found {ident:#x}", at
        )
    if version != formats.LIBXL_VERSION:
        raise cursor.fail(f"expected libxl stream version 2, found {version}", at + 8)
    if options & 1:
        raise cursor.fail("expected a little-endian libxl stream, found a big-endian one", at + 12)
    guest: DumpGuest | None = None
    while True:
        at = cursor.offset
        kind, length = formats.RECORD.unpack(cursor.take(8, "a libxl record header"))
        if kind == formats.LIBXL_END:
            _check_body_bytes(cursor, at, "libxl END", length, 0)
            break
        if kind == formats.LIBXL_LIBXC_CONTEXT:
            _check_body_bytes(cursor, at, "LIBXC_CONTEXT", length, 0)
            if guest is not None:
                raise cursor.fail("expected one LIBXC_CONTEXT record, found another", at)
            guest = _LibxcReader(cursor, wrapper).read()
            continue
        if kind not in formats.LIBXL_NAMES and not kind & formats.RECORD_OPTIONAL:
            raise cursor.fail(f"expected a libxl record type, found {kind:#x}", at)
        _skip_body(cursor, at, formats.LIBXL_NAMES.get(kind, f"record {kind:#x}"), length)
    if guest is None:
        raise cursor.fail("expected a LIBXC_CONTEXT record before libxl's END", at)
    return guest


def _skip_libxl_checkpoint(cursor: Cursor) -> None:
    """Move over libxl's own records of one checkpoint: they stand between libxc's."""
    while True:
        at = cursor.offset
        kind, length = formats.RECORD.unpack(cursor.take(8, "a libxl record header"))
        if kind not in formats.LIBXL_IN_CHECKPOINT and not kind & formats.RECORD_OPTIONAL:
            raise cursor.fail(f"expected a libxl record of a checkpoint, found {kind:#x}", at)
        _skip_body(cursor, at, formats.LIBXL_NAMES.get(kind, f"record {kind:#x}"), length)
        if kind == formats.LIBXL_CHECKPOINT_END:
            return


def _check_body_bytes(cursor: Cursor, at: int, name: str, length: int, expected: int) -> None:
    if length != expected:
        raise cursor.fail(f"expected {expected} bytes in {name}, found {length}", at + 4)


def _skip_body(cursor: Cursor, at: int, name: str, length: int) -> None:
    if length > formats.MAX_BODY_BYTES:
        raise cursor.fail(
            f"expected at most {formats.MAX_BODY_BYTES} bytes in {name}, found {length}", at + 4
        )
    cursor.skip(length, name)
    _take_padding(cursor, name, length)


def _take_padding(cursor: Cursor, name: str, length: int) -> None:
    at = cursor.offset
    if any(cursor.take(-length % 8, f"padding of {name}")):
        raise cursor.fail(f"expected zeros as padding of {name}", at)


@dataclass
class _LibxcReader:
    """The state of one libxc stream while it is read, record by record."""

    cursor: Cursor
    wrapper: str
    version: int = 0
    word_bytes: int = 0
    end_pfn: int = -1
    leaf_parts: list[Int64Array] = field(default_factory=list)
    leaf_pfns: Int64Array | None = None
    pages: StreamPages | None = None
    shared_info: SharedInfo | None = None
    last_kind: int = -1
    """The record before the one at the cursor, optional ones not counted."""
    seen: dict[int, int] = field(default_factory=dict)
    details: dict[str, int | str] = field(default_factory=dict)

    def read(self) -> DumpGuest:
        """Read headers and records to END and return the guest."""
        self._read_headers()
        while self._read_record() != formats.END:
            pass
        return self._guest()

    def _read_headers(self) -> None:
        cursor, at = self.cursor, self.cursor.offset
        head = cursor.take(formats.IMAGE_HEADER.size, "the image header")
        marker, ident, version, options, zero, zero2 = formats.IMAGE_HEADER.unpack(head)
        if marker != formats.IMAGE_MARKER:
            raise cursor.fail(
                f"expected a libxc stream (marker of all ones), found {marker:#018x}: "
                "a legacy stream or no stream at all",
                at,
            )
        if ident != formats.IMAGE_IDENT:
            raise cursor.fail(f"expected image id {formats.IMAGE_IDENT:#x}, found {ident:#x}", at)
        if version not in (2, 3):
            raise cursor.fail(f"expected stream version 2 or 3, found {version}", at + 12)
        if options & formats.IMAGE_BIG_ENDIAN:
            raise cursor.fail("expected a little-endian stream, found a big-endian one", at + 16)
        if options or zero or zero2:
            raise cursor.fail("expected zeros in the image header's reserved fields", at + 16)
        self.version = version
        at = cursor.offset
        head = cursor.take(formats.DOMAIN_HEADER.size, "the domain header")
        kind, page_shift, zero, major, minor = formats.DOMAIN_HEADER.unpack(head)
        if kind == formats.DOMAIN_HVM:
            raise cursor.fail(
                "expected a PV guest, found an HVM guest: it has no p2m of its own, "
                "its frames are kept by Xen",
                at,
            )
        if kind != formats.DOMAIN_PV:
            raise cursor.fail(f"expected domain type 1 (PV), found {kind:#x}", at)
        if page_shift != 12:
            raise cursor.fail(f"expected page shift 12, found {page_shift}", at + 4)
        if zero:
            raise cursor.fail("expected zero in the domain header's reserved field", at + 6)
        self.details["xen_version"] = f"{major}.{minor}" if major else "converted from legacy"

    def _read_record(self) -> int:
        """Read one record and return its type."""
        cursor, at = self.cursor, self.cursor.offset
        kind, length = formats.RECORD.unpack(cursor.take(8, "a record header"))
        if kind >= len(formats.RECORD_NAMES):
            if not kind & formats.RECORD_OPTIONAL:
                raise cursor.fail(f"expected a known record type, found mandatory {kind:#x}", at)
            _skip_body(cursor, at, f"optional record {kind:#x}", length)
            return int(kind)
        name = formats.RECORD_NAMES[kind]
        if length > formats.MAX_BODY_BYTES:
            raise cursor.fail(
                f"expected at most {formats.MAX_BODY_BYTES} bytes in {name}, found {length}", at + 4
            )
        if kind in formats.EXACT_BODY_BYTES:
            _check_body_bytes(cursor, at, name, length, formats.EXACT_BODY_BYTES[kind])
        self._check_order(kind, at)
        self.seen[kind] = self.seen.get(kind, 0) + 1
        self.last_kind = kind
        if kind == formats.PAGE_DATA_TYPE:
            self._read_page_data(length, at)
        elif kind == formats.X86_PV_INFO:
            self._read_pv_info()
        elif kind == formats.X86_PV_P2M_FRAMES:
            self._read_p2m_frames(length, at)
        elif kind == formats.SHARED_INFO:
            self.shared_info = parse_shared_info(cursor.take(length, name), self.word_bytes)
        else:
            cursor.skip(length, name)
        _take_padding(cursor, name, length)
        if kind == formats.CHECKPOINT and self.wrapper != "libxc":
            _skip_libxl_checkpoint(cursor)
        return int(kind)

    def _check_order(self, kind: int, at: int) -> None:
        """Raise where a record stands where the specification does not allow it."""
        name, fail = formats.RECORD_NAMES[kind], self.cursor.fail
        if kind in _PV_ONLY_REFUSED:
            raise fail(f"expected records of a PV guest, found {name}", at)
        if kind == formats.CHECKPOINT_DIRTY_PFN_LIST:
            raise fail(f"{name} belongs to a stream in the other direction", at)
        if kind in formats.V3_RECORDS and self.version < 3:
            raise fail(f"{name} belongs to a version 3 stream, this is version 2", at)
        if kind == formats.X86_PV_INFO and kind in self.seen:
            raise fail("expected one X86_PV_INFO record, found another", at)
        needs_info = (formats.X86_PV_P2M_FRAMES, formats.PAGE_DATA_TYPE, formats.SHARED_INFO)
        if kind in needs_info and formats.X86_PV_INFO not in self.seen:
            raise fail(f"expected X86_PV_INFO before {name}", at)
        if kind == formats.X86_PV_P2M_FRAMES:
            if self.version >= 3 and formats.STATIC_DATA_END not in self.seen:
                raise fail("expected STATIC_DATA_END before X86_PV_P2M_FRAMES", at)
            if formats.PAGE_DATA_TYPE in self.seen:
                raise fail("expected X86_PV_P2M_FRAMES before the first PAGE_DATA", at)
        if kind == formats.PAGE_DATA_TYPE and formats.X86_PV_P2M_FRAMES not in self.seen:
            raise fail("expected X86_PV_P2M_FRAMES before the first PAGE_DATA", at)
        ends_open = formats.CHECKPOINT in self.seen and self.last_kind != formats.CHECKPOINT
        if kind == formats.END and ends_open:
            # A receiver drops what came after the last checkpoint that was completed.
            raise fail("expected CHECKPOINT before END in a stream of checkpoints", at)
        repeated = kind == formats.SHARED_INFO and self.shared_info is not None
        if repeated and formats.CHECKPOINT not in self.seen:
            raise fail("expected one SHARED_INFO record, found another", at)

    def _read_pv_info(self) -> None:
        at = self.cursor.offset
        width, levels, zero, zero2 = formats.PV_INFO.unpack(
            self.cursor.take(formats.PV_INFO.size, "X86_PV_INFO")
        )
        if formats.PT_LEVELS.get(width) != levels:
            raise self.cursor.fail(
                "expected guest width 8 with 4 page table levels or 4 with 3, "
                f"found {width} with {levels}",
                at,
            )
        if zero or zero2:
            raise self.cursor.fail("expected zeros in X86_PV_INFO's reserved bytes", at + 2)
        self.word_bytes = width

    def _read_p2m_frames(self, length: int, at: int) -> None:
        """Read one X86_PV_P2M_FRAMES record; a further one must go on where the last ended."""
        fail, n = self.cursor.fail, geometry(self.word_bytes).entries
        if length < formats.P2M_FRAMES.size:
            raise fail(f"expected at least 8 bytes in X86_PV_P2M_FRAMES, found {length}", at + 4)
        body = self.cursor.take(length, "X86_PV_P2M_FRAMES")
        start, end = formats.P2M_FRAMES.unpack(body[:8])
        if start != self.end_pfn + 1 or start % n:
            raise fail(
                f"expected X86_PV_P2M_FRAMES to start at PFN {self.end_pfn + 1}, "
                f"at the first entry of a leaf, found {start}",
                at + 8,
            )
        if end < start:
            raise fail(f"expected an end PFN from {start} on, found {end}", at + 12)
        num_leaves = end // n - start // n + 1
        if length != formats.P2M_FRAMES.size + 8 * num_leaves:
            raise fail(
                f"expected {8 + 8 * num_leaves} bytes in X86_PV_P2M_FRAMES for PFNs {start} to "
                f"{end} ({num_leaves} leaves), found {length}",
                at + 4,
            )
        leaves = np.frombuffer(body, "<u8", offset=8)
        beyond = np.flatnonzero(leaves > np.uint64(0xFFFF_FFFF))
        if beyond.size:
            raise fail(
                f"expected the PFN of a leaf page, found {int(leaves[beyond[0]]):#x}",
                at + 16 + 8 * int(beyond[0]),
            )
        self.leaf_parts.append(leaves.astype(np.int64))
        self.end_pfn = end

    def _start_pages(self, at: int) -> StreamPages:
        """Make the page store, now that all leaves are known."""
        leaf_pfns = np.concatenate(self.leaf_parts)
        beyond = np.flatnonzero(leaf_pfns > self.end_pfn)
        if beyond.size:
            raise self.cursor.fail(
                f"X86_PV_P2M_FRAMES names PFN {int(leaf_pfns[beyond[0]])} as leaf "
                f"{int(beyond[0])}, but the guest's last PFN is {self.end_pfn}",
                at,
            )
        self.leaf_pfns = leaf_pfns
        if isinstance(self.cursor, SeekableCursor):
            return SeekablePages(self.word_bytes, self.end_pfn + 1, self.cursor)
        return SequentialPages(self.word_bytes, self.end_pfn + 1, leaf_pfns)

    def _read_page_data(self, length: int, at: int) -> None:
        cursor = self.cursor
        if self.pages is None:
            self.pages = self._start_pages(at)
        if length <= formats.PAGE_DATA.size:
            raise cursor.fail(f"expected more than 8 bytes in PAGE_DATA, found {length}", at + 4)
        count, zero = formats.PAGE_DATA.unpack(cursor.take(formats.PAGE_DATA.size, "PAGE_DATA"))
        if zero:
            raise cursor.fail("expected zero in PAGE_DATA's reserved field", at + 12)
        most = (length - formats.PAGE_DATA.size) // 8
        if not 1 <= count <= most:
            raise cursor.fail(
                f"expected 1 to {most} PFNs in a PAGE_DATA record of {length} bytes, found {count}",
                at + 8,
            )
        entries_at = cursor.offset
        body = cursor.take(8 * count, f"{count} PFNs of PAGE_DATA")
        entries = np.frombuffer(body, "<u8").copy()
        self._check_entries(entries, entries_at)
        kinds = entries >> np.uint64(formats.TYPE_SHIFT)
        num_pages = int(np.count_nonzero(kinds < np.uint64(formats.TYPE_BROKEN)))
        expected = formats.PAGE_DATA.size + 8 * count + 4096 * num_pages
        if length != expected:
            raise cursor.fail(
                f"expected {expected} bytes in a PAGE_DATA record of {count} PFNs with "
                f"{num_pages} pages, found {length}",
                at + 4,
            )
        if formats.VERIFY in self.seen:
            # What follows VERIFY is only compared with what was sent before.
            cursor.skip(4096 * num_pages, f"{num_pages} pages of PAGE_DATA")
        else:
            self.pages.add(cursor, entries_at, entries)

    def _check_entries(self, entries: np.ndarray[tuple[int], np.dtype[np.uint64]], at: int) -> None:
        """Raise for the first entry with a type, reserved bits or a PFN that cannot be."""
        kinds = (entries >> np.uint64(formats.TYPE_SHIFT)).astype(np.int64)
        numbers = entries & np.uint64((1 << formats.TYPE_SHIFT) - 1)
        bad = np.flatnonzero(~_VALID_TYPE[kinds] | (numbers > np.uint64(self.end_pfn)))
        if not bad.size:
            return
        first = int(bad[0])
        where, number = at + 8 * first, int(numbers[first])
        if not _VALID_TYPE[kinds[first]]:
            raise self.cursor.fail(
                f"expected page type 0-4 or 9-15, found {int(kinds[first])}", where
            )
        if number >> formats.PFN_BITS:
            raise self.cursor.fail(
                f"expected zeros in bits 52-59 of PAGE_DATA entry {first}, found {number:#x}", where
            )
        raise self.cursor.fail(
            f"expected a PFN up to {self.end_pfn} (X86_PV_P2M_FRAMES), found {number}", where
        )

    def _guest(self) -> DumpGuest:
        """Check that nothing is missing and put the guest together."""
        cursor = self.cursor
        for kind in (formats.X86_PV_INFO, formats.X86_PV_P2M_FRAMES, formats.SHARED_INFO):
            if kind not in self.seen:
                raise cursor.fail(f"the stream ended without {formats.RECORD_NAMES[kind]}")
        if self.pages is None:
            self.pages = self._start_pages(cursor.offset)
        pages, leaf_pfns, shared = self.pages, self.leaf_pfns, self.shared_info
        assert leaf_pfns is not None and shared is not None
        unique = np.unique(leaf_pfns)
        pages.prefetch(unique)
        for pfn in unique.tolist():
            if pages.read(pfn) is None:
                leaf = int(np.argmax(leaf_pfns == pfn))
                raise InputError(
                    f"{cursor.name}: offset {cursor.offset:#x}: the stream ended without data of "
                    f"leaf {leaf} (PFN {pfn}), which X86_PV_P2M_FRAMES names: expected a plain page"
                )
        mid_pfns = geometry(self.word_bytes).entries ** 2
        span = p2m_span(shared, self.word_bytes, self.end_pfn + 1)
        notes = []
        if span < self.end_pfn + 1:
            notes.append(
                f"the stream carries PFNs up to {self.end_pfn}, but the guest's shared info says "
                f"max_pfn {shared.max_pfn}"
            )
        elif span > self.end_pfn + 1 and (self.end_pfn + 1) % mid_pfns:
            # The toolstack's trim ends with a mid; anything else is a p2m that grew meanwhile.
            notes.append(
                f"the stream carries PFNs up to {self.end_pfn} only, but the guest's shared info "
                f"says max_pfn {shared.max_pfn}: the rest is read as holes"
            )
        self.details |= {
            "records": sum(self.seen.values()),
            "pages_with_data": pages.num_data_pages,
            "resent_pages": pages.num_resent_pages,
        }
        return DumpGuest(
            name=cursor.name,
            format=f"libxc stream v{self.version}, {self.wrapper} wrapper",
            word_bytes=self.word_bytes,
            max_p2m_pfn=span,
            p2m=LeafP2M(leaf_pfns, pages, self.word_bytes, self.end_pfn + 1, span),
            pages=pages,
            shared_info=shared,
            leaf_pfns=leaf_pfns,
            notes=tuple(notes),
            details=self.details,
        )
