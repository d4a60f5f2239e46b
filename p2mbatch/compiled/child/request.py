"""Asking a child: what it must know of the guest is written down for it, then it is woken.

Its memory is made equal to the guest's before each call: what a restore, a toolstack or another
event did since is written there, page by page.
"""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.batch.clock import now_ns
from p2mbatch.compiled.child.arrays import array_offset, array_there, tell_arrays
from p2mbatch.compiled.child.flat_tables import kernels_entry
from p2mbatch.compiled.child.layout import (
    A_M2P,
    A_MADE,
    A_PAGES,
    A_POOL,
    A_TOUCHED,
    C_ALLOCS,
    C_ANSWER,
    C_AREA_BYTES,
    C_BOOT_RUNS,
    C_BOOT_USED,
    C_BRK,
    C_BRK_CLOSED,
    C_BRK_PAGES,
    C_BRK_USED,
    C_CALL,
    C_DIRECTMAP,
    C_ERA,
    C_EXTRA,
    C_FAIL_AT,
    C_FLAGS,
    C_GENERATION,
    C_HINT,
    C_HOTPLUG,
    C_IMAGE_MAP,
    C_LATE_LIST,
    C_LAZY_COUNT,
    C_LAZY_FIRST,
    C_LOG,
    C_M2P,
    C_MARKED,
    C_MARKED_PAGES,
    C_MARKS,
    C_MAX_PFN,
    C_MFN_LIST,
    C_NR_PAGES,
    C_OP,
    C_PAGES,
    C_PEEKED,
    C_PGD,
    C_POOL_CUT,
    C_POOL_RUNS,
    C_POOL_USED,
    C_SHARED_CR3,
    C_SHARED_FLL,
    C_SHARED_MAX,
    C_SHARED_VADDR,
    C_TOUCHED,
    C_VA_BASE,
    C_VA_MASK,
    C_VADDR,
    C_WARNINGS,
    C_XEN_MAX,
    CHILD_ANSWER,
    CHILD_ASKS,
    CHILD_CONTROL,
    CHILD_LOST,
    CHILD_MEMORY,
    CHILD_RANGE,
    CHILD_REQUEST,
    CHILD_STOP,
    CHILD_WORDS,
    DIRECT,
    HEADER,
    IMAGE,
    LOG_ENTRIES,
    MADE_PAGES,
    MAX_M2P,
    MAX_POOL_RUNS,
    MAX_SECONDS,
    OP_BOOT,
    R_AT,
    R_BITS,
    R_BUILDS,
    R_CHILD,
    R_DOING,
    R_LENGTH,
    R_NOTED,
    R_OPEN,
    R_SINCE,
    TOUCHED_PAGES,
)
from p2mbatch.compiled.child.status import (
    CHILD_BROKEN,
    CHILD_DIED,
    CHILD_LOOP,
    CHILD_PAGES,
    CHILD_STOPPED,
)
from p2mbatch.compiled.child.wire import TIMED_OUT, narrow_words_at, receive, send, words_at
from p2mbatch.compiled.jit import as_int, inline_kernel, inner_kernel, never_inline
from p2mbatch.compiled.own.registers import R_MAX_DOMAIN, begin, stop
from p2mbatch.compiled.owners import guest_m2p
from p2mbatch.compiled.pages import page_code
from p2mbatch.compiled.tables import (
    FUNCTION_HOST,
    IMAGE_BASE,
    IMAGE_END,
    LAZY,
    LEAF,
    MID_MFN,
    NO_PAGE,
    P_KIND,
    P_PAGE,
    TABLE,
    TOP_MFN,
    HostTables,
    P2MTables,
)

VIRT_P2M_4TOOLS = 16
"""The start flag SIF_VIRT_P2M_4TOOLS."""

WAIT_MS = 50
"""How often whoever waits looks whether it is to go on waiting."""

MAX_WAITS = 60 * 1000 // WAIT_MS
"""A child ends its calls after MAX_SECONDS of the processor's; one that does not is given up."""


# A kernel can't hand an array on that it was not given itself: what follows are addresses.


@inline_kernel
def child_at(t: P2MTables) -> int:
    """Return where is what the parent has of the guest's child (CHILD_ words)."""
    return as_int(t.statics[R_CHILD])


@inline_kernel
def area_at(t: P2MTables, first: int) -> int:
    """Return where word `first` of the control block is."""
    return as_int(words_at(child_at(t), as_int(CHILD_WORDS))[CHILD_CONTROL] + 8 * first)


