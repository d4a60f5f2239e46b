"""The kernel's own words, for policies of your own: what a file given as `--policy` is written in.

`docs/own-policy.md` tells how. The file is compiled, never run: of this package it needs the names
alone, so that editors and type checkers know them.
"""

from p2mbatch.linux.trees import Kernel, Stale, Tracked
from p2mbatch.linux.words import (
    BUG,
    BUG_ON,
    FOREIGN_FRAME_BIT,
    INVALID_P2M_ENTRY,
    MAX_P2M_PFN,
    NULL,
    P2M_MID_PER_PAGE,
    P2M_PER_PAGE,
    P2M_TOP_PER_PAGE,
    PAGE_SIZE,
    Pointer,
    alloc_p2m_page,
    cmpxchg,
    extend_brk,
    free_p2m_page,
    memset_l,
    mfn_to_virt,
    p2m_index,
    p2m_mid_index,
    p2m_top_index,
    pfn_to_mfn,
    virt_to_mfn,
)

__all__ = [
    "BUG",
    "BUG_ON",
    "FOREIGN_FRAME_BIT",
    "INVALID_P2M_ENTRY",
    "MAX_P2M_PFN",
    "NULL",
    "P2M_MID_PER_PAGE",
    "P2M_PER_PAGE",
    "P2M_TOP_PER_PAGE",
    "PAGE_SIZE",
    "Kernel",
    "Pointer",
    "Stale",
    "Tracked",
    "alloc_p2m_page",
    "cmpxchg",
    "extend_brk",
    "free_p2m_page",
    "memset_l",
    "mfn_to_virt",
    "p2m_index",
    "p2m_mid_index",
    "p2m_top_index",
    "pfn_to_mfn",
    "virt_to_mfn",
]
