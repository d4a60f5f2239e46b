"""What the tests of figures and reports share: real sweeps, and large made-up tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from p2mbatch.model.fates import DAMAGE
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.columns import COLUMNS, OUTCOMES
from p2mbatch.store.results import SweepResult
from p2mbatch.sweeps.driver import sweep

QUESTION = "What becomes of <small> guests & their lists?"


def run(out: Path, question: str = QUESTION, **grid: Any) -> SweepResult:
    """Run a small sweep for real."""
    fields: dict[str, Any] = {"memory": ["630MiB", "2GiB"], "seed": "0..2", "migrations": 2, **grid}
    spec = SweepSpec.from_dict({"question": question, "grid": fields})
    return sweep(spec, out, progress="quiet")


def made_up(num_cells: int, migrations: int = 3, num_sizes: int = 9) -> pd.DataFrame:
    """Return a table of `num_cells` made-up cells of all policies, layouts and outcomes.

    The numbers mean nothing: this is for the looks of figures with more cells than a test can run.
    """
    rng = np.random.default_rng(1)
    cell = np.repeat(np.arange(num_cells), migrations + 1)
    migration = np.tile(np.arange(migrations + 1), num_cells)
    size = (2 ** np.linspace(28, 39, num_sizes)).astype(np.int64) // 4096 * 4096
    memory = size[cell % num_sizes]
    values: dict[str, Any] = {
        c.name: np.full(len(cell), "", object) if c.dtype == "str" else np.ones(len(cell), c.dtype)
        for c in COLUMNS
    }
    values |= {
        "cell": np.char.zfill(cell.astype(str), 32),
        "memory_bytes": memory,
        "sparsity": (cell // num_sizes % 10) / 10,
        "layout": np.array(["tail", "scattered", "extents"])[cell // 7 % 3],
        "policy": np.array(["tracked", "stale", "none"])[cell // 3 % 3],
        "migrations": np.full(len(cell), migrations),
        "host_memory_bytes": 4 * memory,
        "neighbour_memory_bytes": memory,
        "word_bytes": np.full(len(cell), 8),
        "neighbours": (cell // 11 % 40) / 40,
        "guest": np.full(len(cell), "", object),
        "seed": cell // 13 % 7,
        "migration": migration,
        "outcome": np.full(len(cell), "ok", object),
        "detail": np.full(len(cell), None, object),
        "stray_writes": np.where(cell // 3 % 3 == 1, rng.integers(0, 70_000, len(cell)), 0),
        **dict.fromkeys(DAMAGE[1:], np.zeros(len(cell), np.int64)),
        "leaves": memory >> 21,
        "entries_written": memory >> 21,
        "structure_overhead": 0.002 + (cell // num_sizes % 10) / 1000,
        "rebuild_ns": (memory >> 21) * rng.integers(1, 9, len(cell)) + 1,
        "save_walk_ns": (memory >> 21) * rng.integers(1, 9, len(cell)) + 1,
        "restore_ns": (memory >> 21) * rng.integers(1, 90, len(cell)) + 1,
    }
    frame = pd.DataFrame(values)[[c.name for c in COLUMNS]]
    ends = rng.integers(1, migrations + 1, num_cells)[cell]
    lost = (frame["policy"] != "tracked") & (migration == ends)
    frame.loc[lost, "outcome"] = np.array(OUTCOMES[1:])[cell[lost] % (len(OUTCOMES) - 1)]
    return frame[(frame["policy"] == "tracked") | (migration <= ends)].reset_index(drop=True)
