"""Compiled kernels of a migration: the toolstack's save walk, restore, and what reads the state.

Source: model section 7; libxc's `map_p2m_tree` and `x86_pv` save and restore.
"""

from __future__ import annotations

from p2mbatch._jit import as_int, inner_kernel, kernel, never_inline
from p2mbatch.geometry import INVALID, WILD
from p2mbatch.kernels import (
    FAULT_TOP,
    MORE_ROOM,
    OK,
    get_phys_to_machine,
    given_frame,
    leaf_page_of,
    m2p,
    make_leaf,
    own_pfn,
    page_at,
    page_code,
    page_word,
    pfn_to_mfn,
    room_left,
    set_own,
)
from p2mbatch.kernels_plain import copy_each, copy_run, restore_plain, walk_list
from p2mbatch.tables import (
    FUNCTION_HOST,
    H_FRAMES,
    H_KIND,
    H_NAMES_ALL,
    LAZY,
    LEAF,
    P_CLEAN,
    P_KIND,
    P_LEAF,
    S_DETAIL,
    S_ENTRIES_SHIFT,
    S_MID_MISSING,
    S_MISSING,
    S_NUM_LEAVES,
    S_NUM_SLOTS,
    S_POSITION,
    S_SAVED_MAX_PFN,
    S_SHARED_FLL,
    S_SHARED_MAX,
    S_TOP,
    S_WILD,
    S_XEN_MAX,
    BoolArray,
    HostTables,
    Int64Array,
    P2MTables,
)

SAVE_MAX_PFN, SAVE_BAD_FLL_MFN, SAVE_MAP_FLL, SAVE_BAD_MFN_FLL, SAVE_MAP_FL = range(20, 25)
SAVE_BAD_MFN_FL, SAVE_MAP_LEAVES, SAVE_BAD_MFN_LIST, MISDIRECTED = range(25, 29)


@inner_kernel
def _bad(frames: int, mfn: int) -> bool:
    """Return whether the toolstack refuses `mfn` on sight: 0, or above max_mfn, unsigned."""
    return mfn <= 0 or mfn > frames


@kernel
def save_walk(t: P2MTables, h: HostTables, found: Int64Array) -> int:
    """Walk the mfn list list as the toolstack does on save; return OK or a SAVE_ code.

    `found` (int64[n]) is a workspace for the PFNs of the frame list pages. `state[S_DETAIL]` is
    the failed check's number; `state[S_SAVED_MAX_PFN]` of a walk that succeeds is the last PFN
    that is saved. MISDIRECTED: all checks passed on pages that are not the p2m.
    """
    max_pfn = as_int(map_frame_lists(t, h, found))
    if max_pfn < 0:
        return -max_pfn
    end = (max_pfn >> t.state[S_ENTRIES_SHIFT]) + 1
    if not _walk_is_plain(t, h, found, end, max_pfn):
        status = _walk_each(t, h, found, end, max_pfn)
        if status != OK:
            return status
    t.state[S_SAVED_MAX_PFN] = max_pfn
    return OK


@inner_kernel
def map_frame_lists(t: P2MTables, h: HostTables, found: Int64Array) -> int:
    """Do the checks up to `map-fl-failed`; return the last PFN to save, or minus a SAVE_ code.

    `found` (int64[n]) gets the PFNs of the frame list pages.
    """
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    n = 1 << shift
    frames = h.par[H_FRAMES]
    max_pfn = state[S_SHARED_MAX] - 1
    num_fll = (max_pfn >> (2 * shift)) + 1
    state[S_DETAIL] = max_pfn
    if num_fll > n:
        return -SAVE_MAX_PFN
    fll_mfn = state[S_SHARED_FLL]
    state[S_DETAIL] = fll_mfn
    if _bad(frames, fll_mfn):
        return -SAVE_BAD_FLL_MFN
    fll = own_pfn(t, h, fll_mfn)
    if fll < 0:
        return -SAVE_MAP_FLL
    last = 0
    for x in range(num_fll):
        mfn = page_word(t, h, fll, x)
        state[S_DETAIL] = x
        if _bad(frames, mfn):
            return -SAVE_BAD_MFN_FLL
        if mfn != page_word(t, h, fll, last):
            last = x
    trimmed = ((last + 1) << (2 * shift)) - 1
    if trimmed < max_pfn:
        max_pfn = trimmed
        num_fll = last + 1
    for x in range(num_fll):
        found[x] = own_pfn(t, h, page_word(t, h, fll, x))
        if found[x] < 0:
            state[S_DETAIL] = x
            return -SAVE_MAP_FL
    return as_int(max_pfn)


