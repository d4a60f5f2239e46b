"""Compiled kernels that build: boot, `xen_build_mfn_list_list`, `set_phys_to_machine`, `alloc_p2m`.

Every loop follows the kernel's own order of reads and stores, because a stray write damages what
the same loop reads next. Where nothing that is read can be hit, a whole mid page is copied at once
(`_copy_mid`); `_tracked_step` and `_stale_step` are the exact single steps for all other cases.
"""

from __future__ import annotations

from p2mbatch._jit import as_int, inner_kernel, kernel, never_inline
from p2mbatch.geometry import FOREIGN_FRAME_BIT, INVALID
from p2mbatch.kernels import (
    BUG_BRK_CLOSED,
    BUG_BRK_OVERFLOW,
    BUG_MID_MFN_P,
    BUG_MIDIDX,
    BUG_SET,
    BUG_TOP_MFN,
    FAULT_STORE,
    FAULT_TOP,
    MORE_ROOM,
    NO_MEMORY,
    OK,
    address,
    fill_leaf,
    leaf_page_of,
    make_leaf,
    mfn_to_page,
    page_at,
    page_code,
    pfn_to_mfn,
    room_left,
    set_own,
    set_page_code,
    stray_slot,
    stray_store,
    take_slot,
)
from p2mbatch.kernels_plain import copy_run, rebuild_plain, set_plain
from p2mbatch.tables import (
    FUNCTION_HOST,
    H_FRAMES,
    H_KIND,
    LAZY,
    LEAF,
    MID_MFN,
    NO_PAGE,
    ORDINARY,
    P_CLEAN,
    P_KIND,
    P_LEAF,
    P_PAGE,
    POINTER,
    S_ALLOCS,
    S_BRK_CLOSED,
    S_BRK_PAGES,
    S_BRK_PFN,
    S_BRK_USED,
    S_DIRECTMAP,
    S_ENTRIES_SHIFT,
    S_ENTRIES_WRITTEN,
    S_EVENT,
    S_FAIL_AT,
    S_MAX_P2M,
    S_MAX_P2M_PFN,
    S_MFN_LIST_PFN,
    S_MID_MISSING,
    S_MID_MISSING_MFN,
    S_MISSING,
    S_NR_PAGES,
    S_NUM_GROWN,
    S_NUM_LEAVES,
    S_NUM_MID_MFNS,
    S_NUM_MIDS,
    S_NUM_SLOTS,
    S_POLICY,
    S_POOL_USED,
    S_POSITION,
    S_SHARED_FLL,
    S_SHARED_MAX,
    S_STRAY_PAGES,
    S_STRAY_WRITES,
    S_TOP,
    S_TOP_MFN,
    S_TOP_MFN_P,
    S_WILD,
    S_XEN_MAX,
    STALE,
    TOP_MFN,
    HostTables,
    Int64Array,
    P2MTables,
)

# --- memory for structures ---------------------------------------------------------------------


@inner_kernel
def _extend_brk(t: P2MTables) -> int:
    """Return the slot of the next brk page, or minus the BUG's code."""
    state = t.state
    if state[S_BRK_CLOSED] != 0:
        return -BUG_BRK_CLOSED
    if state[S_BRK_USED] >= state[S_BRK_PAGES]:
        return -BUG_BRK_OVERFLOW
    page = state[S_BRK_PFN] + state[S_BRK_USED]
    state[S_BRK_USED] += 1
    return take_slot(t, page)


@inner_kernel
def _alloc_p2m_page(t: P2MTables) -> int:
    """Return the PFN of the next pool page; -1 where none is left or failure is injected."""
    state = t.state
    turn = state[S_ALLOCS]
    state[S_ALLOCS] = turn + 1
    if turn == state[S_FAIL_AT]:
        return -1
    skip = state[S_POOL_USED]
    for run in range(len(t.pool)):
        if skip < t.pool[run, 1]:
            state[S_POOL_USED] += 1
            return t.pool[run, 0] + skip
        skip -= t.pool[run, 1]
    return -1


@inner_kernel
def _fill(t: P2MTables, slot: int, word: int) -> None:
    """Write `word` to every entry of a page."""
    for i in range(t.words.shape[1]):
        t.words[slot, i] = word


