"""Several CPUs in the naive models of a linear p2m: see `cpus_tree`."""

from __future__ import annotations

from collections.abc import Generator

from oracle.cpus_tree import LOCKS, Kernel, Steps, reads
from oracle.ends import Bug, Fault
from oracle.eras.linear import MAX_P2M_PFN, Linear44, Linear319, N


class Flat(Kernel):
    """On the naive model of a linear p2m: a level-1 page is the mid, known by its PFN."""

    def generation(self) -> Generator[None]:
        if self.guest.reports_table:
            self.guest.generation += 1
            yield

    def set(self, pfn: int, word: int) -> Steps:
        guest = self.guest
        if pfn >= guest.area:
            if word != guest.invalid:
                raise guest.beyond()
            return True
        block, i = pfn // N // N, pfn // N % N
        table = guest.level1[block]  # S1
        yield
        leaf = guest.tables[table][i]  # S2
        if leaf not in guest.placeholders():
            yield
            guest.store(pfn, leaf, word)  # S3
            return True
        if word == (guest.invalid if leaf == guest.missing else guest.identity_value(pfn)):
            return True
        yield
        if not (yield from self.grow(pfn, block, i)):
            return False
        table = guest.level1[block]  # T1
        yield
        leaf = guest.tables[table][i]  # T2
        if leaf in guest.placeholders():
            return False
        yield
        guest.store(pfn, leaf, word)  # T3
        return True

    def grow(self, pfn: int, block: int, i: int) -> Steps:
        guest = self.guest
        listed = guest.top_mfn != -1 and pfn < MAX_P2M_PFN
        table = guest.level1[block]  # A1
        yield
        if table in guest.shared_ptes():
            new = guest.alloc_p2m_page()  # A2
            if new is None:
                return False
            yield
            guest.tables[new] = dict(guest.tables[table])  # A3
            yield LOCKS
            self.locked = True  # K1
            yield
            found = guest.level1[block]  # K2
            yield
            if found == table:
                yield from self.generation()  # K3
                guest.replace_level1(block, new)  # K4
                yield
                yield from self.generation()  # K5
                self.locked = False  # K6
                yield
            else:
                self.locked = False  # K8
                yield
                yield  # A5
            table = guest.level1[block]  # A5r
            yield
        x = -1
        if listed:
            x = guest.tracked(block)  # A6
            yield
            if guest.pfn_to_mfn(x) != guest.page(guest.top_mfn)[block]:  # A7
                raise Bug("virt_to_mfn(mid_mfn) != *top_mfn_p")
            yield
            if x == guest.mid_missing_mfn:
                new = guest.alloc_p2m_page()  # A8
                if new is None:
                    return False
                x = new
                yield
                guest.fill(x, guest.pfn_to_mfn(guest.missing))  # A9
                yield
                seen = guest.page(guest.top_mfn)[block]  # A10
                if seen == guest.pfn_to_mfn(guest.mid_missing_mfn):
                    guest.page(guest.top_mfn)[block] = guest.pfn_to_mfn(x)
                    yield
                    guest.page(guest.top_mfn_p)[block] = guest.address(x)  # A11
                else:
                    yield
                    x = reads(guest, seen)  # A11f
                yield
        leaf = guest.tables[table][i]  # A12
        yield
        if leaf in guest.placeholders():
            q = guest.alloc_p2m_page()  # A14
            if q is None:
                return False
            yield
            first = pfn // N * N
            is_missing = leaf == guest.missing
            guest.page(q)[:] = [
                guest.invalid if is_missing else guest.identity_value(first + k) for k in range(N)
            ]  # A15
            yield LOCKS
            self.locked = True  # J1
            yield
            found = guest.tables[table][i]  # J2
            yield
            if found == leaf:
                yield from self.generation()  # J3
                guest.tables[table][i] = q  # J4
                yield
                yield from self.generation()  # J5
                if listed:
                    if x >= guest.guest["directmap_pages"]:
                        raise Fault("mid_mfn store")
                    guest.page(x)[i] = guest.pfn_to_mfn(q)  # J6
                    yield
                self.locked = False  # J7
                yield
            else:
                self.locked = False  # J8
                yield
                yield  # A18
        if isinstance(guest, Linear319):
            return True
        end = self.end_of(pfn)  # Z1
        yield
        if end is not None:
            guest.hint = end  # Z2
            yield
            guest.shared_max_pfn = end  # Z3
            yield
        return True

    def end_of(self, pfn: int) -> int | None:
        """The higher end that a PFN means, if it does."""
        if isinstance(self.guest, Linear44):
            return pfn if pfn > self.guest.hint else None
        return (pfn // N + 1) * N if pfn >= self.guest.hint else None
