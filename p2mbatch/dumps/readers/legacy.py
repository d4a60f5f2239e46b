"""Read a libxc migration stream of version 1, as Xen wrote it up to 4.5.

It has no header and no record lengths, and its fields are as wide as the `unsigned long` of the
toolstack that wrote it, whatever the guest's width is. Source: public descriptions of the format
(Xen's tools/libxc/xg_save_restore.h, and the notes of tools/python/xen/migration/legacy.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from p2mbatch.base.arrays import Int64Array, UInt64Array
from p2mbatch.base.geometry import PAGE_BYTES, geometry
from p2mbatch.base.sources import Cursor
from p2mbatch.dumps import formats
from p2mbatch.dumps.model import DumpGuest, SharedInfo, parse_shared_info
from p2mbatch.dumps.readers.finish import finish_stream
from p2mbatch.dumps.readers.pages import PageIds, StreamPages, new_pages

_VALID_TYPE = np.array([code in formats.VALID_TYPES for code in range(16)])

_HEADS = {
    8: re.compile(rb"(?s).{4}\0{4}\xff{8}.{4}[a-z]{4}"),
    4: re.compile(rb"(?s).{4}\xff{4}.{4}[a-z]{4}"),
}
"""p2m_size, all ones, length of the extended info, the id of its first block."""

_MAX_INFO_BYTES = 1 << 16
"""Real ones have some 5 KiB."""


def looks_like_legacy(head: bytes) -> int | None:
    """Return the bytes of the toolstack's `unsigned long` if `head` begins a legacy stream of a PV
    guest, else None.
    """
    return next((width for width, pattern in _HEADS.items() if pattern.match(head)), None)


def looks_like_legacy_hvm(head: bytes) -> bool:
    """Return whether `head` begins a legacy stream of an HVM guest: no extended info, but a chunk.

    So little tells them apart from other bytes that it is asked only where a stream must be.
    """
    for width in _HEADS:
        size = int.from_bytes(head[:width], "little")
        kind = int.from_bytes(head[width : width + 4], "little", signed=True)
        is_chunk = 0 < kind <= formats.LEGACY_MAX_BATCH_PAGES or -32 < kind < 0
        if len(head) >= width + 4 and 0 < size <= 1 << formats.LEGACY_TYPE_SHIFT and is_chunk:
            return True
    return False


def page_ids(long_bytes: int) -> PageIds:
    """Return how a toolstack with an `unsigned long` of `long_bytes` names pages."""
    dtype = formats.WORD_DTYPES[long_bytes]
    shift = np.uint64(formats.LEGACY_TYPE_SHIFT)

    def decode(data: memoryview) -> UInt64Array:
        ids = np.frombuffer(data, dtype).astype(np.uint64)
        types, pfns = ids >> shift, ids & np.uint64((1 << formats.LEGACY_TYPE_SHIFT) - 1)
        return pfns | types << np.uint64(formats.TYPE_SHIFT)

    return PageIds(long_bytes, decode)


@dataclass
class LegacyReader:
    """The state of one legacy stream while it is read, part by part."""

    cursor: Cursor
    container: str | None
    long_bytes: int
    """Bytes of an `unsigned long` of the toolstack: 4 or 8."""
    p2m_size: int = 0
    word_bytes: int = 0
    has_extended_vcpus: bool = False
    xsave_bytes: int = 0
    num_vcpus: int = 1
    verifying: bool = False
    is_last_checkpoint: bool = False
    leaf_pfns: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    num_chunks: int = 0

    def read(self) -> DumpGuest:
        """Read the stream to its end and return the guest.

        Raises `InputError` naming the offset for what a receiver would refuse.
        """
        self.p2m_size = self._long("p2m_size")
        cursor = self.cursor
        if not 0 < self.p2m_size <= 1 << formats.LEGACY_TYPE_SHIFT:
            at = cursor.offset - self.long_bytes
            raise cursor.fail(f"expected a legacy stream's p2m_size, found {self.p2m_size:#x}", at)
        self._read_extended_info()
        self._read_frame_list()
        self.ids = page_ids(self.long_bytes)
        pages = new_pages(cursor, self.word_bytes, self.p2m_size, self.leaf_pfns, self.ids)
        while self._read_chunk(pages):
            pass
        shared = self._read_tail()
        details: dict[str, int | str] = {
            "xen_version": "4.5 or older",
            "toolstack_bits": 8 * self.long_bytes,
            "records": self.num_chunks,
        }
        return finish_stream(
            cursor,
            pages,
            self.leaf_pfns,
            shared,
            last_pfn=self.p2m_size - 1,
            version=1,
            container=self.container,
            details=details,
        )

    def _take(self, num_bytes: int, what: str) -> memoryview:
        return self.cursor.take(num_bytes, f"{what} in a legacy stream")

    def _skip(self, num_bytes: int, what: str) -> None:
        self.cursor.skip(num_bytes, f"{what} in a legacy stream")

    def _long(self, what: str) -> int:
        return int.from_bytes(self._take(self.long_bytes, what), "little")

    def _read_extended_info(self) -> None:
        """Read what tells the guest's width: the size of a virtual CPU's context."""
        cursor = self.cursor
        self._long("the mark of the extended info")
        at = cursor.offset
        total = int.from_bytes(self._take(4, "the extended info's length"), "little")
        if total > _MAX_INFO_BYTES:
            raise cursor.fail(
                f"expected at most {_MAX_INFO_BYTES} bytes of extended info, found {total}", at
            )
        end = cursor.offset + total
        while cursor.offset < end:
            at = cursor.offset
            head = self._take(formats.LEGACY_BLOCK.size, "a block of the extended info")
            name, size = formats.LEGACY_BLOCK.unpack(head)
            if size > end - cursor.offset:
                raise cursor.fail(f"expected a block within the extended info, found {size}", at)
            if name == b"vcpu":
                self._set_width(size, at)
            elif name == b"extv":
                self.has_extended_vcpus = True
            if name == b"xcnt" and size >= 4:
                body = self._take(size, "block xcnt")
                self.xsave_bytes = int.from_bytes(body[:4], "little")
            else:
                self._skip(size, f"block {name.decode('latin-1')!r} of the extended info")
        if not self.word_bytes:
            raise cursor.fail("expected a block 'vcpu', which tells the guest's width", at)

    def _set_width(self, size: int, at: int) -> None:
        widths = {bytes_: width for width, bytes_ in formats.VCPU_CONTEXT_BYTES.items()}
        if size not in widths:
            raise self.cursor.fail(
                f"expected a virtual CPU's context of 5168 (64-bit) or 2800 bytes (32-bit), "
                f"found {size}",
                at + 4,
            )
        self.word_bytes = widths[size]

    def _read_frame_list(self) -> None:
        """Read the leaves' PFNs, an `unsigned long` for each leaf."""
        cursor, n = self.cursor, geometry(self.word_bytes).entries
        num_leaves, at = -(-self.p2m_size // n), cursor.offset
        body = self._take(num_leaves * self.long_bytes, f"the PFNs of {num_leaves} leaves")
        leaves = np.frombuffer(body, formats.WORD_DTYPES[self.long_bytes]).astype(np.uint64)
        beyond = np.flatnonzero(leaves >= np.uint64(self.p2m_size))
        if beyond.size:
            leaf = int(beyond[0])
            raise cursor.fail(
                f"expected a leaf's PFN below p2m_size {self.p2m_size}, found {int(leaves[leaf])} "
                f"as leaf {leaf}",
                at + leaf * self.long_bytes,
            )
        self.leaf_pfns = leaves.astype(np.int64)

    def _read_chunk(self, pages: StreamPages) -> bool:
        """Read one chunk of the body; return whether another one follows."""
        cursor, at = self.cursor, self.cursor.offset
        cursor.step()
        kind = int.from_bytes(self._take(4, "a chunk's type"), "little", signed=True)
        self.num_chunks += 1
        if kind > 0:
            self._read_batch(pages, kind, at)
        elif kind == formats.LEGACY_ENABLE_VERIFY:
            self.verifying = True
        elif kind == formats.LEGACY_VCPU_INFO:
            self._read_vcpu_info()
        elif kind == formats.LEGACY_TSC_INFO:
            self._skip(formats.LEGACY_TSC_BYTES, "TSC info")
        elif kind == formats.LEGACY_LAST_CHECKPOINT:
            self.is_last_checkpoint = True
        elif kind == formats.LEGACY_TOOLSTACK:
            size = int.from_bytes(self._take(4, "the toolstack data's length"), "little")
            self._skip(size, "toolstack data")
        elif kind in (formats.LEGACY_ENABLE_COMPRESSION, formats.LEGACY_COMPRESSED_DATA):
            raise cursor.fail("expected a save, found a stream of compressed checkpoints", at)
        elif kind:
            raise cursor.fail(
                f"expected a chunk of a PV guest's legacy stream, found type {kind}", at
            )
        return kind != 0

    def _read_batch(self, pages: StreamPages, count: int, at: int) -> None:
        """Read `count` page ids and the pages that go with them."""
        cursor = self.cursor
        most = formats.LEGACY_MAX_BATCH_PAGES
        if count > most:
            raise cursor.fail(f"expected a batch of at most {most} pages, found {count}", at)
        ids_at = cursor.offset
        entries = self.ids.decode(self._take(count * self.long_bytes, f"{count} page ids"))
        kinds = (entries >> np.uint64(formats.TYPE_SHIFT)).astype(np.int64)
        pfns = entries & np.uint64(formats.PFN_MASK)
        bad = np.flatnonzero(~_VALID_TYPE[kinds] | (pfns >= np.uint64(self.p2m_size)))
        if bad.size:
            first = int(bad[0])
            raise cursor.fail(
                f"expected a page id of type 0-4 or 9-15 with a PFN below {self.p2m_size}, found "
                f"type {int(kinds[first])}, PFN {int(pfns[first])}",
                ids_at + first * self.long_bytes,
            )
        if self.verifying:
            num_pages = int(np.count_nonzero(kinds < formats.TYPE_BROKEN))
            self._skip(num_pages * PAGE_BYTES, f"{num_pages} pages")
        else:
            pages.add(cursor, ids_at, entries)

    def _read_vcpu_info(self) -> None:
        """Read which virtual CPUs are online: as many contexts follow the pages."""
        cursor, at = self.cursor, self.cursor.offset
        highest = int.from_bytes(self._take(4, "the highest virtual CPU"), "little")
        if highest >= formats.LEGACY_MAX_VCPUS:
            raise cursor.fail(f"expected a virtual CPU below 4096, found {highest}", at)
        online = self._take(8 * (highest // 64 + 1), "the online virtual CPUs")
        self.num_vcpus = int.from_bytes(online, "little").bit_count()

    def _read_tail(self) -> SharedInfo:
        """Read what follows the pages, up to the shared info page."""
        cursor, at = self.cursor, self.cursor.offset
        absent = int.from_bytes(self._take(4, "the number of absent PFNs"), "little")
        if absent > self.p2m_size:
            raise cursor.fail(f"expected at most {self.p2m_size} absent PFNs, found {absent}", at)
        self._skip(absent * self.long_bytes, f"{absent} absent PFNs")
        for cpu in range(self.num_vcpus):
            self._skip(formats.VCPU_CONTEXT_BYTES[self.word_bytes], f"the context of CPU {cpu}")
            if self.has_extended_vcpus:
                self._skip(formats.LEGACY_EXTENDED_VCPU_BYTES, f"extended context of CPU {cpu}")
            if self.xsave_bytes:
                self._skip(self.xsave_bytes, f"the extended state of CPU {cpu}")
        page = self._take(PAGE_BYTES, "the shared info page")
        return parse_shared_info(page, self.word_bytes)
