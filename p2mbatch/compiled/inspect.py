"""What reads a guest's state and changes nothing: the list, the p2m, what has gone stale."""

from __future__ import annotations

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.base.geometry import FOREIGN_FRAME_BIT, INVALID, WILD
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel
from p2mbatch.compiled.lookup import get_phys_to_machine, leaf_page_of, pfn_to_mfn
from p2mbatch.compiled.loops import copy_each, copy_run, copy_words
from p2mbatch.compiled.owners import own_pfn
from p2mbatch.compiled.pages import page_at, page_code, page_word
from p2mbatch.compiled.save import is_shared
from p2mbatch.compiled.status import FAULT_TOP
from p2mbatch.compiled.tables import (
    LEAF,
    NO_PAGE,
    P_KIND,
    P_LEAF,
    HostTables,
    P2MTables,
)

# --- what reads the state ----------------------------------------------------------------------


@kernel
def frame_list(t: P2MTables, out: Int64Array) -> None:
    """Write to `out` (int64[leaves]) each leaf's entry in the true mid_mfn page of its top."""
    shift = t.state[0].entries_shift
    n = 1 << shift
    for x in range(len(out)):
        slot = page_code(t, t.true_mid_mfn[x >> shift])
        out[x] = t.words[slot, x & (n - 1)]


@kernel
def leaf_pages(t: P2MTables, out: Int64Array) -> None:
    """Write to `out` (int64[leaves]) the PFN of each leaf by the tree's pointers; < 0: wild."""
    for x in range(len(out)):
        out[x] = leaf_page_of(t, x)


@kernel
def p2m_words(t: P2MTables, h: HostTables, first: int, out: Int64Array) -> None:
    """Write the entries of PFNs from `first` on to `out` (int64[k]), WILD behind a wild pointer."""
    state = t.state[0]
    shift = state.entries_shift
    n = 1 << shift
    k = 0
    while k < len(out):
        # All that one leaf holds of these PFNs at once.
        pfn = first + k
        x = pfn >> shift
        i = pfn & (n - 1)
        part = out[k : min(k + n - i, len(out))]
        if state.wild == 0 and x < state.num_leaves and t.leaf_slot[x] >= 0:
            copy_words(t.words[t.leaf_slot[x], i : i + len(part)], part)
        elif state.wild != 0 and pfn + len(part) <= state.max_p2m:
            _walked_words(t, h, x, i, part)
        else:
            for j in range(len(part)):
                entry = get_phys_to_machine(t, h, pfn + j)
                part[j] = entry if entry > FAULT_TOP else WILD
        k += len(part)


@inner_kernel
def _walked_words(t: P2MTables, h: HostTables, x: int, i: int, out: Int64Array) -> None:
    """Write words of leaf `x` from `i` on to `out` (int64[k]), found by the pointers' own words."""
    page = leaf_page_of(t, x)
    code = page_code(t, page)
    if page >= 0 and code >= 0:
        copy_words(t.words[code, i : i + len(out)], out)
        return
    for j in range(len(out)):
        out[j] = page_word(t, h, page, i + j) if page >= 0 else WILD


@kernel
def count_stale(t: P2MTables, h: HostTables, counts: Int64Array, work: Int64Array) -> None:
    """Count the list's entries that the toolstack would read and that are not true any more.

    `counts` (int64[2]) gets those of the frame list list and of the frame list, up to the last
    PFN that the shared info names; `work` (int64[n]) is a workspace. A frame list whose page can't
    be reached counts whole.
    """
    state = t.state[0]
    shift = state.entries_shift
    n = 1 << shift
    counts[0] = 0
    counts[1] = 0
    if state.no_list != 0:
        return
    end = min((state.shared_max - 1) >> shift, n * n - 1) + 1
    cached = end
    if state.top == NO_PAGE:
        # Of a linear p2m's blocks beyond, all share the page that the list has for missing ones.
        cached = min(end, state.num_leaves)
    fll = own_pfn(t, h, state.shared_fll)
    listed = state.listed if state.listed_event == state.event and state.wild == 0 else as_int(0)
    for top in range((end + n - 1) >> shift):
        stop = min((top + 1) << shift, max(cached, top << shift))
        word = page_word(t, h, fll, top) if fll >= 0 else INVALID
        true = pfn_to_mfn(t, h, t.true_mid_mfn[top])
        counts[0] += word != true
        page = t.true_mid_mfn[top] if word == true else own_pfn(t, h, word)
        if page < 0:
            counts[1] += stop - (top << shift)
            continue
        if word == true and stop <= listed and page != state.mid_missing_mfn:
            # What this event's rebuild has just stored there.
            continue
        counts[1] += _stale_entries(t, h, page, top << shift, stop, work)


