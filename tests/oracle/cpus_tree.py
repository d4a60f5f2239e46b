"""Several CPUs in the naive models of a tree: each a generator that yields after every atomic step.

Written from docs/races.md, "Atomic steps", and docs/model.md, section 5.1; shares nothing with the
package's steps. A generator that yields `LOCKS` takes the lock next: it has to wait for it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from oracle.ends import Bug, Fault
from oracle.eras.identity import Identity
from oracle.hosts import Host
from oracle.machines import MACHINE_2

LOCKS = "locks"
Steps = Generator[str | None, None, bool]


class Kernel:
    """One kernel's steps on a naive guest. `kernel` is race's name for it."""

    def __init__(self, guest: Any, kernel: str) -> None:
        self.guest = guest
        self.kernel = kernel
        self.locked = False

    # --- what differs between the two naive models of a tree ------------------------------------

    def words(self, address: int) -> list[int]:
        """The page behind a pointer to a mid."""
        return self.guest.page(self.guest.pfn_at(address))

    def page(self, name: str) -> list[int]:
        """One of p2m_top, p2m_top_mfn, p2m_top_mfn_p."""
        return self.guest.page(getattr(self.guest, name))

    def placeholder(self, name: str) -> int:
        """The address of a placeholder."""
        return self.guest.address(getattr(self.guest, name))

    def take(self) -> int | None:
        pfn = self.guest.alloc_p2m_page()
        return None if pfn is None else self.guest.address(pfn)

    def mfn(self, address: int) -> int:
        return self.guest.pfn_to_mfn(self.guest.pfn_at(address))

    def mfn_to_virt(self, mfn: int) -> int:
        return self.guest.address(reads(self.guest, mfn)) & self.guest.invalid

    def put(self, pfn: int, leaf: int, word: int) -> None:
        page = self.guest.pfn_at(leaf)
        if page == getattr(self.guest, "identity", None):
            self.guest.placeholder_writes += 1
        self.guest.store(pfn, page, word)

    def reachable(self, address: int) -> bool:
        """Whether a store through a page of the list gets there."""
        guest = self.guest
        page = guest.pfn_at(address)
        return page < guest.guest["directmap_pages"] and (
            page in guest.present or page in guest.image_pages
        )

    def listed(self, top: int, address: int) -> None:
        """A page of the list was put into p2m_top_mfn."""

    def says_identity(self, pfn: int, word: int) -> bool | None:
        """Whether pointers say an identity value; None of any other word."""
        guest = self.guest
        if not isinstance(guest, Identity) or word == guest.invalid:
            return None
        return guest.set_identity(pfn) if word & guest.identity_bit else None

    # --- the steps ------------------------------------------------------------------------------

    def stray(self, address: int) -> None:
        """A store through a page that was given back."""
        self.guest.stray_writes += 1
        self.guest.stray_pages.add(self.guest.pfn_at(address))

    def set(self, pfn: int, word: int) -> Steps:
        guest, n = self.guest, self.guest.n
        if pfn >= n**3:
            if word != guest.invalid:
                raise Bug("mfn != INVALID_P2M_ENTRY")
            return True
        said = self.says_identity(pfn, word)
        if said:
            return True
        if said is not None:
            yield
        t, m = pfn // n**2, pfn // n % n
        a = self.page("top")[t]  # S1
        yield
        b = self.words(a)[m]  # S2
        if b != self.placeholder("missing"):
            yield
            self.put(pfn, b, word)  # S3
            return True
        if word == guest.invalid:
            return True
        yield
        if not (yield from self.grow(pfn, t, m)):
            return False
        a = self.page("top")[t]  # T1
        yield
        b = self.words(a)[m]  # T2
        if b == self.placeholder("missing"):
            return False
        yield
        self.put(pfn, b, word)  # T3
        return True

    def grow(self, pfn: int, t: int, m: int) -> Steps:
        guest, tops = self.guest, self.page("top")
        tms, tps = self.page("top_mfn"), self.page("top_mfn_p")
        missing = self.placeholder("missing")
        xm, dead_mid, dead_x = self.placeholder("mid_missing_mfn"), False, False
        mid = tops[t]  # A1
        yield
        if mid == self.placeholder("mid_missing"):
            new = self.take()  # A2
            if new is None:
                return False
            mid = new
            yield
            guest.fill(self.key(mid), missing)  # A3
            yield
            won = tops[t] == self.placeholder("mid_missing")  # A4
            if won:
                tops[t] = mid
            yield
            if not won:
                dead_mid = True  # A5
                yield
        x = tps[t]  # A6
        yield
        if tms[t] != self.mfn(x):  # A7
            raise Bug("virt_to_mfn(mid_mfn) != *top_mfn_p")
        yield
        if x == xm:
            new = self.take()  # A8
            if new is None:
                return False
            x = new
            yield
            guest.fill(self.key(x), self.mfn(missing))  # A9
            yield
            seen = tms[t]  # A10
            if seen == self.mfn(xm):
                tms[t] = self.mfn(x)
                self.listed(t, x)
                yield
                tps[t] = x  # A11
                yield
            else:
                yield
                dead_x = self.kernel != "late"  # A11f
                if not dead_x:
                    x = self.mfn_to_virt(seen)
                yield
        a = tops[t]  # A12
        yield
        b = self.words(a)[m]  # A13
        yield
        if b != missing:
            return True
        if self.kernel != "old":
            a = tops[t]  # O1
            yield
            b = self.words(a)[m]  # O2
            yield
        q = self.take()  # A14
        if q is None:
            return False
        yield
        guest.fill(self.key(q), guest.invalid)  # A15
        yield
        won = self.words(mid)[m] == b  # A16
        if won:
            self.words(mid)[m] = q
            if dead_mid:
                self.stray(mid)
        yield
        if not won:
            yield  # A18
            return True
        if not self.reachable(x):  # A17
            raise Fault("mid_mfn store")
        guest.page(guest.pfn_at(x))[m] = self.mfn(q)
        if dead_x:
            self.stray(x)
        yield
        return True

    def key(self, address: int) -> int:
        """What `fill` of the naive model takes."""
        return self.guest.pfn_at(address)


class Tracked(Kernel):
    """On the naive model of the first three policies, which keeps addresses."""

    def page(self, name: str) -> list[int]:
        return self.guest.page(self.guest.pfn_at(getattr(self.guest, name)))

    def words(self, address: int) -> list[int]:
        return self.guest.reach(address, "p2m_top entry")

    def placeholder(self, name: str) -> int:
        return getattr(self.guest, name)

    def take(self) -> int | None:
        return self.guest.alloc_p2m_page()

    def mfn(self, address: int) -> int:
        return self.guest.virt_to_mfn(address)

    def key(self, address: int) -> int:
        return address

    def put(self, pfn: int, leaf: int, word: int) -> None:
        self.guest.store(pfn, leaf, word)

    def reachable(self, address: int) -> bool:
        return self.guest.can_store(address)

    def listed(self, top: int, address: int) -> None:
        self.guest.true_mid_mfn[top] = address


def reads(guest: Any, mfn: int) -> int:
    """What the guest of an era reads at an MFN of its host's m2p (machine-v2 section 7)."""
    now, booted = (
        Host(guest.hosts[event["host"]], guest.w, MACHINE_2, event.get("xen"))
        for event in (guest.arrived_by, guest.booted_by)
    )
    if mfn >> booted.order:
        return guest.invalid
    if mfn >= now.mapped:
        return 0
    return guest.host.m2p.get(mfn, guest.invalid)
