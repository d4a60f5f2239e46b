"""What became of the guests, counted from a store: also of lives that go on after a refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from p2mbatch.base import provenance
from p2mbatch.model.fates import ABORTED, CRASHED, MOVED_WRONG, STUCK
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.alive import alive_of
from p2mbatch.store.fates import fates
from p2mbatch.store.journal import Journal
from p2mbatch.store.results import SweepResult
from p2mbatch.store.survival import survival
from sweep_support import commit, result, row, rows_of

SPEC = SweepSpec.from_options(memory="1GiB", seeds="100")

CLEAN: dict[str, Any] = {"lost_pages": 0, "ghost_pages": 0, "placeholder_writes": 0}
ABORT = {"detail": "p2m-generation-changed 7"}

# Each life's rows from the first migration on: the outcome, and what its row says beside it.
LIVES: list[list[tuple[str, dict[str, Any]]]] = [
    [("ok", {}), ("ok", {}), ("ok", {})],
    [("ok", {"lost_pages": 2}), ("ok", {}), ("ok", {})],
    [("ok", {}), ("save-failed", {}), ("ok", {})],
    [("ok", {}), ("save-failed", {}), ("save-failed", {})],
    [("restore-failed", {})],
    [("ok", {"stray_writes": 5}), ("fault", {})],
    [("bug", {})],
    [("misdirected", {})],
    [("ok", {}), ("save-failed", ABORT), ("ok", {"ghost_pages": 1})],
]


@pytest.fixture
def store(tmp_path: Path) -> SweepResult:
    with Journal.open(tmp_path / "s") as journal:
        journal.admit(SPEC, resident="auto", extend=False)
        journal.begin_run(provenance.collect(["p2mbatch", "sweep"]))
        for seed, life in enumerate(LIVES):
            cell = result(seed, migrations=3)
            rows = [row(0, **CLEAN)]
            for m, (outcome, said) in enumerate(life, 1):
                rows.append(row(m, **(CLEAN | {"outcome": outcome} | said)))
            commit(journal, [cell._replace(rows=rows_of(*rows))], seed + 1)
        journal.end_run("done", complete=True)
    return SweepResult.open(tmp_path / "s")


def test_a_life_counts_by_its_row_of_a_migration_or_by_its_last(store: SweepResult) -> None:
    entries = survival(store)
    assert [entry.num_guests for entry in entries] == [9] * 4
    assert [entry.num_survived for entry in entries] == [9, 6, 2, 4]
    assert [entry.num_corrupted for entry in entries] == [0, 2, 1, 2]
    ends = {fate: [entry.ends[fate] for entry in entries] for fate in entries[0].ends}
    assert ends == {
        STUCK: [0, 1, 3, 2],
        ABORTED: [0, 0, 1, 0],
        CRASHED: [0, 1, 2, 2],
        MOVED_WRONG: [0, 1, 1, 1],
    }


def test_the_figure_and_the_rows_fates_are_the_same_count(store: SweepResult) -> None:
    entries = survival(store)
    found = alive_of(store.frame, "tracked")
    assert found.share.tolist() == pytest.approx([e.num_survived / 9 for e in entries])
    # Who is refused again came to that once; who got through later came to it none the less.
    assert (found.ends[STUCK] * 9).round().tolist() == [0, 1, 2, 0]
    frame = store.frame.assign(fate=fates(store.frame))
    here = frame[frame["migration"] == 2]["fate"].value_counts()
    assert (here[STUCK], here[ABORTED], here[CRASHED]) == (2, 1, 1)
