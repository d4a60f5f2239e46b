"""How a toolstack walks a linear p2m's page tables on save: `model/linear_life`, compiled.

Source: linear-spec L8. Most entries of a table are those before them again: what holds of one is
not asked of the next.
"""

from __future__ import annotations

import numpy as np

from p2mbatch.compiled.found import names_itself
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel, never_inline
from p2mbatch.compiled.looks import TABLE_PAGES, Walk, find_by_list, look_again, map_found
from p2mbatch.compiled.loops import copy_words
from p2mbatch.compiled.owners import own_pfn
from p2mbatch.compiled.pages import page_code, page_word
from p2mbatch.compiled.policies.flat import MAPS
from p2mbatch.compiled.policies.three_lookup import mfn_of
from p2mbatch.compiled.save import reads_table
from p2mbatch.compiled.status import (
    MORE_ROOM,
    OK,
    SAVE_BAD_CR3,
    SAVE_BAD_RANGE,
    SAVE_BAD_TABLE,
    SAVE_BAD_WALK,
    SAVE_MAP_TABLES,
)
from p2mbatch.compiled.table_pages import FRAME_BITS
from p2mbatch.compiled.tables import P_KIND, TABLE, HostTables, P2MTables

_ENTRIES = 512
_ADDRESS = (1 << 48) - 1
_HOLE_END = np.uint64(0xFFFF_87FF_FFFF_FFFF)
_HOLE = np.uint64(0xFFFF_8000_0000_0000)


@kernel
def find_flat(t: P2MTables, h: HostTables, walk: Walk) -> int:
    """Do `find_by_list` for a linear p2m: by its table where the toolstack reads such."""
    if not reads_table(t):
        return find_by_list(t, h, walk)
    max_pfn = _walk_table(t, h, walk)
    if max_pfn < 0:
        return max_pfn
    return map_found(t, h, walk, (max_pfn >> t.state[0].entries_shift) + 1, max_pfn)


@kernel
def look_again_flat(t: P2MTables, h: HostTables, walk: Walk, leaves: int) -> int:
    """Do `look_again` for a linear p2m, whose page tables are translated first."""
    status = _check_tables(t, h, walk, leaves)
    return look_again(t, h, walk, leaves) if status == OK else status


# --- a table -----------------------------------------------------------------------------------


@inner_kernel
def _frame(t: P2MTables, h: HostTables, page: int, word: int) -> int:
    """Return the frame in an entry, `word` of page `page`; 0 where there is none."""
    slot = page_code(t, page)
    if slot < 0 or t.slots[slot, P_KIND] != TABLE:
        return (word >> 12) & FRAME_BITS
    return mfn_of(t, h, word & (MAPS - 1)) if word != 0 else as_int(0)


@inner_kernel
def _walk_table(t: P2MTables, h: HostTables, walk: Walk) -> int:
    """Walk the table that the guest reports; return the last PFN to save, or minus a SAVE_ code.

    The MFN of each leaf up to that PFN's goes to `mfns`. Minus MORE_ROOM as `find_by_list`.
    """
    never_inline()
    state = t.state[0]
    max_pfn = state.shared_max - 1
    if state.shared_cr3 < 0 or state.shared_cr3 > h.par[0].frames:
        state.detail = state.shared_cr3
        return as_int(-SAVE_BAD_CR3)
    first = state.shared_vaddr
    if not _is_range(first, _last(first, max_pfn)):
        state.detail = 0
        return as_int(-SAVE_BAD_RANGE)
    walk.pages[0] = state.shared_cr3
    count = as_int(1)
    for k in range(4):
        level = as_int(4 - k)
        count = _level(t, h, walk, level, first, _last(first, max_pfn), count)
        if count < 0:
            return count
        if level == 2:
            max_pfn, count = _trim(walk, first, max_pfn, count)
        elif level == 1 and not 0 <= max_pfn // _ENTRIES < count:
            state.detail = level << 32 | count
            return as_int(-SAVE_BAD_WALK)
        if level > 1:
            if count > _most_tables(t, walk):
                state.detail = (level - 1) << 32 | _most_tables(t, walk)
                return as_int(-SAVE_MAP_TABLES)
            copy_words(walk.mfns[:count], walk.pages)
    return max_pfn


@inner_kernel
def _most_tables(t: P2MTables, walk: Walk) -> int:
    """Return how many tables of a level there may be: what the area has, with much to spare.

    A table that leads to itself would lead to any number of them.
    """
    return min((t.state[0].max_p2m_pfn >> 18) + TABLE_PAGES, len(walk.pages))


