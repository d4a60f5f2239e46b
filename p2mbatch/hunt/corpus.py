"""The lives that others are bred from, and what all lives have reached so far."""

from __future__ import annotations

from typing import Any

import numpy as np

from p2mbatch.compiled.hunt.coverage import MAP
from p2mbatch.compiled.hunt.program import make_bank
from p2mbatch.hunt.kept import check_arrays, check_life
from p2mbatch.model.policies import Policy

MOST_PARENTS = 4096
"""Lives that are kept: some 6 KiB each."""

_SEEN = "seen"


class Corpus:
    """Lives in the order in which they were found; none is ever replaced."""

    def __init__(
        self, policy: Policy, word_bytes: int, state: dict[str, np.ndarray[Any, Any]] | None = None
    ) -> None:
        """Make an empty one, or the one whose `state` this is.

        Raises `InputError` where `state` is no state of such a policy's guests.
        """
        self.bank = make_bank(MOST_PARENTS)
        self.count = 0
        self.seen = np.zeros(MAP, np.uint8)
        """uint8[MAP]: the features that a life had (`coverage`)."""
        if state is not None:
            check_arrays(state, MOST_PARENTS, _SEEN)
            self.seen[:] = state[_SEEN]
            self.count = len(state["guest"])
            for name, array in self.bank._asdict().items():
                _as_words(array)[: self.count] = state[name]
            for k in range(self.count):
                check_life(self.bank, k, policy, word_bytes)

    @property
    def room_left(self) -> int:
        """Return how many more lives there is room for."""
        return MOST_PARENTS - self.count

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return all of it as arrays of numbers, by name: int64[lives, k] and what was seen.

        They are the corpus itself: to be written or copied before more is kept.
        """
        arrays = self.bank._asdict().items()
        words = {name: _as_words(array)[: self.count] for name, array in arrays}
        return words | {_SEEN: self.seen}


def _as_words(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an array whose first dimension is lives as int64[lives, k], in place."""
    return array.view(np.int64).reshape(len(array), -1)