@inner_kernel
def _mid_mfn_init(t: P2MTables, h: HostTables, slot: int) -> int:
    """Fill a mid_mfn page with the present MFN of `p2m_missing`; return OK or a FAULT_ code."""
    never_inline()
    mfn = pfn_to_mfn(t, h, t.state[S_MISSING])
    if mfn <= FAULT_TOP:
        return mfn
    _fill(t, slot, mfn)
    return OK


# --- boot --------------------------------------------------------------------------------------


@kernel
def load_mfn_list(t: P2MTables, h: HostTables, first: int, end: int) -> None:
    """Lay out the boot leaves, as the domain builder leaves `mfn_list` (model section 3).

    Leaves `first` <= x < `end`, and a partial last one, are made resident; the others stay LAZY,
    which needs a function host. Entries of a table host are written by `load_domain`.
    """
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    n = 1 << shift
    nr_pages = state[S_NR_PAGES]
    for x in range((nr_pages + n - 1) >> shift):
        page = state[S_MFN_LIST_PFN] + x
        t.leaf_page[x] = page
        partial = (x + 1) << shift > nr_pages
        if not (first <= x < end or partial):
            t.leaf_slot[x] = LAZY
            set_page_code(t, page, LAZY - x)
            continue
        slot = take_slot(t, page)
        t.slots[slot, P_KIND] = LEAF
        if h.par[H_KIND] == FUNCTION_HOST:
            fill_leaf(t, h, slot, x)
        else:
            t.slots[slot, P_LEAF] = x
            t.leaf_slot[x] = slot
            for i in range(n):
                t.words[slot, i] = INVALID
        if partial:
            # The pages of mfn_list start as zeros, and the builder writes nr_pages entries.
            for i in range(nr_pages & (n - 1), n):
                t.words[slot, i] = 0


@kernel
def load_domain(t: P2MTables, h: HostTables) -> None:
    """Write the frames that a table host's `domain` gives to PFNs below nr_pages, and own them."""
    shift = t.state[S_ENTRIES_SHIFT]
    nr_pages = t.state[S_NR_PAGES]
    for run in range(len(h.domain)):
        pfn, mfn = h.domain[run, 0], h.domain[run, 1]
        for k in range(max(min(h.domain[run, 2], nr_pages - pfn), 0)):
            t.words[t.leaf_slot[(pfn + k) >> shift], (pfn + k) & ((1 << shift) - 1)] = mfn + k
            h.m2p[mfn + k] = pfn + k
            h.owned[mfn + k] = 1


@kernel
def boot(t: P2MTables, h: HostTables) -> int:
    """Build the tree over the loaded `mfn_list` and the first mfn list list (model section 4).

    Source: kernel `xen_build_dynamic_phys_to_machine`. Returns OK, a BUG_ or a FAULT_ code.
    """
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    n = 1 << shift
    missing = _extend_brk(t)
    if missing < 0:
        return -missing
    t.slots[missing, P_KIND] = LEAF
    state[S_MISSING] = t.slots[missing, P_PAGE]
    _fill(t, missing, INVALID)
    num_boot = (state[S_NR_PAGES] + n - 1) >> shift
    for x in range(num_boot, state[S_NUM_LEAVES]):
        t.leaf_slot[x] = missing
        t.leaf_page[x] = state[S_MISSING]
    mid_missing = _extend_brk(t)
    if mid_missing < 0:
        return -mid_missing
    t.slots[mid_missing, P_KIND] = POINTER
    state[S_MID_MISSING] = t.slots[mid_missing, P_PAGE]
    _fill(t, mid_missing, address(t, state[S_MISSING]))
    top = _extend_brk(t)
    if top < 0:
        return -top
    t.slots[top, P_KIND] = POINTER
    state[S_TOP] = t.slots[top, P_PAGE]
    _fill(t, top, address(t, state[S_MID_MISSING]))
    mid = -1
    for x in range(num_boot):
        if x & (n - 1) == 0:
            mid = _extend_brk(t)
            if mid < 0:
                # The leaves from here on are cached, but do not hang in the tree.
                state[S_WILD] = 1
                return -mid
            t.slots[mid, P_KIND] = POINTER
            state[S_NUM_MIDS] += 1
            _fill(t, mid, address(t, state[S_MISSING]))
            t.words[top, x >> shift] = address(t, t.slots[mid, P_PAGE])
        t.words[mid, x & (n - 1)] = address(t, as_int(t.leaf_page[x]))
    status = _first_build(t, h)
    if status == OK:
        # A literal 0 would be a type of its own, and everything below be compiled twice.
        status = rebuild(t, h, state[S_BRK_CLOSED])
    if status != OK:
        return status
    state[S_BRK_CLOSED] = 1
    state[S_XEN_MAX] = state[S_MAX_P2M_PFN]
    return set_shared_info(t, h)


