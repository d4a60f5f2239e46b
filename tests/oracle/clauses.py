"""Which clauses of the model a life has come across: the naive model, watched.

A campaign's worth is in what it reached. So each clause that random lives are to reach has a name
here, and the watched model says which it met. Watching changes nothing of a life.
"""

from __future__ import annotations

from typing import Any

from oracle import toolstack
from oracle.ends import Bug, End, Fault
from oracle.hosts import Host
from oracle.losses import Losses
from oracle.reference import Json, Machine, goes_on
from p2mbatch.base.geometry import FOREIGN_FRAME_BIT

BOTH, SECOND, THIRD, LIVE = "", " (machine 2)", " (format 3)", " (live lives)"

CLAUSES: dict[str, str] = {
    # boot
    "boot: a page without a frame": SECOND,
    "boot: frames named for pages past nr_pages": SECOND,
    "boot: brk ends before p2m_top": BOTH,
    "boot: brk ends before p2m_mid_missing_mfn": BOTH,
    "boot: brk ends before the frame list list": BOTH,
    "boot: brk ends at a mid_mfn page": BOTH,
    # the guest's read of m2p
    "m2p: past the order": SECOND,
    "m2p: past the mapped entries": SECOND,
    "m2p: past the frames": BOTH,
    "m2p: the guest's own frame": BOTH,
    "m2p: another domain's frame": BOTH,
    "m2p: nobody's frame": BOTH,
    "m2p: a neighbour's frame that is the guest's": BOTH,
    "m2p: a freed frame's word": THIRD,
    # stores through a mid_mfn page
    "store: the true page": BOTH,
    "store: the true page by its other address": SECOND,
    "store: through the kernel image map": SECOND,
    "store: past the direct map": BOTH,
    "store: in the last 2 MiB": SECOND,
    "store: an absent page": SECOND,
    "store: a tracked page that is absent": SECOND,
    "stray: page 0 past the m2p's end": SECOND,
    "stray: an ordinary page": BOTH,
    "stray: a leaf": BOTH,
    "stray: p2m_missing": BOTH,
    "stray: a mid": BOTH,
    "stray: p2m_mid_missing": BOTH,
    "stray: p2m_top": BOTH,
    "stray: the frame list list": BOTH,
    "stray: a mid_mfn page": BOTH,
    # looking up what a pointer names
    "lookup: a wild leaf pointer's page": BOTH,
    "lookup: INVALID as a pointer to page 524,287": SECOND,
    # growing
    "grow: no page for a mid": BOTH,
    "grow: no page for a mid_mfn": BOTH,
    "grow: no page for a leaf": BOTH,
    "grow: the injected failure": BOTH,
    "grow: a mid_mfn page lost its cmpxchg": BOTH,
    "grow: a mid_mfn page installed": BOTH,
    "grow: m2p's value names p2m_mid_missing_mfn's image address": SECOND,
    "grow: its own store changed the tree": BOTH,
    # setting entries
    "set: INVALID into a hole": BOTH,
    "set: past the tree": BOTH,
    "set: a number past the host": BOTH,
    "set: with the foreign bit": BOTH,
    "set: a frame that another entry holds": BOTH,
    "set: a frame that was a neighbour's": BOTH,
    "set: over a frame that names another PFN": BOTH,
    "set: a frame given back": BOTH,
    "set: a page comes into the direct map": SECOND,
    "set: a page leaves the direct map": SECOND,
    # saving and restoring
    "save: trimmed": BOTH,
    "save: a number that is the host's size": BOTH,
    "restore: an entry with the foreign bit": BOTH,
    "restore: a number past the host": BOTH,
    "restore: a frame of nobody or of somebody else": BOTH,
    "restore: 0s of the tail": BOTH,
    "restore: 0s of the tail that are an own frame": BOTH,
    "restore: one leaf page found twice": BOTH,
    "restore: an own frame past max_pfn": BOTH,
    "restore: refused, and the life goes on": THIRD,
    "save: refused, and the life goes on": THIRD,
    # losses
    "loss: lost pages": THIRD,
    "loss: ghost pages": THIRD,
    # what a guest does while it is sent
    "live: the guest goes on behind the walk": LIVE,
    "live: the tree grows behind the walk": LIVE,
    "live: a round gets no memory": LIVE,
}


