"""The list of the eras of three levels: its pages, `xen_build_mfn_list_list`, its report."""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.grow import alloc_p2m_page
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel, never_inline
from p2mbatch.compiled.lists import extend_brk, fill_page
from p2mbatch.compiled.lookup import store_page
from p2mbatch.compiled.loops import copy_eras
from p2mbatch.compiled.pages import (
    address,
    page_at,
    page_code,
    room_left,
    take_slot,
)
from p2mbatch.compiled.policies.three_lookup import mfn_of
from p2mbatch.compiled.status import (
    BUG_BOOTMEM,
    BUG_MID_MFN_P,
    BUG_OUT_OF_MEMORY,
    FAULT_STORE,
    MORE_ROOM,
    OK,
)
from p2mbatch.compiled.tables import (
    MID_MFN,
    NO_PAGE,
    P_KIND,
    P_PAGE,
    UNREACHABLE,
    HostTables,
    P2MTables,
)

# --- pages for the list ------------------------------------------------------------------------


@inner_kernel
def bootmem(t: P2MTables, count: int) -> int:
    """Return the first of `count` pages of the boot allocator, or minus the BUG's code."""
    state = t.state[0]
    if state.bootmem_pages - state.bootmem_used < count:
        return -BUG_BOOTMEM
    state.bootmem_used += count
    return state.bootmem_pfn + state.bootmem_used - count


@inner_kernel
def list_page(t: P2MTables) -> int:
    """Return the slot of a page for the list, or minus the BUG's code.

    From brk; of a late list (policies-spec P6) from the boot allocator, and from the pool later.
    """
    state = t.state[0]
    if state.late_list == 0:
        return extend_brk(t)
    if state.brk_closed == 0:
        page = bootmem(t, 1)
        return take_slot(t, page) if page >= 0 else page
    page = alloc_p2m_page(t)
    if page < 0:
        return -BUG_OUT_OF_MEMORY
    state.late_pages += 1
    return take_slot(t, page)


# --- xen_build_mfn_list_list -------------------------------------------------------------------


@inner_kernel
def refill(t: P2MTables, h: HostTables) -> None:
    """Fill the list's placeholder pages with the present MFNs of what they stand for."""
    state = t.state[0]
    fill_page(t, page_code(t, state.mid_missing_mfn), mfn_of(t, h, state.missing))
    if state.mid_identity_mfn != NO_PAGE:
        fill_page(t, page_code(t, state.mid_identity_mfn), mfn_of(t, h, state.identity))


@inner_kernel
def track(t: P2MTables, h: HostTables, top: int, slot: int) -> int:
    """Make the page in `slot` the list's page of a top index; return its PFN."""
    state = t.state[0]
    t.slots[slot, P_KIND] = MID_MFN
    fill_page(t, slot, mfn_of(t, h, state.missing))
    page = t.slots[slot, P_PAGE]
    t.words[page_code(t, state.top_mfn_p), top] = address(t, page)
    t.true_mid_mfn[top] = page
    state.num_mid_mfns += 1
    return page


@inner_kernel
def _build_mid(t: P2MTables, h: HostTables, x: int, stop: int) -> int:
    """Build the list for leaves `x` to `stop` of one mid. Returns OK, a BUG_ or a FAULT_ code."""
    never_inline()
    state = t.state[0]
    shift = state.entries_shift
    top = x >> shift
    mid = page_at(t, t.words[page_code(t, state.top), top])
    page = as_int(t.true_mid_mfn[top])
    top_mfn = page_code(t, state.top_mfn)
    if mid == state.mid_missing:
        if page != state.mid_missing_mfn:
            return BUG_MID_MFN_P
        t.words[top_mfn, top] = mfn_of(t, h, page)
        state.entries_written += 1
        return OK
    if page == state.mid_missing_mfn:
        slot = list_page(t)
        if slot < 0:
            return -slot
        page = track(t, h, top, slot)
    t.words[top_mfn, top] = mfn_of(t, h, page)
    if store_page(t, h, address(t, page)) >= UNREACHABLE:
        return FAULT_STORE
    store_leaves(t, h, t.words[page_code(t, page)], x, stop)
    state.entries_written += stop - x + 1
    return OK


@inner_kernel
def store_leaves(t: P2MTables, h: HostTables, row: Int64Array, x: int, stop: int) -> None:
    """Store the MFNs of leaves `x` to `stop` of one mid in its page of the list."""
    state = t.state[0]
    words, leaf_slot, leaf_page = t.words, t.leaf_slot[: state.num_leaves], t.leaf_page
    flags, identity = state.flag_bits, state.identity
    k = x
    while k < stop:
        k = copy_eras(words, leaf_slot, leaf_page, k, stop, row, flags, INVALID, identity)
        if k < stop:
            row[k & (len(row) - 1)] = mfn_of(t, h, as_int(leaf_page[k]))
            k += 1


@kernel
def rebuild(t: P2MTables, h: HostTables, x: int) -> int:
    """Build the list from leaf `x` on; a call with `x` 0 after boot refills its placeholders.

    Returns OK, a BUG_ or FAULT_ code, or MORE_ROOM with `State.position` the leaf to go on from.
    Leaves below `xen_max_p2m_pfn` are all in the caches.
    """
    never_inline()
    state = t.state[0]
    n = 1 << state.entries_shift
    if x == 0 and state.brk_closed != 0:
        refill(t, h)
    end = (state.xen_max + n - 1) >> state.entries_shift
    while x < end:
        if not room_left(t):
            state.position = x
            return MORE_ROOM
        stop = min((x | (n - 1)) + 1, end)
        status = _build_mid(t, h, x, stop)
        if status != OK:
            return status
        x = stop
    return OK


@kernel
def report(t: P2MTables, h: HostTables) -> int:
    """Set what the toolstack finds the list by. Returns OK."""
    t.state[0].shared_fll = mfn_of(t, h, t.state[0].top_mfn)
    t.state[0].shared_max = t.state[0].xen_max
    return OK
