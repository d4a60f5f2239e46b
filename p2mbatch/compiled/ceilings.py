"""Compiled kernels that measure what the machine can do: what the others' times are held against.

Source: the usual ceilings of a roofline (STREAM's fill and copy, a gather, a pointer chase).
"""

from __future__ import annotations

from numba import prange

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel, parallel_kernel

# The parallel ones hand each thread one stretch, as a view: one request for work is the least that
# several threads cost, and in a view from 0 on the compiler takes eight words at a time.


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


@inner_kernel
def _part(length: int, part: int, parts: int) -> slice:
    """Return part `part` of `parts` of so many words: it begins at a cache line."""
    size = (length // parts + 8) & ~7
    return slice(min(as_int(part) * size, length), min(as_int(part + 1) * size, length))


@parallel_kernel
def fill_parallel(out: Int64Array, value: int, parts: int) -> None:
    """Do `fill` on `parts` threads."""
    for part in prange(parts):
        fill(out[_part(len(out), part, parts)], value)


@parallel_kernel
def copy_parallel(source: Int64Array, out: Int64Array, parts: int) -> None:
    """Do `copy` on `parts` threads."""
    for part in prange(parts):
        copy(source[_part(len(source), part, parts)], out[_part(len(out), part, parts)])


@parallel_kernel
def read_parallel(source: Int64Array, parts: int) -> int:
    """Do `read` on `parts` threads."""
    total = 0
    for part in prange(parts):
        total += read(source[_part(len(source), part, parts)])
    return total


@parallel_kernel
def gather_parallel(table: Int64Array, at: Int64Array, out: Int64Array, parts: int) -> None:
    """Do `gather` on `parts` threads."""
    for part in prange(parts):
        gather(table, at[_part(len(at), part, parts)], out[_part(len(at), part, parts)])
