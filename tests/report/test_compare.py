"""Comparing runs: the same is said to be, a tampered row is named, ratios have their interval."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from p2mbatch.base.errors import InputError
from p2mbatch.base.words import Columns
from p2mbatch.report.compare import Ratio, _ratio, compare, to_text, verdict
from p2mbatch.store.results import SweepResult
from report_support import run
from store_support import rewrite, tamper, without_row
from sweep_support import one_line, p2mbatch


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return run(tmp_path_factory.mktemp("compare") / "a", policy=["tracked", "stale"])


@pytest.fixture
def second(first: SweepResult, tmp_path: Path) -> Path:
    return Path(shutil.copytree(first.path, tmp_path / "b"))


def test_two_runs_of_one_spec_are_the_same(first: SweepResult, tmp_path: Path) -> None:
    again = run(tmp_path / "again", policy=["tracked", "stale"])
    found = compare(first, again)
    assert found.equal and found.num_matched == 12 and not found.differences
    assert found.num_rows == len(first.frame)
    assert "The runs are the same" in verdict(found)
    columns = {ratio.column for ratio in found.ratios}
    assert columns == {"rebuild_ns", "save_walk_ns", "restore_ns"}
    for ratio in found.ratios:
        assert ratio.low is not None and ratio.high is not None
        assert 0 < ratio.low <= ratio.ratio * 1.0000001 and ratio.ratio <= ratio.high * 1.0000001


def test_one_tampered_value_is_named(first: SweepResult, second: Path) -> None:
    migration = tamper(second, "stray_pages", 12345)
    found = compare(first, SweepResult.open(second))
    assert not found.equal
    assert (found.num_differences, found.num_different_cells) == (1, 1)
    only = found.differences[0]
    assert (only.column, only.migration, only.b) == ("stray_pages", migration, 12345)
    rows = first.frame[(first.frame["cell"] == only.cell) & (first.frame["migration"] == migration)]
    assert only.a == rows["stray_pages"].iloc[0]
    assert only.scenario["seed"] == rows["seed"].iloc[0]
    done = p2mbatch("compare", str(first.path), str(second))
    assert done.returncode == 1
    assert only.cell in done.stdout and "stray_pages is" in done.stdout and "12345" in done.stdout
    done = p2mbatch("compare", str(first.path), str(second), "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["differences"][0]["b"] == 12345


@pytest.mark.parametrize(("value", "column"), [("bug", "outcome"), ("told", "detail")])
def test_text_that_differs_is_found_where_the_other_is_null(
    first: SweepResult, second: Path, value: str, column: str
) -> None:
    tamper(second, column, value, row=0)
    found = compare(first, SweepResult.open(second))
    assert [d.column for d in found.differences] == [column]
    assert found.differences[0].b == value


def test_measured_columns_may_differ(first: SweepResult, second: Path) -> None:
    tamper(second, "rebuild_ns", 10**9)
    assert compare(first, SweepResult.open(second)).equal


def test_a_row_that_one_run_lacks_is_a_difference(first: SweepResult, second: Path) -> None:
    migration = tamper(second, "rebuild_ns", 1)
    without_row(second, 5)
    found = compare(first, SweepResult.open(second))
    assert [(d.column, d.migration, d.b) for d in found.differences] == [
        ("outcome", migration, "no such row")
    ]


def test_cells_that_only_one_has_are_counted(first: SweepResult, tmp_path: Path) -> None:
    other = run(tmp_path / "o", policy="stale", memory=["2GiB", "3GiB"])
    found = compare(first, other)
    assert (found.num_matched, found.num_only_a, found.num_only_b) == (3, 9, 3)
    assert found.equal


def test_runs_of_one_policy_each_are_matched_across_it(tmp_path: Path) -> None:
    tracked = run(tmp_path / "t", policy="tracked", memory="630MiB")
    stale = run(tmp_path / "s", policy="stale", memory="630MiB")
    found = compare(tracked, stale)
    assert found.num_matched == 3 and not found.equal
    assert found.notes[0] == "policies: A is tracked, B is stale"
    assert found.lives[2:6] == (3, 3, 3, 0)
    assert "under A and under B: 3 end differently; intact under A alone 3" in to_text(found)
    assert {"stray_writes"} <= {difference.column for difference in found.differences}


def test_runs_with_nothing_in_common_are_refused(first: SweepResult, tmp_path: Path) -> None:
    other = run(tmp_path / "o", memory="3GiB", migrations=1)
    with pytest.raises(InputError, match=r"nothing in common with .* \(another memory, migrations"):
        compare(first, other)
    one_line(p2mbatch("compare", str(first.path), str(other.path)), 2, "no cell")


def test_other_machines_versions_and_settings_are_said_first(
    first: SweepResult, second: Path
) -> None:
    other = SweepResult.open(second)
    other.__dict__["provenance"] = {
        **first.provenance, "cpu": "Quick 9000", "numba": "0.1", "resident": "all", "jobs": 99,
    }  # fmt: skip
    found = compare(first, other)
    lines = to_text(found).splitlines()
    assert lines[2].startswith("different machines: cpu ") and "Quick 9000 in B" in lines[2]
    assert lines[3].startswith("different versions: numba ")
    assert any("resident_leaves is not compared" in line for line in lines[2:6])
    assert any("99" in line for line in lines[2:6])


def test_the_interval_holds_the_true_ratio() -> None:
    rng = np.random.default_rng(5)
    logs = np.log(1.25) + rng.normal(0, 0.2, 400)
    found = _ratio("rebuild_ns", None, logs)
    assert found.low is not None and found.high is not None
    assert found.low < 1.25 < found.high
    assert found.high - found.low < 0.1
    assert _ratio("rebuild_ns", 1, logs[:1]) == Ratio(
        "rebuild_ns", 1, 1, pytest.approx(float(np.exp(logs[0]))), None, None
    )


def test_a_run_of_the_old_model_is_compared_and_what_changed_is_said(
    first: SweepResult, second: Path
) -> None:
    """The older run, made before the columns of losses, beside one of the model that has them."""
    tamper(second, "stray_pages", 12345)

    def older_rows(cells: Columns, rows: Columns) -> None:
        del rows["lost_pages"]

    rewrite(second, older_rows)
    older = SweepResult.open(second)
    older.__dict__["provenance"] = {**first.provenance, "model_version": 1}
    newer = SweepResult(first.path)
    newer.__dict__["provenance"] = {**first.provenance, "model_version": 2}
    newer.__dict__["frame"] = first.frame.assign(lost_pages=7)
    for pair in ((older, newer), (newer, older)):
        found = compare(*pair)
        text = to_text(found)
        assert "stuck at its first migration" in text
        assert "model 1 did not count lost_pages, ghost_pages" in text
        assert {difference.column for difference in found.differences} == {"stray_pages"}
    assert "stuck at its first migration" not in to_text(compare(first, first))
