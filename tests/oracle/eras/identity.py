"""3.0 to 3.18: 1:1 ranges as shared leaves, then as shared mids too; leaves moved; a late list."""

from __future__ import annotations

from oracle.ends import Bug
from oracle.eras.machine import Json
from oracle.eras.tail import Tail


class Identity(Tail):
    """3.0 to 3.6; on 32-bit also 3.7 to 3.13."""

    # Whether the list exists while boot marks ranges.
    list_first = True

    def __init__(self, trace: Json) -> None:
        super().__init__(trace)
        self.identity = -1
        self.identity_bit = 1 << (8 * self.w - 2)
        self.flags = self.identity_bit | 1 << (8 * self.w - 1)
        self.identity_pages = 0
        self.warnings = 0

    # --- lookups ------------------------------------------------------------------------------

    def placeholders(self) -> set[int]:
        return {self.missing, self.identity}

    def identity_value(self, pfn: int) -> int | None:
        return pfn | self.identity_bit

    def get(self, pfn: int) -> int:
        if pfn >= self.n**3:
            return self.invalid
        leaf = self.leaf_of(pfn)
        if leaf == self.identity:
            return pfn | self.identity_bit
        return self.page(leaf)[pfn % self.n]

    def pfn_to_mfn(self, pfn: int) -> int:
        word = self.get(pfn)
        return word if word == self.invalid else word & ~self.flags

    # --- boot ---------------------------------------------------------------------------------

    def boot(self, event: Json) -> None:
        self.fill_mfn_list(event["host"])
        self.take_placeholders()
        self.hang_leaves()
        self.extend_brk(4 if self.w == 8 else 2)
        self.build()
        for start, end in event.get("identity", []):
            self.identity_pages += self.mark(start, end)
        self.move()
        self.end_boot()

    def take_placeholders(self) -> None:
        super().take_placeholders()
        self.identity = self.filled_brk(self.invalid)

    def move(self) -> None:
        """The leaves stay in `mfn_list`."""

    def mark(self, start: int, end: int) -> int:
        """`set_phys_range_identity`."""
        if start >= self.n**3 or end >= self.n**3 or start > end:
            return 0
        for top in range(start // self.n**2, -(-end // self.n**2)):
            self.open_mid(top)
        self.open_leaf(start)
        self.open_leaf(end)
        pfn = start
        while pfn < end:
            self.try_set(pfn, pfn | self.identity_bit)
            pfn += 1
            if self.leaf_of(pfn - 1) == self.identity:
                pfn = min(end, -(-pfn // self.n) * self.n)
        return end - start

    def open_mid(self, top: int) -> None:
        """A mid page and, where there is a list, a mid_mfn page for this top index."""
        if self.mid_of(top) == self.mid_missing:
            self.hang_mid(top, self.extend_brk())
            if self.list_first and self.tracked(top) != self.mid_missing_mfn:
                raise Bug("mid_mfn_p != p2m_mid_missing_mfn")
        if self.list_first and self.tracked(top) == self.mid_missing_mfn:
            self.track(top, self.list_page())
            self.page(self.top_mfn)[top] = self.pfn_to_mfn(self.tracked(top))

    def open_leaf(self, pfn: int) -> None:
        """`__early_alloc_p2m`: a leaf of its own for a range's end inside of one."""
        if pfn % self.n == 0:
            return
        top, mid = pfn // self.n**2, pfn // self.n % self.n
        if self.leaf_of(pfn) == self.identity:
            self.warnings += 1
        if self.leaf_of(pfn) != self.missing:
            return
        leaf = self.filled_brk(self.invalid)
        self.page(self.mid_of(top))[mid] = self.address(leaf)
        if self.list_first:
            words = self.page(self.tracked(top))
            if words[mid] != self.pfn_to_mfn(self.missing):
                self.warnings += 1
            words[mid] = self.pfn_to_mfn(leaf)

    # --- set ----------------------------------------------------------------------------------

    def try_set(self, pfn: int, word: int) -> bool:
        if pfn >= self.n**3:
            return super().try_set(pfn, word)
        if word != self.invalid and word & self.identity_bit and self.set_identity(pfn):
            return True
        leaf = self.leaf_of(pfn)
        if leaf == self.missing:
            return word == self.invalid
        if leaf == self.identity:
            self.placeholder_writes += 1
        self.store(pfn, leaf, word)
        return True

    def set_identity(self, pfn: int) -> bool:
        """Whether a pointer says it all: the leaf is, or now becomes, `p2m_identity`."""
        top, mid = pfn // self.n**2, pfn // self.n % self.n
        leaf = self.leaf_of(pfn)
        if leaf == self.missing:
            if self.mid_of(top) == self.mid_missing:
                self.placeholder_writes += 1
            self.page(self.mid_of(top))[mid] = self.address(self.identity)
            return True
        return leaf == self.identity

    # --- counters -----------------------------------------------------------------------------

    def counters(self, op: str) -> Json:
        out = super().counters(op)
        if op == "boot":
            out.update(identity_pages=self.identity_pages, warnings=self.warnings)
        return out


class Moved(Identity):
    """3.7 to 3.13: on 64-bit the leaves leave `mfn_list` at the end of boot."""

    def __init__(self, trace: Json) -> None:
        super().__init__(trace)
        self.bootmem_used = 0

    def bootmem(self, count: int) -> int:
        """The first of `count` consecutive pages of the boot allocator."""
        first, there = self.guest["bootmem"]
        if there - self.bootmem_used < count:
            raise Bug("bootmem overflow")
        self.bootmem_used += count
        return int(first) + self.bootmem_used - count

    def move(self) -> None:
        if self.w != 8:
            return
        count = -(-self.nr_pages // self.n)
        first = self.bootmem(count)
        for x in range(count):
            top, mid = divmod(x, self.n)
            self.page(first + x)[:] = self.page(self.mfn_list_page(x))
            self.page(self.mid_of(top))[mid] = self.address(first + x)
            if self.list_first:
                self.page(self.tracked(top))[mid] = self.pfn_to_mfn(first + x)

    def counters(self, op: str) -> Json:
        return super().counters(op) | {"bootmem_pages_used": self.bootmem_used}


class MidIdentity(Moved):
    """3.14/3.15 to 3.16: a shared mid for 1:1 ranges."""

    def __init__(self, trace: Json) -> None:
        super().__init__(trace)
        self.mid_identity = self.mid_identity_mfn = -1

    def shared_mids(self) -> set[int]:
        return {self.mid_missing, self.mid_identity}

    def get(self, pfn: int) -> int:
        return pfn | self.identity_bit if pfn >= self.n**3 else super().get(pfn)

    def take_placeholders(self) -> None:
        self.missing = self.filled_brk(self.invalid)
        self.identity = self.filled_brk(self.invalid)
        self.mid_missing = self.filled_brk(self.address(self.missing))
        self.mid_identity = self.filled_brk(self.address(self.identity))
        self.top = self.filled_brk(self.address(self.mid_missing))

    def first_pages(self) -> None:
        self.mid_missing_mfn = self.list_page()
        self.fill(self.mid_missing_mfn, self.pfn_to_mfn(self.missing))
        self.mid_identity_mfn = self.list_page()
        self.fill(self.mid_identity_mfn, self.pfn_to_mfn(self.identity))
        self.top_mfn_p = self.list_page()
        self.fill(self.top_mfn_p, self.address(self.mid_missing_mfn))
        self.top_mfn = self.list_page()
        self.fill(self.top_mfn, self.pfn_to_mfn(self.mid_missing_mfn))

    def refill(self) -> None:
        super().refill()
        self.fill(self.mid_identity_mfn, self.pfn_to_mfn(self.identity))

    def mark(self, start: int, end: int) -> int:
        if start >= self.n**3 or start > end:
            return 0
        end = min(end, self.n**3)
        for split in (start, end):
            if split % self.n**2:
                self.open_mid(split // self.n**2)
                self.open_leaf(split)
        pfn = start
        while pfn < end:
            self.try_set(pfn, pfn | self.identity_bit)
            pfn += 1
            step = 1
            if self.mid_of((pfn - 1) // self.n**2) == self.mid_identity:
                step = self.n**2
            elif self.leaf_of(pfn - 1) == self.identity:
                step = self.n
            pfn = -(-pfn // step) * step
        if pfn != end:
            self.warnings += 1
        return pfn - start

    def set_identity(self, pfn: int) -> bool:
        top = pfn // self.n**2
        if self.mid_of(top) == self.mid_missing:
            self.page(self.top)[top] = self.address(self.mid_identity)
        return self.mid_of(top) == self.mid_identity or super().set_identity(pfn)


class LateList(MidIdentity):
    """3.17 and 3.18: the list comes last at boot, and may take pages after it."""

    list_first = False

    def __init__(self, trace: Json) -> None:
        super().__init__(trace)
        self.late_bootmem = 0
        self.booting = True

    def boot(self, event: Json) -> None:
        self.fill_mfn_list(event["host"])
        self.take_placeholders()
        self.hang_leaves()
        self.extend_brk(4 if self.w == 8 else 2)
        for start, end in event.get("identity", []):
            self.identity_pages += self.mark(start, end)
        self.move()
        self.xen_max_p2m_pfn = self.max_p2m_pfn
        self.build()
        self.booting = False
        self.end_boot()

    def list_page(self) -> int:
        if self.booting:
            return self.bootmem(1)
        pfn = self.alloc_p2m_page()
        if pfn is None:
            raise Bug("Out of memory")
        self.late_bootmem += 1
        return pfn

    def first_pages(self) -> None:
        Tail.first_pages(self)

    def refill(self) -> None:
        Tail.refill(self)

    def counters(self, op: str) -> Json:
        return super().counters(op) | {"late_bootmem_pages": self.late_bootmem}
