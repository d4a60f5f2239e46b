"""Random lives, seeded: what the generators of tree and linear guests share.

A life is drawn while its guest runs on the naive reference: each event is chosen from what the
guest is at that moment, so that frames are free, holes are holes and structures are where they are.
What goes wrong is rare in a blind life; here each hazard has its weight. `life` returns a trace
with its "expected".

A *plain* life is one that both machines must agree on: its words are frames of its own, each in one
entry, or INVALID; its hosts name frames for what is populated and for nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from oracle import eras
from oracle.eras.machine import Json, Machine

Runs = list[list[Any]]


def runs_of(mapping: dict[int, int]) -> Runs:
    """[[key, value, count], ...] of a mapping: maximal runs in which both count up."""
    out: Runs = []
    for key in sorted(mapping):
        last = out[-1] if out else None
        if last and key == last[0] + last[2] and mapping[key] == last[1] + last[2]:
            last[2] += 1
        else:
            out.append([key, mapping[key], 1])
    return out


class Life:
    """A guest that is given one event after the other, and the trace that tells of it."""

    def __init__(
        self,
        policy: str,
        seed: int,
        second_machine: bool,
        plain: bool = False,
        is_live: bool = False,
        has_cpus: bool = False,
    ) -> None:
        kind = f"{policy} {seed} {second_machine} {plain}"
        kind += " live" * is_live + " cpus" * has_cpus
        self.rng = random.Random(kind)
        self.is_live = is_live
        self.has_cpus = has_cpus
        self.plain = plain
        self.policy = policy
        self.second_machine = second_machine
        guest = self.draw_guest()
        self.guest = guest
        self.trace: Json = {
            "format": "p2mbatch-trace/3" if second_machine else "p2mbatch-trace/1",
            "name": f"{policy}-random-{seed}",
            "policy": policy,
            "guest": guest,
            "hosts": [],
            "events": [],
            "expected": [],
        }
        self.trace["hosts"].append(self.place(list(range(guest["nr_pages"]))))
        self.machine: Machine = eras.machine(self.trace)

    # --- to be said by each kind of guest -----------------------------------------------------

    def draw_guest(self) -> Json:
        raise NotImplementedError

    def boot_event(self) -> Json:
        return {"op": "boot", "host": 0}

    def draw_runs(self) -> Runs:
        """Runs of a `set`."""
        raise NotImplementedError

    def draw_migration(self) -> Json:
        raise NotImplementedError

    def extra_pfns(self) -> Iterable[int]:
        """PFNs that are not populated now, and that a later host may name frames for."""
        raise NotImplementedError

    def kept_pfns(self) -> set[int]:
        """PFNs that every host names a frame for."""
        return set()

    def structures(self) -> list[int]:
        """The PFNs of the pages that the guest's tables lie in now."""
        raise NotImplementedError

    # --- drawing ------------------------------------------------------------------------------

    def pick(self, *weighted: tuple[Any, int]) -> Any:
        values, weights = zip(*weighted, strict=True)
        return self.rng.choices(values, weights)[0]

    def chance(self, one_in: int) -> bool:
        return self.rng.randrange(one_in) == 0

    def lay_out(self, pieces: list[tuple[str, int]], limit: int) -> dict[str, list[list[int]]]:
        """Put pieces of so many pages in any order, with gaps, below `limit`; by name."""
        rng = self.rng
        rng.shuffle(pieces)
        slack = limit - sum(count for _, count in pieces)
        assert slack >= 0, (pieces, limit)
        at: dict[str, list[list[int]]] = {}
        pfn = 0
        for i, (name, count) in enumerate(pieces):
            gap = min(slack, self.pick((0, 3), (1, 2), (rng.randrange(40), 3), (slack // 2, 1)))
            # The page right behind mfn_list is moved along where leaves are: no brk there.
            if i and "mfn_list" in (name, pieces[i - 1][0]):
                gap = max(gap, min(slack, 1))
            slack -= gap
            pfn += gap
            at.setdefault(name, []).append([pfn, count])
            pfn += count
        return at

    # --- hosts --------------------------------------------------------------------------------

    def place(self, pfns: list[int]) -> Json:
        """A host that gives these PFNs frames: pieces in any order, with spare frames between."""
        rng = self.rng
        # A guest may have nothing left that would be sent.
        num_cuts = max(min(len(pfns) - 1, rng.randrange(7)), 0)
        cuts = sorted(rng.sample(range(1, len(pfns)), num_cuts))
        pieces = [pfns[a:b] for a, b in zip([0, *cuts], [*cuts, len(pfns)], strict=True)]
        rng.shuffle(pieces)
        mfn = 1 if self.plain else self.pick((0, 1), (1, 6), (rng.randrange(1, 300), 4))
        domain: dict[int, int] = {}
        for piece in pieces:
            domain.update(zip(piece, range(mfn, mfn + len(piece)), strict=True))
            mfn += len(piece) + self.pick((0, 3), (1, 2), (rng.randrange(200), 3))
        return self.host(domain, mfn + self.pick((0, 1), (1, 2), (500, 3), (6000, 3)))

    def host(self, domain: dict[int, int], frames: int) -> Json:
        """A host with neighbours on some of the frames that the guest doesn't get."""
        rng = self.rng
        frames = max(frames, max(domain.values(), default=0) + 1)
        out: Json = {"frames": frames, "domain": runs_of(domain)}
        foreign: Runs = []
        if self.chance(2):
            ends = sorted((mfn, mfn + count) for _, mfn, count in out["domain"])
            for (_, start), (stop, _) in zip([(0, 0), *ends], [*ends, (frames, 0)], strict=True):
                if stop - start > 2 and self.chance(2):
                    count = rng.randrange(1, stop - start)
                    first = rng.randrange(stop - start - count + 1) + start
                    foreign.append([first, rng.randrange(2 * len(domain)), count])
        out["foreign"] = foreign
        if self.second_machine and self.chance(10):
            out["m2p_order"] = self.pick((32, 1), (20, 1), (12, 1), (0, 1))
            out["m2p_entries"] = self.pick((frames, 1), (frames // 2, 1), (1 << 18, 1))
        return out

    def sent_pfns(self) -> set[int]:
        """The PFNs whose entry is one of the guest's own frames."""
        guest, owned = self.machine, self.machine.host.owned
        return {
            pfn
            for x, leaf in guest.own_leaves()
            for pfn, word in enumerate(guest.page(leaf), x * guest.n)
            if word in owned
        }

    def next_host(self) -> int:
        """Draw the host of a migration: most name what the guest has; some more, some less."""
        rng = self.rng
        hosts: list[Json] = self.trace["hosts"]
        pfns = self.sent_pfns()
        if not self.plain:
            if self.chance(12):
                return rng.randrange(len(hosts))
            if not self.chance(3):
                pfns.update(self.extra_pfns())
            if self.chance(14):
                droppable = sorted(pfns.difference(self.kept_pfns()))
                pfns.difference_update(rng.sample(droppable, min(len(droppable), 3)))
        alike = 3 if self.policy == "two-level-none" else 8
        if self.chance(alike):
            hosts.append(self.like_before(sorted(pfns)))
        else:
            hosts.append(self.place(sorted(pfns)))
        return len(hosts) - 1

    def like_before(self, pfns: list[int]) -> Json:
        """A host that gives the frames of an earlier one, but for some that change places."""
        rng = self.rng
        before: Json = rng.choice(self.trace["hosts"])
        domain: dict[int, int] = {}
        for pfn, mfn, count in before["domain"]:
            domain.update(zip(range(pfn, pfn + count), range(mfn, mfn + count), strict=True))
        domain = {pfn: domain[pfn] for pfn in pfns if pfn in domain}
        if not domain:
            return self.place(pfns)
        free = max(domain.values()) + 1
        for pfn in pfns:
            if pfn not in domain:
                domain[pfn] = free
                free += 1
        movable = [pfn for pfn in self.structures() if pfn in domain] or pfns
        for _ in range(self.pick((0, 2), (1, 3), (2, 2), (5, 1))):
            a = rng.choice(movable)
            b = rng.choice(movable if self.chance(2) else sorted(domain))
            if self.chance(5):
                domain[a], free = free, free + 1
            else:
                domain[a], domain[b] = domain[b], domain[a]
        return self.host(domain, max(before["frames"], free))

    # --- frames for entries -------------------------------------------------------------------

    def free_frames(self, count: int) -> int:
        """The first of `count` frames that are nobody's; any frame where there is no such run."""
        host, rng = self.machine.host, self.rng
        for _ in range(30):
            first = rng.randrange(1, max(2, host.frames - count))
            span = range(first, first + count)
            if host.owned.isdisjoint(span) and not any(mfn in host.m2p for mfn in span):
                return first
        # Crowded. A plain life's hosts have room for one more run at their end.
        if self.plain:
            here = [event["host"] for event in self.trace["events"] if "host" in event][-1]
            host.frames += count
            self.trace["hosts"][here]["frames"] = host.frames
            return host.frames - count
        return rng.randrange(1, host.frames)

    def some_frame(self, count: int) -> int:
        """A number for entries: mostly free frames, else a strange one."""
        if self.plain:
            return self.free_frames(count)
        frames = self.machine.host.frames
        odd = self.pick((0, 1), (frames - 1, 1), (frames, 1), (frames + 7, 1), (frames // 2, 2))
        return self.pick((self.free_frames(count), 6), (odd, 1))

    # --- events -------------------------------------------------------------------------------

    def add(self, event: Json) -> bool:
        """Append an event and run it; return whether the guest lives on."""
        self.trace["events"].append(event)
        self.trace["expected"].append(self.machine.run(event))
        return eras.goes_on(event, self.trace["expected"][-1])

    def step(self) -> bool:
        op = self.pick(("set", 6), ("migrate", 4), ("fail", 1))
        if op == "migrate":
            event = self.draw_migration()
            return self.add(self.living(event) if self.is_live else event)
        if op == "fail":
            self.add({"op": "fail_alloc", "at": self.pick((0, 4), (1, 4), (2, 2), (5, 1))})
        if self.has_cpus and not self.chance(4):
            return self.add(cpus_event(self.rng, self.draw_runs))
        return self.add({"op": "set", "runs": self.draw_runs()})

    def living(self, event: Json) -> Json:
        """A migration by any toolstack, mostly of a guest that goes on living in its rounds."""
        if "toolstack" not in event:
            event["toolstack"] = self.pick(("4.7", 4), ("4.6", 1), ("legacy", 1))
        if self.chance(2):
            event["on_refused"] = "stay"
        if self.chance(6):
            return event
        event.pop("during", None)
        event["live"] = True
        num_rounds = self.pick((1, 4), (2, 4), (3, 2), (0, 1), (5, 1))
        event["rounds"] = [self.draw_round() for _ in range(num_rounds)]
        return event

    def draw_round(self) -> Runs:
        """The runs of a round: in some the guest does nothing, or only gives pages back."""
        if self.chance(8):
            return []
        if self.chance(2):
            return [row for row in self.draw_runs() if row[1] is None]
        return self.draw_runs()

    def live(self) -> Json:
        alive = self.add(self.boot_event())
        for _ in range(self.pick((2, 1), (5, 3), (8, 3), (12, 1))):
            if not alive:
                break
            alive = self.step()
        return self.trace


def cpus_event(rng: random.Random, draw_runs: Callable[[], Runs]) -> Json:
    """An event of some CPUs that mostly set PFNs of the same leaves, or the same ones.

    What runs there may be says `draw_runs`.
    """
    shared: Runs = [row for row in draw_runs() if row[2] < 1 << 20] or [[0, None, 1]]
    sets: list[Runs] = []
    for _ in range(rng.choice((1, 2, 2, 2, 2, 3, 3, 4))):
        kind = rng.choice(("apart", "apart", "apart", "same", "own"))
        rows: Runs = []
        for first, value, count in shared if kind != "own" else draw_runs():
            skip = rng.randrange(min(count, 40)) if kind == "apart" else 0
            moved = value + skip if type(value) is int else value
            if kind == "same" and rng.random() < 0.5:
                # Who comes last is then to be seen.
                moved = draw_runs()[0][1]
            rows.append([first + skip, moved, min(count - skip, rng.choice((1, 1, 2, 5, 20)))])
        sets.append(rows or [[*shared[0][:2], 1]])
    return {"op": "cpus", "sets": sets, "schedule": rng.choice((0, rng.getrandbits(64)))}


def life(
    policy: str,
    seed: int,
    second_machine: bool,
    plain: bool = False,
    is_live: bool = False,
    has_cpus: bool = False,
) -> Json:
    """The life that this seed draws for a policy: a trace with its "expected".

    With `is_live` its migrations are live, by any toolstack, and with `has_cpus` several CPUs set
    entries at once: on the second machine only.
    """
    from oracle.eras.lives_linear import LinearLife
    from oracle.eras.lives_tree import TreeLife

    kind = LinearLife if policy.startswith("linear") else TreeLife
    return kind(policy, seed, second_machine, plain, is_live, has_cpus).live()
