"""The sweep command, the tables and lines that it prints, and its benchmark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from p2mbatch.guests.scenario import Scenario
from p2mbatch.report.summary import summary_table
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.survival import survival
from p2mbatch.sweeps import driver
from p2mbatch.sweeps.dry_run import estimate
from p2mbatch.sweeps.progress import ProgressReport, format_duration
from sweep_support import SOURCE, lived_by, one_line, p2mbatch, row


def test_the_command_prints_the_table_and_leaves_a_store(tmp_path: Path) -> None:
    done = p2mbatch(
        *("sweep", "--memory", "1GiB", "--policy", "tracked,stale", "--seeds", "4"),
        *("--migrations", "3", "--out", "s", "--no-report"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[:4] == ["policy", "migration", "guests", "survived"]
    tracked = next(line for line in lines if line.startswith("tracked"))
    assert tracked.split()[:6] == ["tracked", "1–3", "4", "4", "0", "0"]
    quiet = p2mbatch(
        *("sweep", "--memory", "1GiB", "--policy", "tracked,stale", "--seeds", "4"),
        *("--migrations", "3", "--out", "s", "--no-report", "--quiet"),
        cwd=tmp_path,
    )
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["sweep"], "give a spec file, a preset's name, or axes"),
        (["sweep", "headline", "--memory", "1GiB"], "--memory: SPEC 'headline' has its own axes"),
        (["sweep", "none.toml"], "none.toml: no such spec file and no preset"),
        (["sweep", "--memory", "1TiB"], "1TiB is over MAX_P2M_PFN, 512GiB"),
        (["sweep", "--memory", "1GiB", "--host-memory", "64MiB"], "--host-memory: 64MiB"),
        (["sweep", "--memory", "8KiB"], "--memory: a span of 8KiB"),
        (["sweep", "--memory", "1GiB", "--jobs", "0"], "--jobs 0"),
        (["sweep", "--memory", "1GiB", "--memory-budget", "lots"], "--memory-budget: 'lots'"),
        (["sweep", "--memory", "1GiB", "--scheduler", "tcp://x:1"], "--scheduler is for"),
        (["sweep", "--memory", "1GiB", "--out", "/proc/nothing/here"], "can't be written"),
        (["spec", "check", "none.toml"], "no such spec file"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_nothing_written(
    tmp_path: Path, args: list[str], message: str
) -> None:
    one_line(p2mbatch(*args, cwd=tmp_path), 2, message)
    assert list(tmp_path.iterdir()) == []


def test_failures_make_the_exit_code_1_and_are_named(tmp_path: Path) -> None:
    # A sample is judged cell by cell: some of these hosts are too small for their guests.
    (tmp_path / "s.toml").write_text(
        '[sample]\nn = 20\nmemory = ["256MiB", "2GiB"]\nhost_memory = "1GiB"\n'
    )
    done = p2mbatch("sweep", "s.toml", "--out", "s", "--no-report", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "cells failed" in done.stderr
    assert "--retry-failed" in done.stderr
    status = p2mbatch("status", "s", cwd=tmp_path)
    assert status.returncode == 1
    assert "InputError" in status.stdout


def test_dry_runs_answer_at_once_for_a_million_cells(tmp_path: Path) -> None:
    done = p2mbatch(
        *("sweep", "--memory", "1GiB..512GiB x2", "--sparsity", "0..0.9 +0.1"),
        *("--seeds", "10000", "--dry-run", "--out", "s"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "cells         1,000,000" in done.stdout
    assert "peak memory" in done.stdout
    assert "time          about" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_counts_past_sixty_four_bits() -> None:
    few, many = (
        estimate(
            SweepSpec.from_options(
                memory="1GiB", policy="stale,none", seeds=str(seeds), neighbours="0,0.5"
            ),
            jobs=1,
        )
        for seeds in (10**6, 2**63 - 1)
    )
    assert many.num_cells == 4 * (2**63 - 1)
    assert many.seconds / few.seconds == pytest.approx(many.num_cells / few.num_cells)
    assert many.peak_memory_bytes == few.peak_memory_bytes


def test_long_lives_are_folded_into_few_lines(tmp_path: Path, monkeypatch: Any) -> None:
    def runner(scenario: Scenario, resident: Any = "auto") -> list[dict[str, Any]]:
        lost_at = 1 + scenario.seed * 3
        rows = [row(m) for m in range(min(lost_at, 500))]
        return [*rows, row(lost_at, outcome="fault", detail="x")] if lost_at < 500 else rows

    lived_by(monkeypatch, runner)
    monkeypatch.setattr(driver, "warm_up", lambda report, kinds: None)
    spec = SweepSpec.from_options(memory="256MiB", migrations="499", seeds="100")
    result = driver.sweep(spec, tmp_path / "s", progress="quiet")
    lines = summary_table(survival(result), max_lines=10).to_text().splitlines()
    assert len(lines) == 12
    assert lines[-1].split()[1:4] == ["298–499", "100", "0"]


def test_a_line_and_a_bar_tell_the_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressReport(1000, "lines") as report:
        report.begin()
        report.skip(500)
        report.add(100, 3)
        line = report.line()
    assert line.startswith("600 of 1,000 cells done, 3 failed, ")
    assert line.endswith("left")
    with ProgressReport(1000, "bar") as report:
        report.begin()
        report.skip(500)
        report.add(100, 3)
    err = capsys.readouterr().err
    assert "600/1000" in err
    assert "failed=3" in err
    assert [format_duration(s) for s in (0.04, 12, 200, 7500, 400_000)] == [
        "40 ms",
        "12 s",
        "3 min 20 s",
        "2 h 5 min",
        "4 days 15 h",
    ]


@pytest.mark.slow
def test_the_benchmark_runs_and_gives_its_figures(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, str(SOURCE / "benchmarks" / "bench_commands.py"), "--quick"),
            *("--json", str(tmp_path / "b.json"), "large-cell", "small-cells", "peak-memory"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "b.json").read_text())
    assert len(record["figures"]) >= 6
    assert record["provenance"]["cpu"]


def test_a_dry_run_says_what_kernels_do_not_take(tmp_path: Path) -> None:
    """Kernels of two levels take all, and the newest ones have no such end."""
    options = ("sweep", "--memory", "1GiB,129GiB", "--dry-run")
    done = p2mbatch(*options, "--linux", "2.6.32,2.6.38", cwd=tmp_path)
    assert "cut           25% of the guests have more memory than their kernel takes" in done.stdout
    assert "cut" not in p2mbatch(*options, "--linux", "2.6.32,6.1", cwd=tmp_path).stdout
