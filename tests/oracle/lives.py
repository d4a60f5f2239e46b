"""Random lives from a seed: a guest, its hosts and what happens to it, as trace JSON.

What makes a life go wrong is rare in a random one: an old frame that on the new host is the
guest's own again, or a neighbour's whose PFN is that of one of the guest's tables, or one past
the end of the m2p. So the generator knows where the structures are and aims at them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from oracle import build
from oracle.build import Json
from oracle.dice import Dice
from oracle.eras.lives import cpus_event
from oracle.layouts import Kind, layout
from oracle.placer import Frames, Placer

POLICIES = ("tracked", "stale", "none")
FOREIGN_BIT = 1 << 31

Row = tuple[int, int | None, int]


@dataclass(frozen=True)
class Wanted:
    """Which lives to make; None leaves the choice to the dice."""

    format: str
    policy: str | None = None
    word_bytes: int | None = None
    one_in_wide: int = 60
    """One life in so many is of a guest that boots with a mid or more. 0: none."""
    live: bool = False
    """Whether migrations are live, by any toolstack; of format 3 only."""
    cpus: bool = False
    """Whether several CPUs set entries at once; of format 3 only."""


def life(source: random.Random, wanted: Wanted) -> Json:
    """One life as a trace's JSON object."""
    dice = Dice(source)
    machine = 1 if wanted.format.endswith("/1") else 2
    word_bytes = wanted.word_bytes or dice.pick((8, 1), (4, 1))
    policy = wanted.policy or dice.pick(("stale", 4), ("tracked", 2), ("none", 1))
    # On machine 1 each page that a guest boots with has a frame: its wide guests are slow.
    one_in = wanted.one_in_wide * (1 if machine == 2 else 50)
    wide = bool(one_in) and (machine == 2 or word_bytes == 8) and dice.one_in(one_in)
    guest = layout(dice, Kind(word_bytes, machine, wide))
    if machine == 2 and word_bytes == 8 and not wide and dice.one_in(10_000):
        guest["max_p2m_pfn"] = build.entries(8) ** 3 + 1
    return _Life(dice, policy, guest, wanted).trace()


def lives(seed: str, first: int, count: int, wanted: Wanted) -> list[Json]:
    """Lives `first`, `first` + 1, … of a seed: each is the same whatever others are made."""
    return [life(random.Random(f"{seed}/{i}"), wanted) for i in range(first, first + count)]


