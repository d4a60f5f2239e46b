"""What the tests of stores and sweeps share: made-up results, and processes to be killed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from p2mbatch.base import provenance
from p2mbatch.guests.batch import lives, one
from p2mbatch.guests.fields import FIELDS
from p2mbatch.guests.scenario import Scenario
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.blocks import CellResult, block_of
from p2mbatch.store.columns import MEASURED_COLUMNS, ROW_COLUMNS
from p2mbatch.store.journal import Journal
from p2mbatch.store.results import SweepResult
from p2mbatch.sweeps import driver

SOURCE = Path(__file__).resolve().parent.parent
MEASURED = [column.name for column in MEASURED_COLUMNS]


def row(migration: int, **values: Any) -> dict[str, Any]:
    """Return a result row as `run_scenario` gives it: all counts 1, outcome ok."""
    base: dict[str, Any] = {column.name: 1 for column in ROW_COLUMNS}
    base.update(migration=migration, outcome="ok", detail=None, stray_writes=0)
    base.update(values)
    return base


def lived_by(monkeypatch: pytest.MonkeyPatch, runner: Callable[..., list[dict[str, Any]]]) -> None:
    """Have each cell lived by `runner`, which is `step_scenario` as far as a batch is concerned."""
    monkeypatch.setattr(lives, "covered", lambda cells: np.zeros(len(cells["seed"]), np.bool_))
    # None of these is stopped within a cell.
    monkeypatch.setattr(
        one, "step_scenario", lambda cell, resident, is_stopped: runner(cell, resident)
    )


def rows_of(*rows: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return rows in the schema's order."""
    return [tuple(r[column.name] for column in ROW_COLUMNS) for r in rows]


def result(seed: int, error: str = "", message: str = "", **fields: Any) -> CellResult:
    """Return a finished (or failed) cell of two rows."""
    scenario = Scenario.make(**{"memory_bytes": "1GiB", "seed": seed, **fields})
    values = tuple(getattr(scenario, name) for name in FIELDS)
    rows = [] if error else rows_of(row(0), row(1))
    return CellResult(scenario.cell_id, values, rows, error, message, 1000)


def commit(journal: Journal, results: Sequence[CellResult], num_done: int) -> None:
    """Write cells one by one made up, in one transaction."""
    journal.commit(block_of(results), num_done)


STORE_SPEC = SweepSpec.from_options(memory="1GiB", seeds="100000")


def fill(directory: Path, seeds: range, spec: SweepSpec = STORE_SPEC) -> None:
    """Make or continue a store with the made-up cells of `seeds`."""
    with Journal.open(directory) as journal:
        journal.admit(spec, resident="auto", extend=False)
        journal.begin_run(provenance.collect(["p2mbatch", "sweep"]))
        journal.commit(block_of([result(seed) for seed in seeds]), len(seeds))
        journal.end_run("done", complete=False)


def start(code: str, *args: str, **options: Any) -> subprocess.Popen[str]:
    """Start a Python process that runs `code`, with this package and this directory importable."""
    path = os.pathsep.join([str(SOURCE), str(SOURCE / "tests"), str(SOURCE / "tests" / "store")])
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        **options,
    )


def command(*args: str) -> list[str]:
    """Return the command line of `p2mbatch args`."""
    return [sys.executable, "-m", "p2mbatch", *args]


def p2mbatch(
    *args: str, cwd: Path | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        command(*args), capture_output=True, text=True, timeout=300, cwd=cwd, **options
    )


def one_line(process: subprocess.CompletedProcess[str], code: int, *parts: Sequence[str]) -> None:
    """Assert that a command failed as commands should: one line, the code, no traceback."""
    assert process.returncode == code, process.stderr
    assert "Traceback" not in process.stderr
    last = process.stderr.strip().splitlines()[-1]
    for part in parts:
        assert part in last, last


def exact(result: SweepResult) -> pd.DataFrame:
    """Return the table without what was measured."""
    return result.frame.drop(columns=MEASURED)


def run(spec: SweepSpec, out: Path, **options: Any) -> SweepResult:
    """Sweep without a word."""
    return driver.sweep(spec, out, progress="quiet", **options)


KILL_SPEC = """
[grid]
memory = ["1GiB", "4GiB", "16GiB"]
sparsity = [0, 0.5]
policy = ["tracked", "stale"]
migrations = 4
seeds = 4000
"""


def finished(out: Path) -> int:
    """Return how many cells the store has by now, also before it has a table."""
    try:
        return SweepResult.open(out).progress.num_finished
    except Exception:
        return 0


def wait_for(out: Path, num_cells: int, process: subprocess.Popen[Any]) -> None:
    """Return when the store has `num_cells` cells and its process still runs."""
    deadline = time.monotonic() + 180
    while finished(out) < num_cells:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"no {num_cells} cells while it ran: {process.communicate()}")
        time.sleep(0.02)


def sweep_process(spec: Path, out: Path, *more: str) -> subprocess.Popen[Any]:
    """Start the command for `spec`."""
    return subprocess.Popen(
        command("sweep", str(spec), "--out", str(out), "--no-report", *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
