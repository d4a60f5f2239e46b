"""The seven rules that a life within the hunt's world must not break (design section 7).

A life is lived event by event on the ordinary model and looked at after each. All rules that an
event breaks are told, each kind at its first event. A guest that breaks rule 2, 3 or 7 lives on
whole, and what it comes to next is told too; after any other the life is over: it has lost
something, and what follows is no fault of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from p2mbatch.hunt.look import Pages, wrong_in_list
from p2mbatch.hunt.losses import ghosts_by_place, lost_by_place
from p2mbatch.hunt.sets import check_set
from p2mbatch.hunt.unset import Unset
from p2mbatch.hunt.world import NO_BOOT, outside, outside_now
from p2mbatch.model.life import Life
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.replay import new_life, run_event
from p2mbatch.model.trace import Trace, goes_on

RULES = {
    1: "no boot, set or resume ends in a BUG or a fault",
    2: "after a resume the list names the true pages",
    3: "nothing is stored into pages that are not the list's, or that many PFNs share",
    4: "a migration loses no page, and adds none",
    5: "a migration is not refused",
    6: "a set that had memory succeeds, and reads back",
    7: "an entry that was never set reads INVALID, or 1:1 where that was asked for",
}
"""What must hold, by the rule's number."""

LIVES_ON = (2, 3, 7)
"""Rules after which a life is looked at further."""

ALLOWED = ("p == NULL", "Out of memory")
"""BUGs by which a kernel says that there is no memory: no rule is broken."""


@dataclass(frozen=True)
class Broken:
    """A rule that an event of a life broke."""

    rule: int
    event: int
    """The event's index in the trace."""
    what: str
    """What broke: "resume-bug", "stray-writes", "lost-pages", …"""
    where: str = ""
    """The BUG's expression, what was reached, which check, which kind of page."""
    detail: str = ""
    """The numbers of this one, for a person."""


@dataclass(frozen=True)
class Judgement:
    """What a life came to."""

    broken: tuple[Broken, ...]
    """In the order of events, of one event by the rules' numbers; each (rule, what, where) once."""
    outside: str | None
    """Why the life is not within the hunt's world; nothing is told of one that is not."""

    @property
    def first(self) -> Broken | None:
        """Return what broke first."""
        return self.broken[0] if self.broken else None


def judge(trace: Trace) -> Judgement:
    """Live `trace` and return what it broke. Raises `ResourceError` as a replay does."""
    found: dict[tuple[int, str, str], Broken] = {}
    why = outside(trace)
    if why is None:
        try:
            for broken in _Judge(trace).run():
                found.setdefault((broken.rule, broken.what, broken.where), broken)
        except _Outside as error:
            why = str(error)
    return Judgement(() if why else tuple(found.values()), why)


def broken(trace: Trace) -> Broken | None:
    """Return the first rule that `trace` breaks; None where it breaks none or is outside."""
    return judge(trace).first


def in_world(trace: Trace) -> str | None:
    """Return why a life is not within the hunt's world; None where it is."""
    return judge(trace).outside


class _Outside(Exception):
    """The life has left the world."""


