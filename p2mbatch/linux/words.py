"""What the kernel's words are and do, for readers and type checkers.

p2mbatch knows them by their names and compiles them itself (`compiled/own`); nothing here is run.
Words, MFNs and PFNs are whole numbers; `INVALID_P2M_ENTRY` is -1 in either width. A pointer is an
address, also a whole number; `p[i]` is word i of the page that it points to.
"""

from __future__ import annotations

from typing import Any

Pointer = Any
"""An address that may be read and stored through; NULL is 0."""

NULL: Pointer = 0

PAGE_SIZE = 4096

INVALID_P2M_ENTRY = -1
"""The entry of a PFN that has no frame: all ones."""

FOREIGN_FRAME_BIT = 1 << 31
"""Set in the entry of a frame that is another domain's."""

P2M_PER_PAGE = P2M_MID_PER_PAGE = P2M_TOP_PER_PAGE = 512
"""Words in a page: 512 in a 64-bit guest, 1,024 in a 32-bit one."""

MAX_P2M_PFN = P2M_PER_PAGE**3
"""The first PFN that the tree can't hold."""

MAX_DOMAIN_PAGES = 8_388_608
"""Pages of the largest guest of a two-level kernel: 32 GiB on 64-bit, 8 GiB on 32-bit."""

_COMPILED = "is a word for policies, compiled by p2mbatch: see docs/own-policy.md"


def BUG_ON(condition: object, text: str = "") -> None:
    """End the guest with a BUG where `condition` holds.

    What is told is the condition as it is written, without `self.`, or `text`.
    """
    raise NotImplementedError(f"BUG_ON {_COMPILED}")


def BUG(text: str = "") -> None:
    """End the guest with a BUG that is told as `text`."""
    raise NotImplementedError(f"BUG {_COMPILED}")


def virt_to_mfn(address: Pointer) -> int:
    """Return the MFN of the page at an address: the p2m's entry of its PFN, foreign bit off."""
    raise NotImplementedError(f"virt_to_mfn {_COMPILED}")


def virt_to_pfn(address: Pointer) -> int:
    """Return the PFN of the page at an address."""
    raise NotImplementedError(f"virt_to_pfn {_COMPILED}")


def array(words: int) -> Pointer:
    """Declare, in a class, a static array of so many words: pages of the kernel's image."""
    return NULL


def mfn_to_virt(mfn: int) -> Pointer:
    """Return the direct map's address of the PFN that the host's m2p names for `mfn`."""
    raise NotImplementedError(f"mfn_to_virt {_COMPILED}")


def pfn_to_mfn(pfn: int) -> int:
    """Return the p2m's entry of `pfn`, foreign bit off."""
    raise NotImplementedError(f"pfn_to_mfn {_COMPILED}")


def extend_brk(size: int, align: int) -> Pointer:
    """Return the next `size` bytes of brk, whole pages of zeros; after boot it is a BUG."""
    raise NotImplementedError(f"extend_brk {_COMPILED}")


def alloc_p2m_page() -> Pointer:
    """Return a page, or NULL where there is no memory."""
    raise NotImplementedError(f"alloc_p2m_page {_COMPILED}")


def free_p2m_page(page: Pointer) -> None:
    """Give a page back. What is stored through it later is a stray write."""
    raise NotImplementedError(f"free_p2m_page {_COMPILED}")


def cmpxchg(page: Pointer, index: int, old: int, new: int) -> int:
    """Return word `index` of `page`, and store `new` there if it was `old`."""
    raise NotImplementedError(f"cmpxchg {_COMPILED}")


def memset_l(page: Pointer, word: int, count: int) -> None:
    """Store `word` as each of the first `count` words of `page`."""
    raise NotImplementedError(f"memset_l {_COMPILED}")


def p2m_top_index(pfn: int) -> int:
    """Return which entry of `p2m_top` leads to `pfn`."""
    raise NotImplementedError(f"p2m_top_index {_COMPILED}")


def p2m_mid_index(pfn: int) -> int:
    """Return which entry of its mid page leads to `pfn`."""
    raise NotImplementedError(f"p2m_mid_index {_COMPILED}")


def p2m_index(pfn: int) -> int:
    """Return which entry of its leaf is that of `pfn`."""
    raise NotImplementedError(f"p2m_index {_COMPILED}")
