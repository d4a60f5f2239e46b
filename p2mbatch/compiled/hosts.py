"""A function host, compiled: which frame goes to which PFN, and back (model sections 7 and 10)."""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.bijection import forward, inverse
from p2mbatch.compiled.jit import inner_kernel, kernel, never_inline
from p2mbatch.compiled.tables import (
    EXTENTS,
    H_ENTRIES_SHIFT,
    H_FRAMES,
    H_FRAMES_PERM,
    H_GUEST_FRAMES,
    H_HOLES_PERM,
    H_HOLES_TO_OTHERS,
    H_LAYOUT,
    H_NAMES_ALL,
    H_NEIGHBOUR_PAGES,
    H_NR_PAGES,
    H_NUM_EXTENTS,
    H_NUM_GROWN,
    H_NUM_HOLES,
    H_NUM_NEIGHBOUR,
    H_ORDER,
    H_RESERVED,
    H_SPAN,
    H_STRUCT_FIRST,
    H_STRUCT_PAGES,
    TAIL,
)

# --- hosts -------------------------------------------------------------------------------------


@inner_kernel
def host_frame(par: Int64Array, index: int) -> int:
    """Return the MFN of the `index`-th frame that a function host hands out."""
    order = par[H_ORDER]
    extent = index >> order
    if extent >= par[H_NUM_EXTENTS]:
        return par[H_RESERVED] + index
    low = index & ((1 << order) - 1)
    return par[H_RESERVED] + ((forward(par, H_FRAMES_PERM, extent) << order) | low)


@inner_kernel
def host_index(par: Int64Array, mfn: int) -> int:
    """Return when a function host hands out frame `mfn`: the inverse of `host_frame`; -1 never."""
    never_inline()
    at = mfn - par[H_RESERVED]
    if at < 0 or mfn >= par[H_FRAMES]:
        return -1
    order = par[H_ORDER]
    extent = at >> order
    if extent >= par[H_NUM_EXTENTS]:
        return at
    return (inverse(par, H_FRAMES_PERM, extent) << order) | (at & ((1 << order) - 1))


@inner_kernel
def hole_rank(par: Int64Array, pfn: int) -> int:
    """Return the rank among the layout's holes of `pfn`, 0 <= pfn < span, or -1 if it is none."""
    never_inline()
    layout = par[H_LAYOUT]
    if layout == TAIL:
        return pfn - par[H_NR_PAGES] if pfn >= par[H_NR_PAGES] else -1
    if layout == EXTENTS:
        shift = par[H_ENTRIES_SHIFT]
        beyond = pfn - par[H_NR_PAGES]
        if beyond < 0:
            return -1
        if beyond >> shift >= par[H_HOLES_PERM]:
            return beyond - (par[H_NUM_GROWN] << shift)
        rank = inverse(par, H_HOLES_PERM, beyond >> shift) - par[H_NUM_GROWN]
        return (rank << shift) | (beyond & ((1 << shift) - 1)) if rank >= 0 else -1
    candidate = pfn
    if pfn >= par[H_STRUCT_FIRST]:
        candidate -= par[H_STRUCT_PAGES]
        if candidate < par[H_STRUCT_FIRST]:
            return -1
    rank = inverse(par, H_HOLES_PERM, candidate)
    return rank if rank < par[H_NUM_HOLES] else -1


@inner_kernel
def given_frame(par: Int64Array, pfn: int) -> int:
    """Return the MFN that a function host has for `pfn`, or INVALID where it names none."""
    never_inline()
    if pfn < 0 or pfn >= par[H_SPAN]:
        return INVALID
    if par[H_NAMES_ALL] == 0 and par[H_NUM_HOLES] > 0 and hole_rank(par, pfn) >= 0:
        return INVALID
    index = pfn
    if par[H_LAYOUT] == EXTENTS and pfn >= par[H_NR_PAGES]:
        shift = par[H_ENTRIES_SHIFT]
        beyond = pfn - par[H_NR_PAGES]
        if beyond >> shift < par[H_HOLES_PERM]:
            rank = inverse(par, H_HOLES_PERM, beyond >> shift)
            index = par[H_NR_PAGES] + ((rank << shift) | (beyond & ((1 << shift) - 1)))
    return host_frame(par, index)


@inner_kernel
def layout_frame(par: Int64Array, saved_max_pfn: int, pfn: int) -> int:
    """Return what the entry of `pfn` in a leaf not yet made holds: its frame, or INVALID."""
    never_inline()
    if pfn > saved_max_pfn or pfn >= par[H_SPAN]:
        return INVALID
    if par[H_NUM_HOLES] > 0 and hole_rank(par, pfn) >= 0:
        return INVALID
    return given_frame(par, pfn)


@inner_kernel
def index_pfn(par: Int64Array, index: int) -> int:
    """Return the PFN that gets the `index`-th frame, index < H_GUEST_FRAMES."""
    never_inline()
    if par[H_LAYOUT] != EXTENTS or index < par[H_NR_PAGES]:
        return index
    shift = par[H_ENTRIES_SHIFT]
    beyond = index - par[H_NR_PAGES]
    if beyond >> shift >= par[H_HOLES_PERM]:
        return index
    leaf = forward(par, H_HOLES_PERM, beyond >> shift)
    return par[H_NR_PAGES] + ((leaf << shift) | (beyond & ((1 << shift) - 1)))


@inner_kernel
def neighbour_pfn(par: Int64Array, index: int) -> int:
    """Return what m2p holds for the `index`-th frame, one that is not the guest's."""
    other = index - par[H_GUEST_FRAMES]
    if par[H_HOLES_TO_OTHERS] != 0:
        other = other + par[H_NUM_HOLES] if other >= 0 else hole_rank(par, index_pfn(par, index))
    if other < 0 or other >= par[H_NUM_NEIGHBOUR]:
        return INVALID
    return other % par[H_NEIGHBOUR_PAGES]


@kernel
def write_out_host(par: Int64Array, mfns: Int64Array, others: Int64Array) -> None:
    """Write a function host out in full.

    `mfns` (int64[span]) gets the frame named for each PFN; `others` (int64[frames]) what m2p holds
    for each frame that is nobody's or another domain's; INVALID where there is none.
    """
    for pfn in range(len(mfns)):
        mfns[pfn] = given_frame(par, pfn)
    for mfn in range(len(others)):
        index = host_index(par, mfn)
        others[mfn] = neighbour_pfn(par, index) if index >= 0 else INVALID
    for pfn in range(len(mfns)):
        if mfns[pfn] != INVALID:
            others[mfns[pfn]] = INVALID


@kernel
def holes_of(par: Int64Array, out: Int64Array) -> None:
    """Write to `out` (int64[k]) where the bijection at `par[0:]` sends 0 ... k - 1."""
    for k in range(len(out)):
        out[k] = forward(par, 0, k)


@kernel
def given_frames(par: Int64Array, pfns: Int64Array, out: Int64Array) -> None:
    """Write to `out` (int64[k]) the frame that a function host keeps for each of `pfns`."""
    for k in range(len(pfns)):
        out[k] = given_frame(par, pfns[k])
