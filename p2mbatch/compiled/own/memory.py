"""Reads and stores of a policy of one's own, word by word, and what each store means.

A pointer is an address; `p[i]` is word i of its page. A store is stray where it goes to a page that
the kernel does not have: through `mfn_to_virt`, to another than the one whose MFN was stored in
the entry of `p2m_top_mfn` that was asked for; into a page that was given back; into one that it
never took (model section 6). A store into the tree keeps the caches of leaves true.
"""

from __future__ import annotations

from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.jit import as_int, inline_kernel, inner_kernel, never_inline
from p2mbatch.compiled.lookup import store_page
from p2mbatch.compiled.own.layouts import mark, note_set
from p2mbatch.compiled.own.registers import (
    K_MID_MISSING,
    K_MID_MISSING_MFN,
    K_MISSING,
    K_TOP,
    K_TOP_MFN,
    K_TOP_MFN_P,
    OWN_FAULT,
    OWN_OUT_OF_PAGE,
    OWN_ROOM,
    R_COUNTED,
    R_DIRTY,
    R_FOUND,
    R_FOUND_TOP,
    R_MARK,
    R_MFN,
    R_MFN_2,
    R_OWN_TREE,
    R_PAGE,
    R_PAGE_2,
    R_SET_PFN,
    R_STRAY_LINE,
    R_TOP,
    R_TOP_WORD,
    may_hit,
    stop,
)
from p2mbatch.compiled.owners import own_pfn
from p2mbatch.compiled.pages import (
    address,
    make_leaf,
    page_code,
    page_word,
    reached_page,
    stray_store,
    take_slot,
)
from p2mbatch.compiled.status import FAULT_MID, FAULT_STORE, FAULT_TOP
from p2mbatch.compiled.tables import (
    FREED,
    IMAGE_BASE,
    LAZY,
    LEAF,
    MID_MFN,
    NO_PAGE,
    ORDINARY,
    P_CLEAN,
    P_KIND,
    P_LEAF,
    POINTER,
    TAKEN,
    TOP_MFN,
    UNREACHABLE,
    HostTables,
    P2MTables,
)


@inline_kernel
def load(t: P2MTables, h: HostTables, where: int, i: int, line: int) -> int:
    """Return word `i` of the page at `where`."""
    page = reached_page(t, where)
    code = page_code(t, page)
    if code < 0 or i < 0 or i >= t.words.shape[1]:
        return _load_any(t, h, where, i, line)
    word = t.words[code, i]
    if where == t.statics[K_TOP_MFN]:
        t.statics[R_TOP] = i
        t.statics[R_TOP_WORD] = word
    if t.statics[R_MARK] != 0:
        mark(t, code)
    return as_int(word)


@inner_kernel
def _load_any(t: P2MTables, h: HostTables, where: int, i: int, line: int) -> int:
    """Do `load` where the page has no words yet, or there is none."""
    never_inline()
    page = reached_page(t, where)
    if i < 0 or i >= t.words.shape[1]:
        stop(t, OWN_OUT_OF_PAGE, line)
    if page >= UNREACHABLE:
        fault(t, where, OWN_FAULT, line)
    if t.statics[R_MARK] != 0:
        mark(t, page_code(t, page))
    return page_word(t, h, page, i)


@inner_kernel
def fault(t: P2MTables, where: int, otherwise: int, line: int) -> None:
    """End the call with the fault of an address that can't be reached, by where it was read."""
    never_inline()
    top = page_code(t, t.state[0].top)
    status = otherwise
    if top >= 0:
        for i in range(t.words.shape[1]):
            if t.words[top, i] == where:
                stop(t, FAULT_TOP, line)
            mid = page_code(t, reached_page(t, t.words[top, i]))
            if mid >= 0:
                for k in range(t.words.shape[1]):
                    if t.words[mid, k] == where:
                        status = FAULT_MID
    stop(t, status, line)


