"""Random numbers from a counter: what a life is drawn from is its seed, generation and number."""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array, UInt64Array
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_30, _27, _31, _32 = (np.uint64(bits) for bits in (30, 27, 31, 32))


@inner_kernel
def _mixed(word: np.uint64) -> np.uint64:
    """Return a word whose bits all depend on all of `word`'s: splitmix64's last steps."""
    word = np.uint64((word ^ (word >> _30)) * _FIRST)
    word = np.uint64((word ^ (word >> _27)) * _SECOND)
    return np.uint64(word ^ (word >> _31))


@inner_kernel
def throw(dice: UInt64Array, key: np.uint64, number: int) -> None:
    """Begin the numbers of the `number`-th life under `key`, in `dice` (uint64[1])."""
    dice[0] = _mixed(np.uint64(key + _mixed(np.uint64(np.uint64(number) * _GOLDEN))))


@inner_kernel
def below(dice: UInt64Array, count: int) -> int:
    """Return a number from 0 below `count`, 1 <= `count` < 2^32."""
    never_inline()
    dice[0] = np.uint64(dice[0] + _GOLDEN)
    high = np.uint64(_mixed(dice[0]) >> _32)
    return as_int(np.uint64(high * np.uint64(count)) >> _32)


@inner_kernel
def between(dice: UInt64Array, least: int, most: int) -> int:
    """Return a number from `least` to `most`."""
    return least + below(dice, most - least + 1)


@inner_kernel
def one_in(dice: UInt64Array, count: int) -> bool:
    """Return whether the one case in `count` is met."""
    return below(dice, count) == 0


@inner_kernel
def one_of(dice: UInt64Array, choices: Int64Array) -> int:
    """Return one of `choices`, a constant of the caller's that names the likely ones often."""
    return choices[below(dice, len(choices))]
