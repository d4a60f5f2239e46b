"""The save of a guest with a linear p2m on a function host, where all is as it should be.

Source: linear-spec L8. The walk of the table and the look at its own pages ask of every table page
and every leaf that it is one of the guest's frames, below the end of what is saved, and that the
p2m as found names it there. Where all of them are plain both can only succeed; anything else is
left to be done step by step (`table_walk`, `model/linear_life`).
"""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel, never_inline
from p2mbatch.compiled.loops import all_own, run_end, shift_of
from p2mbatch.compiled.pages import is_own
from p2mbatch.compiled.policies.flat import (
    BLOCK_SHIFT,
    SLOTS,
    is_shared_table,
    level1_of,
    mapped,
    table_index,
)
from p2mbatch.compiled.policies.three_lookup import mfn_of
from p2mbatch.compiled.save import plain_frame, reads_table, same_frames, save_walk
from p2mbatch.compiled.status import NOT_PLAIN, OK
from p2mbatch.compiled.tables import NO_PAGE, P_CLEAN, HostTables, P2MTables


@kernel
def flat_walk(t: P2MTables, h: HostTables, work: Int64Array) -> int:
    """Walk the table, or the list where none is reported or none is known of.

    `work` is int64[n]. Returns OK with `State.walked_max_pfn`, a SAVE_ code, or NOT_PLAIN.
    """
    state = t.state[0]
    if not reads_table(t):
        status = save_walk(t, h, work)
        if status != OK:
            return status
        return OK if _tables_are_plain(t, h, state.walked_max_pfn) else NOT_PLAIN
    max_pfn = state.shared_max - 1
    if not 0 <= max_pfn < state.max_p2m_pfn or state.shared_cr3 != mfn_of(t, h, state.pgd):
        return NOT_PLAIN
    max_pfn = _trimmed(t, max_pfn)
    if not _tables_are_plain(t, h, max_pfn):
        return NOT_PLAIN
    state.walked_max_pfn = max_pfn
    return OK


@inner_kernel
def _trimmed(t: P2MTables, max_pfn: int) -> int:
    """Return the last PFN that is saved: the walk ends where the level-1 pages do not differ.

    Only where the table begins at a multiple of 1 GiB is the last block's number an index as well
    (linear-spec L9).
    """
    never_inline()
    last = max_pfn >> BLOCK_SHIFT
    k = as_int(0)
    before = level1_of(t, 0)
    for block in range(1, last + 1):
        page = level1_of(t, block)
        if page != before:
            k = block
        before = page
    k += k == table_index(t, 0, 2) + last
    return min(max_pfn, (k << BLOCK_SHIFT) - 1) if k > 0 else max_pfn


@inner_kernel
def _tables_are_plain(t: P2MTables, h: HostTables, max_pfn: int) -> bool:
    """Return whether all pages of the table and all leaves are own frames that are saved."""
    never_inline()
    state = t.state[0]
    if not _is_own(t, h, state.missing, max_pfn) or not _is_own(t, h, state.identity, max_pfn):
        return False
    return _pages_are_plain(t, h, max_pfn) and _leaves_are_plain(t, h, max_pfn)


@inner_kernel
def _is_own(t: P2MTables, h: HostTables, page: int, max_pfn: int) -> bool:
    """Return whether a page of the guest's is one of its own frames, and saved."""
    return plain_frame(t, h, page, max_pfn) > 0


@inner_kernel
def _pages_are_plain(t: P2MTables, h: HostTables, max_pfn: int) -> bool:
    """Do `_tables_are_plain` for the table's own pages."""
    never_inline()
    state = t.state[0]
    if not _is_own(t, h, state.pgd, max_pfn):
        return False
    if not _is_own(t, h, state.missing_pte, max_pfn):
        return False
    if not _is_own(t, h, state.identity_pte, max_pfn):
        return False
    level3, level2 = as_int(NO_PAGE), as_int(NO_PAGE)
    for block in range(state.max_p2m_pfn >> BLOCK_SHIFT):
        page = mapped(t, state.pgd, table_index(t, block, 4))
        if page != level3:
            level3 = page
            if not _is_own(t, h, level3, max_pfn):
                return False
        page = mapped(t, level3, table_index(t, block, 3))
        if page != level2:
            level2 = page
            if not _is_own(t, h, level2, max_pfn):
                return False
        page = mapped(t, level2, table_index(t, block, 2))
        if not is_shared_table(t, page) and not _is_own(t, h, page, max_pfn):
            return False
    return True


@inner_kernel
def _leaves_are_plain(t: P2MTables, h: HostTables, max_pfn: int) -> bool:
    """Do `_tables_are_plain` for the leaves that are not shared."""
    never_inline()
    state = t.state[0]
    words, own, slots, leaf_page, leaf_slot = t.words, t.own, t.slots, t.leaf_page, t.leaf_slot
    n = words.shape[1]
    shift = shift_of(n)
    k = as_int(0)
    while k < state.num_leaves:
        end = run_end(leaf_page, k, min((k | (SLOTS - 1)) + 1, state.num_leaves))
        pfn = as_int(leaf_page[k])
        if pfn == state.missing or pfn == state.identity:
            # Where that is the first of a run of pages, only it is shared.
            k = end if end > k + 1 and leaf_page[k + 1] == pfn else k + 1
            continue
        while k < end:
            y = pfn >> shift
            if pfn > max_pfn or y >= state.num_leaves or leaf_slot[y] < 0:
                return False
            slot = as_int(leaf_slot[y])
            i = pfn & (n - 1)
            count = min(n - i, end - k)
            if pfn + count - 1 > max_pfn or slots[slot, P_CLEAN] == 0:
                return False
            part = words[slot, i : i + count]
            if not same_frames(part, part, h.par[0].frames):
                return False
            if not all_own(own, slot):
                for at in range(i, i + count):
                    if not is_own(t, slot, at):
                        return False
            k += count
            pfn += count
    return True