@inline_kernel
def store(t: P2MTables, h: HostTables, where: int, i: int, word: int, line: int) -> None:
    """Store `word` as word `i` of the page at `where`: the plain cases here."""
    page = reached_page(t, where)
    code = page_code(t, page)
    if code < 0 or i < 0 or i >= t.words.shape[1]:
        _store_any(t, h, where, i, word, line)
        return
    kind = t.slots[code, P_KIND]
    if kind == TAKEN and where != t.statics[R_FOUND] and t.statics[R_SET_PFN] < 0:
        t.words[code, i] = word
        return
    if where == t.statics[R_FOUND]:
        top = t.statics[R_FOUND_TOP]
        plain = kind == MID_MFN and top >= 0 and page == t.true_mid_mfn[top]
        plain = plain and t.state[0].presence == 0
    elif kind == MID_MFN:
        # Presence is asked through the direct map alone.
        image = t.state[0].image_map != 0 and IMAGE_BASE <= where < 0
        plain = page != t.state[0].mid_missing_mfn and (image or t.state[0].presence == 0)
    elif kind == TOP_MFN:
        plain = word == t.statics[R_MFN] and t.true_mid_mfn[i] == t.statics[R_PAGE]
        plain = plain and t.words[code, i] != 0
        if plain and i == t.statics[R_COUNTED]:
            t.state[0].entries_written -= 1
        t.statics[R_COUNTED] = i
    else:
        plain = False
    if plain:
        t.words[code, i] = word
        t.state[0].entries_written += 1
    else:
        _store_any(t, h, where, i, word, line)


@inline_kernel
def _by_its_own_pointer(t: P2MTables, kind: int, word: int) -> bool:
    """Return whether a store to the page that `mfn_to_virt` gave last was not through that.

    An old MFN may lead to a mid of the tree, or to the very page that is taken next. What is stored
    there as tree or as a fresh page's first words is no MFN that `virt_to_mfn` gave.
    """
    return (kind in (POINTER, TAKEN)) and word != t.statics[R_MFN] and word != t.statics[R_MFN_2]


@inner_kernel
def _store_any(t: P2MTables, h: HostTables, where: int, i: int, word: int, line: int) -> None:
    """Do `store` of any kind."""
    never_inline()
    if i < 0 or i >= t.words.shape[1]:
        stop(t, OWN_OUT_OF_PAGE, line)
    page = reached_page(t, where)
    if page >= UNREACHABLE:
        fault(t, where, FAULT_STORE, line)
    code = page_code(t, page)
    if code <= LAZY:
        if not may_hit(t):
            stop(t, OWN_ROOM, line)
        code = make_leaf(t, h, LAZY - code)
    kind = t.slots[code, P_KIND] if code >= 0 else ORDINARY
    found = where == t.statics[R_FOUND] and not _by_its_own_pointer(t, kind, word)
    listed = found or kind == FREED or (kind == MID_MFN and page != t.state[0].mid_missing_mfn)
    # Only what goes through a page of the list asks whether it is there (machine-v2 section 3b); a
    # static array is the image's.
    asks = listed and (found or t.state[0].static_top == NO_PAGE)
    if asks and store_page(t, h, where) >= UNREACHABLE:
        stop(t, FAULT_STORE, line)
    if found:
        top = t.statics[R_FOUND_TOP]
        stray = page != t.true_mid_mfn[top] if top >= 0 else kind != MID_MFN
    else:
        stray = kind in (FREED, ORDINARY)
    if stray:
        if not may_hit(t):
            stop(t, OWN_ROOM, line)
        if t.state[0].stray_writes == 0:
            t.statics[R_STRAY_LINE] = line
        stray_store(t, h, page, i, word)
        # An entry of the list counts as written wherever it went (model section 6).
        t.state[0].entries_written += found
        return
    if word < INVALID and t.state[0].word_bits == 32:
        word = word & 0xFFFFFFFF
        word = word if word != 0xFFFFFFFF else as_int(INVALID)
    if t.statics[R_SET_PFN] >= 0 and kind in (LEAF, TAKEN):
        note_set(t, h, code, i, word)
    # While p2m_top_mfn is filled at boot, it is no list yet.
    is_list = kind == TOP_MFN and (t.words[code, i] != 0 or t.state[0].static_top != NO_PAGE)
    t.words[code, i] = word
    if kind == TOP_MFN:
        t.state[0].entries_written += is_list
        _list_page_hung(t, h, i, word)
    elif kind == LEAF:
        t.slots[code, P_CLEAN] = 0
    elif listed:
        t.state[0].entries_written += 1
    elif kind == POINTER and t.statics[R_OWN_TREE] != 0:
        t.statics[R_DIRTY] = 1
    elif kind == POINTER and t.state[0].wild == 0:
        _tree_changed(t, h, page, i, word, line)


