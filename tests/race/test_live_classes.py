"""What a live guest of the model's size comes to is an end that the explorer reaches.

A random race of one CPU and a toolstack is lived by a guest with 512 words a page. It is copied in
one round: the schedule in which the walk ends before the CPU's first step.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from p2mbatch.guests.stage import nth_host
from p2mbatch.model.fates import ABORTED, MOVED_WRONG, fate_of
from p2mbatch.model.outcomes import EventResult
from p2mbatch.race.config import Config, parse_config
from p2mbatch.race.explorer import class_name, explore
from p2mbatch.race.wide import WideRace
from race.lived import KERNELS, Lived, scenario

NUM_RACES = 500


def drawn(seed: int) -> tuple[str, Config]:
    """A policy, and a race of one CPU with a toolstack."""
    dice = random.Random(f"live classes {seed}")
    policy = dice.choice(list(KERNELS))
    is_list = policy == "linear"
    first = sorted(dice.sample(range(8), dice.choice([1, 1, 2, 3] if is_list else [0, 1, 2, 3])))
    pool = dice.choice([first or [0], list(range(8)), [0, 1, 2], [4, 6]])
    leaves = {pfn // 2 for pfn in first}
    calls: list[list[Any]] = []
    for _ in range(dice.randrange(1, 5)):
        pfn, value = dice.choice(pool), dice.choice([-1, 1, 2, 3])
        # Hot-added PFNs read as 1:1 before they are set: INVALID is something new there, and grows.
        calls.append(["set", pfn, 1 if is_list and pfn // 2 not in leaves else value])
    # The hint is the end of the highest leaf that was populated.
    last = (max(first) // 2 + 1) * 2 if is_list else 8
    given = {
        "kernel": KERNELS[policy], "cpus": [calls], "populated_first": first, "last": last,
        "toolstack": "list" if is_list else "tree",
    }  # fmt: skip
    return policy, parse_config("drawn", given)


def of_that_schedule(config: Config) -> set[str]:
    """The labels of the schedule in which the toolstack's walk comes first."""
    race = WideRace(config, 2)
    row = race._first.copy()
    with np.errstate(over="ignore"):
        while ready := race._ready(row):
            race._move(row, ready[-1])
    name = class_name(race._judged(row))
    return set() if name == "ok" else set(name.split("+"))


def lived(policy: str, config: Config) -> EventResult:
    """What the guest's migration comes to."""
    cell = scenario(policy, True)
    it = Lived(cell, config)
    host = nth_host(cell, it.guest.placement, 1)
    return it.guest.life.migrate(host, rounds=[it.calls(config.cpus[0])])


@pytest.mark.parametrize("part", range(5))
def test_a_live_guest_comes_to_an_end_that_the_explorer_reaches(part: int) -> None:
    seen: set[str] = set()
    for seed in range(part, NUM_RACES, 5):
        policy, config = drawn(seed)
        labels, result = of_that_schedule(config), lived(policy, config)
        reached = explore(config).classes
        assert ("+".join(sorted(labels)) or "ok") in reached, seed
        fate = fate_of(result.outcome, result.detail)
        told = (seed, policy, config.to_json(), result)
        assert (fate == ABORTED) == ("T-abort" in labels), told
        assert (fate == MOVED_WRONG) == ("T-misdirected" in labels), told
        if fate in (ABORTED, MOVED_WRONG):
            seen.add(fate)
            continue
        assert result.outcome == "ok", told
        assert (result.lost_pages > 0) == ("T-lost" in labels), told
        assert result.ghost_pages == 0 and "T-ghost" not in labels, told
        seen.add("lost" if result.lost_pages else "ok")
    assert {ABORTED, MOVED_WRONG, "ok"} <= seen
