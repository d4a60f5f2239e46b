"""What a reader finds: `DumpGuest`, and the p2m behind it, read in pieces.

A p2m is never expanded as a whole unless somebody asks for it: a file of 8 MB can name one leaf a
million times. Frames are int64 as everywhere; a 64-bit word with its top bit set (a foreign frame
of later kernels) is therefore negative, and INVALID is -1 in either width.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from p2mbatch.dumps import formats
from p2mbatch.geometry import INVALID, Geometry, geometry

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

CHUNK_PFNS = 1 << 20
"""PFNs that the analyses look at in one piece; a multiple of every leaf."""


class Page(NamedTuple):
    """A guest page as far as it was kept."""

    words: Int64Array
    """int64[k]: the first k words, INVALID as -1."""
    complete: bool
    """Whether k is the whole page. A pipe keeps only the words that can be frame numbers and the
    first that cannot (absent where that is word 0)."""


class PageStore(ABC):
    """The guest's pages as a file holds them."""

    complete: bool = True
    """Whether every page of the file can be had in full (not so when read from a pipe)."""

    @abstractmethod
    def read(self, pfn: int) -> Page | None:
        """Return the page's words; None where the file holds no data for this PFN."""

    def prefetch(self, pfns: Int64Array) -> None:  # noqa: B027 - most stores have nothing to do
        """Say that these PFNs (int64) will be read, so that they can be looked up in one go."""


class NoPages(PageStore):
    """The store of files that list frames, but hold no pages."""

    complete = False

    def read(self, pfn: int) -> Page | None:
        """Return None."""
        return None


def widen(data: memoryview | bytes, word_bytes: int) -> Int64Array:
    """Return the little-endian words of `data` as int64, all ones as -1 in either width."""
    words = np.frombuffer(data, formats.WORD_DTYPES[word_bytes])
    if word_bytes == 8:
        return words.view(np.int64)
    wide = words.astype(np.int64)
    wide[words == 0xFFFF_FFFF] = INVALID
    return wide


def narrow(frames: Int64Array, word_bytes: int) -> bytes:
    """Return int64 `frames` as little-endian words of the guest's width: the inverse of `widen`."""
    return frames.astype(np.uint64).astype(formats.WORD_DTYPES[word_bytes]).tobytes()


class P2M(ABC):
    """The guest's PFN -> MFN table below `span` (its `max_p2m_pfn`), in pieces."""

    span: int
    has_frames: bool = True
    """False where the file tells holes from pages, but names no frames."""

    @abstractmethod
    def chunk(self, start: int, stop: int) -> Int64Array:
        """Return int64[stop - start]: the entries of PFNs `start` to `stop` - 1."""

    @abstractmethod
    def is_empty(self, start: int, stop: int) -> bool:
        """Return whether PFNs `start` to `stop` - 1 are known to be holes without looking long.

        A small file can claim a large span: what is not there must not cost what is there.
        """

    def chunks(self) -> Iterator[tuple[int, Int64Array]]:
        """Yield (first PFN, int64[<= CHUNK_PFNS]) over the span, without pieces known as holes."""
        for start in range(0, self.span, CHUNK_PFNS):
            stop = min(start + CHUNK_PFNS, self.span)
            if not self.is_empty(start, stop):
                yield start, self.chunk(start, stop)

    def to_array(self) -> Int64Array:
        """Return int64[span]: everything at once, 8 bytes a PFN."""
        return self.chunk(0, self.span)

    def num_repeated(self) -> int:
        """Return how many entries name a frame that a lower PFN names too, foreign ones included.

        Sorts the entries: 8 bytes for each that is not INVALID.
        """
        named = np.concatenate(
            [e[e != INVALID] for _, e in self.chunks()] or [np.zeros(0, np.int64)]
        )
        return _num_repeated(named)

    def sha256(self) -> str:
        """Return the digest that traces use: little-endian 64-bit words, INVALID as 2^64 - 1."""
        digest, at = hashlib.sha256(), 0
        for start, entries in self.chunks():
            _hash_holes(digest, start - at)
            digest.update(np.ascontiguousarray(entries.astype("<i8", copy=False)).data)
            at = start + entries.size
        _hash_holes(digest, self.span - at)
        return digest.hexdigest()

    def find(self, mfns: Int64Array) -> Int64Array:
        """Return int64 of the shape of `mfns`: the lowest PFN that names each MFN, or -1.

        This is the m2p of a dump: a frame is the guest's own if the p2m names it (one pass).
        """
        wanted, inverse = np.unique(mfns, return_inverse=True)
        found = np.full(wanted.shape, -1, np.int64)
        if not wanted.size:
            return found
        for start, entries in self.chunks():
            # A filter by range first: searching for every entry would cost ten times as much.
            near = np.flatnonzero((entries >= wanted[0]) & (entries <= wanted[-1]))
            at = np.searchsorted(wanted, entries[near])
            hit = wanted[at] == entries[near]
            pfns, at = near[hit] + start, at[hit]
            fresh = found[at] < 0
            # Backwards, because the last of equal indices is the one that stays.
            found[at[fresh][::-1]] = pfns[fresh][::-1]
        result: Int64Array = found[inverse].reshape(mfns.shape)
        return result


