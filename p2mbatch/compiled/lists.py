"""What boot, growth and the policies share of building the list (`xen_build_mfn_list_list`).

Every loop follows the kernel's own order of reads and stores, because a stray write damages what
the same loop reads next. Where nothing that is read can be hit, a whole mid page is copied at once
(`copy_mid`); each policy has the exact steps for all other cases in its own file.
"""

from __future__ import annotations

from p2mbatch.base.geometry import FOREIGN_FRAME_BIT, INVALID
from p2mbatch.compiled.jit import Inner, as_int, inline_kernel, inner_kernel, never_inline
from p2mbatch.compiled.lookup import pfn_to_mfn
from p2mbatch.compiled.loops import copy_run
from p2mbatch.compiled.pages import new_slot, page_code, room_left, stray_store, take_slot
from p2mbatch.compiled.status import BUG_BRK_CLOSED, BUG_BRK_OVERFLOW, FAULT_TOP, MORE_ROOM, OK
from p2mbatch.compiled.tables import (
    LAZY,
    P_KIND,
    HostTables,
    P2MTables,
)

# --- memory for structures ---------------------------------------------------------------------


@inner_kernel
def extend_brk(t: P2MTables) -> int:
    """Return the slot of the next brk page, or minus the BUG's code."""
    state = t.state[0]
    if state.brk_closed != 0:
        return -BUG_BRK_CLOSED
    if state.brk_used >= state.brk_pages:
        return -BUG_BRK_OVERFLOW
    page = state.brk_pfn + state.brk_used
    state.brk_used += 1
    return take_slot(t, page)


@inner_kernel
def fill_page(t: P2MTables, slot: int, word: int) -> None:
    """Write `word` to every entry of a page."""
    row = t.words[slot]
    for i in range(len(row)):
        row[i] = word


@inner_kernel
def filled_slot(t: P2MTables, page: int, kind: int, word: int) -> int:
    """Return the slot of `page`, given one if it had none, of `kind` and with `word` everywhere."""
    slot = page_code(t, page)
    if slot < 0:
        slot = new_slot(t, page)
    t.slots[slot, P_KIND] = kind
    fill_page(t, slot, word)
    return slot


@inner_kernel
def mid_mfn_init(t: P2MTables, h: HostTables, slot: int) -> int:
    """Fill a mid_mfn page with the present MFN of `p2m_missing`; return OK or a FAULT_ code."""
    never_inline()
    mfn = pfn_to_mfn(t, h, t.state[0].missing)
    if mfn <= FAULT_TOP:
        return mfn
    fill_page(t, slot, mfn)
    return OK


# A step returns how many leaves it did, minus a BUG's code, or a FAULT_ code moved below those.
FAULT_LIMIT = -100


@inner_kernel
def copy_mid(t: P2MTables, h: HostTables, x: int, stop: int, slot: int, skip_missing: bool) -> int:
    """Store the MFNs of leaves `x` to `stop` of one mid in the page in `slot`; return how many.

    Only for a tree whose pointers are sound and a page whose words nothing here reads.
    `skip_missing` passes over missing leaves, as kernels before the change did.
    """
    never_inline()
    shift = t.state[0].entries_shift
    n = 1 << shift
    row = t.words[slot]
    missing = t.state[0].missing
    missing_mfn = pfn_to_mfn(t, h, missing)
    # `p2m_missing` may well be the page beside the last of mfn_list.
    first = as_int(t.leaf_page[x])
    k = x
    if not (skip_missing and first <= missing < first + stop - x):
        k = copy_run(t.words, t.leaf_slot, t.leaf_page, shift, x, stop, row)
    done = k - x
    while k < stop:
        pfn = as_int(t.leaf_page[k])
        if pfn == missing:
            if not skip_missing:
                row[k & (n - 1)] = missing_mfn
                done += 1
        else:
            source = LAZY
            if pfn >> shift < t.state[0].num_leaves:
                source = as_int(t.leaf_slot[pfn >> shift])
            if source >= 0:
                entry = t.words[source, pfn & (n - 1)]
                row[k & (n - 1)] = entry & ~FOREIGN_FRAME_BIT if entry != INVALID else INVALID
            else:
                row[k & (n - 1)] = pfn_to_mfn(t, h, pfn)
            done += 1
        k += 1
    t.state[0].entries_written += done
    return done


@inner_kernel
def num_leaves_listed(t: P2MTables) -> int:
    """Return how many leaves the list is to name: those below `xen_max_p2m_pfn`."""
    shift = t.state[0].entries_shift
    return (t.state[0].xen_max + (1 << shift) - 1) >> shift


@inline_kernel
def each_mid(t: P2MTables, h: HostTables, x: int, step: Inner) -> int:
    """Build the list from leaf `x` on by `step(t, h, x, stop)`, a policy's own, mid by mid.

    Returns OK, a BUG_ or FAULT_ code, or MORE_ROOM with `State.position` the leaf to go on from.
    """
    n = 1 << t.state[0].entries_shift
    end = num_leaves_listed(t)
    while x < end:
        if not room_left(t):
            t.state[0].position = x
            return MORE_ROOM
        done = step(t, h, x, min((x | (n - 1)) + 1, end))
        if done <= 0:
            return -done if done > FAULT_LIMIT else done - FAULT_LIMIT
        x += done
    return OK


@inner_kernel
def store_entry(t: P2MTables, h: HostTables, top: int, page: int, i: int, mfn: int) -> None:
    """Store a leaf's MFN through a mid_mfn page: the true one of `top`, or a stray write."""
    if page == t.true_mid_mfn[top]:
        t.words[page_code(t, page), i] = mfn
    else:
        stray_store(t, h, page, i, mfn)
