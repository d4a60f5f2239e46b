"""What the rules read of a living guest: whose its frames are, its leaves, its list.

All of it is of guests on table hosts, as traces have them; nothing is changed.
"""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.compiled import tables as tb
from p2mbatch.model import reads
from p2mbatch.model.life import Life


def entries_of(life: Life, pfns: Int64Array) -> Int64Array:
    """Return a guest's entries (`reads.entries_of`)."""
    return reads.entries_of(life.policy, life.tables, life.host, pfns)


def pages_of_leaves(life: Life, num_leaves: int) -> Int64Array:
    """Return the pages of a guest's leaves (`reads.pages_of_leaves`)."""
    return reads.pages_of_leaves(life.tables, num_leaves)


def page_of_leaf(life: Life, x: int) -> int:
    """Return the PFN of one leaf's page, also of one past the memory that the guest may have."""
    pages = life.tables.leaf_page
    return int(pages[x]) if x < len(pages) else int(pages_of_leaves(life, x + 1)[x])


def is_shared(life: Life, pages: Int64Array) -> BoolArray:
    """Return which pages are those that many leaves share: `p2m_missing` and `p2m_identity`."""
    shared: BoolArray = (pages == life.scalar("missing")) | (pages == _identity(life))
    return shared


def _identity(life: Life) -> int:
    page = life.scalar("identity")
    return page if page != tb.NO_PAGE else life.scalar("missing")


def words_of(life: Life, page: int) -> Int64Array:
    """Return the words of a page, int64[n]; zeros where nothing was written."""
    tables = life.tables
    block = page >> tb.BLOCK_SHIFT
    row = int(tables.block_of[block]) if 0 <= block < len(tables.block_of) else -1
    slot = int(tables.block_code[row, page & ((1 << tb.BLOCK_SHIFT) - 1)]) if row >= 0 else -1
    words: Int64Array = tables.words[slot] if slot >= 0 else np.zeros(tables.words.shape[1], "i8")
    return words


def own_pfns(life: Life, mfns: Int64Array) -> Int64Array:
    """Return the PFN at which the guest owns each frame, int64[k]; -1 where it does not."""
    host = life.host
    possible = (mfns >= 0) & (mfns < len(host.owned))
    at = np.where(possible, mfns, 0)
    found: Int64Array = np.where(possible & (host.owned[at] != 0), host.m2p[at], -1)
    return found


class Pages:
    """The guest's pages at one moment: which PFNs are populated, which m2p names at all."""

    def __init__(self, life: Life) -> None:
        mfns = np.flatnonzero(life.host.owned)
        self.named: Int64Array = life.host.m2p[mfns]
        """PFNs that m2p names for the guest's own frames."""
        self.populated: Int64Array = self.named[entries_of(life, self.named) == mfns]
        """Those of them whose entry is that frame (`compiled/judge`)."""


def lost_pages(before: Pages, after: Pages) -> Int64Array:
    """Return the PFNs populated before and not after, ascending."""
    return np.setdiff1d(before.populated, after.populated)


def ghost_pages(before: Pages, after: Pages) -> Int64Array:
    """Return the PFNs that m2p names after and that were not populated before, ascending."""
    return np.setdiff1d(after.named, before.populated)


def wrong_in_list(life: Life) -> list[str]:
    """Return what is wrong with the list that a toolstack of 4.7 finds; nothing where all is right.

    Each is one of "report" (the reported frame is no page of the guest's), "top-entry" (an entry of
    the frame list list is none) and "leaf-entry" (an entry of a frame list leads to no true leaf);
    with "-of-a-hole" where no leaf of the guest's own lies under it. The two shared leaves
    count as equal (policies-spec P0). A guest that reports a table has no list that is read.
    """
    state = life.tables.state[0]
    if state.shared_cr3 != 0:
        return []
    n = life.tables.words.shape[1]
    shift = int(state.entries_shift)
    num_leaves = min(((int(state.shared_max) - 1) >> shift) + 1, n * n)
    num_tops = -(-num_leaves // n)
    page = int(own_pfns(life, np.array([state.shared_fll]))[0])
    if page < 0:
        return ["report"]
    tops = words_of(life, page)[:num_tops]
    differs = np.flatnonzero(tops != tops[-1])
    # The walk's trim: of equal entries at the end it reads the first.
    num_read = min(num_tops, (int(differs[-1]) + 1 if len(differs) else 0) + 1)
    num_leaves = min(num_leaves, num_read * n)
    true = pages_of_leaves(life, num_leaves)
    lists = own_pfns(life, tops[:num_read])
    found: list[str] = []
    for top in range(num_read):
        leaves = true[top * n : (top + 1) * n]
        if lists[top] < 0:
            found.append(_told("top-entry", bool(is_shared(life, leaves).all())))
            continue
        listed = own_pfns(life, words_of(life, int(lists[top]))[: len(leaves)])
        shared = is_shared(life, leaves)
        bad = (listed != leaves) & ~(shared & is_shared(life, listed))
        found += [
            _told("leaf-entry", hole) for hole in (False, True) if (bad & (shared == hole)).any()
        ]
    return list(dict.fromkeys(found))


def _told(what: str, hole: bool) -> str:
    return f"{what}-of-a-hole" if hole else what