def _num_repeated(named: Int64Array) -> int:
    """Return how many of `named` are there before; sorts it in place, 10 x faster than a set."""
    named.sort()
    return int(np.count_nonzero(named[1:] == named[:-1]))


def _hash_holes(digest: hashlib._Hash, num_pfns: int) -> None:
    """Feed `num_pfns` INVALID entries to `digest`."""
    holes = b"\xff" * min(8 * num_pfns, 8 * CHUNK_PFNS)
    for start in range(0, num_pfns, CHUNK_PFNS):
        digest.update(memoryview(holes)[: 8 * (num_pfns - start)])


class LeafP2M(P2M):
    """A p2m made of leaf pages, as migration streams carry it.

    `leaf_pfns` int64[num_leaves]: PFN of each leaf page; leaves may share a page (`p2m_missing`).
    Entries from `covered` on are INVALID (the toolstack trimmed them).
    """

    def __init__(
        self, leaf_pfns: Int64Array, pages: PageStore, word_bytes: int, covered: int, span: int
    ) -> None:
        self.leaf_pfns = leaf_pfns
        self.span = span
        self._pages = pages
        self._covered = covered
        self._geometry = geometry(word_bytes)
        self._last: tuple[int, Int64Array] = (-1, np.zeros(0, np.int64))

    def _leaf(self, pfn: int) -> Int64Array:
        if self._last[0] != pfn:
            page = self._pages.read(pfn)
            assert page is not None, "readers check that every leaf is in the file"
            self._last = (pfn, page.words)
        return self._last[1]

    def is_empty(self, start: int, stop: int) -> bool:
        """Return whether one leaf without entries stands for the whole piece."""
        n = self._geometry.entries
        leaves = self.leaf_pfns[start // n : -(-min(stop, self._covered) // n)]
        if not leaves.size:
            return True
        return bool(np.all(leaves == leaves[0])) and bool(
            np.all(self._leaf(int(leaves[0])) == INVALID)
        )

    def chunk(self, start: int, stop: int) -> Int64Array:
        """Return int64[stop - start]: the entries of PFNs `start` to `stop` - 1."""
        entries = np.full(stop - start, INVALID, np.int64)
        n = self._geometry.entries
        limit = min(stop, self._covered)
        for leaf in range(start // n, -(-limit // n)):
            low, high = max(leaf * n, start), min((leaf + 1) * n, limit)
            words = self._leaf(int(self.leaf_pfns[leaf]))
            entries[low - start : high - start] = words[low - leaf * n : high - leaf * n]
        return entries

    def num_repeated(self) -> int:
        """Return how many entries name a frame that a lower PFN names too.

        Leaves that share a page repeat all of it, so each page is sorted once only: the cost is
        bounded by what the file holds.
        """
        n = self._geometry.entries
        leaf_pfns = self.leaf_pfns[: -(-min(self.span, self._covered) // n)]
        _, firsts, counts = np.unique(leaf_pfns, return_index=True, return_counts=True)
        repeated, parts = 0, [np.zeros(0, np.int64)]
        for leaf, count in zip(firsts.tolist(), counts.tolist(), strict=True):
            entries = self.chunk(leaf * n, min((leaf + 1) * n, self.span))
            entries = entries[entries != INVALID]
            repeated += (count - 1) * entries.size
            parts.append(entries)
        return repeated + _num_repeated(np.concatenate(parts))


class SparseP2M(P2M):
    """A p2m as ascending pairs, as dump-core files and text listings carry it.

    `pfns` and `mfns` are int64[num_pairs] , by ascending PFN.
    """

    def __init__(self, pfns: Int64Array, mfns: Int64Array, span: int) -> None:
        self.pfns = pfns
        self.mfns = mfns
        self.span = span

    def is_empty(self, start: int, stop: int) -> bool:
        """Return whether no pair lies in the piece."""
        low, high = np.searchsorted(self.pfns, (start, stop))
        return bool(low == high)

    def chunk(self, start: int, stop: int) -> Int64Array:
        """Return int64[stop - start]: the entries of PFNs `start` to `stop` - 1."""
        entries = np.full(stop - start, INVALID, np.int64)
        low, high = np.searchsorted(self.pfns, (start, stop))
        entries[self.pfns[low:high] - start] = self.mfns[low:high]
        return entries


class ShapeP2M(P2M):
    """Holes and pages without frames, as debugfs lists them: `PAGE`, `IDENTITY` or INVALID.

    `starts` and `values` are int64[num_runs]; run i ends where run i + 1 starts.
    """

    PAGE = 0
    """Stands for "some frame": chunks of such a p2m tell presence only."""
    IDENTITY = 1 << 62
    has_frames = False

    def __init__(self, starts: Int64Array, values: Int64Array, span: int) -> None:
        self.starts = starts
        self.values = values
        self.span = span

    def is_empty(self, start: int, stop: int) -> bool:
        """Return whether the piece lies within one hole."""
        low, high = np.searchsorted(self.starts, (start, stop - 1), side="right")
        return bool(low == high and self.values[low - 1] == INVALID)

    def chunk(self, start: int, stop: int) -> Int64Array:
        """Return int64[stop - start]: PAGE, IDENTITY or INVALID of PFNs `start` to `stop` - 1."""
        low, high = np.searchsorted(self.starts, (start, stop - 1), side="right")
        edges = np.clip(np.append(self.starts[low - 1 : high], stop), start, stop)
        return np.repeat(self.values[low - 1 : high], np.diff(edges))


class SharedInfo(NamedTuple):
    """The fields of the shared info page that lead to the p2m, as unsigned numbers."""

    max_pfn: int
    """A count: one more than the last PFN of the p2m."""
    frame_list_list_mfn: int
    p2m_cr3: int
    p2m_vaddr: int
    p2m_generation: int


def parse_shared_info(page: bytes | memoryview, word_bytes: int) -> SharedInfo:
    """Return the fields of a shared info page (4096 bytes) of a guest of `word_bytes`."""
    layout = formats.SHARED_INFO_LAYOUTS[word_bytes]
    size = 8 if word_bytes == 8 else 4
    return SharedInfo(*(int.from_bytes(page[at : at + size], "little") for at in layout[1:]))


def p2m_span(shared: SharedInfo, word_bytes: int, num_shown: int) -> int:
    """Return how many PFNs the p2m has, given shared info and that the file shows `num_shown`.

    A tree ends at `MAX_P2M_PFN`, whatever is said; a linear list has no such end, but then nothing
    is believed that the file does not show.
    """
    limit = geometry(word_bytes).max_p2m_pfn
    return min(shared.max_pfn, max(limit, num_shown) if shared.p2m_cr3 else limit)


@dataclass(frozen=True)
class DumpGuest:
    """One guest as a file shows it. Nothing here is larger than the file's structures."""

    name: str
    """The file, as it was named."""
    format: str
    """What the file is: "xl dump-core ELF", "libxc stream v3, xl wrapper", …"""
    word_bytes: int
    max_p2m_pfn: int
    """PFNs of the p2m, a count (the shared info page's max_pfn)."""
    p2m: P2M
    pages: PageStore
    shared_info: SharedInfo | None = None
    leaf_pfns: Int64Array | None = None
    """int64[num_leaves]: the leaf pages that the file itself names (migration streams only)."""
    notes: tuple[str, ...] = ()
    """What a person should know about the file itself."""
    details: dict[str, int | str] = field(default_factory=dict)
    """Further facts by name: Xen version, records, resent pages, …"""

    @property
    def geometry(self) -> Geometry:
        """The tree's shape for this guest's width."""
        return geometry(self.word_bytes)


def is_foreign(entries: Int64Array, word_bytes: int) -> BoolArray:
    """Return where `entries` are another domain's frames: the top bit, or bit 31 as in 2.6.37.

    INVALID is neither foreign nor identity. On 64-bit, bit 31 alone counts only below 2^32: a
    later host may have more than 8 TiB.
    """
    flagged = (entries & formats.FOREIGN_FLAG[4]).astype(bool) & (entries >> 32 == 0)
    if word_bytes == 8:
        flagged |= entries < 0
    foreign: BoolArray = flagged & (entries != INVALID)
    return foreign


def is_identity(entries: Int64Array, word_bytes: int) -> BoolArray:
    """Return where `entries` are identity frames (the second bit from the top, later kernels)."""
    flagged = (entries & formats.IDENTITY_FLAG[word_bytes]).astype(bool)
    identity: BoolArray = flagged & (entries != INVALID) & ~is_foreign(entries, word_bytes)
    return identity
