"""2.6.27 to 2.6.29 and 2.6.33 to 2.6.36: two levels in static arrays, the list rebuilt in full.

Source: policies-spec P1. Nothing that is stored is read by a rebuild, so nothing can be stale.
"""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.grow import alloc_p2m_page, populate_each
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel, never_inline
from p2mbatch.compiled.lists import fill_page, filled_slot
from p2mbatch.compiled.loops import copy_eras
from p2mbatch.compiled.pages import address, page_code, take_slot
from p2mbatch.compiled.policies import three_lookup
from p2mbatch.compiled.policies.operations import Operations
from p2mbatch.compiled.policies.three_level import cache_leaf, set_each_word, store_word
from p2mbatch.compiled.policies.three_lookup import get_entry
from p2mbatch.compiled.status import BUG_NULL, BUG_SET, OK
from p2mbatch.compiled.tables import (
    LEAF,
    MID_MFN,
    P_CLEAN,
    P_KIND,
    P_LEAF,
    POINTER,
    TOP_MFN,
    HostTables,
    P2MTables,
)

_FOREIGN = 1 << 31


@inner_kernel
def mfn_of(t: P2MTables, h: HostTables, page: int) -> int:
    """Return `virt_to_mfn` of a page: its entry without bit 31, which INVALID loses too."""
    mfn = get_entry(t, h, page) & ~_FOREIGN
    return mfn if t.state[0].word_bits == 64 else mfn & 0xFFFFFFFF


@inner_kernel
def _array_slot(t: P2MTables, first: int, i: int) -> int:
    """Return the slot of the page that has word `i` of a static array."""
    return page_code(t, first + (i >> t.state[0].entries_shift))


@inner_kernel
def _set_word(t: P2MTables, first: int, i: int, word: int) -> None:
    """Set word `i` of a static array."""
    t.words[_array_slot(t, first, i), i & ((1 << t.state[0].entries_shift) - 1)] = word


# --- boot --------------------------------------------------------------------------------------


@kernel
def boot(t: P2MTables, h: HostTables, ranges: Int64Array) -> int:
    """Hang `mfn_list` into `p2m_top`, build the list and report it. Returns OK.

    The tail of the last page stays as the domain builder left it. No `ranges` are marked: this
    kernel has no 1:1 entries.
    """
    state = t.state[0]
    shift = state.entries_shift
    state.m2p_order = h.par[0].m2p_order
    state.max_p2m = state.max_domain_pages
    _take_static(t)
    num_boot = (min(state.max_domain_pages, state.nr_pages) + (1 << shift) - 1) >> shift
    for x in range(state.num_leaves):
        if x >= num_boot:
            cache_leaf(t, x, state.missing)
        _set_word(t, state.static_top, x, address(t, as_int(t.leaf_page[x])))
    # A literal 0 would be a type of its own, and everything below be compiled twice.
    rebuild(t, h, state.brk_closed)
    state.brk_closed = 1
    state.xen_max = state.max_p2m_pfn
    return report(t, h)


@inner_kernel
def _take_static(t: P2MTables) -> None:
    """Make the pages of the static arrays resident, as the kernel image holds them."""
    state = t.state[0]
    slot = take_slot(t, state.missing)
    t.slots[slot, P_KIND] = LEAF
    fill_page(t, slot, INVALID)
    t.slots[take_slot(t, state.static_list), P_KIND] = TOP_MFN
    for page in range(state.num_leaves >> state.entries_shift):
        t.slots[take_slot(t, state.static_top + page), P_KIND] = POINTER
        t.slots[take_slot(t, state.static_top_mfn + page), P_KIND] = MID_MFN
        t.true_mid_mfn[page] = state.static_top_mfn + page


# --- the list ----------------------------------------------------------------------------------


@kernel
def rebuild(t: P2MTables, h: HostTables, x: int) -> int:
    """Build the list, all of it, holes and what lies past the guest included. Returns OK."""
    never_inline()
    state = t.state[0]
    n = 1 << state.entries_shift
    words, leaf_slot, leaf_page = t.words, t.leaf_slot[: state.num_leaves], t.leaf_page
    invalid = as_int(INVALID) & ~_FOREIGN if state.word_bits == 64 else as_int(0x7FFFFFFF)
    leaf = x
    while leaf < state.num_leaves:
        row = t.words[_array_slot(t, state.static_top_mfn, leaf)]
        stop = (leaf | (n - 1)) + 1
        leaf = copy_eras(
            words, leaf_slot, leaf_page, leaf, stop, row, _FOREIGN, invalid, state.identity
        )
        if leaf < stop:
            row[leaf & (n - 1)] = mfn_of(t, h, as_int(leaf_page[leaf]))
            leaf += 1
    for page in range(state.num_leaves >> state.entries_shift):
        _set_word(t, state.static_list, page, mfn_of(t, h, state.static_top_mfn + page))
    state.entries_written += state.num_leaves - x + (state.num_leaves >> state.entries_shift)
    return OK


@kernel
def report(t: P2MTables, h: HostTables) -> int:
    """Set what the toolstack finds the list by: never more than it booted with. Returns OK."""
    t.state[0].shared_fll = mfn_of(t, h, t.state[0].static_list)
    t.state[0].shared_max = t.state[0].nr_pages
    return OK


# --- growth and sets ---------------------------------------------------------------------------


@inner_kernel
def _grow(t: P2MTables, h: HostTables, x: int) -> int:
    """Give leaf `x` a page. Returns OK, or BUG_NULL: the kernel takes no NULL for an answer."""
    state = t.state[0]
    page = alloc_p2m_page(t)
    if page < 0:
        return BUG_NULL
    slot = filled_slot(t, page, as_int(LEAF), as_int(INVALID))
    t.slots[slot, P_LEAF] = x
    t.slots[slot, P_CLEAN] = 1
    _set_word(t, state.static_top, x, address(t, page))
    cache_leaf(t, x, page)
    _set_word(t, state.static_top_mfn, x, mfn_of(t, h, page))
    state.num_grown += 1
    return OK


@inner_kernel
def _set_one(t: P2MTables, h: HostTables, pfn: int, word: int) -> int:
    """Set one entry. Returns OK or a BUG_ code."""
    state = t.state[0]
    if pfn >= state.max_p2m:
        return OK if word == INVALID else BUG_SET
    x = pfn >> state.entries_shift
    if t.leaf_page[x] == state.missing:
        if word == INVALID:
            return OK
        status = _grow(t, h, x)
        if status != OK:
            return status
    store_word(t, h, pfn, as_int(t.leaf_page[x]), word)
    return OK


@kernel
def set_runs(t: P2MTables, h: HostTables, runs: Int64Array, done: int) -> int:
    """Do `set_each_word` in a tree of two levels."""
    return set_each_word(t, h, runs, done, _set_one)


@kernel
def grow_leaves(t: P2MTables, h: HostTables, leaves: Int64Array, lazy: bool, first: int) -> int:
    """Do `grow.populate_each` in a tree of two levels."""
    return populate_each(t, h, leaves, lazy, first, _grow)


OPERATIONS = Operations(
    boot=boot,
    set_runs=set_runs,
    grow_leaves=grow_leaves,
    rebuild=rebuild,
    report=report,
    get=three_lookup.get,
    get_parallel=three_lookup.get,
    get_row=three_lookup.get_row,
)
