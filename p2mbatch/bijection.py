"""Keyed bijections on [0, N): the order in which a host hands out its memory, with no table.

`forward` and `inverse` cost the same few nanoseconds for any index, so a frame's owner is found
without storing who owns it (model section 10). The construction is a generalised Feistel network
over a grid of `left` x 2^`right_bits` cells, just larger than N, that walks on when it leaves N:
since it permutes the grid, the walk ends inside N and the whole is a bijection.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from p2mbatch._jit import inner_kernel

Int64Array = npt.NDArray[np.int64]

NUM_PARAMETERS = 7
"""int64 words that describe one bijection: N, left, right_bits and four round keys."""
_N, _LEFT, _RIGHT_BITS, _KEY = 0, 1, 2, 3
_MASK32 = 0xFFFFFFFF


def parameters(size: int, *purpose: Any) -> list[int]:
    """Return the `NUM_PARAMETERS` words of the bijection on [0, `size`) that `purpose` names.

    The keys are a digest of `purpose` (seed, use, index), never state: the same names give the
    same bijection on any machine. `size` may be 0 (never called) to 2^40.
    """
    right_bits = max(size - 1, 0).bit_length() // 2
    left = max(-(-size >> right_bits), 1)
    digest = hashlib.blake2b(repr(purpose).encode(), digest_size=16).digest()
    keys = [int.from_bytes(digest[4 * i : 4 * i + 4], "little") for i in range(4)]
    return [size, left, right_bits, *keys]


@inner_kernel
def _mix(value: int, key: int) -> int:
    """Return 32 well-mixed bits of `value` (below 2^32) under `key`."""
    h = ((value ^ key) * 0x9E3779B1) & _MASK32
    h ^= h >> 15
    h = (h * 0x85EBCA77) & _MASK32
    return h ^ (h >> 13)


@inner_kernel
def forward(par: Int64Array, at: int, index: int) -> int:
    """Return where the bijection described at `par[at:]` sends `index`, 0 <= index < N."""
    size, left, bits = par[at + _N], par[at + _LEFT], par[at + _RIGHT_BITS]
    k0, k1, k2, k3 = par[at + _KEY], par[at + _KEY + 1], par[at + _KEY + 2], par[at + _KEY + 3]
    mask = (1 << bits) - 1
    x = index
    while True:
        a = x >> bits
        b = x & mask
        a += (_mix(b, k0) * left) >> 32
        a = a - left if a >= left else a
        b = (b + (_mix(a, k1) >> (32 - bits))) & mask
        a += (_mix(b, k2) * left) >> 32
        a = a - left if a >= left else a
        b = (b + (_mix(a, k3) >> (32 - bits))) & mask
        x = (a << bits) | b
        if x < size:
            return x


@inner_kernel
def inverse(par: Int64Array, at: int, image: int) -> int:
    """Return the index that `forward` sends to `image`, 0 <= image < N."""
    size, left, bits = par[at + _N], par[at + _LEFT], par[at + _RIGHT_BITS]
    k0, k1, k2, k3 = par[at + _KEY], par[at + _KEY + 1], par[at + _KEY + 2], par[at + _KEY + 3]
    mask = (1 << bits) - 1
    x = image
    while True:
        a = x >> bits
        b = x & mask
        b = (b - (_mix(a, k3) >> (32 - bits))) & mask
        a -= (_mix(b, k2) * left) >> 32
        a = a + left if a < 0 else a
        b = (b - (_mix(a, k1) >> (32 - bits))) & mask
        a -= (_mix(b, k0) * left) >> 32
        a = a + left if a < 0 else a
        x = (a << bits) | b
        if x < size:
            return x
