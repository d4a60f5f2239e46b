"""The least life so far that still breaks in the same way, and how simpler ones are tried.

A life is the JSON object of a trace file; what is made of one is checked by the parser.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from p2mbatch.base.errors import InputError
from p2mbatch.hunt.judge import Broken, judge
from p2mbatch.hunt.kinds import kind_of
from p2mbatch.hunt.layouts import Json
from p2mbatch.model.trace_file import parse_trace

Path = tuple[Any, ...]
"""Where something lies in a life: ("events", 1, "runs")."""


class Enough(Exception):
    """So many lives were tried as were to be, or there is no more time."""


def found_in(life: Json, kind: str) -> Broken | None:
    """Return what of `kind` a life within the world breaks; None where it breaks nothing of it."""
    try:
        judged = judge(parse_trace(life, "hunt"))
    except InputError:
        return None
    return next((broken for broken in judged.broken if kind_of(broken) == kind), None)


class Least:
    """The least life of a kind so far: `life`, and what it breaks: `broken`."""

    def __init__(self, life: Json, kind: str, most_tries: int, stop: Callable[[], bool]) -> None:
        found = found_in(life, kind)
        if found is None:
            raise ValueError(f"{life['name']!r} breaks nothing of kind {kind!r}")
        self.kind = kind
        self.life = copy.deepcopy(life)
        self.broken = found
        self.tries = 0
        self.settled: list[Callable[[Json], Json]] = []
        """What is done to every life that is tried: what once was made plain stays so."""
        self._most, self._stop = most_tries, stop

    @property
    def guest(self) -> Json:
        """Return the guest."""
        guest: Json = self.life["guest"]
        return guest

    @property
    def entries(self) -> int:
        """Return n, the entries of a page."""
        return int(4096 // self.guest["word_bytes"])

    @property
    def num_events(self) -> int:
        """Return how many events the life has."""
        return len(self.life["events"])

    def attempt(self, life: Json) -> bool:
        """Take `life` where it still breaks; return whether it does. Raises `Enough`."""
        for settle in self.settled:
            life = settle(life)
        if life == self.life:
            return False
        if self.tries >= self._most or self._stop():
            raise Enough
        self.tries += 1
        found = found_in(life, self.kind)
        if found is None:
            return False
        self.life = life | {"events": life["events"][: found.event + 1]}
        self.broken = found
        return True

    def any_of(self, lives: Iterable[Json]) -> bool:
        """Take the first of `lives` that still breaks; return whether one does."""
        return any(self.attempt(life) for life in lives)

    def repeat(self, lives: Callable[[], Iterable[Json]]) -> None:
        """Take one of `lives` after the other until none of them breaks any more."""
        while self.any_of(lives()):
            pass

    def at(self, path: Path) -> Any:
        """Return what lies there."""
        found = self.life
        for step in path:
            found = found[step]
        return found

    def put(self, path: Path, value: Any) -> Json:
        """Return the life with `value` there; None takes away what is there."""
        life: Json = _put(self.life, path, value)
        return life

    def fewer(self, path: Path, first: int = 0) -> None:
        """Leave out stretches of an array from `first` on: all, a half, …, single elements."""
        size = len(self.at(path)) - first
        while size > 0:
            start = len(self.at(path)) - size
            while start >= first:
                items = self.at(path)
                self.attempt(self.put(path, items[:start] + items[start + size :]))
                start = min(start, len(self.at(path))) - size
            size //= 2

    def lowest(self, low: int, high: int, make: Callable[[int], Json]) -> None:
        """Take the lowest number from `low` below `high` with which a life breaks, by halves."""
        while low < high:
            middle = (low + high) // 2
            if self.attempt(make(middle)):
                high = middle
            else:
                low = middle + 1


def _put(inside: Any, path: Path, value: Any) -> Any:
    """Return `inside` with `value` at `path`, the same objects elsewhere."""
    out = copy.copy(inside)
    step, *rest = path
    if rest:
        out[step] = _put(out[step], tuple(rest), value)
    elif value is None:
        del out[step]
    else:
        out[step] = value
    return out