@inner_kernel
def _first_build(t: P2MTables, h: HostTables) -> int:
    """Make the list's own pages, on the first call of `xen_build_mfn_list_list`."""
    never_inline()
    state = t.state
    mid_missing_mfn = _extend_brk(t)
    if mid_missing_mfn < 0:
        return -mid_missing_mfn
    t.slots[mid_missing_mfn, P_KIND] = MID_MFN
    state[S_MID_MISSING_MFN] = t.slots[mid_missing_mfn, P_PAGE]
    status = _mid_mfn_init(t, h, mid_missing_mfn)
    if status != OK:
        return status
    t.true_mid_mfn[:] = state[S_MID_MISSING_MFN]
    if state[S_POLICY] != STALE:
        top_mfn_p = _extend_brk(t)
        if top_mfn_p < 0:
            return -top_mfn_p
        t.slots[top_mfn_p, P_KIND] = POINTER
        state[S_TOP_MFN_P] = t.slots[top_mfn_p, P_PAGE]
        _fill(t, top_mfn_p, address(t, state[S_MID_MISSING_MFN]))
    top_mfn = _extend_brk(t)
    if top_mfn < 0:
        return -top_mfn
    t.slots[top_mfn, P_KIND] = TOP_MFN
    state[S_TOP_MFN] = t.slots[top_mfn, P_PAGE]
    mfn = pfn_to_mfn(t, h, state[S_MID_MISSING_MFN])
    if mfn <= FAULT_TOP:
        return mfn
    _fill(t, top_mfn, mfn)
    return OK


@kernel
def set_shared_info(t: P2MTables, h: HostTables) -> int:
    """Set what the toolstack finds the list by. Source: `xen_setup_mfn_list_list`."""
    mfn = pfn_to_mfn(t, h, t.state[S_TOP_MFN])
    if mfn <= FAULT_TOP:
        return mfn
    t.state[S_SHARED_FLL] = mfn
    t.state[S_SHARED_MAX] = t.state[S_XEN_MAX]
    return OK


# --- xen_build_mfn_list_list -------------------------------------------------------------------


@kernel
def rebuild(t: P2MTables, h: HostTables, x: int) -> int:
    """Build the mfn list list from leaf `x` on, by the guest's policy (model section 6).

    Source: kernel `xen_build_mfn_list_list`, before (`stale`) and after the change. Returns OK, a
    BUG_ or FAULT_ code with what was stored left in place, or MORE_ROOM with `state[S_POSITION]`
    the leaf to go on from. Only a call with `x` 0 refills `p2m_mid_missing_mfn`.
    """
    never_inline()
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    n = 1 << shift
    stale = state[S_POLICY] == STALE
    end = (state[S_XEN_MAX] + n - 1) >> shift
    if x == 0 and state[S_BRK_CLOSED] != 0 and not stale:
        status = _mid_mfn_init(t, h, page_code(t, state[S_MID_MISSING_MFN]))
        if status != OK:
            return status
    if not stale and x & (n - 1) == 0 and state[S_BRK_CLOSED] != 0:
        x = rebuild_plain(t, x, end)
    while x < end:
        if not room_left(t):
            state[S_POSITION] = x
            return MORE_ROOM
        stop = min((x | (n - 1)) + 1, end)
        step = _stale_mid(t, h, x, stop) if stale else _tracked_mid(t, h, x, stop)
        if step <= 0:
            return -step if step > FAULT_LIMIT else step - FAULT_LIMIT
        x += step
    return OK


# A step returns how many leaves it did, minus a BUG's code, or a FAULT_ code moved below those.
FAULT_LIMIT = -100


