"""A linear p2m's page tables as a child's kernel stores them, and which page each leaf is by them.

The kernel's entries are PFNs and flags; the model's are PFNs that are marked (`policies/flat`).
"""

from __future__ import annotations

from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.child.layout import R_LEVEL, R_MAPPED, R_TABLE
from p2mbatch.compiled.child.status import CHILD_TABLES
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline
from p2mbatch.compiled.own.registers import OWN_ROOM, stop
from p2mbatch.compiled.pages import make_lazy, page_code, room_left, set_page_code, take_slot
from p2mbatch.compiled.policies.flat import BLOCK_SHIFT, MAPS, SLOTS, mapped, table_index
from p2mbatch.compiled.tables import (
    FUNCTION_HOST,
    LAZY,
    LEAF,
    NO_PAGE,
    ORDINARY,
    P_CLEAN,
    P_KIND,
    P_LEAF,
    TABLE,
    TAKEN,
    HostTables,
    P2MTables,
)

_FRAMES = (1 << 51) - 1

_PRESENT = 1


@inner_kernel
def _entry(word: int) -> int:
    """Return what the model has for an entry of the kernel's."""
    if word & _PRESENT == 0:
        return as_int(0)
    return ((word >> 12) & _FRAMES) | MAPS


@inner_kernel
def kernels_entry(t: P2MTables, entry: int, before: int) -> int:
    """Return an entry of the model's as the kernel has it, where it has `before` there by now."""
    if entry == 0:
        return as_int(0)
    page = entry & (MAPS - 1)
    if before & _PRESENT != 0 and (before >> 12) & _FRAMES == page:
        return before
    shared = page == t.state[0].missing or page == t.state[0].identity
    return (page << 12) | _PRESENT | (0 if shared else 2)


@inner_kernel
def _is_table(t: P2MTables, page: int) -> bool:
    code = page_code(t, page)
    return page < t.state[0].directmap and code >= 0 and t.slots[code, P_KIND] == TABLE


@inner_kernel
def table_below(t: P2MTables, block: int, level: int) -> int:
    """Return the page of a level's table (4 to 1) over a block, NO_PAGE where there is none."""
    table = as_int(t.state[0].pgd)
    for at in range(4 - level):
        if not _is_table(t, table):
            return as_int(NO_PAGE)
        table = as_int(mapped(t, table, table_index(t, block, 4 - at)))
    return table


@inner_kernel
def _page_of_leaf(t: P2MTables, x: int) -> int:
    """Return the page that leaf `x`'s level-1 entry leads to; NO_PAGE where there is none."""
    table = table_below(t, x >> 9, as_int(1))
    if not _is_table(t, table):
        return as_int(NO_PAGE)
    return as_int(mapped(t, table, x & (SLOTS - 1)))


@inner_kernel
def _level_of(t: P2MTables, page: int) -> int:
    """Return the level of a table page; 0 of one that nothing leads to."""
    never_inline()
    state = t.state[0]
    if page == state.pgd:
        return as_int(4)
    if page == state.missing_pte or page == state.identity_pte:
        return as_int(1)
    if page == t.statics[R_TABLE]:
        return as_int(t.statics[R_LEVEL])
    found = as_int(0)
    for block in range(state.max_p2m_pfn >> BLOCK_SHIFT):
        for level in range(1, 4):
            if table_below(t, as_int(block), as_int(level)) == page:
                found = as_int(level)
        if found != 0:
            break
    if found != 0:
        t.statics[R_TABLE], t.statics[R_LEVEL] = page, found
    return found


@inner_kernel
def table_made(t: P2MTables, slot: int) -> None:
    """Note that a page, filled so far with words of the kernel's, is a table from now on."""
    if t.slots[slot, P_KIND] != TAKEN:
        return
    t.slots[slot, P_KIND] = TABLE
    t.slots[slot, P_LEAF] = -1
    row = t.words[slot]
    for i in range(len(row)):
        row[i] = _entry(as_int(row[i]))


@inner_kernel
def store_entry(t: P2MTables, slot: int, page: int, i: int, word: int) -> None:
    """Store an entry of a table; after boot what it changes of the leaves is noted."""
    never_inline()
    t.words[slot, i] = _entry(word)
    level = _level_of(t, page)
    if level > 1 and word & _PRESENT != 0:
        below = page_code(t, (word >> 12) & _FRAMES)
        if below >= 0:
            table_made(t, below)
    if level != 1:
        t.statics[R_TABLE] = NO_PAGE
        t.statics[R_MAPPED] = 1
    if t.state[0].brk_closed != 0:
        _noted(t, page, i, level)


@inner_kernel
def _noted(t: P2MTables, page: int, i: int, level: int) -> None:
    """Note anew which leaves there are below an entry."""
    never_inline()
    for block in range(t.state[0].num_leaves >> 9):
        if level == 1:
            if table_below(t, as_int(block), as_int(1)) == page:
                _leaf_found(t, as_int((block << 9) | i))
        elif level != 2 or (
            table_index(t, as_int(block), as_int(2)) == i
            and table_below(t, as_int(block), as_int(2)) == page
        ):
            _block_found(t, as_int(block))


