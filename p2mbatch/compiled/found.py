"""A migration where several leaves may share a page: what a save finds is kept for the restore.

Source: policies-spec P0. The list may lag behind the p2m between placeholder pages, and a page that
is named for several leaves is read, and written, at each of them. The restore is for table hosts.
"""

from __future__ import annotations

from p2mbatch.base.arrays import Int32Array, Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel
from p2mbatch.compiled.lookup import leaf_page_of
from p2mbatch.compiled.loops import copy_words
from p2mbatch.compiled.owners import m2p, own_pfn, set_present
from p2mbatch.compiled.pages import page_code, page_word
from p2mbatch.compiled.save import is_shared
from p2mbatch.compiled.status import (
    MISDIRECTED,
    OK,
    RESTORE_POPULATE,
    SAVE_BAD_MFN_FL,
    SAVE_BAD_MFN_LIST,
    SAVE_MAP_LEAVES,
)
from p2mbatch.compiled.tables import LEGACY, HostTables, P2MTables


@kernel
def listed_leaves(t: P2MTables, h: HostTables, lists: Int64Array, mfns: Int64Array) -> int:
    """Read the frame lists (`lists`: their PFNs, int64[n]) to `mfns` (int64[leaves]).

    Returns OK or a SAVE_ code.
    """
    state = t.state[0]
    shift = state.entries_shift
    for x in range(len(mfns)):
        mfns[x] = page_word(t, h, lists[x >> shift], x & ((1 << shift) - 1))
        if state.toolstack != LEGACY and (mfns[x] <= 0 or mfns[x] > h.par[0].frames):
            state.detail = x
            return SAVE_BAD_MFN_FL
    return OK


@kernel
def map_leaves(
    t: P2MTables, h: HostTables, mfns: Int64Array, found: Int32Array, max_pfn: int
) -> int:
    """Do the checks that every walk ends in, on the leaves' MFNs; return OK or a SAVE_ code.

    `found` (int32[leaves]) gets the PFN of each leaf's page, and `State.walked_max_pfn` is the last
    PFN that would be saved.
    """
    state = t.state[0]
    # Holes have one leaf, many times over: what holds of one is not asked of the next.
    for x in range(len(mfns)):
        if x > 0 and mfns[x] == mfns[x - 1]:
            found[x] = found[x - 1]
            continue
        page = own_pfn(t, h, mfns[x])
        if page < 0:
            state.detail = x
            return SAVE_MAP_LEAVES
        found[x] = page
    for x in range(len(mfns)):
        if (x == 0 or mfns[x] != mfns[x - 1]) and not names_itself(t, h, found, mfns[x], max_pfn):
            state.detail = x
            return SAVE_BAD_MFN_LIST
    state.walked_max_pfn = max_pfn
    return OK


@inner_kernel
def names_itself(t: P2MTables, h: HostTables, found: Int32Array, mfn: int, max_pfn: int) -> bool:
    """Return whether m2p has a PFN to `max_pfn` for `mfn` that the found leaves have `mfn` for."""
    pfn = m2p(t, h, mfn)
    if not 0 <= pfn <= max_pfn:
        return False
    shift = t.state[0].entries_shift
    return page_word(t, h, as_int(found[pfn >> shift]), pfn & ((1 << shift) - 1)) == mfn


@kernel
def compare_leaves(t: P2MTables, found: Int32Array) -> int:
    """Return MISDIRECTED if a page found is not its leaf's; the placeholder leaves are alike.

    A slot past the table of a linear p2m counts as `p2m_identity`.
    """
    for x in range(len(found)):
        page = leaf_page_of(t, x)
        if found[x] != page and not (is_shared(t, page) and is_shared(t, as_int(found[x]))):
            return MISDIRECTED
    return OK


