"""Sweeps in this process: continued, extended, failing, within their memory."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p2mbatch.base.errors import InputError
from p2mbatch.base.sizes import MIB
from p2mbatch.guests import rows as cell
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.stepped import step_scenario
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.journal import Journal
from p2mbatch.store.results import SweepResult
from p2mbatch.sweeps import driver, feeder
from sweep_support import MEASURED, exact, lived_by, row, run

GRID = {"memory": "256MiB,1GiB", "policy": "tracked,stale", "migrations": "2"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    spec = SweepSpec.from_options(**GRID, seeds="5")
    return run(spec, tmp_path_factory.mktemp("sweep") / "s")


def test_every_cell_has_the_rows_that_the_cell_itself_gives(undisturbed: SweepResult) -> None:
    frame = undisturbed.frame
    assert frame["cell"].nunique() == 20
    for scenario in undisturbed.spec.scenarios():
        own = frame[frame["cell"] == scenario.cell_id]
        for expected, got in zip(cell.run_scenario(scenario), own.to_dict("records"), strict=True):
            for name in set(expected) - set(MEASURED):
                same = got[name] == expected[name] or (
                    expected[name] is None and pd.isna(got[name])
                )
                assert same, (scenario, name)


@pytest.mark.parametrize("jobs", [1, 3])
def test_the_number_of_threads_changes_nothing(
    undisturbed: SweepResult, tmp_path: Path, jobs: int
) -> None:
    again = run(undisturbed.spec, tmp_path / "s", jobs=jobs)
    pd.testing.assert_frame_equal(exact(again), exact(undisturbed))


def test_every_leaf_resident_changes_only_their_number(
    undisturbed: SweepResult, tmp_path: Path
) -> None:
    everything = run(undisturbed.spec, tmp_path / "s", resident="all")
    drop = "resident_leaves"
    pd.testing.assert_frame_equal(
        exact(everything).drop(columns=drop), exact(undisturbed).drop(columns=drop)
    )
    assert (everything.frame[drop] >= undisturbed.frame[drop]).all()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Scenario]:
    """Return a list that every scenario that runs from now on is added to."""
    ran: list[Scenario] = []
    real = step_scenario

    def counting(scenario: Scenario, resident: Any = "auto") -> list[dict[str, Any]]:
        ran.append(scenario)
        return real(scenario, resident)

    lived_by(monkeypatch, counting)
    monkeypatch.setattr(driver, "warm_up", lambda report, kinds: None)
    return ran


def test_the_same_sweep_again_runs_nothing_and_extend_runs_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = counted(monkeypatch)
    small, large = (SweepSpec.from_options(**GRID, seeds=str(n)) for n in (2, 3))
    first = run(small, tmp_path / "s")
    assert len(ran) == 8
    assert first.progress.state == "complete"
    before = first.frame
    again = run(small, tmp_path / "s")
    assert len(ran) == 8
    pd.testing.assert_frame_equal(again.frame, before)
    with pytest.raises(InputError, match="--extend"):
        run(large, tmp_path / "s")
    extended = run(large, tmp_path / "s", extend=True)
    assert len(ran) == 12
    assert extended.progress.num_finished == 12
    kept = extended.frame[extended.frame["cell"].isin(before["cell"])]
    pd.testing.assert_frame_equal(kept.reset_index(drop=True), before)


def test_a_cell_that_sections_and_draws_share_runs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = counted(monkeypatch)
    spec = SweepSpec.from_dict(
        {
            "cells": [{"memory": "256MiB"}],
            "sample": {"n": 40, "memory": ["256MiB", "512MiB"], "seed": [0, 1]},
        }
    )
    result = run(spec, tmp_path / "s")
    assert len(ran) == len({scenario.cell_id for scenario in ran}) == 4
    assert result.progress.num_finished == 4
    assert result.progress.state == "complete"


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception | None, seeds: set[int]) -> None:
    """Make the cells of `seeds` raise `error`; the others are made up."""

    def runner(scenario: Scenario, resident: Any = "auto") -> list[dict[str, Any]]:
        if error is not None and scenario.seed in seeds:
            raise error
        return [row(0), row(1)]

    lived_by(monkeypatch, runner)
    monkeypatch.setattr(driver, "warm_up", lambda report, kinds: None)


@pytest.mark.parametrize(
    ("error", "name", "message"),
    [
        (MemoryError(), "MemoryError", "the machine has no memory left for it"),
        (InputError("memory_bytes: 12 is too little"), "InputError", "memory_bytes: 12 is too"),
        (ZeroDivisionError("division\nby zero"), "ZeroDivisionError", "division"),
    ],
)
def test_a_cell_that_raises_is_a_recorded_failure_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, name: str, message: str
) -> None:
    spec = SweepSpec.from_options(memory="256MiB", seeds="200")
    failing(monkeypatch, error, {3, 77})
    result = run(spec, tmp_path / "s")
    assert result.progress.num_finished == 198
    assert result.failures["seed"].tolist() == [3, 77]
    assert set(result.failures["error"]) == {name}
    assert result.failures["message"].str.startswith(message).all()
    # Not tried again unless asked; then what succeeds is no failure any more.
    failing(monkeypatch, None, set())
    assert run(spec, tmp_path / "s").num_failed == 2
    retried = run(spec, tmp_path / "s", retry_failed=True)
    assert retried.num_failed == 0
    assert retried.progress.num_finished == 200


def test_fail_fast_stops_at_the_first_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, RuntimeError("no"), set(range(100_000)))
    spec = SweepSpec.from_options(memory="256MiB", seeds="100000")
    result = run(spec, tmp_path / "s", fail_fast=True, jobs=1)
    # What was under way when the first was told: a fraction of a second, on any machine.
    assert 0 < result.num_failed < 50_000
    assert result.progress.state == "interrupted"


def prefix_of(result: SweepResult) -> int:
    return result._ledger.specs[0].settled_prefix


def test_a_sweep_is_whole_that_goes_on_with_its_cells_in_another_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, RuntimeError("stop here"), {150})
    monkeypatch.setattr(feeder, "_CHUNK_CELLS", 10)
    seeds = list(range(600))
    one, other = (
        SweepSpec.from_options(memory="256MiB", seeds=order) for order in (seeds, seeds[::-1])
    )
    assert one.digest == other.digest
    first = run(one, tmp_path / "s", jobs=1, fail_fast=True)
    assert first.progress.state == "interrupted"
    assert prefix_of(first) > 100
    assert first.progress.num_settled < 300
    failing(monkeypatch, None, set())
    result = run(other, tmp_path / "s", retry_failed=False)
    assert result.progress.state == "complete"
    settled = set(result.frame["seed"]) | set(result.failures["seed"])
    assert settled == set(seeds)
    assert [cell.seed for cell in result.spec.scenarios()] == seeds[::-1]


def test_a_continued_sweep_does_not_look_at_its_settled_beginning_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def runner(scenario: Scenario, resident: Any = "auto") -> list[dict[str, Any]]:
        # Later cells overtake earlier ones, so what is settled has gaps when the sweep stops.
        time.sleep(0.02 if scenario.seed % 40 == 0 else 0.0005)
        if scenario.seed == 1500:
            raise RuntimeError("stop here")
        return [row(0)]

    lived_by(monkeypatch, runner)
    monkeypatch.setattr(driver, "warm_up", lambda report, kinds: None)
    spec = SweepSpec.from_options(memory="256MiB", seeds="3000")
    result = run(spec, tmp_path / "s", jobs=6, fail_fast=True)
    settled = set(result.frame["seed"]) | set(result.failures["seed"])
    prefix = prefix_of(result)
    assert prefix > 100
    assert set(range(prefix)) <= settled
    assert prefix not in settled

    looked_up: list[Any] = []
    real = Journal.known

    def known(journal: Journal, ids: Any, *, failed_too: bool) -> Any:
        looked_up.extend(ids)
        return real(journal, ids, failed_too=failed_too)

    monkeypatch.setattr(Journal, "known", known)
    result = run(spec, tmp_path / "s", jobs=6)
    assert len(looked_up) == 3000 - prefix
    assert result.progress.num_finished == 2999
    assert prefix_of(result) == 3000


def test_a_cell_over_the_memory_budget_is_refused_with_both_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, None, set())
    monkeypatch.setattr(
        feeder,
        "memory_bytes_each",
        lambda cells, resident: np.where(cells["seed"] == 1, 64 * MIB, 1),
    )
    spec = SweepSpec.from_options(memory="256MiB", seeds="2")
    result = run(spec, tmp_path / "s", memory_budget="16MiB")
    assert result.failures["error"].tolist() == ["MemoryBudget"]
    assert result.failures["seed"].tolist() == [1]
    assert result.frame["seed"].unique().tolist() == [0]
    message = result.failures["message"].iloc[0]
    assert "64 MiB" in message
    assert "16 MiB" in message
    assert "--memory-budget" in message


def test_cells_in_flight_stay_within_the_memory_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = peak = 0
    lock = threading.Lock()

    def runner(scenario: Scenario, resident: Any = "auto") -> list[dict[str, Any]]:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return [row(0)]

    lived_by(monkeypatch, runner)
    monkeypatch.setattr(driver, "warm_up", lambda report, kinds: None)
    for name, each in (("memory_bytes_each", 10 * MIB), ("cost_ns_each", 10**9)):
        monkeypatch.setattr(
            feeder, name, lambda cells, resident, each=each: np.full(len(cells["seed"]), each)
        )
    spec = SweepSpec.from_options(memory="256MiB", seeds="30")
    run(spec, tmp_path / "wide", jobs=8)
    assert peak > 2
    peak = 0
    run(spec, tmp_path / "narrow", jobs=8, memory_budget="25MiB")
    assert peak <= 2


def test_small_cells_run_on_every_thread_and_no_more_at_once_than_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = threading.Lock()
    # Two batches that wait for each other come through only if both run at once.
    both = threading.Barrier(2, timeout=60)
    met: set[int] = set()
    running, most = 0, 0

    def runner(scenario: Scenario, resident: Any = "auto") -> list[dict[str, Any]]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            first = threading.get_ident() not in met
            met.add(threading.get_ident())
        if first:
            both.wait()
        with lock:
            running -= 1
        return [row(0)]

    lived_by(monkeypatch, runner)
    monkeypatch.setattr(driver, "warm_up", lambda report, kinds: None)
    # Some cells to a batch, so that there are enough.
    monkeypatch.setattr(feeder, "_CHUNK_CELLS", 20)
    run(SweepSpec.from_options(memory="256MiB", seeds="200"), tmp_path / "s", jobs=2)
    assert len(met) == most == 2
