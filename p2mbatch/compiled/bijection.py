"""Keyed bijections on [0, N): the order in which a host hands out its memory, with no table.

`forward` and `inverse` cost the same few nanoseconds for any index, so a frame's owner is found
without storing who owns it (model section 10). The construction is a generalised Feistel network
over a grid of `left` x 2^`right_bits` cells, just larger than N, that walks on when it leaves N:
since it permutes the grid, the walk ends inside N and the whole is a bijection. Four rounds with
two multiplications each are what it takes for positions, differences and second differences of
consecutive outputs to look uniform; keys are digests, since related keys give related orders.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any

from p2mbatch.compiled.jit import inner_kernel
from p2mbatch.compiled.records import Bijection

MAX_SIZE = 1 << 32
"""The largest N: 16 TiB of frames, more than the 12 TiB that Xen supports."""

_MASK32 = 0xFFFFFFFF

# Below 2^31, so that no product of 32 bits with them leaves an int64.
_M1, _M2 = 0x7FEB352D, 0x5BD1E995


def parameters(size: int, *purpose: Any) -> Bijection:
    """Return the bijection on [0, `size`) that `purpose` names.

    The keys are a digest of `purpose` (seed, use, index), never state: the same names give the
    same bijection on any machine. `size` is 0 (never called) to MAX_SIZE.
    """
    right_bits = max(max(size - 1, 0).bit_length() // 2, 1)
    left = max(-(-size >> right_bits), 1)
    digest = hashlib.blake2b(repr(purpose).encode(), digest_size=16).digest()
    key0, key1, key2, key3 = struct.unpack("<4I", digest)
    return Bijection(
        length=size, left=left, right_bits=right_bits, key0=key0, key1=key1, key2=key2, key3=key3
    )


@inner_kernel
def _mix(value: int, key: int) -> int:
    """Return 32 bits of `value` (below 2^32) under `key`; the upper ones are well mixed."""
    h = ((value ^ key) * _M1) & _MASK32
    return ((h ^ (h >> 15)) * _M2) & _MASK32


@inner_kernel
def forward(perm: Bijection, index: int) -> int:
    """Return where `perm` sends `index`, 0 <= index < N."""
    size, left, bits = perm.length, perm.left, perm.right_bits
    mask = (1 << bits) - 1
    x = index
    while True:
        a = x >> bits
        b = x & mask
        b = (b + (_mix(a, perm.key0) >> (32 - bits))) & mask
        a += ((_mix(b, perm.key1) >> 16) * left) >> 16
        a = a - left if a >= left else a
        b = (b + (_mix(a, perm.key2) >> (32 - bits))) & mask
        a += ((_mix(b, perm.key3) >> 16) * left) >> 16
        a = a - left if a >= left else a
        x = (a << bits) | b
        if x < size:
            return x


@inner_kernel
def inverse(perm: Bijection, image: int) -> int:
    """Return the index that `forward` sends to `image`, 0 <= image < N."""
    size, left, bits = perm.length, perm.left, perm.right_bits
    mask = (1 << bits) - 1
    x = image
    while True:
        a = x >> bits
        b = x & mask
        a -= ((_mix(b, perm.key3) >> 16) * left) >> 16
        a = a + left if a < 0 else a
        b = (b - (_mix(a, perm.key2) >> (32 - bits))) & mask
        a -= ((_mix(b, perm.key1) >> 16) * left) >> 16
        a = a + left if a < 0 else a
        b = (b - (_mix(a, perm.key0) >> (32 - bits))) & mask
        x = (a << bits) | b
        if x < size:
            return x
