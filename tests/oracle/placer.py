"""Random hosts for a guest: where its frames lie, whose the old ones are, where the m2p ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from oracle import build
from oracle.build import Json
from oracle.dice import Dice

IMAGE_ALIAS = 0x77FF8_0000
"""m2p value by which `mfn_to_virt` yields the kernel image map's first address."""
IMAGE_END_ALIAS = 0x77FFF_FE00
"""The same for the last 2 MiB, which hold nothing."""
CHUNK = 262_144


@dataclass
class Frames:
    """A host in the making."""

    frames: int
    domain: dict[int, int]
    foreign: dict[int, int] = field(default_factory=dict)
    table: Json = field(default_factory=dict)
    """`m2p_order` and `m2p_entries`, where the host names them."""

    def as_json(self) -> Json:
        return build.host(self.frames, self.domain, self.foreign) | self.table

    def taken(self) -> list[int]:
        return sorted({*self.domain.values(), *self.foreign})

    def free(self, count: int) -> list[int]:
        """First frames of free stretches that are long enough, a few of them."""
        found, at = [], 0
        for mfn in [*self.taken(), self.frames]:
            if mfn - at >= count:
                found += [at, mfn - count]
                if len(found) >= 8:
                    break
            at = mfn + 1
        return found

    def some_own(self, dice: Dice) -> int:
        """A frame that the guest has here, or had."""
        return dice.of(list(self.domain.values()))

    def some_foreign(self, dice: Dice) -> int:
        """A frame that another domain has, if any."""
        return dice.of(list(self.foreign)) if self.foreign else 0


