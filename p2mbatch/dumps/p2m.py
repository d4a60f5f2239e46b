"""The p2m of a dumped guest: whole, by leaf, sparse, or only its shape."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID, geometry
from p2mbatch.dumps.stores import PageStore

CHUNK_PFNS = 1 << 20
"""PFNs that the analyses look at in one piece; a multiple of every leaf."""

_HASHED_PFNS = 1 << 15
"""PFNs hashed in one piece: 256 KiB of words, which the processor's cache holds."""

_HOLES = memoryview(b"\xff" * (8 * _HASHED_PFNS))

_LONG_HOLE_PFNS = 1 << 14
"""Holes from here on are hashed as such; shorter ones are written out among their neighbours."""


class P2M(ABC):
    """The guest's PFN -> MFN table below `span` (its `max_p2m_pfn`), in pieces."""

    span: int
    has_frames: bool = True
    """False where the file tells holes from pages, but names no frames."""
    unlisted: Int64Array = np.zeros((0, 2), np.int64)
    """int64[k, 2]: stretches [first, stop) of PFNs of which the file says nothing, ascending: parts
    of a listing. Their entries read as INVALID and are no holes."""

    @abstractmethod
    def chunk(self, start: int, stop: int) -> Int64Array:
        """Return int64[stop - start]: the entries of PFNs `start` to `stop` - 1."""

    @abstractmethod
    def is_empty(self, start: int, stop: int) -> bool:
        """Return whether PFNs `start` to `stop` - 1 are known to be holes without looking long.

        A small file can claim a large span: what is not there must not cost what is there.
        """

    def pfn_beyond(self, mfn: int) -> int:
        """Return the PFN from `span` on that the file lists with `mfn`, -1 where there is none."""
        return -1

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
        for first, stop in self.stretches():
            _hash_holes(digest, first - at)
            for start in range(first, stop, _HASHED_PFNS):
                entries = self.chunk(start, min(start + _HASHED_PFNS, stop))
                digest.update(np.ascontiguousarray(entries.astype("<i8", copy=False)).data)
            at = stop
        _hash_holes(digest, self.span - at)
        return digest.hexdigest()

    def stretches(self) -> Iterator[tuple[int, int]]:
        """Yield (first PFN, stop), ascending, of stretches between which there are holes only."""
        for start in range(0, self.span, CHUNK_PFNS):
            stop = min(start + CHUNK_PFNS, self.span)
            if not self.is_empty(start, stop):
                yield start, stop

    @abstractmethod
    def num_shown(self) -> int:
        """Return of how many PFNs the file itself holds an entry, however large the span is."""

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
    for _ in range(num_pfns // _HASHED_PFNS):
        digest.update(_HOLES)
    digest.update(_HOLES[: 8 * (num_pfns % _HASHED_PFNS)])


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

    def stretches(self) -> Iterator[tuple[int, int]]:
        """Yield (first PFN, stop) of what lies between long runs of a leaf without entries."""
        n, end = self._geometry.entries, min(self.span, self._covered)
        leaves = self.leaf_pfns[: -(-end // n)]
        edges = np.flatnonzero(np.diff(leaves)) + 1
        firsts, stops = np.append(0, edges), np.append(edges, leaves.size)
        long = (stops - firsts) * n >= _LONG_HOLE_PFNS
        at = 0
        for first, stop in zip(firsts[long].tolist(), stops[long].tolist(), strict=True):
            if np.all(self._leaf(int(leaves[first])) == INVALID):
                if first > at:
                    yield at * n, first * n
                at = stop
        if at < leaves.size:
            yield at * n, end

    def num_shown(self) -> int:
        """Return the entries of all pages that are leaves, each counted once."""
        return int(np.unique(self.leaf_pfns).size) * self._geometry.entries

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

    `pfns` and `mfns` are int64[num_pairs] , by ascending PFN; `unlisted` is as in `P2M`.
    """

    def __init__(
        self, pfns: Int64Array, mfns: Int64Array, span: int, unlisted: Int64Array | None = None
    ) -> None:
        self.pfns = pfns
        self.mfns = mfns
        self.span = span
        if unlisted is not None:
            self.unlisted = unlisted

    def pfn_beyond(self, mfn: int) -> int:
        """Return the PFN from `span` on that is listed with `mfn`, -1 where there is none."""
        first = int(np.searchsorted(self.pfns, self.span))
        found = np.flatnonzero(self.mfns[first:] == mfn)
        return int(self.pfns[first + found[0]]) if found.size else -1

    def stretches(self) -> Iterator[tuple[int, int]]:
        """Yield (first PFN, stop) of what lies between long stretches without a pair."""
        pfns = self.pfns[: int(np.searchsorted(self.pfns, self.span))]
        if not pfns.size:
            return
        edges = np.flatnonzero(np.diff(pfns) > _LONG_HOLE_PFNS)
        firsts, lasts = np.append(0, edges + 1), np.append(edges, pfns.size - 1)
        for first, last in zip(pfns[firsts].tolist(), pfns[lasts].tolist(), strict=True):
            yield first, last + 1

    def num_shown(self) -> int:
        """Return the number of pairs."""
        return int(self.pfns.size)

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

    def __init__(
        self, starts: Int64Array, values: Int64Array, span: int, unlisted: Int64Array | None = None
    ) -> None:
        self.starts = starts
        self.values = values
        self.span = span
        if unlisted is not None:
            self.unlisted = unlisted

    def num_shown(self) -> int:
        """Return the number of runs."""
        return int(self.starts.size)

    def is_empty(self, start: int, stop: int) -> bool:
        """Return whether the piece lies within one hole."""
        low, high = np.searchsorted(self.starts, (start, stop - 1), side="right")
        return bool(low == high and self.values[low - 1] == INVALID)

    def chunk(self, start: int, stop: int) -> Int64Array:
        """Return int64[stop - start]: PAGE, IDENTITY or INVALID of PFNs `start` to `stop` - 1."""
        low, high = np.searchsorted(self.starts, (start, stop - 1), side="right")
        edges = np.clip(np.append(self.starts[low - 1 : high], stop), start, stop)
        return np.repeat(self.values[low - 1 : high], np.diff(edges))
