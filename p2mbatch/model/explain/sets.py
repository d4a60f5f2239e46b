"""What `set_phys_to_machine` did: what grew, what was stored where, what was wanting.

Entries that need a mere store run compiled; only where the p2m grows, or a shared page is written,
does one entry at a time run with the log on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled import lookup
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.policies.operations import Operations
from p2mbatch.compiled.status import MORE_ROOM, OK
from p2mbatch.model.explain.changes import change_of
from p2mbatch.model.explain.log import Asked, Logged, Reached, Record, Store, Took
from p2mbatch.model.explain.story import Part, Said, Step
from p2mbatch.model.explain.view import View
from p2mbatch.model.life import Round
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.policies import Policy

MAX_LOGGED = 1024
"""Growths of one event that are logged; those that follow run compiled and are told by what the
guest's counts say of each."""


_PAST_THE_END = "mfn != INVALID_P2M_ENTRY"


NEVER_BUILT = "as boot stored it, and this kernel builds no list at a resume"
ANOTHER_FRAME = "that of the frame that the page had when the list was built"


def set_function(policy: Policy) -> str:
    """Return the function that grows the p2m, as kernels of a policy have it."""
    is_entry = policy.is_linear and not policy.whole_area
    return "xen_alloc_p2m_entry()" if is_entry else "alloc_p2m()"


@dataclass
class Grown:
    """One entry's set that was no mere store."""

    pfn: int
    word: int
    records: list[Record] | None
    """None of one that was not logged any more."""
    pages: int
    """Pages of the page allocator that it took."""
    stray: int
    placeholders: int


@dataclass
class Sets:
    """What some sets did."""

    grown: list[Grown] = field(default_factory=list)
    num_plain: int = 0
    """Entries that needed a mere store, or nothing."""


class LoggedSets(Sets):
    """A policy's `set_runs` that logs what is not a mere store."""

    def __init__(self, plain: Operations, logged: Logged) -> None:
        super().__init__()
        self._plain, self._logged = plain, logged
        self._twin = logged.of(plain.set_runs)
        self._marks: list[tuple[int, int]] = []

    def begin(self) -> None:
        """Forget the last event's."""
        self.grown, self.num_plain, self._marks = [], 0, []

    def nth(self, number: int) -> Sets:
        """Return what the event's set of that number did alone."""
        marks = [*self._marks, (len(self.grown), self.num_plain)]
        (first, before), (end, after) = marks[number : number + 2]
        return Sets(self.grown[first:end], after - before)

    def set_runs(self, t: tb.P2MTables, h: tb.HostTables, runs: Int64Array, done: int) -> int:
        """Do `Operations.set_runs`."""
        if done == 0:
            self._marks.append((len(self.grown), self.num_plain))
        state: Any = t.state[0]
        position = int(done)
        for pfn, word, count in _parts(runs, done, 1 << int(state.entries_shift)):
            left = count
            while left:
                at = pfn + count - left
                value = word if word == INVALID else word + count - left
                quiet = self._is_quiet(t, at, value)
                some = left if quiet else 1
                status, number = (self._stored if quiet else self._grow)(t, h, at, value, some)
                position += number
                state.position = position
                if status != OK:
                    return status
                left -= some
        state.position = position
        return OK

    def _stored(
        self, t: tb.P2MTables, h: tb.HostTables, pfn: int, word: int, count: int
    ) -> tuple[int, int]:
        """Set some entries of one leaf; return the status and how many were done."""
        state: Any = t.state[0]
        status = int(self._plain.set_runs(t, h, np.array([[pfn, word, count]], np.int64), 0))
        self.num_plain += int(state.position)
        return status, int(state.position)

    def _grow(
        self, t: tb.P2MTables, h: tb.HostTables, pfn: int, word: int, count: int
    ) -> tuple[int, int]:
        """Do `_stored` where one entry is more than a store, with the log on."""
        state: Any = t.state[0]
        run = np.array([[pfn, word, count]], np.int64)
        counts = ("pool_used", "stray_writes", "placeholder_writes")
        before = [int(state[name]) for name in counts]
        log = self._logged.log
        is_logged = len(self.grown) < MAX_LOGGED
        log.begin()
        if is_logged:
            status = int(self._twin(t, h, run, np.int64(0)))
        else:
            status = int(self._plain.set_runs(t, h, run, 0))
        records = list(log.records) if is_logged else None
        # What is logged next is none of a set's.
        log.begin()
        if status != MORE_ROOM:
            more = [int(state[name]) - was for name, was in zip(counts, before, strict=True)]
            self.grown.append(Grown(pfn, word, records, *more))
        return status, int(state.position)

    def _is_quiet(self, t: tb.P2MTables, pfn: int, word: int) -> bool:
        """Return whether setting a PFN's entry is a mere store, or nothing at all."""
        state: Any = t.state[0]
        x = pfn >> int(state.entries_shift)
        if pfn >= state.max_p2m:
            return word == INVALID
        if state.wild == 0 and x < state.num_leaves:
            page = int(t.leaf_page[x])
        else:
            with np.errstate(over="ignore"):
                page = int(_leaf_page_of(self._logged)(t, np.int64(x)))
        if page == state.missing:
            return word == INVALID
        return page != state.identity and page >= 0


