"""What several CPUs do to a guest of the model's size is what the explorer's steps do.

A random race is lived by a guest with 512 words a page and run on the explorer's own tree of two,
under the schedule of one key: the same CPU is next at every step, so that both come to one class.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from p2mbatch.guests.stage import nth_host
from p2mbatch.model.cpus.events import set_by_cpus
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.policies import find
from p2mbatch.race.config import Config, parse_config
from p2mbatch.race.explorer import class_name, explore
from p2mbatch.race.sample import sample_labels
from race.lived import KERNELS, Lived, scenario

NUM_RACES, NUM_PARTS = 500, 6
RACING = [policy for policy in KERNELS if policy != "late-list"]
"""Late-list's kernel is none of the explorer's."""


def drawn(seed: int) -> tuple[str, Config]:
    """A policy, and a race of two CPUs or three."""
    dice = random.Random(f"cpus classes {seed}")
    policy = dice.choice(RACING)
    least = policy == "linear"
    first = sorted(dice.sample(range(8), dice.choice([least, least, 1, 2])))
    pool = dice.choice([[0, 1], [0, 2], [0, 1, 2, 3], [2], [4, 6, 7]])
    if least and dice.random() < 0.5:
        # Past the end that the guest reports: who raises it last may lower it.
        first, pool = [0], [2, 4, 6]
    cpus: list[list[Any]] = [
        [["set", dice.choice(pool), dice.choice([1, 2, 3])] for _ in range(dice.choice([1, 1, 2]))]
        for _ in range(dice.choice([2, 2, 2, 3]))
    ]
    last = (max(first) // 2 + 1) * 2 if policy == "linear" else 8
    given = {"kernel": KERNELS[policy], "cpus": cpus, "populated_first": first, "last": last}
    return policy, parse_config("drawn", given)


def lived(policy: str, config: Config, key: int) -> tuple[EventResult, EventResult | None]:
    """What the CPUs come to, and the migration behind it."""
    cell = scenario(policy, False, told="no")
    it = Lived(cell, config)
    raced = set_by_cpus(it.guest.life, [it.calls(program) for program in config.cpus], key)
    if not raced.ok:
        return raced, None
    return raced, it.guest.life.migrate(nth_host(cell, it.guest.placement, 1))


@pytest.mark.parametrize(
    "policy",
    [
        "identity",
        *(
            pytest.param(policy, marks=pytest.mark.thorough)
            for policy in ("late-list", "linear-3.19", "linear-4.4")
        ),
        "linear",
    ],
)
def test_what_was_set_is_read_back_or_lost(policy: str) -> None:
    """Counted from the guest's own entries; kernels beside the explorer's too."""
    lost = num_raced = 0
    for seed in range(160):
        _, config = drawn(seed)
        if seed % 2:
            # Two leaves for one place.
            given = {"kernel": KERNELS.get(policy, "new"), "populated_first": [2]}
            config = parse_config("two", given | {"cpus": [[["set", 0, 1]], [["set", 1, 2]]]})
        it = Lived(scenario(policy, False, told="no"), config)
        sets = [it.calls(program) for program in config.cpus]
        raced = set_by_cpus(it.guest.life, sets, seed)
        if not raced.ok or not raced.set_returned:
            assert raced.ok or not raced.lost_pages
            continue
        num_raced += 1
        given = dict[int, set[int]]()
        for pfn, mfn, count in np.concatenate(sets).tolist():
            for k in range(count):
                given.setdefault(pfn + k, set()).add(mfn + k)
        pfns = np.array(sorted(given))
        found = np.empty(len(pfns), np.int64)
        it.guest.life.policy.operations.get(it.guest.life.tables, it.guest.life.host, pfns, found)
        gone = [pfn for pfn, mfn in zip(pfns.tolist(), found.tolist(), strict=True)
                if mfn not in given[pfn]]  # fmt: skip
        assert raced.lost_pages == len(gone), (seed, policy, config.to_json())
        lost += len(gone)
    assert num_raced > 50
    assert bool(lost) == (not find(policy).is_linear)


@pytest.mark.parametrize(
    "part", [0, *(pytest.param(k, marks=pytest.mark.thorough) for k in range(1, NUM_PARTS))]
)
def test_cpus_come_to_the_class_of_their_schedule(part: int) -> None:
    seen: set[str] = set()
    for seed in range(part, NUM_RACES, NUM_PARTS):
        policy, config = drawn(seed)
        name = class_name(int(sample_labels(config, 1, key=seed)[0]))
        labels = set(name.split("+"))
        raced, moved = lived(policy, config, seed)
        told = (seed, policy, config.to_json(), name, raced, moved)
        if not raced.set_returned and max(map(len, config.cpus)) > 1:
            # There a CPU goes on with its next set.
            continue
        assert (raced.outcome == "bug") == ("bug" in labels), told
        seen |= labels
        if moved is None:
            continue
        assert raced.set_returned == ("false" not in labels), told
        assert (raced.lost_pages > 0) == ("lost" in labels), told
        # The label is of reads and lost cmpxchgs through such pages too.
        assert not raced.stray_writes or "uaf" in labels, told
        assert (moved.outcome == "misdirected") == ("list" in labels), told
        if moved.outcome == "ok":
            assert (moved.lost_pages > 0) == ("max" in labels), told
        if seed % 10 == part:
            assert name in explore(config).classes, told
    assert {"ok", "bug", "false", "list", "uaf", "leak"} <= seen