@inner_kernel
def _list_page_hung(t: P2MTables, h: HostTables, top: int, word: int) -> None:
    """Note whose MFN was stored in an entry of `p2m_top_mfn`: the true page of that top index."""
    never_inline()
    s, state = t.statics, t.state[0]
    if word == s[R_MFN]:
        page = s[R_PAGE]
    elif word == s[R_MFN_2]:
        page = s[R_PAGE_2]
    else:
        page = own_pfn(t, h, word)
    if page < 0:
        return
    t.true_mid_mfn[top] = page
    code = page_code(t, page)
    if code >= 0 and t.slots[code, P_KIND] == TAKEN:
        t.slots[code, P_KIND] = MID_MFN
        state.num_mid_mfns += 1


@inner_kernel
def _tree_changed(t: P2MTables, h: HostTables, page: int, i: int, word: int, line: int) -> None:
    """Keep the caches of leaves true after a store of a pointer into the tree."""
    never_inline()
    n, state = t.words.shape[1], t.state[0]
    if state.static_top != NO_PAGE:
        # Two levels: all pointers are those of `p2m_top`.
        if 0 <= page - state.static_top < state.num_leaves >> state.entries_shift:
            leaf_hung(t, h, ((page - state.static_top) << state.entries_shift) + i, word, line)
        return
    top_slot = page_code(t, state.top)
    if page == t.state[0].top:
        mid = page_code(t, reached_page(t, word))
        if mid < 0:
            t.state[0].wild = 1
            return
        if t.slots[mid, P_KIND] == TAKEN:
            t.slots[mid, P_KIND] = POINTER
            t.state[0].num_mids += 1
        for k in range(n):
            leaf_hung(t, h, i * n + k, t.words[mid, k], line)
        return
    where = address(t, page)
    for top in range(n if top_slot >= 0 else as_int(0)):
        if t.words[top_slot, top] == where:
            leaf_hung(t, h, top * n + i, word, line)


@inner_kernel
def leaf_hung(t: P2MTables, h: HostTables, x: int, word: int, line: int) -> None:
    """Note that leaf `x` is the page at `word`."""
    page = reached_page(t, word)
    if page >= UNREACHABLE:
        t.state[0].wild = 1
        return
    code = page_code(t, page)
    if code == NO_PAGE:
        # A mid that is hung in whole may lead to as many pages as it has words.
        if not may_hit(t):
            stop(t, OWN_ROOM, line)
        code = take_slot(t, page)
    if code <= LAZY and LAZY - code != x:
        # It holds what the layout says of another leaf.
        if not may_hit(t):
            stop(t, OWN_ROOM, line)
        code = make_leaf(t, h, LAZY - code)
    if code >= 0 and t.slots[code, P_KIND] == TAKEN:
        _leaf_taken(t, code, x)
    if x < t.state[0].num_leaves:
        t.leaf_slot[x] = max(code, LAZY)
        t.leaf_page[x] = page


