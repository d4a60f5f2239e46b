"""3.19 to now: one flat table in virtual memory, its page tables, and the list beside it."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from oracle.ends import Bug, Fault, SaveFailed
from oracle.eras.linear_walk import list_walk, page_table_check
from oracle.eras.machine import Found, Host, Json, Machine, sha256, spread
from oracle.eras.toolstack import map_leaves, tree_walk

N = 512
BLOCK_PFNS = N * N
MAX_P2M_PFN = N**3
IDENTITY = 1 << 62
FOREIGN = 1 << 63
NO_LIST = (1 << 64) - 1


class Linear(Machine):
    """5.14 and newer, and the stable series of 2021 from the backport on."""

    reports_table = True
    hash_pages = 0

    def __init__(self, trace: Json) -> None:
        super().__init__(trace)
        guest = self.guest
        self.nr_pages: int = guest["nr_pages"]
        self.size = -(-self.nr_pages // N) * N
        self.area: int = guest["area_pfns"]
        self.num_slots = self.area // N
        self.list_slots = min(self.area, MAX_P2M_PFN) // N
        self.vaddr: int = guest["p2m_vaddr"]
        self.pgd: int = guest["pgd_pfn"]
        self.flag: bool = guest["virt_p2m_4tools"]
        self.boot_pages = spread(guest["boot_pool"])
        self.boot_used = 0
        self.hint = 0
        # A page table page: PFN -> {entry number: PFN of what it maps}.
        self.tables: dict[int, dict[int, int]] = {self.pgd: {}}
        # The level-1 page of each block that has one yet.
        self.level1: dict[int, int] = {}
        # Pointer variables of the kernel, as PFNs; -1 is NULL.
        self.missing = self.identity = self.missing_pte = self.identity_pte = -1
        self.mid_missing_mfn = self.top_mfn_p = self.top_mfn = -1
        self.shared_cr3 = self.shared_vaddr = self.generation = 0
        self.tweak: Json = {}

    # --- pages --------------------------------------------------------------------------------

    def boot_page(self) -> int:
        if self.boot_used == len(self.boot_pages):
            raise Bug("panic")
        self.boot_used += 1
        return self.boot_pages[self.boot_used - 1]

    def grow_page(self) -> int | None:
        return self.alloc_p2m_page() if self.booted else self.boot_page()

    def list_page(self, word: int) -> int:
        """A page for the list, filled: nobody looks whether there was one."""
        pfn = self.grow_page()
        if pfn is None:
            raise Fault("null list page")
        self.fill(pfn, word)
        return pfn

    # --- lookups ------------------------------------------------------------------------------

    def true_leaf(self, x: int) -> int:
        if x >= self.num_slots:
            return self.identity
        return self.tables[self.level1[x // N]][x % N]

    def placeholders(self) -> set[int]:
        return {self.missing, self.identity}

    def shared_ptes(self) -> set[int]:
        return {self.missing_pte, self.identity_pte}

    def own_leaves(self) -> Iterator[tuple[int, int]]:
        shared = self.placeholders()
        for block, table in self.level1.items():
            if table in self.shared_ptes():
                continue
            for i, leaf in self.tables[table].items():
                if leaf not in shared:
                    yield block * N + i, leaf

    def get(self, pfn: int) -> int:
        leaf = self.true_leaf(pfn // N)
        return pfn | IDENTITY if leaf == self.identity else self.page(leaf)[pfn % N]

    def pfn_to_mfn(self, pfn: int) -> int:
        word = self.get(pfn)
        return word if word == self.invalid else word & ~(IDENTITY | FOREIGN)

    def identity_value(self, pfn: int) -> int | None:
        return pfn | IDENTITY

    def identity_bound(self) -> int:
        return self.area

    # --- boot ---------------------------------------------------------------------------------

    def boot(self, event: Json) -> None:
        words = self.hand_over(event["host"])
        for first, count in self.guest["identity"]:
            for pfn in range(first, min(first + count, self.size)):
                self.host.release(pfn, words[pfn])
                words[pfn] = pfn | IDENTITY
        self.hint = self.size
        self.missing, self.identity = self.boot_page(), self.boot_page()
        self.fill(self.missing, self.invalid)
        self.fill(self.identity, self.invalid)
        for leaf in (self.missing, self.identity):
            pte = self.boot_page()
            self.tables[pte] = dict.fromkeys(range(N), leaf)
            if leaf == self.missing:
                self.missing_pte = pte
            else:
                self.identity_pte = pte
        self.map_area(words)
        for first, count in self.guest["extra"]:
            for pfn in range(first, first + count):
                self.set_phys_to_machine(pfn, self.invalid)
        for _ in range(self.hash_pages):
            self.boot_page()
        self.build()
        self.report()

    def hand_over(self, number: int) -> list[int]:
        """`mfn_list`, rounded up to whole leaves with INVALID; its pages hold the same."""
        self.host = Host(self.hosts[number])
        got = {pfn: mfn for pfn, mfn in self.host.domain.items() if pfn < self.nr_pages}
        self.host.give_all(got)
        words = [got.get(pfn, self.invalid) for pfn in range(self.size)]
        for x in range(self.size // N):
            self.memory[self.guest["mfn_list_pfn"] + x] = words[x * N : x * N + N]
        return words

    def map_area(self, words: list[int]) -> None:
        """`xen_rebuild_p2m_list`: map every slot of the area, shared pages where one kind does."""
        for block in range(self.area // BLOCK_PFNS):
            first = block * BLOCK_PFNS
            whole = self.kind(words[first : first + BLOCK_PFNS], first, BLOCK_PFNS)
            if whole:
                pte = self.missing_pte if whole == "missing" else self.identity_pte
                self.map_block(block, pte)
                continue
            for x in range(block * N, block * N + N):
                leaf_words = words[x * N : x * N + N]
                kind = self.kind(leaf_words, x * N, N)
                leaf = self.missing if kind == "missing" else self.identity
                if not kind:
                    leaf = self.boot_page()
                    self.page(leaf)[:] = leaf_words
                if block not in self.level1:
                    self.map_block(block, None)
                self.tables[self.level1[block]][x % N] = leaf

    def kind(self, words: list[int], first: int, count: int) -> str:
        """What all `count` PFNs from `first` on are; nothing where they are real or mixed."""
        seen = {"identity"} if len(words) < count else set()
        for word in words:
            if word == self.invalid:
                seen.add("missing")
            else:
                seen.add("identity" if word & IDENTITY else "")
            if len(seen) > 1 or "" in seen:
                return ""
        return seen.pop()

    def map_block(self, block: int, pte: int | None) -> None:
        """Hang a level-1 page in, with the tables above it as they are needed."""
        address = self.vaddr + block * (N * 4096)
        table = self.tables[self.pgd]
        for shift in (39, 30):
            index = address >> shift & (N - 1)
            if index not in table:
                fresh = self.boot_page()
                self.tables[fresh] = {}
                table[index] = fresh
            table = self.tables[table[index]]
        if pte is None:
            pte = self.boot_page()
            self.tables[pte] = {}
        table[address >> 21 & (N - 1)] = pte
        self.level1[block] = pte

    # --- the list -----------------------------------------------------------------------------

    def build(self) -> None:
        """`xen_build_mfn_list_list`."""
        if self.flag:
            return
        if self.top_mfn == -1:
            if self.mid_missing_mfn == -1:
                self.mid_missing_mfn = self.list_page(self.pfn_to_mfn(self.missing))
            self.top_mfn_p = self.list_page(self.address(self.mid_missing_mfn))
            self.top_mfn = self.list_page(self.pfn_to_mfn(self.mid_missing_mfn))
        else:
            self.fill(self.mid_missing_mfn, self.pfn_to_mfn(self.missing))
        for top in range(-(-self.list_slots // N)):
            if self.level1[top] in self.shared_ptes():
                if self.tracked(top) != self.mid_missing_mfn:
                    raise Bug("mid_mfn_p != p2m_mid_missing_mfn")
                self.page(self.top_mfn)[top] = self.pfn_to_mfn(self.mid_missing_mfn)
                continue
            if self.tracked(top) == self.mid_missing_mfn:
                fresh = self.list_page(self.pfn_to_mfn(self.missing))
                self.page(self.top_mfn_p)[top] = self.address(fresh)
            self.page(self.top_mfn)[top] = self.pfn_to_mfn(self.tracked(top))
            for i in range(N):
                mfn = self.pfn_to_mfn(self.true_leaf(top * N + i))
                self.page(self.tracked(top))[i] = mfn

    def tracked(self, top: int) -> int:
        return self.pfn_at(self.page(self.top_mfn_p)[top])

    def report(self) -> None:
        self.shared_fll = NO_LIST if self.flag else self.pfn_to_mfn(self.top_mfn)
        self.shared_max_pfn = self.hint
        self.generation = 0
        self.shared_vaddr = self.vaddr
        self.shared_cr3 = self.pfn_to_mfn(self.pgd)

    def resume(self) -> None:
        self.build()
        self.report()

    # --- set ----------------------------------------------------------------------------------

    def word_of(self, pfn: int, value: int | str | None, i: int) -> int:
        return pfn | IDENTITY if value == "identity" else super().word_of(pfn, value, i)

    def beyond(self) -> Bug:
        """What a `set` beyond the area ends in."""
        return Bug("!ptep || level != PG_LEVEL_4K")

    def set_phys_to_machine(self, pfn: int, word: int) -> bool:
        if pfn >= self.area:
            if word != self.invalid:
                raise self.beyond()
            return True
        leaf = self.true_leaf(pfn // N)
        if leaf in self.placeholders():
            if word == (self.invalid if leaf == self.missing else pfn | IDENTITY):
                return True
            if not self.grow(pfn):
                return False
        self.store(pfn, self.true_leaf(pfn // N), word)
        return True

    def grow(self, pfn: int) -> bool:
        """`xen_alloc_p2m_entry`."""
        x = pfn // N
        block, i = divmod(x, N)
        if self.level1[block] in self.shared_ptes():
            pte = self.grow_page()
            if pte is None:
                return False
            self.tables[pte] = dict(self.tables[self.level1[block]])
            self.replace_level1(block, pte)
            self.generation += 2 * self.reports_table
        mid_mfn = None
        if self.top_mfn != -1 and pfn < MAX_P2M_PFN:
            mid_mfn = self.mid_mfn_page(block)
            if mid_mfn is None:
                return False
        old = self.true_leaf(x)
        if old in self.placeholders():
            leaf = self.grow_page()
            if leaf is None:
                return False
            if old == self.missing:
                self.fill(leaf, self.invalid)
            else:
                self.page(leaf)[:] = [p | IDENTITY for p in range(x * N, x * N + N)]
            self.tables[self.level1[block]][i] = leaf
            self.generation += 2 * self.reports_table
            if mid_mfn is not None:
                self.page(mid_mfn)[i] = self.pfn_to_mfn(leaf)
        self.move_hint(pfn)
        return True

    def replace_level1(self, block: int, pte: int) -> None:
        address = self.vaddr + block * (N * 4096)
        table = self.tables[self.pgd]
        for shift in (39, 30):
            table = self.tables[table[address >> shift & (N - 1)]]
        table[address >> 21 & (N - 1)] = pte
        self.level1[block] = pte

    def mid_mfn_page(self, top: int) -> int | None:
        mid_mfn = self.tracked(top)
        if self.pfn_to_mfn(mid_mfn) != self.page(self.top_mfn)[top]:
            raise Bug("virt_to_mfn(mid_mfn) != *top_mfn_p")
        if mid_mfn != self.mid_missing_mfn:
            return mid_mfn
        fresh = self.grow_page()
        if fresh is None:
            return None
        self.fill(fresh, self.pfn_to_mfn(self.missing))
        self.page(self.top_mfn)[top] = self.pfn_to_mfn(fresh)
        self.page(self.top_mfn_p)[top] = self.address(fresh)
        return fresh

    def move_hint(self, pfn: int) -> None:
        if pfn >= self.hint:
            self.hint = self.shared_max_pfn = -(-(pfn + 1) // N) * N

    # --- migration ----------------------------------------------------------------------------

    def save(self, event: Json) -> Found:
        says: Json = {
            "p2m_cr3_mfn": self.shared_cr3,
            "p2m_vaddr": self.shared_vaddr,
            "max_pfn": self.shared_max_pfn,
            "frame_list_list_mfn": self.shared_fll,
        } | self.tweak.get("shared", {})
        self.ptes = {(pfn, i): mfn for pfn, i, mfn in self.tweak.get("ptes", [])}
        self.tweak = {}
        self.generation_seen: int | None = None
        if says["p2m_cr3_mfn"] and self.tool == "4.7":
            self.generation_seen = self.generation
            max_pfn, frames = list_walk(self, says)
        else:
            max_pfn, frames = tree_walk(self, says["frame_list_list_mfn"], says["max_pfn"])
        return map_leaves(self, max_pfn, frames)

    def after_round(self) -> None:
        if self.generation_seen is not None and self.generation != self.generation_seen:
            raise SaveFailed("p2m-generation-changed")

    def check_paused(self, found: Found) -> None:
        page_table_check(self, found)

    def sent(self, words: list[int]) -> list[bool]:
        owned = self.host.owned
        return [word in owned for word in words]

    def restore(self, event: Json, found: Found) -> None:
        super().restore(event, found)
        self.flag = False

    # --- events -------------------------------------------------------------------------------

    def run(self, event: Json) -> Json:
        if event["op"] == "tweak":
            self.tweak = event
            return {"op": "tweak"}
        return super().run(event)

    def counters(self, op: str) -> Json:
        return {
            "boot_pages_used": self.boot_used,
            "pool_pages_used": self.pool_used,
            "frame_list_list_mfn": self.shared_fll,
            "max_pfn": self.shared_max_pfn,
            "p2m_cr3_mfn": self.shared_cr3,
            "p2m_vaddr": self.shared_vaddr,
            "p2m_generation": self.generation,
        }

    def digests(self) -> Json:
        out: dict[str, Any] = dict.fromkeys(
            ("frame_list_list_sha256", "frame_list_sha256", "leaf_frames_sha256", "p2m_sha256")
        )
        if self.top_mfn != -1:
            out["frame_list_list_sha256"] = sha256([self.wide(self.page(self.top_mfn))])
            tops = range(self.list_slots // N)
            out["frame_list_sha256"] = sha256(self.wide(self.page(self.tracked(t))) for t in tops)
        if self.booted:
            out["leaf_frames_sha256"] = sha256(self.leaf_frames())
            out["p2m_sha256"] = sha256(self.p2m_words())
        return out

    def leaf_frames(self) -> Iterator[bytes]:
        for block in range(self.num_slots // N):
            table = self.tables[self.level1[block]]
            yield self.wide([self.pfn_to_mfn(table[i]) for i in range(N)])

    def p2m_words(self) -> Iterator[bytes]:
        for block in range(self.num_slots // N):
            if self.level1[block] == self.identity_pte:
                yield identity_block(block)
                continue
            for x in range(block * N, block * N + N):
                leaf = self.true_leaf(x)
                if leaf == self.identity:
                    yield identity_slot(x)
                else:
                    yield self.wide(self.page(leaf))


def identity_bytes(first: int, count: int) -> bytes:
    """The identity values of `count` PFNs, as digests encode them: most of every area."""
    return array("Q", range(first | IDENTITY, (first | IDENTITY) + count)).tobytes()


@lru_cache(maxsize=8)
def identity_block(block: int) -> bytes:
    return identity_bytes(block * BLOCK_PFNS, BLOCK_PFNS)


@lru_cache(maxsize=4096)
def identity_slot(x: int) -> bytes:
    return identity_bytes(x * N, N)


class Linear44(Linear):
    """4.3 to 5.13: the hint is off by one."""

    def beyond(self) -> Bug:
        return Bug("mfn != INVALID_P2M_ENTRY")

    def move_hint(self, pfn: int) -> None:
        if pfn > self.hint:
            self.hint = self.shared_max_pfn = pfn


class Linear319(Linear44):
    """3.19 to 4.2: the whole area is reported, and nothing about the table."""

    reports_table = False
    hash_pages = 4

    def __init__(self, trace: Json) -> None:
        super().__init__(trace)
        self.flag = False

    def move_hint(self, pfn: int) -> None:
        """There is none."""

    def report(self) -> None:
        self.shared_fll = self.pfn_to_mfn(self.top_mfn)
        self.shared_max_pfn = self.area
