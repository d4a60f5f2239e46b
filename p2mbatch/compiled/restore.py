"""A restore on a new host: exact, plain and parallel.

Source: model section 7, step 3; libxc `x86_pv` restore.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from p2mbatch.base.arrays import Int64Array, UInt8Array, UInt64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.hosts import given_frame
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel, never_inline, parallel_kernel
from p2mbatch.compiled.loops import all_own, code_of
from p2mbatch.compiled.owners import set_present
from p2mbatch.compiled.pages import make_leaf, page_code, room_left, set_own
from p2mbatch.compiled.records import HostParameters
from p2mbatch.compiled.rows import given_row
from p2mbatch.compiled.status import MORE_ROOM, OK, RESTORE_POPULATE
from p2mbatch.compiled.tables import (
    FUNCTION_HOST,
    LAZY,
    LEAF,
    P_CLEAN,
    P_KIND,
    P_LEAF,
    HostTables,
    P2MTables,
)

# --- restore and set ---------------------------------------------------------------------------


@inner_kernel
def restore_plain(
    words: Int64Array,
    own: UInt64Array,
    slots: Int64Array,
    par: HostParameters,
    max_pfn: int,
    slot: int,
) -> bool:
    """Overwrite the leaf in `slot` with a function host's frames; whether it could.

    It can where the whole leaf was saved, every entry was populated and nothing else has been
    written there, so that what it holds need not be read.
    """
    x = slots[slot, P_LEAF]
    if slots[slot, P_CLEAN] == 0 or (x + 1) * words.shape[1] - 1 > max_pfn:
        return False
    return bool(all_own(own, slot) and given_row(par, x, words[slot]))


# --- restore -----------------------------------------------------------------------------------


@kernel
def settle_unsaved(t: P2MTables, h: HostTables, x: int) -> int:
    """Make resident every LAZY leaf from `x` on that reaches beyond what was saved.

    Such leaves keep the old host's frames, which the new host's function can't tell. Returns OK or
    MORE_ROOM with `state.position` the leaf to go on from.
    """
    state = t.state[0]
    saved = state.saved_max_pfn
    first = (saved + 1) >> state.entries_shift
    # What these leaves hold was given to them when everything in them was saved.
    for leaf in range(max(x, first), state.num_leaves):
        if t.leaf_slot[leaf] != LAZY:
            continue
        state.position = leaf
        if not room_left(t):
            return MORE_ROOM
        state.saved_max_pfn = state.xen_max - 1
        make_leaf(t, h, leaf)
        state.saved_max_pfn = saved
    return OK


@kernel
def settle_sent(t: P2MTables, h: HostTables, to: HostTables) -> int:
    """Find what is sent from host `h` and whether `to` has frames for it; drop what is not sent.

    Only entries that are the guest's own frames are sent (machine-v2 section 7, step 3); all
    others become INVALID. Returns OK, or RESTORE_POPULATE with nothing changed and the lowest PFN
    without a frame in `state.detail`. For guests on table hosts: every leaf is resident.
    """
    shift = t.state[0].entries_shift
    n = 1 << shift
    max_pfn = t.state[0].saved_max_pfn
    run = 0
    for pfn in range(max_pfn + 1):
        if not _is_sent(h, t.words[t.leaf_slot[pfn >> shift], pfn & (n - 1)]):
            continue
        while run < len(to.domain) and to.domain[run, 0] + to.domain[run, 2] <= pfn:
            run += 1
        if run == len(to.domain) or to.domain[run, 0] > pfn:
            t.state[0].detail = pfn
            return RESTORE_POPULATE
    for pfn in range(max_pfn + 1):
        slot = t.leaf_slot[pfn >> shift]
        if not _is_sent(h, t.words[slot, pfn & (n - 1)]):
            t.words[slot, pfn & (n - 1)] = INVALID
    return OK


@inner_kernel
def _is_sent(h: HostTables, entry: int) -> bool:
    """Return whether a p2m entry is a frame that the guest owns on table host `h`."""
    return 0 <= entry < h.par[0].frames and h.owned[entry] != 0


@kernel
def restore(t: P2MTables, h: HostTables, old_missing: Int64Array) -> int:
    """Give the guest its frames on host `h` and overwrite its leaves (model section 7, step 3).

    `old_missing` (int64[n]) is a workspace for what `p2m_missing` held. Follows a save walk that
    succeeded, so every saved leaf's pointers are sound. Returns OK.
    """
    state = t.state[0]
    if state.clears_fll != 0:
        state.shared_fll = 0
    shift = state.entries_shift
    n = 1 << shift
    max_pfn = state.saved_max_pfn
    end = (max_pfn >> shift) + 1
    missing = page_code(t, state.missing)
    blank = True
    for i in range(n):
        old_missing[i] = t.words[missing, i]
        blank = blank and old_missing[i] == INVALID
    if h.par[0].kind == FUNCTION_HOST:
        words, own, slots = t.words, t.own, t.slots
        for slot in range(state.num_slots):
            x = slots[slot, P_LEAF]
            if slots[slot, P_KIND] != LEAF or x < 0:
                continue
            if not restore_plain(words, own, slots, h.par, max_pfn, slot):
                restore_leaf(t, h, slot, x, max_pfn)
        for i in range(t.own.shape[1]):
            t.own[missing, i] = 0
        if not blank:
            # A host that has frames for holes too gives them to those that look populated.
            for i in range(n):
                set_own(t, missing, i, h.par[0].names_all != 0 and old_missing[i] != INVALID)
            for x in range(end):
                if t.leaf_slot[x] == missing:
                    _restore_missing(t, h, old_missing, x, max_pfn)
        return OK
    t.present[:] = 0
    run = 0
    for x in range(end):
        slot = as_int(t.leaf_slot[x])
        while run < len(h.domain) and h.domain[run, 0] + h.domain[run, 2] <= x << shift:
            run += 1
        if slot != missing:
            _restore_from_runs(t, h, t.words[slot], slot, x, max_pfn, run)
        elif not blank:
            _restore_from_runs(t, h, old_missing, slot, x, max_pfn, run)
    return OK


@inner_kernel
def restore_leaf(t: P2MTables, h: HostTables, slot: int, x: int, max_pfn: int) -> None:
    """Overwrite one resident leaf up to `max_pfn` with a function host's frames."""
    n = t.words.shape[1]
    base = x * n
    for i in range(n):
        mfn = INVALID
        if base + i <= max_pfn:
            if t.words[slot, i] != INVALID:
                mfn = given_frame(h.par[0], base + i)
            t.words[slot, i] = mfn
        set_own(t, slot, i, mfn != INVALID)
    t.slots[slot, P_CLEAN] = 1