@inner_kernel
def _block_found(t: P2MTables, block: int) -> None:
    for x in range(block << 9, (block + 1) << 9):
        _leaf_found(t, as_int(x))


@inner_kernel
def _leaf_found(t: P2MTables, x: int) -> None:
    """Note which page leaf `x` is by its level-1 entry; where there is none, it is missing."""
    state = t.state[0]
    page = _page_of_leaf(t, x)
    if page == NO_PAGE or page >= state.directmap:
        page = as_int(state.missing)
    if page < 0:
        stop(t, as_int(CHILD_TABLES), as_int(0))
    code = page_code(t, page)
    if code == NO_PAGE:
        if not room_left(t):
            stop(t, OWN_ROOM, as_int(0))
        code = take_slot(t, page)
    if code >= 0 and t.slots[code, P_KIND] == TAKEN:
        leaf_hung(t, code, x)
    t.leaf_page[x] = page
    t.leaf_slot[x] = max(code, LAZY)


@inner_kernel
def leaf_hung(t: P2MTables, slot: int, x: int) -> None:
    """Note that the page in `slot`, which the kernel took, is leaf `x` from now on."""
    t.slots[slot, P_KIND] = LEAF
    if t.slots[slot, P_LEAF] != x:
        # What was copied from a leaf (`era_memory.copied`) is that leaf, moved.
        t.slots[slot, P_LEAF] = x
        t.slots[slot, P_CLEAN] = 1
        t.state[0].num_grown += 1


@inner_kernel
def _leads_to_tables(t: P2MTables, page: int) -> bool:
    """Return whether a page is a table each of whose entries leads to one."""
    if not _is_table(t, page):
        return False
    for i in range(SLOTS):
        below = as_int(mapped(t, page, as_int(i)))
        if below != NO_PAGE and not _is_table(t, below):
            return False
    return True


@inner_kernel
def _are_sound(t: P2MTables) -> bool:
    """Return whether the tables of levels 4 to 2 lead to tables alone, and all of the area has."""
    state = t.state[0]
    if state.missing < 0 or state.identity < 0 or not _leads_to_tables(t, as_int(state.pgd)):
        return False
    for i in range(SLOTS):
        level3 = as_int(mapped(t, as_int(state.pgd), as_int(i)))
        if level3 == NO_PAGE:
            continue
        if not _leads_to_tables(t, level3):
            return False
        for k in range(SLOTS):
            level2 = as_int(mapped(t, level3, as_int(k)))
            if level2 != NO_PAGE and not _leads_to_tables(t, level2):
                return False
    for block in range(state.max_p2m_pfn >> BLOCK_SHIFT):
        if table_below(t, as_int(block), as_int(1)) < 0:
            return False
    return True


@inner_kernel
def check_tables(t: P2MTables) -> None:
    """End the call of a kernel whose tables no toolstack could walk."""
    never_inline()
    if t.statics[R_MAPPED] != 0:
        t.statics[R_MAPPED] = 0
        if not _are_sound(t):
            stop(t, as_int(CHILD_TABLES), as_int(0))


@inner_kernel
def flat_found(t: P2MTables) -> None:
    """Note after boot which page each leaf is; what `mfn_list` was is ordinary memory then."""
    never_inline()
    state = t.state[0]
    t.statics[R_MAPPED] = 1
    check_tables(t)
    for block in range(state.num_leaves >> 9):
        _block_found(t, as_int(block))
    for k in range((state.nr_pages + SLOTS - 1) >> 9):
        page = state.mfn_list_pfn + k
        code = page_code(t, page)
        if code >= 0 and t.slots[code, P_KIND] == LEAF:
            x = t.slots[code, P_LEAF]
            if x >= 0 and t.leaf_page[x] != page:
                t.slots[code, P_KIND] = ORDINARY
                t.slots[code, P_LEAF] = -1
        elif code <= LAZY and t.leaf_page[LAZY - code] != page:
            set_page_code(t, page, as_int(NO_PAGE))


@inner_kernel
def extra_leaf(t: P2MTables, h: HostTables, pfn: int) -> None:
    """Let a leaf that is all extra memory follow from a function host, as the layout has it."""
    never_inline()
    x = pfn >> 9
    if h.par[0].kind != FUNCTION_HOST or not 0 <= x < t.state[0].num_leaves:
        return
    page = _page_of_leaf(t, as_int(x))
    slot = page_code(t, page)
    if slot < 0 or t.slots[slot, P_KIND] != TAKEN or slot != t.state[0].num_slots - 1:
        return
    if page == t.state[0].top_mfn_p:
        return
    row = t.words[slot]
    for i in range(len(row)):
        if row[i] != INVALID:
            return
    leaf_hung(t, slot, x)
    t.leaf_page[x] = page
    make_lazy(t, slot, x)
