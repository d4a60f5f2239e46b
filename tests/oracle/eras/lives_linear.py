"""Random lives of guests with the linear p2m: three policies, with and without the start flag."""

from __future__ import annotations

from typing import Any, cast

from oracle.eras.linear import BLOCK_PFNS, FOREIGN, IDENTITY, Linear
from oracle.eras.lives import Life, Runs
from oracle.eras.machine import Json

N = 512
MIB2, GIB = 1 << 21, 1 << 30
VMALLOC = 0xFFFF_C900_0000_0000


class LinearLife(Life):
    """A life of a guest with a linear p2m."""

    # --- the guest ----------------------------------------------------------------------------

    def draw_guest(self) -> Json:
        rng = self.rng
        leaves = self.pick((2, 2), (3, 3), (5, 3), (9, 1))
        nr_pages = leaves * N - self.pick((0, 3), (1, 2), (rng.randrange(N - 1), 4))
        blocks = self.pick((1, 4), (2, 4), (3, 2), (5, 1))
        self.area = blocks * BLOCK_PFNS
        self.regions = self.draw_regions(nr_pages)
        extra = [list(run) for run in self.regions if self.chance(3)]
        boot_pages = 60 + sum(count // N + 4 for _, count in extra)
        if self.chance(9):
            boot_pages = rng.randrange(1, leaves + 24)
        cut = rng.randrange(boot_pages)
        boot_runs = [boot_pages] if self.chance(2) or not cut else [cut, boot_pages - cut]
        pieces = [("mfn_list", leaves), ("pgd", 1)] + [("boot", count) for count in boot_runs]
        pool_runs = self.pick(([], 1), ([2], 1), ([1, 5], 2), ([9, 7], 4), ([30], 3))
        pieces += [("pool", count) for count in pool_runs]
        low = min(nr_pages, 220 + sum(count for _, count in pieces))
        at = self.lay_out(pieces, low)
        self.low = low
        for runs in at.values():
            rng.shuffle(runs)
        pool = at.get("pool", [])
        # Memory that was added: the kernel may take its tables from there.
        self.hot: list[int] = []
        if pool and self.chance(5):
            self.hot = [nr_pages + self.pick((0, 1), (40, 2), (N + 3, 2)), 24]
            pool.append(list(self.hot))
        last = max([nr_pages] + [first + count for first, count in pool])
        return {
            "word_bytes": 8,
            "nr_pages": nr_pages,
            "mfn_list_pfn": at["mfn_list"][0][0],
            "pgd_pfn": at["pgd"][0][0],
            "boot_pool": at["boot"],
            "page_pool": pool,
            "area_pfns": self.area,
            "p2m_vaddr": self.draw_vaddr(blocks),
            "virt_p2m_4tools": self.policy != "linear-3.19" and self.chance(2),
            "identity": self.draw_identity(nr_pages),
            "extra": extra,
            "directmap_pages": last + self.pick((0, 3), (60, 1)),
        }

    def draw_vaddr(self, blocks: int) -> int:
        """At a multiple of 1 GiB, off one, or so that the table crosses 1 GiB or 512 GiB."""
        rng = self.rng
        aligned = VMALLOC + rng.randrange(64) * GIB
        over = MIB2 * rng.randrange(1, blocks + 1)
        return int(
            self.pick(
                (aligned, 6),
                (aligned + MIB2 * rng.randrange(1, 400), 3),
                (aligned + GIB - over, 3),
                (VMALLOC + 512 * GIB - over, 2),
            )
        )

    def draw_identity(self, nr_pages: int) -> Runs:
        """Holes below the end of memory, whole leaves among them, and runs that reach past it."""
        rng, out = self.rng, []
        for _ in range(self.pick((0, 4), (1, 3), (3, 2))):
            start = rng.randrange(300, nr_pages + 30) if nr_pages > 300 else nr_pages - 5
            count = rng.randrange(1, 300)
            if self.chance(3):
                start, count = (
                    -(-start // N) * N,
                    N * rng.randrange(1, 3) + self.pick((0, 2), (7, 1)),
                )
            if not any(start < first + size and first < start + count for first, size in out):
                out.append([start, count])
        return out

    def draw_regions(self, nr_pages: int) -> list[tuple[int, int]]:
        """Runs of PFNs past the booted ones, apart: extra memory, hotplug, the area's end."""
        rng, size = self.rng, -(-nr_pages // N) * N
        starts = {nr_pages, size, size + 1, size + N, size + 3 * N + 40, size + 20 * N}
        starts |= {
            BLOCK_PFNS - 3,
            BLOCK_PFNS + 7,
            2 * BLOCK_PFNS - N,
            self.area - 20,
            self.area - 2,
        }
        starts |= {rng.randrange(size, self.area) for _ in range(2)}
        out, end = [], nr_pages
        for start in sorted(rng.sample(sorted(starts), 4)):
            if end <= start < self.area:
                count = self.pick((1, 2), (rng.randrange(2, 40), 5), (N, 2), (N + 60, 1))
                if start < self.area - 2:
                    count = min(count, self.area - start)
                out.append((start, count))
                end = start + count
        return out

    # --- what the guest is now ----------------------------------------------------------------

    def linear(self) -> Linear:
        return cast(Linear, self.machine)

    def list_pages(self) -> list[int]:
        machine = self.linear()
        if machine.top_mfn == -1:
            return []
        pages = {machine.mid_missing_mfn, machine.top_mfn_p, machine.top_mfn}
        pages |= {machine.tracked(top) for top in range(machine.list_slots // N)}
        return sorted(pages)

    def in_use(self) -> set[int]:
        """PFNs that no `set` names: tables, leaves, and what growth will take."""
        machine = self.linear()
        pages = set(machine.tables) | {leaf for _, leaf in machine.own_leaves()}
        return pages | machine.placeholders() | set(machine.pool) | set(self.list_pages())

    def structures(self) -> list[int]:
        return sorted(self.in_use())

    def extra_pfns(self) -> set[int]:
        out: set[int] = set()
        for first, count in self.regions:
            if not self.chance(3):
                out.update(range(first, first + count))
        for first, count in self.guest["identity"]:
            if self.chance(4):
                out.update(range(first, first + min(count, 40)))
        return out

    # --- sets ---------------------------------------------------------------------------------

    def draw_runs(self) -> Runs:
        taken = self.in_use()
        rows: Runs = []
        for _ in range(self.pick((1, 3), (2, 3), (4, 1))):
            kind = self.pick(
                ("grow", 8), ("out", 3), ("in", 3), ("identity", 3), ("move", 2),
                ("list", 1), ("edge", 1),
            )  # fmt: skip
            first, value, count = getattr(self, f"run_{kind}")()
            if kind == "list" or taken.isdisjoint(range(first, first + count)):
                rows.append([first, value, count])
        return rows

    def run_grow(self) -> list[Any]:
        if not self.regions:
            return self.run_out()
        first, count = self.rng.choice(self.regions)
        if self.chance(3):
            # As a balloon goes in: from a PFN of its own, some pages.
            skip = self.rng.randrange(count)
            first, count = first + skip, self.rng.randrange(1, count - skip + 1)
        value = self.pick((self.free_frames(count), 6), (None, 1))
        return [first, value, count]

    def run_hotplug(self) -> list[Any]:
        """The memory that pool pages above the booted ones lie in."""
        first = self.hot[0] - self.rng.randrange(30)
        first = max(first, self.guest["nr_pages"])
        return [first, self.free_frames(90), 90]

    def run_out(self) -> list[Any]:
        nr_pages = self.guest["nr_pages"]
        first = self.rng.randrange(min(self.low, nr_pages - 1), nr_pages)
        return [first, None, min(self.rng.randrange(1, 90), nr_pages - first)]

    def run_in(self) -> list[Any]:
        """Frames for a run of PFNs that have none."""
        machine = self.machine
        holes = [p for p in range(self.guest["nr_pages"]) if machine.get(p) == machine.invalid][
            -400:
        ]
        if not holes:
            return self.run_out()
        first, count = self.rng.choice(holes), 1
        while first + count in holes and count < 60:
            count += 1
        return [first, self.free_frames(count), count]

    def any_pfn(self) -> int:
        rng, nr_pages = self.rng, self.guest["nr_pages"]
        first, count = rng.choice(self.regions) if self.regions else (nr_pages - 1, 1)
        far = rng.randrange(nr_pages, self.area)
        return int(
            self.pick((rng.randrange(nr_pages), 3), (first + rng.randrange(count), 3), (far, 1))
        )

    def run_identity(self) -> list[Any]:
        first = self.any_pfn()
        if first >= self.area - N:
            first -= N
        return [first, "identity", self.pick((1, 1), (9, 2), (N, 1))]

    def run_move(self) -> list[Any]:
        count = self.rng.randrange(1, 5)
        flag = (
            0
            if self.plain
            else self.pick((0, 5), (FOREIGN, 2), (IDENTITY, 1), (FOREIGN | IDENTITY, 1))
        )
        return [self.any_pfn(), flag + self.some_frame(count), count]

    def run_list(self) -> list[Any]:
        """A page of the list gets another frame."""
        pages = self.list_pages()
        return [self.rng.choice(pages), self.free_frames(1), 1] if pages else self.run_in()

    def run_edge(self) -> list[Any]:
        before = self.pick((0, 2), (1, 1), (2, 1))
        return [
            self.area - before,
            self.pick((None, 4), ("identity", 1), (self.free_frames(4), 1)),
            4,
        ]

    # --- migrations ---------------------------------------------------------------------------

    def draw_migration(self) -> Json:
        event: Json = {"op": "migrate", "host": self.next_host()}
        if self.chance(6):
            event["toolstack"] = "tree"
        if not self.plain and self.chance(5):
            event["live"] = True
            event["during"] = self.draw_runs()
        return event

    def live(self) -> Json:
        """Memory that holds pool pages is populated before growth comes to take them."""
        if not self.hot:
            return super().live()
        if self.add(self.boot_event()) and self.add({"op": "set", "runs": [self.run_hotplug()]}):
            for _ in range(self.pick((2, 1), (5, 3), (8, 2))):
                if not self.step():
                    break
        return self.trace

    def kept_pfns(self) -> set[int]:
        """Where tables lie: what their entries point to has a frame on every host."""
        return set() if self.second_machine else self.in_use() | {self.guest["pgd_pfn"]}

    def step(self) -> bool:
        if not self.plain and self.chance(10):
            self.add(self.draw_tweak())
            return self.add(self.draw_migration())
        return super().step() and not self.lost_pool()

    def lost_pool(self) -> bool:
        """Whether pages that growth would take were lost: what follows is not in the vocabulary."""
        machine = self.linear()
        rest = machine.pool[machine.pool_used :]
        at_source = all(machine.pfn_to_mfn(pfn) in machine.host.owned for pfn in rest)
        return self.trace["events"][-1]["op"] == "migrate" and not at_source

    def draw_tweak(self) -> Json:
        machine, rng = self.linear(), self.rng
        frames = machine.host.frames
        own = sorted(machine.host.owned)
        number = self.pick(
            (rng.choice(own), 4),
            (0, 1),
            (frames, 1),
            (frames + 1, 1),
            (1 << 39, 1),
            (rng.randrange(frames), 2),
        )
        if self.chance(2):
            table = rng.choice([pfn for pfn in machine.tables if machine.tables[pfn]])
            index = self.pick((rng.choice(sorted(machine.tables[table])), 5), (rng.randrange(N), 1))
            return {"op": "tweak", "ptes": [[table, index, number]]}
        vaddr, max_pfn = self.guest["p2m_vaddr"], machine.shared_max_pfn
        addresses = (0, 0x0000_7FFF_FFFF_F000, 0x0000_8000_0000_0000, 0xFFFF_87FF_FFFF_F000)
        near = (vaddr + 4096, vaddr + MIB2, vaddr + 512 * GIB, (1 << 64) - 4096, VMALLOC - 4096)
        field, value = self.pick(
            (("p2m_cr3_mfn", number), 3),
            (("p2m_vaddr", rng.choice(addresses)), 1),
            (("p2m_vaddr", rng.choice(near)), 2),
            (
                (
                    "max_pfn",
                    rng.choice([0, 1, max_pfn - 1, max_pfn + 1, N**3, N**3 + 1, self.area]),
                ),
                3,
            ),
            (("frame_list_list_mfn", number), 2),
        )
        return {"op": "tweak", "shared": {field: max(value, 0)}}