@inner_kernel
def _tracked_mid(t: P2MTables, h: HostTables, x: int, stop: int) -> int:
    """Do leaves `x` to `stop` of one mid as the kernel does after the change."""
    never_inline()
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    n = 1 << shift
    top = x >> shift
    mid = page_at(t, t.words[page_code(t, state[S_TOP]), top])
    tracked = page_code(t, state[S_TOP_MFN_P])
    mid_mfn = page_at(t, t.words[tracked, top])
    top_mfn = page_code(t, state[S_TOP_MFN])
    if mid == state[S_MID_MISSING]:
        if x & (n - 1) != 0:
            return -BUG_MIDIDX
        if mid_mfn != state[S_MID_MISSING_MFN]:
            return -BUG_MID_MFN_P
        mfn = pfn_to_mfn(t, h, mid_mfn)
        if mfn <= FAULT_TOP:
            return FAULT_LIMIT + mfn
        t.words[top_mfn, top] = mfn
        state[S_ENTRIES_WRITTEN] += 1
        return n
    if mid_mfn == state[S_MID_MISSING_MFN]:
        slot = _extend_brk(t)
        if slot < 0:
            return slot
        t.slots[slot, P_KIND] = MID_MFN
        status = _mid_mfn_init(t, h, slot)
        if status != OK:
            return FAULT_LIMIT + status
        mid_mfn = t.slots[slot, P_PAGE]
        t.words[tracked, top] = address(t, mid_mfn)
        t.true_mid_mfn[top] = mid_mfn
        state[S_NUM_MID_MFNS] += 1
    mfn = pfn_to_mfn(t, h, mid_mfn)
    if mfn <= FAULT_TOP:
        return FAULT_LIMIT + mfn
    t.words[top_mfn, top] = mfn
    state[S_ENTRIES_WRITTEN] += 1
    if state[S_WILD] == 0 and stop <= state[S_NUM_LEAVES]:
        _copy_mid(t, h, x, stop, page_code(t, mid_mfn))
        return stop - x
    leaf = leaf_page_of(t, x)
    if leaf < 0:
        return FAULT_LIMIT + leaf
    mfn = pfn_to_mfn(t, h, leaf)
    if mfn <= FAULT_TOP:
        return FAULT_LIMIT + mfn
    t.words[page_code(t, mid_mfn), x & (n - 1)] = mfn
    state[S_ENTRIES_WRITTEN] += 1
    return 1


@inner_kernel
def _copy_mid(t: P2MTables, h: HostTables, x: int, stop: int, slot: int) -> int:
    """Store the MFNs of leaves `x` to `stop` of one mid in the page in `slot`; return how many.

    Only for a tree whose pointers are sound and a page whose words nothing here reads.
    """
    never_inline()
    shift = t.state[S_ENTRIES_SHIFT]
    n = 1 << shift
    row = t.words[slot]
    missing = t.state[S_MISSING]
    missing_mfn = pfn_to_mfn(t, h, missing)
    # Before the change the kernel passed over missing leaves; and `p2m_missing` may well be the
    # page beside the last of mfn_list.
    skip_missing = t.state[S_POLICY] == STALE
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
            if pfn >> shift < t.state[S_NUM_LEAVES]:
                source = as_int(t.leaf_slot[pfn >> shift])
            if source >= 0:
                entry = t.words[source, pfn & (n - 1)]
                row[k & (n - 1)] = entry & ~FOREIGN_FRAME_BIT if entry != INVALID else INVALID
            else:
                row[k & (n - 1)] = pfn_to_mfn(t, h, pfn)
            done += 1
        k += 1
    t.state[S_ENTRIES_WRITTEN] += done
    return done


@inner_kernel
def _stale_mid(t: P2MTables, h: HostTables, x: int, stop: int) -> int:
    """Do leaves from `x` of one mid as the kernel did before the change: all, or one exactly."""
    never_inline()
    state = t.state
    top = x >> state[S_ENTRIES_SHIFT]
    if state[S_WILD] != 0 or stop > state[S_NUM_LEAVES]:
        return _stale_step(t, h, x)
    begin = x
    while x < stop and t.leaf_page[x] == state[S_MISSING]:
        x += 1
    if x > begin:
        return x - begin
    page = mfn_to_page(t, h, t.words[page_code(t, state[S_TOP_MFN]), top])
    if page == state[S_MID_MISSING_MFN] or page >= state[S_DIRECTMAP]:
        return _stale_step(t, h, x)
    slot = page_code(t, page)
    if slot <= LAZY or (slot >= 0 and t.slots[slot, P_KIND] not in (ORDINARY, MID_MFN)):
        # A page that this loop reads is about to be hit: every store must be seen by the next.
        return _stale_step(t, h, x)
    if page == t.true_mid_mfn[top]:
        _copy_mid(t, h, x, stop, slot)
    else:
        slot = stray_slot(t, h, page)
        state[S_STRAY_WRITES] += _copy_mid(t, h, x, stop, slot)
    return stop - x


