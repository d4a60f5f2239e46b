"""2.6.38: the tracked tree of three levels, its last leaf's tail INVALID, one more brk request."""

from __future__ import annotations

from collections.abc import Iterator

from oracle.ends import Bug, Fault
from oracle.eras.machine import Json
from oracle.eras.tree import TreeEra

FOREIGN = 1 << 31


class Tail(TreeEra):
    """2.6.38; and what the later eras of three levels keep of it."""

    def __init__(self, trace: Json) -> None:
        super().__init__(trace)
        self.xen_max_p2m_pfn = self.nr_pages
        # Pointer variables of the kernel, as PFNs; -1 is NULL.
        self.missing = self.mid_missing = self.top = -1
        self.mid_missing_mfn = self.top_mfn_p = self.top_mfn = -1
        # Pages that the kernel knows by an address outside the direct map.
        self.image_pages: set[int] = set()

    # --- lookups ------------------------------------------------------------------------------

    def mid_of(self, top: int) -> int:
        return self.pfn_at(self.page(self.top)[top])

    def leaf_of(self, pfn: int) -> int:
        mid = self.page(self.mid_of(pfn // self.n**2))
        return self.pfn_at(mid[pfn // self.n % self.n])

    def tracked(self, top: int) -> int:
        return self.pfn_at(self.page(self.top_mfn_p)[top])

    def true_leaf(self, x: int) -> int:
        return self.leaf_of(x * self.n)

    def placeholders(self) -> set[int]:
        return {self.missing}

    def shared_mids(self) -> set[int]:
        return {self.mid_missing}

    def own_leaves(self) -> Iterator[tuple[int, int]]:
        shared = self.placeholders()
        for top in range(self.n):
            if self.mid_of(top) in self.shared_mids():
                continue
            for mid, pointer in enumerate(self.page(self.mid_of(top))):
                if self.pfn_at(pointer) not in shared:
                    yield top * self.n + mid, self.pfn_at(pointer)

    def get(self, pfn: int) -> int:
        if pfn >= self.n**3:
            return self.invalid
        return self.page(self.leaf_of(pfn))[pfn % self.n]

    def pfn_to_mfn(self, pfn: int) -> int:
        word = self.get(pfn)
        return word if word == self.invalid else word & ~FOREIGN

    def identity_value(self, pfn: int) -> int | None:
        return None

    # --- boot ---------------------------------------------------------------------------------

    def boot(self, event: Json) -> None:
        self.fill_mfn_list(event["host"])
        self.take_placeholders()
        self.hang_leaves()
        self.extend_brk(4 if self.w == 8 else 2)
        self.build()
        self.end_boot()

    def filled_brk(self, word: int) -> int:
        pfn = self.extend_brk()
        self.fill(pfn, word)
        return pfn

    def take_placeholders(self) -> None:
        self.missing = self.filled_brk(self.invalid)
        self.mid_missing = self.filled_brk(self.address(self.missing))
        self.top = self.filled_brk(self.address(self.mid_missing))

    def hang_leaves(self) -> None:
        """`xen_build_dynamic_phys_to_machine`: the leaves are `mfn_list` itself."""
        for x in range(-(-self.nr_pages // self.n)):
            top, mid = divmod(x, self.n)
            if self.mid_of(top) == self.mid_missing:
                self.hang_mid(top, self.extend_brk())
            leaf = self.mfn_list_page(x)
            used = min(self.n, self.nr_pages - x * self.n)
            self.page(leaf)[used:] = [self.invalid] * (self.n - used)
            self.page(self.mid_of(top))[mid] = self.address(leaf)

    def hang_mid(self, top: int, fresh: int) -> None:
        self.fill(fresh, self.address(self.missing))
        self.page(self.top)[top] = self.address(fresh)

    def end_boot(self) -> None:
        self.brk_open = False
        self.xen_max_p2m_pfn = self.max_p2m_pfn
        self.report()

    def report(self) -> None:
        self.shared_fll = self.pfn_to_mfn(self.top_mfn)
        self.shared_max_pfn = self.xen_max_p2m_pfn

    def resume(self) -> None:
        self.build()
        self.report()

    # --- the mfn list list --------------------------------------------------------------------

    def list_page(self) -> int:
        """A page for the list, while it is built."""
        pfn = self.extend_brk()
        if self.w == 8:
            self.image_pages.add(pfn)
        return pfn

    def first_pages(self) -> None:
        """The pages that the first build takes."""
        self.mid_missing_mfn = self.list_page()
        self.fill(self.mid_missing_mfn, self.pfn_to_mfn(self.missing))
        self.top_mfn_p = self.list_page()
        self.fill(self.top_mfn_p, self.address(self.mid_missing_mfn))
        self.top_mfn = self.list_page()
        self.fill(self.top_mfn, self.pfn_to_mfn(self.mid_missing_mfn))

    def refill(self) -> None:
        """What every later build begins with."""
        self.fill(self.mid_missing_mfn, self.pfn_to_mfn(self.missing))

    def build(self) -> None:
        """`xen_build_mfn_list_list`."""
        if self.top_mfn == -1:
            self.first_pages()
        else:
            self.refill()
        pfn = 0
        while pfn < self.xen_max_p2m_pfn:
            top, mid = pfn // self.n**2, pfn // self.n % self.n
            if self.mid_of(top) == self.mid_missing:
                if mid != 0:
                    raise Bug("mididx")
                if self.tracked(top) != self.mid_missing_mfn:
                    raise Bug("mid_mfn_p != p2m_mid_missing_mfn")
                self.page(self.top_mfn)[top] = self.pfn_to_mfn(self.mid_missing_mfn)
                pfn += self.n**2
                continue
            if self.tracked(top) == self.mid_missing_mfn:
                self.track(top, self.list_page())
            self.page(self.top_mfn)[top] = self.pfn_to_mfn(self.tracked(top))
            self.store_leaf_mfn(self.tracked(top), pfn, self.pfn_to_mfn(self.leaf_of(pfn)))
            pfn += self.n

    def track(self, top: int, fresh: int) -> None:
        self.fill(fresh, self.pfn_to_mfn(self.missing))
        self.page(self.top_mfn_p)[top] = self.address(fresh)

    def store_leaf_mfn(self, mid_mfn: int, pfn: int, mfn: int) -> None:
        """A store through a mid_mfn page: it must be in the direct map if it is known by that."""
        absent = mid_mfn not in self.present and mid_mfn not in self.image_pages
        if self.second_machine and absent:
            raise Fault("mid_mfn store")
        self.page(mid_mfn)[pfn // self.n % self.n] = mfn

    # --- set ----------------------------------------------------------------------------------

    def try_set(self, pfn: int, word: int) -> bool:
        """`__set_phys_to_machine`."""
        if pfn >= self.n**3:
            if word != self.invalid:
                raise Bug("mfn != INVALID_P2M_ENTRY")
            return True
        if self.leaf_of(pfn) == self.missing:
            return word == self.invalid
        self.store(pfn, self.leaf_of(pfn), word)
        return True

    def set_phys_to_machine(self, pfn: int, word: int) -> bool:
        return self.try_set(pfn, word) or (self.alloc_p2m(pfn) and self.try_set(pfn, word))

    def alloc_p2m(self, pfn: int) -> bool:
        top, mid = pfn // self.n**2, pfn // self.n % self.n
        if self.mid_of(top) == self.mid_missing:
            fresh = self.alloc_p2m_page()
            if fresh is None:
                return False
            self.hang_mid(top, fresh)
        mid_mfn = self.tracked(top)
        if self.pfn_to_mfn(mid_mfn) != self.page(self.top_mfn)[top]:
            raise Bug("virt_to_mfn(mid_mfn) != *top_mfn_p")
        if mid_mfn == self.mid_missing_mfn:
            fresh = self.alloc_p2m_page()
            if fresh is None:
                return False
            self.track(top, fresh)
            self.page(self.top_mfn)[top] = self.pfn_to_mfn(fresh)
            mid_mfn = fresh
        if self.leaf_of(pfn) == self.missing:
            leaf = self.alloc_p2m_page()
            if leaf is None:
                return False
            self.fill(leaf, self.invalid)
            self.page(self.mid_of(top))[mid] = self.address(leaf)
            self.store_leaf_mfn(mid_mfn, pfn, self.pfn_to_mfn(leaf))
        return True

    # --- digests ------------------------------------------------------------------------------

    def num_digest_leaves(self) -> int:
        return min(self.n**2, -(-self.max_p2m_pfn // self.n))

    def frame_list_list(self) -> Iterator[bytes]:
        yield self.wide(self.page(self.top_mfn))

    def frame_list(self) -> Iterator[bytes]:
        for x in range(0, self.num_digest_leaves(), self.n):
            words = self.page(self.tracked(x // self.n))
            yield self.wide(words[: self.num_digest_leaves() - x])