@kernel
def restore_found(
    t: P2MTables,
    h: HostTables,
    to: HostTables,
    found: Int32Array,
    old: Int64Array,
    own_only: bool,
    all_named: bool,
) -> int:
    """Give the guest its frames on `to`, and overwrite the leaves that a save on `h` found.

    `own_only`: what is sent are frames that the guest owns, not all words but INVALID.
    `all_named`: what is sent and has no frame is refused. `old` (int64[n]) is a workspace. Returns
    OK, or RESTORE_POPULATE with nothing changed and the PFN in `State.detail`.
    """
    state = t.state[0]
    shift = state.entries_shift
    n = 1 << shift
    max_pfn = state.walked_max_pfn
    end = (max_pfn >> shift) + 1
    identity = page_code(t, state.identity)
    blank = True
    if identity >= 0:
        copy_words(t.words[identity], old)
        for i in range(n):
            blank = blank and old[i] == INVALID
    if all_named:
        pfn = _first_unnamed(t, h, to, found, own_only, blank)
        if pfn <= max_pfn:
            state.detail = pfn
            return RESTORE_POPULATE
    state.saved_max_pfn = max_pfn
    if state.clears_fll != 0:
        state.shared_fll = 0
    t.present[:] = 0
    run = 0
    for x in range(end):
        slot = page_code(t, as_int(found[x]))
        # `p2m_missing` is never written to: it stays all INVALID, and so may `p2m_identity`.
        if found[x] != state.missing and not (blank and found[x] == state.identity):
            words = old if slot == identity else t.words[slot]
            run = _restore_leaf(t, h, to, words, slot, x, own_only, run)
    return OK


@inner_kernel
def _is_sent(h: HostTables, word: int, own_only: bool) -> bool:
    """Return whether a word of a leaf is sent from `h`."""
    if own_only:
        return 0 <= word < h.par[0].frames and h.owned[word] != 0
    return word != INVALID


@inner_kernel
def _run_of(to: HostTables, run: int, pfn: int) -> int:
    """Return the first run of the host's domain from `run` on that does not end before `pfn`."""
    while run < len(to.domain) and to.domain[run, 0] + to.domain[run, 2] <= pfn:
        run += 1
    return run


@inner_kernel
def _first_unnamed(
    t: P2MTables,
    h: HostTables,
    to: HostTables,
    found: Int32Array,
    own_only: bool,
    blank: bool,
) -> int:
    """Return the lowest PFN that is sent and that `to` names no frame for, or one not saved.

    `blank`: `p2m_identity` is all INVALID.
    """
    state = t.state[0]
    shift = state.entries_shift
    end = state.walked_max_pfn + 1
    run = as_int(0)
    for x in range((end + (1 << shift) - 1) >> shift):
        # `p2m_missing` is never written to: it stays all INVALID.
        if found[x] == state.missing or (blank and found[x] == state.identity):
            continue
        words = t.words[page_code(t, as_int(found[x]))]
        pfn, stop = x << shift, min((x + 1) << shift, end)
        while pfn < stop:
            run = _run_of(to, run, pfn)
            named = stop if run == len(to.domain) else min(max(to.domain[run, 0], pfn), stop)
            while pfn < named:
                if _is_sent(h, words[pfn - (x << shift)], own_only):
                    return pfn
                pfn += 1
            if pfn < stop:
                pfn = to.domain[run, 0] + to.domain[run, 2]
    return end


@inner_kernel
def _restore_leaf(
    t: P2MTables,
    h: HostTables,
    to: HostTables,
    words: Int64Array,
    slot: int,
    x: int,
    own_only: bool,
    run: int,
) -> int:
    """Overwrite the page in `slot` as leaf `x` up to the last PFN saved; return the next run."""
    shift = t.state[0].entries_shift
    base = x << shift
    for pfn in range(base, min(base + (1 << shift), t.state[0].saved_max_pfn + 1)):
        mfn = INVALID
        if _is_sent(h, words[pfn - base], own_only):
            run = _run_of(to, run, pfn)
            if run < len(to.domain) and to.domain[run, 0] <= pfn:
                mfn = to.domain[run, 1] + pfn - to.domain[run, 0]
                to.m2p[mfn] = pfn
                to.owned[mfn] = 1
                set_present(t, pfn, True)
        t.words[slot, pfn - base] = mfn
    return run