@inner_kernel
def _stale_step(t: P2MTables, h: HostTables, x: int) -> int:
    """Do leaf `x` as the kernel did before the change, each read and store in its order."""
    never_inline()
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    top = x >> shift
    i = x & ((1 << shift) - 1)
    mid = page_at(t, t.words[page_code(t, state[S_TOP]), top])
    if mid >= state[S_DIRECTMAP]:
        return FAULT_LIMIT + FAULT_TOP
    pointer = t.words[page_code(t, mid), i]
    if pointer == address(t, state[S_MISSING]):
        return 1
    top_mfn = page_code(t, state[S_TOP_MFN])
    page = mfn_to_page(t, h, t.words[top_mfn, top])
    if page == state[S_MID_MISSING_MFN]:
        slot = _extend_brk(t)
        if slot < 0:
            return slot
        t.slots[slot, P_KIND] = MID_MFN
        status = _mid_mfn_init(t, h, slot)
        if status != OK:
            return FAULT_LIMIT + status
        page = t.slots[slot, P_PAGE]
        mfn = pfn_to_mfn(t, h, page)
        if mfn <= FAULT_TOP:
            return FAULT_LIMIT + mfn
        t.words[top_mfn, top] = mfn
        t.true_mid_mfn[top] = page
        state[S_NUM_MID_MFNS] += 1
        state[S_ENTRIES_WRITTEN] += 1
    mfn = pfn_to_mfn(t, h, page_at(t, pointer))
    if mfn <= FAULT_TOP:
        return FAULT_LIMIT + mfn
    if page >= state[S_DIRECTMAP]:
        return FAULT_LIMIT + FAULT_STORE
    _store_entry(t, h, top, page, i, mfn)
    state[S_ENTRIES_WRITTEN] += 1
    return 1


@inner_kernel
def _store_entry(t: P2MTables, h: HostTables, top: int, page: int, i: int, mfn: int) -> None:
    """Store a leaf's MFN through a mid_mfn page: the true one of `top`, or a stray write."""
    if page == t.true_mid_mfn[top]:
        t.words[page_code(t, page), i] = mfn
    else:
        stray_store(t, h, page, i, mfn)


# --- set_phys_to_machine -----------------------------------------------------------------------


@kernel
def begin_event(t: P2MTables) -> None:
    """Start counting what a new event writes."""
    t.state[S_EVENT] += 1
    t.state[S_ENTRIES_WRITTEN] = 0
    t.state[S_STRAY_WRITES] = 0
    t.state[S_STRAY_PAGES] = 0


@kernel
def fail_alloc(t: P2MTables, at: int) -> None:
    """Make the `at`-th next `alloc_p2m_page` (from 0), and no other, return NULL."""
    t.state[S_FAIL_AT] = at
    t.state[S_ALLOCS] = 0


@kernel
def set_runs(t: P2MTables, h: HostTables, runs: Int64Array, done: int) -> int:
    """Apply `runs` (int64[k, 3]: pfn, mfn or INVALID, count), leaving out the first `done` entries.

    Source: kernel `set_phys_to_machine`, model section 5. Returns OK, a BUG_ or FAULT_ code,
    NO_MEMORY, or MORE_ROOM; `state[S_POSITION]` is how many entries succeeded in all.
    """
    skip = done
    t.state[S_POSITION] = done
    words, own, n = t.words, t.own, t.words.shape[1]
    for run in range(len(runs)):
        pfn, mfn, count = runs[run, 0], runs[run, 1], runs[run, 2]
        begin = min(skip, count)
        skip -= begin
        k = begin
        while k < count:
            slot = _plain_leaf(t, pfn + k)
            if slot >= 0:
                # All that the run has of a leaf that is there already, at once.
                step = min(count - k, n - ((pfn + k) & (n - 1)))
                value = mfn + k if mfn >= 0 else INVALID
                set_plain(words, own, h, slot, pfn + k, value, step)
            else:
                if not room_left(t):
                    return MORE_ROOM
                status = set_phys_to_machine(t, h, pfn + k, mfn + k if mfn >= 0 else INVALID)
                if status != OK:
                    return status
                step = 1
            k += step
            t.state[S_POSITION] += step
    return OK