class _Life:
    """One life in the making."""

    def __init__(self, dice: Dice, policy: str, guest: Json, wanted: Wanted) -> None:
        self.dice = dice
        self.policy = policy
        self.guest = guest
        self.format = wanted.format
        self.is_live = wanted.live
        self.has_cpus = wanted.cpus
        self.machine = 1 if wanted.format.endswith("/1") else 2
        self.placer = Placer(dice, policy, guest, self.machine)
        self.made: list[Frames] = []

    def trace(self) -> Json:
        dice = self.dice
        num_hosts = dice.pick((1, 1), (2, 4), (3, 4), (4, 2))
        for _ in range(num_hosts):
            self.made.append(self.placer.host(self.made))
        events: list[Json] = [self._arrival(build.boot(0))]
        here = 0
        for _ in range(dice.pick((2, 2), (3, 4), (5, 3), (1, 1), (8, 1))):
            op = dice.pick(("migrate", 5), ("set", 4), ("fail", 1))
            if op == "fail":
                events.append(build.fail_alloc(dice.pick((1, 3), (0, 2), (2, 2), (4, 1))))
            if op in ("set", "fail"):
                events.append(self._set(here))
                if self.has_cpus and not dice.one_in(4):
                    events[-1] = cpus_event(dice.source, lambda at=here: self._set(at)["runs"])
            else:
                at, here = here, dice.pick((min(here + 1, num_hosts - 1), 5), (0, 1))
                event = self._departure(self._arrival(build.migrate(here)))
                events.append(self._living(event, at) if self.is_live else event)
        hosts = [frames.as_json() for frames in self.made]
        value = build.trace(self.policy, self.guest, hosts, events)
        value["format"] = self.format
        return value

    def _arrival(self, event: Json) -> Json:
        """What format 3 adds to an event that names a host."""
        if self.format.endswith("/3") and self.dice.one_in(3):
            event["xen"] = self.dice.of(["4.0", "4.0.1", "4.1", "4.1.1", "4.1.2", "4.2", "4.17"])
        return event

    def _departure(self, event: Json) -> Json:
        """What format 3 adds to a migration."""
        if self.format.endswith("/3") and self.dice.one_in(2):
            event["on_refused"] = "stay"
        return event

    def _living(self, event: Json, here: int) -> Json:
        """A migration of a guest that goes on living on host `here` while it is sent."""
        dice = self.dice
        event["toolstack"] = dice.pick(("4.7", 3), ("4.6", 1), ("legacy", 1))
        if dice.one_in(5):
            return event
        event["live"] = True
        if dice.one_in(6):
            event["during"] = self._set(here)["runs"]
        else:
            num_rounds = dice.pick((1, 3), (2, 3), (3, 2), (0, 1), (5, 1))
            event["rounds"] = [self._round(here) for _ in range(num_rounds)]
        return event

    def _round(self, here: int) -> list[list[int | None]]:
        """The runs of a round: in some the guest only gives pages back, or does nothing."""
        dice = self.dice
        if dice.one_in(8):
            return []
        if dice.one_in(3):
            return [list(self._hole()) for _ in range(dice.between(1, 3))]
        runs: list[list[int | None]] = self._set(here)["runs"]
        return runs

    # --- set events -----------------------------------------------------------------------

    def _set(self, here: int) -> Json:
        """A `set` event for a guest that runs on host `here`."""
        rows: list[Row] = []
        for _ in range(self.dice.pick((1, 3), (2, 2), (3, 1))):
            rows += self._rows(self.made[here])
        return build.assign(*rows)

    def _rows(self, host: Frames) -> list[Row]:
        dice, placer = self.dice, self.placer
        count = dice.between(1, 4)
        kind = dice.pick(
            ("grow", 8),
            ("hole", 3),
            ("move", 3),
            ("foreign", 2),
            ("lose", 2),
            ("renumber", 2),
            ("own", 2),
            ("neighbour", 2),
            ("beyond", 1),
            ("odd growth", 4),
        )
        if kind == "grow":
            return [self._growth(host)]
        if kind == "hole":
            return [self._hole()]
        if kind == "move":
            return [(placer.any_pfn(), self._frame(host, count), count)]
        if kind == "foreign":
            return [(placer.any_pfn(), FOREIGN_BIT + self._frame(host, 1), 1)]
        if kind == "lose":
            # The page of a table is ballooned out: the kernel never would, memory may.
            return [(placer.any_pfn(), None, 1)]
        if kind == "renumber":
            return [(placer.list_page(), placer.odd_number(host), 1)]
        if kind == "own":
            return [(placer.any_pfn(), host.some_own(dice), 1)]
        if kind == "neighbour":
            return [(placer.any_pfn(), host.some_foreign(dice), 1)]
        if kind == "odd growth":
            return [self._before_growth(host), self._growth(host)]
        mfn = dice.pick((None, 3), (5, 1))
        return [(placer.n**3 - dice.between(0, 2), mfn, count)]

    def _growth(self, host: Frames) -> Row:
        """A run past the memory that the guest booted with, or a hole where there is no such."""
        if not self.placer.regions:
            return self._hole()
        pfn, count = self.dice.of(self.placer.regions)
        count = self.dice.between(1, count)
        return pfn, self._frame(host, count), count

    def _hole(self) -> Row:
        pfn = self.dice.between(0, self.placer.nr_pages - 1)
        return pfn, None, min(self.dice.pick((3, 4), (40, 1)), self.placer.nr_pages - pfn)

    def _before_growth(self, host: Frames) -> Row:
        """An entry of a page that growing takes or looks up, made odd."""
        dice, placer = self.dice, self.placer
        kind = dice.pick(("number", 3), ("own", 3), ("old", 1))
        page = placer.list_page()
        if kind == "number":
            return page, placer.odd_number(host), 1
        if kind == "own":
            # The frame that a list page had at first now leads to a page of the tree.
            mfn = host.domain.get(placer.structure(), 0)
            return page, mfn, 1
        return page, FOREIGN_BIT + dice.of(self.made).domain.get(page, 0), 1

    def _frame(self, host: Frames, count: int) -> int:
        """First of `count` frames: mostly free ones, else any, zero, or the first past the host."""
        dice, frames = self.dice, host.frames
        if not dice.one_in(5):
            free = host.free(count)
            if free:
                return dice.of(free)
        return dice.of([0, frames - 1, frames, frames + 3, frames // 2])
