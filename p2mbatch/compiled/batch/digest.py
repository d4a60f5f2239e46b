"""BLAKE2b of one block, compiled: what keys a cell's bijections and the sizes of its hosts.

The same digests as hashlib's, for messages of up to 128 bytes. Source: RFC 7693.
"""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import UInt8Array, UInt64Array
from p2mbatch.compiled.jit import as_int, inline_kernel, inner_kernel, never_inline

MESSAGE_BYTES = 128

WORK_WORDS = 32
"""Of the workspace: BLAKE2b's sixteen words v, and the message's sixteen."""

_IV = np.array(
    [
        0x6A09E667F3BCC908,
        0xBB67AE8584CAA73B,
        0x3C6EF372FE94F82B,
        0xA54FF53A5F1D36F1,
        0x510E527FADE682D1,
        0x9B05688C2B3E6C1F,
        0x1F83D9ABFB41BD6B,
        0x5BE0CD19137E2179,
    ],
    np.uint64,
)

_ROUNDS = 12

_SIGMA = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
    ],
    np.int64,
)

_ONE_KEYLESS = np.uint64(0x01010000)

_ALL = ~np.uint64(0)

LOW_HALF = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


def bytes_of(text: str) -> UInt8Array:
    """Return a text's bytes, as `put_text` takes them."""
    return np.frombuffer(text.encode(), np.uint8)


@inline_kernel
def _turned(word: np.uint64, right: np.uint64, left: np.uint64) -> np.uint64:
    """Return `word` rotated by `right`, which is 64 - `left`."""
    return np.uint64(np.uint64(word >> right) | np.uint64(word << left))


@inline_kernel
def _mix(v: UInt64Array, a: int, b: int, c: int, d: int, x: np.uint64, y: np.uint64) -> None:
    """Do BLAKE2b's G."""
    v[a] = v[a] + v[b] + x
    v[d] = _turned(v[d] ^ v[a], np.uint64(32), np.uint64(32))
    v[c] = v[c] + v[d]
    v[b] = _turned(v[b] ^ v[c], np.uint64(24), np.uint64(40))
    v[a] = v[a] + v[b] + y
    v[d] = _turned(v[d] ^ v[a], np.uint64(16), np.uint64(48))
    v[c] = v[c] + v[d]
    v[b] = _turned(v[b] ^ v[c], np.uint64(63), np.uint64(1))


@inner_kernel
def blake2b(message: UInt8Array, length: int, digest_bytes: int, work: UInt64Array) -> None:
    """Write the digest of the first `length` bytes of `message` to `work[0]` and `work[1]`.

    `message` is uint8[MESSAGE_BYTES] and is cleared behind `length`; `work` uint64[WORK_WORDS].
    The digest has `digest_bytes`, 16 at most; of 8 it is `work[0]` alone.
    """
    never_inline()
    v, m = work[:16], work[16:32]
    for i in range(length, MESSAGE_BYTES):
        message[i] = 0
    for i in range(16):
        word = np.uint64(0)
        for j in range(8):
            word |= np.uint64(message[8 * i + j]) << np.uint64(8 * j)
        m[i] = word
    for i in range(8):
        v[i] = _IV[i]
        v[i + 8] = _IV[i]
    first = np.uint64(_IV[0] ^ _ONE_KEYLESS ^ np.uint64(digest_bytes))
    v[0] = first
    v[12] ^= np.uint64(length)
    v[14] ^= _ALL
    for turn in range(_ROUNDS):
        s = _SIGMA[turn % 10]
        _mix(v, 0, 4, 8, 12, m[s[0]], m[s[1]])
        _mix(v, 1, 5, 9, 13, m[s[2]], m[s[3]])
        _mix(v, 2, 6, 10, 14, m[s[4]], m[s[5]])
        _mix(v, 3, 7, 11, 15, m[s[6]], m[s[7]])
        _mix(v, 0, 5, 10, 15, m[s[8]], m[s[9]])
        _mix(v, 1, 6, 11, 12, m[s[10]], m[s[11]])
        _mix(v, 2, 7, 8, 13, m[s[12]], m[s[13]])
        _mix(v, 3, 4, 9, 14, m[s[14]], m[s[15]])
    v[0] = first ^ v[0] ^ v[8]
    v[1] = _IV[1] ^ v[1] ^ v[9]


@inline_kernel
def put_text(message: UInt8Array, at: int, text: UInt8Array) -> int:
    """Write `text` to `message` from `at` on; return where it ends."""
    for i in range(len(text)):
        message[at + i] = text[i]
    return at + len(text)


@inline_kernel
def upper_half(word: np.uint64, count: np.uint64) -> int:
    """Return the upper 64 bits of the product of 128 bits, below `count`, which is below 2^63."""
    a, b = word >> HALF, word & LOW_HALF
    c, d = count >> HALF, count & LOW_HALF
    middle = np.uint64(np.uint64(a * d) + (np.uint64(b * d) >> HALF))
    other = np.uint64(np.uint64(b * c) + (middle & LOW_HALF))
    upper = np.uint64(np.uint64(a * c) + (middle >> HALF))
    return as_int(np.uint64(upper + (other >> HALF)))


@inner_kernel
def put_number(message: UInt8Array, at: int, number: int) -> int:
    """Write the decimal digits of `number`, which is not negative; return where they end."""
    rest = number // 10
    end = at + 1
    while rest > 0:
        rest //= 10
        end += 1
    rest = number
    for i in range(end - 1, at - 1, -1):
        message[i] = 48 + rest % 10
        rest //= 10
    return end