@inline_kernel
def child_form(t: P2MTables, bytes_held: int, word: int) -> int:
    """Return a word of a 64-bit guest's as its child has it, and back (`guest_form` there)."""
    base = t.state[0].va_base
    if 0 <= word - DIRECT < bytes_held:
        return word - DIRECT + base
    if base <= word < base + bytes_held:
        return word - base + DIRECT
    if t.state[0].image_map != 0:
        if 0 <= word - IMAGE < IMAGE_END - IMAGE_BASE:
            return word - IMAGE + IMAGE_BASE
        if IMAGE_BASE <= word < IMAGE_END:
            return word - IMAGE_BASE + IMAGE
    return word


@inner_kernel
def write_page(t: P2MTables, memory: int, bytes_held: int, slot: int) -> None:
    """Make the child's page equal to that in `slot`."""
    page = t.slots[slot, P_PAGE]
    row = t.words[slot]
    if page < 0 or (page + 1) << 12 > bytes_held:
        return
    where, at = memory + (page << 12), array_offset(t, as_int(page))
    if at >= 0:
        where = memory + bytes_held + at
    # Entries and MFNs are no addresses.
    plain = t.slots[slot, P_KIND] in (LEAF, MID_MFN, TOP_MFN)
    if t.state[0].word_bits == 32:
        narrow = narrow_words_at(where, as_int(len(row)))
        # There the direct map has the kernel's own addresses.
        plain = plain or t.state[0].static_top == NO_PAGE
        for i in range(len(row)):
            word = row[i] if plain else array_there(t, as_int(row[i]))
            narrow[i] = np.uint32(word & 0xFFFFFFFF)
        return
    wide = words_at(where, as_int(len(row)))
    if plain:
        for i in range(len(row)):
            wide[i] = row[i]
        return
    if t.slots[slot, P_KIND] == TABLE:
        for i in range(len(row)):
            wide[i] = kernels_entry(t, as_int(row[i]), as_int(wide[i]))
        return
    last, form = ~as_int(row[0]), as_int(0)
    for i in range(len(row)):
        if row[i] != last:
            last = as_int(row[i])
            form = array_there(t, last)
            if form == last:
                form = child_form(t, bytes_held, last)
        wide[i] = form


@inner_kernel
def begin_request(t: P2MTables, h: HostTables, op: int) -> None:
    """Make all ready for one call of the child's functions."""
    never_inline()
    begin(t)
    c = words_at(area_at(t, as_int(0)), as_int(HEADER))
    state = t.state[0]
    c[C_OP] = op
    c[C_CALL] += 1
    c[C_VA_BASE] = state.va_base
    c[C_VA_MASK] = state.va_mask
    c[C_IMAGE_MAP] = state.image_map
    c[C_DIRECTMAP] = min(
        state.directmap, words_at(child_at(t), as_int(CHILD_WORDS))[CHILD_RANGE] >> 12
    )
    c[C_NR_PAGES] = state.nr_pages
    c[C_MAX_PFN] = state.max_p2m_pfn
    c[C_XEN_MAX] = state.xen_max
    c[C_MFN_LIST] = state.mfn_list_pfn
    c[C_BRK] = state.brk_pfn
    c[C_BRK_PAGES] = state.brk_pages
    c[C_BRK_USED] = state.brk_used
    c[C_BRK_CLOSED] = state.brk_closed
    c[C_ALLOCS] = state.allocs
    c[C_FAIL_AT] = state.fail_at
    c[C_SHARED_FLL] = state.shared_fll
    c[C_SHARED_MAX] = state.shared_max
    _write_era(t, c)
    if op == OP_BOOT:
        _forget(t, c)
        t.statics[R_NOTED] = 0
    tell_arrays(t)
    _write_pool(t)
    _write_pages(t, h)
    _write_m2p(t, h)
    t.statics[R_OPEN] = op
    t.statics[R_DOING] = op
    t.statics[R_SINCE] = now_ns()
    t.statics[R_BUILDS] = 0
    t.statics[R_BITS] = state.word_bits
    t.statics[R_MAX_DOMAIN] = state.max_domain_pages
    t.statics[R_AT] = 0
    t.statics[R_LENGTH] = 0


