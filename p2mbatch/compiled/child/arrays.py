"""The static arrays of a p2m of two levels, which lie in the child's program: where each page is.

The child shares them with this process as it does the guest's memory, behind whose bytes they lie.
A kernel knows them by addresses of its image, the child by those of its program.
"""

from __future__ import annotations

from p2mbatch.compiled.child.layout import (
    A_ARRAYS,
    CHILD_ARRAY,
    CHILD_CONTROL,
    CHILD_STATICS,
    CHILD_WORDS,
    NUM_ARRAYS,
    R_CHILD,
)
from p2mbatch.compiled.child.wire import words_at
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline
from p2mbatch.compiled.pages import address
from p2mbatch.compiled.tables import NO_PAGE, P2MTables

MISSING, TOP, TOP_MFN, LIST = range(NUM_ARRAYS)
"""Which array is which: p2m_missing, p2m_top, p2m_top_mfn, p2m_top_mfn_list."""


@inner_kernel
def array_page(t: P2MTables, k: int) -> int:
    """Return the first page of an array; NO_PAGE where the p2m has none."""
    state = t.state[0]
    if state.static_top == NO_PAGE:
        return as_int(NO_PAGE)
    if k == MISSING:
        return as_int(state.missing)
    if k == TOP:
        return as_int(state.static_top)
    if k == TOP_MFN:
        return as_int(state.static_top_mfn)
    return as_int(state.static_list)


@inner_kernel
def array_pages(t: P2MTables, k: int) -> int:
    """Return how many pages an array has."""
    tops = t.state[0].num_leaves >> t.state[0].entries_shift
    return as_int(tops) if k in (TOP, TOP_MFN) else as_int(1)


@inner_kernel
def tell_arrays(t: P2MTables) -> None:
    """Tell the child of each array: its address there and in its kernel, its page, its bytes."""
    child = words_at(as_int(t.statics[R_CHILD]), as_int(CHILD_WORDS))
    out = words_at(as_int(child[CHILD_CONTROL] + 8 * A_ARRAYS), as_int(4 * NUM_ARRAYS))
    for k in range(NUM_ARRAYS):
        page = array_page(t, as_int(k))
        out[4 * k] = child[CHILD_ARRAY + k]
        out[4 * k + 1] = address(t, page) if page != NO_PAGE else 0
        out[4 * k + 2] = page
        out[4 * k + 3] = array_pages(t, as_int(k)) << 12 if page != NO_PAGE else 0


@inner_kernel
def array_offset(t: P2MTables, page: int) -> int:
    """Return where a page of an array is behind the guest's memory; -1 for any other page."""
    if t.state[0].static_top == NO_PAGE:
        return as_int(-1)
    child = words_at(as_int(t.statics[R_CHILD]), as_int(CHILD_WORDS))
    for k in range(NUM_ARRAYS):
        i = page - array_page(t, as_int(k))
        if 0 <= i < array_pages(t, as_int(k)):
            return as_int(child[CHILD_ARRAY + k] - child[CHILD_STATICS] + (i << 12))
    return as_int(-1)


@inner_kernel
def array_there(t: P2MTables, word: int) -> int:
    """Return an address within an array as the child has it; any other word as it is."""
    never_inline()
    if t.state[0].static_top == NO_PAGE:
        return word
    child = words_at(as_int(t.statics[R_CHILD]), as_int(CHILD_WORDS))
    for k in range(NUM_ARRAYS):
        i = word - address(t, array_page(t, as_int(k)))
        if 0 <= i < array_pages(t, as_int(k)) << 12:
            return child[CHILD_ARRAY + k] + i
    return word


@inner_kernel
def array_here(t: P2MTables, word: int) -> int:
    """Return an address within the child's arrays as its kernel has it; any other as it is."""
    never_inline()
    child = words_at(as_int(t.statics[R_CHILD]), as_int(CHILD_WORDS))
    for k in range(NUM_ARRAYS):
        i = word - child[CHILD_ARRAY + k]
        if 0 <= i < array_pages(t, as_int(k)) << 12:
            return address(t, array_page(t, as_int(k))) + i
    return word
