"""Three mutants of `tracked` are found in a few lives; `make hunt-mutants` hunts all twenty."""

from __future__ import annotations

from pathlib import Path

import pytest

from hunt.mutants import KNOWN, MOST_EVENTS, MUTANTS, changed, hunt_file, unchanged

LIVES = 400


def test_each_of_twenty_mutants_is_one_change_of_the_file() -> None:
    assert len(MUTANTS) == 20
    assert len({changed(name) for name in MUTANTS} | {unchanged()}) == 21


@pytest.mark.parametrize("name", ["refill-forgotten", "through-old-pages", "growth-not-listed"])
def test_a_mutant_is_found_and_made_small(name: str, tmp_path: Path) -> None:
    found = hunt_file(changed(name), tmp_path / name, iter([LIVES]))
    assert found.progress.all_lives == LIVES
    assert found.progress.unconfirmed == 0
    assert found.new
    assert all(find.events <= MOST_EVENTS for find in found.new)


@pytest.mark.thorough
def test_the_unchanged_file_shows_what_is_known_and_nothing_else(tmp_path: Path) -> None:
    found = hunt_file(unchanged(), tmp_path / "seed", iter([40_000]))
    assert {find.kind for find in found.progress.finds} == KNOWN