def _leaf_page_of(logged: Logged) -> Any:
    return logged.of(lookup.leaf_page_of)


def _parts(runs: Int64Array, done: int, n: int) -> list[tuple[int, int, int]]:
    """Return runs, but for their first `done` entries, as parts of one leaf each."""
    parts, skip = [], int(done)
    for pfn, word, count in runs.tolist():
        k = min(skip, count)
        skip -= k
        while k < count:
            some = min(count - k, n - (pfn + k) % n)
            parts.append((pfn + k, word if word == INVALID else word + k, some))
            k += some
    return parts


# --- telling --------------------------------------------------------------------------------------


def tell_set(
    before: View,
    after: View,
    sets: Sets,
    runs: Int64Array | None,
    result: EventResult,
    part: Part = "set",
) -> list[Step]:
    """Return the steps of a set that has just run, or of what a guest did while it was sent.

    `runs` are int64[k, 3]; None for those of a whole boot, of which no count is told.
    """
    steps = _Telling(before, after, result).tell(sets, runs)
    return [dataclasses.replace(step, part=part) for step in steps]


def tell_rounds(before: View, after: View, sets: LoggedSets, rounds: Sequence[Round]) -> list[Step]:
    """Return the steps of what a guest did in the rounds of a live migration."""
    steps: list[Step] = []
    for number, (runs, result) in enumerate(rounds):
        say = before.said()
        text = (
            f"Round {say.count(number + 1)} of copying, and the guest goes on: "
            f"{say.count(result.entries_set, 'entry', 'entries')} set."
        )
        if len(rounds) > 1:
            steps.append(Step("live", "set_phys_to_machine()", text, None, say.numbers))
        steps += tell_set(before, after, sets.nth(number), runs, result, "live")
    return steps