@inner_kernel
def _last(first: int, max_pfn: int) -> int:
    """Return the last address of the table that a save up to `max_pfn` reads."""
    return first + 4096 * (max_pfn // _ENTRIES + 1) - 1


@inner_kernel
def _is_range(first: int, last: int) -> bool:
    """Return whether the table's addresses are some that a guest may have."""
    low, high = np.uint64(first), np.uint64(last)
    canonical = (first >> 47) in (0, -1) and (last >> 47) in (0, -1)
    return bool(canonical and high >= low and not (low <= _HOLE_END and high > _HOLE))


@inner_kernel
def _index(first: int, end: int, level: int) -> int:
    """Return the index that address `end` has among all entries of a level's pages."""
    shift = 9 * level + 3
    offset = as_int(0) if level == 4 else first >> (shift + 9) << (shift + 9)
    return ((end - offset) & _ADDRESS) >> shift


@inner_kernel
def _level(
    t: P2MTables, h: HostTables, walk: Walk, level: int, first: int, last: int, count: int
) -> int:
    """Read a level's entries for the table's addresses from the first `count` frames in `pages`.

    The frames go to `mfns`; returns how many, or minus a SAVE_ code or MORE_ROOM.
    """
    never_inline()
    state = t.state[0]
    for x in range(count):
        page = own_pfn(t, h, walk.pages[x])
        if page < 0:
            state.detail = level << 32 | x
            return as_int(-SAVE_MAP_TABLES)
        walk.pages[x] = page
    low = _index(first, first, level)
    high = min(_index(first, last, level) + 1, count * _ENTRIES)
    found, before = as_int(0), as_int(0)
    mfn = as_int(0)
    for at in range(low, high):
        page = walk.pages[at // _ENTRIES]
        word = page_word(t, h, page, at & (_ENTRIES - 1))
        if found == 0 or word != before or at & (_ENTRIES - 1) == 0:
            mfn = _frame(t, h, page, word)
        before = word
        if mfn <= 0 or mfn > h.par[0].frames:
            state.detail = level << 32 | found
            return as_int(-SAVE_BAD_WALK)
        if found == len(walk.mfns):
            return as_int(-MORE_ROOM)
        walk.mfns[found] = mfn
        found += 1
    return found


@inner_kernel
def _trim(walk: Walk, first: int, max_pfn: int, count: int) -> tuple[int, int]:
    """Return the last PFN and the level-1 pages that are left where equal ones end the walk."""
    last = as_int(0)
    for k in range(1, count):
        if walk.mfns[k] != walk.mfns[k - 1]:
            last = as_int(k)
    # A distance against an index of the array: the same only where that begins at 0.
    if last == _index(first, _last(first, max_pfn), as_int(2)):
        last += 1
    trimmed = last * _ENTRIES * _ENTRIES - 1
    if last > 0 and trimmed < max_pfn:
        return trimmed, min(last + 1, count)
    return as_int(max_pfn), as_int(count)


# --- the tables' own pages ---------------------------------------------------------------------


@inner_kernel
def _check_tables(t: P2MTables, h: HostTables, walk: Walk, leaves: int) -> int:
    """Translate the page tables as a save of their pages does; return OK or SAVE_BAD_TABLE."""
    never_inline()
    state = t.state[0]
    max_pfn = state.walked_max_pfn
    count = _add(walk, as_int(0), state.pgd, as_int(4))
    for k in range(3):
        level = as_int(4 - k)
        at = as_int(0)
        while at < count:
            # Pages come in the order of their PFNs: one before this may come in at any time.
            if walk.levels[at] == level:
                walk.levels[at] = -level
                count = _add_below(t, walk, count, walk.pages[at], level - 1)
                if count < 0:
                    state.detail = level << 32
                    return as_int(SAVE_BAD_TABLE)
                at = as_int(0)
            else:
                at += 1
    found = walk.found[:leaves]
    for k in range(count):
        page = walk.pages[k]
        if page > max_pfn:
            break
        before = as_int(0)
        slot = page_code(t, page)
        if slot < 0:
            continue
        row = t.words[slot]
        for i in range(_ENTRIES):
            word = row[i]
            if word == 0 or word == before:
                continue
            before = word
            if not names_itself(t, h, found, _frame(t, h, page, word), max_pfn):
                state.detail = abs(walk.levels[k]) << 32 | i
                return as_int(SAVE_BAD_TABLE)
    return as_int(OK)


@inner_kernel
def _add_below(t: P2MTables, walk: Walk, count: int, page: int, level: int) -> int:
    """Add the table pages that a page's entries lead to; return how many there are then.

    Below 0 where they are more than there is room for. What is no table leads nowhere.
    """
    slot = page_code(t, page)
    if slot < 0 or t.slots[slot, P_KIND] != TABLE:
        return count
    row = t.words[slot]
    before = as_int(0)
    for i in range(_ENTRIES):
        if row[i] != 0 and row[i] != before:
            before = row[i]
            count = _add(walk, count, before & (MAPS - 1), level)
            if count < 0:
                break
    return count


@inner_kernel
def _add(walk: Walk, count: int, page: int, level: int) -> int:
    """Add a table page of a level, in the order of PFNs; return how many there are then, or -1."""
    at = as_int(0)
    while at < count and walk.pages[at] < page:
        at += 1
    if at < count and walk.pages[at] == page:
        return count
    if count == len(walk.pages):
        return as_int(-1)
    for k in range(count, at, -1):
        walk.pages[k] = walk.pages[k - 1]
        walk.levels[k] = walk.levels[k - 1]
    walk.pages[at] = page
    walk.levels[at] = level
    return count + 1
