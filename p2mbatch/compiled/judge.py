"""What a guest lost by a move: its pages before the restore against those after the resume.

A page is *populated* where the p2m's entry is a frame that the guest owns and the toolstack's m2p
names this PFN for that frame. Lost are pages populated before and not after; ghosts are pages that
m2p names for an own frame afterwards and that were not populated before.

On a table host every frame of the guest's is looked at. On a function host ownership is a bit of
each leaf (`P2MTables.own`), and a leaf that was wholly populated, holds just what its host gave and
was wholly saved is so again after a restore that was not refused: it is walked only where the
resume has hit it since. A leaf that is not resident on either side loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from p2mbatch.base.arrays import Int64Array, UInt8Array, UInt64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.hosts import given_frame, layout_frame
from p2mbatch.compiled.jit import as_int, inline_kernel, inner_kernel, kernel, never_inline
from p2mbatch.compiled.lookup import leaf_page_of
from p2mbatch.compiled.loops import all_own
from p2mbatch.compiled.pages import page_code
from p2mbatch.compiled.rows import given_row
from p2mbatch.compiled.tables import (
    FUNCTION_HOST,
    LEAF,
    P_CLEAN,
    P_KIND,
    P_LEAF,
    HostTables,
    P2MTables,
)

Get = Callable[[P2MTables, HostTables, Int64Array, Int64Array], None]
"""A policy's `get_phys_to_machine` of whole arrays (`Operations.get`)."""

CHUNK = 1 << 16
"""Frames of a table host that are looked at together."""

_NONE = np.uint64(0)
_ALL = ~np.uint64(0)
_ONE = np.uint64(1)
_TWO = np.uint64(2)
_FOUR = np.uint64(4)
_FIELD_1 = np.uint64(0x5555555555555555)
_FIELD_2 = np.uint64(0x3333333333333333)
_FIELD_4 = np.uint64(0x0F0F0F0F0F0F0F0F)
_BYTES = np.uint64(0x0101010101010101)
_LAST = np.uint64(56)


