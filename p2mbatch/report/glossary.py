"""The words that a run's report uses: its fates and details, each with what it means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from p2mbatch.model.explain.meaning import detail_meaning
from p2mbatch.model.fates import ENDS, FOR_OPERATORS, SURVIVED, fate_of
from p2mbatch.model.toolstacks import said
from p2mbatch.plots.style import FATE_LOOKS
from p2mbatch.report.stories import Story
from p2mbatch.store.fates import last_rows

if TYPE_CHECKING:
    import pandas as pd


class FateEntry(NamedTuple):
    """One fate that a run's guests came to."""

    fate: str
    color: str
    num_guests: int
    sentence: str
    """What follows from it."""
    stories: list[Story]

    @property
    def anchor(self) -> str:
        """Return the id of its part of the page."""
        return f"fate-{self.fate.replace(' ', '-')}"


class DetailEntry(NamedTuple):
    """One detail that a run's rows end with."""

    fate: str
    detail: str
    """As rows have it, without the indexes that it may end in."""
    printed: tuple[str, ...]
    """What the toolstacks of the run or the kernel print, of the first such guest each."""
    sentence: str
    num_guests: int
    anchor: str
    """The story of a guest that ended so, where one is told; or empty."""


def fate_entries(stories: Sequence[Story], ends: dict[str, int]) -> list[FateEntry]:
    """Return the fates of a run with their stories, `survived` last; `ends` counts guests."""
    found = [
        FateEntry(
            fate,
            FATE_LOOKS[fate].color,
            number,
            f"{FOR_OPERATORS[fate]}.",
            sorted((s for s in stories if s.fate == fate), key=lambda s: -s.num_guests),
        )
        for fate, number in ends.items()
        if number
    ]
    return sorted(found, key=lambda entry: entry.fate == SURVIVED)


def detail_entries(frame: pd.DataFrame, stories: Sequence[Story]) -> list[DetailEntry]:
    """Return the details that guests of a run ended with, the most frequent of each fate first.

    `frame` is a run's `compact`.
    """
    if frame.empty:
        return []
    ends = last_rows(frame[["cell", "migration", "outcome", "detail", "toolstack"]])
    ends = ends[(ends["outcome"] != "ok").to_numpy()]
    by = ["outcome", "detail", "toolstack"]
    counts = ends.groupby(by, observed=True, dropna=False, sort=False).size()
    found: dict[tuple[str, str], tuple[int, dict[str, str]]] = {}
    for key, number in zip(counts.index.tolist(), counts.tolist(), strict=True):
        outcome, toolstack = str(key[0]), str(key[2])
        detail = key[1] if isinstance(key[1], str) else ""
        name = _name(outcome, detail)
        total, texts = found.get((outcome, name), (0, {}))
        texts.setdefault(toolstack, _printed(outcome, toolstack, detail))
        found[outcome, name] = (total + number, texts)
    entries = [
        DetailEntry(
            fate_of(outcome, name),
            name,
            tuple(dict.fromkeys(filter(None, texts.values()))),
            detail_meaning(outcome, name),
            number,
            next((s.anchor for s in stories if s.told and _is(s, outcome, name)), ""),
        )
        for (outcome, name), (number, texts) in found.items()
    ]
    return sorted(entries, key=lambda entry: (ENDS.index(entry.fate), -entry.num_guests))


def _name(outcome: str, detail: str) -> str:
    """Return a detail without the numbers that a check's has behind its name."""
    return detail if outcome in ("bug", "fault") else detail.partition(" ")[0]


def _is(story: Story, outcome: str, name: str) -> bool:
    end = story.told.events[-1] if story.told else None
    return end is not None and end.outcome == outcome and _name(outcome, end.detail or "") == name


def _printed(outcome: str, toolstack: str, detail: str) -> str:
    if outcome in ("bug", "fault"):
        return f"{'BUG' if outcome == 'bug' else outcome}: {detail}"
    return said(toolstack, detail)
