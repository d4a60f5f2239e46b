"""What policies share of `set_phys_to_machine` and of `alloc_p2m`, by which the tree grows.

Source: model section 5; what a frame's change of hands means is section 7's. `grow(t, h, x)` is the
policy's own: it makes leaf x and returns OK, a BUG_ or FAULT_ code, or NO_MEMORY.
"""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array, UInt64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.hosts import given_frame
from p2mbatch.compiled.jit import Inner, as_int, inline_kernel, inner_kernel, never_inline
from p2mbatch.compiled.lists import filled_slot, mid_mfn_init, store_entry
from p2mbatch.compiled.lookup import leaf_page_of, pfn_to_mfn, store_page
from p2mbatch.compiled.loops import ALL_OWN
from p2mbatch.compiled.owners import set_present
from p2mbatch.compiled.pages import (
    address,
    fill_leaf,
    is_own,
    make_lazy,
    make_leaf,
    page_at,
    page_code,
    room_left,
    set_own,
    take_slot,
)
from p2mbatch.compiled.status import (
    BUG_SET,
    FAULT_STORE,
    FAULT_TOP,
    MORE_ROOM,
    NO_MEMORY,
    OK,
)
from p2mbatch.compiled.tables import (
    FUNCTION_HOST,
    LAZY,
    LEAF,
    MID_MFN,
    NO_PAGE,
    P_CLEAN,
    P_KIND,
    P_LEAF,
    POINTER,
    UNREACHABLE,
    WAS_FREED,
    HostTables,
    P2MTables,
)


@inner_kernel
def alloc_p2m_page(t: P2MTables) -> int:
    """Return the PFN of the next pool page; -1 where none is left or failure is injected."""
    state = t.state[0]
    turn = state.allocs
    state.allocs = turn + 1
    if turn == state.fail_at:
        return -1
    skip = state.pool_used
    for run in range(len(t.pool)):
        if skip < t.pool[run, 1]:
            state.pool_used += 1
            return t.pool[run, 0] + skip
        skip -= t.pool[run, 1]
    return -1


# --- set_phys_to_machine -----------------------------------------------------------------------


@inline_kernel
def set_each(t: P2MTables, h: HostTables, runs: Int64Array, done: int, grow: Inner) -> int:
    """Apply `runs` (int64[k, 3]: pfn, mfn or INVALID, count), leaving out the first `done` entries.

    Source: kernel `set_phys_to_machine`, model section 5. Returns OK, a BUG_ or FAULT_ code,
    NO_MEMORY, or MORE_ROOM; `State.position` is how many entries succeeded in all.
    """
    skip = done
    t.state[0].position = done
    words, own, n = t.words, t.own, t.words.shape[1]
    for run in range(len(runs)):
        pfn, mfn, count = runs[run, 0], runs[run, 1], runs[run, 2]
        begin = min(skip, count)
        skip -= begin
        k = begin
        while k < count:
            slot = _plain_leaf(t, h, pfn + k)
            if slot >= 0:
                # All that the run has of a leaf that is there already, at once.
                step = min(count - k, n - ((pfn + k) & (n - 1)))
                value = mfn + k if mfn >= 0 else INVALID
                set_plain(words, own, h, slot, pfn + k, value, step)
                for at in range(pfn + k, min(pfn + k + step, len(t.present))):
                    t.present[at] = mfn >= 0
            else:
                if not room_left(t):
                    return MORE_ROOM
                value = mfn + k if mfn >= 0 else INVALID
                status = set_phys_to_machine(t, h, pfn + k, value, grow)
                if status != OK:
                    return status
                step = 1
            k += step
            t.state[0].position += step
    return OK


@inner_kernel
def _plain_leaf(t: P2MTables, h: HostTables, pfn: int) -> int:
    """Return the slot of the resident leaf of `pfn`; below 0 for any other way to set an entry."""
    x = pfn >> t.state[0].entries_shift
    if t.state[0].wild != 0 or not 0 <= x < t.state[0].num_leaves:
        return NO_PAGE
    if t.leaf_page[x] == t.state[0].missing:
        return NO_PAGE
    slot = as_int(t.leaf_slot[x])
    if slot >= 0 and h.par[0].kind == FUNCTION_HOST and t.slots[slot, P_CLEAN] == 0:
        return NO_PAGE
    return slot


