"""SPIN as an oracle: a model in Promela, written from the description of the steps alone."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from p2mbatch.base.errors import ResourceError
from p2mbatch.race.config import parse_config
from p2mbatch.race.explorer import explore
from p2mbatch.race.reduced import explore_reduced
from race import promela
from race.test_race import GIVEN, random_config

pytestmark = pytest.mark.skipif(
    bool(promela.MISSING), reason=f"not installed: {', '.join(promela.MISSING)}"
)

EXPECTED = json.loads(GIVEN.read_text())
CHOSEN = [
    "old.never.sc.same-mid",
    "old.own.sc.same-mid",
    "old.any.sc.same-leaf",
    "old.never.sc.reader",
    "orig.never.sc.same-leaf",
    "orig.never.sc.diff-top",
    "orig.own.sc.second-top",
    "orig.never.sc.invalid-vs-set",
    "orig.never.sc.read-back",
    "loser.never.sc.same-leaf",
    "relax.never.sc.same-leaf",
    "new.never.sc.same-leaf",
    "new.never.sc.second-top/-@4",
    "new.never.sc.t-top/list@4",
    "old.never.sc.t-leaf-2/tree",
    "old.any.tso.same-mid",
]


def assert_spin_agrees(expected: dict[str, Any], folder: Path) -> None:
    """Compare all that SPIN counts: classes, their distinct ends, states and transitions."""
    said = promela.ask_spin(expected["config"], folder)
    assert said.classes == {name: one["states"] for name, one in expected["classes"].items()}
    assert (said.num_states, said.num_transitions) == (expected["states"], expected["transitions"])


@pytest.mark.parametrize("name", CHOSEN)
def test_spin_counts_what_the_explorer_counts(name: str, tmp_path: Path) -> None:
    config = parse_config(name, EXPECTED[name]["config"])
    assert_spin_agrees(explore(config).to_json(), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_spin_agrees_on_random_configurations(seed: int, tmp_path: Path) -> None:
    dice = random.Random(f"spin {seed}")
    while True:
        config = random_config(dice)
        values = [operation.value or 0 for operation in config.operations]
        if max(values) > promela.LARGEST_NUMBER:
            continue
        try:
            found = explore(config, max_bytes=60_000_000)
        except ResourceError:
            continue
        if 1_000 < found.num_states < 200_000:
            break
    assert_spin_agrees(found.to_json(), tmp_path)
    assert set(explore_reduced(config).classes) == set(found.classes)
