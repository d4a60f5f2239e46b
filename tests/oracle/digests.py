"""What a recording keeps of a guest's tables: digests over little-endian 64-bit words."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from oracle.ends import Fault

if TYPE_CHECKING:
    from oracle.reference import Machine

WIDE_INVALID = (1 << 64) - 1
WILD = b"\xfe" + b"\xff" * 7
"""What stands for an entry behind a wild pointer."""


def widen(guest: Machine, word: int) -> int:
    return WIDE_INVALID if word == guest.invalid else word


def wide(guest: Machine, words: list[int]) -> bytes:
    """Return the words as little-endian 64-bit ones, INVALID as all ones."""
    if guest.w == 4:
        words = [widen(guest, word) for word in words]
    return struct.pack(f"<{len(words)}Q", *words)


def frame_list_list(guest: Machine) -> Iterator[bytes]:
    if guest.top_mfn:
        yield wide(guest, guest.page(guest.pfn_at(guest.top_mfn)))


def frame_list(guest: Machine) -> Iterator[bytes]:
    """The true mid_mfn pages, up to the last leaf that the tree has room for."""
    if not guest.mid_missing_mfn:
        return
    num_leaves = min(-(-guest.xen_max_p2m_pfn // guest.n), guest.n**2)
    for x in range(0, num_leaves, guest.n):
        page = guest.true_mid_mfn.get(x // guest.n, guest.mid_missing_mfn)
        yield wide(guest, guest.page(guest.pfn_at(page))[: num_leaves - x])


def p2m(guest: Machine) -> Iterator[bytes]:
    if not guest.top:
        return
    missing = b""
    for first in range(0, guest.xen_max_p2m_pfn, guest.n):
        count = min(guest.n, guest.xen_max_p2m_pfn - first)
        if first >= guest.max_p2m_pfn_limit:
            yield b"\xff" * 8 * count
            continue
        try:
            pointer = guest.leaf_pointer(first)
            words = guest.reach(pointer, "p2m_mid entry")
        except Fault:
            yield WILD * count
            continue
        if pointer != guest.missing:
            yield wide(guest, words[:count])
            continue
        # Most of a sparse guest is this one page.
        missing = missing or wide(guest, words)
        yield missing[: 8 * count]


def sha256(chunks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