def expected_of(format_name: str) -> set[str]:
    """The clauses that lives of a format can come across."""
    known = {"1": {BOTH}, "2": {BOTH, SECOND}, "3": {BOTH, SECOND, THIRD}}[format_name[-1]]
    return {name for name, since in CLAUSES.items() if since in known}


class Watched(Machine):
    """The naive model that keeps which clauses its life came across."""

    def __init__(self, trace: Json) -> None:
        super().__init__(trace)
        self.reached: set[str] = set()
        self.last_m2p = ""

    def saw(self, name: str, when: bool = True) -> None:
        if when:
            self.reached.add(name)

    # --- boot -----------------------------------------------------------------------------

    def boot(self, host: Host) -> None:
        nr_pages = self.guest["nr_pages"]
        named = sum(pfn < nr_pages for pfn in host.domain)
        self.saw("boot: a page without a frame", named < nr_pages)
        self.saw("boot: frames named for pages past nr_pages", named < len(host.domain))
        try:
            super().boot(host)
        except Bug:
            if not self.top:
                self.saw("boot: brk ends before p2m_top")
            elif not self.mid_missing_mfn:
                self.saw("boot: brk ends before p2m_mid_missing_mfn")
            elif not self.top_mfn:
                self.saw("boot: brk ends before the frame list list")
            else:
                self.saw("boot: brk ends at a mid_mfn page")
            raise

    # --- reading m2p, looking up pointers -------------------------------------------------

    def mfn_to_virt(self, mfn: int) -> int:
        self.last_m2p = self._kind_of_m2p(mfn)
        self.saw(f"m2p: {self.last_m2p}")
        address = super().mfn_to_virt(mfn)
        self.saw(
            "grow: m2p's value names p2m_mid_missing_mfn's image address",
            address == self.mid_missing_mfn and self.kernel_base != self.base,
        )
        return address

    def _kind_of_m2p(self, mfn: int) -> str:
        host = self.host
        if mfn >> self.m2p_order:
            return "past the order"
        if mfn >= host.mapped:
            return "past the mapped entries"
        if mfn >= host.frames:
            return "past the frames"
        if mfn in host.owned:
            shared = any(first <= mfn < first + count for first, _, count in host.foreign)
            return "a neighbour's frame that is the guest's" if shared else "the guest's own frame"
        if mfn in host.written:
            return "nobody's frame" if host.written[mfn] == self.invalid else "a freed frame's word"
        return "nobody's frame" if host.pfn_of(mfn) == self.invalid else "another domain's frame"

    def virt_to_mfn(self, address: int) -> int:
        # The kernel's own pages can all be reached: what can't be is a wild leaf pointer.
        if not self.can_reach(address):
            self.saw("lookup: a wild leaf pointer's page")
            self.saw(
                "lookup: INVALID as a pointer to page 524,287",
                self.kernel_base != self.base
                and address == self.invalid
                and self.xen_max_p2m_pfn > 524_287,
            )
        return super().virt_to_mfn(address)

    # --- stores through a mid_mfn page ----------------------------------------------------

    def store_leaf_mfn(self, mid_mfn: int, pfn: int, mfn: int) -> None:
        true = self.true_mid_mfn.get(pfn // self.n**2, self.mid_missing_mfn)
        if not self.can_store(mid_mfn):
            if self.can_reach(mid_mfn):
                self.saw("store: an absent page")
                self.saw("store: a tracked page that is absent", self.policy != "stale")
            elif mid_mfn >= self.kernel_end:
                self.saw("store: in the last 2 MiB")
            else:
                self.saw("store: past the direct map")
        else:
            page = self.pfn_at(mid_mfn)
            image = self.kernel_base != self.base and self.in_kernel_map(mid_mfn)
            self.saw("store: through the kernel image map", image)
            if page != self.pfn_at(true):
                self.saw(f"stray: {self._kind_of_page(page)}")
                unmapped = self.last_m2p == "past the mapped entries"
                self.saw("stray: page 0 past the m2p's end", unmapped)
            elif mid_mfn != true:
                self.saw("store: the true page by its other address")
            else:
                self.saw("store: the true page")
        super().store_leaf_mfn(mid_mfn, pfn, mfn)

    def _kind_of_page(self, page: int) -> str:
        names = {
            "p2m_missing": self.missing,
            "p2m_mid_missing": self.mid_missing,
            "p2m_top": self.top,
            "the frame list list": self.top_mfn,
            "p2m_mid_missing_mfn": self.mid_missing_mfn,
        }
        for name, address in names.items():
            if address and self.pfn_at(address) == page:
                return name
        if page in {self.pfn_at(address) for address in self.true_mid_mfn.values()}:
            return "a mid_mfn page"
        mids = [mid for mid in set(self.page(self.pfn_at(self.top))) if self.can_reach(mid)]
        if page in {self.pfn_at(mid) for mid in mids}:
            return "a mid"
        for mid in mids:
            if any(self.pfn_at(leaf) == page for leaf in set(self.page(self.pfn_at(mid)))):
                return "a leaf"
        return "an ordinary page"

    # --- growing and setting --------------------------------------------------------------

    def alloc_p2m_page(self) -> int | None:
        call = self.allocations
        page = super().alloc_p2m_page()
        self.saw("grow: the injected failure", page is None and call == self.fail_at)
        return page

    def alloc_p2m(self, pfn: int) -> bool:
        top = pfn // self.n**2
        top_mfn = self.page(self.pfn_at(self.top_mfn))[top]
        true, used = self.true_mid_mfn.get(top), self.pool_used
        no_mid = self.page(self.pfn_at(self.top))[top] == self.mid_missing
        grown = super().alloc_p2m(pfn)
        taken = self.pool_used - used
        installed = self.true_mid_mfn.get(top) != true
        self.saw("grow: a mid_mfn page installed", installed)
        if grown:
            # A leaf and a mid are always hung in; what else was taken is a mid_mfn page.
            lost = taken - no_mid - 1 == 1 and not installed
            self.saw("grow: a mid_mfn page lost its cmpxchg", lost)
            self._watch_tree(pfn)
        elif taken == 0 and no_mid:
            self.saw("grow: no page for a mid")
        elif self._needs_mid_mfn(top_mfn, top):
            self.saw("grow: no page for a mid_mfn")
        else:
            self.saw("grow: no page for a leaf")
        return grown

    def _watch_tree(self, pfn: int) -> None:
        """After growing, the way down to the entry should lead to the page that was hung in."""
        fresh = self.address(self.pool[self.pool_used - 1]) if self.pool_used else 0
        try:
            elsewhere = self.leaf_pointer(pfn) != fresh
        except Fault:
            elsewhere = True
        self.saw("grow: its own store changed the tree", elsewhere)

    def _needs_mid_mfn(self, top_mfn: int, top: int) -> bool:
        if self.policy == "stale":
            return Machine.mfn_to_virt(self, top_mfn) == self.mid_missing_mfn
        return self.page(self.pfn_at(self.top_mfn_p))[top] == self.mid_missing_mfn

    def set_phys_to_machine(self, pfn: int, mfn: int) -> bool:
        if pfn >= self.max_p2m_pfn_limit:
            self.saw("set: past the tree")
            return super().set_phys_to_machine(pfn, mfn)
        host = self.host
        hole = self.leaf_pointer(pfn) == self.missing
        here = pfn in self.present
        other = mfn in host.owned and host.written[mfn] != pfn
        was_neighbours = mfn not in host.written and host.pfn_of(mfn) != self.invalid
        old = self.invalid if hole else Machine.get_phys_to_machine(self, pfn)
        not_ours = old in host.owned and host.written[old] != pfn
        gives_back = old in host.owned and not not_ours
        done = super().set_phys_to_machine(pfn, mfn)
        if not done:
            return done
        if hole and mfn == self.invalid:
            self.saw("set: INVALID into a hole")
            return done
        if mfn != self.invalid:
            self.saw("set: with the foreign bit", bool(mfn & FOREIGN_FRAME_BIT))
            self.saw("set: a number past the host", mfn >= host.frames)
            self.saw("set: a frame that another entry holds", other)
            self.saw("set: a frame that was a neighbour's", was_neighbours)
        self.saw("set: over a frame that names another PFN", not_ours)
        self.saw("set: a frame given back", gives_back)
        if self.machine.absent_pages_fault:
            self.saw("set: a page comes into the direct map", not here and mfn != self.invalid)
            self.saw("set: a page leaves the direct map", here and mfn == self.invalid)
        return done

    # --- moving ---------------------------------------------------------------------------

    def migrate(self, event: Json, result: Json) -> Losses:
        losses = super().migrate(event, result)
        self.saw("loss: lost pages", losses.lost_pages > 0)
        self.saw("loss: ghost pages", losses.ghost_pages > 0)
        return losses

    def live_on(self, rounds: list[list[list[Any]]], result: Json) -> None:
        self.saw("live: the guest goes on behind the walk")
        used = self.pool_used
        super().live_on(rounds, result)
        self.saw("live: the tree grows behind the walk", self.pool_used > used)
        self.saw("live: a round gets no memory", not result["ok"])

    def run(self, event: Json) -> Json:
        if event["op"] == "migrate":
            self._watch_save()
        result = super().run(event)
        stays = result.get("outcome", "ok") != "ok" and goes_on(event, result)
        if stays:
            refused = str(result["outcome"]).removesuffix("-failed")
            self.saw(f"{refused}: refused, and the life goes on")
        return result

    def _watch_save(self) -> None:
        """What the save and the restore will come across, told before they run."""
        host, n = self.host, self.n
        try:
            max_pfn, leaves = toolstack.save(self)
            toolstack.check_leaves(self, leaves)
        except End as end:
            self.saw("save: a number that is the host's size", self._names_size(str(end)))
            return
        self.saw("save: trimmed", max_pfn < self.shared_max_pfn - 1)
        self.saw("restore: one leaf page found twice", len(set(leaves)) < len(leaves))
        self.saw(
            "restore: an own frame past max_pfn",
            any(host.written[mfn] > max_pfn for mfn in host.owned),
        )
        nr_pages = self.guest["nr_pages"]
        for x, leaf in enumerate(leaves):
            words = self.page(leaf)[: max_pfn + 1 - x * n]
            if words.count(self.invalid) == len(words):
                continue
            for pfn, word in enumerate(words, x * n):
                if word == self.invalid:
                    continue
                if word == 0 and pfn >= nr_pages and x == nr_pages // n:
                    own = " that are an own frame" if 0 in host.owned else ""
                    self.saw(f"restore: 0s of the tail{own}")
                elif word not in host.owned:
                    self.saw(f"restore: {self._kind_of_word(word)}")

    def _kind_of_word(self, word: int) -> str:
        if word & FOREIGN_FRAME_BIT:
            return "an entry with the foreign bit"
        if word >= self.host.frames:
            return "a number past the host"
        return "a frame of nobody or of somebody else"

    def _names_size(self, detail: str) -> bool:
        """Whether the check that failed is the one after `> max_mfn`, on the number max_mfn."""
        check, _, place = detail.partition(" ")
        frames, n, x = self.host.frames, self.n, int(place) if place.isdigit() else 0

        def word(mfn: int, index: int) -> int:
            return self.page(self.host.pfn_of(mfn))[index]

        if check == "map-fll-failed":
            return x == frames
        if check == "map-fl-failed":
            return word(self.shared_fll, x) == frames
        if check == "map-leaves-failed":
            return word(word(self.shared_fll, x // n), x % n) == frames
        return False


def watch(trace: Json) -> tuple[list[Json], set[str]]:
    """Run a trace's JSON object; return what its "expected" should be, and the clauses it met."""
    machine = Watched(trace)
    results: list[dict[str, Any]] = []
    for event in trace["events"]:
        results.append(machine.run(event))
        if not goes_on(event, results[-1]):
            break
    return results, machine.reached
