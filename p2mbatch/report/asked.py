"""What a report answers first: who came through, what it costs, which policy fares better, or how
much guests may grow while they move."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from p2mbatch.plots.gallery import PLOTS
from p2mbatch.report.costs import Costs
from p2mbatch.report.live import live_told
from p2mbatch.report.pairs import Pairs, pair_sentence
from p2mbatch.report.raced import raced_told
from p2mbatch.report.words import answer
from p2mbatch.store.fates import varying_axes

if TYPE_CHECKING:
    import pandas as pd

    from p2mbatch.spec.sweep_spec import Answer
    from p2mbatch.store.survival import Survival


class Answers(NamedTuple):
    """What a report says of a run, in the order in which it says it."""

    about: Answer
    first: str
    """The headline."""
    others: list[str]
    """What else there is to say, a sentence or two each."""
    figures: list[str]
    """The figures' names, the one first that shows what the headline says."""


def answers(
    asked: Answer,
    frame: pd.DataFrame,
    entries: list[Survival],
    costs: Costs,
    pairs: list[Pairs],
) -> Answers:
    """Return what a run answers. `asked` is its spec's `answer`, "" where that says nothing.

    What a run has no answer to is not answered first, whatever was asked.
    """
    of_live = live_told(frame)
    told = {
        "survival": answer(entries),
        "cost": " ".join(costs.sentences[:1]),
        "compare": pair_sentence(_telling(pairs)) if _are_told(asked, pairs) else "",
        "live": of_live[0] if of_live else "",
    }
    about = asked or _inferred(frame, entries, pairs)
    if not told.get(about):
        about = "survival"
    spoken = ("survival", "compare", "live")
    others = [told[name] for name in spoken if told[name] and name != about]
    if about == "live":
        others = [*of_live[1:], *others]
    others += raced_told(frame)
    others += costs.sentences[1:] if about == "cost" else filter(None, [costs.of_time])
    return Answers(about, told[about], others, _figures(about, costs, bool(of_live)))


def _inferred(frame: pd.DataFrame, entries: list[Survival], pairs: list[Pairs]) -> Answer:
    """Return what a run is about, by what varies in it and by what became of its guests."""
    if frame.empty:
        return "survival"
    if any(pair.num_pairs for pair in pairs) and set(varying_axes(frame)) <= {"seed"}:
        return "compare"
    is_well = not any(entry.num_corrupted or entry.num_ended for entry in entries)
    return "cost" if is_well and not pairs else "survival"


def _are_told(asked: Answer, pairs: list[Pairs]) -> bool:
    """Return whether pairs are spoken of: guests of a sample hardly ever have a second life."""
    return bool(pairs) and (asked == "compare" or any(pair.num_pairs for pair in pairs))


def _telling(pairs: list[Pairs]) -> Pairs:
    """Return the two that differ most."""
    return max(pairs, key=lambda pair: (abs(pair.difference), pair.num_pairs))


_FIGURES: dict[str, tuple[str, ...]] = {
    "survival": ("tree", "survival", "outcomes"),
    "cost": ("drift", "overhead", "cost"),
    "compare": ("survival", "outcomes", "tree"),
    "live": ("live", "survival", "outcomes"),
}


def _figures(about: Answer, costs: Costs, is_live: bool) -> list[str]:
    hidden = {"drift": not costs.of_time, "live": not is_live}
    shown = [name for name in PLOTS if not hidden.get(name)]
    first = [name for name in _FIGURES[about] if name in shown]
    if about == "cost" and not costs.of_holes:
        first.sort(key=lambda name: name == "overhead")
    return [*first, *(name for name in shown if name not in first)]
