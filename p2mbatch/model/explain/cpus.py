"""What several CPUs did that set entries at once: what one of them lost to another, and used on.

Source: docs/races.md, "Atomic steps", whose names the steps here have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.race import layout as at
from p2mbatch.model.cpus.race import Noted, Raced
from p2mbatch.model.explain.sets import set_function
from p2mbatch.model.explain.story import RaceFacts, Said, Step
from p2mbatch.model.explain.view import View
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.trace_cpus import num_entries

MAX_TOLD = 64
"""What is told of one event in steps of its own."""

_SET = "set_phys_to_machine()"

_GOES_ON = {at.A5: "a mid page", at.A11F: "a page of the list", at.A18: "a leaf"}
"""What a CPU gives back that came second, by the step at which it does."""


def facts_of(raced: Raced, result: EventResult, shift: int) -> RaceFacts:
    """Return what a race did, all of it, told or not; pages have 2^`shift` entries."""
    last = _last(raced, result)
    return RaceFacts(
        stray_writes=sum(_is_stray(note) for note in raced.noted),
        lost_pages=result.lost_pages,
        num_replaced=sum(note.step == at.O2 and note.page >= 0 for note in raced.noted),
        met_change=result.outcome == "bug" and last is not None and _met(raced, last, shift),
    )


def _is_stray(note: Noted) -> bool:
    return note.step in (at.A16, at.A17) and note.page >= 0


def _last(raced: Raced, result: EventResult) -> Noted | None:
    """Return what ended the run for every CPU, where that is noted."""
    told = _told(raced)
    return told[-1] if told and not result.ok else None


def _told(raced: Raced) -> list[Noted]:
    """Return what is told by itself; that a page of the list was named is said where it matters."""
    return [note for note in raced.noted if note.step != at.A10]


def _met(raced: Raced, last: Noted, shift: int) -> bool:
    """Return whether another CPU named a page of the list at the top index of the `last` step."""
    top = last.pfn >> 2 * shift
    others = (n for n in raced.noted if n.step == at.A10 and n.who != last.who)
    return last.page < 0 and any(other.pfn >> 2 * shift == top for other in others)


def tell_cpus(
    before: View,
    after: View,
    sets: Sequence[Int64Array],
    key: int,
    raced: Raced,
    result: EventResult,
) -> list[Step]:
    """Return the steps of a race that has just run."""
    say = before.said()
    total = num_entries(sets)
    text = (
        f"{say.count(len(sets), 'CPU')} set {say.count(total, 'entry', 'entries')}, one atomic "
        f"step at a time under schedule {say.printed(key)}: {say.count(raced.num_steps, 'step')}, "
        f"{say.count(result.entries_set, 'entry', 'entries')} set."
    )
    if result.placeholder_writes:
        writes = say.count(result.placeholder_writes, "placeholder write")
        text += f" {writes} went into pages that many PFNs share."
    steps = [Step("set", _SET, text, None, say.numbers)]
    telling = _Telling(before, after, raced, result)
    told = _told(raced)
    last = _last(raced, result)
    shown = told[:MAX_TOLD]
    if last is not None and last not in shown:
        shown.append(last)
    steps += [telling.step(note, note is last) for note in shown]
    if not result.ok and last is None:
        steps.append(telling.ended())
    return steps


class _Telling:
    def __init__(self, before: View, after: View, raced: Raced, result: EventResult) -> None:
        self.before, self.after = before, after
        self.raced, self.result = raced, result
        self.function = set_function(before.policy)
        self.shift = before.shift

    def step(self, note: Noted, is_last: bool) -> Step:
        """Return the step that tells of one thing that happened."""
        say = self.before.said()
        where = f"CPU {say.index(note.who)}, for {say.pfn(note.pfn)}"
        told: Callable[[Said, Noted], str] = self._failed
        is_stray = _is_stray(note)
        if is_stray:
            told = self._stray
        elif note.step in _GOES_ON:
            told = self._lost
        elif note.step == at.O2 and note.page >= 0:
            told = self._replaced
        elif is_last and note.page < 0:
            told = self._ending
        is_bad = is_last or note.step not in _GOES_ON
        function = _SET if note.step == at.T2 else self.function
        return Step(
            "set", function, f"{where}: {told(say, note)}", False if is_bad else None,
            say.numbers, stray_writes=int(is_stray), stores=int(is_stray),
            at=note.pfn >> self.shift, unit="leaf",
        )  # fmt: skip

    def ended(self) -> Step:
        """Return the step of an entry past the end of the p2m, or of a wild pointer."""
        say = self.before.said()
        text = f"The run ends for every CPU: BUG_ON({self.result.detail})."
        if self.result.outcome == "fault":
            text = f"The run ends for every CPU: a fault, at the {self.result.detail}."
        return Step("set", _SET, text, False, say.numbers)

    def _lost(self, say: Said, note: Noted) -> str:
        """Return what a CPU does whose page came second."""
        one = _GOES_ON[note.step]
        text = f"it has made {one} and another CPU was first, so it gives {say.pfn(note.page)} back"
        if note.step == at.A18:
            return f"{text} and takes the leaf that there is."
        policy = self.before.policy
        repaired = policy.races == "new" or (note.step == at.A11F and policy.late_list)
        return f"{text} and goes on with {'the other one' if repaired else 'it'}."

    def _stray(self, say: Said, note: Noted) -> str:
        """Return what is stored through a page that was given back."""
        what = "hangs its leaf into" if note.step == at.A16 else "stores its leaf's MFN in"
        return f"it {what} {say.pfn(note.page)}, which it gave back before: a stray write."

    def _replaced(self, say: Said, note: Noted) -> str:
        """Return what becomes of a leaf that another one takes the place of."""
        if note.page == self.after.state.identity:
            return (
                "its leaf takes the place of p2m_identity, which another CPU had hung in: the 1:1 "
                "PFNs of that leaf read as holes."
            )
        return (
            f"its leaf takes the place of {say.pfn(note.page)}, which another CPU had hung in: "
            "what was set there is lost."
        )

    def _failed(self, say: Said, note: Noted) -> str:
        """Return why a set returned false."""
        if note.step == at.T2:
            return (
                "the p2m has no leaf for it after growing, for the leaf hangs in a page that was "
                "given back: set_phys_to_machine() returns false, and the leaf is lost."
            )
        return "alloc_p2m_page() returns NULL, so set_phys_to_machine() returns false."

    def _ending(self, say: Said, note: Noted) -> str:
        """Return what ended the run for every CPU."""
        if self.result.outcome == "fault":
            return f"a fault, at the {self.result.detail}, that ends the run for every CPU."
        top = note.pfn >> 2 * self.shift
        text = f"p2m_top_mfn[{say.index(top)}] is not the MFN of the page that it saw tracked"
        if _met(self.raced, note, self.shift):
            text += (
                ": another CPU has changed p2m_top_mfn and not p2m_top_mfn_p yet, or both in "
                "between"
            )
        return f"{text}. That ends the run for every CPU: BUG_ON({self.result.detail})."
