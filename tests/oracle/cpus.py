"""Several CPUs in the naive models: each is a generator that yields after every atomic step.

Written from docs/races.md, "Atomic steps", and docs/model.md, section 5.1; shares nothing with the
package's steps. A generator that yields `LOCKS` takes the lock next: it has to wait for it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from oracle import ends, reference
from oracle.eras.identity import Identity, LateList
from oracle.eras.linear import MAX_P2M_PFN, Linear, Linear44, Linear319, N
from oracle.eras.machine import BASES, PAGE_BYTES, Bug, Fault
from oracle.eras.tail import Tail
from oracle.hosts import Host
from oracle.machines import MACHINE_2

Json = dict[str, Any]
LOCKS = "locks"
Steps = Generator[str | None, None, bool]

_MASK = (1 << 64) - 1


def mix(z: int) -> int:
    """The last steps of splitmix64."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK
    return z ^ (z >> 31)


def chosen(key: int, number: int, ready: list[int]) -> int:
    """Who takes step `number`, counted from 1, of those that can go on."""
    z = mix((mix(key) + number * 0x9E3779B97F4A7C15) & _MASK)
    return ready[((z >> 32) * len(ready)) >> 32]


def run(guest: Any, event: Json, result: Json) -> None:
    """Run a `cpus` event on a naive guest: entries set, whether all sets returned true."""
    entry = steps_of(guest)
    waiting = [
        [
            (pfn + i, guest.word_of(pfn + i, value, i))
            for pfn, value, count in runs
            for i in range(count)
        ]
        for runs in event["sets"]
    ]
    result["entries_set"], result["ok"] = 0, True
    doing: list[Steps | None] = [None] * len(waiting)
    locks = [False] * len(waiting)
    number = 0
    while True:
        ready = [
            who
            for who in range(len(waiting))
            if (doing[who] or waiting[who]) and not (locks[who] and entry.locked)
        ]
        if not ready:
            return
        number += 1
        guest.num_steps = number
        who = chosen(event["schedule"], number, ready)
        steps = doing[who] or entry.set(*waiting[who].pop(0))
        try:
            locks[who] = next(steps) == LOCKS
            doing[who] = steps
        except StopIteration as done:
            doing[who], locks[who] = None, False
            result["entries_set"] += done.value
            if not done.value:
                result["ok"], waiting[who] = False, []


class Kernel:
    """One kernel's steps on a naive guest. `kernel` is race's name for it."""

    def __init__(self, guest: Any, kernel: str) -> None:
        self.guest = guest
        self.kernel = kernel
        self.locked = False
        self.freed: set[int] = set()

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
        guest = self.guest
        read = _reads(guest, mfn)
        return (BASES[guest.w] + read * PAGE_BYTES) & guest.invalid

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

    def no_store(self) -> Exception:
        return Fault("mid_mfn store")

    def bug(self, text: str) -> Exception:
        return Bug(text)

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
                raise self.bug("mfn != INVALID_P2M_ENTRY")
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
            raise self.bug("virt_to_mfn(mid_mfn) != *top_mfn_p")
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
            raise self.no_store()
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
        guest = self.guest
        entries = guest.reach(leaf, "p2m_mid entry")
        guest.host.release(pfn, entries[pfn % guest.n])
        entries[pfn % guest.n] = word
        guest.host.give(pfn, word)
        if word == guest.invalid:
            guest.present.discard(pfn)
        else:
            guest.present.add(pfn)

    def reachable(self, address: int) -> bool:
        return self.guest.can_store(address)

    def listed(self, top: int, address: int) -> None:
        self.guest.true_mid_mfn[top] = address

    def no_store(self) -> Exception:
        return ends.Fault("mid_mfn store")

    def bug(self, text: str) -> Exception:
        return ends.Bug(text)


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
                    x = _reads(guest, seen)  # A11f
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


def steps_of(guest: Any) -> Kernel:
    """The steps of a naive guest's kernel."""
    if isinstance(guest, reference.Machine):
        assert guest.policy == "tracked"
        return Tracked(guest, "old")
    if isinstance(guest, Linear):
        return Flat(guest, "new")
    kinds: list[tuple[type[Tail], str]] = [(LateList, "late"), (Identity, "orig"), (Tail, "old")]
    return Kernel(guest, next(name for kind, name in kinds if isinstance(guest, kind)))


def _reads(guest: Any, mfn: int) -> int:
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
