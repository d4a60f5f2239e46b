"""Compiled kernels that measure what the machine can do: what the others' times are held against.

Source: the usual ceilings of a roofline (STREAM's fill and copy, a gather, a pointer chase).
"""

from __future__ import annotations

from numba import prange

from p2mbatch._jit import as_int, kernel, parallel_kernel
from p2mbatch.tables import Int64Array

CHUNK_WORDS = 1 << 16
"""Words that one thread takes at a time: 512 KiB."""


@kernel
def fill(out: Int64Array, value: int) -> None:
    """Write `value` to every word of `out` (int64[k])."""
    for i in range(len(out)):
        out[i] = value


@kernel
def copy(source: Int64Array, out: Int64Array) -> None:
    """Copy `source` to `out` (both int64[k])."""
    for i in range(len(out)):
        out[i] = source[i]


@kernel
def read(source: Int64Array) -> int:
    """Return the sum of `source` (int64[k])."""
    total = 0
    for i in range(len(source)):
        total += source[i]
    return total


@kernel
def gather(table: Int64Array, at: Int64Array, out: Int64Array) -> None:
    """Write `table[at]` to `out` (int64[k] each; every index in range): independent reads."""
    for i in range(len(at)):
        out[i] = table[at[i]]


@kernel
def chase(table: Int64Array, steps: int) -> int:
    """Follow `table` (int64[k], a permutation) `steps` times from 0, each read after the last."""
    at = 0
    for _ in range(steps):
        at = table[at]
    return at


@parallel_kernel
def fill_parallel(out: Int64Array, value: int) -> None:
    """Do `fill` on all cores."""
    for chunk in prange((len(out) + CHUNK_WORDS - 1) // CHUNK_WORDS):
        first = as_int(chunk) * CHUNK_WORDS
        for i in range(first, min(first + CHUNK_WORDS, len(out))):
            out[i] = value


@parallel_kernel
def copy_parallel(source: Int64Array, out: Int64Array) -> None:
    """Do `copy` on all cores."""
    for chunk in prange((len(out) + CHUNK_WORDS - 1) // CHUNK_WORDS):
        first = as_int(chunk) * CHUNK_WORDS
        for i in range(first, min(first + CHUNK_WORDS, len(out))):
            out[i] = source[i]


@parallel_kernel
def read_parallel(source: Int64Array) -> int:
    """Do `read` on all cores."""
    total = 0
    for chunk in prange((len(source) + CHUNK_WORDS - 1) // CHUNK_WORDS):
        first = as_int(chunk) * CHUNK_WORDS
        part = 0
        for i in range(first, min(first + CHUNK_WORDS, len(source))):
            part += source[i]
        total += part
    return total


@parallel_kernel
def gather_parallel(table: Int64Array, at: Int64Array, out: Int64Array) -> None:
    """Do `gather` on all cores."""
    for chunk in prange((len(at) + CHUNK_WORDS - 1) // CHUNK_WORDS):
        first = as_int(chunk) * CHUNK_WORDS
        for i in range(first, min(first + CHUNK_WORDS, len(at))):
            out[i] = table[at[i]]
