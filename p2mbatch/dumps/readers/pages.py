"""Pages of a migration stream: which copies count, and which can be kept.

The leaves are known before the first page (P2M_FRAMES), the frame list list's PFN only at the end
(SHARED_INFO names its MFN, and the leaves say which PFN that is). So:

- `SeekablePages`, for files that can be looked at twice, notes where the PAGE_DATA records are and
  looks a PFN up by going over their PFN arrays again, which are 1/512 of the file.
- `SequentialPages`, for pipes, keeps the leaves, and of every other plain page the leading words
  that could be entries of a frame list (neither 0 nor beyond `formats.MAX_MFN`) with the first that
  could not. The toolstack's walk stops at such a word, so what was dropped can never be asked for:
  the verdict is exact. Most pages hold zeros or no frame number in word 0 and cost nothing; the
  rest goes to memory, and past 64 MiB to an unlinked temporary file.

In both, the last copy of a page counts: live streams send pages again. Only plain pages are read:
the sender translates the entries of page tables, so their words are not those that the guest has.
"""

from __future__ import annotations

import tempfile
import weakref
from abc import abstractmethod
from array import array
from collections.abc import Callable
from typing import IO, NamedTuple

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int64Array, UInt64Array
from p2mbatch.base.geometry import PAGE_BYTES, geometry
from p2mbatch.base.sizes import MIB
from p2mbatch.base.sources import CHUNK_BYTES, Cursor, SeekableCursor
from p2mbatch.dumps import formats
from p2mbatch.dumps.stores import Page, PageStore, TableData, widen

_WITH_DATA = np.array([code not in formats.TYPES_WITHOUT_DATA for code in range(16)])

_PLAIN, _TABLE = 1, 2

_SPOOL_BYTES = 64 * MIB

_BATCH_PAGES = CHUNK_BYTES // PAGE_BYTES


class PageIds(NamedTuple):
    """How a stream writes which pages follow: a PFN and a type each."""

    num_bytes: int
    decode: Callable[[memoryview], UInt64Array]
    """Returns uint64[count]: type in bits 60-63, PFN below, as version 2 has them."""


PAGE_IDS_V2 = PageIds(8, lambda data: np.frombuffer(data, "<u8"))


class StreamPages(PageStore):
    """The pages of one stream while it is read, and after."""

    def __init__(self, word_bytes: int, span: int) -> None:
        self.word_bytes = word_bytes
        self.num_data_pages = 0
        self.num_resent_pages = 0
        # One byte a PFN of the span that P2M_FRAMES proved; pages of zeros until they are touched.
        # How each was sent last: _PLAIN, _TABLE, or 0 where it has no data.
        self._sent = np.zeros(span, np.uint8)

    @abstractmethod
    def add(self, cursor: Cursor, entries_at: int, entries: UInt64Array) -> None:
        """Take the pages of one PAGE_DATA record, whose data begins at the cursor, and move on.

        `entries` uint64[count] are the PFNs with their types, checked; they lie at `entries_at`.
        """

    def count(self, entries: UInt64Array) -> tuple[Int64Array, BoolArray]:
        """Return (PFN, whether it has data) of each entry, and note what is sent again."""
        kinds = (entries >> np.uint64(formats.TYPE_SHIFT)).astype(np.int64)
        has_data = _WITH_DATA[kinds]
        pfns = (entries & np.uint64(formats.PFN_MASK)).astype(np.int64)
        self.num_data_pages += int(np.count_nonzero(has_data))
        self.num_resent_pages += int(np.count_nonzero(self._sent[pfns].astype(bool) & has_data))
        self._sent[pfns] = np.where(kinds == formats.TYPE_PLAIN, _PLAIN, _TABLE) * has_data
        return pfns, has_data


class SeekablePages(StreamPages):
    """Pages of a stream in a file: records are remembered, pages are found by a second look."""

    complete = True

    def __init__(
        self, word_bytes: int, span: int, cursor: SeekableCursor, ids: PageIds = PAGE_IDS_V2
    ) -> None:
        super().__init__(word_bytes, span)
        self._data = cursor.data
        self._ids = ids
        self._records = array("q")
        self._offsets: dict[int, int] = {}

    def add(self, cursor: Cursor, entries_at: int, entries: UInt64Array) -> None:
        """Note where the record is; its pages stay unread."""
        _, has_data = self.count(entries)
        self._records.extend((entries_at, entries.size))
        num_pages = int(np.count_nonzero(has_data))
        cursor.skip(num_pages * PAGE_BYTES, f"{num_pages} pages of PAGE_DATA")

    def prefetch(self, pfns: Int64Array) -> None:
        """Find the last copy of each of `pfns` in one pass over the records."""
        span = self._sent.size
        wanted = np.zeros(span, np.bool_)
        missing = [int(p) for p in np.unique(pfns) if 0 <= p < span and p not in self._offsets]
        if not missing:
            return
        wanted[missing] = True
        self._offsets.update(dict.fromkeys(missing, -1))
        for at, count in zip(self._records[::2], self._records[1::2], strict=True):
            entries = self._ids.decode(self._data.read(at, self._ids.num_bytes * count))
            entry_pfns = (entries & np.uint64(formats.PFN_MASK)).astype(np.int64)
            hits = np.flatnonzero(wanted[entry_pfns])
            if not hits.size:
                continue
            kinds = (entries >> np.uint64(formats.TYPE_SHIFT)).astype(np.int64)
            has_data = _WITH_DATA[kinds]
            before = np.cumsum(has_data) - has_data
            first_page_at = at + self._ids.num_bytes * count
            offsets = np.where(has_data[hits], first_page_at + before[hits] * PAGE_BYTES, -1)
            self._offsets.update(zip(entry_pfns[hits].tolist(), offsets.tolist(), strict=True))

    def read(self, pfn: int) -> Page | None:
        """Return the page's words; None where it was sent last as a table or without data."""
        data = self._bytes(pfn)
        if data is None or self._sent[pfn] != _PLAIN:
            return None
        return Page(widen(data, self.word_bytes), True)

    def read_table(self, pfn: int) -> TableData | None:
        """Return the page's entries: PFNs where it was sent as a table, else the guest's own."""
        data = self._bytes(pfn)
        if data is None:
            return None
        return TableData(np.frombuffer(data, "<u8"), self._sent[pfn] == _TABLE)

    def _bytes(self, pfn: int) -> memoryview | None:
        if pfn not in self._offsets:
            self.prefetch(np.array([pfn]))
        offset = self._offsets.get(pfn, -1)
        return None if offset < 0 else self._data.read(offset, PAGE_BYTES)


