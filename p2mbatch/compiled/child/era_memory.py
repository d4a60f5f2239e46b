"""What the stores of an era's kernel mean: its entries have marks, its leaves may be shared.

A leaf's entry that is stored is set, whoever does it: frames change hands by it (policies-spec P0).
Pages of the boot allocator are the kernel's from the first store on, and a leaf that is copied
whole may be one that nobody has worked out yet.
"""

from __future__ import annotations

from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.child import flat_tables
from p2mbatch.compiled.child.layout import (
    C_GENERATION,
    C_HINT,
    C_MARKED_PAGES,
    C_SHARED_CR3,
    C_SHARED_FLL,
    C_SHARED_MAX,
    C_SHARED_VADDR,
    C_WARNINGS,
    CHILD_MEMORY,
    CHILD_RANGE,
    CHILD_WORDS,
    HEADER,
    K_IDENTITY,
    K_IDENTITY_PTE,
    K_MID_IDENTITY,
    K_MISSING_PTE,
    KNOWN_POINTERS,
    R_BUILDS,
    R_MAPPED,
)
from p2mbatch.compiled.child.request import area_at, broken, child_at
from p2mbatch.compiled.child.wire import words_at
from p2mbatch.compiled.hosts import layout_frame
from p2mbatch.compiled.jit import as_int, inline_kernel, inner_kernel, never_inline
from p2mbatch.compiled.loops import copy_words
from p2mbatch.compiled.own.memory import make_known, store
from p2mbatch.compiled.own.registers import (
    K_MISSING,
    K_OWN,
    OWN_ROOM,
    R_SET_MFN,
    R_SET_PFN,
    stop,
)
from p2mbatch.compiled.own.words import noted
from p2mbatch.compiled.pages import (
    make_leaf,
    page_code,
    reached_page,
    room_left,
    set_page_code,
    take_slot,
)
from p2mbatch.compiled.policies.three_level import store_word
from p2mbatch.compiled.tables import (
    LAZY,
    LEAF,
    MID_MFN,
    NO_PAGE,
    P_CLEAN,
    P_KIND,
    P_LEAF,
    POINTER,
    TABLE,
    TAKEN,
    TOP_MFN,
    UNREACHABLE,
    HostTables,
    P2MTables,
)


@inline_kernel
def is_era(t: P2MTables) -> bool:
    """Return whether a guest's entries have marks: of an era, once its boot has begun."""
    return t.state[0].flag_bits != 0


@inner_kernel
def as_stored(t: P2MTables, word: int) -> int:
    """Return a word as a page of the guest's width has it."""
    if t.state[0].word_bits == 32:
        word = word & 0xFFFFFFFF
        return word if word != 0xFFFFFFFF else as_int(INVALID)
    return word


@inner_kernel
def _is_fresh(t: P2MTables, page: int) -> bool:
    """Return whether a page without words is one that a tree's boot allocator has given out."""
    state = t.state[0]
    return 0 <= page - state.bootmem_pfn < state.bootmem_used


@inner_kernel
def _code_to_store(t: P2MTables, h: HostTables, page: int, pc: int) -> int:
    """Return the slot of a page that is stored to; below 0 where it is none of the kernel's."""
    code = page_code(t, page)
    if code >= 0 or page >= UNREACHABLE:
        return code
    lazy = code <= LAZY
    if not lazy and not _is_fresh(t, page):
        return code
    if not room_left(t):
        stop(t, as_int(OWN_ROOM), pc)
    if lazy:
        return make_leaf(t, h, LAZY - code)
    slot = take_slot(t, page)
    t.slots[slot, P_KIND] = TAKEN
    return slot


@inner_kernel
def era_run(
    t: P2MTables,
    h: HostTables,
    base: int,
    i: int,
    word: int,
    page: int,
    step: int,
    page_step: int,
    count: int,
    pc: int,
) -> bool:
    """Do a run of stores into the page at `base`; False, with nothing done, for an ordinary one.

    The arguments are as `replay` has them of an entry of the log: `page` is the PFN, plus 1, whose
    MFN the first word is, or 0.
    """
    where = reached_page(t, base)
    code = _code_to_store(t, h, where, pc)
    if code < 0:
        return False
    kind = t.slots[code, P_KIND]
    if page > 0:
        noted(t, page - 1, word)
        noted(t, page - 1 + (count - 1) * page_step, word + (count - 1) * step)
    if kind == TAKEN:
        row = t.words[code, i : i + count]
        for k in range(len(row)):
            row[k] = as_stored(t, word + k * step)
        return True
    if kind == LEAF:
        for k in range(count):
            _store_in_leaf(t, h, code, where, i + k, as_stored(t, word + k * step))
        return True
    if kind == TABLE:
        for k in range(count):
            flat_tables.store_entry(t, code, where, i + k, word + k * step)
        return True
    state = t.state[0]
    if kind == MID_MFN and state.pgd != NO_PAGE:
        # Nothing asks of a linear p2m's list whether its pages are in the direct map.
        row = t.words[code, i : i + count]
        for k in range(len(row)):
            row[k] = word + k * step
        state.entries_written += count if where != state.mid_missing_mfn else 0
        return True
    if kind == POINTER and (where == state.mid_missing or where == state.mid_identity):
        state.placeholder_writes += t.statics[R_BUILDS] == 0
    if t.statics[R_BUILDS] != 0 and kind not in (MID_MFN, TOP_MFN):
        row = t.words[code, i : i + count]
        for k in range(len(row)):
            row[k] = as_stored(t, word + k * step)
        return True
    return False


