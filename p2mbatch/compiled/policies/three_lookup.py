"""Lookups of the eras of three levels and of the linear ones, by which page a leaf is."""

from __future__ import annotations

from p2mbatch.base.arrays import Int32Array, Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.hosts import layout_frame
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel
from p2mbatch.compiled.lookup import leaf_page_of
from p2mbatch.compiled.loops import copy_words
from p2mbatch.compiled.pages import (
    page_word,
)
from p2mbatch.compiled.tables import (
    HostTables,
    P2MTables,
)

# --- lookups -----------------------------------------------------------------------------------


@inner_kernel
def leaf_at(t: P2MTables, x: int) -> int:
    """Return the PFN of the page that leaf `x` is, a placeholder page included."""
    if x < t.state[0].num_leaves:
        return as_int(t.leaf_page[x])
    return leaf_page_of(t, x)


@inner_kernel
def get_entry(t: P2MTables, h: HostTables, pfn: int) -> int:
    """Return the entry of `pfn`, no bit masked: `get_phys_to_machine` of P4 and P5."""
    state = t.state[0]
    if pfn >= state.max_p2m:
        return pfn | state.identity_bit if state.identity_beyond != 0 else INVALID
    shift = state.entries_shift
    x = pfn >> shift
    page = leaf_at(t, x)
    if page == state.identity:
        return pfn | state.identity_bit
    i = pfn & ((1 << shift) - 1)
    if x >= state.num_leaves:
        return page_word(t, h, page, i)
    slot = as_int(t.leaf_slot[x])
    return t.words[slot, i] if slot >= 0 else layout_frame(h.par[0], state.saved_max_pfn, pfn)


@inner_kernel
def mfn_of(t: P2MTables, h: HostTables, page: int) -> int:
    """Return `virt_to_mfn` of a page: its entry without the era's flags; INVALID stays."""
    entry = get_entry(t, h, page)
    return entry & ~t.state[0].flag_bits if entry != INVALID else INVALID


@kernel
def mfns_of(t: P2MTables, h: HostTables, pages: Int32Array, out: Int64Array) -> None:
    """Write `virt_to_mfn` of each of `pages` (int32[k], PFNs) to `out` (int64[k])."""
    for k in range(len(pages)):
        out[k] = mfn_of(t, h, as_int(pages[k]))


@kernel
def get(t: P2MTables, h: HostTables, pfns: Int64Array, out: Int64Array) -> None:
    """Write `get_phys_to_machine` of each of `pfns` (int64[k]) to `out` (int64[k])."""
    for k in range(len(pfns)):
        out[k] = get_entry(t, h, pfns[k]) if pfns[k] >= 0 else INVALID


@kernel
def get_row(t: P2MTables, h: HostTables, first: int, out: Int64Array) -> None:
    """Write the entries of the PFNs from `first` on to `out` (int64[k])."""
    shift = t.state[0].entries_shift
    n = 1 << shift
    k = 0
    while k < len(out):
        # All that the leaf holds of these PFNs at once.
        pfn = first + k
        count = min(n - (pfn & (n - 1)), len(out) - k)
        x = pfn >> shift
        if x >= t.state[0].num_leaves or t.leaf_slot[x] < 0:
            for j in range(count):
                out[k + j] = get_entry(t, h, pfn + j)
        elif t.leaf_page[x] == t.state[0].identity:
            entry = pfn | t.state[0].identity_bit
            for j in range(count):
                out[k + j] = entry + j
        else:
            copy_words(t.words[t.leaf_slot[x]][pfn & (n - 1) :][:count], out[k : k + count])
        k += count
