"""Reduced exploration: the same classes with far fewer states, each with a schedule."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from p2mbatch.race.config import Config
from p2mbatch.race.explorer import explore
from p2mbatch.race.reduced import explore_reduced
from race import naive
from race.cases import CROWDS, RACES, explored


@pytest.mark.parametrize("name", RACES)
def test_reduced_exploration_finds_the_same_classes(name: str) -> None:
    config, results = RACES[name]
    found = explore_reduced(config)
    assert set(found.classes) == set(results["classes"])
    for one in found.classes.values():
        # Every witness is a schedule that can be run, and the naive judge calls its end the same.
        end = judged_by_the_naive_model(config, [str(step) for step in one.witness])
        assert end == one.name
        assert len(one.witness) >= results["classes"][one.name]["witness_len"]


def judged_by_the_naive_model(config: Config, steps: list[str]) -> str:
    machine = naive.Machine(config.to_json())
    for step in steps:
        machine.unpack(dict(machine.moves())[step])
    return machine.judge()


@pytest.mark.thorough
def test_reductions_keep_the_classes_of_larger_random_configurations() -> None:
    drawn = explored(random.Random(28), (1, 2, 2, 2, 3, 3, 4), 60_000_000)
    for wanted in islice(drawn, 80):
        found = explore_reduced(wanted.config)
        assert set(found.classes) == set(wanted.classes), wanted.config


@pytest.mark.parametrize("name", CROWDS)
def test_reductions_keep_the_classes_of_three_and_four_cpus(name: str) -> None:
    found, whole = explore_reduced(CROWDS[name]), explore(CROWDS[name])
    assert set(found.classes) == set(whole.classes)
    assert found.num_states < whole.num_states
