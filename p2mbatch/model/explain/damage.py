"""What a life did to its guest, in words: what races did by itself, and the rest."""

from __future__ import annotations

from collections.abc import Iterable

from p2mbatch.model.explain.story import EventStory
from p2mbatch.model.fates import DAMAGE

_DAMAGED = {
    "stray_writes": "the kernel stored {num} of its list into pages that are not the list's: what "
    "they held is gone",
    "lost_pages": "{num} that the guest had before {are} not its own any more",
    "ghost_pages": "{num} that it did not have before {are} its own now",
    "placeholder_writes": "{num} went into pages that many PFNs share",
}

_RACED = {
    "stray_writes": "{num} went through pages that a CPU had given back when another one was "
    "first: whoever has them finds them changed",
    "lost_pages": "{num} that a CPU had set {are} gone: the leaf of another one took the place of "
    "theirs",
}
"""Damage of a race of several CPUs, where `_DAMAGED` tells of all other."""

_UNITS = {
    "stray_writes": ("MFN", "MFNs"),
    "lost_pages": ("page", "pages"),
    "ghost_pages": ("page", "pages"),
    "placeholder_writes": ("store", "stores"),
}


def damage_of(stories: Iterable[EventStory]) -> dict[str, int]:
    """Return how much of each kind of damage a life did, where it did any."""
    totals: dict[str, int] = {}
    for story in stories:
        for name in DAMAGE:
            totals[name] = totals.get(name, 0) + story.damage.get(name, 0)
    return {name: num for name, num in totals.items() if num}


def raced_of(stories: Iterable[EventStory]) -> dict[str, int]:
    """Return how much of a life's damage its races did, where they did any."""
    totals = dict.fromkeys(_RACED, 0)
    for story in stories:
        for name in _RACED:
            # What was lost before a save that failed is in no row.
            totals[name] += min(getattr(story.race, name), story.damage.get(name, 0))
    return {name: num for name, num in totals.items() if num}


def told(damage: dict[str, int], raced: dict[str, int]) -> str:
    """Return `damage` in words, what of it races did (`raced`) by itself."""
    parts = []
    for name, num in raced.items():
        unit = ("store", "stores") if name == "stray_writes" else _UNITS[name]
        parts.append(_part(_RACED[name], num, unit))
    for name, num in damage.items():
        if rest := num - raced.get(name, 0):
            parts.append(_part(_DAMAGED[name], rest, _UNITS[name]))
    return ", and ".join(parts)


def _part(text: str, num: int, unit: tuple[str, str]) -> str:
    is_one = num == 1
    return text.format(num=f"{num} {unit[0] if is_one else unit[1]}", are="is" if is_one else "are")