@inner_kernel
def _walk_is_plain(t: P2MTables, h: HostTables, found: Int64Array, end: int, max_pfn: int) -> bool:
    """Return whether every entry of the list is its true leaf's unmasked entry and owned there.

    Then all of the toolstack's checks hold. A frame that restore gave to a PFN, in a leaf that
    nothing else has written to, is known to be owned without asking the host.
    """
    never_inline()
    state = t.state
    if state[S_WILD] != 0 or end > state[S_NUM_LEAVES]:
        return False
    shift = state[S_ENTRIES_SHIFT]
    words, own, slots, leaf_slot, leaf_page = t.words, t.own, t.slots, t.leaf_slot, t.leaf_page
    for top in range((end + (1 << shift) - 1) >> shift):
        x = top << shift
        stop = min((top + 1) << shift, end)
        slot = page_code(t, found[top])
        if slot < 0:
            return False
        if not walk_list(words, own, slots, leaf_slot, leaf_page, h, max_pfn, x, stop, slot):
            return False
    return True


@inner_kernel
def _walk_each(t: P2MTables, h: HostTables, found: Int64Array, end: int, max_pfn: int) -> int:
    """Do the checks on each frame list entry in the toolstack's order, then tell whose leaves."""
    never_inline()
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    n = 1 << shift
    frames = h.par[H_FRAMES]
    for x in range(end):
        if _bad(frames, page_word(t, h, found[x >> shift], x & (n - 1))):
            state[S_DETAIL] = x
            return SAVE_BAD_MFN_FL
    for x in range(end):
        if own_pfn(t, h, page_word(t, h, found[x >> shift], x & (n - 1))) < 0:
            state[S_DETAIL] = x
            return SAVE_MAP_LEAVES
    for x in range(end):
        mfn = page_word(t, h, found[x >> shift], x & (n - 1))
        pfn = m2p(t, h, mfn)
        good = 0 <= pfn <= max_pfn
        if good:
            y = pfn >> shift
            leaf = own_pfn(t, h, page_word(t, h, found[y >> shift], y & (n - 1)))
            good = page_word(t, h, leaf, pfn & (n - 1)) == mfn
        if not good:
            state[S_DETAIL] = x
            return SAVE_BAD_MFN_LIST
    for x in range(end):
        if own_pfn(t, h, page_word(t, h, found[x >> shift], x & (n - 1))) != leaf_page_of(t, x):
            return MISDIRECTED
    return OK


# --- restore -----------------------------------------------------------------------------------


@kernel
def settle_unsaved(t: P2MTables, h: HostTables, x: int) -> int:
    """Make resident every LAZY leaf from `x` on that reaches beyond what was saved.

    Such leaves keep the old host's frames, which the new host's function can't tell. Returns OK or
    MORE_ROOM with `state[S_POSITION]` the leaf to go on from.
    """
    state = t.state
    saved = state[S_SAVED_MAX_PFN]
    first = (saved + 1) >> state[S_ENTRIES_SHIFT]
    # What these leaves hold was given to them when everything in them was saved.
    for leaf in range(max(x, first), state[S_NUM_LEAVES]):
        if t.leaf_slot[leaf] != LAZY:
            continue
        state[S_POSITION] = leaf
        if not room_left(t):
            return MORE_ROOM
        state[S_SAVED_MAX_PFN] = state[S_XEN_MAX] - 1
        make_leaf(t, h, leaf)
        state[S_SAVED_MAX_PFN] = saved
    return OK


