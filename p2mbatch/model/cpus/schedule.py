"""Who takes the next step: a keyed choice, the same wherever it is made (model section 5.1)."""

from __future__ import annotations

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def mixed(word: int) -> int:
    """Return a word of 64 bits that all depend on all of `word`'s: splitmix64's last steps."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & _MASK
    return word ^ (word >> 31)


class Schedule:
    """The choices under one key: those of `p2mbatch race --sample`'s schedule number 0."""

    def __init__(self, key: int) -> None:
        self._state = mixed(key & _MASK)

    def __call__(self, count: int) -> int:
        """Return which of `count` CPUs that can go on does, counted from 0."""
        self._state = (self._state + _GOLDEN) & _MASK
        return (mixed(self._state) >> 32) * count >> 32
