"""A compiled hash table of states: open addressing, one 64-bit slot a state.

A slot holds the upper half of the state's hash beside the state's number plus one, so that almost
every comparison of different states ends at the slot.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from p2mbatch.compiled.jit import inner_kernel, kernel

_MULTIPLIER = np.uint64(0x9E37_79B9_7F4A_7C15)
_HALF = np.uint64(32)
_LOW_HALF = np.uint64(0xFFFF_FFFF)
NOT_FOUND = -1


@inner_kernel
def hash_words(words: Any, at: int, num_words: int) -> Any:
    """Return the hash of the `num_words` 64-bit words of `words` from `at` on."""
    value = np.uint64(num_words)
    for k in range(at, at + num_words):
        value = (value ^ words[k]) * _MULTIPLIER
        value ^= value >> _HALF
    return value


@inner_kernel
def same_words(first: Any, first_at: int, second: Any, second_at: int, num_words: int) -> bool:
    """Return whether two runs of 64-bit words are equal."""
    for k in range(num_words):
        if first[first_at + k] != second[second_at + k]:
            return False
    return True


@inner_kernel
def first_slot(table: Any, value: Any) -> int:
    """Return the slot in which a state of this hash is looked for first."""
    return np.int64(value & np.uint64(table.size - 1))


@inner_kernel
def find(table: Any, value: Any, rows: Any, candidate: Any, at: int, num_words: int) -> int:
    """Return the number of the state equal to `candidate[at:]`, or -1 - its slot if new."""
    slot = first_slot(table, value)
    tag = value & ~_LOW_HALF
    while True:
        held = table[slot]
        if held == np.uint64(0):
            return NOT_FOUND - slot
        if held & ~_LOW_HALF == tag:
            number = np.int64(held & _LOW_HALF) - 1
            if same_words(rows, number * num_words, candidate, at, num_words):
                return number
        slot = (slot + 1) & (table.size - 1)


@inner_kernel
def fill_slot(table: Any, slot: int, value: Any, number: int) -> None:
    """Put state `number` with hash `value` into a slot that `find` named."""
    table[slot] = (value & ~_LOW_HALF) | np.uint64(number + 1)


@kernel
def fill_table(table: Any, rows: Any, num_states: int, num_words: int) -> None:
    """Put the first `num_states` states into `table`, which is empty; all states are different.

    Args:
        table: uint64, a power of two of slots, more than states.
        rows: uint64, the states' words one after the other.
    """
    for number in range(num_states):
        value = hash_words(rows, number * num_words, num_words)
        slot = first_slot(table, value)
        while table[slot] != np.uint64(0):
            slot = (slot + 1) & (table.size - 1)
        fill_slot(table, slot, value, number)
