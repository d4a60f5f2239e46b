"""Read a libxc migration stream, v2 or v3. What may lie around it is in `containers`.

Source: docs/specs/libxc-migration-stream; what a receiver must refuse is refused here, with the
offset and what would be right.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import geometry
from p2mbatch.base.sources import Cursor
from p2mbatch.dumps import formats
from p2mbatch.dumps.model import DumpGuest, SharedInfo, parse_shared_info
from p2mbatch.dumps.readers.finish import finish_stream
from p2mbatch.dumps.readers.others import NO_P2M
from p2mbatch.dumps.readers.pages import StreamPages, new_pages

_VALID_TYPE = np.array([code in formats.VALID_TYPES for code in range(16)])

_PV_ONLY_REFUSED = {formats.HVM_CONTEXT, formats.HVM_PARAMS}


def _skip_libxl_checkpoint(cursor: Cursor) -> None:
    """Move over libxl's own records of one checkpoint: they stand between libxc's."""
    while True:
        cursor.step()
        at = cursor.offset
        kind, length = formats.RECORD.unpack(cursor.take(8, "a libxl record header"))
        if kind not in formats.LIBXL_IN_CHECKPOINT and not kind & formats.RECORD_OPTIONAL:
            raise cursor.fail(f"expected a libxl record of a checkpoint, found {kind:#x}", at)
        skip_body(cursor, at, formats.LIBXL_NAMES.get(kind, f"record {kind:#x}"), length)
        if kind == formats.LIBXL_CHECKPOINT_END:
            return


def check_body_bytes(cursor: Cursor, at: int, name: str, length: int, expected: int) -> None:
    """Raise where the body of the record at `at` has another length than `expected`."""
    if length != expected:
        raise cursor.fail(f"expected {expected} bytes in {name}, found {length}", at + 4)


def skip_body(cursor: Cursor, at: int, name: str, length: int) -> None:
    """Move over the body of the record at `at`, and its padding."""
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
class LibxcReader:
    """The state of one libxc stream while it is read, record by record."""

    cursor: Cursor
    container: str | None
    """What the stream lies in, None for a bare one."""
    in_libxl: bool
    """Whether libxl's own records stand around it, and between its checkpoints."""
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
            raise cursor.fail(f"expected a PV guest, found an HVM guest or PVH: {NO_P2M}", at)
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
        cursor.step()
        kind, length = formats.RECORD.unpack(cursor.take(8, "a record header"))
        if kind >= len(formats.RECORD_NAMES):
            if not kind & formats.RECORD_OPTIONAL:
                raise cursor.fail(f"expected a known record type, found mandatory {kind:#x}", at)
            skip_body(cursor, at, f"optional record {kind:#x}", length)
            return int(kind)
        name = formats.RECORD_NAMES[kind]
        if length > formats.MAX_BODY_BYTES:
            raise cursor.fail(
                f"expected at most {formats.MAX_BODY_BYTES} bytes in {name}, found {length}", at + 4
            )
        if kind in formats.EXACT_BODY_BYTES:
            check_body_bytes(cursor, at, name, length, formats.EXACT_BODY_BYTES[kind])
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
        if kind == formats.CHECKPOINT and self.in_libxl:
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
        return new_pages(self.cursor, self.word_bytes, self.end_pfn + 1, leaf_pfns)

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
        assert self.leaf_pfns is not None and self.shared_info is not None
        return finish_stream(
            cursor,
            self.pages,
            self.leaf_pfns,
            self.shared_info,
            last_pfn=self.end_pfn,
            version=self.version,
            container=self.container,
            details=self.details | {"records": sum(self.seen.values())},
        )
