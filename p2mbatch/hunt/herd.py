"""One policy's hunters, one for each width that its guests come in, a generation each by turns."""

from __future__ import annotations

import os

from p2mbatch.hunt.batch import Generation, Hunter
from p2mbatch.hunt.finds import Failures
from p2mbatch.hunt.layouts import Json
from p2mbatch.hunt.state import Arrays
from p2mbatch.model.policies import find

NUM_LIVES = 1 << 14
"""Lives of a generation: about a second's."""


class Lived:
    """A generation's answer (`finds.Generation`)."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self.num_lives = generation.num_lives
        self.coverage: dict[str, int] = {}

    @property
    def failures(self) -> Failures:
        """Return which lives broke which rule."""
        return self._generation.failures

    def trace(self, life: int) -> Json:
        """Return a life as the JSON object of a trace."""
        return self._generation.trace(life)


class Herd:
    """Lives generations of one policy's guests (`hunting.Hunter`): 64-bit ones, 32-bit ones, …"""

    num_lives = NUM_LIVES

    def __init__(self, name: str, seed: int, threads: int | None, state: Arrays | None) -> None:
        policy = find(name)
        widths = (8,) if policy.is_linear else (8, 4)
        threads = threads or len(os.sched_getaffinity(0))
        self._hunters = [Hunter(policy, seed, threads, width) for width in widths]
        for hunter in self._hunters:
            # Compiled, or loaded, before the clock starts.
            hunter.generation(0, 1)

    def generation(self, number: int, num_lives: int) -> Lived:
        """Live the first `num_lives` lives of a generation."""
        hunter = self._hunters[number % len(self._hunters)]
        return Lived(hunter.generation(number, num_lives))

    def keep(self, generation: Lived) -> None:
        """Breed on from a whole generation."""

    def state(self) -> Arrays:
        """Return what another herd goes on from."""
        return {}
