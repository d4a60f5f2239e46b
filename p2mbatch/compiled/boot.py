"""What policies share of a boot: the guest's `mfn_list`, its tree, the list's pages (section 4)."""

from __future__ import annotations

from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel, never_inline
from p2mbatch.compiled.lists import extend_brk, fill_page, mid_mfn_init
from p2mbatch.compiled.lookup import pfn_to_mfn
from p2mbatch.compiled.owners import set_present
from p2mbatch.compiled.pages import address, fill_leaf, new_slot, set_lazy_codes
from p2mbatch.compiled.status import FAULT_TOP, OK
from p2mbatch.compiled.tables import (
    FUNCTION_HOST,
    LAZY,
    LEAF,
    MID_MFN,
    P_KIND,
    P_LEAF,
    P_PAGE,
    POINTER,
    TOP_MFN,
    HostTables,
    P2MTables,
)

# --- boot --------------------------------------------------------------------------------------


@kernel
def load_mfn_list(t: P2MTables, h: HostTables, first: int, end: int) -> None:
    """Lay out the boot leaves, as the domain builder leaves `mfn_list` (model section 3).

    Leaves `first` <= x < `end`, and a partial last one, are made resident; the others stay LAZY,
    which needs a function host. Entries of a table host are written by `load_domain`.
    """
    state = t.state[0]
    shift = state.entries_shift
    n = 1 << shift
    nr_pages = state.nr_pages
    num_whole = nr_pages >> shift
    first = min(first, num_whole)
    end = max(min(end, num_whole), first)
    _load_lazy(t, as_int(0), first)
    _load_lazy(t, end, num_whole)
    for x in range(first, end):
        _load_leaf(t, h, x)
    if nr_pages & (n - 1) != 0:
        slot = _load_leaf(t, h, num_whole)
        # The pages of mfn_list start as zeros, and the builder writes nr_pages entries.
        for i in range(nr_pages & (n - 1), n):
            t.words[slot, i] = 0


@inner_kernel
def _load_leaf(t: P2MTables, h: HostTables, x: int) -> int:
    """Make the boot leaf `x` resident and return its slot."""
    never_inline()
    page = t.state[0].mfn_list_pfn + x
    t.leaf_page[x] = page
    slot = new_slot(t, page)
    t.slots[slot, P_KIND] = LEAF
    if h.par[0].kind == FUNCTION_HOST:
        fill_leaf(t, h, slot, x)
    else:
        t.slots[slot, P_LEAF] = x
        t.leaf_slot[x] = slot
        row = t.words[slot]
        for i in range(len(row)):
            row[i] = INVALID
    return slot


@inner_kernel
def _load_lazy(t: P2MTables, x: int, stop: int) -> None:
    """Lay out the boot leaves `x` to `stop`, which are not made yet."""
    never_inline()
    page = t.state[0].mfn_list_pfn + x
    pages, slots = t.leaf_page[x:stop], t.leaf_slot[x:stop]
    for k in range(len(pages)):
        pages[k] = page + k
    for k in range(len(slots)):
        slots[k] = LAZY
    set_lazy_codes(t, page, x, stop - x)


@kernel
def load_domain(t: P2MTables, h: HostTables) -> None:
    """Write the frames that a table host's `domain` gives to PFNs below nr_pages, and own them."""
    shift = t.state[0].entries_shift
    nr_pages = t.state[0].nr_pages
    for run in range(len(h.domain)):
        pfn, mfn = h.domain[run, 0], h.domain[run, 1]
        for k in range(max(min(h.domain[run, 2], nr_pages - pfn), 0)):
            t.words[t.leaf_slot[(pfn + k) >> shift], (pfn + k) & ((1 << shift) - 1)] = mfn + k
            h.m2p[mfn + k] = pfn + k
            h.owned[mfn + k] = 1
            set_present(t, pfn + k, True)


