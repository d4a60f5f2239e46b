"""What a told life consists of: events, their steps, and what each step changed.

A step's numbers are kept beside its text by what they are, so that they can be checked and found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Literal

from p2mbatch.base.markup import card

Part = Literal["boot", "set", "save", "live", "restore", "rebuild", "report"]
"""Where in an event a step is: what the kernel or the toolstack is about."""


class Said:
    """Writes numbers into a step's text and keeps each by what it is. `word_bits` is a word's."""

    def __init__(self, word_bits: int) -> None:
        self._word_bits = word_bits
        self.numbers: dict[str, list[int | None]] = {}

    def _kept(self, kind: str, value: int) -> int:
        value = int(value)
        self.numbers.setdefault(kind, []).append(None if value == -1 else value)
        return value

    def _word(self, kind: str, value: int) -> str:
        value = int(value)
        shown = -1 if value in (-1, (1 << 64) - 1) else value % (1 << self._word_bits)
        self._kept(kind, shown)
        return "INVALID" if shown == -1 else f"{shown:#x}"

    def mfn(self, value: int) -> str:
        """Return "MFN 0x…" of a frame number, as it stands in a word; INVALID is no number."""
        return self._named("MFN", "mfns", value)

    def pfn(self, value: int) -> str:
        """Return "PFN 0x…"."""
        return self._named("PFN", "pfns", value)

    def _named(self, name: str, kind: str, value: int) -> str:
        shown = self._word(kind, value)
        return shown if shown == "INVALID" else f"{name} {shown}"

    def word(self, value: int) -> str:
        """Return an address or another word, as 0x…"""
        return self._word("words", value)

    def printed(self, value: int) -> str:
        """Return a number as the toolstack prints it: unsigned, INVALID as all ones."""
        return f"{self._kept('words', int(value) % (1 << 64)):#x}"

    def index(self, value: int) -> str:
        """Return an index, in decimal."""
        return str(self._kept("indexes", value))

    def count(self, value: int, one: str = "", many: str = "") -> str:
        """Return a count, in decimal, with the word for what is counted."""
        value = self._kept("counts", value)
        if not one:
            return str(value)
        return f"{value} {one if value == 1 else many or one + 's'}"


@dataclass(frozen=True)
class Change:
    """Words of one page that a step stored: `count` of them from `index` on."""

    page: str
    """What the page is, in words."""
    pfn: int
    index: int
    count: int
    num_changed: int
    """How many of them had held something else."""
    before: int
    after: int
    """The first of them before and after, as unsigned words; INVALID is -1."""


@dataclass(frozen=True)
class RaceFacts:
    """What a race of several CPUs did that the end of a life may come from."""

    stray_writes: int = 0
    """Stores through pages that a CPU had given back."""
    lost_pages: int = 0
    num_replaced: int = 0
    """Leaves whose place another one took."""
    met_change: bool = False
    """Whether it ended in the list's BUG since another CPU was changing the list."""


@dataclass(frozen=True)
class Step:
    """One step of an event."""

    part: Part
    function: str
    """The function of the kernel or of the toolstack that does it."""
    text: str
    held: bool | None = None
    """Of a check: whether it held."""
    numbers: dict[str, list[int | None]] = field(default_factory=dict)
    """Every number of the text, by what it is: mfns, pfns, words, indexes, counts."""
    changes: tuple[Change, ...] = ()
    stray_writes: int = 0
    stores: int = 0
    """Stores into the list or through it, stray ones included."""
    alike: Hashable = None
    """Steps in a row with the same value that is not None are told once."""
    at: int | None = None
    """The top index (or leaf) that it is about, where it is about one."""
    same: tuple[int, int] | None = None
    """The first and the last further index that the step was the same for."""
    times: int = 1
    """How many steps are told by it."""
    views: tuple[int, int] = (0, 0)
    """Which of the event's pictures show the guest before and after it."""
    unit: str = "top index"

    def to_json(self) -> dict[str, Any]:
        """Return the step as plain values."""
        kept = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del kept["alike"], kept["unit"], kept["views"]
        kept["changes"] = [dataclasses.asdict(change) for change in self.changes]
        kept["same_for"] = None if self.same is None else [self.unit, *self.same]
        del kept["same"]
        return kept


def folded(steps: list[Step]) -> list[Step]:
    """Return `steps` with those in a row that are alike told once."""
    out: list[Step] = []
    for step in steps:
        last = out[-1] if out else None
        if last is None or step.alike is None or step.alike != last.alike or step.at is None:
            out.append(step)
            continue
        first = last.same[0] if last.same else step.at
        out[-1] = dataclasses.replace(
            last,
            same=(first, step.at),
            times=last.times + 1,
            views=(last.views[0], step.views[1]),
            stray_writes=last.stray_writes + step.stray_writes,
            stores=last.stores + step.stores,
            changes=last.changes + step.changes[: max(0, 8 - len(last.changes))],
        )
    return out


@dataclass(frozen=True)
class EventStory:
    """One event: what a trace records of it, and its steps."""

    title: str
    """"boot on host 0", "migration 2 to host 2", …"""
    op: str
    outcome: str
    detail: str | None
    observed: dict[str, Any]
    """The event as `replay --json` prints it; without digests where none were asked for."""
    steps: list[Step]
    views: list[dict[str, Any]] = field(default_factory=list)
    """For pictures: how tree and list were before the event and after each step; may be none."""
    number: int = 0
    """Of a migration: its number in the life, from 1."""
    damage: dict[str, int] = field(default_factory=dict)
    """What of `fates.DAMAGE` it did."""
    lost_identity: int = 0
    """PFNs that read as their own number before it and not after."""
    race: RaceFacts = RaceFacts()
    """What several CPUs did in it, or before its save."""

    @property
    def stray_writes(self) -> int:
        """Return the stray writes of all steps."""
        return sum(step.stray_writes for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """Return what was observed, with the steps."""
        return self.observed | {"steps": [step.to_json() for step in self.steps]}


@dataclass(frozen=True)
class Explanation:
    """A whole life told."""

    name: str
    policy: str
    meaning: str
    """What the policy is."""
    guest: str
    """The guest in a few words."""
    events: list[EventStory]
    fate: str
    conclusion: str
    """What it means."""
    advice: str
    """What to do."""
    cell: str | None = None
    scenario: dict[str, Any] | None = None

    def _repr_html_(self) -> str:
        """Return each event, the fate and what it means as a table, for notebooks."""
        events = [
            (story.title, f"{story.outcome} {story.detail or ''}".strip()) for story in self.events
        ]
        end = [("fate", self.fate), ("meaning", self.conclusion), ("what to do", self.advice)]
        return card(f"{self.name}: {self.policy}, {self.guest}", [*events, *end])

    def to_json(self) -> dict[str, Any]:
        """Return the explanation as one object of plain values."""
        return {
            "cell": self.cell,
            "scenario": self.scenario,
            "trace": None if self.cell else self.name,
            "policy": self.policy,
            "fate": self.fate,
            "conclusion": self.conclusion,
            "advice": self.advice,
            "events": [event.to_json() for event in self.events],
        }
