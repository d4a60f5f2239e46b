"""SPIN as an oracle: a model in Promela, written from the description of the steps alone."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from p2mbatch.race.config import KERNELS, parse_config
from p2mbatch.race.explorer import explore
from p2mbatch.race.names import parse_name
from p2mbatch.race.reduced import explore_reduced
from race import promela
from race.cases import GIVEN, explored

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
@pytest.mark.parametrize("seed", range(5))
def test_spin_agrees_on_random_configurations(seed: int, tmp_path: Path) -> None:
    for found in explored(random.Random(f"spin {seed}"), (2, 2, 3), 60_000_000):
        values = [operation.value or 0 for operation in found.config.operations]
        if max(values) <= promela.LARGEST_NUMBER and 1_000 < found.num_states < 200_000:
            assert_spin_agrees(found.to_json(), tmp_path)
            assert set(explore_reduced(found.config).classes) == set(found.classes)
            return


@pytest.mark.slow
@pytest.mark.parametrize(
    "kernel", [pytest.param(k, marks=[pytest.mark.thorough] * (k != "orig")) for k in KERNELS]
)
def test_reductions_keep_what_spin_finds_with_three_cpus(kernel: str, tmp_path: Path) -> None:
    # Explored whole these are some ten million states; SPIN merges little and by rules of its own.
    config = parse_name(f"{kernel}.never.sc.three-one-leaf")
    said = promela.ask_spin(config.to_json(), tmp_path, merged=True)
    found = explore_reduced(config)
    assert set(said.classes) == set(found.classes)
    assert said.num_states > 10 * found.num_states