@inner_kernel
def _leaf_taken(t: P2MTables, code: int, x: int) -> None:
    """Note that a page which the kernel took is leaf `x`: a fresh one, or the leaf that it moved.

    What was copied whole from a leaf says whose leaf it is already.
    """
    t.slots[code, P_KIND] = LEAF
    if t.slots[code, P_LEAF] != x:
        t.slots[code, P_LEAF] = x
        t.slots[code, P_CLEAN] = 1
        t.state[0].num_grown += 1
        return
    old = t.leaf_slot[x] if x < t.state[0].num_leaves else NO_PAGE
    if old >= 0 and old != code and t.slots[old, P_LEAF] == x:
        t.slots[old, P_KIND] = ORDINARY
        t.slots[old, P_LEAF] = -1


@inner_kernel
def exchange(
    t: P2MTables, h: HostTables, where: int, i: int, old: int, word: int, line: int
) -> int:
    """Do `cmpxchg` of word `i`: return what was there, and store `word` where that was `old`."""
    found = load(t, h, where, i, line)
    if found == old:
        store(t, h, where, i, word, line)
    return found


@inner_kernel
def taken(t: P2MTables, page: int, line: int) -> int:
    """Return the address of a page that the kernel was just given."""
    if not may_hit(t):
        stop(t, OWN_ROOM, line)
    slot = take_slot(t, page)
    t.slots[slot, P_KIND] = TAKEN
    return address(t, page)


@inner_kernel
def given_back(t: P2MTables, where: int) -> None:
    """Note that the kernel gave the page at `where` back: what it stores there now is stray."""
    code = page_code(t, reached_page(t, where))
    if code >= 0:
        t.slots[code, P_KIND] = FREED


@inner_kernel
def make_known(t: P2MTables, known: int, where: int) -> None:
    """Note which page a structure that the model knows is, now that its pointer was set."""
    page = reached_page(t, where)
    code = page_code(t, page)
    if code < 0:
        page = as_int(NO_PAGE)
    kind = TAKEN
    if known == K_MISSING:
        t.state[0].missing = page
        kind = LEAF
    elif known == K_MID_MISSING:
        t.state[0].mid_missing = page
        kind = POINTER
    elif known == K_TOP:
        t.state[0].top = page
        kind = POINTER
    elif known == K_MID_MISSING_MFN:
        t.state[0].mid_missing_mfn = page
        kind = MID_MFN
        if t.state[0].top_mfn == NO_PAGE:
            t.true_mid_mfn[:] = page
    elif known == K_TOP_MFN_P:
        t.state[0].top_mfn_p = page
    elif known == K_TOP_MFN:
        t.state[0].top_mfn = page
        kind = TOP_MFN
    if code >= 0 and (kind != TAKEN or t.slots[code, P_KIND] in (ORDINARY, FREED)):
        t.slots[code, P_KIND] = kind


@inline_kernel
def fill(t: P2MTables, h: HostTables, where: int, word: int, count: int, line: int) -> None:
    """Store `word` as each of the first `count` words of the page at `where`."""
    code = page_code(t, reached_page(t, where))
    kind = t.slots[code, P_KIND] if code >= 0 else ORDINARY
    mine = kind == TAKEN or (kind == MID_MFN and code == page_code(t, t.state[0].mid_missing_mfn))
    if mine and where != t.statics[R_FOUND] and 0 <= count <= t.words.shape[1]:
        row = t.words[code]
        for i in range(count):
            row[i] = word
        return
    for i in range(count):
        store(t, h, where, i, word, line)


@inner_kernel
def top_asked_for(t: P2MTables, mfn: int) -> int:
    """Return the top index whose entry of `p2m_top_mfn` holds `mfn`: that read last, or the first.

    -1 where none does.
    """
    if t.statics[R_TOP] >= 0 and t.statics[R_TOP_WORD] == mfn:
        return as_int(t.statics[R_TOP])
    slot = page_code(t, t.state[0].top_mfn)
    if slot >= 0:
        for top in range(t.words.shape[1]):
            if t.words[slot, top] == mfn:
                return as_int(top)
    return as_int(-1)
