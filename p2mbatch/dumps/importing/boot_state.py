"""What a guest of a trace has when it has booted, so that sets make of it what a dump shows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.base.entries import IDENTITY_FLAG
from p2mbatch.base.geometry import FOREIGN_FRAME_BIT, INVALID
from p2mbatch.dumps.audit.structures import Structures, linked_pages
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.dumps.p2m import ShapeP2M
from p2mbatch.model.policies import Policy
from p2mbatch.model.runs import true_runs
from p2mbatch.model.trace import GuestLayout


class BootState(NamedTuple):
    """A guest's boot: its pages, the frames that its host names, and what its p2m holds then."""

    layout: GuestLayout
    booted: Int64Array
    """int64[nr_pages]: the frame that the host names for each PFN, INVALID where none."""
    frames: int
    """Of the host."""
    after: Int64Array
    """int64[span]: the entries once it has booted."""
    ranges: Int64Array | None = None
    """int64[k, 2]: the 1:1 PFNs (start, end) that the boot event names; None: it names none."""
    exact: bool = False
    """Whether the structures lie where the file shows them."""


def model_entries(guest: DumpGuest, policy: Policy) -> Int64Array:
    """Return int64[span]: the guest's entries as the model of `policy` has them.

    Kernels up to 2.6.38 mark foreign frames by bit 31: the top bit of later ones becomes that.
    Where the file names no frames, PFNs get frames in ascending order.
    """
    entries = guest.p2m.to_array()
    if isinstance(guest.p2m, ShapeP2M):
        page = entries == ShapeP2M.PAGE
        entries[page] = np.arange(1, np.count_nonzero(page) + 1)
        identity = entries == ShapeP2M.IDENTITY
        entries[identity] |= np.flatnonzero(identity)
    if not (policy.marks or policy.is_linear):
        foreign = entries < INVALID
        entries[foreign] = entries[foreign] & (FOREIGN_FRAME_BIT - 1) | FOREIGN_FRAME_BIT
    return entries


def with_marked_leaves(
    guest: DumpGuest, structures: Structures, policy: Policy, entries: Int64Array
) -> int:
    """Write into `entries` (int64[span]) the 1:1 values of the leaves that are `p2m_identity`.

    Of a tree of a `policy` that marks such; a reader finds that page's own words, INVALID. It lies
    in brk where that kernel's boot puts it: source policies-spec P4 and P5. Returns where the last
    such leaf ends, which may be beyond the span; 0 where there is none.
    """
    end = 0
    if not policy.marks or not structures.found or structures.missing < 0:
        return end
    identity = structures.missing + (1 if policy.placeholders == 5 else 3)
    page, n = guest.pages.read(identity), guest.geometry.entries
    if page is None or np.any(page.words != INVALID):
        return end
    for top, mid in structures.mids.items():
        if mid == structures.mid_missing:
            continue
        linked = linked_pages(guest, structures, mid)
        for leaf in np.flatnonzero(linked == identity).tolist():
            first = (top * n + leaf) * n
            pfns = np.arange(first, min(first + n, entries.size))
            entries[pfns] = pfns | IDENTITY_FLAG[guest.word_bytes]
            if pfns.size:
                end = max(end, first + n)
        if np.all(linked == identity):
            end = max(end, (top + 1) * n**2)
    return end


def identity_ranges(entries: Int64Array, identity_bit: int, leaf_end: int = 0) -> Int64Array:
    """Return int64[k, 2] of [start, end): the PFNs whose entry is their own identity value.

    Where they go up to the span and its last leaf is 1:1 as a whole, up to `leaf_end`, the range
    ends there: one that ended within a leaf would have opened it.
    """
    runs = true_runs(entries == np.arange(entries.size) | identity_bit)
    ranges = np.stack([runs[:, 0], runs.sum(axis=1)], axis=1)
    ranges[ranges[:, 1] == entries.size, 1] = max(entries.size, leaf_end)
    return ranges


def first_named(entries: Int64Array, own: BoolArray) -> BoolArray:
    """Return which of `own` (bool of the shape of `entries`) are the first to name their frame."""
    first = own.copy()
    named = entries[first]
    if np.any(named[1:] <= named[:-1]):
        candidates = np.flatnonzero(first)
        first[:] = False
        first[candidates[np.unique(named, return_index=True)[1]]] = True
    return first


def tree_boot(
    layout: GuestLayout,
    policy: Policy,
    entries: Int64Array,
    own: BoolArray,
    ranges: Int64Array,
    *,
    exact: bool,
) -> BootState:
    """Return the boot of a guest with a tree.

    A PFN boots with its own frame, if it is the first to name it, or else with one of the frames
    above all others, which a set takes away again. What the host names for 1:1 PFNs of `ranges` is
    given back.
    """
    nr_pages, n = layout.nr_pages, 4096 // layout.word_bytes
    booted = entries[:nr_pages].copy()
    others = np.flatnonzero(~first_named(booted, own[:nr_pages]))
    top = int(entries.max(where=own, initial=0)) + 1
    booted[others] = top + np.arange(others.size)
    after = np.full(entries.size, INVALID, np.int64)
    after[:nr_pages] = booted
    if not policy.is_era or policy.is_two_level:
        # The tail of the last mfn_list page reads as MFN 0 until something is set there.
        after[nr_pages : -(-nr_pages // n) * n] = 0
    for start, end in ranges.tolist():
        after[start:end] = entries[start:end]
    return BootState(
        layout, booted, top + others.size, after, ranges if policy.marks else None, exact
    )
