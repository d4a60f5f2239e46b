"""A function host, compiled: which frame goes to which PFN, and back (model sections 7 and 10)."""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.bijection import forward, inverse
from p2mbatch.compiled.jit import inner_kernel, kernel, never_inline
from p2mbatch.compiled.records import Bijection, HostParameters, OneRecord
from p2mbatch.compiled.tables import (
    EXTENTS,
    TAIL,
)

# --- hosts -------------------------------------------------------------------------------------


@inner_kernel
def host_frame(par: HostParameters, index: int) -> int:
    """Return the MFN of the `index`-th frame that a function host hands out."""
    order = par.order
    extent = index >> order
    if extent >= par.num_extents:
        return par.reserved + index
    low = index & ((1 << order) - 1)
    return par.reserved + ((forward(par.frames_perm, extent) << order) | low)


@inner_kernel
def host_index(par: HostParameters, mfn: int) -> int:
    """Return when a function host hands out frame `mfn`: the inverse of `host_frame`; -1 never."""
    never_inline()
    at = mfn - par.reserved
    if at < 0 or mfn >= par.frames:
        return -1
    order = par.order
    extent = at >> order
    if extent >= par.num_extents:
        return at
    return (inverse(par.frames_perm, extent) << order) | (at & ((1 << order) - 1))


@inner_kernel
def hole_rank(par: HostParameters, pfn: int) -> int:
    """Return the rank among the layout's holes of `pfn`, 0 <= pfn < span, or -1 if it is none.

    What lies past the layout's own end is a hole behind them all.
    """
    never_inline()
    layout = par.layout
    if layout == TAIL:
        return pfn - par.nr_pages if pfn >= par.nr_pages else -1
    if layout == EXTENTS:
        shift = par.entries_shift
        beyond = pfn - par.nr_pages
        if beyond < 0:
            return -1
        if beyond >> shift >= par.holes_perm.length:
            return beyond - (par.num_grown << shift)
        rank = inverse(par.holes_perm, beyond >> shift) - par.num_grown
        return (rank << shift) | (beyond & ((1 << shift) - 1)) if rank >= 0 else -1
    candidate = pfn
    if pfn >= par.struct_first:
        candidate -= par.struct_pages
        if candidate < par.struct_first:
            return -1
    if candidate >= par.holes_perm.length:
        # Past the layout's end, where a guest may get pages that it has not yet.
        return candidate
    rank = inverse(par.holes_perm, candidate)
    return rank if rank < par.num_holes else -1


@inner_kernel
def given_frame(par: HostParameters, pfn: int) -> int:
    """Return the MFN that a function host has for `pfn`, or INVALID where it names none."""
    never_inline()
    if pfn < 0 or pfn >= par.span:
        return INVALID
    if par.names_all == 0 and par.num_holes > 0 and hole_rank(par, pfn) >= 0:
        return INVALID
    return _kept_frame(par, pfn)


@inner_kernel
def _kept_frame(par: HostParameters, pfn: int) -> int:
    """Return the MFN that a function host keeps for `pfn`, which is in the span and is named."""
    never_inline()
    index = pfn
    if par.layout == EXTENTS and pfn >= par.nr_pages:
        shift = par.entries_shift
        beyond = pfn - par.nr_pages
        if beyond >> shift < par.holes_perm.length:
            rank = inverse(par.holes_perm, beyond >> shift)
            index = par.nr_pages + ((rank << shift) | (beyond & ((1 << shift) - 1)))
    return host_frame(par, index)


@inner_kernel
def layout_frame(par: HostParameters, saved_max_pfn: int, pfn: int) -> int:
    """Return what the entry of `pfn` in a leaf not yet made holds: its frame, or INVALID."""
    never_inline()
    if pfn > saved_max_pfn or pfn >= par.span:
        return INVALID
    if par.num_holes > 0 and hole_rank(par, pfn) >= 0:
        return INVALID
    return _kept_frame(par, pfn)


@inner_kernel
def index_pfn(par: HostParameters, index: int) -> int:
    """Return the PFN that gets the `index`-th frame, index < `guest_frames`."""
    never_inline()
    if par.layout != EXTENTS or index < par.nr_pages:
        return index
    shift = par.entries_shift
    beyond = index - par.nr_pages
    if beyond >> shift >= par.holes_perm.length:
        return index
    leaf = forward(par.holes_perm, beyond >> shift)
    return par.nr_pages + ((leaf << shift) | (beyond & ((1 << shift) - 1)))


@inner_kernel
def neighbour_pfn(par: HostParameters, known: Int64Array, mfn: int, index: int) -> int:
    """Return what m2p holds for frame `mfn`, one that is not the guest's and goes out `index`-th.

    `known` (int64[k] or empty) is a real host's m2p; frames beyond it are nobody's.
    """
    if len(known) > 0:
        return known[mfn] if mfn < len(known) else INVALID
    if index < 0:
        return INVALID
    other = index - par.guest_frames
    if par.holes_to_others != 0:
        other = other + par.num_holes if other >= 0 else hole_rank(par, index_pfn(par, index))
    if other < 0 or other >= par.num_neighbour:
        return INVALID
    return other % par.neighbour_pages


@kernel
def write_out_host(
    par: OneRecord[HostParameters], known: Int64Array, mfns: Int64Array, others: Int64Array
) -> None:
    """Write a function host out in full; `known` is its m2p where that is a real host's.

    `mfns` (int64[span]) gets the frame named for each PFN; `others` (int64[frames]) what m2p holds
    for each frame that is nobody's or another domain's; INVALID where there is none.
    """
    for pfn in range(len(mfns)):
        mfns[pfn] = given_frame(par[0], pfn)
    for mfn in range(len(others)):
        others[mfn] = neighbour_pfn(par[0], known, mfn, host_index(par[0], mfn))
    for pfn in range(len(mfns)):
        if mfns[pfn] != INVALID:
            others[mfns[pfn]] = INVALID


@kernel
def holes_of(perm: OneRecord[Bijection], first: int, out: Int64Array) -> None:
    """Write to `out` (int64[k]) where the bijection sends `first` ... `first` + k - 1."""
    for k in range(len(out)):
        out[k] = forward(perm[0], first + k)


@kernel
def given_frames(par: OneRecord[HostParameters], pfns: Int64Array, out: Int64Array) -> None:
    """Write to `out` (int64[k]) the frame that a function host keeps for each of `pfns`."""
    for k in range(len(pfns)):
        out[k] = given_frame(par[0], pfns[k])
