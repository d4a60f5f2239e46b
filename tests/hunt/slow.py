"""A hunter in plain Python: random lives within the world, judged one by one, nothing bred on.

What the compiled one must be able to find it finds too, some hundreds of lives a second.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from hunt import built
from p2mbatch.base.arrays import Int64Array
from p2mbatch.hunt.judge import judge
from p2mbatch.hunt.kinds import kind_of
from p2mbatch.model.policies import Policy, find
from p2mbatch.model.trace_file import parse_trace

Json = dict[str, Any]

END = 3072
"""PFNs that every host names frames for."""


def draw(policy: str, rng: random.Random) -> Json:
    """One life: a small guest, three hosts, up to seven events."""
    kind = find(policy)
    far = built.N[8] ** 2
    end = END if kind.is_two_level else rng.choice([END] * 9 + [2 * far])
    nr_pages = rng.choice([1536, 1536, 2048, 1400])
    span = rng.choice([nr_pages, nr_pages, 2560, END, end])
    boot: Json = {"op": "boot", "host": 0}
    if kind.is_linear:
        guest = built.linear_guest(
            nr_pages,
            virt_p2m_4tools=not kind.whole_area and rng.random() < 0.5,
            p2m_vaddr=built.VMALLOC + rng.choice([0, 0, 3 << 21]),
            page_pool=rng.choice([[[64, 24]], [[64, 2]]]),
            extra=rng.choice([[], [[2600, 200]]]),
        )
    else:
        guest = built.tree_guest(policy, nr_pages, max_p2m_pfn=max(span, nr_pages))
        if kind.marks and rng.random() < 0.5:
            boot["identity"] = [rng.choice([[2560, END], [2600, 2700], [far, 2 * far]])]
    hosts = built.hosts(end, neighbours=rng.random() < 0.5)
    free = [built.free_frame(end)]
    events = [
        event for _ in range(rng.randint(1, 6)) for event in _step(kind, rng, nr_pages, end, free)
    ]
    life = built.trace(policy, guest, hosts, boot, *events)
    for host in hosts:
        host["frames"] = free[0] + 1
    return life


def _step(kind: Policy, rng: random.Random, nr_pages: int, end: int, free: list[int]) -> list[Json]:
    if rng.random() < 0.45:
        return [built.move(rng.randrange(3))]
    first = rng.choice([700, 1100, nr_pages - 9, nr_pages, 2048, 2100, 2560, END - 40])
    if end > END and rng.random() < 0.5:
        first = end // 2 + rng.choice([0, 700])
    count = rng.randint(1, 40)
    word = rng.choice([None, "frames", "frames", "foreign"])
    if word == "frames":
        word, free[0] = free[0], free[0] + count
    elif word == "foreign":
        word = (1 << (63 if kind.marks or kind.is_linear else 31)) + 5
    fails = [built.fail(rng.randint(0, 2))] if rng.random() < 0.2 else []
    return [*fails, built.assign([first, word, count])]


class Failures(NamedTuple):
    """Rows by life, then by rule."""

    life: Int64Array
    rule: Int64Array
    event: Int64Array
    signature: Int64Array


@dataclass
class SlowGeneration:
    """A batch's answer (`finds.Generation`)."""

    num_lives: int
    lives: list[Json]
    failures: Failures
    coverage: dict[str, int] = field(default_factory=dict)

    def trace(self, life: int) -> Json:
        return self.lives[life]


class SlowHunter:
    """Draws, lives and judges (`hunting.Hunter`); keeps how many whole generations there were."""

    def __init__(
        self,
        policy: str,
        *,
        seed: int = 0,
        threads: int | None = None,
        state: dict[str, Any] | None = None,
        num_lives: int = 8,
    ) -> None:
        self.policy, self.seed, self.num_lives = policy, seed, num_lives
        self.kept = int(state["kept"][0]) if state else 0

    def generation(self, number: int, num_lives: int) -> SlowGeneration:
        assert number == self.kept
        rngs = [random.Random(f"{self.seed}/{number}/{i}") for i in range(num_lives)]
        lives = [draw(self.policy, rng) for rng in rngs]
        rows = [
            (i, broken.rule, broken.event, hash_of(kind_of(broken)))
            for i, life in enumerate(lives)
            for broken in judge(parse_trace(life)).broken
        ]
        columns = np.array(sorted(rows), np.int64).reshape(-1, 4).T
        return SlowGeneration(num_lives, lives, Failures(*columns), {"seen": number})

    def keep(self, generation: SlowGeneration) -> None:
        assert generation.num_lives == self.num_lives
        self.kept += 1

    def state(self) -> dict[str, Any]:
        return {"kept": np.array([self.kept])}


def hash_of(kind: str) -> int:
    """A number for a kind, the same in every process."""
    return int.from_bytes(kind.encode()[:7], "big")
