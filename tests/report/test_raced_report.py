"""What a run says of guests that several CPUs grow at once: rates with intervals, by kernel."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from p2mbatch.base.rates import CONFIDENCE, rate
from p2mbatch.cli import cli
from p2mbatch.report.asked import answers
from p2mbatch.report.costs import costs_of
from p2mbatch.report.raced import raced_table, raced_told
from p2mbatch.report.sweep import html, to_markdown
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.raced import raced_lines
from p2mbatch.store.results import SweepResult
from p2mbatch.sweeps.driver import sweep

GRID: dict[str, Any] = {
    "memory": "2GiB", "sparsity": 0.5, "host_memory": "8GiB", "grow": "64KiB",
    "cpus": [1, 2], "policy": ["tracked", "late-list"], "seeds": 60,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return sweep(
        SweepSpec.from_dict({"grid": GRID}), tmp_path_factory.mktemp("raced") / "run", jobs=1
    )


def test_each_kernel_has_its_rates(run: SweepResult) -> None:
    """Against rows counted one by one, cell by cell."""
    frame = run.frame
    lines = raced_lines(run.compact)
    assert [(line.kernel, line.num_cpus) for line in lines] == [
        ("tracked", 1), ("tracked", 2), ("late-list", 1), ("late-list", 2)
    ]  # fmt: skip
    alpha = (1 - CONFIDENCE) / 16
    for line in lines:
        own = frame[(frame["policy"] == line.kernel) & (frame["cpus"] == line.num_cpus)]
        rows = list(own[own["migration"] > 0].itertuples())
        crashed = {row.cell for row in rows if row.outcome in ("bug", "fault")}
        wrong = {row.cell for row in rows if row.outcome == "misdirected"}
        lost = {row.cell for row in rows if row.lost_pages}
        stray = {row.cell for row in rows if row.stray_writes}
        assert line.num_guests == 60
        assert line.crashed == rate(len(crashed), 60, alpha)
        assert line.wrong == rate(len(wrong), 60, alpha)
        assert line.lost == rate(len(lost), 60, alpha)
        assert line.hurt == rate(len(crashed | wrong | lost | stray), 60, alpha)
        assert (line.hurt.count > 10) == (line.num_cpus == 2)


def test_the_report_says_so(run: SweepResult) -> None:
    [sentence] = raced_told(run.compact)
    assert sentence.startswith("Growth by 2 CPUs at once hurt ")
    assert "under tracked" in sentence and "99%" in sentence
    table = raced_table(run.compact)
    assert table is not None and table.num_rows == 4
    frame = run.compact
    told = answers("", frame, [], costs_of(frame), [])
    assert sentence in told.others
    page = html(run)
    assert "Growing on several CPUs at once" in page and sentence in page
    mail = to_markdown(run)
    assert "## Growing on several CPUs at once" in mail and "late-list" in mail


def test_other_runs_say_nothing_of_it(tmp_path: Any) -> None:
    spec = SweepSpec.from_dict({"grid": {"memory": "16MiB", "sparsity": 0.5, "grow": "64KiB"}})
    frame = sweep(spec, tmp_path / "run", jobs=1).compact
    assert raced_lines(frame) == [] and raced_told(frame) == [] and raced_table(frame) is None


def test_the_command_ends_in_the_rates(tmp_path: Any) -> None:
    options = ["--memory", "64MiB", "--sparsity", "0.5", "--grow", "256KiB", "--cpus", "2"]
    done = CliRunner().invoke(
        cli, ["sweep", *options, "--seeds", "3", "--no-report", "--out", str(tmp_path / "run")]
    )
    assert done.exit_code == 0, done.output
    assert "lost pages" in done.output and "Clopper and Pearson" in done.output
    refused = CliRunner().invoke(cli, ["sweep", *options, "--policy", "stale"])
    assert "policy stale at once is not modelled" in str(refused.exception)