class _Judge:
    """One life, looked at after each event."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.life: Life = new_life(trace)
        self.unset = Unset(trace, self.life)
        self.on = 0
        self.moves = 0
        self.list_was_wrong = self.was_hit = self.was_refused_memory = False

    def run(self) -> Iterator[Broken]:
        """Yield what the life breaks. Raises `_Outside` where it leaves the world."""
        for index, event in enumerate(self.trace.events):
            over = False
            for rule, what, where, detail in self._after(event):
                over = over or rule not in LIVES_ON
                yield Broken(rule, index, what, where, detail)
            if over or not self.alive:
                return

    def _after(self, event: dict[str, Any]) -> list[tuple[int, str, str, str]]:
        """Run one event; return (rule, what, where, detail) of what it broke, rules ascending."""
        op, life = event["op"], self.life
        if op == "fail_alloc":
            run_event(life, self.trace, event)
            self.alive = True
            return []
        if op == "set" and (why := outside_now(self.trace, life, event, self.on)):
            raise _Outside(why)
        before = Pages(life) if op == "migrate" else None
        state = life.tables.state[0]
        asked, reported = int(state.allocs), int(state.shared_max)
        result = run_event(life, self.trace, event)
        self.alive = goes_on(event, result.outcome)
        if op == "boot" and result.outcome == "bug" and result.detail in NO_BOOT:
            raise _Outside(f"boot: {result.detail}: not memory enough to boot")
        if op == "migrate" and result.ok:
            self.on, self.moves = event["host"], self.moves + 1
        if op == "boot":
            self.on = event["host"]
        found = list(self._ended(op, event, result)) + list(self._strays(op, result))
        if result.ok and op == "migrate" and before is not None:
            found += self._moved(before, reported)
        if result.ok and op == "set":
            self.unset.note(event["runs"], result.entries_set)
            found += check_set(life, self.trace, event["runs"], result, asked, self.was_hit)
            self.was_refused_memory |= not result.set_returned
        if result.ok:
            found += [(7, *told) for told in self.unset.check(self.was_hit)]
        return sorted(found, key=lambda told: told[0])

    # --- rules 1 and 5 ------------------------------------------------------------------------

    def _ended(
        self, op: str, event: dict[str, Any], result: EventResult
    ) -> Iterator[tuple[int, str, str, str]]:
        detail = result.detail or ""
        if result.outcome in ("bug", "fault") and detail not in ALLOWED:
            act = "resume" if op == "migrate" else op
            where = self._which_bug(op, event, detail)
            told = f"{detail}, at {result.where}" if result.where else detail
            yield 1, f"{act}-{result.outcome}", where, told
        if result.outcome in ("save-failed", "restore-failed", "misdirected"):
            yield 5, *self._refused(result.outcome, detail)

    def _which_bug(self, op: str, event: dict[str, Any], detail: str) -> str:
        """Return a BUG's expression, with what tells two bugs apart that share it."""
        if op == "migrate" and detail == "_brk_start == 0":
            if self._has_identity_mid():
                return f"{detail}, an identity mid"
            return f"{detail}, half grown" if self.was_refused_memory else detail
        if op == "set" and detail == "virt_to_mfn(mid_mfn) != *top_mfn_p":
            done, n = self.life.scalar("position"), self.life.tables.words.shape[1]
            pfn = _pfn_of(event["runs"], done)
            end = self.life.scalar("xen_max")
            return f"{detail}, past the end" if pfn // n**2 > (end - 1) // n**2 else detail
        return detail

    def _has_identity_mid(self) -> bool:
        """Return whether a top index without a page of the list is wholly 1:1, below the end."""
        life, n = self.life, self.life.tables.words.shape[1]
        identity, missing = life.scalar("identity"), life.scalar("mid_missing_mfn")
        if identity < 0:
            return False
        num_tops = -(-life.scalar("xen_max") // n**2)
        bare = np.flatnonzero(life.tables.true_mid_mfn[:num_tops] == missing)
        leaves = life.tables.leaf_page
        return any(bool((leaves[top * n : (top + 1) * n] == identity).all()) for top in bare)

    def _refused(self, outcome: str, detail: str) -> tuple[str, str, str]:
        check, _, number = detail.partition(" ")
        if outcome == "restore-failed":
            return "restore-refused", self.unset.place_of(int(number)), detail
        what = "misdirected" if outcome == "misdirected" else "save-refused"
        where = check if outcome == "save-failed" else ""
        if self.list_was_wrong:
            # One fault, whichever check happens to meet the old numbers first.
            where = "wrong list"
        elif self.was_hit:
            where = f"{where} after strays"
        elif not self.moves:
            where = f"{where} at the first save"
        return what, where.strip(), detail if outcome == "save-failed" else ""

    # --- rules 2, 3 and 4 ---------------------------------------------------------------------

    def _strays(self, op: str, result: EventResult) -> Iterator[tuple[int, str, str, str]]:
        act = "resume" if op == "migrate" else op
        if result.stray_writes:
            self.was_hit = True
            where = f", first at {result.where}" if result.where else ""
            told = f"{result.stray_writes} stores hit {result.stray_pages} pages{where}"
            yield 3, "stray-writes", act, told
        if result.placeholder_writes:
            told = f"{result.placeholder_writes} stores"
            yield 3, "shared-page-writes", self.unset.shared_page_hit(), told

    def _moved(self, before: Pages, reported: int) -> Iterator[tuple[int, str, str, str]]:
        life = self.life
        # What is said of a later refusal is of the last resume's list.
        self.list_was_wrong = False
        for where in wrong_in_list(life):
            self.list_was_wrong = True
            yield 2, "wrong-list", where, ""
        after = Pages(life)
        for where, pfns in lost_by_place(life, before, after, reported, self.was_hit):
            yield 4, "lost-pages", where, _told(pfns)
        for where, pfns in ghosts_by_place(self.unset, before, after, self.was_hit):
            yield 4, "ghost-pages", where, _told(pfns)


def _pfn_of(runs: Any, entry: int) -> int:
    """Return the PFN of a set's entry."""
    for pfn, _, count in runs.tolist():
        if entry < count:
            return int(pfn + entry)
        entry -= count
    return -1


def _told(pfns: Any) -> str:
    first, last = int(pfns[0]), int(pfns[-1])
    if len(pfns) == 1:
        return f"PFN {first}"
    return f"{len(pfns)} pages, PFN {first} to {last}"
