"""Compiled helpers that write a whole leaf of a function host's frames at once.

One entry at a time, a host's bijection is a chain of some twenty operations that each wait for the
one before; a leaf at a time, eight or more entries go through it abreast. What this needs of the
compiler: every operation seen to be one of 32-bit words, no branch (walking on happens after the
loop), and shift counts that are seen to be below 32. Numba makes 64-bit words of whatever it adds,
so each operation here takes and returns `uint32`, cut at once; a single wider one in the chain
halves the speed of all that follow it.
"""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array, UInt32Array
from p2mbatch.compiled.bijection import forward, inverse
from p2mbatch.compiled.jit import as_int, inline_kernel, inner_kernel
from p2mbatch.compiled.records import Bijection, HostParameters
from p2mbatch.compiled.tables import (
    EXTENTS,
    SCATTERED,
)

_MASK32 = 0xFFFFFFFF

_M1, _M2 = np.uint32(0x7FEB352D), np.uint32(0x5BD1E995)

_U15, _U16, _U31 = np.uint32(15), np.uint32(16), np.uint32(31)

# Sums are taken in 64 bits and cut, which compiles to 32-bit ones and, unlike those, does not warn
# of overflow where kernels run as plain Python.


@inline_kernel
def _plus(a: np.uint32, b: np.uint32) -> np.uint32:
    """Return a + b modulo 2^32."""
    return np.uint32((np.int64(a) + np.int64(b)) & _MASK32)


@inline_kernel
def _minus(a: np.uint32, b: np.uint32) -> np.uint32:
    """Return a - b modulo 2^32."""
    return np.uint32((np.int64(a) - np.int64(b)) & _MASK32)


@inline_kernel
def _times(a: np.uint32, b: np.uint32) -> np.uint32:
    """Return a * b modulo 2^32; one of them is below 2^31."""
    return np.uint32((np.int64(a) * np.int64(b)) & _MASK32)


@inline_kernel
def _mix32(value: np.uint32, key: np.uint32) -> np.uint32:
    """Return `bijection._mix` of 32-bit words."""
    h = _times(np.uint32(value ^ key), _M1)
    return _times(np.uint32(h ^ np.uint32(h >> _U15)), _M2)


@inline_kernel
def _share(h: np.uint32, left: np.uint32) -> np.uint32:
    """Return the share of `left` that the upper half of `h` is."""
    return np.uint32(_times(np.uint32(h >> _U16), left) >> _U16)


@inline_kernel
def _add_left(a: np.uint32, h: np.uint32, left: np.uint32) -> np.uint32:
    """Return (a + the share of `left` that the upper half of `h` is) modulo `left`."""
    total = _plus(a, _share(h, left))
    # Where there is nothing to take off, the difference wraps and is the larger.
    return np.uint32(min(total, _minus(total, left)))


@inline_kernel
def _take_left(a: np.uint32, h: np.uint32, left: np.uint32) -> np.uint32:
    """Return (a - the share of `left` that the upper half of `h` is) modulo `left`."""
    rest = _minus(a, _share(h, left))
    # Where too much was taken off, the rest has wrapped and is the larger.
    return np.uint32(min(rest, _plus(rest, left)))


