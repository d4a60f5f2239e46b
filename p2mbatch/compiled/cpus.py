"""What growth by several CPUs does to a guest's tables in one step, for `model/cpus`.

The steps themselves are those of the race explorer (`compiled/race/steps`), as plain Python.
"""

from __future__ import annotations

from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.grow import alloc_p2m_page, takes_over, write_entry
from p2mbatch.compiled.hosts import given_frame
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel
from p2mbatch.compiled.lists import fill_page, store_entry
from p2mbatch.compiled.lookup import mfn_to_virt, pfn_to_mfn, store_page
from p2mbatch.compiled.pages import (
    address,
    make_leaf,
    page_code,
    page_word,
    reached_page,
    set_own,
    stray_store,
    take_slot,
)
from p2mbatch.compiled.policies.three_level import (
    cache_leaf,
    forget_mid,
    point_identity,
    store_word,
)
from p2mbatch.compiled.policies.three_lookup import mfn_of
from p2mbatch.compiled.tables import (
    FUNCTION_HOST,
    LAZY,
    LEAF,
    NO_PAGE,
    ORDINARY,
    P_CLEAN,
    P_KIND,
    P_LEAF,
    UNREACHABLE,
    HostTables,
    P2MTables,
)


@kernel
def take_page(t: P2MTables) -> int:
    """Return the next pool page, which gets a slot, or -1 where the kernel gets none."""
    page = alloc_p2m_page(t)
    if page >= 0:
        take_slot(t, page)
    return page


@kernel
def fill_with(t: P2MTables, page: int, word: int) -> None:
    """Fill a page that has a slot with `word`."""
    fill_page(t, page_code(t, page), word)


@kernel
def address_of(t: P2MTables, page: int) -> int:
    """Return the address that the kernel knows `page` by."""
    return address(t, page)


@kernel
def reached(t: P2MTables, where: int) -> int:
    """Return the page that a word reaches as an address, or NO_PAGE."""
    page = reached_page(t, where)
    return page if page < UNREACHABLE else as_int(NO_PAGE)


@kernel
def word_of(t: P2MTables, h: HostTables, page: int, index: int) -> int:
    """Return a word of any page."""
    return page_word(t, h, page, index)


@kernel
def tree_mfn(t: P2MTables, h: HostTables, page: int) -> int:
    """Return `virt_to_mfn` of a page of a kernel before the eras, or a FAULT_ code."""
    return pfn_to_mfn(t, h, page)


@kernel
def era_mfn(t: P2MTables, h: HostTables, page: int) -> int:
    """Return `virt_to_mfn` of a page of an era's kernel."""
    return mfn_of(t, h, page)


@kernel
def page_of_mfn(t: P2MTables, h: HostTables, mfn: int) -> int:
    """Return the page that `mfn_to_virt` of an MFN reaches, or NO_PAGE."""
    page = reached_page(t, mfn_to_virt(t, h, mfn))
    return page if page < UNREACHABLE else as_int(NO_PAGE)


@kernel
def has_reached(t: P2MTables, h: HostTables, page: int) -> bool:
    """Return whether a store through a page of the list at `page` gets there."""
    return store_page(t, h, address(t, page)) < UNREACHABLE


@kernel
def store_listed(t: P2MTables, h: HostTables, top: int, page: int, index: int, mfn: int) -> None:
    """Store a leaf's MFN through a page of the list, the one of `top` or a stray write."""
    store_entry(t, h, top, page, index, mfn)


@kernel
def store_freed(t: P2MTables, h: HostTables, page: int, index: int, word: int) -> None:
    """Store a word into a page that the guest has given back: a stray write."""
    stray_store(t, h, page, index, word)


@kernel
def identity_by_pointer(t: P2MTables, x: int) -> bool:
    """Return whether pointers say all of an identity value in leaf `x`, made to if need be."""
    return point_identity(t, x)


@kernel
def fresh_mid(t: P2MTables, top: int) -> None:
    """Note in the caches that a top index has a mid page now, all of it `p2m_missing`."""
    forget_mid(t, top)


@kernel
def hang_leaf(t: P2MTables, x: int, page: int) -> None:
    """Note that `page` is leaf `x` now; what page that was is an ordinary one then.

    Frames of entries that the old page held are the guest's still, though no entry names them.
    """
    slot = page_code(t, page)
    t.slots[slot, P_KIND] = LEAF
    t.slots[slot, P_LEAF] = x
    t.slots[slot, P_CLEAN] = 1
    if x >= t.state[0].num_leaves:
        return
    before = as_int(t.leaf_slot[x])
    if before >= 0 and t.slots[before, P_LEAF] == x:
        t.slots[before, P_KIND] = ORDINARY
        t.slots[before, P_LEAF] = -1
        t.slots[slot, P_CLEAN] = 0
        for i in range(t.own.shape[1]):
            t.own[slot, i] = t.own[before, i]
    elif t.state[0].identity_bit == 0 and takes_over(t, slot, x):
        t.slots[slot, P_CLEAN] = 0
    cache_leaf(t, x, page)


@kernel
def set_tree_entry(t: P2MTables, h: HostTables, pfn: int, leaf: int, word: int) -> None:
    """Store an entry in the page `leaf`, of a kernel before the eras."""
    slot = page_code(t, leaf)
    if slot <= LAZY:
        slot = make_leaf(t, h, LAZY - slot)
    if not _is_lost(t, h, pfn, leaf, slot, word):
        write_entry(t, h, slot, pfn, word)


@kernel
def set_era_entry(t: P2MTables, h: HostTables, pfn: int, leaf: int, word: int) -> None:
    """Store an entry in the page `leaf`, of an era's kernel."""
    if leaf == t.state[0].identity:
        t.state[0].placeholder_writes += 1
    slot = page_code(t, leaf)
    if slot < 0 or not _is_lost(t, h, pfn, leaf, slot, word):
        store_word(t, h, pfn, leaf, word)


@inner_kernel
def _is_lost(t: P2MTables, h: HostTables, pfn: int, leaf: int, slot: int, word: int) -> bool:
    """Store an entry in a page that was a leaf until another CPU's took its place; whether it was.

    Its frame is the guest's then, though no entry names it: kept beside the leaf that there is.
    """
    x = pfn >> t.state[0].entries_shift
    if h.par[0].kind != FUNCTION_HOST or t.state[0].wild != 0 or x >= t.state[0].num_leaves:
        return False
    if t.leaf_page[x] == leaf or leaf == t.state[0].identity or t.leaf_slot[x] < 0:
        return False
    i = pfn & (t.words.shape[1] - 1)
    before = t.words[slot, i]
    t.words[slot, i] = word
    live = as_int(t.leaf_slot[x])
    t.slots[live, P_CLEAN] = 0
    if 0 <= word < h.par[0].frames:
        set_own(t, live, i, True)
    elif before != INVALID and before == given_frame(h.par[0], pfn):
        set_own(t, live, i, False)
    return True