@inner_kernel
def _restore_missing(t: P2MTables, h: HostTables, old: Int64Array, x: int, max_pfn: int) -> None:
    """Overwrite `p2m_missing` as leaf `x`: its words, once hit, look like populated pages."""
    never_inline()
    n = t.words.shape[1]
    slot = page_code(t, t.state[0].missing)
    for i in range(min(n, max_pfn + 1 - x * n)):
        t.words[slot, i] = given_frame(h.par[0], x * n + i) if old[i] != INVALID else INVALID


@inner_kernel
def _restore_from_runs(
    t: P2MTables, h: HostTables, old: Int64Array, slot: int, x: int, max_pfn: int, run: int
) -> None:
    """Overwrite one leaf up to `max_pfn` with a table host's frames, from domain run `run` on."""
    never_inline()
    n = t.words.shape[1]
    base = x * n
    stop = min(base + n, max_pfn + 1)
    pfn = base
    while pfn < stop:
        while run < len(h.domain) and h.domain[run, 0] + h.domain[run, 2] <= pfn:
            run += 1
        mfn = INVALID
        if run < len(h.domain) and h.domain[run, 0] <= pfn and old[pfn - base] != INVALID:
            mfn = h.domain[run, 1] + pfn - h.domain[run, 0]
            h.m2p[mfn] = pfn
            h.owned[mfn] = 1
            set_present(t, pfn, True)
        t.words[slot, pfn - base] = mfn
        pfn += 1


BLOCK_LEAVES = 1 << 10
"""Leaves that one thread restores at a time: 4 MiB."""


@parallel_kernel
def restore_slots(t: P2MTables, h: HostTables, max_pfn: int, left: UInt8Array) -> int:
    """Overwrite every resident leaf that is plain, on all cores; return how many were not.

    `left` (uint8[slots in use]) gets 1 for each of those.
    """
    words, own, slots, par = t.words, t.own, t.slots, h.par
    num_left = 0
    for block in prange((len(left) + BLOCK_LEAVES - 1) // BLOCK_LEAVES):
        first = as_int(block) * BLOCK_LEAVES
        for slot in range(first, min(first + BLOCK_LEAVES, len(left))):
            left[slot] = 0
            if (
                slots[slot, P_KIND] == LEAF
                and slots[slot, P_LEAF] >= 0
                and not restore_plain(words, own, slots, par, max_pfn, slot)
            ):
                left[slot] = 1
                num_left += 1
    return num_left


@kernel
def restore_left(t: P2MTables, h: HostTables, max_pfn: int, left: UInt8Array) -> None:
    """Overwrite the leaves that `restore_slots` left."""
    for slot in range(len(left)):
        if left[slot] != 0:
            restore_leaf(t, h, slot, t.slots[slot, P_LEAF], max_pfn)


def restore_parallel(t: P2MTables, h: HostTables, old_missing: Int64Array) -> int:
    """Do `restore` on all cores; returns as it does.

    A table host, and a guest whose `p2m_missing` was hit, are left to one thread.
    """
    if h.par[0].kind != FUNCTION_HOST or not missing_is_blank(t):
        return int(restore(t, h, old_missing))
    if t.state[0].clears_fll != 0:
        t.state[0].shared_fll = 0
    max_pfn = int(t.state[0].saved_max_pfn)
    left = np.empty(int(t.state[0].num_slots), np.uint8)
    if restore_slots(t, h, max_pfn, left):
        restore_left(t, h, max_pfn, left)
    return OK


@kernel
def missing_is_blank(t: P2MTables) -> bool:
    """Return whether `p2m_missing` is all INVALID, and was when the guest was restored last."""
    slot = code_of(t.block_of, t.block_code, t.state[0].missing)
    differ = as_int(0)
    for i in range(t.words.shape[1]):
        differ |= t.words[slot, i] ^ INVALID
    for i in range(t.own.shape[1]):
        differ |= np.int64(t.own[slot, i])
    return bool(differ == 0)
