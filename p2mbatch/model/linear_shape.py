"""How long a scenario's linear p2m is, and how many pages its boot takes (linear-spec L3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import signed_word
from p2mbatch.model.policies import Policy

BLOCK_PFNS = 1 << 18
"""PFNs that one level-1 page serves."""

LEAF_PFNS = 512

USUAL_VADDR = 0xFFFFC900_00000000
"""Where Linux's table begins: the first area of its vmalloc range, a multiple of 1 GiB."""


@dataclass(frozen=True)
class LinearShape:
    """A linear p2m as a guest boots with it. Counts and PFNs in pages."""

    end: int
    """The PFN after the last booted or of extra memory."""
    reach: int
    """The PFN after the last that may ever be populated."""
    area_pfns: int
    p2m_vaddr: int
    """Where the table begins, as its word."""
    no_list: bool
    """Whether the toolstack can read the table from boot on, so that no list is kept."""
    hash_pages: int
    """Pages that boot takes for nothing of the p2m."""

    @property
    def num_leaves(self) -> int:
        """Return how many leaves are cached: whole blocks, one more than may be populated."""
        blocks = -(-self.reach // BLOCK_PFNS) + 1
        return min(self.area_pfns, blocks * BLOCK_PFNS) // LEAF_PFNS

    @property
    def own_leaves(self) -> int:
        """Return how many leaves of their own boot may make."""
        return -(-min(self.end, self.area_pfns) // LEAF_PFNS)

    @property
    def _own_blocks(self) -> int:
        return -(-min(self.reach, self.area_pfns) // BLOCK_PFNS)

    @property
    def table_pages(self) -> int:
        """Return how many page table pages there may be below level 4, with the shared ones."""
        first, last = self.p2m_vaddr, self.p2m_vaddr + 8 * self.area_pfns - 1
        above = sum((last >> bits) - (first >> bits) + 1 for bits in (30, 39))
        return 2 + self._own_blocks + above

    @property
    def list_pages(self) -> int:
        """Return how many pages the list may take."""
        return 3 + self._own_blocks

    @property
    def boot_pages(self) -> int:
        """Return the pages that boot may take: leaves, tables and, where one is kept, the list."""
        lists = 0 if self.no_list else self.list_pages
        return 2 + self.own_leaves + self.table_pages + self.hash_pages + lists

    @property
    def later_pages(self) -> int:
        """Return the pages that the first resume takes for a list that was not kept."""
        return self.list_pages if self.no_list else 0

    @property
    def signed_vaddr(self) -> int:
        """Return `p2m_vaddr` as the int64 of its bits."""
        return signed_word(self.p2m_vaddr)


def area_pfns(nr_pages: int, hotplug_gib: int) -> int:
    """Return how many PFNs the table's area has: whole blocks, at least the hotplug limit's."""
    size = -(-nr_pages // LEAF_PFNS) * LEAF_PFNS
    return BLOCK_PFNS * max(-(-size // BLOCK_PFNS), hotplug_gib)


@dataclass(frozen=True)
class LinearFields:
    """What a scenario says of a linear p2m."""

    hotplug_gib: int = 512
    """The kernel's limit of hot-added memory, which its area is long enough for."""
    p2m_vaddr: int = USUAL_VADDR
    told: bool = True
    """Whether the domain builder tells the guest that the toolstack can read its table."""

    def shape(self, policy: Policy, nr_pages: int, span: int, reach: int) -> LinearShape:
        """Return what a guest's p2m is like that boots with `nr_pages` of `span`."""
        return LinearShape(
            end=max(nr_pages, span),
            reach=max(nr_pages, reach),
            area_pfns=area_pfns(nr_pages, self.hotplug_gib),
            p2m_vaddr=self.p2m_vaddr,
            no_list=self.told and not policy.whole_area,
            hash_pages=policy.hash_pages,
        )


def boot_runs(pages: Int64Array, identity: Int64Array, extra: Int64Array) -> Int64Array:
    """Return what the boot of a linear p2m takes: the pages that it has, 1:1 runs, extra memory.

    All are int64[k, 2] of [first PFN, count].
    """
    counts = np.array([[len(pages), len(identity)]], np.int64)
    return np.concatenate([counts, pages, identity, extra])


USUAL_LINEAR = LinearFields()