@inner_kernel
def _store_in_leaf(t: P2MTables, h: HostTables, slot: int, where: int, i: int, word: int) -> None:
    """Store an entry in a leaf, and move what it owns."""
    s, state, n = t.statics, t.state[0], t.words.shape[1]
    pfn = as_int(s[R_SET_PFN])
    if pfn >= 0 and i == pfn & (n - 1) and word == s[R_SET_MFN]:
        state.placeholder_writes += where == state.identity
        store_word(t, h, pfn, where, word)
        return
    x = t.slots[slot, P_LEAF]
    if 0 <= x < state.num_leaves and s[R_BUILDS] == 0:
        store_word(t, h, x * n + i, where, word)
        return
    # The rest of the last leaf of `mfn_list` was no page's.
    if x >= 0 and (word != INVALID or x * n + i < state.nr_pages):
        t.slots[slot, P_CLEAN] = 0
    t.words[slot, i] = word


@inner_kernel
def copied(t: P2MTables, h: HostTables, to: int, source: int, pc: int) -> None:
    """Do a copy of a whole page: of a leaf, who owns its frames is copied too."""
    never_inline()
    page, other = reached_page(t, to), reached_page(t, source)
    if page >= UNREACHABLE or other >= UNREACHABLE or page == other:
        broken(t, pc)
    code = page_code(t, other)
    if code <= LAZY:
        if _moved_unmade(t, page, other, code):
            return
        if not room_left(t):
            stop(t, as_int(OWN_ROOM), pc)
        code = make_leaf(t, h, LAZY - code)
    slot = _code_to_store(t, h, page, pc)
    if slot < 0 or t.slots[slot, P_KIND] != TAKEN:
        for i in range(t.words.shape[1]):
            word = t.words[code, i] if code >= 0 else as_int(0)
            if not era_run(t, h, to, as_int(i), as_int(word), as_int(0), as_int(0), as_int(0),
                           as_int(1), pc):  # fmt: skip
                store(t, h, to, as_int(i), as_int(word), pc)
        return
    if code < 0:
        for i in range(t.words.shape[1]):
            t.words[slot, i] = 0
        return
    copy_words(t.words[code], t.words[slot])
    if t.slots[code, P_KIND] == LEAF:
        copy_words(t.own[code], t.own[slot])
        t.slots[slot, P_CLEAN] = t.slots[code, P_CLEAN]
        t.slots[slot, P_LEAF] = t.slots[code, P_LEAF]
    elif t.slots[code, P_KIND] == TABLE:
        t.slots[slot, P_KIND] = TABLE


@inner_kernel
def _moved_unmade(t: P2MTables, page: int, other: int, code: int) -> bool:
    """Let a leaf that is not made yet lie in `page`; False where something is there already.

    The old page is an ordinary one then, as it is after a move.
    """
    slot = page_code(t, page)
    if slot <= LAZY or (slot >= 0 and slot != t.state[0].num_slots - 1) or is_known(t, page):
        return False
    if slot >= 0:
        if t.slots[slot, P_KIND] != TAKEN:
            return False
        t.state[0].num_slots = slot
    elif not _is_fresh(t, page):
        return False
    set_page_code(t, other, as_int(NO_PAGE))
    set_page_code(t, page, code)
    t.leaf_page[LAZY - code] = page
    return True


@inner_kernel
def is_known(t: P2MTables, page: int) -> bool:
    """Return whether a page is one that the model knows by a pointer of the kernel's."""
    state = t.state[0]
    known = page == state.missing or page == state.mid_missing or page == state.top
    known = known or page == state.mid_missing_mfn or page == state.top_mfn
    known = known or page == state.top_mfn_p or page == state.identity
    known = known or page == state.mid_identity or page == state.mid_identity_mfn
    known = known or page == state.missing_pte or page == state.identity_pte or page == state.pgd
    for k in range(KNOWN_POINTERS):
        where = t.statics[K_MISSING + k]
        known = known or (where != 0 and reached_page(t, where) == page)
    return bool(known)