@inner_kernel
def _plain_leaf(t: P2MTables, pfn: int) -> int:
    """Return the slot of the resident leaf of `pfn`; below 0 for any other way to set an entry."""
    x = pfn >> t.state[S_ENTRIES_SHIFT]
    if t.state[S_WILD] != 0 or not 0 <= x < t.state[S_NUM_LEAVES]:
        return NO_PAGE
    if t.leaf_page[x] == t.state[S_MISSING]:
        return NO_PAGE
    return as_int(t.leaf_slot[x])


@inner_kernel
def set_phys_to_machine(t: P2MTables, h: HostTables, pfn: int, mfn: int) -> int:
    """Set one entry, growing the tree for it if need be, and move the frames' ownership.

    Source: kernel `set_phys_to_machine`; ownership: model section 7.
    """
    state = t.state
    if pfn >= state[S_MAX_P2M]:
        return OK if mfn == INVALID else BUG_SET
    shift = state[S_ENTRIES_SHIFT]
    x = pfn >> shift
    i = pfn & ((1 << shift) - 1)
    leaf = _leaf_for_set(t, x)
    if leaf == state[S_MISSING]:
        if mfn == INVALID:
            return OK
        status = _alloc_p2m(t, h, x)
        if status != OK:
            return status
        leaf = _leaf_for_set(t, x)
    if leaf < 0:
        return leaf
    slot = page_code(t, leaf)
    if slot <= LAZY:
        slot = make_leaf(t, h, LAZY - slot)
    before = t.words[slot, i]
    t.words[slot, i] = mfn
    if h.par[H_KIND] == FUNCTION_HOST:
        # What is no frame of this host (foreign, identity) is nobody's; a frame is that of `pfn`.
        set_own(t, slot, i, 0 <= mfn < h.par[H_FRAMES])
        return OK
    frames = h.par[H_FRAMES]
    if 0 <= before < frames and h.owned[before] != 0 and h.m2p[before] == pfn:
        h.owned[before] = 0
        h.m2p[before] = INVALID
    if 0 <= mfn < frames:
        h.owned[mfn] = 1
        h.m2p[mfn] = pfn
    return OK


@inner_kernel
def _leaf_for_set(t: P2MTables, x: int) -> int:
    """Return the page of leaf `x`, by the cache where it may be believed; or a FAULT_ code."""
    if x < t.state[S_NUM_LEAVES] and t.state[S_WILD] == 0:
        return as_int(t.leaf_page[x])
    return leaf_page_of(t, x)


@inner_kernel
def _alloc_p2m(t: P2MTables, h: HostTables, x: int) -> int:
    """Grow the tree for leaf `x` (model section 5). Source: kernel `alloc_p2m`."""
    never_inline()
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    top = x >> shift
    i = x & ((1 << shift) - 1)
    top_slot = page_code(t, state[S_TOP])
    mid = page_at(t, t.words[top_slot, top])
    if mid == state[S_MID_MISSING]:
        mid = _alloc_p2m_page(t)
        if mid < 0:
            return NO_MEMORY
        mid_slot = take_slot(t, mid)
        t.slots[mid_slot, P_KIND] = POINTER
        _fill(t, mid_slot, address(t, state[S_MISSING]))
        t.words[top_slot, top] = address(t, mid)
        state[S_NUM_MIDS] += 1
    top_mfn = page_code(t, state[S_TOP_MFN])
    if state[S_POLICY] == STALE:
        mid_mfn = mfn_to_page(t, h, t.words[top_mfn, top])
    else:
        mid_mfn = page_at(t, t.words[page_code(t, state[S_TOP_MFN_P]), top])
        mfn = pfn_to_mfn(t, h, mid_mfn)
        if mfn <= FAULT_TOP:
            return mfn
        if mfn != t.words[top_mfn, top]:
            return BUG_TOP_MFN
    if mid_mfn == state[S_MID_MISSING_MFN]:
        mid_mfn = _alloc_p2m_page(t)
        if mid_mfn < 0:
            return NO_MEMORY
        status = _install_mid_mfn(t, h, top, mid_mfn)
        if status != OK:
            return status
    leaf = leaf_page_of(t, x)
    if leaf != state[S_MISSING]:
        return leaf if leaf < 0 else OK
    leaf = _alloc_p2m_page(t)
    if leaf < 0:
        return NO_MEMORY
    _install_leaf(t, mid, x, leaf)
    mfn = pfn_to_mfn(t, h, leaf)
    if mfn <= FAULT_TOP:
        return mfn
    if mid_mfn >= state[S_DIRECTMAP]:
        return FAULT_STORE
    _store_entry(t, h, top, mid_mfn, i, mfn)
    return OK


