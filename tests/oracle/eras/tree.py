"""What the tree eras share: brk, the words' flags, the counters and the digests."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from oracle.ends import Bug
from oracle.eras.machine import WIDE_INVALID, Found, Host, Json, Machine, sha256
from oracle.eras.toolstack import map_leaves, tree_walk


class TreeEra(Machine):
    """A guest whose p2m is a tree of pages, of two levels or three."""

    def __init__(self, trace: Json) -> None:
        super().__init__(trace)
        self.nr_pages: int = self.guest["nr_pages"]
        self.max_p2m_pfn: int = self.guest["max_p2m_pfn"]
        self.brk_used = 0
        self.brk_open = True

    def extend_brk(self, count: int = 1) -> int:
        """The first of the next `count` brk pages."""
        if not self.brk_open:
            raise Bug("_brk_start == 0")
        if self.guest["brk_pages"] - self.brk_used < count:
            raise Bug("brk overflow")
        self.brk_used += count
        return int(self.guest["brk_pfn"]) + self.brk_used - count

    def fill_mfn_list(self, host: int) -> None:
        """What the domain builder hands over; the tail of the last page stays zeros."""
        self.host = Host(self.hosts[host])
        got = {pfn: mfn for pfn, mfn in self.host.domain.items() if pfn < self.nr_pages}
        for pfn in range(self.nr_pages):
            self.page(self.mfn_list_page(pfn // self.n))[pfn % self.n] = got.get(pfn, self.invalid)
        self.host.give_all(got)
        self.present.update(got)

    def mfn_list_page(self, x: int) -> int:
        return int(self.guest["mfn_list_pfn"]) + x

    def save(self, event: Json) -> Found:
        return map_leaves(self, *tree_walk(self, self.shared_fll, self.shared_max_pfn))

    def during(self, found: Found, event: Json, result: Json) -> None:
        super().during(found, event, result)
        if self.second_machine:
            result["placeholder_writes"] = self.placeholder_writes

    def identity_bound(self) -> int:
        return self.max_p2m_pfn

    # --- counters and digests -----------------------------------------------------------------

    def counters(self, op: str) -> Json:
        fll = self.shared_fll
        if not self.second_machine and fll == self.invalid:
            fll = WIDE_INVALID
        return {
            "brk_pages_used": self.brk_used,
            "pool_pages_used": self.pool_used,
            "frame_list_list_mfn": fll,
            "stray_writes": self.stray_writes,
            "stray_pages": len(self.stray_pages),
        }

    def frame_list_list(self) -> Iterator[bytes]:
        raise NotImplementedError

    def frame_list(self) -> Iterator[bytes]:
        raise NotImplementedError

    def num_digest_leaves(self) -> int:
        """How many leaves the digests cover: those of PFNs below max_p2m_pfn that the tree has."""
        raise NotImplementedError

    def leaf_words(self) -> Iterator[bytes]:
        shared = {page: self.wide(self.page(page)) for page in self.placeholders()}
        for x in range(self.num_digest_leaves()):
            leaf = self.true_leaf(x)
            yield shared[leaf] if leaf in shared else self.wide(self.page(leaf))

    def p2m_words(self) -> Iterator[bytes]:
        missing = b"\xff" * (8 * self.n)
        plain = self.placeholders()
        for first in range(0, self.max_p2m_pfn, self.n):
            count = min(self.n, self.max_p2m_pfn - first)
            x = first // self.n
            leaf = self.true_leaf(x) if x < self.num_digest_leaves() else None
            if leaf is not None and leaf not in plain:
                yield self.wide(self.page(leaf)[:count])
            elif self.get(first) == self.invalid:
                yield missing[: 8 * count]
            else:
                # Identity values: they count up with their PFNs.
                yield array("Q", range(self.get(first), self.get(first) + count)).tobytes()

    def digests(self) -> Json:
        names = ("frame_list_list", "frame_list", "p2m", "leaf_words")
        if not self.booted:
            return {f"{name}_sha256": None for name in names}
        chunks = (self.frame_list_list(), self.frame_list(), self.p2m_words(), self.leaf_words())
        return {f"{name}_sha256": sha256(c) for name, c in zip(names, chunks, strict=True)}
