"""Compiled kernels on one big guest whose leaves are memory: lookups, and everything in parallel.

The `_parallel` ones use all cores and call the same loops as one thread's; they are for a guest of
its own, never for a sweep's cells, whose threads are busy already. Each does what the exact kernel
of the same name does, to the bit: what is not plain is left to that kernel.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from p2mbatch._jit import as_int, inner_kernel, kernel, parallel_kernel, prefetch
from p2mbatch.geometry import INVALID
from p2mbatch.kernels import OK, get_phys_to_machine, m2p
from p2mbatch.kernels_plain import (
    LOOKUP_BLOCK,
    code_of,
    leaves_in_row,
    list_pages,
    lookup_plain,
    rebuild_mid,
    restore_plain,
    walk_list,
)
from p2mbatch.kernels_rebuild import rebuild
from p2mbatch.kernels_rows import inverse_each
from p2mbatch.kernels_save import map_frame_lists, restore, restore_leaf, save_walk
from p2mbatch.tables import (
    EXTENTS,
    FUNCTION_HOST,
    H_ENTRIES_SHIFT,
    H_FRAMES,
    H_FRAMES_PERM,
    H_GUEST_FRAMES,
    H_KIND,
    H_LAYOUT,
    H_NR_PAGES,
    H_NUM_EXTENTS,
    H_ORDER,
    H_RESERVED,
    LEAF,
    P_KIND,
    P_LEAF,
    S_ENTRIES_SHIFT,
    S_ENTRIES_WRITTEN,
    S_MAX_P2M,
    S_MISSING,
    S_NUM_SLOTS,
    S_SAVED_MAX_PFN,
    S_TOP_MFN,
    S_WILD,
    S_XEN_MAX,
    HostTables,
    Int32Array,
    Int64Array,
    P2MTables,
    UInt8Array,
    UInt64Array,
)

CHUNK = 1 << 14
"""Lookups that one thread takes at a time."""
M2P_BLOCK = 1 << 10
"""Frames whose PFNs are worked out together."""
OWNERS_AHEAD = 24
"""How many frames ahead of its use the word that says who owns one is asked for."""
BLOCK_LEAVES = 1 << 10
"""Leaves that one thread restores at a time: 4 MiB."""


# --- lookup ------------------------------------------------------------------------------------


@inner_kernel
def _lookup_rest(t: P2MTables, h: HostTables, pfns: Int64Array, out: Int64Array, k: int) -> None:
    """Look `pfns[k:]` up, block by block, exactly where a block is not plain."""
    words, leaf_slot, max_p2m_pfn = t.words, t.leaf_slot, t.state[S_MAX_P2M]
    plain = t.state[S_WILD] == 0
    end = len(pfns)
    in_row = leaves_in_row(leaf_slot, end - k)
    while k < end:
        if plain:
            k = lookup_plain(words, leaf_slot, in_row, max_p2m_pfn, pfns, out, k, end)
        stop = min(k + LOOKUP_BLOCK, end)
        while k < stop:
            out[k] = get_phys_to_machine(t, h, pfns[k])
            k += 1


@kernel
def lookup(t: P2MTables, h: HostTables, pfns: Int64Array, out: Int64Array) -> None:
    """Write `get_phys_to_machine` of each of `pfns` (int64[k]) to `out` (int64[k]).

    FAULT_ codes stand where a wild pointer is in the way.
    """
    _lookup_rest(t, h, pfns, out, as_int(0))


@parallel_kernel
def lookup_chunks(
    words: Int64Array,
    leaf_slot: Int32Array,
    max_p2m_pfn: int,
    pfns: Int64Array,
    out: Int64Array,
    done: Int64Array,
) -> None:
    """Look each chunk up as far as it is plain; `done` (int64[chunks]) gets how far that was."""
    in_row = leaves_in_row(leaf_slot, len(pfns))
    for chunk in prange(len(done)):
        begin = as_int(chunk) * CHUNK
        end = min(begin + CHUNK, len(pfns))
        done[chunk] = lookup_plain(words, leaf_slot, in_row, max_p2m_pfn, pfns, out, begin, end)


@kernel
def _lookup_left(
    t: P2MTables, h: HostTables, pfns: Int64Array, out: Int64Array, done: Int64Array
) -> None:
    """Look up what `lookup_chunks` left."""
    for chunk in range(len(done)):
        end = min((chunk + 1) * CHUNK, len(pfns))
        if done[chunk] < end:
            _lookup_rest(t, h, pfns[:end], out[:end], done[chunk])


def lookup_parallel(t: P2MTables, h: HostTables, pfns: Int64Array, out: Int64Array) -> None:
    """Do `lookup` on all cores."""
    done = np.arange(-(-len(pfns) // CHUNK), dtype=np.int64) * CHUNK
    if t.state[S_WILD] == 0:
        lookup_chunks(t.words, t.leaf_slot, int(t.state[S_MAX_P2M]), pfns, out, done)
    _lookup_left(t, h, pfns, out, done)


# --- m2p ---------------------------------------------------------------------------------------


@inner_kernel
def _m2p_pfns(par: Int64Array, limit: int, mfns: Int64Array, out: Int64Array) -> None:
    """Write the PFN below `limit` that each frame is handed out for.

    INVALID for what is no frame, INVALID - 1 for frames of others and of leaves drawn by lot.
    """
    order, reserved, num_extents = par[H_ORDER], par[H_RESERVED], par[H_NUM_EXTENTS]
    frames = par[H_FRAMES]
    low = (1 << order) - 1
    # The extents lie in the lower half of what their PFNs will take.
    extents = out.view(np.uint32)
    for j in range(len(mfns)):
        extent = (mfns[j] - reserved) >> order
        extents[j] = np.uint32(extent if 0 <= extent < num_extents else 0)
    inverse_each(par, H_FRAMES_PERM, extents, len(mfns))
    # From the end, so that an extent is read before the PFN of another lands on it.
    for j in range(len(mfns) - 1, -1, -1):
        at = mfns[j] - reserved
        pfn = (np.int64(extents[j]) << order) | (at & low)
        if at < 0 or at >> order >= num_extents or pfn >= limit:
            pfn = INVALID if mfns[j] < 0 or mfns[j] >= frames else INVALID - 1
        out[j] = pfn


@inner_kernel
def _m2p_owned(
    own: UInt64Array, leaf_slot: Int32Array, in_row: int, shift: int, missing: int, out: Int64Array
) -> bool:
    """Write INVALID - 1 over those PFNs in `out` that do not own their frame; whether all did.

    Frames that are nobody's own nothing, and are none the worse for it. Asking ahead also keeps
    the compiler from taking eight words at a time here, whose scattered reads cost twice as much.
    """
    words = own.reshape(-1)
    first = as_int(leaf_slot[0])
    up, mask = shift - 6, (1 << (shift - 6)) - 1
    last = len(out) - 1
    every = True
    for j in range(len(out)):
        ahead = out[min(j + OWNERS_AHEAD, last)]
        if ahead >= 0:
            x = ahead >> shift
            slot = first + x if x < in_row else as_int(leaf_slot[x])
            prefetch(words, np.uint64((max(slot, 0) << up) | ((ahead >> 6) & mask)))
        pfn = out[j]
        if pfn >= 0:
            x = pfn >> shift
            slot = first + x if x < in_row else as_int(leaf_slot[x])
            # Of a leaf that is not resident no word of `own` is read: the index is 0's then.
            word = words[np.uint64((slot << up) | ((pfn >> 6) & mask) if slot >= 0 else 0)]
            if slot < 0 or slot == missing or (np.int64(word) >> (pfn & 63)) & 1 == 0:
                out[j] = INVALID - 1
                every = False
        elif pfn < INVALID:
            every = False
    return every


@inner_kernel
def _m2p_span(
    own: UInt64Array,
    leaf_slot: Int32Array,
    in_row: int,
    missing: int,
    h: HostTables,
    mfns: Int64Array,
    out: Int64Array,
) -> bool:
    """Write the m2p entries that are plain, and INVALID - 1 for the others; whether all were.

    Plain are a table host's, frames out of range, and those that the guest owns in a resident
    leaf. `missing` is the slot of `p2m_missing`, which owns nothing; `in_row` is what
    `leaves_in_row` found.
    """
    par = h.par
    if par[H_KIND] != FUNCTION_HOST:
        for k in range(len(mfns)):
            out[k] = h.m2p[mfns[k]] if 0 <= mfns[k] < par[H_FRAMES] else INVALID
        return True
    shift = par[H_ENTRIES_SHIFT]
    limit = min(par[H_GUEST_FRAMES], len(leaf_slot) << shift)
    if par[H_LAYOUT] == EXTENTS:
        limit = min(limit, par[H_NR_PAGES])
    every = True
    for k in range(0, len(mfns), M2P_BLOCK):
        stop = min(k + M2P_BLOCK, len(mfns))
        _m2p_pfns(par, limit, mfns[k:stop], out[k:stop])
        owned = _m2p_owned(own, leaf_slot, in_row, shift, missing, out[k:stop])
        every = every and owned
    return every


@kernel
def _m2p_left(t: P2MTables, h: HostTables, mfns: Int64Array, out: Int64Array) -> None:
    """Write the m2p entries that `_m2p_span` left."""
    for k in range(len(mfns)):
        if out[k] < INVALID:
            out[k] = m2p(t, h, mfns[k])


@kernel
def _m2p_all(t: P2MTables, h: HostTables, mfns: Int64Array, out: Int64Array) -> bool:
    """Do `_m2p_span` on one thread."""
    missing = code_of(t.block_of, t.block_code, t.state[S_MISSING])
    in_row = leaves_in_row(t.leaf_slot, len(mfns))
    return _m2p_span(t.own, t.leaf_slot, in_row, missing, h, mfns, out)


@parallel_kernel
def m2p_chunks(t: P2MTables, h: HostTables, mfns: Int64Array, out: Int64Array) -> int:
    """Do `_m2p_span` on all cores; return how many chunks were not plain."""
    own, leaf_slot = t.own, t.leaf_slot
    missing = code_of(t.block_of, t.block_code, t.state[S_MISSING])
    in_row = leaves_in_row(leaf_slot, len(mfns))
    left = 0
    for chunk in prange((len(mfns) + CHUNK - 1) // CHUNK):
        begin = as_int(chunk) * CHUNK
        end = min(begin + CHUNK, len(mfns))
        if not _m2p_span(own, leaf_slot, in_row, missing, h, mfns[begin:end], out[begin:end]):
            left += 1
    return left


def lookup_m2p(t: P2MTables, h: HostTables, mfns: Int64Array, out: Int64Array) -> None:
    """Write what the host's m2p holds for each of `mfns` (int64[k]) to `out` (int64[k]).

    INVALID for frames of nobody and out of range (model section 7).
    """
    if not _m2p_all(t, h, mfns, out):
        _m2p_left(t, h, mfns, out)


def lookup_m2p_parallel(t: P2MTables, h: HostTables, mfns: Int64Array, out: Int64Array) -> None:
    """Do `lookup_m2p` on all cores."""
    if m2p_chunks(t, h, mfns, out):
        _m2p_left(t, h, mfns, out)


# --- a migration's three steps -----------------------------------------------------------------


@parallel_kernel
def rebuild_mids(t: P2MTables, end: int, pages: Int64Array, slots: Int64Array) -> int:
    """Build the list below leaf `end` on all cores; return the entries written, or -1 if not plain.

    `pages` and `slots` are workspaces, int64[mids].
    """
    if not list_pages(t, end, pages, slots):
        return -1
    state, words, leaf_slot, leaf_page = t.state, t.words, t.leaf_slot, t.leaf_page
    shift = state[S_ENTRIES_SHIFT]
    top_mfn = code_of(t.block_of, t.block_code, state[S_TOP_MFN])
    written = 0
    odd = 0
    for top in prange(len(pages)):
        # What prange counts with is unsigned, and mixed with an int64 it would become a float.
        x = as_int(top) << shift
        stop = min(x + (1 << shift), end)
        count = rebuild_mid(
            state, words, leaf_slot, leaf_page, top_mfn, pages[top], slots[top], x, stop
        )
        written += count
        if count < 0:
            odd += 1
    return written if odd == 0 else -1


def rebuild_parallel(t: P2MTables, h: HostTables) -> int:
    """Do `kernels_rebuild.rebuild` from leaf 0 on all cores, for a `tracked` guest after boot.

    Returns as `rebuild` does.
    """
    shift = int(t.state[S_ENTRIES_SHIFT])
    end = (int(t.state[S_XEN_MAX]) + (1 << shift) - 1) >> shift
    work = np.empty((2, (end + (1 << shift) - 1) >> shift), np.int64)
    written = rebuild_mids(t, end, work[0], work[1])
    if written < 0:
        return int(rebuild(t, h, 0))
    t.state[S_ENTRIES_WRITTEN] += written
    return OK


@parallel_kernel
def walk_mids(t: P2MTables, h: HostTables, found: Int64Array, end: int, max_pfn: int) -> int:
    """Return how many mids' frame lists are not plain, on all cores."""
    words, own, slots, leaf_slot, leaf_page = t.words, t.own, t.slots, t.leaf_slot, t.leaf_page
    shift = t.state[S_ENTRIES_SHIFT]
    block_of, block_code = t.block_of, t.block_code
    odd = 0
    for top in prange((end + (1 << shift) - 1) >> shift):
        x = as_int(top) << shift
        stop = min(x + (1 << shift), end)
        slot = code_of(block_of, block_code, found[top])
        if slot < 0 or not walk_list(
            words, own, slots, leaf_slot, leaf_page, h, max_pfn, x, stop, slot
        ):
            odd += 1
    return odd