@inner_kernel
def build_tree(t: P2MTables, h: HostTables) -> int:
    """Build the tree over the loaded `mfn_list` (model section 4); return OK or a BUG_ code.

    Source: kernel `xen_build_dynamic_phys_to_machine`.
    """
    never_inline()
    state = t.state[0]
    state.m2p_order = h.par[0].m2p_order
    shift = state.entries_shift
    n = 1 << shift
    missing = extend_brk(t)
    if missing < 0:
        return -missing
    t.slots[missing, P_KIND] = LEAF
    state.missing = t.slots[missing, P_PAGE]
    fill_page(t, missing, INVALID)
    num_boot = (state.nr_pages + n - 1) >> shift
    for x in range(num_boot, state.num_leaves):
        t.leaf_slot[x] = missing
        t.leaf_page[x] = state.missing
    mid_missing = extend_brk(t)
    if mid_missing < 0:
        return -mid_missing
    t.slots[mid_missing, P_KIND] = POINTER
    state.mid_missing = t.slots[mid_missing, P_PAGE]
    fill_page(t, mid_missing, address(t, state.missing))
    top = extend_brk(t)
    if top < 0:
        return -top
    t.slots[top, P_KIND] = POINTER
    state.top = t.slots[top, P_PAGE]
    fill_page(t, top, address(t, state.mid_missing))
    for x in range(0, num_boot, n):
        mid = extend_brk(t)
        if mid < 0:
            # The leaves from here on are cached, but do not hang in the tree.
            state.wild = 1
            return -mid
        t.slots[mid, P_KIND] = POINTER
        state.num_mids += 1
        fill_page(t, mid, address(t, state.missing))
        t.words[top, x >> shift] = address(t, t.slots[mid, P_PAGE])
        # The pages of `mfn_list` follow each other, and all have addresses of one kind.
        where = address(t, as_int(t.leaf_page[x]))
        row = t.words[mid, : min(num_boot - x, n)]
        for k in range(len(row)):
            row[k] = where + (k << 12)
    return OK


# --- the list's own pages ----------------------------------------------------------------------


@inner_kernel
def first_list_page(t: P2MTables, h: HostTables) -> int:
    """Make `p2m_mid_missing_mfn`, on the first call of `xen_build_mfn_list_list`."""
    never_inline()
    slot = extend_brk(t)
    if slot < 0:
        return -slot
    t.slots[slot, P_KIND] = MID_MFN
    t.state[0].mid_missing_mfn = t.slots[slot, P_PAGE]
    status = mid_mfn_init(t, h, slot)
    if status == OK:
        t.true_mid_mfn[:] = t.state[0].mid_missing_mfn
    return status


@inner_kernel
def top_mfn_page(t: P2MTables, h: HostTables) -> int:
    """Make `p2m_top_mfn`, which names `p2m_mid_missing_mfn` everywhere."""
    never_inline()
    slot = extend_brk(t)
    if slot < 0:
        return -slot
    t.slots[slot, P_KIND] = TOP_MFN
    t.state[0].top_mfn = t.slots[slot, P_PAGE]
    mfn = pfn_to_mfn(t, h, t.state[0].mid_missing_mfn)
    if mfn <= FAULT_TOP:
        return mfn
    fill_page(t, slot, mfn)
    return OK


@inner_kernel
def booted(t: P2MTables, h: HostTables) -> int:
    """Close brk once the first list is built, and report the list."""
    t.state[0].brk_closed = 1
    t.state[0].xen_max = t.state[0].max_p2m_pfn
    return set_shared_info(t, h)


@kernel
def set_shared_info(t: P2MTables, h: HostTables) -> int:
    """Set what the toolstack finds the list by. Source: `xen_setup_mfn_list_list`."""
    mfn = pfn_to_mfn(t, h, t.state[0].top_mfn)
    if mfn <= FAULT_TOP:
        return mfn
    t.state[0].shared_fll = mfn
    t.state[0].shared_max = t.state[0].xen_max
    return OK
