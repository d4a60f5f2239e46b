"""What must hold of a life: the seven rules of a hunt, looked at as each event ends.

(1) No boot, set or resume ends in a bug or a fault, but for `p == NULL` and `Out of memory`.
(2) After a resume the entries of the list that a toolstack reads name the true pages.
(3) No store is stray, or into a page that many PFNs share. (4) No page is lost, none appears.
(5) No migration is refused, or sends what is not the p2m. (6) A set that had memory succeeds, and
its entries read as they were set. (7) An entry never set reads INVALID, or its PFN's identity.
"""

from __future__ import annotations

import dataclasses

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.hunt.calls import Calls
from p2mbatch.compiled.hunt.fit import meaning
from p2mbatch.compiled.hunt.kinds import FLAT, Kind
from p2mbatch.compiled.hunt.program import SET, Program
from p2mbatch.compiled.hunt.room import CHUNK, Room
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline
from p2mbatch.compiled.lookup import leaf_page_of
from p2mbatch.compiled.loops import all_invalid
from p2mbatch.compiled.owners import own_pfn
from p2mbatch.compiled.pages import page_code, page_word
from p2mbatch.compiled.records import NO_PAGE, OneRecord, record_dtype
from p2mbatch.compiled.save import is_shared
from p2mbatch.compiled.tables import HostTables, P2MTables

NUM_RULES = 7

WAS_REFUSED, LIST_WRONG, WAS_HIT = range(3)
"""What a life came through: a set had no memory, the list was wrong when it was looked at last, a
store was stray. Indices of `Room.so_far`."""

OF_HIT = 1 << 8
"""In a signature: strays have hit the guest."""


@dataclasses.dataclass(slots=True, kw_only=True)
class Break:
    """Where a life first broke one rule."""

    event: int = -1
    """The event's index; -1 where the rule held."""
    signature: int = 0
    """What broke, in one number, so that kinds can be told before a trace is made: the rule, the
    event's op, the status, migrations before it (at most 2), and what and where the rule adds."""


BREAK = record_dtype(Break)


@inner_kernel
def note(
    breaks: OneRecord[Break],
    rule: int,
    event: int,
    op: int,
    status: int,
    moves: int,
    more: int,
) -> None:
    """Note that a rule is broken, if it has not been before. `more` is below 4096."""
    if breaks[rule - 1].event >= 0:
        return
    found = breaks[rule - 1]
    found.event = event
    found.signature = ((((rule << 2 | op) << 7 | status & 127) << 2 | min(moves, 2)) << 12) | more


@inner_kernel
def wrong_in_list(t: P2MTables, h: HostTables) -> int:
    """Return what is wrong with the list that a toolstack finds; 0 where all is right.

    1: the reported frame is no page of the guest's; 2 more where a top entry is none, or 4 where
    under it are shared leaves alone; 8 more where an entry leads to no true leaf of its own, 16
    where to no shared one. `p2m_missing` and `p2m_identity` count as equal. Entries behind
    the walk's trim are not read, and no list of a guest that reports a table is.
    """
    never_inline()
    state = t.state[0]
    if state.shared_cr3 != 0:
        return as_int(0)
    shift = state.entries_shift
    n = 1 << shift
    fll = own_pfn(t, h, state.shared_fll)
    if fll < 0:
        return as_int(1)
    num_leaves = min(((state.shared_max - 1) >> shift) + 1, n * n)
    last = as_int(0)
    for top in range(1, (num_leaves + n - 1) >> shift):
        if page_word(t, h, fll, top) != page_word(t, h, fll, last):
            last = as_int(top)
    found = as_int(0)
    for top in range(last + 1):
        page = own_pfn(t, h, page_word(t, h, fll, top))
        x, stop = top << shift, min((top + 1) << shift, num_leaves)
        if page >= 0:
            found |= 8 * _wrong_below(t, h, page, x, stop)
        else:
            found |= 4 if _all_shared(t, x, stop) else 2
    return found


@inner_kernel
def _all_shared(t: P2MTables, x: int, stop: int) -> bool:
    """Return whether leaves `x` to `stop` are all of the pages that many leaves share."""
    found = True
    for k in range(x, stop):
        found = found and is_shared(t, leaf_page_of(t, k))
    return found


