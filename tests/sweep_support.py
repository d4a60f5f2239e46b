"""What the tests of stores and sweeps share: made-up results, and processes to be killed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2mbatch.journal import CellResult
from p2mbatch.scenario import FIELDS, Scenario
from p2mbatch.schema import MEASURED_COLUMNS, ROW_COLUMNS

SOURCE = Path(__file__).resolve().parent.parent
MEASURED = [column.name for column in MEASURED_COLUMNS]


def row(migration: int, **values: Any) -> dict[str, Any]:
    """Return a result row as `run_scenario` gives it: all counts 1, outcome ok."""
    base: dict[str, Any] = {column.name: 1 for column in ROW_COLUMNS}
    base.update(migration=migration, outcome="ok", detail=None, stray_writes=0)
    base.update(values)
    return base


def rows_of(*rows: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return rows in the schema's order."""
    return [tuple(r[column.name] for column in ROW_COLUMNS) for r in rows]


def result(seed: int, error: str = "", message: str = "", **fields: Any) -> CellResult:
    """Return a finished (or failed) cell of two rows."""
    scenario = Scenario.make(**{"memory_bytes": "1GiB", "seed": seed, **fields})
    values = tuple(getattr(scenario, name) for name in FIELDS)
    rows = [] if error else rows_of(row(0), row(1))
    return CellResult(scenario.cell_id, values, rows, error, message, 1000)


def start(code: str, *args: str, **options: Any) -> subprocess.Popen[str]:
    """Start a Python process that runs `code`, with this package and this directory importable."""
    path = os.pathsep.join([str(SOURCE), str(SOURCE / "tests")])
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
