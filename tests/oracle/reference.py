"""The naive model: model sections 1 to 9 (without 9.4) in plain Python, the compiled one's oracle.

It shares nothing with the package but constants. Memory is a dict from PFN to a list of words, a
host is a pair of dicts, and every word is what the machine would hold: an unsigned number of
`word_bytes` bytes, pointers being virtual addresses of the direct map. Nothing here is fast.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import Any

from p2mbatch.geometry import FOREIGN_FRAME_BIT, PAGE_BYTES

BASES = {8: 0xFFFF_8800_0000_0000, 4: 0xC000_0000}
WIDE_INVALID = (1 << 64) - 1

Json = dict[str, Any]


class Bug(Exception):
    """A BUG_ON of the kernel; the text is its expression."""


class Fault(Exception):
    """A page fault; the text says what was being reached."""


class SaveFailed(Exception):
    """The toolstack refused; the text is the detail."""


class Misdirected(Exception):
    """The toolstack accepted pages that are not the p2m."""


class Host:
    """One machine: which frames are the guest's, and what its m2p says."""

    def __init__(self, runs: Json, invalid: int) -> None:
        self.frames: int = runs["frames"]
        self.invalid = invalid
        self.domain: dict[int, int] = {}
        for pfn, mfn, count in runs["domain"]:
            for i in range(count):
                self.domain[pfn + i] = mfn + i
        self.m2p: dict[int, int] = {}
        for mfn, pfn, count in runs["foreign"]:
            for i in range(count):
                self.m2p[mfn + i] = pfn + i
        self.owned: set[int] = set()

    def give(self, pfn: int, mfn: int) -> None:
        if mfn < self.frames:
            self.owned.add(mfn)
            self.m2p[mfn] = pfn

    def release(self, pfn: int, mfn: int) -> None:
        if mfn in self.owned and self.m2p.get(mfn) == pfn:
            self.owned.discard(mfn)
            del self.m2p[mfn]

    def pfn_of(self, mfn: int) -> int:
        return self.m2p.get(mfn, self.invalid)