class Placer:
    """What a generator has to know of the guest: its tables, its extra memory, odd places."""

    def __init__(self, dice: Dice, policy: str, guest: Json, machine: int) -> None:
        self.dice = dice
        self.policy = policy
        self.machine = machine
        self.guest = guest
        self.bits = 8 * guest["word_bytes"]
        self.n = build.entries(guest["word_bytes"])
        self.nr_pages: int = guest["nr_pages"]
        self.max_p2m_pfn: int = guest["max_p2m_pfn"]
        # On machine 2 a `stale` 64-bit guest takes no mid_mfn page at boot.
        shared_page = machine == 2 and policy == "stale" and self.bits == 64
        self.structures = build.structures(policy, guest, own_mid_mfns=not shared_page)
        self.names = sorted(self.structures)
        self.small = self.nr_pages <= 8 * self.n
        self.regions = self._regions()

    def _regions(self) -> list[tuple[int, int]]:
        """Runs of PFNs past nr_pages, apart, that lives populate and later hosts give frames to."""
        n, dice = self.n, self.dice
        starts = {self.nr_pages, self.nr_pages + 2, self.nr_pages + n, self.nr_pages + 3 * n + 1}
        starts |= {self.max_p2m_pfn - 1, self.max_p2m_pfn + 3}
        starts |= {n * n - 2, n * n + 5, n * n + n + 7, 2 * n * n - 3, n**3 - 6}
        size = dice.pick((0, 1), (1, 3), (2, 3), (3, 3), (5, 1))
        regions: list[tuple[int, int]] = []
        for start in sorted(dice.shuffled(sorted(starts))[:size]):
            if start >= (sum(regions[-1]) if regions else self.nr_pages) and start + 6 <= n**3:
                regions.append((start, dice.between(1, 6)))
        return regions

    # --- places -------------------------------------------------------------------------------

    def structure(self) -> int:
        """A PFN of a structure, the ones that the list list hangs by more often."""
        hubs = [name for name in ("mid_mfn0", "mid_missing_mfn", "top_mfn") if name in self.names]
        if hubs and not self.dice.one_in(3):
            return self.structures[self.dice.of(hubs)]
        return self.structures[self.dice.of(self.names)]

    def list_page(self) -> int:
        """A PFN whose number is kept somewhere: a pool page, or a page of the list list."""
        wanted = [s for s in self.names if s.startswith(("pool", "mid_m", "top_mfn"))]
        return self.structures[self.dice.of(wanted or self.names)]

    def any_pfn(self) -> int:
        """A PFN of the guest: often a structure's, now and then one in an odd place."""
        dice, n = self.dice, self.n
        kind = dice.pick(("structure", 5), ("table", 3), ("ram", 3), ("edge", 1), ("first", 1))
        if kind == "structure":
            return self.structures[dice.of(self.names)]
        if kind == "table":
            wanted = ("missing", "mid_missing", "top", "mid0", "top_mfn", "leaf0", "pool0")
            return self.structures[dice.of([s for s in wanted if s in self.names])]
        if kind == "edge":
            odd = [self.nr_pages - 1, self.nr_pages, self.guest["directmap_pages"], n**3 - 1, n**3]
            return dice.of(odd)
        return 0 if kind == "first" else dice.between(0, self.nr_pages - 1)

    def strange_pfn(self) -> int:
        """What another domain's m2p entry may say that is no PFN of this guest's."""
        dice, last = self.dice, self.guest["directmap_pages"]
        values = [last - 1, last, self.n**3, (1 << 52) - 1, (1 << 31) + 5]
        if self.bits == 64:
            name = "mid_missing_mfn" if "mid_missing_mfn" in self.structures else self.names[0]
            values += [IMAGE_ALIAS + self.structures[name]] * 6
            values += [IMAGE_ALIAS + self.structure()] * 3
            values += [IMAGE_ALIAS + last, IMAGE_END_ALIAS - 1]
            values += [IMAGE_END_ALIAS, IMAGE_END_ALIAS + dice.between(0, 511)] * 2
        return dice.of(values)

    def odd_number(self, host: Frames) -> int:
        """A number for an entry, at an edge of what m2p and toolstack tell apart."""
        edges = [host.frames - 1, host.frames, host.frames + 1, CHUNK - 1, CHUNK, 1 << 26]
        edges += [(1 << 26) - 1, 2 * CHUNK - 1, 2 * CHUNK, 43_515_903, 43_515_904, 0]
        for name in ("m2p_entries", "m2p_order"):
            if name in host.table:
                value = host.table[name]
                edges += [value, value - 1] if name == "m2p_entries" else [1 << min(value, 30)]
        if self.bits == 64:
            edges += [(1 << 32) - 1, 1 << 32, 1 << 33]
        return max(0, self.dice.of(edges))

    # --- hosts --------------------------------------------------------------------------------

    def host(self, before: list[Frames]) -> Frames:
        """Draw a host; `before` are those drawn so far, the first the one to boot on."""
        dice = self.dice
        # Without a rebuild only a host that gives the same frames gets past the first checks.
        like = 9 if self.policy == "none" else 4
        kind = dice.pick(("placed", 4), ("like", like), ("shifted", 2)) if before else "placed"
        pfns = self._named(bool(before))
        if kind == "placed":
            made = self._place(pfns)
        else:
            made = self._like(pfns, dice.of(before), 0 if kind == "like" else dice.between(1, 5))
        for _ in range(dice.pick((0, 3), (1, 2), (3, 1))):
            self._swap(made.domain)
        if before:
            self._aim(before, made)
            if dice.one_in(8):
                self._unname(made.domain)
            if dice.one_in(12):
                made.frames = max(made.domain.values(), default=0) + 1
        if dice.one_in(2) and self.small:
            self._neighbours(made)
        if self.machine == 2:
            self._table(before, made)
            if made.domain and dice.one_in(12):
                # A frame that is a neighbour's too is the guest's.
                made.foreign[made.some_own(dice)] = self.any_pfn()
        made.foreign = {mfn: pfn for mfn, pfn in made.foreign.items() if mfn < made.frames}
        return made

    def _named(self, later: bool) -> list[int]:
        """PFNs that a host names frames for."""
        dice, n = self.dice, self.n
        if self.small or self.machine == 1:
            pfns = set(range(self.nr_pages))
        else:
            pfns = set(self.structures.values())
            pfns |= {*range(64), *range(self.nr_pages - 40, self.nr_pages), n * n - 1}
            pfns |= {self.guest["brk_pfn"] + i for i in range(self.guest["brk_pages"])}
        if self.machine == 2 and self.small and not later and dice.one_in(6):
            keep = set(self.structures.values()) if dice.one_in(2) else set()
            for _ in range(dice.between(1, 3)):
                start = dice.between(0, self.nr_pages - 1)
                pfns -= set(range(start, start + dice.between(1, 30))) - keep
        if later and not dice.one_in(5):
            pfns |= {pfn + i for pfn, count in self.regions for i in range(count)}
        if dice.one_in(5) and self.machine == 2:
            # The tail of the last leaf reads as frame 0: sent, where the guest has frame 0.
            pfns |= set(range(self.nr_pages, -(-self.nr_pages // n) * n))
        return sorted(pfns)

    def _place(self, pfns: list[int]) -> Frames:
        """Chunks of the PFNs in shuffled order, with the spare frames between them."""
        dice = self.dice
        spare = dice.pick((1, 2), (9, 2), (70, 3), (min(self.nr_pages, 500), 3))
        far = dice.pick((0, 14), (CHUNK - len(pfns) - 30, 1), (CHUNK, 1), (3 * CHUNK, 1))
        cuts = sorted({dice.between(1, len(pfns) - 1) for _ in range(dice.between(0, 4))})
        chunks = [pfns[a:b] for a, b in zip([0, *cuts], [*cuts, len(pfns)], strict=True)]
        frames = len(pfns) + spare + max(far, 0)
        far_before = dice.between(0, len(chunks) - 1)
        mfn, domain = 0, {}
        for i, chunk in enumerate(dice.shuffled(chunks)):
            gap = min(spare, dice.pick((1, 4), (0, 2), (spare // 2, 2)))
            spare -= gap
            mfn += gap + (max(far, 0) if i == far_before else 0)
            for pfn in chunk:
                domain[pfn] = mfn
                mfn += 1
        return Frames(frames, domain)

    def _like(self, pfns: list[int], like: Frames, shift: int) -> Frames:
        """The same frames as on a host before, or all of them moved up together."""
        frames = like.frames + self.dice.pick((0, 2), (12, 1))
        domain = {}
        for pfn in pfns:
            if pfn in like.domain:
                domain[pfn] = (like.domain[pfn] + shift) % frames
        used = set(domain.values())
        spare = [mfn for mfn in range(min(frames, 4096)) if mfn not in used]
        for pfn, mfn in zip([pfn for pfn in pfns if pfn not in domain], spare, strict=False):
            domain[pfn] = mfn
        return Frames(frames, domain)

    def _swap(self, domain: dict[int, int]) -> None:
        """Exchange the frames of two of the guest's pages, often two of its leaves; in place."""
        leaves = [self.structures[name] for name in self.names if name.startswith("leaf")]
        if self.dice.one_in(2) and len(leaves) > 1:
            a, b = self.dice.shuffled(leaves)[:2]
        else:
            a, b = self.any_pfn(), self.any_pfn()
        if a in domain and b in domain:
            domain[a], domain[b] = domain[b], domain[a]

    def _aim(self, before: list[Frames], made: Frames) -> None:
        """Make frames that structures had before lead to pages of our choice; in place."""
        dice, domain, foreign = self.dice, made.domain, made.foreign
        holders = {mfn: pfn for pfn, mfn in domain.items()}
        for _ in range(dice.pick((0, 2), (1, 4), (2, 2), (5, 1))):
            old = before[dice.pick((0, 3), (len(before) - 1, 1))].domain
            page = self.structure()
            mfn = old.get(page, made.frames)
            if mfn >= made.frames or mfn in foreign:
                continue
            if dice.one_in(7):
                # It leads to where it led before, though that page has another frame now.
                shared_page = self.machine == 2 and self.bits == 64 and dice.one_in(2)
                foreign[mfn] = page + (IMAGE_ALIAS if shared_page else 0)
                self._evict(mfn, holders, made)
                continue
            target = self.any_pfn()
            holder = holders.get(mfn)
            if dice.one_in(3) and target in domain:
                if holder is not None:
                    domain[holder] = domain[target]
                    holders[domain[target]] = holder
                else:
                    del holders[domain[target]]
                domain[target], holders[mfn] = mfn, target
                continue
            self._evict(mfn, holders, made)
            foreign[mfn] = self._led_to(target)

    @staticmethod
    def _evict(mfn: int, holders: dict[int, int], made: Frames) -> None:
        """Give the page that has this frame another one, if there is any; in place."""
        holder = holders.pop(mfn, None)
        if holder is None:
            return
        free = (m for m in range(made.frames) if m not in holders and m not in made.foreign)
        spare = next((m for m in free if m != mfn), None)
        if spare is None:
            del made.domain[holder]
        else:
            made.domain[holder], holders[spare] = spare, holder

    def _led_to(self, target: int) -> int:
        """The PFN that an old frame's m2p entry names."""
        alias = 1 << (self.bits - 12)
        if self.machine == 2 and self.dice.one_in(4):
            return self.strange_pfn()
        return target + int(self.dice.pick((0, 8), (alias, 1)))

    def _unname(self, domain: dict[int, int]) -> None:
        """Take frames from a few pages, or from a stretch; in place."""
        dice = self.dice
        for _ in range(dice.between(1, 3)):
            domain.pop(self.any_pfn(), None)
        if dice.one_in(3):
            start = dice.between(0, self.nr_pages - 1)
            for pfn in range(start, start + dice.between(1, 40)):
                domain.pop(pfn, None)

    def _neighbours(self, made: Frames) -> None:
        """Give every low frame left, or every other run of them, to a neighbour; in place."""
        dice = self.dice
        first = dice.between(0, self.nr_pages)
        alias = dice.pick((0, 6), (1 << (self.bits - 12), 1))
        skip = dice.pick((0, 3), (16, 1))
        taken = {*made.domain.values(), *made.foreign}
        for mfn in range(min(made.frames, 3 * self.nr_pages)):
            if mfn not in taken and (not skip or mfn // skip % 2):
                made.foreign[mfn] = alias + (first + mfn) % self.nr_pages

    def _table(self, before: list[Frames], made: Frames) -> None:
        """Say where the m2p ends, near a number that matters; in place."""
        dice = self.dice
        old = [
            host.domain[pfn] for host in before for pfn in [self.structure()] if pfn in host.domain
        ]
        if dice.one_in(5):
            near = dice.of(old) if old else dice.between(1, made.frames)
            made.table["m2p_entries"] = dice.of([near, near + 1, made.frames // 2 + 1, 1])
        if dice.one_in(6):
            bits = (made.frames - 1).bit_length()
            made.table["m2p_order"] = dice.of([bits, max(bits - 1, 0), dice.between(0, 12), 63])
