"""Stores of as many made-up cells as are asked for, written by the journal a block at a time.

    python benchmarks/made_up_store.py OUT [CELLS]

What the rows say is invented: this is for the journal's rate and for reports of a million cells.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from p2mbatch.base import provenance
from p2mbatch.base.sizes import GIB, MIB
from p2mbatch.base.words import Columns, Words
from p2mbatch.guests.fields import FIELDS, ScenarioFields
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.blocks import Block, Cells, Failed
from p2mbatch.store.columns import BY_NAME, ROW_COLUMNS
from p2mbatch.store.journal import Journal

BLOCK_CELLS = 20_000

POLICIES, LAYOUTS = ["tracked", "stale", "none"], ["tail", "scattered", "extents"]

OUTCOMES = ["ok", "save-failed", "fault", "misdirected"]

DETAILS = ["mfn is not one of the guest's", "a page without a frame"]


def _words(dice: np.random.Generator, words: list[str], number: int) -> Words:
    return Words(dice.integers(0, len(words), number, dtype=np.int32), words)


def _cells(dice: np.random.Generator, first: int, number: int) -> Cells:
    """Return cells of which each has another size and seed."""
    sizes = np.exp(dice.uniform(np.log(512 * MIB), np.log(32 * GIB), number)).astype(np.int64)
    memory = sizes - sizes % MIB
    values: Columns = {}
    for name in FIELDS:
        plain = ScenarioFields.model_fields[name].default
        if BY_NAME[name].dtype == "str":
            values[name] = Words(np.zeros(number, np.int32), [plain])
        else:
            start = 0 if not isinstance(plain, int | float) else plain
            values[name] = np.full(number, start, BY_NAME[name].dtype)
    values |= {
        "memory_bytes": memory,
        "sparsity": dice.integers(0, 9000, number) / 10_000,
        "layout": _words(dice, LAYOUTS, number),
        "migrations": np.full(number, 3),
        "policy": _words(dice, POLICIES, number),
        "host_memory_bytes": 4 * memory,
        "neighbours": dice.integers(0, 10_000, number) / 10_000,
        "neighbour_memory_bytes": memory,
        "seed": np.arange(first, first + number),
    }
    ids = np.frombuffer(dice.bytes(16 * number), np.uint8).reshape(-1, 16)
    return Cells(ids, values)


def block(dice: np.random.Generator, first: int, number: int) -> Block:
    """Return `number` cells with their rows."""
    cells = _cells(dice, first, number)
    policy, memory = cells.values["policy"], np.asarray(cells.values["memory_bytes"])
    assert isinstance(policy, Words)
    end = np.where(policy.codes == 0, 4, dice.integers(2, 5, number)).astype(np.int32)
    total = int(end.sum())
    each = np.repeat(np.arange(number), end)
    migration = np.arange(total) - np.repeat(np.cumsum(end) - end, end)
    is_end = (migration == end[each] - 1) & (policy.codes[each] != 0)
    code = np.where(is_end, dice.integers(0, len(OUTCOMES), total), 0).astype(np.int32)
    leaves = memory[each] >> 21
    rows: dict[str, Any] = {
        c.name: np.zeros(total, c.dtype) for c in ROW_COLUMNS if c.dtype != "str"
    }
    rows |= {
        "migration": migration,
        "outcome": Words(code, OUTCOMES),
        "detail": Words(np.where(code > 0, code % 2, -1).astype(np.int32), DETAILS),
        "stray_writes": np.where(policy.codes[each] == 1, dice.integers(0, 70_000, total), 0),
        "leaves": leaves,
        "structure_overhead": 0.002 + dice.random(total) / 1000,
        "entries_written": leaves,
        "rebuild_ns": leaves * dice.integers(1, 9, total) + 1,
        "save_walk_ns": leaves * dice.integers(1, 9, total) + 1,
        "restore_ns": leaves * dice.integers(1, 90, total) + 1,
    }
    none = Words(np.zeros(0, np.int32), [])
    nobody = Cells(cells.ids[:0], {n: _none(column) for n, column in cells.values.items()})
    in_order: Columns = {column.name: rows[column.name] for column in ROW_COLUMNS}
    return Block(
        cells,
        np.full(number, 20_000),
        end,
        in_order,
        Failed(nobody, none, none),
    )


def _none(column: Any) -> Any:
    return Words(column.codes[:0], column.words) if isinstance(column, Words) else column[:0]


def write(out: Path, num_cells: int, seed: int = 1) -> tuple[int, float]:
    """Write a store of made-up cells; return its rows and the seconds that the journal took."""
    dice, num_rows, took = np.random.default_rng(seed), 0, 0.0
    spec = SweepSpec.from_dict({"sample": {"memory": "512MiB..32GiB", "n": num_cells}})
    with Journal.open(out) as journal:
        journal.admit(spec, resident="auto", extend=False)
        journal.begin_run(provenance.collect() | {"engine": "threads", "jobs": 2, "policies": {}})
        for first in range(0, num_cells, BLOCK_CELLS):
            made = block(dice, first, min(BLOCK_CELLS, num_cells - first))
            start = time.perf_counter()
            journal.commit(made, first + BLOCK_CELLS, first + BLOCK_CELLS)
            took += time.perf_counter() - start
            num_rows += int(made.num_rows.sum())
        journal.end_run("done", complete=True)
    return num_rows, took


if __name__ == "__main__":
    rows, seconds = write(Path(sys.argv[1]), int((sys.argv[2:] or ["1000000"])[0]))
    print(f"{rows:,} rows, {rows / seconds:,.0f} rows/s")