@inline_kernel
def set_phys_to_machine(t: P2MTables, h: HostTables, pfn: int, mfn: int, grow: Inner) -> int:
    """Set one entry, growing the tree for it if need be, and move the frames' ownership.

    Source: kernel `set_phys_to_machine`; ownership: model section 7.
    """
    state = t.state[0]
    if pfn >= state.max_p2m:
        return OK if mfn == INVALID else BUG_SET
    shift = state.entries_shift
    x = pfn >> shift
    leaf = _leaf_for_set(t, x)
    if leaf == state.missing:
        if mfn == INVALID:
            return OK
        status = grow(t, h, x)
        if status != OK:
            return status
        leaf = _leaf_for_set(t, x)
    if leaf < 0:
        return leaf
    slot = page_code(t, leaf)
    if slot <= LAZY:
        slot = make_leaf(t, h, LAZY - slot)
    write_entry(t, h, slot, pfn, mfn)
    return OK


@inner_kernel
def write_entry(t: P2MTables, h: HostTables, slot: int, pfn: int, mfn: int) -> None:
    """Write the entry of `pfn` into the leaf in `slot`, and move the frames' ownership."""
    i = pfn & (t.words.shape[1] - 1)
    before = t.words[slot, i]
    t.words[slot, i] = mfn
    set_present(t, pfn, mfn != INVALID)
    if h.par[0].kind == FUNCTION_HOST:
        # What is no frame of this host (foreign, identity) is nobody's; a frame is that of `pfn`.
        # A stray write over the entry took the frame from nobody: nor does overwriting that.
        if 0 <= mfn < h.par[0].frames:
            set_own(t, slot, i, True)
        elif t.slots[slot, P_CLEAN] != 0 or before == given_frame(h.par[0], pfn):
            if pfn < len(h.owned) and is_own(t, slot, i):
                h.owned[pfn] |= WAS_FREED
            set_own(t, slot, i, False)
        return
    frames = h.par[0].frames
    if 0 <= before < frames and h.owned[before] != 0 and h.m2p[before] == pfn:
        h.owned[before] = 0
        if h.par[0].keeps_freed == 0:
            h.m2p[before] = INVALID
    if 0 <= mfn < frames:
        h.owned[mfn] = 1
        h.m2p[mfn] = pfn


@inner_kernel
def _leaf_for_set(t: P2MTables, x: int) -> int:
    """Return the page of leaf `x`, by the cache where it may be believed; or a FAULT_ code."""
    if x < t.state[0].num_leaves and t.state[0].wild == 0:
        return as_int(t.leaf_page[x])
    return leaf_page_of(t, x)


@inline_kernel
def mid_for(t: P2MTables, top: int) -> int:
    """Return the mid page of a top index, made if there is none yet; below 0 without memory."""
    state = t.state[0]
    top_slot = page_code(t, state.top)
    mid = page_at(t, t.words[top_slot, top])
    if mid != state.mid_missing:
        return mid
    mid = alloc_p2m_page(t)
    if mid < 0:
        return mid
    filled_slot(t, mid, as_int(POINTER), address(t, state.missing))
    t.words[top_slot, top] = address(t, mid)
    state.num_mids += 1
    return mid


@inline_kernel
def leaf_for(t: P2MTables, h: HostTables, mid: int, x: int, where: int) -> int:
    """Make leaf `x` if there is none, and store its MFN through the list's page at `where`.

    `mid` is its mid page. Returns as `grow`.
    """
    state = t.state[0]
    shift = state.entries_shift
    leaf = leaf_page_of(t, x)
    if leaf != state.missing:
        return leaf if leaf < 0 else OK
    leaf = alloc_p2m_page(t)
    if leaf < 0:
        return NO_MEMORY
    _install_leaf(t, mid, x, leaf)
    mfn = pfn_to_mfn(t, h, leaf)
    if mfn <= FAULT_TOP:
        return mfn
    page = store_page(t, h, where)
    if page >= UNREACHABLE:
        return FAULT_STORE
    store_entry(t, h, x >> shift, page, x & ((1 << shift) - 1), mfn)
    return OK