class _Telling:
    def __init__(self, before: View, after: View, result: EventResult) -> None:
        self.before, self.after, self.result = before, after, result
        self.function = set_function(before.policy)

    def tell(self, sets: Sets, runs: Int64Array | None) -> list[Step]:
        steps = []
        if sets.num_plain and runs is not None:
            say = self.before.said()
            total = say.count(int(runs[:, 2].sum()), "entry", "entries")
            first = runs[0]
            text = (
                f"{say.count(sets.num_plain)} of {total} need{'s' * (sets.num_plain == 1)} no more "
                f"than a store, or nothing: the runs begin at {say.pfn(first[0])} with "
                f"{self._named(say, int(first[1]))}."
            )
            steps.append(Step("set", "set_phys_to_machine()", text, None, say.numbers))
        failed = self.result.outcome in ("bug", "fault") or not self.result.set_returned
        for grown in sets.grown:
            last = failed and grown is sets.grown[-1]
            steps.append(self._grown(grown, last))
        return steps

    def _grown(self, grown: Grown, last: bool) -> Step:
        view, say = self.before, self.before.said()
        x = grown.pfn >> view.shift
        top = x >> view.shift
        self._top = top
        records = grown.records or []
        stores = [r for r in records if isinstance(r, Store)]
        took = [r for r in records if isinstance(r, Took)]
        pages = [r.page for r in took if r.page >= 0]
        of_top = "" if view.policy.is_two_level else f", top index {say.index(top)}"
        text = (
            f"{say.pfn(grown.pfn)} (leaf {say.index(x)}{of_top}) is to be "
            f"{self._named(say, grown.word)}"
        )
        text += (
            self._count(say, grown) if grown.records is None else self._pages(say, pages)
        ) + "."
        text += self._chain(say, grown, records)
        if grown.placeholders:
            text += (
                f" The store goes into {self._shared(say, stores)} that many PFNs share: "
                f"{say.count(grown.placeholders, 'placeholder write')}."
            )
        if last:
            text += " " + self._failing(say, grown, took)
        elif self._is_identity(grown.word) and not grown.pages:
            text += self._identity(x, bool(stores))
        changes = tuple(change_of(view, store) for store in stores)
        alike: str | None = f"{len(pages)} {grown.placeholders}"
        if grown.records is None:
            alike = f"{grown.pages} {grown.stray} {grown.placeholders} not logged"
        elif grown.stray:
            alike = None
        in_set = self.result.detail == _PAST_THE_END if last else not (pages or grown.pages)
        function = "set_phys_to_machine()" if in_set else self.function
        return Step(
            "set", function, text, False if last or grown.stray else None, say.numbers,
            changes, grown.stray, sum(s.count for s in stores), None if last else alike, x,
            unit="leaf",
        )  # fmt: skip

    def _is_identity(self, word: int) -> bool:
        return bool(word != INVALID and word & int(self.before.state.identity_bit))

    def _named(self, say: Said, word: int) -> str:
        """Return what an entry is to be."""
        return f"identity, {say.word(word)}" if self._is_identity(word) else say.mfn(word)

    def _shared(self, say: Said, stores: list[Store]) -> str:
        """Return the page that a placeholder write went to, as far as it was logged."""
        return f"{self.after.name(say, stores[-1].page)}, a page" if stores else "a page"

    def _identity(self, x: int, has_stored: bool) -> str:
        """Return what becomes of a leaf without a page of its own that an entry makes identity."""
        if self.after.leaf(x) != self.after.state.identity:
            return ""
        if not has_stored:
            return " Its leaf is p2m_identity, which says so already: nothing is stored."
        return (
            " Its leaf was p2m_missing and is p2m_identity: all of its PFNs read as identity now."
        )

    def _count(self, say: Said, grown: Grown) -> str:
        """Return what is known of a growth that was not logged."""
        text = f": the p2m grows by {say.count(grown.pages, 'page')}" if grown.pages else ""
        if grown.stray:
            text += f", with {say.count(grown.stray, 'stray write')}"
        return text

    def _pages(self, say: Said, pages: list[int]) -> str:
        """Return which pages were taken, and what for."""
        if not pages:
            return ""
        named = []
        for page in pages:
            what = self.after.what(say, page)
            named.append(f"{say.pfn(page)} as {what}")
        return f": the p2m grows, with {', '.join(named)}"

    def _chain(self, say: Said, grown: Grown, records: list[Record]) -> str:
        """Return how a store through an old MFN went."""
        asked = [r for r in records if isinstance(r, Asked)]
        reached = [r for r in records if isinstance(r, Reached)]
        if not asked:
            return ""
        mfn, pfn = asked[-1]
        text = (
            f" Its page of the list is looked for by p2m_top_mfn[{say.index(self._top)}], "
            f"{say.mfn(mfn)}: mfn_to_virt() asks m2p and gets {say.pfn(pfn)}"
        )
        if grown.stray and reached:
            page = reached[-1].page
            text += (
                f", {self.before.name(say, page)}: the leaf's MFN is stored there, "
                f"{say.count(grown.stray, 'stray write')}"
            )
        return text + "."

    def _failing(self, say: Said, grown: Grown, took: list[Took]) -> str:
        """Return what ended the set."""
        view, detail = self.after, self.result.detail
        if not self.result.set_returned:
            return (
                f"alloc_p2m_page() returns NULL for {self._which(took)} page that it needs, "
                "so set_phys_to_machine() returns false, and what was installed stays."
            )
        if detail == "virt_to_mfn(mid_mfn) != *top_mfn_p":
            page = int(view.t.true_mid_mfn[self._top])
            word = view.word(int(view.state.top_mfn), self._top)
            walked = self._top << 2 * view.shift < view.state.max_p2m_pfn or view.policy.is_linear
            why = ANOTHER_FRAME if walked else "of an earlier one, for no rebuild reaches it"
            if not view.policy.rebuilds:
                why = NEVER_BUILT
            return (
                f"p2m_top_mfn_p leads to {view.name(say, page)}, which is {say.mfn(view.mfn(page))}"
                f" on this host; p2m_top_mfn[{say.index(self._top)}] is {say.mfn(word)}, {why}: "
                f"BUG_ON({detail})."
            )
        if detail == "mid_mfn store":
            return "The store is a fault: no page can be reached there."
        if detail == _PAST_THE_END:
            end = say.pfn(view.state.max_p2m)
            return f"The p2m ends at {end}: BUG_ON({detail})."
        if detail == "p == NULL":
            return (
                f"alloc_p2m() gets no page and does not take NULL for an answer: BUG_ON({detail})."
            )
        if detail == "!ptep || level != PG_LEVEL_4K":
            end = say.pfn(int(view.state.num_leaves) << view.shift)
            return f"The area ends at {end}, and past it there is no pte: BUG_ON({detail})."
        if self.result.outcome == "bug":
            return f"BUG_ON({detail})."
        return f"A wild pointer is in the way: a fault, at the {detail}."

    def _which(self, took: list[Took]) -> str:
        """Return which of the pages that a growth asked for it did not get, as far as is known."""
        if not took:
            return "a"
        return ("the first", "the second", "the third", "the fourth")[min(len(took) - 1, 3)]
