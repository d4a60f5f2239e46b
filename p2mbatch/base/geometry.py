"""The shape of the tree: entries per page, limits, index arithmetic; sizes as people write them.

Source: model section 2; the kernel's `P2M_PER_PAGE`, `P2M_MID_PER_PAGE`, `P2M_TOP_PER_PAGE`,
`MAX_P2M_PFN` and `FOREIGN_FRAME_BIT`.
"""

from __future__ import annotations

from typing import NamedTuple

from p2mbatch.base.errors import InputError
from p2mbatch.base.sizes import MIB

PAGE_SHIFT = 12

PAGE_BYTES = 1 << PAGE_SHIFT

INVALID = -1
"""`INVALID_P2M_ENTRY`, all ones in either width, as an int64."""

WILD = -2
"""What the p2m digest shows where a wild pointer is in the way (2^64 - 2 in a trace)."""

FOREIGN_FRAME_BIT = 1 << 31
"""Masked off by `pfn_to_mfn`, except from INVALID."""

IMAGE_MAP_PAGES = 523_776
"""Pages that the kernel image map of a 64-bit guest reaches (machine-v2 section 3b)."""

MAX_DOMAIN_PAGES = (128 << 30) >> PAGE_SHIFT
"""Pages of the largest guest that the kernel of the change takes: 128 GiB."""


class Geometry(NamedTuple):
    """The tree's shape for one word width (model section 2)."""

    word_bytes: int
    """w: 8 on 64-bit, 4 on 32-bit."""
    entries: int
    """n: entries per page, at every level (512 or 1024)."""
    entries_shift: int
    """log2 of `entries`."""
    max_p2m_pfn: int
    """`MAX_P2M_PFN` = n cubed, in pages."""
    va_pages_mask: int
    """Mask of the page number that an address of w bytes can name: 2^(8w - 12) - 1."""
    va_base: int
    """Where the direct map begins, as a word (an int64 bit pattern on 64-bit)."""
    direct_map_limit_pages: int
    """Pages that the direct map of a guest of this width can reach: 896 MiB on 32-bit."""


_GEOMETRIES = {
    8: Geometry(8, 512, 9, 512**3, (1 << 52) - 1, 0xFFFF_8800_0000_0000 - (1 << 64), 512**3),
    4: Geometry(4, 1024, 10, 1024**3, (1 << 20) - 1, 0xC000_0000, (896 * MIB) >> PAGE_SHIFT),
}


def geometry(word_bytes: int) -> Geometry:
    """Return the tree's shape for `word_bytes` 8 (64-bit) or 4 (32-bit).

    Raises `InputError` for any other width. Source: model section 2.
    """
    try:
        return _GEOMETRIES[word_bytes]
    except KeyError:
        raise InputError(f"word_bytes: {word_bytes!r} is not a word width: use 8 or 4") from None


def signed_word(number: int) -> int:
    """Return an unsigned number of 64 bits as the int64 of its bits, as arrays hold it."""
    return number - (1 << 64) if number >= 1 << 63 else number