@inner_kernel
def _are_kept(t: P2MTables) -> bool:
    """Return whether the pages that leaves share, and those that lead to leaves, have words."""
    state = t.state[0]
    if page_code(t, state.missing) < 0:
        return False
    if state.identity != NO_PAGE and page_code(t, state.identity) < 0:
        return False
    if state.mid_missing != NO_PAGE and page_code(t, state.mid_missing) < 0:
        return False
    if state.mid_identity != NO_PAGE and page_code(t, state.mid_identity) < 0:
        return False
    return state.top == NO_PAGE or page_code(t, state.top) >= 0


@inner_kernel
def show_leaf(t: P2MTables, h: HostTables, page: int, x: int) -> None:
    """Write what leaf `x` holds, as the layout has it, into the child's page."""
    child = words_at(child_at(t), as_int(CHILD_WORDS))
    n = t.words.shape[1]
    if (page + 1) << 12 <= child[CHILD_RANGE]:
        words = words_at(child[CHILD_MEMORY] + (page << 12), as_int(n))
        for i in range(n):
            words[i] = layout_frame(h.par[0], t.state[0].saved_max_pfn, x * n + i)


@inner_kernel
def boot_pages(t: P2MTables, first: int, count: int, pc: int) -> None:
    """Note that the boot allocator has given out pages; none: that it was asked after boot."""
    never_inline()
    state = t.state[0]
    if count == 0:
        state.late_pages += 1
        return
    if not 0 <= first < state.directmap or not 0 < count <= state.directmap - first:
        broken(t, pc)
    if state.pgd == NO_PAGE:
        if first != state.bootmem_pfn + state.bootmem_used:
            broken(t, pc)
        if count > state.bootmem_pages - state.bootmem_used:
            broken(t, pc)
        state.bootmem_used += count
        return
    state.boot_used += count
    for page in range(first, first + count):
        if page_code(t, page) != NO_PAGE:
            continue
        if not room_left(t):
            stop(t, as_int(OWN_ROOM), pc)
        t.slots[take_slot(t, page), P_KIND] = TAKEN


@inner_kernel
def known_set(t: P2MTables, known: int, where: int) -> None:
    """Note that a pointer which the model knows was set."""
    t.statics[known] = where
    # A table may be something else from now on.
    t.statics[R_MAPPED] = 1
    state = t.state[0]
    page = reached_page(t, where)
    code = page_code(t, page)
    if code == NO_PAGE and _is_fresh(t, page) and room_left(t):
        code = take_slot(t, page)
        t.slots[code, P_KIND] = TAKEN
    if known < K_OWN:
        make_known(t, known, where)
    elif code < 0:
        return
    elif known == K_IDENTITY:
        state.identity = page
        t.slots[code, P_KIND] = LEAF
    elif known == K_MID_IDENTITY:
        state.mid_identity = page
        t.slots[code, P_KIND] = POINTER
    elif known in (K_MISSING_PTE, K_IDENTITY_PTE):
        flat_tables.table_made(t, code)
        if known == K_MISSING_PTE:
            state.missing_pte = page
        else:
            state.identity_pte = page


@inner_kernel
def take_shared(t: P2MTables) -> None:
    """Let what the kernel has told its toolstack, and counted, be the guest's."""
    c = words_at(area_at(t, as_int(0)), as_int(HEADER))
    state = t.state[0]
    mask = as_int(-1) if state.word_bits == 64 else as_int(0xFFFFFFFF)
    fll = as_int(c[C_SHARED_FLL])
    state.shared_fll = fll if fll == INVALID else fll & mask
    state.shared_max = c[C_SHARED_MAX]
    if state.brk_closed != 0 and not _are_kept(t):
        broken(t, as_int(0))
    if not is_era(t):
        return
    state.identity_pages = c[C_MARKED_PAGES]
    state.warnings = c[C_WARNINGS]
    if state.pgd == NO_PAGE:
        return
    cr3 = (as_int(c[C_SHARED_CR3]) >> 12) & ((1 << 52) - 1)
    state.shared_cr3 = cr3 if cr3 != (1 << 52) - 1 else as_int(INVALID)
    state.shared_vaddr = c[C_SHARED_VADDR]
    state.generation = c[C_GENERATION]
    state.hint = c[C_HINT]
    if state.brk_closed != 0:
        flat_tables.check_tables(t)
