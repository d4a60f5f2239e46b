"""The naive model in plain Python, the compiled one's oracle.

It shares nothing with the package but constants. Memory is a dict from PFN to a list of words, a
host is sets and dicts, and every word is what the machine would hold: an unsigned number of
`word_bytes` bytes, pointers being virtual addresses. Which machine that is says a record. Nothing
here is fast.
"""

from __future__ import annotations

from typing import Any

from oracle import digests, toolstack
from oracle.ends import Bug, End, Fault
from oracle.hosts import Host
from oracle.losses import Judge, Losses
from oracle.machines import DIRECT_MAP, FORMATS
from p2mbatch.base.geometry import FOREIGN_FRAME_BIT, PAGE_BYTES

Json = dict[str, Any]


class Machine:
    """A guest with its memory, on the host it runs on now."""

    def __init__(self, trace: Json) -> None:
        guest = trace["guest"]
        self.machine = FORMATS[trace["format"]]
        self.counts_losses: bool = trace["format"] == "p2mbatch-trace/3"
        self.policy: str = trace["policy"]
        self.hosts: list[Json] = trace["hosts"]
        self.w: int = guest["word_bytes"]
        self.n = PAGE_BYTES // self.w
        self.max_p2m_pfn_limit = self.n**3
        self.invalid = (1 << (8 * self.w)) - 1
        self.base = DIRECT_MAP[self.w]
        self.kernel_base = self.machine.kernel_base[self.w]
        self.kernel_end = self.machine.kernel_end[self.w]
        self.guest = guest
        self.directmap: int = guest["directmap_pages"]
        self.memory: dict[int, list[int]] = {}
        self.present: set[int] = set()
        """PFNs whose page is in the direct map, of those below `directmap_pages`."""

        self.brk_used = 0
        self.brk_open = True
        self.pool = [pfn + i for pfn, count in guest["page_pool"] for i in range(count)]
        self.pool_used = 0
        self.allocations = 0
        self.fail_at: int | None = None

        self.xen_max_p2m_pfn: int = guest["nr_pages"]
        # Pointer variables of the kernel, as addresses; 0 is NULL.
        self.missing = self.mid_missing = self.top = 0
        self.mid_missing_mfn = self.top_mfn_p = self.top_mfn = 0
        # What the shared info page says.
        self.shared_fll = 0
        self.shared_max_pfn = 0
        self.tool = "4.7"
        """The toolstack that saves the guest, by what traces call it."""
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
        """The page's address in the direct map."""
        return (self.base + pfn * PAGE_BYTES) & self.invalid

    def kernel_address(self, pfn: int) -> int:
        """The address that a page of brk or `mfn_list` is known by."""
        return (self.kernel_base + pfn * PAGE_BYTES) & self.invalid

    def in_kernel_map(self, address: int) -> bool:
        return address >= self.kernel_base

    def pfn_at(self, address: int) -> int:
        """Return the page that an address lies in (`__pa(v) >> PAGE_SHIFT`)."""
        base = self.kernel_base if self.in_kernel_map(address) else self.base
        return ((address - base) & self.invalid) // PAGE_BYTES

    def can_reach(self, address: int) -> bool:
        """Whether there is a page behind a pointer: an MFN in a pointer's place is no address."""
        if address < self.base or address % PAGE_BYTES:
            return False
        if self.in_kernel_map(address) and address >= self.kernel_end:
            return False
        return self.pfn_at(address) < self.directmap

    def reach(self, address: int, what: str) -> list[int]:
        """Return the page behind a pointer, or fault."""
        if not self.can_reach(address):
            raise Fault(what)
        return self.page(self.pfn_at(address))

    def can_store(self, address: int) -> bool:
        """Whether a store goes through: in the direct map, only to a page that has a frame."""
        if not self.can_reach(address):
            return False
        direct = self.base == self.kernel_base or not self.in_kernel_map(address)
        absent = self.pfn_at(address) not in self.present
        return not (self.machine.absent_pages_fault and direct and absent)

    def fill(self, address: int, word: int) -> None:
        self.page(self.pfn_at(address))[:] = [word] * self.n

    def extend_brk(self) -> int:
        if not self.brk_open:
            raise Bug("_brk_start == 0")
        if self.brk_used == self.guest["brk_pages"]:
            raise Bug("brk overflow")
        self.brk_used += 1
        return self.kernel_address(self.guest["brk_pfn"] + self.brk_used - 1)

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
        return self.address(self.host.guest_reads(mfn, self.m2p_order))

    # --- boot ---------------------------------------------------------------------------------

    def boot(self, host: Host) -> None:
        self.host = host
        self.m2p_order = host.order
        nr_pages, first = self.guest["nr_pages"], self.guest["mfn_list_pfn"]
        for pfn in range(0, nr_pages, self.n):
            count = min(self.n, nr_pages - pfn)
            self.page(first + pfn // self.n)[:count] = [self.invalid] * count
        for pfn, mfn in host.domain.items():
            if pfn < nr_pages:
                self.page(first + pfn // self.n)[pfn % self.n] = mfn
                host.give(pfn, mfn)
                self.present.add(pfn)

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
            mids[mid] = self.kernel_address(first + pfn // self.n)

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
        if not self.can_store(mid_mfn):
            raise Fault("mid_mfn store")
        page = self.pfn_at(mid_mfn)
        self.page(page)[mid] = mfn
        if page != self.pfn_at(self.true_mid_mfn.get(top, self.mid_missing_mfn)):
            self.stray_writes += 1
            self.stray_pages.add(page)

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
        self.store(pfn, leaf, mfn)
        return True

    def store(self, pfn: int, leaf: int, mfn: int) -> None:
        """Store an entry in the leaf at an address."""
        entries = self.reach(leaf, "p2m_mid entry")
        self.host.release(pfn, entries[pfn % self.n])
        entries[pfn % self.n] = mfn
        self.host.give(pfn, mfn)
        if mfn == self.invalid:
            self.present.discard(pfn)
        else:
            self.present.add(pfn)

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

    # --- events -------------------------------------------------------------------------------

    def arrive(self, event: Json) -> Host:
        """The host that an event names, as it is before the guest has any of it."""
        return Host(self.hosts[event["host"]], self.w, self.machine, event.get("xen"))

    def migrate(self, event: Json, result: Json) -> Losses:
        max_pfn, leaves = toolstack.save(self)
        if event.get("live"):
            self.live_on(event.get("rounds", [event.get("during", [])]), result)
        toolstack.check_leaves(self, leaves)
        judge = Judge(self) if self.counts_losses else None
        toolstack.restore(self, max_pfn, leaves, self.arrive(event))
        self.build()
        self.set_shared_info()
        return judge.losses(self) if judge else Losses()

    def live_on(self, rounds: list[list[list[Any]]], result: Json) -> None:
        """What the guest does on the source while its memory is copied, round by round.

        The toolstack that walked a tree looks at nothing in between.
        """
        result |= {"entries_set": 0, "ok": True}
        for runs in rounds:
            one: Json = {}
            try:
                self.set(runs, one)
            finally:
                result["entries_set"] += one["entries_set"]
                result["ok"] &= one["ok"]
        result["placeholder_writes"] = 0

    def set(self, runs: list[list[Any]], result: Json) -> None:
        result["entries_set"] = 0
        result["ok"] = True
        for pfn, mfn, count in runs:
            for i in range(count):
                if not self.set_phys_to_machine(pfn + i, self.word_of(pfn + i, mfn, i)):
                    result["ok"] = False
                    return
                result["entries_set"] += 1

    def word_of(self, pfn: int, mfn: int | None, i: int) -> int:
        """The word that entry `i` of a run means."""
        return self.invalid if mfn is None else mfn + i

    def set_on_cpus(self, event: Json, result: Json) -> None:
        """Several CPUs' sets, step by step."""
        from oracle import cpus

        cpus.run(self, event, result)

    def run(self, event: Json) -> Json:
        """Run one event; return its "expected" object."""
        op = event["op"]
        if op == "fail_alloc":
            self.allocations, self.fail_at = 0, event["at"]
            return {"op": op}
        if op == "poke":
            for page, index, word in event["words"]:
                self.page(page)[index] = self.invalid if word is None else word
            return {"op": op}
        self.stray_writes, self.stray_pages = 0, set()
        self.tool = event.get("toolstack", "4.7")
        result: Json = {"op": op, "outcome": "ok", "detail": None}
        losses = Losses()
        try:
            if op == "boot":
                self.boot(self.arrive(event))
            elif op == "set":
                self.set(event["runs"], result)
            elif op == "cpus":
                self.set_on_cpus(event, result)
            else:
                losses = self.migrate(event, result)
        except End as end:
            result["outcome"], result["detail"] = end.outcome, str(end)
        result["brk_pages_used"] = self.brk_used
        result["pool_pages_used"] = self.pool_used
        result["frame_list_list_mfn"] = digests.widen(self, self.shared_fll)
        result["stray_writes"] = self.stray_writes
        result["stray_pages"] = len(self.stray_pages)
        result["frame_list_list_sha256"] = digests.sha256(digests.frame_list_list(self))
        result["frame_list_sha256"] = digests.sha256(digests.frame_list(self))
        result["p2m_sha256"] = digests.sha256(digests.p2m(self))
        if self.counts_losses and op == "migrate":
            result |= vars(losses)
        if self.counts_losses and op in ("set", "cpus"):
            # These policies have no page of many PFNs that set_phys_to_machine writes to.
            result["placeholder_writes"] = 0
        return result


def goes_on(event: Json, result: Json) -> bool:
    """Whether a life goes on after an event: after ok, and where a refused guest stays."""
    outcome = result.get("outcome", "ok")
    stays = event.get("on_refused") == "stay"
    return outcome == "ok" or (stays and outcome in ("save-failed", "restore-failed"))


def replay(trace: Json) -> list[Json]:
    """Run a trace's JSON object; return what its "expected" should be."""
    machine = Machine(trace)
    results = []
    for event in trace["events"]:
        results.append(machine.run(event))
        if not goes_on(event, results[-1]):
            break
    return results
