"""How cost grows: time and memory over pages, leaves, migrations and cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.sizes import GIB, MIB
from p2mbatch.bench.measure import measure_in_turn
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.stage import StagedGuest

SEED = 11

_SIZES = [64 * MIB << k for k in range(14)]


def run_once(memory_bytes: int, migrations: int, seed: int = 0) -> None:
    """Live one sweep cell through."""
    run_scenario(Scenario.make(memory_bytes=memory_bytes, migrations=migrations, seed=seed))


def _time(call: Callable[[], object], seconds: float) -> dict[str, float]:
    timing = measure_in_turn({"it": call}, seconds=seconds, min_samples=3, max_samples=15)["it"]
    return {"ns": timing.median_ns, "low_ns": timing.low_ns, "high_ns": timing.high_ns}


def growth(max_bytes: int, seconds: float) -> list[dict[str, Any]]:
    """Return the curves: what grows, with what, its points and its fitted exponents.

    Each point is {x, y, low, high}; `exponent` is the slope of log y over log x of all points and
    `local` that between neighbours.
    """
    sizes = [size for size in _SIZES if size <= max_bytes]
    leaves, rebuilds, cell_times, table_bytes, all_bytes = [], [], [], [], []
    for size in sizes:
        guest = StagedGuest(Scenario.make(memory_bytes=size, seed=SEED))
        guest.boot()
        placement, life = guest.placement, guest.life
        leaves.append(placement.num_boot_leaves)
        rebuilds.append(
            _time(partial(life.policy.operations.rebuild, life.tables, life.host, 0), seconds / 8)
        )
        cell_times.append(_time(partial(run_once, size, 1), seconds / 8))
        table_bytes.append(placement.table_bytes(resident=False))
        all_bytes.append(placement.table_bytes(resident=True))
    pages = [size // PAGE_BYTES for size in sizes]
    middle = min(16 * GIB, max_bytes)
    migrations = [1, 2, 4, 8, 16, 32]
    lives = [_time(partial(run_once, middle, m), seconds / 8) for m in migrations]
    cells = [1, 2, 4, 8, 16]
    many = [_time(partial(_cells, middle, c), seconds / 8) for c in cells]
    return [
        _curve("rebuild time", "leaves", leaves, rebuilds),
        _curve("sweep cell time", "pages", pages, cell_times),
        _curve("sweep cell time", "migrations", migrations, lives),
        _curve("sweep time", "cells", cells, many),
        _sized("memory, needed leaves only", pages, table_bytes),
        _sized("memory, every leaf", pages, all_bytes),
    ]


def _cells(memory_bytes: int, count: int) -> None:
    for seed in range(count):
        run_once(memory_bytes, 1, seed)


def _curve(what: str, over: str, x: Sequence[int], y: Sequence[dict[str, float]]) -> dict[str, Any]:
    points = [
        {"x": a, "y": b["ns"], "low": b["low_ns"], "high": b["high_ns"]}
        for a, b in zip(x, y, strict=True)
    ]
    return {"what": what, "over": over, "unit": "ns", "points": points, **_exponents(points)}


def _sized(what: str, x: Sequence[int], y: Sequence[int]) -> dict[str, Any]:
    points = [{"x": a, "y": b, "low": b, "high": b} for a, b in zip(x, y, strict=True)]
    return {"what": what, "over": "pages", "unit": "bytes", "points": points, **_exponents(points)}


def _exponents(points: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the fitted exponent of the whole curve and the local ones between neighbours."""
    x = np.log([p["x"] for p in points])
    y = np.log([p["y"] for p in points])
    local = (np.diff(y) / np.diff(x)).tolist() if len(points) > 1 else []
    exponent = float(np.polyfit(x, y, 1)[0]) if len(points) > 1 else float("nan")
    return {"exponent": exponent, "local": local}
