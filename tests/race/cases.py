"""The races that the tests explore: given ones, random ones, and some with three and four CPUs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from p2mbatch.base.errors import ResourceError
from p2mbatch.race.config import KERNELS, Config, parse_config
from p2mbatch.race.explorer import Exploration, explore
from p2mbatch.race.names import name_of, read_file

GIVEN = Path(__file__).parents[2] / "data" / "race" / "given.json"
RACES = read_file(GIVEN)


def random_config(dice: random.Random, num_cpus: tuple[int, ...] = (1, 2, 2, 2, 3, 3)) -> Config:
    """Return a configuration drawn by `dice`, with one of `num_cpus`."""
    pool = dice.choice([[0], [0, 1], [0, 1, 2], [0, 2, 3], [0, 4], list(range(8))])
    cpus = []
    for _ in range(dice.choice(num_cpus)):
        program: list[list[Any]] = []
        for _ in range(dice.choice([1, 1, 1, 2, 3])):
            pfn = dice.choice(pool)
            value = dice.choice([-1, 1, 2, 3, 9, 100])
            program.append(["get", pfn] if dice.random() < 0.25 else ["set", pfn, value])
        cpus.append(program)
    given = {
        "kernel": dice.choice(KERNELS),
        "cpus": cpus,
        "allocator": dice.choice(["never", "never", "own", "any"]),
        "memory": dice.choice(["sc", "sc", "tso"]),
        "populated_first": dice.sample(range(8), dice.choice([0, 0, 1, 2])),
        "toolstack": dice.choice([None, None, "tree", "list"]),
        "last": dice.choice([8, 8, 8, 4, 1, 2, 6]),
    }
    return parse_config("random", given)


def explored(
    dice: random.Random, num_cpus: tuple[int, ...], max_bytes: int
) -> Iterator[Exploration]:
    """Yield explorations of random configurations, those that fit into `max_bytes`."""
    while True:
        try:
            yield explore(random_config(dice, num_cpus), max_bytes=max_bytes)
        except ResourceError:
            continue


_CROWDS: dict[str, dict[str, Any]] = {
    "one-leaf": {
        "populated_first": [0],
        "cpus": [[["set", 2, 1]], [["set", 3, 2]], [["set", 2, 3]]],
    },
    "and-a-reader": {"cpus": [[["set", 0, 1]], [["set", 1, 2]], [["get", 0]]]},
    "and-balloon-out": {"cpus": [[["set", 0, 1]], [["set", 2, 2]], [["set", 0, -1]]]},
    "two-readers": {"cpus": [[["set", 0, 1]], [["set", 1, 2]], [["get", 0]], [["get", 1]]]},
    "both-out": {"cpus": [[["set", 0, 1]], [["set", 2, 2]], [["set", 0, -1]], [["set", 2, -1]]]},
    "out-and-reader": {"cpus": [[["set", 0, 1]], [["set", 1, 2]], [["set", 0, -1]], [["get", 1]]]},
}
_WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"allocator": "own"},
    {"allocator": "any"},
    {"memory": "tso"},
    {"toolstack": "tree"},
    {"toolstack": "list", "last": 2},
)


def crowds() -> dict[str, Config]:
    """Return races of three and four CPUs, for every kernel, that are soon explored whole."""
    found = {}
    for litmus, programs in _CROWDS.items():
        for way in _WAYS if litmus == "one-leaf" else _WAYS[:2]:
            for kernel in KERNELS:
                config = parse_config(litmus, {"kernel": kernel, **programs, **way})
                found[name_of(config, litmus)] = config
    return found


CROWDS = crowds()