class Machine:
    """A guest with its memory, on the host it runs on now."""

    def __init__(self, trace: Json) -> None:
        guest = trace["guest"]
        self.policy: str = trace["policy"]
        self.hosts: list[Json] = trace["hosts"]
        self.w: int = guest["word_bytes"]
        self.n = PAGE_BYTES // self.w
        self.max_p2m_pfn_limit = self.n**3
        self.invalid = (1 << (8 * self.w)) - 1
        self.base = BASES[self.w]
        self.guest = guest
        self.directmap: int = guest["directmap_pages"]
        self.memory: dict[int, list[int]] = {}

        self.brk_used = 0
        self.brk_open = True
        self.pool = [pfn + i for pfn, count in guest["page_pool"] for i in range(count)]
        self.pool_used = 0
        self.allocations = 0
        self.fail_at: int | None = None

        self.xen_max_p2m_pfn: int = guest["nr_pages"]
        # Pointer variables of the kernel, as addresses; 0 is NULL.
        self.missing = 0
        self.mid_missing = 0
        self.top = 0
        self.mid_missing_mfn = 0
        self.top_mfn_p = 0
        self.top_mfn = 0
        # What the shared info page says.
        self.shared_fll = 0
        self.shared_max_pfn = 0
        # What only an observer knows: the page last installed for each top index.
        self.true_mid_mfn: dict[int, int] = {}
        self.stray_writes = 0
        self.stray_pages: set[int] = set()

    # --- memory -------------------------------------------------------------------------------

    def page(self, pfn: int) -> list[int]:
        """Return the words of page `pfn`, which starts as zeros."""
        if pfn not in self.memory:
            self.memory[pfn] = [0] * self.n
        return self.memory[pfn]

    def address(self, pfn: int) -> int:
        return (self.base + pfn * PAGE_BYTES) & self.invalid

    def pfn_at(self, address: int) -> int:
        """Return the page that an address of the direct map lies in (`__pa(v) >> PAGE_SHIFT`)."""
        return ((address - self.base) & self.invalid) // PAGE_BYTES

    def reach(self, address: int, what: str) -> list[int]:
        """Return the page behind a pointer, or fault: an MFN in a pointer's place is no address."""
        if address < self.base or address % PAGE_BYTES or self.pfn_at(address) >= self.directmap:
            raise Fault(what)
        return self.page(self.pfn_at(address))

    def fill(self, address: int, word: int) -> None:
        self.page(self.pfn_at(address))[:] = [word] * self.n

    def extend_brk(self) -> int:
        if not self.brk_open:
            raise Bug("_brk_start == 0")
        if self.brk_used == self.guest["brk_pages"]:
            raise Bug("brk overflow")
        self.brk_used += 1
        return self.address(self.guest["brk_pfn"] + self.brk_used - 1)

    def alloc_p2m_page(self) -> int | None:
        call = self.allocations
        self.allocations += 1
        if call == self.fail_at or self.pool_used == len(self.pool):
            return None
        self.pool_used += 1
        return self.address(self.pool[self.pool_used - 1])

    # --- lookups ------------------------------------------------------------------------------

    def indexes(self, pfn: int) -> tuple[int, int, int]:
        return pfn // self.n**2, pfn // self.n % self.n, pfn % self.n

    def leaf_pointer(self, pfn: int) -> int:
        """Return p2m_top[topidx][mididx]; only a wild mid can be in the way."""
        top, mid, _ = self.indexes(pfn)
        return self.reach(self.page(self.pfn_at(self.top))[top], "p2m_top entry")[mid]

    def get_phys_to_machine(self, pfn: int) -> int:
        if pfn >= self.max_p2m_pfn_limit:
            return self.invalid
        return self.reach(self.leaf_pointer(pfn), "p2m_mid entry")[pfn % self.n]

    def pfn_to_mfn(self, pfn: int) -> int:
        mfn = self.get_phys_to_machine(pfn)
        return mfn if mfn == self.invalid else mfn & ~FOREIGN_FRAME_BIT

    def virt_to_mfn(self, address: int) -> int:
        return self.pfn_to_mfn(self.pfn_at(address))

    def mfn_to_virt(self, mfn: int) -> int:
        return self.address(self.host.pfn_of(mfn))

    # --- boot ---------------------------------------------------------------------------------

    def boot(self, host: int) -> None:
        self.host = Host(self.hosts[host], self.invalid)
        nr_pages, first = self.guest["nr_pages"], self.guest["mfn_list_pfn"]
        for pfn in range(nr_pages):
            mfn = self.host.domain.get(pfn, self.invalid)
            self.page(first + pfn // self.n)[pfn % self.n] = mfn
            self.host.give(pfn, mfn)

        self.missing = self.extend_brk()
        self.fill(self.missing, self.invalid)
        self.mid_missing = self.extend_brk()
        self.fill(self.mid_missing, self.missing)
        self.top = self.extend_brk()
        self.fill(self.top, self.mid_missing)
        for pfn in range(0, nr_pages, self.n):
            top, mid, _ = self.indexes(pfn)
            tops = self.page(self.pfn_at(self.top))
            if tops[top] == self.mid_missing:
                fresh = self.extend_brk()
                self.fill(fresh, self.missing)
                tops[top] = fresh
            mids = self.page(self.pfn_at(tops[top]))
            mids[mid] = self.address(first + pfn // self.n)

        self.build()
        self.brk_open = False
        self.xen_max_p2m_pfn = self.guest["max_p2m_pfn"]
        self.set_shared_info()

    def set_shared_info(self) -> None:
        self.shared_fll = self.virt_to_mfn(self.top_mfn)
        self.shared_max_pfn = self.xen_max_p2m_pfn

    # --- the mfn list list --------------------------------------------------------------------

    def build(self) -> None:
        if self.policy == "stale":
            self.build_stale()
        elif self.policy == "tracked" or not self.top_mfn:
            self.build_tracked()

    def build_tracked(self) -> None:
        """`xen_build_mfn_list_list` after the change."""
        if not self.top_mfn:
            self.mid_missing_mfn = self.extend_brk()
            self.fill(self.mid_missing_mfn, self.virt_to_mfn(self.missing))
            self.top_mfn_p = self.extend_brk()
            self.fill(self.top_mfn_p, self.mid_missing_mfn)
            self.top_mfn = self.extend_brk()
            self.fill(self.top_mfn, self.virt_to_mfn(self.mid_missing_mfn))
        else:
            self.fill(self.mid_missing_mfn, self.virt_to_mfn(self.missing))
        tops = self.page(self.pfn_at(self.top))
        tracked = self.page(self.pfn_at(self.top_mfn_p))
        top_mfns = self.page(self.pfn_at(self.top_mfn))
        pfn = 0
        while pfn < self.xen_max_p2m_pfn:
            top, mid, _ = self.indexes(pfn)
            mid_mfn = tracked[top]
            if tops[top] == self.mid_missing:
                if mid != 0:
                    raise Bug("mididx")
                if mid_mfn != self.mid_missing_mfn:
                    raise Bug("mid_mfn_p != p2m_mid_missing_mfn")
                top_mfns[top] = self.virt_to_mfn(self.mid_missing_mfn)
                pfn += self.n**2
                continue
            if mid_mfn == self.mid_missing_mfn:
                mid_mfn = self.extend_brk()
                self.fill(mid_mfn, self.virt_to_mfn(self.missing))
                tracked[top] = mid_mfn
                self.true_mid_mfn[top] = mid_mfn
            top_mfns[top] = self.virt_to_mfn(mid_mfn)
            self.store_leaf_mfn(mid_mfn, pfn, self.virt_to_mfn(self.leaf_pointer(pfn)))
            pfn += self.n

    def build_stale(self) -> None:
        """`xen_build_mfn_list_list` before the change."""
        if not self.top_mfn:
            self.mid_missing_mfn = self.extend_brk()
            self.fill(self.mid_missing_mfn, self.virt_to_mfn(self.missing))
            self.top_mfn = self.extend_brk()
            self.fill(self.top_mfn, self.virt_to_mfn(self.mid_missing_mfn))
        top_mfns = self.page(self.pfn_at(self.top_mfn))
        for pfn in range(0, self.xen_max_p2m_pfn, self.n):
            top = pfn // self.n**2
            if self.leaf_pointer(pfn) == self.missing:
                continue
            mid_mfn = self.mfn_to_virt(top_mfns[top])
            if mid_mfn == self.mid_missing_mfn:
                mid_mfn = self.extend_brk()
                self.fill(mid_mfn, self.virt_to_mfn(self.missing))
                top_mfns[top] = self.virt_to_mfn(mid_mfn)
                self.true_mid_mfn[top] = mid_mfn
            self.store_leaf_mfn(mid_mfn, pfn, self.virt_to_mfn(self.leaf_pointer(pfn)))

    def store_leaf_mfn(self, mid_mfn: int, pfn: int, mfn: int) -> None:
        """`mid_mfn[mididx] = mfn`, wherever that page is."""
        top, mid, _ = self.indexes(pfn)
        self.reach(mid_mfn, "mid_mfn store")[mid] = mfn
        if mid_mfn != self.true_mid_mfn.get(top, self.mid_missing_mfn):
            self.stray_writes += 1
            self.stray_pages.add(self.pfn_at(mid_mfn))

    # --- set_phys_to_machine ------------------------------------------------------------------

    def try_set(self, pfn: int, mfn: int) -> bool:
        """`__set_phys_to_machine`."""
        if pfn >= self.max_p2m_pfn_limit:
            if mfn != self.invalid:
                raise Bug("mfn != INVALID_P2M_ENTRY")
            return True
        leaf = self.leaf_pointer(pfn)
        if leaf == self.missing:
            return mfn == self.invalid
        entries = self.reach(leaf, "p2m_mid entry")
        self.host.release(pfn, entries[pfn % self.n])
        entries[pfn % self.n] = mfn
        self.host.give(pfn, mfn)
        return True

    def set_phys_to_machine(self, pfn: int, mfn: int) -> bool:
        return self.try_set(pfn, mfn) or (self.alloc_p2m(pfn) and self.try_set(pfn, mfn))

    def alloc_p2m(self, pfn: int) -> bool:
        top, mid, _ = self.indexes(pfn)
        tops = self.page(self.pfn_at(self.top))
        top_mfns = self.page(self.pfn_at(self.top_mfn))

        if tops[top] == self.mid_missing:
            fresh = self.alloc_p2m_page()
            if fresh is None:
                return False
            self.fill(fresh, self.missing)
            tops[top] = fresh

        if self.policy == "stale":
            mid_mfn = self.mfn_to_virt(top_mfns[top])
        else:
            mid_mfn = self.page(self.pfn_at(self.top_mfn_p))[top]
            if self.virt_to_mfn(mid_mfn) != top_mfns[top]:
                raise Bug("virt_to_mfn(mid_mfn) != *top_mfn_p")

        if mid_mfn == self.mid_missing_mfn:
            new = self.alloc_p2m_page()
            if new is None:
                return False
            mid_mfn = new
            self.fill(mid_mfn, self.virt_to_mfn(self.missing))
            missing_mfn = self.virt_to_mfn(self.mid_missing_mfn)
            mid_mfn_mfn = self.virt_to_mfn(mid_mfn)
            if top_mfns[top] == missing_mfn:
                top_mfns[top] = mid_mfn_mfn
                self.true_mid_mfn[top] = mid_mfn
                if self.top_mfn_p:
                    self.page(self.pfn_at(self.top_mfn_p))[top] = mid_mfn

        if self.leaf_pointer(pfn) == self.missing:
            leaf = self.alloc_p2m_page()
            if leaf is None:
                return False
            self.fill(leaf, self.invalid)
            self.reach(tops[top], "p2m_top entry")[mid] = leaf
            self.store_leaf_mfn(mid_mfn, pfn, self.virt_to_mfn(leaf))
        return True

    # --- the toolstack ------------------------------------------------------------------------

    def save(self) -> tuple[int, list[int]]:
        """Return max_pfn as the toolstack has it at the end, and the leaf PFNs that it found."""
        n, max_mfn = self.n, self.host.frames

        def bad(mfn: int) -> bool:
            return mfn == 0 or mfn == self.invalid or mfn > max_mfn

        def contents(mfn: int) -> list[int]:
            return self.page(self.host.m2p[mfn])

        max_pfn = self.shared_max_pfn - 1
        if max_pfn // n**2 + 1 > n:
            raise SaveFailed(f"max_pfn-too-large {max_pfn}")
        if bad(self.shared_fll):
            raise SaveFailed(f"bad-fll-mfn {self.shared_fll}")
        if self.shared_fll not in self.host.owned:
            raise SaveFailed(f"map-fll-failed {self.shared_fll}")
        fll = contents(self.shared_fll)[: max_pfn // n**2 + 1]
        for x, mfn in enumerate(fll):
            if bad(mfn):
                raise SaveFailed(f"bad-mfn-in-fll {x}")
        start = len(fll) - 1
        while start > 0 and fll[start - 1] == fll[-1]:
            start -= 1
        max_pfn = min(max_pfn, (start + 1) * n**2 - 1)
        fll = fll[: max_pfn // n**2 + 1]
        for x, mfn in enumerate(fll):
            if mfn not in self.host.owned:
                raise SaveFailed(f"map-fl-failed {x}")
        fl = [word for mfn in fll for word in contents(mfn)][: max_pfn // n + 1]
        for x, mfn in enumerate(fl):
            if bad(mfn):
                raise SaveFailed(f"bad-mfn-in-fl {x}")
        for x, mfn in enumerate(fl):
            if mfn not in self.host.owned:
                raise SaveFailed(f"map-leaves-failed {x}")
        for x, mfn in enumerate(fl):
            pfn = self.host.pfn_of(mfn)
            if pfn > max_pfn or contents(fl[pfn // n])[pfn % n] != mfn:
                raise SaveFailed(f"bad-mfn-in-p2m-frame-list {x}")
        return max_pfn, [self.host.pfn_of(mfn) for mfn in fl]

    def check_leaves(self, leaves: list[int]) -> None:
        """Compare the leaf pages that the toolstack found with those of the guest's own tree."""
        for x, found in enumerate(leaves):
            try:
                pointer = self.leaf_pointer(x * self.n)
                self.reach(pointer, "p2m_mid entry")
            except Fault:
                raise Misdirected("-") from None
            if self.pfn_at(pointer) != found:
                raise Misdirected("-")

    def migrate(self, host: int) -> None:
        max_pfn, leaves = self.save()
        self.check_leaves(leaves)
        self.host = Host(self.hosts[host], self.invalid)
        # Read all before writing any: a page may be found for more than one leaf.
        old = [list(self.page(leaf)) for leaf in leaves]
        for x, leaf in enumerate(leaves):
            count = min(self.n, max_pfn + 1 - x * self.n)
            mfns = [self.invalid] * count
            if old[x] != [self.invalid] * self.n:
                for i in range(count):
                    if old[x][i] != self.invalid:
                        mfns[i] = self.host.domain.get(x * self.n + i, self.invalid)
                        self.host.give(x * self.n + i, mfns[i])
            self.page(leaf)[:count] = mfns
        self.build()
        self.set_shared_info()

    # --- events -------------------------------------------------------------------------------

    def set(self, runs: list[list[Any]], result: Json) -> None:
        result["entries_set"] = 0
        result["ok"] = True
        for pfn, mfn, count in runs:
            for i in range(count):
                word = self.invalid if mfn is None else mfn + i
                if not self.set_phys_to_machine(pfn + i, word):
                    result["ok"] = False
                    return
                result["entries_set"] += 1

    def run(self, event: Json) -> Json:
        op = event["op"]
        if op == "fail_alloc":
            self.allocations, self.fail_at = 0, event["at"]
            return {"op": op}
        self.stray_writes, self.stray_pages = 0, set()
        result: Json = {"op": op, "outcome": "ok", "detail": None}
        try:
            if op == "boot":
                self.boot(event["host"])
            elif op == "set":
                self.set(event["runs"], result)
            else:
                self.migrate(event["host"])
        except (Bug, Fault, SaveFailed, Misdirected) as end:
            result["outcome"] = {
                Bug: "bug",
                Fault: "fault",
                SaveFailed: "save-failed",
                Misdirected: "misdirected",
            }[type(end)]
            result["detail"] = str(end)
        result["brk_pages_used"] = self.brk_used
        result["pool_pages_used"] = self.pool_used
        result["frame_list_list_mfn"] = self.widen(self.shared_fll)
        result["stray_writes"] = self.stray_writes
        result["stray_pages"] = len(self.stray_pages)
        result["frame_list_list_sha256"] = sha256(self.frame_list_list_bytes())
        result["frame_list_sha256"] = sha256(self.frame_list_bytes())
        result["p2m_sha256"] = sha256(self.p2m_bytes())
        return result

    # --- digests ------------------------------------------------------------------------------

    def widen(self, word: int) -> int:
        return WIDE_INVALID if word == self.invalid else word

    def wide(self, words: list[int]) -> bytes:
        """Return the words as little-endian 64-bit ones, INVALID as all ones."""
        return struct.pack(f"<{len(words)}Q", *map(self.widen, words))

    def frame_list_list_bytes(self) -> Iterator[bytes]:
        if self.top_mfn:
            yield self.wide(self.page(self.pfn_at(self.top_mfn)))

    def frame_list_bytes(self) -> Iterator[bytes]:
        if not self.top_mfn:
            return
        num_leaves = -(-self.xen_max_p2m_pfn // self.n)
        for x in range(0, num_leaves, self.n):
            page = self.true_mid_mfn.get(x // self.n, self.mid_missing_mfn)
            yield self.wide(self.page(self.pfn_at(page))[: num_leaves - x])

    def p2m_bytes(self) -> Iterator[bytes]:
        if not self.top:
            return
        missing = b""
        for first in range(0, self.xen_max_p2m_pfn, self.n):
            count = min(self.n, self.xen_max_p2m_pfn - first)
            if first >= self.max_p2m_pfn_limit:
                yield b"\xff" * 8 * count
                continue
            try:
                pointer = self.leaf_pointer(first)
                words = self.reach(pointer, "p2m_mid entry")
            except Fault:
                yield (b"\xfe" + b"\xff" * 7) * count
                continue
            if pointer != self.missing:
                yield self.wide(words[:count])
                continue
            # Most of a sparse guest is this one page.
            missing = missing or self.wide(words)
            yield missing[: 8 * count]


def sha256(chunks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def replay(trace: Json) -> list[Json]:
    """Run a trace, a JSON object of model section 11; return what its "expected" should be."""
    machine = Machine(trace)
    results = []
    for event in trace["events"]:
        results.append(machine.run(event))
        if results[-1].get("outcome", "ok") != "ok":
            break
    return results