@inner_kernel
def install_mid_mfn(t: P2MTables, h: HostTables, top: int, page: int) -> int:
    """Fill a fresh mid_mfn page and hang it in, if the top_mfn entry is that of the missing one.

    `true_mid_mfn` says whether it was. Returns OK or a FAULT_ code.
    """
    never_inline()
    state = t.state[0]
    slot = take_slot(t, page)
    t.slots[slot, P_KIND] = MID_MFN
    status = mid_mfn_init(t, h, slot)
    if status != OK:
        return status
    missing_mfn = pfn_to_mfn(t, h, state.mid_missing_mfn)
    if missing_mfn <= FAULT_TOP:
        return missing_mfn
    mfn = pfn_to_mfn(t, h, page)
    if mfn <= FAULT_TOP:
        return mfn
    top_mfn = page_code(t, state.top_mfn)
    if t.words[top_mfn, top] != missing_mfn:
        # The page that lost is freed and yet used: never installed, so what follows is stray.
        return OK
    t.words[top_mfn, top] = mfn
    t.true_mid_mfn[top] = page
    state.num_mid_mfns += 1
    return OK


@inner_kernel
def _install_leaf(t: P2MTables, mid: int, x: int, page: int) -> None:
    """Hang a fresh leaf, all INVALID, into its mid page."""
    state = t.state[0]
    n = 1 << state.entries_shift
    slot = filled_slot(t, page, as_int(LEAF), as_int(INVALID))
    t.slots[slot, P_LEAF] = x
    t.slots[slot, P_CLEAN] = not takes_over(t, slot, x)
    t.words[page_code(t, mid), x & (n - 1)] = address(t, page)
    state.num_grown += 1
    if x < state.num_leaves:
        t.leaf_slot[x] = slot
        t.leaf_page[x] = page


@inner_kernel
def takes_over(t: P2MTables, slot: int, x: int) -> bool:
    """Give leaf `x` the frames that it owns as `p2m_missing`; whether there are any.

    A function host has given some where `p2m_missing` had been hit and so looked populated.
    """
    n = t.words.shape[1]
    missing = page_code(t, t.state[0].missing)
    some = np.uint64(0)
    for i in range(t.own.shape[1]):
        some |= t.own[missing, i]
    if some == 0:
        return False
    found = False
    for i in range(min(n, t.state[0].saved_max_pfn + 1 - x * n)):
        if is_own(t, missing, i):
            set_own(t, slot, i, True)
            found = True
    return found


@inline_kernel
def populate_each(
    t: P2MTables, h: HostTables, leaves: Int64Array, lazy: bool, first: int, grow: Inner
) -> int:
    """Populate the whole leaves `leaves` (int64[k]) from index `first` on, each as a balloon would.

    The tree grows for a leaf's first page; the entries then follow from the function host. With
    `lazy` the leaf's own slot is given back and it stays LAZY. Returns as `set_each`;
    `State.position` is the index to go on from.
    """
    for k in range(first, len(leaves)):
        t.state[0].position = k
        if not room_left(t):
            return MORE_ROOM
        x = leaves[k]
        status = grow(t, h, x)
        if status != OK:
            return status
        slot = as_int(t.leaf_slot[x])
        if not lazy or not make_lazy(t, slot, x):
            fill_leaf(t, h, slot, x)
    return OK


@inner_kernel
def set_plain(
    words: Int64Array, own: UInt64Array, h: HostTables, slot: int, pfn: int, mfn: int, count: int
) -> None:
    """Set `count` entries of one resident leaf from `pfn` on, to `mfn` and up or all INVALID."""
    i = pfn & (words.shape[1] - 1)
    step = np.int64(mfn >= 0)
    frames = h.par[0].frames
    if h.par[0].kind == FUNCTION_HOST:
        entries = words[slot, i : i + count]
        for at in range(count):
            entries[at] = mfn + at * step
        # Frames are those of their PFNs; what is no frame of this host is nobody's.
        owned = 0 <= mfn < frames
        bits = own[slot]
        if len(h.owned) > 0 and not owned:
            for at in range(count):
                if (np.int64(bits[(i + at) >> 6]) >> ((i + at) & 63)) & 1 != 0:
                    h.owned[pfn + at] = 1
        at = i
        while at < i + count:
            # As many bits as one word has of this run.
            some = min(64 - (at & 63), i + count - at)
            mask = (ALL_OWN >> np.uint64(64 - some)) << np.uint64(at & 63)
            word = bits[at >> 6]
            bits[at >> 6] = word | mask if owned else word & ~mask
            at += some
        return
    for at in range(count):
        before = words[slot, i + at]
        after = mfn + at * step
        words[slot, i + at] = after
        if 0 <= before < frames and h.owned[before] != 0 and h.m2p[before] == pfn + at:
            h.owned[before] = 0
            if h.par[0].keeps_freed == 0:
                h.m2p[before] = INVALID
        if 0 <= after < frames:
            h.owned[after] = 1
            h.m2p[after] = pfn + at
