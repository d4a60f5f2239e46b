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

Values = Sequence[tuple[float, float, float]]
"""What was found at each point, the least and the most that it may be."""


def run_once(memory_bytes: int, migrations: int = 1, seed: int = 0) -> None:
    """Live one sweep cell through."""
    run_scenario(Scenario.make(memory_bytes=memory_bytes, migrations=migrations, seed=seed))


def _run_cells(memory_bytes: int, count: int) -> None:
    for seed in range(count):
        run_once(memory_bytes, seed=seed)


def growth(max_bytes: int, seconds: float) -> list[dict[str, Any]]:
    """Return the curves: what grows, with what, its points and its fitted exponents.

    Each point is {x, y, low, high}; `exponent` is the slope of log y over log x of all points and
    `local` that between neighbours.
    """

    def timed(function: Callable[..., object], *args: Any) -> tuple[float, float, float]:
        calls = {"it": partial(function, *args)}
        it = measure_in_turn(calls, seconds=seconds / 8, min_samples=3, max_samples=15)["it"]
        return it.median_ns, *it.quartiles_ns

    sizes = [size for size in _SIZES if size <= max_bytes]
    leaves, rebuilds, needed, every = [], [], [], []
    for size in sizes:
        guest = StagedGuest(Scenario.make(memory_bytes=size, seed=SEED))
        guest.boot()
        leaves.append(guest.placement.num_boot_leaves)
        rebuilds.append(
            timed(guest.life.policy.operations.rebuild, guest.life.tables, guest.life.host, 0)
        )
        needed.append((guest.placement.table_bytes(resident=False),) * 3)
        every.append((guest.placement.table_bytes(resident=True),) * 3)
    pages = [size // PAGE_BYTES for size in sizes]
    middle = min(16 * GIB, max_bytes)
    counts = [1, 2, 4, 8, 16, 32]
    return [
        _curve("rebuild time", "leaves", "ns", leaves, rebuilds),
        _curve("sweep cell time", "pages", "ns", pages, [timed(run_once, size) for size in sizes]),
        _curve("sweep cell time", "migrations", "ns", counts, [
            timed(run_once, middle, count) for count in counts
        ]),
        _curve("sweep time", "cells", "ns", counts[:5], [
            timed(_run_cells, middle, count) for count in counts[:5]
        ]),
        _curve("memory, needed leaves only", "pages", "bytes", pages, needed),
        _curve("memory, every leaf", "pages", "bytes", pages, every),
    ]  # fmt: skip


def _curve(what: str, over: str, unit: str, x: Sequence[int], y: Values) -> dict[str, Any]:
    points = [
        {"x": at, "y": value, "low": low, "high": high}
        for at, (value, low, high) in zip(x, y, strict=True)
    ]
    return {"what": what, "over": over, "unit": unit, "points": points, **_exponents(points)}


def _exponents(points: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the fitted exponent of the whole curve and the local ones between neighbours."""
    x = np.log([p["x"] for p in points])
    y = np.log([p["y"] for p in points])
    local = (np.diff(y) / np.diff(x)).tolist() if len(points) > 1 else []
    exponent = float(np.polyfit(x, y, 1)[0]) if len(points) > 1 else float("nan")
    return {"exponent": exponent, "local": local}
