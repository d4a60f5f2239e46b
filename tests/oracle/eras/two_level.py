"""2.6.27 to 2.6.36: two levels in static arrays; the list rebuilt in full, or at boot only."""

from __future__ import annotations

from collections.abc import Iterator

from oracle.ends import Bug
from oracle.eras.machine import Json
from oracle.eras.tree import TreeEra

FOREIGN = 1 << 31


class TwoLevel(TreeEra):
    """2.6.33 to 2.6.36, and 2.6.27 to 2.6.29."""

    rebuilds = True

    def __init__(self, trace: Json) -> None:
        super().__init__(trace)
        self.max_domain_pages: int = self.guest["max_domain_pages"]
        self.num_tops = self.max_domain_pages // self.n
        static = self.guest["static"]
        self.missing: int = static["p2m_missing"]
        self.top: int = static["p2m_top"]
        self.top_mfn: int = static["p2m_top_mfn"]
        self.top_mfn_list: int = static["p2m_top_mfn_list"]

    # --- lookups ------------------------------------------------------------------------------

    def true_leaf(self, x: int) -> int:
        return self.pfn_at(self.page(self.top + x // self.n)[x % self.n])

    def placeholders(self) -> set[int]:
        return {self.missing}

    def own_leaves(self) -> Iterator[tuple[int, int]]:
        for x in range(self.num_tops):
            if self.true_leaf(x) != self.missing:
                yield x, self.true_leaf(x)

    def get(self, pfn: int) -> int:
        if pfn >= self.max_domain_pages:
            return self.invalid
        return self.page(self.true_leaf(pfn // self.n))[pfn % self.n]

    def pfn_to_mfn(self, pfn: int) -> int:
        return self.get(pfn) & ~FOREIGN

    def identity_value(self, pfn: int) -> int | None:
        return None

    # --- boot, resume -------------------------------------------------------------------------

    def boot(self, event: Json) -> None:
        self.fill_mfn_list(event["host"])
        self.fill(self.missing, self.invalid)
        for page in range(self.num_tops // self.n):
            self.fill(self.top + page, self.address(self.missing))
        for x in range(-(-min(self.max_domain_pages, self.nr_pages) // self.n)):
            self.page(self.top + x // self.n)[x % self.n] = self.address(self.mfn_list_page(x))
        self.build()
        self.report()

    def build(self) -> None:
        for x in range(self.num_tops):
            self.page(self.top_mfn + x // self.n)[x % self.n] = self.pfn_to_mfn(self.true_leaf(x))
        for page in range(self.num_tops // self.n):
            self.page(self.top_mfn_list)[page] = self.pfn_to_mfn(self.top_mfn + page)

    def report(self) -> None:
        self.shared_fll = self.pfn_to_mfn(self.top_mfn_list)
        self.shared_max_pfn = self.nr_pages

    def resume(self) -> None:
        if self.rebuilds:
            self.build()
        self.report()

    # --- set ----------------------------------------------------------------------------------

    def set_phys_to_machine(self, pfn: int, word: int) -> bool:
        if pfn >= self.max_domain_pages:
            if word != self.invalid:
                raise Bug("mfn != INVALID_P2M_ENTRY")
            return True
        x = pfn // self.n
        if self.true_leaf(x) == self.missing:
            if word == self.invalid:
                return True
            fresh = self.alloc_p2m_page()
            if fresh is None:
                raise Bug("p == NULL")
            self.fill(fresh, self.invalid)
            self.page(self.top + x // self.n)[x % self.n] = self.address(fresh)
            self.page(self.top_mfn + x // self.n)[x % self.n] = self.pfn_to_mfn(fresh)
        self.store(pfn, self.true_leaf(x), word)
        return True

    # --- digests ------------------------------------------------------------------------------

    def num_digest_leaves(self) -> int:
        return min(self.num_tops, -(-self.max_p2m_pfn // self.n))

    def frame_list_list(self) -> Iterator[bytes]:
        yield self.wide(self.page(self.top_mfn_list)[: self.num_tops // self.n])

    def frame_list(self) -> Iterator[bytes]:
        for x in range(0, self.num_digest_leaves(), self.n):
            yield self.wide(self.page(self.top_mfn + x // self.n)[: self.num_digest_leaves() - x])


class TwoLevelNone(TwoLevel):
    """2.6.30 to 2.6.32: the report at resume, and no rebuild."""

    rebuilds = False
