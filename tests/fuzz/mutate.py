"""Seeded mutations of dump files: for runs without a coverage-guided fuzzer."""

from __future__ import annotations

import numpy as np

_NUMBERS = (0, 1, 2, 7, 8, 4095, 4096, 1 << 16, 1 << 20, 1 << 27, (1 << 31) - 1, 1 << 31)
_WIDE = (1 << 32, (1 << 40) - 1, 1 << 40, 1 << 52, (1 << 60) + 5, 0xF << 60, (1 << 63), -1)


def mutations(data: bytes, count: int, seed: int):
    """Yield `count` mutated copies of `data`: bits, numbers, cut, doubled and moved pieces."""
    random = np.random.default_rng(seed)
    # Headers are where the lies are: half of the places lie in the first part or the last.
    for _ in range(count):
        copy = bytearray(data)
        for _ in range(int(random.integers(1, 4))):
            if len(copy) < 32:
                break
            region = random.integers(4)
            low, high = (
                ((0, min(512, len(copy))), (max(len(copy) - 12000, 0), len(copy)))[region % 2]
                if region < 3
                else (0, len(copy))
            )
            at = int(random.integers(low, high))
            kind = random.integers(7)
            if kind == 0:
                copy[at] ^= 1 << int(random.integers(8))
            elif kind == 1:
                number = int(random.choice(_NUMBERS))
                at -= at % 4
                copy[at : at + 4] = number.to_bytes(4, "little")
            elif kind == 2:
                number = int(random.choice(np.array(_WIDE, object))) & (2**64 - 1)
                at -= at % 8
                copy[at : at + 8] = number.to_bytes(8, "little")
            elif kind == 3:
                del copy[at:]
            elif kind == 4:
                del copy[at : at + int(random.integers(1, 64))]
            elif kind == 5:
                piece = copy[at : at + int(random.integers(1, 5000))]
                copy[at:at] = piece
            else:
                copy[at : at + 8] = copy[at + 8 : at + 16]
        yield bytes(copy)
