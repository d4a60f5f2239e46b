"""The tree that a child's kernel has built: its pages, and where each leaf is."""

from __future__ import annotations

from p2mbatch.compiled.child.status import CHILD_BROKEN
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline
from p2mbatch.compiled.own.memory import make_known
from p2mbatch.compiled.own.registers import K_MID_MISSING, K_MISSING, K_TOP, OWN_ROOM, may_hit, stop
from p2mbatch.compiled.pages import page_code, reached_page, take_slot
from p2mbatch.compiled.tables import (
    LAZY,
    LEAF,
    NO_PAGE,
    P_CLEAN,
    P_KIND,
    P_LEAF,
    POINTER,
    TAKEN,
    UNREACHABLE,
    P2MTables,
)


@inner_kernel
def tree_found(t: P2MTables) -> None:
    """Find the three levels by the kernel's own pointers, and note where each leaf is."""
    never_inline()
    state = t.state[0]
    _levels_found(t)
    top, missing = page_code(t, state.top), page_code(t, state.missing)
    if top < 0 or missing < 0:
        stop(t, as_int(CHILD_BROKEN), as_int(0))
    n = t.words.shape[1]
    for first in range(0, state.num_leaves, n):
        mid = reached_page(t, t.words[top, first >> state.entries_shift])
        end = min(first + n, state.num_leaves)
        if mid == state.mid_missing:
            t.leaf_slot[first:end] = missing
            t.leaf_page[first:end] = state.missing
        else:
            _mid_found(t, mid, first, end)


@inner_kernel
def _levels_found(t: P2MTables) -> None:
    """Note the pages that all others hang from, as far as they are there."""
    for known in (K_MISSING, K_MID_MISSING, K_TOP):
        if t.statics[known] != 0:
            make_known(t, known, as_int(t.statics[known]))


@inner_kernel
def part_found(t: P2MTables) -> None:
    """Find what there is of a tree whose building came to an end before its time."""
    never_inline()
    state = t.state[0]
    _levels_found(t)
    top = page_code(t, state.top)
    if top < 0:
        return
    # Which leaves hang in it is read from its pages.
    state.wild = 1
    for i in range(t.words.shape[1]):
        slot = page_code(t, reached_page(t, t.words[top, i]))
        if slot >= 0 and t.slots[slot, P_KIND] == TAKEN:
            t.slots[slot, P_KIND] = POINTER
            state.num_mids += 1


@inner_kernel
def _mid_found(t: P2MTables, mid: int, first: int, end: int) -> None:
    """Note where the leaves of one mid page are."""
    state = t.state[0]
    slot = page_code(t, mid)
    if mid >= UNREACHABLE or slot < 0:
        state.wild = 1
        return
    if t.slots[slot, P_KIND] == TAKEN:
        t.slots[slot, P_KIND] = POINTER
        state.num_mids += 1
    for x in range(first, end):
        page = reached_page(t, t.words[slot, x - first])
        if page >= UNREACHABLE:
            state.wild = 1
            return
        code = page_code(t, page)
        if code == NO_PAGE:
            if not may_hit(t):
                stop(t, OWN_ROOM, as_int(0))
            code = take_slot(t, page)
        if code >= 0 and t.slots[code, P_KIND] == TAKEN:
            t.slots[code, P_KIND] = LEAF
            t.slots[code, P_LEAF] = x
            t.slots[code, P_CLEAN] = 1
            state.num_grown += 1
        t.leaf_slot[x] = code if code >= 0 else LAZY
        t.leaf_page[x] = page
