"""Compiled BLAKE2b: the digests that hashlib gives."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from p2mbatch.base.arrays import UInt8Array, UInt64Array
from p2mbatch.compiled.batch.digest import MESSAGE_BYTES, WORK_WORDS, blake2b
from p2mbatch.compiled.jit import kernel


@kernel
def digest_of(message: UInt8Array, length: int, digest_bytes: int, work: UInt64Array) -> None:
    blake2b(message, length, digest_bytes, work)


@pytest.mark.lane
@pytest.mark.parametrize("digest_bytes", [8, 16])
def test_every_length_has_hashlibs_digest(digest_bytes: int) -> None:
    text = np.frombuffer(hashlib.shake_128(b"p2m").digest(MESSAGE_BYTES), np.uint8)
    work = np.zeros(WORK_WORDS, np.uint64)
    for length in [*range(1, 20), 63, 64, 65, 127, 128]:
        # What the message before left behind the end must not count.
        message = np.full(MESSAGE_BYTES, 7, np.uint8)
        message[:length] = text[:length]
        digest_of(message, length, digest_bytes, work)
        expected = hashlib.blake2b(text[:length].tobytes(), digest_size=digest_bytes).digest()
        assert work.tobytes()[:digest_bytes] == expected