@inner_kernel
def _wrong_below(t: P2MTables, h: HostTables, page: int, x: int, stop: int) -> int:
    """Return what of frame list `page`, for leaves `x` to `stop`, is not true; 0 if all is.

    1 where an entry of a leaf of its own is not, 2 more where one of a shared leaf.
    """
    never_inline()
    found = as_int(0)
    mask = t.words.shape[1] - 1
    # Most entries of a far PFN's list are those before them again.
    word, leaf = as_int(0), as_int(NO_PAGE)
    for k in range(x, stop):
        next_word, next_leaf = page_word(t, h, page, k & mask), leaf_page_of(t, k)
        if k > x and next_word == word and next_leaf == leaf:
            continue
        word, leaf = next_word, next_leaf
        listed = own_pfn(t, h, word)
        alike = listed >= 0 and leaf >= 0 and is_shared(t, listed) and is_shared(t, leaf)
        if listed != leaf and not alike:
            found |= 2 if is_shared(t, leaf) else 1
    return found


@inner_kernel
def where_stopped(t: P2MTables, program: Program, k: int, room: Room) -> int:
    """Return what tells bugs of one status apart: 1, 2 and 4 are added up.

    1: a set had no memory before; 2: a set stopped at a PFN of a top entry past the end of the
    list; 4: a top entry of the list's end has no page and begins with `p2m_identity`.
    """
    never_inline()
    state, event = t.state[0], program.events[k]
    found = as_int(room.so_far[WAS_REFUSED])
    top_shift = 2 * state.entries_shift
    last = (state.xen_max - 1) >> top_shift
    if event.op == SET:
        left = as_int(state.position)
        for r in range(event.num_runs):
            run = program.runs[k, r]
            if 0 <= left < run[2] and (run[0] + left) >> top_shift > last:
                found |= 2
            left -= run[2]
    if state.identity == NO_PAGE:
        return found
    for top in range(min(last + 1, len(t.true_mid_mfn))):
        x = top << state.entries_shift
        if t.true_mid_mfn[top] == state.mid_missing_mfn and x < state.num_leaves:
            found |= 4 * as_int(t.leaf_page[x] == state.identity)
    return found


# --- what a set gives back ---------------------------------------------------------------------


@inner_kernel
def reads_back(
    t: P2MTables, h: HostTables, kind: Kind, room: Room, calls: Calls, runs: Int64Array, done: int
) -> int:
    """Return 0 if the first `done` entries that `runs` set read as they were set last.

    Else 1 + what kind of word did not (`fit.meaning`).
    """
    never_inline()
    begin = as_int(0)
    for r in range(len(runs)):
        count = min(runs[r, 2], done - begin)
        begin += runs[r, 2]
        step = as_int(runs[r, 1] != INVALID)
        k = as_int(0)
        while k < count:
            some = min(count - k, as_int(CHUNK))
            for j in range(some):
                room.pfns[j] = runs[r, 0] + k + j
            calls.get(t, h, room.pfns[:some], room.entries[:some])
            for j in range(some):
                wanted = runs[r, 1] + step * (k + j)
                if room.entries[j] != wanted and not _set_later(
                    runs, r, begin, done, runs[r, 0] + k + j
                ):
                    return 1 + meaning(kind, runs[r, 1])
            k += some
    return as_int(0)


@inner_kernel
def _set_later(runs: Int64Array, r: int, begin: int, done: int, pfn: int) -> bool:
    """Return whether a run after `r` set `pfn` too; `begin` entries are before that run."""
    for k in range(r + 1, len(runs)):
        if 0 <= pfn - runs[k, 0] < min(runs[k, 2], done - begin):
            return True
        begin += runs[k, 2]
    return False


# --- what was never set ------------------------------------------------------------------------


