"""Measure a p2m piece by piece: what its entries are, holes by size, contiguity.

A *run* is a stretch of PFNs whose entries are alike: frames that count up with the PFN (an extent),
holes, foreign or identity frames. Sizes are counted by order, the power of two they reach.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.entries import is_foreign, is_identity
from p2mbatch.base.geometry import INVALID, Geometry
from p2mbatch.dumps.p2m import P2M

_HOLE, _FOREIGN, _IDENTITY, _UNLISTED = np.iinfo(np.int64).min + np.arange(4)

_NUM_ORDERS = 48

SUPERPAGE_ORDER = 9
"""2 MiB: what the hardware can map at once and the domain builder asks for."""


@dataclass
class Sizes:
    """Runs of one kind, counted by order."""

    num: int = 0
    pages: int = 0
    largest: int = 0
    largest_pfn: int = -1
    by_order: Int64Array = field(default_factory=lambda: np.zeros(_NUM_ORDERS, np.int64))
    """int64[48]: runs of 2^order to 2^(order + 1) - 1 pages."""
    pages_by_order: Int64Array = field(default_factory=lambda: np.zeros(_NUM_ORDERS, np.int64))
    """int64[48]: pages in those runs."""

    def add(self, starts: Int64Array, lengths: Int64Array) -> None:
        """Count runs from `starts` (PFNs) of `lengths` pages, int64[k] both."""
        if not lengths.size:
            return
        orders = np.frexp(lengths.astype(np.float64))[1] - 1
        self.num += lengths.size
        self.pages += int(lengths.sum())
        self.by_order += np.bincount(orders, minlength=_NUM_ORDERS)
        self.pages_by_order += np.bincount(
            orders, weights=lengths.astype(np.float64), minlength=_NUM_ORDERS
        ).astype(np.int64)
        at = int(lengths.argmax())
        if lengths[at] > self.largest:
            self.largest, self.largest_pfn = int(lengths[at]), int(starts[at])

    def to_json(self) -> dict[str, object]:
        """Return the counts as plain numbers; orders without runs are left out."""
        return {
            "num": self.num,
            "pages": self.pages,
            "largest_pages": self.largest,
            "largest_pfn": self.largest_pfn if self.num else None,
            "by_order": {str(k): int(v) for k, v in enumerate(self.by_order) if v},
        }


@dataclass
class Shape:
    """What a p2m looks like. Counts in PFNs."""

    present: int = 0
    """Entries that are not INVALID."""
    foreign: int = 0
    identity: int = 0
    zero_frames: int = 0
    """Entries that name MFN 0, which is never a guest's."""
    superpages: int = 0
    """2 MiB extents: 512 PFNs from a multiple of 512 on 512 frames from a multiple of 512 on."""
    max_mfn: int = -1
    """The highest frame that is the guest's own, -1 where there is none."""
    leaves: int = 0
    """Leaf-sized stretches of the p2m with any entry in them: leaves that the tree must have."""
    mids: int = 0
    """Mid-sized stretches with any entry in them."""
    unlisted: int = 0
    """PFNs of which the file says nothing: neither pages nor holes."""
    extents: Sizes = field(default_factory=Sizes)
    holes: Sizes = field(default_factory=Sizes)

    @property
    def populated(self) -> int:
        """Entries that name a frame of the guest's own."""
        return self.present - self.foreign - self.identity