@kernel
def restore(t: P2MTables, h: HostTables, old_missing: Int64Array) -> int:
    """Give the guest its frames on host `h` and overwrite its leaves (model section 7, step 3).

    `old_missing` (int64[n]) is a workspace for what `p2m_missing` held. Follows a save walk that
    succeeded, so every saved leaf's pointers are sound. Returns OK.
    """
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    n = 1 << shift
    max_pfn = state[S_SAVED_MAX_PFN]
    end = (max_pfn >> shift) + 1
    missing = page_code(t, state[S_MISSING])
    blank = True
    for i in range(n):
        old_missing[i] = t.words[missing, i]
        blank = blank and old_missing[i] == INVALID
    if h.par[H_KIND] == FUNCTION_HOST:
        words, own, slots = t.words, t.own, t.slots
        for slot in range(state[S_NUM_SLOTS]):
            x = slots[slot, P_LEAF]
            if slots[slot, P_KIND] != LEAF or x < 0:
                continue
            if not restore_plain(words, own, slots, h.par, max_pfn, slot):
                restore_leaf(t, h, slot, x, max_pfn)
        for i in range(t.own.shape[1]):
            t.own[missing, i] = 0
        if not blank:
            # A host that has frames for holes too gives them to those that look populated.
            for i in range(n):
                set_own(t, missing, i, h.par[H_NAMES_ALL] != 0 and old_missing[i] != INVALID)
            for x in range(end):
                if t.leaf_slot[x] == missing:
                    _restore_missing(t, h, old_missing, x, max_pfn)
        return OK
    run = 0
    for x in range(end):
        slot = as_int(t.leaf_slot[x])
        while run < len(h.domain) and h.domain[run, 0] + h.domain[run, 2] <= x << shift:
            run += 1
        if slot != missing:
            _restore_from_runs(t, h, t.words[slot], slot, x, max_pfn, run)
        elif not blank:
            _restore_from_runs(t, h, old_missing, slot, x, max_pfn, run)
    return OK


@inner_kernel
def restore_leaf(t: P2MTables, h: HostTables, slot: int, x: int, max_pfn: int) -> None:
    """Overwrite one resident leaf up to `max_pfn` with a function host's frames."""
    n = t.words.shape[1]
    base = x * n
    for i in range(n):
        mfn = INVALID
        if base + i <= max_pfn:
            if t.words[slot, i] != INVALID:
                mfn = given_frame(h.par, base + i)
            t.words[slot, i] = mfn
        set_own(t, slot, i, mfn != INVALID)
    t.slots[slot, P_CLEAN] = 1


@inner_kernel
def _restore_missing(t: P2MTables, h: HostTables, old: Int64Array, x: int, max_pfn: int) -> None:
    """Overwrite `p2m_missing` as leaf `x`: its words, once hit, look like populated pages."""
    never_inline()
    n = t.words.shape[1]
    slot = page_code(t, t.state[S_MISSING])
    for i in range(min(n, max_pfn + 1 - x * n)):
        t.words[slot, i] = given_frame(h.par, x * n + i) if old[i] != INVALID else INVALID


@inner_kernel
def _restore_from_runs(
    t: P2MTables, h: HostTables, old: Int64Array, slot: int, x: int, max_pfn: int, run: int
) -> None:
    """Overwrite one leaf up to `max_pfn` with a table host's frames, from domain run `run` on."""
    never_inline()
    n = t.words.shape[1]
    base = x * n
    stop = min(base + n, max_pfn + 1)
    pfn = base
    while pfn < stop:
        while run < len(h.domain) and h.domain[run, 0] + h.domain[run, 2] <= pfn:
            run += 1
        mfn = INVALID
        if run < len(h.domain) and h.domain[run, 0] <= pfn and old[pfn - base] != INVALID:
            mfn = h.domain[run, 1] + pfn - h.domain[run, 0]
            h.m2p[mfn] = pfn
            h.owned[mfn] = 1
        t.words[slot, pfn - base] = mfn
        pfn += 1


# --- what reads the state ----------------------------------------------------------------------


@kernel
def frame_list(t: P2MTables, out: Int64Array) -> None:
    """Write to `out` (int64[leaves]) each leaf's entry in the true mid_mfn page of its top."""
    shift = t.state[S_ENTRIES_SHIFT]
    n = 1 << shift
    for x in range(len(out)):
        slot = page_code(t, t.true_mid_mfn[x >> shift])
        out[x] = t.words[slot, x & (n - 1)]