@inner_kernel
def _install_mid_mfn(t: P2MTables, h: HostTables, top: int, page: int) -> int:
    """Fill a fresh mid_mfn page and hang it in, if the top_mfn entry is that of the missing one."""
    never_inline()
    state = t.state
    slot = take_slot(t, page)
    t.slots[slot, P_KIND] = MID_MFN
    status = _mid_mfn_init(t, h, slot)
    if status != OK:
        return status
    missing_mfn = pfn_to_mfn(t, h, state[S_MID_MISSING_MFN])
    if missing_mfn <= FAULT_TOP:
        return missing_mfn
    mfn = pfn_to_mfn(t, h, page)
    if mfn <= FAULT_TOP:
        return mfn
    top_mfn = page_code(t, state[S_TOP_MFN])
    if t.words[top_mfn, top] != missing_mfn:
        # The page that lost is freed and yet used: never installed, so what follows is stray.
        return OK
    t.words[top_mfn, top] = mfn
    if state[S_POLICY] != STALE:
        t.words[page_code(t, state[S_TOP_MFN_P]), top] = address(t, page)
    t.true_mid_mfn[top] = page
    state[S_NUM_MID_MFNS] += 1
    return OK


@inner_kernel
def _install_leaf(t: P2MTables, mid: int, x: int, page: int) -> None:
    """Hang a fresh leaf, all INVALID, into its mid page."""
    state = t.state
    n = 1 << state[S_ENTRIES_SHIFT]
    slot = take_slot(t, page)
    t.slots[slot, P_KIND] = LEAF
    _fill(t, slot, INVALID)
    t.slots[slot, P_LEAF] = x
    t.slots[slot, P_CLEAN] = 1
    t.words[page_code(t, mid), x & (n - 1)] = address(t, page)
    state[S_NUM_GROWN] += 1
    if x < state[S_NUM_LEAVES]:
        t.leaf_slot[x] = slot
        t.leaf_page[x] = page


@kernel
def grow_leaves(t: P2MTables, h: HostTables, leaves: Int64Array, lazy: bool, first: int) -> int:
    """Populate the whole leaves `leaves` (int64[k]) from index `first` on, each as a balloon would.

    The tree grows for a leaf's first page; the entries then follow from the function host. With
    `lazy` the leaf's own slot is given back and it stays LAZY. Returns as `set_runs`;
    `state[S_POSITION]` is the index to go on from.
    """
    for k in range(first, len(leaves)):
        t.state[S_POSITION] = k
        if not room_left(t):
            return MORE_ROOM
        x = leaves[k]
        status = _alloc_p2m(t, h, x)
        if status != OK:
            return status
        slot = as_int(t.leaf_slot[x])
        if lazy and slot == t.state[S_NUM_SLOTS] - 1:
            t.state[S_NUM_SLOTS] = slot
            t.slots[slot, P_PAGE] = NO_PAGE
            t.slots[slot, P_LEAF] = -1
            t.slots[slot, P_CLEAN] = 0
            for i in range(t.words.shape[1]):
                t.words[slot, i] = 0
            t.leaf_slot[x] = LAZY
            set_page_code(t, as_int(t.leaf_page[x]), LAZY - x)
        else:
            fill_leaf(t, h, slot, x)
    return OK