@inner_kernel
def forward_row(perm: Bijection, first: int, count: int, plus: int, row: Int64Array) -> bool:
    """Write `plus` + `bijection.forward` of `first`, `first` + 1, ... to `row[:count]`, if it can.

    It can where these `count` indices share the upper half of the bijection's grid; returns
    whether it could.
    """
    size, bits = perm.length, perm.right_bits
    mask = (1 << bits) - 1
    if (first & mask) + count > 1 << bits:
        return False
    left = np.uint32(perm.left)
    k1, k2, k3 = np.uint32(perm.key1), np.uint32(perm.key2), np.uint32(perm.key3)
    up = np.uint32(bits) & _U31
    down = np.uint32(32 - bits) & _U31
    low = np.uint32(mask)
    a0 = np.uint32(first >> bits)
    b0 = _plus(np.uint32(first & mask), np.uint32(_mix32(a0, np.uint32(perm.key0)) >> down))
    largest = np.uint32(0)
    for i in range(count):
        b = np.uint32(_plus(b0, np.uint32(i)) & low)
        a = _add_left(a0, _mix32(b, k1), left)
        b = np.uint32(_plus(b, np.uint32(_mix32(a, k2) >> down)) & low)
        a = _add_left(a, _mix32(b, k3), left)
        image = np.uint32(np.uint32(np.int64(a << up) & _MASK32) | b)
        row[i] = plus + np.int64(image)
        largest = np.uint32(max(largest, image))
    if np.int64(largest) >= size:
        for i in range(count):
            if row[i] - plus >= size:
                row[i] = plus + forward(perm, row[i] - plus)
    return True


@inner_kernel
def given_row(par: HostParameters, x: int, row: Int64Array) -> bool:
    """Write the frames of leaf `x` (n entries) on a function host to `row`; whether it could.

    It can where every PFN of the leaf is populated and the frames' order allows; where it can't,
    what is in `row` means nothing.
    """
    shift = par.entries_shift
    n = 1 << shift
    index = x << shift
    if index + n > par.span:
        return False
    if par.num_holes > 0 and index + n > par.nr_pages:
        if par.layout != EXTENTS or par.nr_pages & (n - 1) != 0:
            return False
        rank = x - (par.nr_pages >> shift)
        if rank >= par.holes_perm.length:
            return False
        rank = inverse(par.holes_perm, rank)
        if rank >= par.num_grown:
            return False
        index = par.nr_pages + (rank << shift)
    elif par.num_holes > 0 and par.layout == SCATTERED:
        return False
    order = min(par.order, shift)
    num_extents = n >> order
    first = index >> order
    if par.order > shift:
        first = index >> par.order
    if first + num_extents > par.num_extents:
        return False
    reserved = par.reserved
    if num_extents == 1:
        low = index & ((1 << par.order) - 1)
        frame = reserved + (forward(par.frames_perm, first) << par.order) + low
        for i in range(n):
            row[i] = frame + i
        return True
    if order == 0:
        return forward_row(par.frames_perm, first, n, reserved, row)
    if not forward_row(par.frames_perm, first, num_extents, as_int(0), row):
        return False
    # Backwards, so that an extent's frame is read before the entries of another land on it.
    for extent in range(num_extents - 1, -1, -1):
        frame = reserved + (row[extent] << order)
        for i in range(1 << order):
            row[(extent << order) + i] = frame + i
    return True


@inner_kernel
def inverse_each(perm: Bijection, images: UInt32Array, count: int) -> None:
    """Replace each of `images[:count]` by `bijection.inverse` of it; each must be below N."""
    size, bits = perm.length, perm.right_bits
    mask = (1 << bits) - 1
    left = np.uint32(perm.left)
    k0, k1 = np.uint32(perm.key0), np.uint32(perm.key1)
    k2, k3 = np.uint32(perm.key2), np.uint32(perm.key3)
    up = np.uint32(bits) & _U31
    down = np.uint32(32 - bits) & _U31
    low = np.uint32(mask)
    largest = np.uint32(0)
    for i in range(count):
        b = np.uint32(images[i] & low)
        a = _take_left(np.uint32(images[i] >> up), _mix32(b, k3), left)
        b = np.uint32(_minus(b, np.uint32(_mix32(a, k2) >> down)) & low)
        a = _take_left(a, _mix32(b, k1), left)
        b = np.uint32(_minus(b, np.uint32(_mix32(a, k0) >> down)) & low)
        index = np.uint32(np.uint32(np.int64(a << up) & _MASK32) | b)
        images[i] = index
        largest = np.uint32(max(largest, index))
    if np.int64(largest) >= size:
        for i in range(count):
            if np.int64(images[i]) >= size:
                images[i] = np.uint32(inverse(perm, np.int64(images[i])))