@inner_kernel
def _write_era(t: P2MTables, c: Int64Array) -> None:
    """Tell the child what is an era's guest's alone; what its boot takes comes from the boot."""
    state = t.state[0]
    c[C_ERA] = state.flag_bits != 0
    c[C_MARKS] = c[C_LATE_LIST] = c[C_PEEKED] = 0
    c[C_BOOT_RUNS] = c[C_BOOT_USED] = c[C_MARKED] = c[C_EXTRA] = 0
    c[C_MARKED_PAGES] = state.identity_pages
    c[C_WARNINGS] = state.warnings
    is_linear = state.pgd != NO_PAGE
    c[C_FLAGS] = VIRT_P2M_4TOOLS if state.no_list != 0 else 0
    c[C_VADDR] = state.p2m_vaddr
    c[C_AREA_BYTES] = 8 * state.max_p2m_pfn if is_linear else 0
    c[C_HOTPLUG] = state.max_p2m_pfn >> 18
    c[C_PGD] = state.pgd
    c[C_SHARED_CR3] = state.shared_cr3 << 12
    c[C_SHARED_VADDR] = state.shared_vaddr
    c[C_GENERATION] = state.generation
    c[C_HINT] = state.hint


@inner_kernel
def _forget(t: P2MTables, c: Int64Array) -> None:
    """Clear the pages of the guest before."""
    memory, held = (
        words_at(child_at(t), as_int(CHILD_WORDS))[CHILD_MEMORY],
        words_at(child_at(t), as_int(CHILD_WORDS))[CHILD_RANGE],
    )
    count = c[C_TOUCHED]
    if count < 0 or count > TOUCHED_PAGES:
        stop(t, CHILD_PAGES, as_int(0))
    pages = words_at(area_at(t, as_int(A_TOUCHED)), count)
    for k in range(count):
        page = pages[k]
        if 0 <= page < held >> 12:
            words = words_at(memory + (page << 12), as_int(512))
            for i in range(512):
                words[i] = 0


@inner_kernel
def _write_pool(t: P2MTables) -> None:
    """Tell the child of the pages that it may be given, from the first not given yet on."""
    c = words_at(area_at(t, as_int(0)), as_int(HEADER))
    skip = t.state[0].pool_used
    first = 0
    while first < len(t.pool) and skip >= t.pool[first, 1]:
        skip -= t.pool[first, 1]
        first += 1
    count = min(len(t.pool) - first, MAX_POOL_RUNS)
    runs = words_at(area_at(t, as_int(A_POOL)), as_int(2 * MAX_POOL_RUNS))
    for k in range(count):
        runs[2 * k] = t.pool[first + k, 0]
        runs[2 * k + 1] = t.pool[first + k, 1]
    c[C_POOL_RUNS] = count
    c[C_POOL_USED] = skip
    c[C_POOL_CUT] = len(t.pool) - first > MAX_POOL_RUNS


@inner_kernel
def _write_pages(t: P2MTables, h: HostTables) -> None:
    """Make the child's pages equal to the guest's, and tell it which pages that are."""
    child, c, state = (
        words_at(child_at(t), as_int(CHILD_WORDS)),
        words_at(area_at(t, as_int(0)), as_int(HEADER)),
        t.state[0],
    )
    memory, held = child[CHILD_MEMORY], child[CHILD_RANGE]
    noted = min(t.statics[R_NOTED], state.num_slots)
    fresh = state.num_slots - noted
    if fresh > TOUCHED_PAGES:
        stop(t, CHILD_PAGES, as_int(0))
    first, lazy = state.mfn_list_pfn, lazy_pages(t, h)
    c[C_LAZY_FIRST], c[C_LAZY_COUNT] = first, lazy
    pages = words_at(area_at(t, as_int(A_PAGES)), as_int(fresh))
    made = words_at(area_at(t, as_int(A_MADE)), as_int((lazy + 63) >> 6))
    if noted == 0:
        for k in range(len(made)):
            made[k] = 0
    for slot in range(state.num_slots):
        write_page(t, memory, held, slot)
        page = t.slots[slot, P_PAGE]
        if slot >= noted:
            pages[slot - noted] = page
        if 0 <= page - first < lazy:
            made[(page - first) >> 6] |= as_int(1) << ((page - first) & 63)
    if state.flag_bits != 0:
        # What the child was shown of leaves that are not made may be another by now.
        for x in range(state.num_leaves):
            if t.leaf_slot[x] == LAZY:
                forget_lazy(t, lazy, as_int(t.leaf_page[x]))
    c[C_PAGES] = fresh
    t.statics[R_NOTED] = state.num_slots