@inner_kernel
def never_set(
    t: P2MTables, h: HostTables, kind: Kind, program: Program, end: int, room: Room, calls: Calls
) -> int:
    """Return 0 if every entry never set reads as nothing or as the PFN's identity, where it may.

    Else 1 where one reads as frame 0, 2 as another word; 4 more in a leaf that it shares, 8 more in
    the leaf that memory ends in. `end` is
    how many of the program's events there were. All PFNs of the leaves up to the end of memory and
    of what sets have reached are looked at.
    """
    never_inline()
    guest, shift = program.guest[0], t.state[0].entries_shift
    bound = max(guest.nr_pages, guest.max_p2m_pfn)
    if kind.family == FLAT:
        bound = guest.nr_pages
    for k in range(1, end):
        for r in range(program.events[k].num_runs if program.events[k].op == SET else as_int(0)):
            bound = max(bound, program.runs[k, r, 0] + program.runs[k, r, 2])
    for k in range(guest.num_extra):
        bound = max(bound, program.extra[k, 0] + program.extra[k, 1])
    first_leaf = guest.nr_pages >> shift
    stop = (bound + (1 << shift) - 1) >> shift
    if kind.two_level != 0 or kind.family == FLAT:
        stop = min(stop, t.state[0].num_leaves)
    # A page that many leaves share is looked at once.
    holes_read = as_int(-1)
    for x in range(first_leaf, stop):
        is_cached = t.state[0].wild == 0 and x < len(t.leaf_page)
        page = as_int(t.leaf_page[x]) if is_cached else leaf_page_of(t, x)
        if page == t.state[0].identity and page >= 0:
            continue
        if page == t.state[0].missing:
            if holes_read < 0:
                slot = page_code(t, page)
                holes_read = as_int(slot >= 0 and all_invalid(t.words[slot]))
            if holes_read == 1:
                continue
        found = _odd_entry(t, h, kind, program, end, x, page, room, calls)
        if found != 0:
            is_tail = x == first_leaf and guest.nr_pages & ((1 << shift) - 1) != 0
            return found + 4 * as_int(page == t.state[0].missing) + 8 * as_int(is_tail)
    return as_int(0)


@inner_kernel
def _odd_entry(
    t: P2MTables,
    h: HostTables,
    kind: Kind,
    program: Program,
    end: int,
    x: int,
    page: int,
    room: Room,
    calls: Calls,
) -> int:
    """Return 0 if all entries of leaf `x` that were never set read as they may; else `never_set`'s.

    `page` is its page, below 0 behind a wild pointer.
    """
    never_inline()
    shift = t.state[0].entries_shift
    first = max(x << shift, program.guest[0].nr_pages)
    slot = page_code(t, page)
    if slot >= 0 and all_invalid(t.words[slot, first - (x << shift) :]):
        return as_int(0)
    count = ((x + 1) << shift) - first
    for i in range(count):
        room.pfns[i] = first + i
    entries = room.entries[:count]
    calls.get(t, h, room.pfns[:count], entries)
    for i in range(count):
        word = entries[i]
        if word != INVALID and not _may_read(kind, program, end, first + i, word, room):
            return as_int(1 if word == 0 else 2)
    return as_int(0)


@inner_kernel
def _may_read(kind: Kind, program: Program, end: int, pfn: int, word: int, room: Room) -> bool:
    """Return whether `pfn` was set, or may read as its identity and does."""
    if kind.identity_bit != 0 and word == pfn | kind.identity_bit:
        size = (program.guest[0].nr_pages + 511) // 512 * 512
        if (kind.family == FLAT and pfn >= size) or _is_marked(kind, program, pfn):
            return True
    return was_set(program, end, pfn, room)


@inner_kernel
def was_set(program: Program, end: int, pfn: int, room: Room) -> bool:
    """Return whether any set so far has set `pfn`, before it stopped if it did."""
    for k in range(1, end):
        if program.events[k].op != SET:
            continue
        left = as_int(room.entries_set[k])
        for r in range(program.events[k].num_runs):
            run = program.runs[k, r]
            if 0 <= pfn - run[0] < min(run[2], left):
                return True
            left -= run[2]
    return False


@inner_kernel
def _is_marked(kind: Kind, program: Program, pfn: int) -> bool:
    """Return whether boot marked `pfn` 1:1."""
    for k in range(program.guest[0].num_ranges):
        start, stop = program.ranges[k, 0], program.ranges[k, 1]
        if kind.family == FLAT:
            stop += start
        if start <= pfn < stop:
            return True
    return False
