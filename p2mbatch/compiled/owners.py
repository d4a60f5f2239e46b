"""Whose a frame is, and what m2p holds for it, one frame at a time (model section 7)."""

from __future__ import annotations

from p2mbatch.base.arrays import UInt8Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.hosts import host_index, index_pfn, layout_frame, neighbour_pfn
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel
from p2mbatch.compiled.pages import is_own
from p2mbatch.compiled.tables import (
    FUNCTION_HOST,
    KEEPS_BOOTED,
    P_LEAF,
    SHARED_OWN,
    WAS_FREED,
    HostTables,
    P2MTables,
)


@inner_kernel
def _has_frame(t: P2MTables, h: HostTables, pfn: int) -> bool:
    """Return whether the guest owns the frame that a function host has for `pfn`."""
    shift = t.state[0].entries_shift
    x = pfn >> shift
    if x >= t.state[0].num_leaves:
        return False
    slot = as_int(t.leaf_slot[x])
    if slot < 0:
        return layout_frame(h.par[0], t.state[0].saved_max_pfn, pfn) != INVALID
    if t.slots[slot, P_LEAF] != x:
        if t.leaf_page[x] == t.state[0].identity:
            return len(h.owned) > 0 and h.owned[pfn] & SHARED_OWN != 0
        # A hole whose `p2m_missing` was hit looked populated when saved: `restore` notes those.
        if pfn > t.state[0].saved_max_pfn:
            return False
    return is_own(t, slot, pfn & ((1 << shift) - 1))


@inner_kernel
def own_pfn(t: P2MTables, h: HostTables, mfn: int) -> int:
    """Return the PFN at which the guest owns frame `mfn`, or -1 where it is not the guest's."""
    if mfn < 0 or mfn >= h.par[0].frames:
        return -1
    if h.par[0].kind != FUNCTION_HOST:
        return h.m2p[mfn] if h.owned[mfn] != 0 else -1
    index = host_index(h.par[0], mfn)
    if index < 0 or index >= h.par[0].guest_frames:
        return -1
    pfn = index_pfn(h.par[0], index)
    return pfn if _has_frame(t, h, pfn) else -1


@inner_kernel
def _was_freed(h: HostTables, pfn: int) -> bool:
    """Return whether the guest has freed the frame of `pfn`, on a function host that keeps that."""
    if h.par[0].keeps_freed == KEEPS_BOOTED and pfn < h.par[0].nr_pages:
        return True
    return h.owned[pfn] & WAS_FREED != 0


@inner_kernel
def m2p(t: P2MTables, h: HostTables, mfn: int) -> int:
    """Return what the host's m2p holds for `mfn`: a PFN of whichever domain, or INVALID."""
    par = h.par[0]
    if mfn < 0 or mfn >= par.frames:
        return INVALID
    if par.kind != FUNCTION_HOST:
        return h.m2p[mfn]
    index = host_index(par, mfn)
    if 0 <= index < par.guest_frames:
        pfn = index_pfn(par, index)
        if _has_frame(t, h, pfn) or (par.keeps_freed != 0 and _was_freed(h, pfn)):
            return pfn
    return neighbour_pfn(h.par[0], h.m2p, mfn, index)


@inner_kernel
def guest_m2p(t: P2MTables, h: HostTables, mfn: int) -> int:
    """Return what the guest reads at `mfn` of its host's m2p (machine-v2 section 7).

    INVALID past the order that the guest booted with, 0 past the entries that are mapped.
    """
    if mfn < 0:
        if t.state[0].word_bits != 32:
            return INVALID
        mfn = mfn & 0xFFFFFFFF
    if mfn >> t.state[0].m2p_order != 0:
        return INVALID
    if mfn >= h.par[0].m2p_entries:
        return as_int(0)
    return m2p(t, h, mfn)


@kernel
def note_presence(t: P2MTables, h: HostTables, present: UInt8Array) -> None:
    """Write whether each page of the direct map is in it, as the layout and `own` say.

    `present` is uint8[directmap_pages]; for a guest on a function host that has no such bytes yet.
    """
    for pfn in range(len(present)):
        present[pfn] = _has_frame(t, h, pfn)


@inner_kernel
def is_present(t: P2MTables, h: HostTables, pfn: int) -> bool:
    """Return whether a page of the direct map is in it, on a machine with presence."""
    if len(t.present) > 0:
        return t.present[pfn] != 0
    return _has_frame(t, h, pfn)


@inner_kernel
def set_present(t: P2MTables, pfn: int, present: bool) -> None:
    """Note that a page came into the direct map or went out of it."""
    if 0 <= pfn < len(t.present):
        t.present[pfn] = present
