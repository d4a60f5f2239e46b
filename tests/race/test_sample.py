"""Sampled schedules: the explorer's probabilities within intervals, and its classes alone."""

from __future__ import annotations

import random

import numpy as np
import pytest
from click.testing import CliRunner

from p2mbatch.base.errors import InputError
from p2mbatch.base.rates import CONFIDENCE, rate
from p2mbatch.cli import cli
from p2mbatch.race.sample import rates_of, sample_labels
from p2mbatch.race.wide import ENTRIES, WideRace
from race.cases import RACES, explored

NUM_SCHEDULES = 20_000
NUM_CLASSES = sum(len(results["classes"]) for _, results in RACES.values())
"""Of all given races together: their intervals hold at once."""


@pytest.mark.parametrize("name", RACES)
def test_given_probabilities_are_within_the_intervals(name: str) -> None:
    """Of all given races, those with a toolstack among them, 99 % jointly, one fixed key."""
    config, results = RACES[name]
    labels = sample_labels(config, NUM_SCHEDULES, key=7)
    found = rates_of(config, labels, num_together=NUM_CLASSES)
    alpha = (1 - CONFIDENCE) / NUM_CLASSES
    assert set(found.rates) <= set(results["classes"])
    for kind, wanted in results["classes"].items():
        got = found.rates.get(kind) or rate(0, NUM_SCHEDULES, alpha)
        # Given ones are rounded to six digits.
        low, high = got.low - 5e-7, got.high + 5e-7
        assert low <= wanted["probability"] <= high, (kind, got)


def test_a_wrong_probability_is_outside() -> None:
    """One that is a tenth off: what the test above would not let pass."""
    config, results = RACES["old.never.sc.t-top/tree"]
    labels = sample_labels(config, NUM_SCHEDULES, key=7)
    found = rates_of(config, labels, num_together=NUM_CLASSES)
    kind, wanted = max(results["classes"].items(), key=lambda item: item[1]["probability"])
    off = wanted["probability"] * 0.9
    assert not found.rates[kind].low <= off <= found.rates[kind].high


@pytest.mark.parametrize("seed", range(20))
def test_random_races_end_in_classes_that_can_be_reached(seed: int) -> None:
    exploration = next(explored(random.Random(f"sample {seed}"), (1, 2), 1 << 27))
    config = exploration.config
    found = rates_of(config, sample_labels(config, 3000, key=seed))
    assert set(found.rates) <= set(exploration.classes)
    likely = {name for name, end in exploration.classes.items() if (end.probability or 0) > 0.01}
    assert likely <= set(found.rates)


def test_a_schedule_is_its_key_and_number() -> None:
    config, _ = RACES["old.any.sc.same-pfn"]
    many = sample_labels(config, 5000, key=3)
    assert np.array_equal(many[4000:], sample_labels(config, 1000, key=3, first=4000))
    assert not np.array_equal(many, sample_labels(config, 5000, key=4))


def test_intervals_are_those_of_clopper_and_pearson() -> None:
    # Published: 10 of 100 has [4.90 %, 17.62 %] at 95 %.
    found = rate(10, 100, 0.05)
    assert (round(found.low, 4), round(found.high, 4)) == (0.049, 0.1762)
    assert (rate(0, 50, 0.05).low, rate(50, 50, 0.05).high) == (0.0, 1.0)


NARROW = [
    name
    for name, (config, _) in RACES.items()
    if config.allocator == "never" and config.memory == "sc"
]
ALONE = [name for name in NARROW if RACES[name][0].toolstack is None]


@pytest.mark.parametrize("entries", ENTRIES)
@pytest.mark.parametrize("name", ALONE)
def test_steps_on_large_pages_are_those_on_small_ones(name: str, entries: int) -> None:
    """The same schedules, step by step, end in the same classes whatever a page holds."""
    config, _ = RACES[name]
    narrow = sample_labels(config, 150, key=11)
    assert np.array_equal(WideRace(config, entries).sample_labels(150, key=11), narrow)


@pytest.mark.parametrize("name", [name for name in NARROW if name not in ALONE])
def test_a_walk_over_large_pages_ends_in_the_explorers_classes(name: str) -> None:
    """A walk takes longer there: other rates of the same classes; with two words the same rates."""
    config, results = RACES[name]
    assert np.array_equal(
        WideRace(config, 2).sample_labels(150, key=11), sample_labels(config, 150, key=11)
    )
    found = rates_of(config, WideRace(config, 512).sample_labels(12, key=11), 512)
    assert set(found.rates) <= set(results["classes"])


@pytest.mark.parametrize(
    ("name", "entries", "said"),
    [
        ("old.never.sc.t-top/tree", 100, "entries: 100 words a page are none of 2, 512, 1024"),
        ("old.any.sc.same-pfn", 512, "take allocator never and memory sc: any and sc"),
    ],
)
def test_what_runs_on_small_pages_alone_is_refused(name: str, entries: int, said: str) -> None:
    with pytest.raises(InputError) as caught:
        WideRace(RACES[name][0], entries)
    assert said in str(caught.value)


@pytest.mark.parametrize("entries", ["2", "512"])
def test_the_command_draws(entries: str) -> None:
    command = ["race", "old.never.sc.t-top/tree", "--sample", "200", "--entries", entries]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    assert f"200 schedules drawn, {entries} words a page" in done.output
    again = CliRunner().invoke(cli, [*command, "--key", "0"])
    assert again.output == done.output


@pytest.mark.parametrize(
    "options", [["--sample", "9", "--json"], ["--entries", "512"], ["--key", "3"]]
)
def test_options_that_say_nothing_together_are_refused(options: list[str]) -> None:
    done = CliRunner().invoke(cli, ["race", "old.never.sc.t-top/tree", *options])
    assert done.exit_code == 2
