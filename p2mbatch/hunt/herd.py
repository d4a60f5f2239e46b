"""One policy's hunters, one for each width that its guests come in, a generation each by turns."""

from __future__ import annotations

import os

from p2mbatch.hunt.batch import Generation, Hunter
from p2mbatch.hunt.state import Arrays
from p2mbatch.model.policies import find

NUM_LIVES = 1 << 14
"""Lives of a generation: about a second's."""


class Herd:
    """Lives generations of one policy's guests (`hunting.Hunter`): 64-bit ones, 32-bit ones, …"""

    num_lives = NUM_LIVES

    def __init__(self, name: str, seed: int, threads: int | None, state: Arrays | None) -> None:
        policy = find(name)
        widths = (8,) if policy.is_linear else (8, 4)
        threads = threads or len(os.sched_getaffinity(0))
        self._hunters = [
            Hunter(policy, seed, threads, width, _of_width(state, width)) for width in widths
        ]
        for hunter in self._hunters:
            # Compiled, or loaded, before the clock starts.
            hunter.generation(0, 1)

    def generation(self, number: int, num_lives: int) -> Generation:
        """Live the first `num_lives` lives of a generation."""
        return self._hunters[number % len(self._hunters)].generation(number, num_lives)

    def keep(self, generation: Generation) -> None:
        """Breed on from a whole generation."""
        generation.hunter.keep(generation)

    def state(self) -> Arrays:
        """Return what another herd goes on from."""
        return {
            f"{hunter.word_bytes}.{name}": array
            for hunter in self._hunters
            for name, array in hunter.state().items()
        }


def _of_width(state: Arrays | None, word_bytes: int) -> Arrays | None:
    """Return what one width's hunter goes on from; None where that is nothing."""
    start = f"{word_bytes}."
    found = {
        name.removeprefix(start): array
        for name, array in (state or {}).items()
        if name.startswith(start)
    }
    return found or None
