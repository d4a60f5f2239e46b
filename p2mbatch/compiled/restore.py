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
from p2mbatch.compiled.lookup import leaf_page_of
from p2mbatch.compiled.loops import all_invalid, all_own, code_of
from p2mbatch.compiled.owners import own_pfn, set_present
from p2mbatch.compiled.pages import make_leaf, page_code, room_left, set_own
from p2mbatch.compiled.records import HostParameters, OneRecord
from p2mbatch.compiled.rows import given_row
from p2mbatch.compiled.shared_leaf import identity_without_frame, is_dirty, restore_identity
from p2mbatch.compiled.status import MORE_ROOM, OK, RESTORE_POPULATE
from p2mbatch.compiled.tables import (
    FUNCTION_HOST,
    LAZY,
    LEAF,
    NO_PAGE,
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
    par: OneRecord[HostParameters],
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
    return bool(all_own(own, slot) and given_row(par[0], x, words[slot]))


# --- restore -----------------------------------------------------------------------------------


@inner_kernel
def _settle_unsaved(t: P2MTables, h: HostTables, x: int) -> int:
    """Make resident every LAZY leaf from `x` on that reaches beyond what the walk would send.

    Such leaves keep the old host's frames, which the new host's function can't tell. Returns OK or
    MORE_ROOM with `State.position` the leaf to go on from.
    """
    state = t.state[0]
    if state.walked_max_pfn == state.xen_max - 1:
        return OK
    first = (state.walked_max_pfn + 1) >> state.entries_shift
    for leaf in range(max(x, first), state.num_leaves):
        if t.leaf_slot[leaf] != LAZY:
            continue
        state.position = leaf
        if not room_left(t):
            return MORE_ROOM
        make_leaf(t, h, leaf)
    return OK


@kernel
def settle_sent(t: P2MTables, h: HostTables, to: HostTables) -> int:
    """Find what is sent from host `h` and whether `to` has frames for it; drop what is not sent.

    Only entries that are the guest's own frames are sent (machine-v2 section 7, step 3); all
    others become INVALID. Returns OK, or RESTORE_POPULATE with nothing changed and the lowest PFN
    without a frame in `State.detail`. For guests on table hosts: every leaf is resident.
    """
    shift = t.state[0].entries_shift
    n = 1 << shift
    max_pfn = t.state[0].walked_max_pfn
    # All of them, where nothing was stored there: a far PFN has many such leaves before it.
    holes = page_code(t, t.state[0].missing)
    if holes < 0 or not all_invalid(t.words[holes]):
        holes = as_int(NO_PAGE)
    run = as_int(0)
    for x in range((max_pfn >> shift) + 1):
        slot = _sent_slot(t, x, holes)
        pfn, stop = x << shift, min((x + 1) << shift, max_pfn + 1)
        while pfn < stop and slot != holes:
            while run < len(to.domain) and to.domain[run, 0] + to.domain[run, 2] <= pfn:
                run += 1
            named = stop if run == len(to.domain) else min(max(to.domain[run, 0], pfn), stop)
            while pfn < named:
                if _is_sent(h, t.words[slot, pfn & (n - 1)]):
                    t.state[0].detail = pfn
                    return RESTORE_POPULATE
                pfn += 1
            if pfn < stop:
                pfn = to.domain[run, 0] + to.domain[run, 2]
    for x in range((max_pfn >> shift) + 1):
        slot = _sent_slot(t, x, holes)
        row = t.words[slot, : min(n, max_pfn + 1 - (x << shift))]
        for i in range(len(row) if slot != holes else as_int(0)):
            if not _is_sent(h, row[i]):
                row[i] = INVALID
    return OK


@inner_kernel
def _slot_of_leaf(t: P2MTables, x: int) -> int:
    """Return the slot of leaf `x`; below 0 of one not resident, NO_PAGE of one never written.

    A list of more PFNs than the tree began with has leaves past those that are cached: the save has
    found them to be the tree's own.
    """
    if x < t.state[0].num_leaves:
        return as_int(t.leaf_slot[x])
    return page_code(t, leaf_page_of(t, x))


@inner_kernel
def _sent_slot(t: P2MTables, x: int, holes: int) -> int:
    """Return the slot of leaf `x`, every leaf being resident; `holes` where it has no words."""
    slot = _slot_of_leaf(t, x)
    return slot if slot >= 0 else holes


@inner_kernel
def _is_sent(h: HostTables, entry: int) -> bool:
    """Return whether a p2m entry is a frame that the guest owns on table host `h`."""
    return 0 <= entry < h.par[0].frames and h.owned[entry] != 0


@inner_kernel
def _settle_written(t: P2MTables, h: HostTables, to: HostTables, old_missing: Int64Array) -> int:
    """Do `settle_sent` for a guest on function hosts, and note what `p2m_missing` sends.

    Of a leaf that holds what its host gave, and of one not resident, every own frame is sent and
    has a frame on any host; so only leaves that something else wrote to are read. `old_missing`
    (int64[n]) gets the words of `p2m_missing` that are sent, INVALID elsewhere. Returns as
    `settle_sent`.
    """
    state = t.state[0]
    max_pfn = state.walked_max_pfn
    lowest = max_pfn + 1
    for slot in range(state.num_slots):
        if _is_written(t, slot):
            lowest = min(lowest, _first_without_frame(t, h, to, slot, max_pfn))
    lowest = min(lowest, _missing_without_frame(t, h, to, old_missing, max_pfn))
    if is_dirty(t):
        # Then `p2m_missing` is all INVALID: no store of these kernels is ever stray.
        lowest = min(lowest, identity_without_frame(t, h, to, old_missing, max_pfn))
    if lowest <= max_pfn:
        state.detail = lowest
        return RESTORE_POPULATE
    for slot in range(state.num_slots):
        if _is_written(t, slot):
            _drop_unsent(t, h, slot, max_pfn)
    return OK


@kernel
def settle(t: P2MTables, h: HostTables, to: HostTables, old_missing: Int64Array, x: int) -> int:
    """Do what needs the function host `h` that the guest is leaving for `to`, from leaf `x` on.

    `old_missing` (int64[n]) gets what `restore` is to know of `p2m_missing`. Returns OK, a RESTORE_
    code with nothing changed, or MORE_ROOM with `State.position` the leaf to go on from.
    """
    status = _settle_written(t, h, to, old_missing) if x == 0 else OK
    return _settle_unsaved(t, h, x) if status == OK else status


@inner_kernel
def _is_written(t: P2MTables, slot: int) -> bool:
    """Return whether a page is a leaf, not `p2m_missing`, that not only its host wrote to."""
    return t.slots[slot, P_KIND] == LEAF and t.slots[slot, P_LEAF] >= 0 == t.slots[slot, P_CLEAN]


@inner_kernel
def _first_without_frame(
    t: P2MTables, h: HostTables, to: HostTables, slot: int, max_pfn: int
) -> int:
    """Return the lowest PFN up to `max_pfn` of a leaf that is sent and has no frame on `to`."""
    never_inline()
    n = t.words.shape[1]
    base = t.slots[slot, P_LEAF] * n
    for i in range(max(min(n, max_pfn + 1 - base), 0)):
        if own_pfn(t, h, t.words[slot, i]) >= 0 and given_frame(to.par[0], base + i) == INVALID:
            return base + i
    return max_pfn + 1


@inner_kernel
def _missing_without_frame(
    t: P2MTables, h: HostTables, to: HostTables, old_missing: Int64Array, max_pfn: int
) -> int:
    """Do `_first_without_frame` for all leaves that are `p2m_missing`; note what it sends."""
    never_inline()
    n = t.words.shape[1]
    missing = page_code(t, t.state[0].missing)
    none_sent = True
    for i in range(n):
        word = t.words[missing, i] if missing >= 0 else as_int(INVALID)
        sent = word != INVALID and own_pfn(t, h, word) >= 0
        old_missing[i] = word if sent else INVALID
        none_sent = none_sent and not sent
    if none_sent:
        return max_pfn + 1
    for x in range(max_pfn // n + 1):
        if _slot_of_leaf(t, x) != missing:
            continue
        for i in range(min(n, max_pfn + 1 - x * n)):
            if old_missing[i] != INVALID and given_frame(to.par[0], x * n + i) == INVALID:
                return x * n + i
    return max_pfn + 1


@inner_kernel
def _drop_unsent(t: P2MTables, h: HostTables, slot: int, max_pfn: int) -> None:
    """Make INVALID what is not sent of a leaf up to `max_pfn`."""
    never_inline()
    n = t.words.shape[1]
    for i in range(max(min(n, max_pfn + 1 - t.slots[slot, P_LEAF] * n), 0)):
        if own_pfn(t, h, t.words[slot, i]) < 0:
            t.words[slot, i] = INVALID


@kernel
def restore(t: P2MTables, h: HostTables, old_missing: Int64Array) -> int:
    """Give the guest its frames on host `h` and overwrite its leaves (model section 7, step 3).

    `old_missing` (int64[n]) is what `settle` noted of `p2m_missing` on a function host, a
    workspace on a table host. Follows a save walk that succeeded, so every saved leaf's pointers
    are sound. Returns OK.
    """
    state = t.state[0]
    state.saved_max_pfn = state.walked_max_pfn
    if state.clears_fll != 0:
        state.shared_fll = 0
    max_pfn = state.saved_max_pfn
    if h.par[0].kind == FUNCTION_HOST:
        words, own, slots = t.words, t.own, t.slots
        for slot in range(state.num_slots):
            x = slots[slot, P_LEAF]
            if slots[slot, P_KIND] != LEAF or x < 0:
                continue
            if not restore_plain(words, own, slots, h.par, max_pfn, slot):
                restore_leaf(t, h, slot, x, max_pfn)
        _restore_missing(t, h, old_missing, max_pfn)
        if is_dirty(t):
            restore_identity(t, h, old_missing, max_pfn)
    else:
        _restore_runs(t, h, old_missing, max_pfn)
    return OK


@kernel
def move(t: P2MTables, h: HostTables, to: HostTables, old_missing: Int64Array, x: int) -> int:
    """Do `settle` and, where that says OK, `restore` on `to`; returns as `settle`."""
    status = settle(t, h, to, old_missing, x)
    return restore(t, to, old_missing) if status == OK else status


@inner_kernel
def restore_leaf(t: P2MTables, h: HostTables, slot: int, x: int, max_pfn: int) -> None:
    """Overwrite one resident leaf up to `max_pfn` with a function host's frames."""
    base = x * t.words.shape[1]
    clean = t.slots[slot, P_CLEAN] != 0
    # Numbers of the old host that stay beyond what is saved may be own frames on the new one.
    kept = 0
    for j in range(t.own.shape[1]):
        row = t.words[slot, j << 6 : (j + 1) << 6]
        was, got = t.own[slot, j], np.uint64(0)
        for k in range(64):
            mfn = INVALID
            pfn = base + (j << 6) + k
            if pfn <= max_pfn:
                bit = np.uint64(1) << np.uint64(k)
                # Of a leaf that was written to `settle` has left what is sent.
                if was & bit != 0 if clean else row[k] != INVALID:
                    mfn = given_frame(h.par[0], pfn)
                    got |= bit if mfn != INVALID else np.uint64(0)
                row[k] = mfn
            else:
                kept |= row[k] ^ INVALID
        t.own[slot, j] = got
    t.slots[slot, P_CLEAN] = kept == 0


@inner_kernel
def _restore_missing(t: P2MTables, h: HostTables, old: Int64Array, max_pfn: int) -> None:
    """Overwrite `p2m_missing`, as each leaf that it is, where something has hit it.

    Its words then look like populated pages: those in `old` that are not INVALID.
    """
    never_inline()
    n = t.words.shape[1]
    missing = page_code(t, t.state[0].missing)
    if missing < 0:
        return
    blank = True
    for i in range(n):
        blank = blank and t.words[missing, i] == INVALID
    for i in range(t.own.shape[1]):
        t.own[missing, i] = 0
    if blank:
        return
    for x in range(max_pfn // n + 1):
        if _slot_of_leaf(t, x) != missing:
            continue
        for i in range(min(n, max_pfn + 1 - x * n)):
            t.words[missing, i] = INVALID
            if old[i] != INVALID:
                # A host that has frames for holes too; on any other the restore was refused.
                t.words[missing, i] = given_frame(h.par[0], x * n + i)
                set_own(t, missing, i, True)


@inner_kernel
def _restore_runs(t: P2MTables, h: HostTables, old_missing: Int64Array, max_pfn: int) -> None:
    """Overwrite all leaves up to `max_pfn` with a table host's frames."""
    never_inline()
    shift = t.state[0].entries_shift
    missing = page_code(t, t.state[0].missing)
    blank = True
    for i in range(1 << shift):
        old_missing[i] = t.words[missing, i] if missing >= 0 else as_int(INVALID)
        blank = blank and old_missing[i] == INVALID
    t.present[:] = 0
    run = 0
    for x in range((max_pfn >> shift) + 1):
        slot = _slot_of_leaf(t, x)
        while run < len(h.domain) and h.domain[run, 0] + h.domain[run, 2] <= x << shift:
            run += 1
        if slot < 0:
            continue
        if slot != missing:
            _restore_from_runs(t, h, t.words[slot], slot, x, max_pfn, run)
        elif not blank:
            _restore_from_runs(t, h, old_missing, slot, x, max_pfn, run)


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

    A table host, and a guest whose `p2m_missing` or `p2m_identity` was hit, are left to one thread.
    """
    if h.par[0].kind != FUNCTION_HOST or not shared_are_blank(t):
        return int(restore(t, h, old_missing))
    t.state[0].saved_max_pfn = t.state[0].walked_max_pfn
    if t.state[0].clears_fll != 0:
        t.state[0].shared_fll = 0
    max_pfn = int(t.state[0].saved_max_pfn)
    left = np.empty(int(t.state[0].num_slots), np.uint8)
    if restore_slots(t, h, max_pfn, left):
        restore_left(t, h, max_pfn, left)
    return OK


@kernel
def shared_are_blank(t: P2MTables) -> bool:
    """Return whether neither page that many leaves share holds anything."""
    return missing_is_blank(t) and not is_dirty(t)


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
