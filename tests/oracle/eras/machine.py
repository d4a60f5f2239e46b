"""What all eras share: hosts, memory, allocation, ownership, the events, and what a row counts.

Memory is a dict from PFN to a list of words, and every word is what the machine would hold: an
unsigned number of `word_bytes` bytes. Variables of the kernel that point to a page hold its PFN;
pointers that lie in memory are addresses. Nothing here is fast.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from typing import Any

from oracle.ends import End, Misdirected, RestoreFailed

Json = dict[str, Any]

PAGE_BYTES = 4096
WIDE_INVALID = (1 << 64) - 1
BASES = {8: 0xFFFF_8800_0000_0000, 4: 0xC000_0000}


class Host:
    """One machine: which frames it has for the guest, which are the guest's, and its m2p."""

    def __init__(self, runs: Json) -> None:
        self.frames: int = runs["frames"]
        self.domain: dict[int, int] = {}
        for pfn, mfn, count in runs["domain"]:
            self.domain.update(zip(range(pfn, pfn + count), range(mfn, mfn + count), strict=True))
        self.m2p: dict[int, int] = {}
        for mfn, pfn, count in runs["foreign"]:
            self.m2p.update(zip(range(mfn, mfn + count), range(pfn, pfn + count), strict=True))
        self.owned: set[int] = set()

    def give(self, pfn: int, mfn: int) -> None:
        """An entry for `pfn` now holds `mfn`; numbers past the host's frames own nothing."""
        if mfn < self.frames:
            self.owned.add(mfn)
            self.m2p[mfn] = pfn

    def give_all(self, frames: dict[int, int]) -> None:
        """`give` for many PFNs at once, with frames that the host has."""
        self.owned.update(frames.values())
        self.m2p.update(zip(frames.values(), frames, strict=True))

    def release(self, pfn: int, mfn: int) -> None:
        """An entry of `pfn` that held `mfn` was overwritten."""
        if mfn in self.owned and self.m2p[mfn] == pfn:
            self.owned.discard(mfn)
            del self.m2p[mfn]


class Found:
    """What a save found: the last PFN it will send, and the leaf pages, by PFN, in order."""

    def __init__(self, max_pfn: int, leaves: list[int]) -> None:
        self.max_pfn = max_pfn
        self.leaves = leaves


