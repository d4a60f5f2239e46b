"""What a p2m entry of a real guest can be beside a frame: foreign and identity marks."""

from __future__ import annotations

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.base.geometry import INVALID


def is_foreign(entries: Int64Array, word_bytes: int) -> BoolArray:
    """Return where `entries` are another domain's frames: the top bit, or bit 31 as in 2.6.37.

    INVALID is neither foreign nor identity. On 64-bit, bit 31 alone counts only below 2^32: a
    later host may have more than 8 TiB.
    """
    flagged = (entries & FOREIGN_FLAG[4]).astype(bool) & (entries >> 32 == 0)
    if word_bytes == 8:
        flagged |= entries < 0
    foreign: BoolArray = flagged & (entries != INVALID)
    return foreign


def is_identity(entries: Int64Array, word_bytes: int) -> BoolArray:
    """Return where `entries` are identity frames (the second bit from the top, later kernels)."""
    flagged = (entries & IDENTITY_FLAG[word_bytes]).astype(bool)
    identity: BoolArray = flagged & (entries != INVALID) & ~is_foreign(entries, word_bytes)
    return identity


def is_own(entries: Int64Array, word_bytes: int) -> BoolArray:
    """Return where `entries` are frames of the guest's own: neither mark, nor INVALID."""
    own: BoolArray = (
        (entries != INVALID) & ~is_foreign(entries, word_bytes) & ~is_identity(entries, word_bytes)
    )
    return own


FOREIGN_FLAG = {8: 1 << 63, 4: 1 << 31}

IDENTITY_FLAG = {8: 1 << 62, 4: 1 << 30}
"""The flags of later Linux kernels; the kernel of the change marks foreign frames with bit 31."""
