"""Hypothesis strategies: small guests, cramped hosts and eventful lives, as trace JSON.

What makes a life go wrong is rare in a random one: an old frame that on the new host is the guest's
own again, or a neighbour's whose PFN is that of one of the guest's tables. So the strategies know
where the structures are and aim at them.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from oracle import build
from oracle.build import Json

FOREIGN_BIT = 1 << 31

Draw = Any


def _pick(draw: Draw, *weighted: tuple[Any, int]) -> Any:
    """Draw one of the values, each as often as its weight says; the first is the simplest."""
    return draw(st.sampled_from([value for value, weight in weighted for _ in range(weight)]))


def _chance(draw: Draw, one_in: int) -> bool:
    return draw(st.integers(0, one_in - 1)) == one_in - 1


@st.composite
def guests(draw: Draw, word_bytes: int) -> Json:
    """A layout: brk, mfn_list and the pool in any order, apart or touching, in few leaves."""
    n = build.entries(word_bytes)
    leaves = _pick(draw, (1, 2), (2, 3), (3, 4), (4, 2))
    nr_pages = leaves * n - _pick(draw, (0, 2), (1, 1), (n // 2, 1), (n - 64, 1))
    pool_runs = _pick(draw, ([], 1), ([1], 2), ([2], 2), ([3, 1], 2), ([1, 2, 4], 2))
    brk_pages = _pick(draw, (12, 12), (8, 3), (7, 1), (draw(st.integers(1, 6)), 1))

    pieces: list[tuple[str, int]] = [("brk", brk_pages), ("mfn_list", leaves)]
    pieces += [("pool", count) for count in pool_runs]
    pieces = draw(st.permutations(pieces))
    slack = nr_pages - sum(count for _, count in pieces)
    at: dict[str, list[int]] = {"pool": []}
    next_pfn = 0
    for name, count in pieces:
        gap = min(slack, _pick(draw, (0, 2), (1, 1), (7, 2), (n - 3, 2), (n, 1)))
        slack -= gap
        next_pfn += gap
        at.setdefault(name, []).append(next_pfn)
        next_pfn += count

    counts = [count for name, count in pieces if name == "pool"]
    pool = draw(st.permutations([list(run) for run in zip(at["pool"], counts, strict=True)]))
    extra = _pick(draw, (0, 3), (5, 1), (n, 2), (2 * n + 17, 3), (n * n, 1), (n * n + 3 * n, 2))
    max_p2m_pfn = nr_pages + extra
    last = max(
        sum(piece) for piece in [*pool, [at["brk"][0], brk_pages], [at["mfn_list"][0], leaves]]
    )
    directmap = _pick(
        draw, (nr_pages, 4), (last, 1), (max(last, nr_pages - 9), 1), (nr_pages + 50, 1)
    )
    return build.guest(
        word_bytes,
        nr_pages,
        max_p2m_pfn=max_p2m_pfn,
        mfn_list_pfn=at["mfn_list"][0],
        brk_pfn=at["brk"][0],
        brk_pages=brk_pages,
        page_pool=pool,
        directmap_pages=directmap,
    )


class _World:
    """What the strategies have to know while they draw: the guest, its tables, its extra memory."""

    def __init__(self, draw: Draw, policy: str, guest: Json) -> None:
        self.draw = draw
        self.policy = policy
        self.guest = guest
        self.n = build.entries(guest["word_bytes"])
        self.nr_pages: int = guest["nr_pages"]
        self.max_p2m_pfn: int = guest["max_p2m_pfn"]
        self.structures = build.structures(policy, guest)
        self.names = sorted(self.structures)
        self.regions = self._regions()

    def _regions(self) -> list[tuple[int, int]]:
        """Runs of PFNs past nr_pages, apart, that lives populate and later hosts give frames to."""
        n, draw = self.n, self.draw
        starts = {self.nr_pages, self.nr_pages + 2, self.nr_pages + n, self.max_p2m_pfn - 1}
        starts |= {self.max_p2m_pfn + 3, n * n - 2, n * n + 5, 2 * n * n + 2 * n - 1, n**3 - 6}
        size = _pick(draw, (0, 1), (1, 2), (2, 3), (3, 2))
        chosen = draw(st.lists(st.sampled_from(sorted(starts)), max_size=size, unique=True))
        regions: list[tuple[int, int]] = []
        for start in sorted(chosen):
            if start >= (sum(regions[-1]) if regions else self.nr_pages) and start + 6 <= n**3:
                regions.append((start, draw(st.integers(1, 6))))
        return regions

    def structure(self) -> int:
        """A PFN of a structure, the ones that the list list hangs by more often."""
        hubs = [name for name in ("mid_mfn0", "mid_missing_mfn", "top_mfn") if name in self.names]
        name = self.draw(st.sampled_from(hubs * 3 + self.names if hubs else self.names))
        return self.structures[name]

    def any_pfn(self) -> int:
        """A PFN of the guest: often a structure's, now and then one in an odd place."""
        draw, n = self.draw, self.n
        kind = _pick(draw, ("structure", 5), ("table", 3), ("ram", 2), ("edge", 1))
        if kind == "structure":
            return self.structures[draw(st.sampled_from(self.names))]
        if kind == "table":
            wanted = ("missing", "mid_missing", "top", "mid0", "top_mfn", "leaf0", "pool0")
            return self.structures[draw(st.sampled_from([s for s in wanted if s in self.names]))]
        if kind == "edge":
            odd = [self.nr_pages - 1, self.nr_pages, self.guest["directmap_pages"], n**3 - 1, n**3]
            return int(draw(st.sampled_from(odd)))
        return int(draw(st.integers(0, self.nr_pages - 1)))

    def host(self, before: list[dict[int, int]]) -> tuple[Json, dict[int, int]]:
        """Draw a host; `before` has the domain of each host drawn so far, the first the boot's."""
        draw = self.draw
        extra = sum(count for _, count in self.regions)
        frames = self.nr_pages + extra + _pick(draw, (1, 2), (9, 2), (70, 3), (self.nr_pages, 3))
        # Without a rebuild only a host that gives the same frames gets past the first checks.
        like = 9 if self.policy == "none" else 4
        kind = _pick(draw, ("placed", 4), ("like", like), ("shifted", 2)) if before else "placed"
        pfns = list(range(self.nr_pages))
        if before and not _chance(draw, 4):
            pfns += [pfn + i for pfn, count in self.regions for i in range(count)]
        if kind == "placed":
            domain = self._place(pfns, frames)
        else:
            like = before[draw(st.integers(0, len(before) - 1))]
            frames = max(frames, max(like.values()) + 1)
            shift = 0 if kind == "like" else draw(st.integers(1, 5))
            domain = {pfn: (like[pfn] + shift) % frames for pfn in pfns if pfn in like}
        if before and _chance(draw, 12):
            frames = max(domain.values()) + 1
        foreign: dict[int, int] = {}
        for _ in range(_pick(draw, (0, 2), (1, 2), (3, 1))):
            domain = self._swap(domain)
        if before:
            self._aim(before, domain, foreign, frames)
            for _ in range(_pick(draw, (0, 8), (1, 2), (3, 1))):
                domain.pop(self.any_pfn(), None)
            if _chance(draw, 12):
                start = draw(st.integers(0, self.nr_pages - 1))
                for pfn in range(start, start + draw(st.integers(1, 40))):
                    domain.pop(pfn, None)
        if _chance(draw, 2):
            self._neighbours(domain, foreign, frames)
        return build.host(frames, domain, foreign), domain

    def _place(self, pfns: list[int], frames: int) -> dict[int, int]:
        """Chunks of the PFNs in shuffled order, with the spare frames between them."""
        draw = self.draw
        cuts = sorted(draw(st.lists(st.integers(1, len(pfns) - 1), max_size=4, unique=True)))
        chunks = [pfns[a:b] for a, b in zip([0, *cuts], [*cuts, len(pfns)], strict=True)]
        spare = frames - len(pfns)
        mfn, domain = 0, {}
        for chunk in draw(st.permutations(chunks)):
            gap = min(spare, _pick(draw, (1, 4), (0, 1), (spare // 2, 2)))
            spare -= gap
            mfn += gap
            for pfn in chunk:
                domain[pfn] = mfn
                mfn += 1
        return domain

    def _swap(self, domain: dict[int, int]) -> dict[int, int]:
        """Exchange the frames of two of the guest's pages, often two of its leaves."""
        leaves = [self.structures[name] for name in self.names if name.startswith("leaf")]
        if _chance(self.draw, 2) and len(leaves) > 1:
            a, b = self.draw(st.permutations(leaves))[:2]
        else:
            a, b = self.any_pfn(), self.any_pfn()
        return build.swapped(domain, (a, b)) if a in domain and b in domain else domain

    def _aim(
        self,
        before: list[dict[int, int]],
        domain: dict[int, int],
        foreign: dict[int, int],
        frames: int,
    ) -> None:
        """Make frames that structures had before lead to pages of our choice; in place."""
        draw = self.draw
        for _ in range(_pick(draw, (0, 2), (1, 4), (2, 2), (5, 1))):
            old = before[_pick(draw, (0, 3), (len(before) - 1, 1))]
            mfn = old.get(self.structure(), frames)
            if mfn >= frames or mfn in foreign:
                continue
            target = self.any_pfn()
            holder = next((pfn for pfn, m in domain.items() if m == mfn), None)
            if _chance(draw, 3) and target in domain:
                if holder is None:
                    domain[target] = mfn
                else:
                    domain[holder], domain[target] = domain[target], mfn
                continue
            if holder is not None:
                taken = {*domain.values(), *foreign}
                domain[holder] = next((m for m in range(frames) if m not in taken), -1)
                if domain[holder] == -1:
                    del domain[holder]
            alias = 1 << (8 * self.guest["word_bytes"] - 12)
            foreign[mfn] = target + _pick(draw, (0, 8), (alias, 2))

    def _neighbours(self, domain: dict[int, int], foreign: dict[int, int], frames: int) -> None:
        """Give every frame left, or every other run of them, to a neighbour; in place."""
        draw = self.draw
        first = draw(st.integers(0, self.nr_pages))
        alias = _pick(draw, (0, 6), (1 << (8 * self.guest["word_bytes"] - 12), 1))
        skip = _pick(draw, (0, 3), (16, 1))
        taken = {*domain.values(), *foreign}
        for mfn in range(frames):
            if mfn not in taken and (not skip or mfn // skip % 2):
                foreign[mfn] = alias + (first + mfn) % self.nr_pages

    def set_event(self, host: Json) -> Json:
        """Draw a `set` event for a guest that runs on `host`."""
        draw, n = self.draw, self.n
        rows: list[tuple[int, int | None, int]] = []
        for _ in range(draw(st.integers(1, 3))):
            kind = _pick(
                draw,
                ("grow", 6),
                ("hole", 3),
                ("move", 3),
                ("foreign", 2),
                ("lose", 2),
                ("beyond", 1),
            )
            count = draw(st.integers(1, 4))
            if kind == "grow" and self.regions:
                pfn, count = draw(st.sampled_from(self.regions))
                rows.append((pfn, self._frame(host, count), count))
            elif kind in ("grow", "hole"):
                pfn = draw(st.integers(0, self.nr_pages - 1))
                rows.append((pfn, None, min(_pick(draw, (3, 2), (90, 1)), self.nr_pages - pfn)))
            elif kind == "move":
                rows.append((self.any_pfn(), self._frame(host, count), count))
            elif kind == "foreign":
                rows.append((self.any_pfn(), FOREIGN_BIT + self._frame(host, count), count))
            elif kind == "lose":
                rows.append((self.any_pfn(), None, count))
            else:
                mfn = _pick(draw, (None, 3), (5, 1))
                rows.append((n**3 - draw(st.integers(0, 2)), mfn, count))
        return build.assign(*rows)

    def _frame(self, host: Json, count: int) -> int:
        """First of `count` frames: mostly free ones, else any, zero, or the first past the host."""
        draw, frames = self.draw, host["frames"]
        if _chance(draw, 4):
            return int(draw(st.sampled_from([0, frames, frames + 3, frames // 2])))
        taken = sorted((row[1], row[2]) for row in host["domain"])
        taken += [(row[0], row[2]) for row in host["foreign"]]
        free, at = [], 0
        for mfn, length in [*sorted(taken), (frames, 0)]:
            if mfn - at >= count:
                free.append(at)
            at = mfn + length
        return int(draw(st.sampled_from(free))) if free else int(draw(st.integers(0, frames - 1)))


@st.composite
def traces(draw: Draw, word_bytes: int | None = None, policy: str | None = None) -> Json:
    """A guest, one to four hosts and a life of one to nine events, as a trace's JSON object."""
    word_bytes = word_bytes or _pick(draw, (8, 1), (4, 1))
    policy = policy or _pick(draw, ("tracked", 2), ("stale", 3), ("none", 1))
    guest = draw(guests(word_bytes))
    world = _World(draw, policy, guest)
    hosts, domains = [], []
    for _ in range(draw(st.integers(1, 4))):
        host, domain = world.host(domains)
        hosts.append(host)
        domains.append(domain)
    # The boot host gives a frame to every page that the guest boots with, and to no other.
    events = [build.boot(0)]
    here = 0
    for _ in range(_pick(draw, (3, 4), (5, 3), (1, 1), (8, 2))):
        op = _pick(draw, ("migrate", 5), ("set", 3), ("fail", 1))
        if op == "fail":
            events.append(build.fail_alloc(_pick(draw, (1, 3), (0, 2), (2, 2), (4, 1))))
        if op in ("set", "fail"):
            events.append(world.set_event(hosts[here]))
        else:
            here = _pick(draw, (min(here + 1, len(hosts) - 1), 4), (0, 1))
            events.append(build.migrate(here))
    return build.trace(policy, guest, hosts, events)