@inner_kernel
def lazy_pages(t: P2MTables, h: HostTables) -> int:
    """Return how many pages from `mfn_list` on may be those of leaves that are not made yet."""
    state = t.state[0]
    if h.par[0].kind != FUNCTION_HOST:
        return as_int(0)
    end = state.mfn_list_pfn + ((state.nr_pages - 1) >> state.entries_shift) + 1
    for run in range(len(t.pool)):
        end = max(end, t.pool[run, 0] + t.pool[run, 1])
    if state.flag_bits != 0:
        end = max(end, state.bootmem_pfn + state.bootmem_pages)
    return as_int(max(min(end, state.directmap, MADE_PAGES) - state.mfn_list_pfn, 0))


@inner_kernel
def forget_lazy(t: P2MTables, lazy: int, page: int) -> None:
    """Note that the child has not what a leaf's page holds: it is made when it is asked for.

    `lazy` are `lazy_pages`.
    """
    at = page - t.state[0].mfn_list_pfn
    if 0 <= at < lazy:
        made = words_at(area_at(t, as_int(A_MADE)), as_int((lazy + 63) >> 6))
        made[at >> 6] &= ~(as_int(1) << (at & 63))


@inner_kernel
def _write_m2p(t: P2MTables, h: HostTables) -> None:
    """Tell a kernel that reads m2p beforehand what it will most likely ask for."""
    c = words_at(area_at(t, as_int(0)), as_int(HEADER))
    c[C_M2P] = 0
    slot = page_code(t, t.state[0].top_mfn)
    if words_at(child_at(t), as_int(CHILD_WORDS))[CHILD_ASKS] == 0 or slot < 0:
        return
    pairs = words_at(area_at(t, as_int(A_M2P)), as_int(2 * MAX_M2P))
    count, last = as_int(0), as_int(LAZY)
    for i in range(t.words.shape[1]):
        mfn = t.words[slot, i]
        if mfn != last and count < MAX_M2P:
            pairs[2 * count] = mfn
            pairs[2 * count + 1] = guest_m2p(t, h, mfn)
            count += 1
            last = as_int(mfn)
    c[C_M2P] = count


@inner_kernel
def check_wait(t: P2MTables, line: int) -> None:
    """Stop the call of a child that has had its time, or that nobody waits for."""
    child = words_at(child_at(t), as_int(CHILD_WORDS))
    if child[CHILD_STOP] != 0 and words_at(child[CHILD_STOP], as_int(1))[0] != 0:
        stop(t, as_int(CHILD_STOPPED), line)
    if now_ns() - t.statics[R_SINCE] > MAX_SECONDS * 1_000_000_000:
        stop(t, as_int(CHILD_LOOP), line)


@inner_kernel
def lost(t: P2MTables, child: Int64Array, status: int) -> None:
    """End the call, and ask nothing of this child any more: nobody knows where it is."""
    never_inline()
    child[CHILD_LOST] = 1
    stop(t, status, as_int(0))


@inner_kernel
def broken(t: P2MTables, line: int) -> None:
    """End the call of a child that says what such a call can't have done."""
    words_at(child_at(t), as_int(CHILD_WORDS))[CHILD_LOST] = 1
    stop(t, as_int(CHILD_BROKEN), line)


@inner_kernel
def wake(t: P2MTables) -> None:
    """Let the child do what it was asked, or go on; return once it has something to say."""
    never_inline()
    child = words_at(child_at(t), as_int(CHILD_WORDS))
    if child[CHILD_LOST] != 0 or send(child[CHILD_REQUEST]) != 1:
        lost(t, child, as_int(CHILD_DIED))
    turns = as_int(0)
    got = receive(child[CHILD_ANSWER], as_int(WAIT_MS))
    while got == TIMED_OUT:
        turns += 1
        if child[CHILD_STOP] != 0 and words_at(child[CHILD_STOP], as_int(1))[0] != 0:
            lost(t, child, as_int(CHILD_STOPPED))
        if turns >= MAX_WAITS:
            lost(t, child, as_int(CHILD_LOOP))
        got = receive(child[CHILD_ANSWER], as_int(WAIT_MS))
    if got != 1:
        lost(t, child, as_int(CHILD_DIED))
    length = words_at(area_at(t, as_int(0)), as_int(HEADER))[C_LOG]
    t.statics[R_AT] = 0
    t.statics[R_LENGTH] = length if 0 <= length <= LOG_ENTRIES else 0


@inline_kernel
def answer_of(t: P2MTables) -> int:
    """Return what the child has to say (ANSWER_)."""
    return as_int(words_at(area_at(t, as_int(0)), as_int(HEADER))[C_ANSWER])
