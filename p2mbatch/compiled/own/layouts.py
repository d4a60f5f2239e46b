"""Policies that lay the p2m out in their own way: static arrays, lookups and sets of their own.

Saves, restores and reads of whole guests go by the caches of leaves (`P2MTables.leaf_slot`). Where
a policy looks PFNs up itself, its own lookup tells where each leaf is: the page that it reads last
for a PFN is the leaf, and those that it reads before are the way there.
"""

from __future__ import annotations

from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline
from p2mbatch.compiled.own.registers import (
    K_MISSING,
    OWN_ROOM,
    R_LAST,
    R_MAX_DOMAIN,
    R_SET_MFN,
    R_SET_PFN,
    may_hit,
    stop,
)
from p2mbatch.compiled.owners import own_pfn, set_present
from p2mbatch.compiled.pages import address, page_at, page_code, set_own, take_slot
from p2mbatch.compiled.status import BUG_BRK_OVERFLOW
from p2mbatch.compiled.tables import (
    FUNCTION_HOST,
    LAZY,
    LEAF,
    NO_PAGE,
    P_CLEAN,
    P_KIND,
    P_LEAF,
    P_PAGE,
    POINTER,
    TAKEN,
    TOP_MFN,
    HostTables,
    P2MTables,
)


@inner_kernel
def max_domain_pages(t: P2MTables) -> int:
    """Return `MAX_DOMAIN_PAGES`: 32 GiB on 64-bit and 8 GiB on 32-bit, if nothing else was said."""
    if t.statics[R_MAX_DOMAIN] != 0:
        return as_int(t.statics[R_MAX_DOMAIN])
    return as_int(2_097_152 if t.state[0].word_bits == 32 else 8_388_608)


@inner_kernel
def make_array(t: P2MTables, h: HostTables, at: int, length: int, words: int, line: int) -> None:
    """Lay out a static array of so many words, in pages of brk where it has no place yet.

    Its address is the static variable `at`, its words are kept in the variable `length`.
    """
    never_inline()
    shift = t.state[0].entries_shift
    pages = (words + (1 << shift) - 1) >> shift
    where = t.statics[at]
    if where == 0:
        used = t.state[0].brk_used
        if used + pages > t.state[0].brk_pages:
            stop(t, BUG_BRK_OVERFLOW, line)
        where = address(t, t.state[0].brk_pfn + used)
        t.state[0].brk_used = used + pages
    first = page_at(t, where)
    for page in range(first, first + pages):
        if not may_hit(t):
            stop(t, OWN_ROOM, line)
        t.slots[take_slot(t, page), P_KIND] = TAKEN
    t.statics[at] = where
    t.statics[length] = words
    if at == K_MISSING:
        t.state[0].missing = first
        t.slots[page_code(t, first), P_KIND] = LEAF


@inner_kernel
def mark(t: P2MTables, code: int) -> None:
    """Note that a lookup reads the page in slot `code`: that read before is part of the way."""
    never_inline()
    last = t.statics[R_LAST]
    if last >= 0:
        t.slots[last, P_KIND] = POINTER
        if t.state[0].top == NO_PAGE:
            t.state[0].top = t.slots[last, P_PAGE]
    t.statics[R_LAST] = code


@inner_kernel
def leaf_found(t: P2MTables, x: int) -> None:
    """Note that the page that was read last is leaf `x`; `p2m_missing` where none was read."""
    never_inline()
    code = t.statics[R_LAST]
    if code <= LAZY:
        return
    if code == NO_PAGE:
        code = as_int(page_code(t, t.state[0].missing))
    page = t.slots[code, P_PAGE]
    if t.slots[code, P_KIND] == TAKEN:
        t.slots[code, P_KIND] = LEAF
        if page != t.state[0].missing:
            t.slots[code, P_LEAF] = x
            t.slots[code, P_CLEAN] = 1
            t.state[0].num_grown += 1
    t.leaf_slot[x] = code
    t.leaf_page[x] = page


@inner_kernel
def list_found(t: P2MTables, h: HostTables) -> None:
    """Note the pages of the list that a boot has reported, as the true ones."""
    never_inline()
    page = own_pfn(t, h, as_int(t.state[0].shared_fll))
    code = page_code(t, page)
    if t.state[0].top_mfn != NO_PAGE or code < 0:
        return
    t.state[0].top_mfn = page
    t.slots[code, P_KIND] = TOP_MFN
    for i in range(t.words.shape[1]):
        if t.words[code, i] > 0:
            t.true_mid_mfn[i] = own_pfn(t, h, as_int(t.words[code, i]))


@inner_kernel
def note_set(t: P2MTables, h: HostTables, code: int, i: int, word: int) -> None:
    """Move the frames' ownership for a store by `set_phys_to_machine`, before it is made.

    What is overwritten decides, whichever page it lies in (model section 7).
    """
    never_inline()
    pfn = t.statics[R_SET_PFN]
    if word != t.statics[R_SET_MFN] or i != pfn & (t.words.shape[1] - 1):
        return
    set_present(t, pfn, word != INVALID)
    frames = h.par[0].frames
    if h.par[0].kind == FUNCTION_HOST:
        set_own(t, code, i, 0 <= word < frames)
        return
    before = t.words[code, i]
    if 0 <= before < frames and h.owned[before] != 0 and h.m2p[before] == pfn:
        h.owned[before] = 0
        h.m2p[before] = INVALID
    if 0 <= word < frames:
        h.owned[word] = 1
        h.m2p[word] = pfn