class SequentialPages(StreamPages):
    """Pages of a stream that goes by once: leaves, and what could be part of a frame list."""

    complete = False

    def __init__(self, word_bytes: int, span: int, leaf_pfns: Int64Array) -> None:
        super().__init__(word_bytes, span)
        self._is_leaf = np.zeros(span, np.bool_)
        self._is_leaf[leaf_pfns] = True
        self._leaves: dict[int, bytes] = {}
        self._entries = geometry(word_bytes).entries
        self._limit = np.uint64(formats.MAX_MFN[word_bytes])
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115
        weakref.finalize(self, self._spool.close)
        self._spooled = 0
        # One triple for each kept copy: PFN, offset in the spool, words; later ones count.
        self._kept = array("q")
        self._is_kept = np.zeros(span, np.bool_)
        self._index: dict[int, tuple[int, int]] | None = None

    def add(self, cursor: Cursor, entries_at: int, entries: UInt64Array) -> None:
        """Read the record's pages batch by batch and keep what may matter."""
        pfns, has_data = self.count(entries)
        # Of a PFN that is in the record twice, only its last entry counts.
        _, from_end = np.unique(pfns[::-1], return_index=True)
        counts = np.zeros(pfns.size, np.bool_)
        counts[pfns.size - 1 - from_end] = True
        self._is_kept[pfns] = False
        for pfn in pfns[self._is_leaf[pfns]].tolist():
            self._leaves.pop(pfn, None)
        is_plain = (entries >> np.uint64(formats.TYPE_SHIFT)) == formats.TYPE_PLAIN
        pfns, is_candidate = pfns[has_data], (counts & is_plain)[has_data]
        is_leaf = self._is_leaf[pfns] & is_candidate
        for start in range(0, pfns.size, _BATCH_PAGES):
            batch = slice(start, min(start + _BATCH_PAGES, pfns.size))
            size = (batch.stop - batch.start) * PAGE_BYTES
            data = cursor.take(size, f"{pfns.size} pages of PAGE_DATA")
            for at in np.flatnonzero(is_leaf[batch]).tolist():
                page = bytes(data[at * PAGE_BYTES : (at + 1) * PAGE_BYTES])
                self._leaves[int(pfns[start + at])] = page
            self._keep_candidates(pfns[batch], is_candidate[batch] & ~is_leaf[batch], data)
        cursor.check_kept(self._spooled + len(self._leaves) * PAGE_BYTES)

    def _keep_candidates(self, pfns: Int64Array, candidate: BoolArray, data: memoryview) -> None:
        """Spool the leading words of each page that could belong to a frame list."""
        dtype = formats.WORD_DTYPES[self.word_bytes]
        words = np.frombuffer(data, dtype).reshape(pfns.size, self._entries)
        # 0 wraps around to the largest number, so one comparison tells both kinds of bad word.
        first = words[:, 0] - words.dtype.type(1)
        rows = np.flatnonzero((first < self._limit) & candidate)
        if not rows.size:
            return
        bad = (words[rows] - words.dtype.type(1)) >= self._limit
        length = np.where(bad.any(axis=1), bad.argmax(axis=1) + 1, self._entries)
        for row, count in zip(rows.tolist(), length.tolist(), strict=True):
            self._spool.write(words[row, :count].tobytes())
            self._kept.extend((int(pfns[row]), self._spooled, count))
            self._spooled += count * self.word_bytes
        self._is_kept[pfns[rows]] = True

    def read(self, pfn: int) -> Page | None:
        """Return what was kept of the page; None where it was sent as a table, or not at all."""
        if pfn in self._leaves:
            return Page(widen(self._leaves[pfn], self.word_bytes), True)
        if not 0 <= pfn < self._sent.size or self._sent[pfn] != _PLAIN:
            return None
        if not self._is_kept[pfn]:
            return Page(np.zeros(0, np.int64), False)
        if self._index is None:
            kept = self._kept
            self._index = dict(
                zip(kept[::3], zip(kept[1::3], kept[2::3], strict=True), strict=True)
            )
        offset, count = self._index[pfn]
        self._spool.seek(offset)
        words = widen(self._spool.read(count * self.word_bytes), self.word_bytes)
        return Page(words, count == self._entries)


def new_pages(
    cursor: Cursor, word_bytes: int, span: int, leaf_pfns: Int64Array, ids: PageIds = PAGE_IDS_V2
) -> StreamPages:
    """Return the store for the pages of the stream at `cursor`: `span` PFNs, int64 leaves."""
    if isinstance(cursor, SeekableCursor):
        return SeekablePages(word_bytes, span, cursor, ids)
    return SequentialPages(word_bytes, span, leaf_pfns)