@kernel
def p2m_words(t: P2MTables, h: HostTables, first: int, out: Int64Array) -> None:
    """Write the entries of PFNs from `first` on to `out` (int64[k]), WILD behind a wild pointer."""
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    n = 1 << shift
    k = 0
    while k < len(out):
        pfn = first + k
        x = pfn >> shift
        if state[S_WILD] == 0 and x < state[S_NUM_LEAVES] and t.leaf_slot[x] >= 0:
            i = pfn & (n - 1)
            count = min(n - i, len(out) - k)
            row = t.words[t.leaf_slot[x]]
            for j in range(count):
                out[k + j] = row[i + j]
            k += count
        else:
            entry = get_phys_to_machine(t, h, pfn)
            out[k] = entry if entry > FAULT_TOP else WILD
            k += 1


@kernel
def count_stale(t: P2MTables, h: HostTables, counts: Int64Array, work: Int64Array) -> None:
    """Count the list's entries that the toolstack would read and that are not true any more.

    `counts` (int64[2]) gets those of the frame list list and of the frame list, up to the last
    PFN that the shared info names; `work` (int64[n]) is a workspace. A frame list whose page can't
    be reached counts whole.
    """
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    n = 1 << shift
    counts[0] = 0
    counts[1] = 0
    end = min((state[S_SHARED_MAX] - 1) >> shift, n * n - 1) + 1
    fll = own_pfn(t, h, state[S_SHARED_FLL])
    for top in range((end + n - 1) >> shift):
        stop = min((top + 1) << shift, end)
        word = page_word(t, h, fll, top) if fll >= 0 else INVALID
        true = pfn_to_mfn(t, h, t.true_mid_mfn[top])
        counts[0] += word != true
        page = t.true_mid_mfn[top] if word == true else own_pfn(t, h, word)
        if page < 0:
            counts[1] += stop - (top << shift)
            continue
        counts[1] += _stale_entries(t, h, page, top << shift, stop, work)


@inner_kernel
def _stale_entries(
    t: P2MTables, h: HostTables, page: int, x: int, stop: int, work: Int64Array
) -> int:
    """Count the words of frame list page `page` that are not their leaf's present MFN."""
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    n = 1 << shift
    num_stale = 0
    slot = page_code(t, page)
    if slot >= 0 and state[S_WILD] == 0 and stop <= state[S_NUM_LEAVES]:
        words, leaf_slot, leaf_page = t.words, t.leaf_slot, t.leaf_page
        done = copy_run(words, leaf_slot, leaf_page, shift, x, stop, work)
        if done < stop:
            done = copy_each(words, leaf_slot, leaf_page, shift, done, stop, work)
        if done == stop:
            row = words[slot]
            for k in range(x & (n - 1), (x & (n - 1)) + stop - x):
                num_stale += row[k] != work[k]
            return num_stale
    for k in range(x, stop):
        leaf = leaf_page_of(t, k)
        true = pfn_to_mfn(t, h, leaf) if leaf >= 0 else leaf
        num_stale += page_word(t, h, page, k & (n - 1)) != true
    return num_stale


@kernel
def list_entries(
    t: P2MTables, h: HostTables, tops: Int64Array, lists: Int64Array, mids: BoolArray
) -> None:
    """Write out the list as the toolstack reads it (row 0) beside what would be true (row 1).

    `tops` is int64[2, num_tops], `lists` int64[2, num_leaves], `mids` bool[num_tops] (whether a
    mid page of its own exists). UNREADABLE entries are -2.
    """
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    n = 1 << shift
    fll = own_pfn(t, h, state[S_SHARED_FLL])
    for top in range(tops.shape[1]):
        tops[0, top] = page_word(t, h, fll, top) if fll >= 0 else -2
        tops[1, top] = pfn_to_mfn(t, h, t.true_mid_mfn[top])
        mids[top] = page_at(t, t.words[page_code(t, state[S_TOP]), top]) != state[S_MID_MISSING]
        page = own_pfn(t, h, tops[0, top])
        for x in range(top << shift, min((top + 1) << shift, lists.shape[1])):
            lists[0, x] = page_word(t, h, page, x & (n - 1)) if page >= 0 else -2
            leaf = leaf_page_of(t, x)
            lists[1, x] = pfn_to_mfn(t, h, leaf) if leaf >= 0 else leaf