@inner_kernel
def _stale_entries(
    t: P2MTables, h: HostTables, page: int, x: int, stop: int, work: Int64Array
) -> int:
    """Count the words of frame list page `page` that are not their leaf's present MFN."""
    state = t.state[0]
    shift = state.entries_shift
    n = 1 << shift
    num_stale = 0
    slot = page_code(t, page)
    if slot >= 0 and state.wild == 0 and stop <= state.num_leaves:
        words, leaf_slot, leaf_page = t.words, t.leaf_slot, t.leaf_page
        flags = state.flag_bits if state.flag_bits != 0 else as_int(FOREIGN_FRAME_BIT)
        done = copy_run(words, leaf_slot, leaf_page, shift, x, stop, work, flags)
        if done < stop:
            done = copy_each(words, leaf_slot, leaf_page, shift, done, stop, work, flags)
        if done == stop:
            i = x & (n - 1)
            num_stale = _num_different(words[slot, i : i + stop - x], work[i : i + stop - x])
            if num_stale == 0 or state.identity == NO_PAGE:
                return num_stale
    num_stale = 0
    for k in range(x, stop):
        leaf = leaf_page_of(t, k)
        true = pfn_to_mfn(t, h, leaf) if leaf >= 0 else leaf
        word = page_word(t, h, page, k & (n - 1))
        if word != true and state.identity != NO_PAGE and is_shared(t, leaf):
            # Which of the shared leaves the list names makes no difference (policies-spec P0).
            other = state.missing if leaf == state.identity else state.identity
            true = pfn_to_mfn(t, h, other)
        num_stale += word != true
    return num_stale


@inner_kernel
def _num_different(row: Int64Array, other: Int64Array) -> int:
    """Return how many words of two rows differ."""
    differ = as_int(0)
    for k in range(len(row)):
        differ += row[k] != other[k]
    return differ


@kernel
def count_identity(t: P2MTables, end: int) -> int:
    """Return how many words in leaves of their own, below PFN `end`, say that it is 1:1."""
    bit = t.state[0].identity_bit
    found = as_int(0)
    n = t.words.shape[1]
    for slot in range(t.state[0].num_slots):
        x = t.slots[slot, P_LEAF]
        if t.slots[slot, P_KIND] != LEAF or x < 0:
            continue
        for i in range(min(n, end - x * n)):
            found += t.words[slot, i] == (x * n + i) | bit
    return found


@kernel
def list_entries(
    t: P2MTables, h: HostTables, tops: Int64Array, lists: Int64Array, mids: BoolArray
) -> None:
    """Write out the list as the toolstack reads it (row 0) beside what would be true (row 1).

    `tops` is int64[2, num_tops], `lists` int64[2, num_leaves], `mids` bool[num_tops] (whether a
    mid page of its own exists). UNREADABLE entries are -2.
    """
    state = t.state[0]
    shift = state.entries_shift
    n = 1 << shift
    fll = own_pfn(t, h, state.shared_fll)
    for top in range(tops.shape[1]):
        tops[0, top] = page_word(t, h, fll, top) if fll >= 0 else -2
        tops[1, top] = pfn_to_mfn(t, h, t.true_mid_mfn[top])
        mids[top] = page_at(t, t.words[page_code(t, state.top), top]) != state.mid_missing
        page = own_pfn(t, h, tops[0, top])
        for x in range(top << shift, min((top + 1) << shift, lists.shape[1])):
            lists[0, x] = page_word(t, h, page, x & (n - 1)) if page >= 0 else -2
            leaf = leaf_page_of(t, x)
            lists[1, x] = pfn_to_mfn(t, h, leaf) if leaf >= 0 else leaf
