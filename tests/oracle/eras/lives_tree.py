"""Random lives of guests whose p2m is a tree: seven policies, both widths, both machines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from oracle.eras.identity import Identity, MidIdentity, Moved
from oracle.eras.lives import Life, Runs
from oracle.eras.machine import Json
from oracle.eras.tail import Tail
from oracle.eras.tree import TreeEra
from oracle.eras.two_level import TwoLevel

BIT31 = 1 << 31


class TreeLife(Life):
    """A life of a guest with a p2m tree."""

    # --- the guest ----------------------------------------------------------------------------

    def draw_guest(self) -> Json:
        rng = self.rng
        self.w = self.pick((8, 1), (4, 1))
        self.n = n = 4096 // self.w
        self.two_level = self.policy.startswith("two-level")
        leaves = (
            self.pick((2, 2), (3, 3), (4, 2), (5, 1)) if self.w == 8 else self.pick((1, 3), (2, 1))
        )
        if self.w == 8 and self.chance(150):
            leaves = n + self.pick((0, 1), (1, 1), (3, 1))
        nr_pages = leaves * n - self.pick((0, 3), (1, 2), (rng.randrange(n - 300), 3))
        pieces = [("mfn_list", leaves), ("brk", self.draw_brk_pages())]
        pieces += [
            ("pool", count) for count in self.pick(([], 1), ([2, 1], 2), ([9], 2), ([12, 5], 5))
        ]
        if self.two_level:
            tops = self.draw_max_domain_pages(nr_pages)
            pieces += [("top", tops), ("top_mfn", tops), ("list", 1), ("missing", 1)]
        if self.policy in ("moved", "mid-identity", "late-list"):
            enough = leaves + 12
            pieces.append(("bootmem", self.pick((enough, 9), (rng.randrange(1, enough), 1))))
        self.low = min(nr_pages, 480) if leaves < n else 3000
        at = self.lay_out(pieces, self.low)
        pool = at.get("pool", [])
        rng.shuffle(pool)
        extra = self.pick(
            (0, 2),
            (rng.randrange(1, n), 2),
            (rng.randrange(n, 4 * n), 4),
            (n * n + 3 * n, 4 if self.w == 8 else 1),
        )
        if self.w == 8 and self.chance(12):
            extra = 2 * n * n + rng.randrange(n)
        self.regions = list(self.draw_regions(nr_pages, nr_pages + extra))
        hot = [region for region in self.regions if region[0] < nr_pages + 4 * n]
        if hot and not self.plain and self.chance(8):
            first, count = rng.choice(hot)
            pool.insert(0, [first, min(count, 6)])
        last = max(nr_pages, *(first + count for first, count in [*pool, (0, 0)]))
        guest: Json = {
            "word_bytes": self.w,
            "nr_pages": nr_pages,
            "max_p2m_pfn": nr_pages + extra,
            "mfn_list_pfn": at["mfn_list"][0][0],
            "brk_pfn": at["brk"][0][0],
            "brk_pages": at["brk"][0][1],
            "page_pool": pool,
            "directmap_pages": last + self.pick((0, 3), (50, 1)),
        }
        if "bootmem" in at:
            guest["bootmem"] = at["bootmem"][0]
        if self.two_level:
            guest["max_domain_pages"] = self.max_domain_pages
            guest["static"] = {
                "p2m_missing": at["missing"][0][0],
                "p2m_top": at["top"][0][0],
                "p2m_top_mfn": at["top_mfn"][0][0],
                "p2m_top_mfn_list": at["list"][0][0],
            }
        return guest

    def draw_brk_pages(self) -> int:
        if self.two_level:
            return 0
        return int(self.pick((60, 9), (self.rng.randrange(1, 26), 1)))

    def draw_max_domain_pages(self, nr_pages: int) -> int:
        """Draw `MAX_DOMAIN_PAGES`; return how many pages its arrays take."""
        tops = self.pick((1, 4), (2, 4), (32 if self.w == 8 else 2, 1))
        self.max_domain_pages = tops * self.n**2
        return int(tops)

    def draw_regions(self, nr_pages: int, max_p2m_pfn: int) -> Iterator[tuple[int, int]]:
        """Runs of PFNs past the booted ones, apart, that are populated later."""
        n, rng = self.n, self.rng
        starts = {nr_pages, nr_pages + 1, nr_pages + n, nr_pages + 2 * n + 5, max_p2m_pfn - 3}
        starts |= {max_p2m_pfn, max_p2m_pfn + n, n * n - 3, n * n + 7, 2 * n * n - 2, n**3 - 40}
        starts |= {2 * n * n + 4 * n, 5 * n * n + rng.randrange(n)}
        starts |= {n * n + rng.randrange(n * n) for _ in range(2)}
        if self.two_level:
            starts |= {self.max_domain_pages - 30, self.max_domain_pages - n * n}
            if not self.chance(8):
                starts = {start for start in starts if start <= self.max_domain_pages - 30}
        end = nr_pages
        for start in sorted(rng.sample(sorted(starts), min(5, len(starts)))):
            if start >= end:
                count = self.pick((rng.randrange(1, 8), 3), (rng.randrange(8, 30), 2))
                end = start + count
                yield start, count

    # --- boot ---------------------------------------------------------------------------------

    def boot_event(self) -> Json:
        event: Json = {"op": "boot", "host": 0}
        if isinstance(self.machine, Identity) and not self.chance(5):
            event["identity"] = [
                self.draw_range() for _ in range(self.pick((1, 3), (2, 3), (4, 1)))
            ]
        self.identity: Runs = event.get("identity", [])
        return event

    def draw_range(self) -> list[int]:
        """A 1:1 range: inside, across, whole, touching, empty, backwards, or to the end."""
        n, rng, guest = self.n, self.rng, self.guest
        top, nr_pages, max_pfn = n * n, guest["nr_pages"], guest["max_p2m_pfn"]
        low = 0 if self.chance(12) else self.low
        kind = self.pick(
            ("inside", 5),
            ("leaves", 4),
            ("extra", 5),
            ("top", 3),
            ("whole", 3),
            ("end", 2),
            ("odd", 2),
        )
        start = rng.randrange(low, nr_pages) if low < nr_pages else low
        if kind == "inside":
            return [start, min(nr_pages, start + rng.randrange(1, 200))]
        if kind == "leaves":
            start = -(-rng.randrange(nr_pages, max(max_pfn, nr_pages + 2)) // n) * n
            return [start + self.pick((0, 3), (5, 1)), start + n * rng.randrange(1, 4)]
        if kind == "extra":
            start = rng.randrange(nr_pages, max(max_pfn, nr_pages + 2 * n))
            return [start, start + rng.randrange(1, 3 * n)]
        if kind == "top":
            end = top * self.pick((1, 3), (2, 1)) + self.pick((0, 2), (n, 1), (3 * n + 1, 2))
            return [end - rng.randrange(1, 4 * n) - 3 * n, end]
        if kind == "whole":
            first = top * self.pick((1, 3), (2, 1)) - self.pick((0, 2), (n, 1), (7, 1))
            return [first, first + top + self.pick((0, 2), (n, 1), (2 * n + 9, 2))]
        if kind == "end":
            start = max(max_pfn, self.pick((0, 1), (top - 5, 1), (top, 1), (top + n, 1)))
            if isinstance(self.machine, MidIdentity):
                return [start, n**3 + self.pick((0, 2), (rng.randrange(1, 5000), 1))]
            return [start, self.pick((n**3, 2), (n**3 + 9, 1), (start + 3 * top, 1))]
        again = rng.randrange(low, max_pfn + n)
        return list(
            self.pick(
                ((again, again), 2),
                ((again + 9, again), 1),
                ((n**3, n**3 + 5), 1),
                ((again, again + 1), 1),
            )
        )

    # --- what the guest is now ----------------------------------------------------------------

    def tree(self) -> TreeEra:
        return cast(TreeEra, self.machine)

    def structures(self) -> list[int]:
        guest, machine = self.guest, self.tree()
        runs = [[guest["mfn_list_pfn"], -(-guest["nr_pages"] // self.n)]]
        runs.append([guest["brk_pfn"], machine.brk_used])
        if isinstance(machine, Moved):
            runs.append([guest["bootmem"][0], machine.bootmem_used])
        if isinstance(machine, TwoLevel):
            tops = machine.num_tops // self.n
            runs += [[machine.top, tops], [machine.top_mfn, tops]]
            runs += [[machine.top_mfn_list, 1], [machine.missing, 1]]
        pfns = [first + i for first, count in runs for i in range(count)]
        return pfns + machine.pool[: machine.pool_used + 3]

    def extra_pfns(self) -> set[int]:
        """Regions; identity PFNs; and the index that was written under every identity leaf."""
        out: set[int] = set()
        for first, count in self.regions:
            if not self.chance(3):
                out.update(range(first, first + count))
        machine, n = self.machine, self.n
        if isinstance(machine, Identity):
            for start, end in self.identity:
                if self.chance(3) and start < end:
                    out.update(range(start, min(end, start + 60)))
            words = machine.page(machine.identity)
            written = [i for i in range(n) if words[i] in machine.host.owned]
            if written and not self.chance(4):
                for x in range(min(n * n, -(-machine.max_p2m_pfn // n))):
                    if machine.true_leaf(x) == machine.identity:
                        out.update(x * n + i for i in written)
        return out

    def leaves_that_are(self, leaf: int) -> list[int]:
        """Leaf numbers near the guest's memory whose page is this one."""
        machine, n = self.tree(), self.n
        limit = machine.num_tops if isinstance(machine, TwoLevel) else n * n
        near = self.guest["max_p2m_pfn"] // n + 3
        some = {x for x in range(min(near, 6 * n)) if self.chance(1 + near // 40)}
        some |= {first // n for first, _ in self.regions}
        some |= {n + 1, 2 * n, 3 * n + 2, n * n - 1}
        some |= {pfn // n for run in getattr(self, "identity", []) for pfn in run}
        return sorted(x for x in some if x < limit and machine.true_leaf(x) == leaf)

    # --- sets ---------------------------------------------------------------------------------

    def draw_runs(self) -> Runs:
        rows: Runs = []
        for _ in range(self.pick((1, 3), (2, 3), (4, 1))):
            kinds = [("grow", 8), ("out", 3), ("in", 3), ("move", 2), ("hole", 1)]
            if not self.plain:
                kinds += [("flag", 2), ("structure", 1), ("pool", 1), ("edge", 1)]
                kinds += [("identity", 5), ("under", 4)]
            row = getattr(self, f"run_{self.pick(*kinds)}")()
            first, _, count = row
            if not self.plain or self.leads_to_own(first, count):
                rows.append(row)
        return rows

    def leads_to_own(self, first: int, count: int) -> bool:
        """Whether these PFNs' words are, or would be, in leaves of their own."""
        machine, n = self.machine, self.n
        if not isinstance(machine, Identity):
            return True
        leaves = {pfn // n for pfn in (first, first + count - 1) if pfn < n**3}
        return all(machine.true_leaf(x) != machine.identity for x in leaves)

    def run_grow(self) -> list[object]:
        if not self.regions:
            return self.run_out()
        first, count = self.rng.choice(self.regions)
        return [first, self.free_frames(count), count]

    def run_out(self) -> list[object]:
        nr_pages = self.guest["nr_pages"]
        first = self.rng.randrange(min(self.low, nr_pages - 1), nr_pages)
        return [first, None, min(self.rng.randrange(1, 90), nr_pages - first)]

    def run_in(self) -> list[object]:
        """Frames for a run of PFNs that have none."""
        machine, guest = self.machine, self.guest
        holes = [p for p in range(guest["nr_pages"]) if machine.get(p) == machine.invalid][-400:]
        if not holes:
            return self.run_out()
        first = self.rng.choice(holes)
        count = 1
        while first + count in holes and count < 60:
            count += 1
        return [first, self.free_frames(count), count]

    def any_pfn(self) -> int:
        nr_pages, rng = self.guest["nr_pages"], self.rng
        first, count = rng.choice(self.regions) if self.regions else (0, nr_pages)
        return int(self.pick((rng.randrange(nr_pages), 3), (first + rng.randrange(count), 2)))

    def run_move(self) -> list[object]:
        count = self.rng.randrange(1, 5)
        return [self.any_pfn(), self.some_frame(count), count]

    def run_flag(self) -> list[object]:
        top, second = 1 << (8 * self.w - 1), 1 << (8 * self.w - 2)
        flag = self.pick((BIT31, 3), (top, 3), (second, 2), (top | second, 2))
        count = self.rng.randrange(1, 5)
        pool = self.tree().pool[self.tree().pool_used :] or [self.any_pfn()]
        return [self.pick((self.any_pfn(), 3), (pool[0], 1)), flag + self.free_frames(count), count]

    def run_hole(self) -> list[object]:
        machine = self.tree()
        missing = machine.missing if isinstance(machine, Tail | TwoLevel) else -1
        leaves = self.leaves_that_are(missing)
        first = self.rng.choice(leaves) * self.n if leaves else self.guest["nr_pages"]
        return [first + self.rng.randrange(self.n - 9), None, 5]

    def run_structure(self) -> list[object]:
        pfn = self.rng.choice(self.structures())
        return [pfn, self.pick((None, 2), (self.some_frame(1), 3)), 1]

    def run_pool(self) -> list[object]:
        """A page that growth will take next loses its frame, or gets another."""
        pool = self.tree().pool[self.tree().pool_used :][:3]
        pfn = self.rng.choice(pool) if pool else self.any_pfn()
        return [pfn, self.pick((None, 2), (self.some_frame(1), 1)), 1]

    def run_edge(self) -> list[object]:
        """Across the last PFN that the tree has."""
        end = self.max_domain_pages if self.two_level else self.n**3
        before = self.pick((0, 3), (1, 1), (2, 1))
        return [end - before, self.pick((None, 4), (self.free_frames(3), 1)), 3]

    def run_identity(self) -> list[object]:
        """Identity values: in a real leaf, a hole, an identity leaf, under a missing top entry."""
        machine = self.machine
        if not isinstance(machine, Identity):
            return self.run_grow()
        leaf = self.pick((machine.missing, 3), (machine.identity, 2), (None, 3))
        leaves = [] if leaf is None else self.leaves_that_are(leaf)
        first = (
            self.rng.choice(leaves) * self.n + self.rng.randrange(self.n)
            if leaves
            else self.any_pfn()
        )
        count = self.pick((1, 2), (6, 2), (self.n, 1))
        return [first, first + machine.identity_bit, count]

    def run_under(self) -> list[object]:
        """A real value, or INVALID, where the leaf is the shared one of 1:1 ranges."""
        machine = self.machine
        leaves = self.leaves_that_are(machine.identity) if isinstance(machine, Identity) else []
        if not leaves:
            return self.run_grow()
        first = self.rng.choice(leaves) * self.n + self.rng.randrange(self.n - 8)
        count = self.rng.randrange(1, 8)
        return [first, self.pick((None, 1), (self.free_frames(count), 3)), count]

    def step(self) -> bool:
        """Now and then a growth that gets its mid page and no mid_mfn page, and what follows."""
        missing_top = self.n**2 + self.rng.randrange(self.n**2)
        if self.two_level or missing_top >= self.guest["max_p2m_pfn"] or not self.chance(4):
            return super().step()
        self.add({"op": "fail_alloc", "at": 1})
        alive = self.add({"op": "set", "runs": [[missing_top, self.free_frames(1), 1]]})
        return alive and self.add(self.draw_migration())

    # --- migrations ---------------------------------------------------------------------------

    def draw_migration(self) -> Json:
        event: Json = {"op": "migrate", "host": self.next_host()}
        if self.second_machine and not self.plain and self.chance(6):
            event["live"] = True
            event["during"] = self.draw_runs()
        return event