class Judge:
    """Looks at a guest before its restore, and again once its resume has got through."""

    def __init__(self, entries: int) -> None:
        """Make a judge for guests of so many entries a page."""
        self._leaves = np.empty(4, np.int64)
        self._rows = np.empty((4, entries // 64), np.uint64)
        self._row = np.empty(entries, np.int64)
        self._odd = 0
        self._num_slots = 0
        self._bits = np.zeros(0, np.uint64)
        self._counts = np.zeros(3, np.int64)

    def look(self, t: P2MTables, h: HostTables, get: Get) -> None:
        """Note which pages are populated on host `h`, the save having succeeded."""
        if h.par[0].kind == FUNCTION_HOST:
            self._num_slots = int(t.state[0].num_slots)
            self._odd = int(odd_leaves(t, h, self._leaves, self._rows))
            if self._odd > len(self._leaves):
                self._leaves = np.empty(self._odd, np.int64)
                self._rows = np.empty((self._odd, self._rows.shape[1]), np.uint64)
                odd_leaves(t, h, self._leaves, self._rows)
            return
        self._bits = np.zeros((int(named_end(h)) + 63) // 64, np.uint64)
        self._counts[:] = 0
        self._each_chunk(t, h, get, mark_populated)

    def losses(self, t: P2MTables, h: HostTables, get: Get) -> tuple[int, int]:
        """Return (lost pages, ghost pages) of the guest that has resumed on host `h`."""
        counts = self._counts
        if h.par[0].kind != FUNCTION_HOST:
            self._each_chunk(t, h, get, compare_populated)
            return int(counts[0] - counts[1]), int(counts[2])
        state = t.state[0]
        odd = self._odd
        hit = state.stray_writes or state.wild or state.num_slots != self._num_slots
        if not odd and not hit:
            return 0, 0
        counts[:] = 0
        marks = np.zeros(int(state.num_leaves) if hit else 0, np.uint8)
        compare_leaves(
            t, h, self._leaves, self._rows, odd, self._num_slots, marks, self._row, counts
        )
        return int(counts[0]), int(counts[2])

    def _each_chunk(
        self, t: P2MTables, h: HostTables, get: Get, count: Callable[..., None]
    ) -> None:
        """Hand a table host's own frames to `count`, with the entries of the PFNs they are for."""
        frames = len(h.owned)
        size = min(CHUNK, frames)
        mfns, pfns, entries = (np.empty(size, np.int64) for _ in range(3))
        for first in range(0, frames, CHUNK):
            k = int(own_frames(h, first, min(first + CHUNK, frames), mfns, pfns))
            get(t, h, pfns[:k], entries[:k])
            count(self._bits, pfns, mfns, entries, k, self._counts)


def judge_kernels(t: P2MTables, h: HostTables, get: Get) -> list[tuple[object, ...]]:
    """Return the kernels that judging a guest on such a host calls, each with its arguments."""
    none, bits = np.zeros(0, np.int64), np.zeros(0, np.uint64)
    rows, counts = np.zeros((0, t.own.shape[1]), np.uint64), np.zeros(3, np.int64)
    if h.par[0].kind == FUNCTION_HOST:
        return [
            (odd_leaves, t, h, none, rows),
            (compare_leaves, t, h, none, rows, 0, 0, np.zeros(0, np.uint8), none, counts),
        ]
    return [
        (get, t, h, none, none),
        (named_end, h),
        (own_frames, h, 0, 0, none, none),
        (mark_populated, bits, none, none, none, 0, counts),
        (compare_populated, bits, none, none, none, 0, counts),
    ]


# --- table hosts -------------------------------------------------------------------------------


@kernel
def named_end(h: HostTables) -> int:
    """Return the PFN after the last that m2p names for one of the guest's frames."""
    end = as_int(0)
    for mfn in range(len(h.owned)):
        if h.owned[mfn] != 0:
            end = max(end, h.m2p[mfn] + 1)
    return end


@kernel
def own_frames(h: HostTables, first: int, end: int, mfns: Int64Array, pfns: Int64Array) -> int:
    """Write the guest's frames from `first` below `end`, with the PFN of each; return how many."""
    k = 0
    for mfn in range(first, end):
        if h.owned[mfn] != 0:
            mfns[k] = mfn
            pfns[k] = h.m2p[mfn]
            k += 1
    return k


@kernel
def mark_populated(
    bits: UInt64Array,
    pfns: Int64Array,
    mfns: Int64Array,
    entries: Int64Array,
    k: int,
    counts: Int64Array,
) -> None:
    """Set the bit of each of the first `k` PFNs that is populated; `counts[0]` counts them."""
    for j in range(k):
        if entries[j] == mfns[j]:
            bits[pfns[j] >> 6] |= _ONE << np.uint64(pfns[j] & 63)
            counts[0] += 1


@kernel
def compare_populated(
    bits: UInt64Array,
    pfns: Int64Array,
    mfns: Int64Array,
    entries: Int64Array,
    k: int,
    counts: Int64Array,
) -> None:
    """Count PFNs that are populated still in `counts[1]`, those that were not in `counts[2]`."""
    for j in range(k):
        at = pfns[j] >> 6
        if at >= len(bits) or (bits[at] >> np.uint64(pfns[j] & 63)) & _ONE == _NONE:
            counts[2] += 1
        elif entries[j] == mfns[j]:
            counts[1] += 1


# --- function hosts ----------------------------------------------------------------------------


@kernel
def odd_leaves(t: P2MTables, h: HostTables, leaves: Int64Array, rows: UInt64Array) -> int:
    """Return how many leaves need not be populated after a restore just as they are now.

    `leaves` (int64[k]) gets the first k of them, `rows` (uint64[k, n / 64]) a bit for each page of
    theirs that is populated.
    """
    state = t.state[0]
    odd = 0
    if state.wild == 0 and _missing_is_blank(t):
        for slot in range(state.num_slots):
            x = t.slots[slot, P_LEAF]
            # A 1:1 range may end in a leaf behind all that the guest can populate.
            is_leaf = t.slots[slot, P_KIND] == LEAF and 0 <= x < state.num_leaves
            if is_leaf and not _is_plain(t, slot, x):
                if odd < len(leaves):
                    _note_leaf(t, h, x, leaves, rows, odd)
                odd += 1
        return odd
    for x in range(state.num_leaves):
        slot = as_int(t.leaf_slot[x])
        if not _is_reached(t, x) or (slot >= 0 and not _is_plain(t, slot, x)):
            if odd < len(leaves):
                _note_leaf(t, h, x, leaves, rows, odd)
            odd += 1
    return odd


@inner_kernel
def _missing_is_blank(t: P2MTables) -> bool:
    """Return whether `p2m_missing` is all INVALID and no hole was given a frame."""
    never_inline()
    slot = page_code(t, t.state[0].missing)
    differ = as_int(0)
    for i in range(t.words.shape[1]):
        differ |= t.words[slot, i] ^ INVALID
    for j in range(t.own.shape[1]):
        differ |= np.int64(t.own[slot, j])
    return bool(differ == 0)


@inner_kernel
def _is_plain(t: P2MTables, slot: int, x: int) -> bool:
    """Return whether the leaf in `slot` is wholly populated, as given, and was wholly saved."""
    if t.slots[slot, P_CLEAN] == 0 or t.slots[slot, P_LEAF] != x:
        return False
    return ((x + 1) << t.state[0].entries_shift) - 1 <= t.state[0].walked_max_pfn and all_own(
        t.own, slot
    )


@inner_kernel
def _is_reached(t: P2MTables, x: int) -> bool:
    """Return whether the tree leads to leaf `x`: no wild pointer is in the way."""
    return t.state[0].wild == 0 or leaf_page_of(t, x) == t.leaf_page[x]


@inner_kernel
def _note_leaf(
    t: P2MTables, h: HostTables, x: int, leaves: Int64Array, rows: UInt64Array, k: int
) -> None:
    """Write leaf `x` and which of its pages are populated to place `k`."""
    leaves[k] = x
    if _is_as_given(t, x):
        slot = as_int(t.leaf_slot[x])
        for j in range(t.own.shape[1]):
            rows[k, j] = t.own[slot, j]
        return
    reached = _is_reached(t, x)
    for j in range(t.own.shape[1]):
        rows[k, j] = _populated(t, h, x, j, _named(t, h, x, j)) if reached else _NONE


@inner_kernel
def _is_as_given(t: P2MTables, x: int) -> bool:
    """Return whether leaf `x` is a reached one of its own that holds just what its host gave."""
    slot = as_int(t.leaf_slot[x])
    if slot < 0 or t.slots[slot, P_CLEAN] == 0 or t.slots[slot, P_LEAF] != x:
        return False
    return _is_reached(t, x)


@inner_kernel
def _named(t: P2MTables, h: HostTables, x: int, j: int) -> np.uint64:
    """Return a bit for each of 64 pages of leaf `x` whose frame the guest owns."""
    never_inline()
    slot = as_int(t.leaf_slot[x])
    if slot < 0:
        return _laid_out(t, h, x, j)
    owned = t.own[slot, j]
    if t.slots[slot, P_LEAF] != x:
        # `p2m_missing` stands for every hole: those that were saved got a frame.
        first = (x << t.state[0].entries_shift) + (j << 6)
        for i in range(64):
            if first + i > t.state[0].saved_max_pfn:
                owned &= ~(_ONE << np.uint64(i))
    return owned


@inner_kernel
def _laid_out(t: P2MTables, h: HostTables, x: int, j: int) -> np.uint64:
    """Return a bit for each of 64 pages of leaf `x` that the layout populates."""
    never_inline()
    first = (x << t.state[0].entries_shift) + (j << 6)
    found = _NONE
    for i in range(64):
        if layout_frame(h.par[0], t.state[0].xen_max - 1, first + i) != INVALID:
            found |= _ONE << np.uint64(i)
    return found


@inner_kernel
def _populated(t: P2MTables, h: HostTables, x: int, j: int, named: np.uint64) -> np.uint64:
    """Return those of the pages `named` whose entry is their frame; the tree leads to leaf `x`."""
    never_inline()
    slot = as_int(t.leaf_slot[x])
    if slot < 0 or t.slots[slot, P_CLEAN] != 0:
        return named
    first = (x << t.state[0].entries_shift) + (j << 6)
    for i in range(64):
        bit = _ONE << np.uint64(i)
        if named & bit != _NONE and t.words[slot, (j << 6) + i] != given_frame(h.par[0], first + i):
            named &= ~bit
    return named


@inline_kernel
def _ones(word: np.uint64) -> int:
    """Return how many bits of `word` are set."""
    pairs = np.uint64(word - ((word >> _ONE) & _FIELD_1))
    fours = np.uint64((pairs & _FIELD_2) + ((pairs >> _TWO) & _FIELD_2))
    bytes_ = np.uint64((fours + (fours >> _FOUR)) & _FIELD_4)
    return as_int(np.uint64(bytes_ * _BYTES) >> _LAST)


@inner_kernel
def _compare(
    t: P2MTables, h: HostTables, x: int, j: int, was: np.uint64, counts: Int64Array
) -> None:
    """Count what 64 pages of leaf `x` lost (`counts[0]`) and gained (`counts[2]`)."""
    named = _named(t, h, x, j)
    now = _populated(t, h, x, j, named) if _is_reached(t, x) else _NONE
    counts[0] += _ones(was & ~now)
    counts[2] += _ones(named & ~was)


@kernel
def compare_leaves(
    t: P2MTables,
    h: HostTables,
    leaves: Int64Array,
    rows: UInt64Array,
    odd: int,
    num_slots: int,
    marks: UInt8Array,
    row: Int64Array,
    counts: Int64Array,
) -> None:
    """Count losses in `counts[0]` and ghosts in `counts[2]`.

    Of the first `odd` of `leaves`, which `odd_leaves` noted with their `rows`; and of all others,
    where `marks` (uint8[leaves], zeros) is not empty. `num_slots` is how many slots there were
    before the restore; `row` (int64[n]) is a workspace.
    """
    _compare_odd(t, h, leaves, rows, odd, counts)
    if len(marks) > 0:
        for k in range(odd):
            marks[leaves[k]] = 1
        _compare_others(t, h, num_slots, marks, row, counts)


@inner_kernel
def _compare_odd(
    t: P2MTables,
    h: HostTables,
    leaves: Int64Array,
    rows: UInt64Array,
    odd: int,
    counts: Int64Array,
) -> None:
    """Count losses and ghosts of the leaves that `odd_leaves` noted."""
    never_inline()
    for k in range(odd):
        x = leaves[k]
        if _is_as_given(t, x):
            slot = as_int(t.leaf_slot[x])
            for j in range(rows.shape[1]):
                counts[0] += _ones(rows[k, j] & ~t.own[slot, j])
                counts[2] += _ones(t.own[slot, j] & ~rows[k, j])
            continue
        for j in range(rows.shape[1]):
            _compare(t, h, x, j, rows[k, j], counts)


@inner_kernel
def _compare_others(
    t: P2MTables,
    h: HostTables,
    num_slots: int,
    marks: UInt8Array,
    row: Int64Array,
    counts: Int64Array,
) -> None:
    """Count losses and ghosts of all leaves that are not marked.

    A leaf in a slot from `num_slots` on was not resident before the restore.
    """
    never_inline()
    for slot in range(t.state[0].num_slots):
        x = t.slots[slot, P_LEAF]
        if (
            not 0 <= x < len(marks)
            or marks[x] != 0
            or (slot < num_slots and t.slots[slot, P_CLEAN] != 0)
        ):
            continue
        marks[x] = 1
        if slot < num_slots and _is_reached(t, x) and given_row(h.par[0], x, row):
            counts[0] += _num_other(t, slot, row)
            continue
        for j in range(t.own.shape[1]):
            _compare(t, h, x, j, _laid_out(t, h, x, j) if slot >= num_slots else _ALL, counts)
    if t.state[0].wild == 0:
        return
    for x in range(len(marks)):
        slot = as_int(t.leaf_slot[x])
        # Where holes have anything to lose they were noted.
        is_hole = slot >= 0 and t.slots[slot, P_LEAF] != x
        if marks[x] == 0 and not is_hole and not _is_reached(t, x):
            for j in range(t.own.shape[1]):
                _compare(t, h, x, j, _laid_out(t, h, x, j) if slot < 0 else _ALL, counts)


@inner_kernel
def _num_other(t: P2MTables, slot: int, row: Int64Array) -> int:
    """Return how many words of the leaf in `slot` differ from `row`; all its pages are owned."""
    differ = as_int(0)
    for i in range(len(row)):
        differ += t.words[slot, i] != row[i]
    return differ
