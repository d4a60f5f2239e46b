"""The shape of the tree: entries per page, limits, index arithmetic; sizes as people write them.

Source: model section 2; the kernel's `P2M_PER_PAGE`, `P2M_MID_PER_PAGE`, `P2M_TOP_PER_PAGE`,
`MAX_P2M_PFN` and `FOREIGN_FRAME_BIT`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from p2mbatch.errors import InputError

PAGE_SHIFT = 12
PAGE_BYTES = 1 << PAGE_SHIFT
INVALID = -1
"""`INVALID_P2M_ENTRY`, all ones in either width, as an int64."""
WILD = -2
"""What the p2m digest shows where a wild pointer is in the way (2^64 - 2 in a trace)."""
FOREIGN_FRAME_BIT = 1 << 31
"""Masked off by `pfn_to_mfn`, except from INVALID."""
MAX_DOMAIN_PAGES = (128 << 30) >> PAGE_SHIFT
"""Pages of the largest guest that the kernel of the change takes: 128 GiB."""

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40


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


_UNITS = {
    "": 1,
    "b": 1,
    "kib": KIB,
    "mib": MIB,
    "gib": GIB,
    "tib": TIB,
    "k": KIB,
    "m": MIB,
    "g": GIB,
    "t": TIB,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


def parse_size(text: str | int, name: str = "size") -> int:
    """Return the bytes that `text` names: "128GiB", "630MiB", "1.5TiB", "10GB" or a plain number.

    K, M, G and T alone are the binary units. The result must be a whole number of bytes.
    Raises `InputError` naming `name` otherwise.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        if text < 0:
            raise InputError(f"{name}: {text} is negative: use a size such as 128GiB")
        return text
    match = _SIZE.fullmatch(str(text))
    factor = _UNITS.get(match.group(2).lower()) if match else None
    if match is None or factor is None:
        raise InputError(f"{name}: {text!r} is not a size: use a number and a unit, such as 128GiB")
    whole, _, fraction = match.group(1).partition(".")
    scale: int = 10 ** len(fraction)
    num_bytes, rest = divmod(int(whole + fraction) * factor, scale)
    if rest:
        raise InputError(f"{name}: {text!r} is not a whole number of bytes")
    return num_bytes


def format_size(num_bytes: int) -> str:
    """Return `num_bytes` as a person writes it, exactly: "128GiB", "1740MiB", "12345B"."""
    for unit, factor in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if num_bytes and num_bytes % factor == 0:
            return f"{num_bytes // factor}{unit}"
    return f"{num_bytes}B"