@kernel
def _map_frame_lists(t: P2MTables, h: HostTables, found: Int64Array) -> int:
    """Do `kernels_save.map_frame_lists`."""
    return map_frame_lists(t, h, found)


def save_walk_parallel(t: P2MTables, h: HostTables, found: Int64Array) -> int:
    """Do `kernels_save.save_walk` on all cores; returns as it does."""
    max_pfn = int(_map_frame_lists(t, h, found))
    if max_pfn < 0:
        return -max_pfn
    end = (max_pfn >> int(t.state[S_ENTRIES_SHIFT])) + 1
    if t.state[S_WILD] != 0 or end > len(t.leaf_slot) or walk_mids(t, h, found, end, max_pfn):
        return int(save_walk(t, h, found))
    t.state[S_SAVED_MAX_PFN] = max_pfn
    return OK


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
def _restore_left(t: P2MTables, h: HostTables, max_pfn: int, left: UInt8Array) -> None:
    """Overwrite the leaves that `restore_slots` left."""
    for slot in range(len(left)):
        if left[slot] != 0:
            restore_leaf(t, h, slot, t.slots[slot, P_LEAF], max_pfn)


def restore_parallel(t: P2MTables, h: HostTables, old_missing: Int64Array) -> int:
    """Do `kernels_save.restore` on all cores; returns as it does.

    A table host, and a guest whose `p2m_missing` was hit, are left to one thread.
    """
    if h.par[H_KIND] != FUNCTION_HOST or not missing_is_blank(t):
        return int(restore(t, h, old_missing))
    max_pfn = int(t.state[S_SAVED_MAX_PFN])
    left = np.empty(int(t.state[S_NUM_SLOTS]), np.uint8)
    if restore_slots(t, h, max_pfn, left):
        _restore_left(t, h, max_pfn, left)
    return OK


@kernel
def missing_is_blank(t: P2MTables) -> bool:
    """Return whether `p2m_missing` is all INVALID, and was when the guest was restored last."""
    slot = code_of(t.block_of, t.block_code, t.state[S_MISSING])
    differ = as_int(0)
    for i in range(t.words.shape[1]):
        differ |= t.words[slot, i] ^ INVALID
    for i in range(t.own.shape[1]):
        differ |= np.int64(t.own[slot, i])
    return bool(differ == 0)
