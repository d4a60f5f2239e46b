"""Seeded random choices, weighted: what the generators of lives throw."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class Dice:
    """Choices from one source of random numbers, a seeded one or Hypothesis's own."""

    def __init__(self, source: random.Random) -> None:
        self.source = source

    def between(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return self.source.randint(low, high)

    def one_in(self, times: int) -> bool:
        return self.source.randrange(times) == times - 1

    def of(self, values: Sequence[T]) -> T:
        return values[self.source.randrange(len(values))]

    def pick(self, *weighted: tuple[Any, int]) -> Any:
        """One of the values, each as often as its weight says."""
        at = self.source.randrange(sum(weight for _, weight in weighted))
        for value, weight in weighted:
            at -= weight
            if at < 0:
                return value
        raise AssertionError("unreachable")

    def shuffled(self, values: Sequence[T]) -> list[T]:
        return self.source.sample(list(values), len(values))