def measure(p2m: P2M, geo: Geometry) -> Shape:
    """Return the shape of `p2m`, in one pass. Foreign and identity runs are no extents."""
    shape, word_bytes = Shape(), geo.word_bytes
    tops: set[int] = set()
    carry: tuple[int, int, int] | None = None  # (first PFN, key, pages) of the run not yet ended
    at = 0
    for start, entries in p2m.chunks():
        if start > at:
            carry = _skip(shape, carry, at, start, p2m.unlisted)
        at = start + entries.size
        hole = entries == INVALID
        foreign, identity = is_foreign(entries, word_bytes), is_identity(entries, word_bytes)
        own = ~(hole | foreign | identity)
        _count(shape, entries, hole, foreign, identity, own)
        leaves = np.flatnonzero(np.logical_or.reduceat(~hole, np.arange(0, hole.size, geo.entries)))
        shape.leaves += leaves.size
        tops.update(np.unique((leaves + start // geo.entries) // geo.entries).tolist())
        pfns = np.arange(start, start + entries.size)
        keys = entries - pfns if p2m.has_frames else np.zeros_like(entries)
        keys[hole], keys[foreign], keys[identity] = _HOLE, _FOREIGN, _IDENTITY
        if p2m.unlisted.size:
            begun, ended = (np.searchsorted(edge, pfns, "right") for edge in p2m.unlisted.T)
            keys[begun > ended] = _UNLISTED
        firsts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        lengths = np.diff(firsts, append=keys.size)
        kinds, firsts = keys[firsts], firsts + start
        if carry is not None:
            if carry[1] == kinds[0]:
                firsts[0], lengths[0] = carry[0], lengths[0] + carry[2]
            else:
                _close(shape, *np.array([[part] for part in carry]))
        _close(shape, firsts[:-1], kinds[:-1], lengths[:-1])
        carry = int(firsts[-1]), int(kinds[-1]), int(lengths[-1])
    if at < p2m.span:
        carry = _skip(shape, carry, at, p2m.span, p2m.unlisted)
    if carry is not None:
        _close(shape, *np.array([[part] for part in carry]))
    shape.mids = len(tops)
    shape.unlisted = int((p2m.unlisted[:, 1] - p2m.unlisted[:, 0]).sum())
    return shape


def _skip(
    shape: Shape, carry: tuple[int, int, int] | None, start: int, stop: int, unlisted: Int64Array
) -> tuple[int, int, int] | None:
    """Return the run that reaches to `stop`, given one to `start` and no entries between."""
    between = unlisted[(unlisted[:, 1] > start) & (unlisted[:, 0] < stop)].clip(start, stop)
    at = start
    for first, end in between.tolist():
        carry = _go_on(shape, carry, int(_HOLE), at, first)
        carry = _go_on(shape, carry, int(_UNLISTED), first, end)
        at = end
    return _go_on(shape, carry, int(_HOLE), at, stop)


def _go_on(
    shape: Shape, carry: tuple[int, int, int] | None, key: int, start: int, stop: int
) -> tuple[int, int, int] | None:
    """Return the run that reaches to `stop`, given one to `start` and PFNs of `key` between."""
    if start == stop:
        return carry
    if carry is not None and carry[1] == key:
        return carry[0], key, carry[2] + stop - start
    if carry is not None:
        _close(shape, *np.array([[part] for part in carry]))
    return start, key, stop - start


def _count(
    shape: Shape,
    entries: Int64Array,
    hole: np.ndarray[tuple[int], np.dtype[np.bool_]],
    foreign: np.ndarray[tuple[int], np.dtype[np.bool_]],
    identity: np.ndarray[tuple[int], np.dtype[np.bool_]],
    own: np.ndarray[tuple[int], np.dtype[np.bool_]],
) -> None:
    shape.present += int(entries.size - np.count_nonzero(hole))
    shape.foreign += int(np.count_nonzero(foreign))
    shape.identity += int(np.count_nonzero(identity))
    shape.zero_frames += int(np.count_nonzero(entries == 0))
    if own.any():
        shape.max_mfn = max(shape.max_mfn, int(entries.max(where=own, initial=-1)))


def _close(shape: Shape, starts: Int64Array, keys: Int64Array, lengths: Int64Array) -> None:
    """Count runs that have ended."""
    hole = keys == _HOLE
    shape.holes.add(starts[hole], lengths[hole])
    own = keys > _UNLISTED
    starts, keys, lengths = starts[own], keys[own], lengths[own]
    shape.extents.add(starts, lengths)
    size = 1 << SUPERPAGE_ORDER
    # Only where PFN and MFN are a multiple of 512 apart can an extent hold aligned 2 MiB.
    aligned = keys % size == 0
    first = -(-starts[aligned] // size)
    shape.superpages += int(((starts + lengths)[aligned] // size - first).clip(0).sum())
