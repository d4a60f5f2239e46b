"""Compiled kernels on one big guest whose leaves are memory: lookups, and everything in parallel.

The `_parallel` ones use all cores and call the same loops as one thread's; they are for a guest of
its own, never for a sweep's cells, whose threads are busy already. Each does what the exact kernel
of the same name does, to the bit: what is not plain is left to that kernel.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from p2mbatch.base.arrays import Int32Array, Int64Array, UInt64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel, parallel_kernel, prefetch
from p2mbatch.compiled.lookup import CHUNK, leaves_in_row
from p2mbatch.compiled.loops import code_of
from p2mbatch.compiled.owners import m2p
from p2mbatch.compiled.records import HostParameters
from p2mbatch.compiled.rows import inverse_each
from p2mbatch.compiled.tables import (
    EXTENTS,
    FUNCTION_HOST,
    HostTables,
    P2MTables,
)

M2P_BLOCK = 1 << 10
"""Frames whose PFNs are worked out together."""

OWNERS_AHEAD = 24
"""How many frames ahead of its use the word that says who owns one is asked for."""

# --- m2p ---------------------------------------------------------------------------------------


@inner_kernel
def _m2p_pfns(par: HostParameters, limit: int, mfns: Int64Array, out: Int64Array) -> None:
    """Write the PFN below `limit` that each frame is handed out for.

    INVALID for what is no frame, INVALID - 1 for frames of others and of leaves drawn by lot.
    """
    order, reserved, num_extents = par.order, par.reserved, par.num_extents
    frames = par.frames
    low = (1 << order) - 1
    # The extents lie in the lower half of what their PFNs will take.
    extents = out.view(np.uint32)
    for j in range(len(mfns)):
        extent = (mfns[j] - reserved) >> order
        extents[j] = np.uint32(extent if 0 <= extent < num_extents else 0)
    inverse_each(par.frames_perm, extents, len(mfns))
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
    par = h.par[0]
    if par.kind != FUNCTION_HOST:
        for k in range(len(mfns)):
            out[k] = h.m2p[mfns[k]] if 0 <= mfns[k] < par.frames else INVALID
        return True
    shift = par.entries_shift
    limit = min(par.guest_frames, len(leaf_slot) << shift)
    if par.layout == EXTENTS:
        limit = min(limit, par.nr_pages)
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
    missing = code_of(t.block_of, t.block_code, t.state[0].missing)
    in_row = leaves_in_row(t.leaf_slot, len(mfns))
    return _m2p_span(t.own, t.leaf_slot, in_row, missing, h, mfns, out)


@parallel_kernel
def m2p_chunks(t: P2MTables, h: HostTables, mfns: Int64Array, out: Int64Array) -> int:
    """Do `_m2p_span` on all cores; return how many chunks were not plain."""
    own, leaf_slot = t.own, t.leaf_slot
    missing = code_of(t.block_of, t.block_code, t.state[0].missing)
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
