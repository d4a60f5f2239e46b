"""The tables of a sweep over releases of Linux."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd

from p2mbatch.report.eras import kernel_tables
from p2mbatch.store.columns import COLUMNS

PLAIN = {"int64": 0, "float64": 0.0, "str": ""}


def row(cell: str, linux: str, policy: str, migration: int, **told: Any) -> dict[str, Any]:
    made = {column.name: PLAIN[column.dtype] for column in COLUMNS}
    made |= {"cell": cell, "linux": linux, "policy": policy, "migration": migration}
    return made | {"outcome": "ok", "detail": None, "layout": "tail"} | told


ROWS = [
    row("a", "5.10", "linear-4.4", 0),
    row("a", "5.10", "linear-4.4", 1, lost_pages=7, structure_bytes=8192),
    row("b", "2.6.32", "two-level-none", 0),
    row("b", "2.6.32", "two-level-none", 1, structure_bytes=4096, entries_written=3),
    row("b", "2.6.32", "two-level-none", 2, outcome="save-failed", detail="map-fl-failed 0"),
]


def tables(rows: list[dict[str, Any]]) -> list[Any]:
    frame = pd.DataFrame(rows)
    # What a report keeps of a large run is less.
    result: Any = SimpleNamespace(frame=frame, compact=frame[["cell", "linux"]].astype("category"))
    return kernel_tables(result)


def test_kernels_stand_by_age_with_fates_and_what_mended_them() -> None:
    matrix, costs = tables(ROWS)
    columns = {column.title: column.values for column in matrix.columns}
    assert columns["Linux"] == ["2.6.32", "5.10"]
    assert columns["policy"] == ["two-level-none", "linear-4.4"]
    assert columns["stuck"] == [1, 0]
    assert columns["silently corrupted"] == [0, 1]
    assert columns["lost pages"] == [0, 7]
    first, second = columns["what mended its faults"]
    assert "built-once: 2.6.33, commit fa24ba62ea2" in first
    assert "last-pages: 5.14 and stable series of 2021, commit 4b511d5bfa74" in second
    costly = {column.title: column.values for column in costs.columns}
    assert costly["structures"] == [4096, 8192]
    assert costly["entries that a resume writes"] == [3, 0]


def test_runs_of_one_release_or_none_have_no_such_tables() -> None:
    assert tables(ROWS[:2]) == []
    assert tables([{**entry, "linux": ""} for entry in ROWS]) == []