class Machine:
    """A guest with its memory, on the host that it runs on now."""

    def __init__(self, trace: Json) -> None:
        guest = trace["guest"]
        self.guest: Json = guest
        self.second_machine: bool = trace["format"] != "p2mbatch-trace/1"
        self.hosts: list[Json] = trace["hosts"]
        self.w: int = guest["word_bytes"]
        self.n = PAGE_BYTES // self.w
        self.invalid = (1 << (8 * self.w)) - 1
        self.memory: dict[int, list[int]] = {}
        self.pool = spread(guest["page_pool"])
        self.pool_used = 0
        self.allocations = 0
        self.fail_at: int | None = None
        self.booted = False
        # What the shared info page says.
        self.shared_fll = 0
        self.shared_max_pfn = 0
        self.tool = "4.7"
        """The toolstack that saves the guest, by what traces call it."""
        # The PFNs that the kernel's direct map reaches (second machine only).
        self.present: set[int] = set()
        self.placeholder_writes = 0
        # Stores through pages that were given back, and those pages: of several CPUs alone.
        self.stray_writes = 0
        self.stray_pages: set[int] = set()
        # The events that the guest booted and arrived by, of which its reads of m2p depend.
        self.booted_by: Json = {}
        self.arrived_by: Json = {}
        self.host = Host({"frames": 0, "domain": [], "foreign": []})

    # --- memory -------------------------------------------------------------------------------

    def page(self, pfn: int) -> list[int]:
        """Return the words of page `pfn`, which starts as zeros."""
        words = self.memory.get(pfn)
        if words is None:
            words = self.memory[pfn] = [0] * self.n
        return words

    def fill(self, pfn: int, word: int) -> None:
        self.page(pfn)[:] = [word] * self.n

    def address(self, pfn: int) -> int:
        return BASES[self.w] + pfn * PAGE_BYTES

    def pfn_at(self, address: int) -> int:
        return (address - BASES[self.w]) // PAGE_BYTES

    def alloc_p2m_page(self) -> int | None:
        """The next page of the pool; None where it is empty or the injected failure is due."""
        call = self.allocations
        self.allocations += 1
        if call == self.fail_at or self.pool_used == len(self.pool):
            return None
        self.pool_used += 1
        return self.pool[self.pool_used - 1]

    def store(self, pfn: int, leaf: int, word: int) -> None:
        """set_phys_to_machine's store: the word, whose the frames are, and the direct map."""
        words = self.page(leaf)
        self.host.release(pfn, words[pfn % self.n])
        words[pfn % self.n] = word
        self.host.give(pfn, word)
        if word == self.invalid:
            self.present.discard(pfn)
        else:
            self.present.add(pfn)

    # --- what each era says for itself --------------------------------------------------------

    def get(self, pfn: int) -> int:
        """`get_phys_to_machine`."""
        raise NotImplementedError

    def pfn_to_mfn(self, pfn: int) -> int:
        """The MFN of a page, flags masked off: what `virt_to_mfn` gives for its address."""
        raise NotImplementedError

    def set_phys_to_machine(self, pfn: int, word: int) -> bool:
        raise NotImplementedError

    def boot(self, event: Json) -> None:
        raise NotImplementedError

    def resume(self) -> None:
        """Rebuild the list and set the shared info page."""
        raise NotImplementedError

    def save(self, event: Json) -> Found:
        """The toolstack's walk and checks; nothing changes."""
        raise NotImplementedError

    def true_leaf(self, x: int) -> int:
        """The PFN of the page that is leaf `x`, a placeholder page included."""
        raise NotImplementedError

    def placeholders(self) -> set[int]:
        """The PFNs of the leaves that many slots share."""
        raise NotImplementedError

    def own_leaves(self) -> Iterator[tuple[int, int]]:
        """Each leaf number with a page of its own, and that page's PFN."""
        raise NotImplementedError

    def identity_value(self, pfn: int) -> int | None:
        """The word that says `pfn` is the machine's frame of that number; None where none does."""
        raise NotImplementedError

    def identity_bound(self) -> int:
        """Identity that is lost counts for PFNs below this."""
        raise NotImplementedError

    def counters(self, op: str) -> Json:
        raise NotImplementedError

    def digests(self) -> Json:
        raise NotImplementedError

    def during(self, found: Found, event: Json, result: Json) -> None:
        """A live migration's rounds: the guest goes on, on the source, after the walk."""
        result["entries_set"], result["ok"] = 0, True
        for runs in event["rounds"] if "rounds" in event else [event.get("during", [])]:
            this_round: Json = {}
            try:
                self.set_runs(runs, this_round)
            finally:
                result["entries_set"] += this_round["entries_set"]
            if not this_round["ok"]:
                result["ok"] = False
            self.after_round()

    def after_round(self) -> None:
        """What the toolstack looks at after each round: one that walked a tree, at nothing."""

    def check_paused(self, found: Found) -> None:
        """What is looked at once the guest is paused."""

    # --- migration ----------------------------------------------------------------------------

    def migrate(self, event: Json, result: Json) -> None:
        found = self.save(event)
        if event.get("live"):
            self.during(found, event, result)
        self.check_paused(found)
        self.check_leaves(found)
        populated, identity = self.populated(), self.identity_words()
        self.restore(event, found)
        self.resume()
        if self.second_machine:
            now = self.populated()
            named = {self.host.m2p[mfn] for mfn in self.host.owned}
            result["lost_pages"] = len(populated - now)
            result["ghost_pages"] = len(named - populated)
            kept = sum(self.get(pfn) == self.identity_value(pfn) for pfn in identity)
            result["lost_identity_pages"] = len(identity) - kept

    def check_leaves(self, found: Found) -> None:
        """The leaf pages found against the guest's own; placeholders are all the same here."""
        shared = self.placeholders()
        for x, leaf in enumerate(found.leaves):
            true = self.true_leaf(x)
            if leaf != true and not (leaf in shared and true in shared):
                raise Misdirected("-")

    def sent(self, words: list[int]) -> list[bool]:
        """Which entries restore gives a frame: on the second machine only frames of its own."""
        if self.second_machine:
            owned = self.host.owned
            return [word in owned for word in words]
        return [word != self.invalid for word in words]

    def restore(self, event: Json, found: Found) -> None:
        """All bytes arrive, and the leaves found are written over with the new frames."""
        n, num_pfns = self.n, found.max_pfn + 1
        # Read all before writing any: a page may be found for more than one leaf.
        wanted = []
        for x, leaf in enumerate(found.leaves):
            flags = self.sent(self.page(leaf)[: num_pfns - x * n])
            wanted.append([pfn for pfn, flag in enumerate(flags, x * n) if flag])
        host = Host(self.hosts[event["host"]])
        if self.second_machine:
            for pfn in (pfn for pfns in wanted for pfn in pfns):
                if pfn not in host.domain:
                    raise RestoreFailed(f"populate-failed {pfn}")
            self.shared_fll = 0
        self.host = host
        self.arrived_by = event
        self.present = set()
        for x, leaf in enumerate(found.leaves):
            span = range(x * n, min(x * n + n, num_pfns))
            if not wanted[x]:
                self.page(leaf)[: len(span)] = [self.invalid] * len(span)
                continue
            got = {pfn: host.domain[pfn] for pfn in wanted[x] if pfn in host.domain}
            self.page(leaf)[: len(span)] = [got.get(pfn, self.invalid) for pfn in span]
            host.give_all(got)
            self.present.update(got)

    # --- what a row counts --------------------------------------------------------------------

    def populated(self) -> set[int]:
        """The PFNs whose entry is a frame that is the guest's and that m2p names them for."""
        if not self.second_machine:
            return set()
        owned, m2p = self.host.owned, self.host.m2p
        return {
            pfn
            for x, leaf in self.own_leaves()
            for pfn, word in enumerate(self.page(leaf), x * self.n)
            if word in owned and m2p[word] == pfn
        }

    def identity_words(self) -> list[int]:
        """The PFNs whose word, in a leaf of their own, is their identity value."""
        if not self.second_machine:
            return []
        return [
            pfn
            for x, leaf in self.own_leaves()
            for pfn, word in enumerate(self.page(leaf), x * self.n)
            if word > self.host.frames and word == self.identity_value(pfn)
            if pfn < self.identity_bound()
        ]

    # --- events -------------------------------------------------------------------------------

    def word_of(self, pfn: int, value: int | str | None, i: int) -> int:
        """The word that run entry `i` of a `set` means for `pfn`."""
        if value is None:
            return self.invalid
        assert isinstance(value, int)
        return value + i

    def set_runs(self, runs: list[list[Any]], result: Json) -> None:
        result["entries_set"], result["ok"] = 0, True
        for pfn, value, count in runs:
            for i in range(count):
                if not self.set_phys_to_machine(pfn + i, self.word_of(pfn + i, value, i)):
                    result["ok"] = False
                    return
                result["entries_set"] += 1

    def set_on_cpus(self, event: Json, result: Json) -> None:
        """Several CPUs' sets, step by step."""
        from oracle import cpus

        cpus.run(self, event, result)

    def run(self, event: Json) -> Json:
        """Run one event and return its expected object."""
        op = event["op"]
        if op == "fail_alloc":
            self.allocations, self.fail_at = 0, event["at"]
            return {"op": op}
        if op == "poke":
            for page, index, word in event["words"]:
                self.page(page)[index] = self.invalid if word is None else word
            return {"op": op}
        result: Json = {"op": op, "outcome": "ok", "detail": None}
        self.placeholder_writes = 0
        self.stray_writes, self.stray_pages = 0, set()
        self.tool = event.get("toolstack", "4.7")
        if op == "migrate" and self.second_machine:
            result.update(lost_pages=0, ghost_pages=0, lost_identity_pages=0)
        try:
            if op == "boot":
                self.booted_by = self.arrived_by = event
                self.boot(event)
                self.booted = True
            elif op == "set":
                self.set_runs(event["runs"], result)
            elif op == "cpus":
                self.set_on_cpus(event, result)
            else:
                self.migrate(event, result)
        except End as end:
            result["outcome"], result["detail"] = end.outcome, str(end)
        if op in ("set", "cpus") and self.second_machine:
            result["placeholder_writes"] = self.placeholder_writes
        return result | self.counters(op) | self.digests()

    # --- digests ------------------------------------------------------------------------------

    def wide(self, words: Iterable[int]) -> bytes:
        """Return the words as little-endian 64-bit ones, INVALID as all ones."""
        if self.w == 8:
            return array("Q", words).tobytes()
        invalid = self.invalid
        return array("Q", [WIDE_INVALID if w == invalid else w for w in words]).tobytes()


def sha256(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def spread(runs: Iterable[list[int]]) -> list[int]:
    """The PFNs of [[first, count], ...] in order."""
    return [pfn + i for pfn, count in runs for i in range(count)]
