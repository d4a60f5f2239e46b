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


def run_cells(memory_bytes: int, migrations: int = 1, count: int = 1) -> None:
    """Live `count` sweep cells through."""
    for seed in range(count):
        run_scenario(Scenario.make(memory_bytes=memory_bytes, migrations=migrations, seed=seed))


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
        _curve("sweep cell time", "pages", "ns", pages, [timed(run_cells, size) for size in sizes]),
        _curve("sweep cell time", "migrations", "ns", counts, [
            timed(run_cells, middle, migrations) for migrations in counts
        ]),
        _curve("sweep time", "cells", "ns", counts[:5], [
            timed(run_cells, middle, 1, count) for count in counts[:5]
        ]),
        _curve("memory, needed leaves only", "pages", "bytes", pages, needed),
        _curve("memory, every leaf", "pages", "bytes", pages, every),
    ]  # fmt: skip


def _curve(what: str, over: str, unit: str, x: Sequence[int], y: Any) -> dict[str, Any]:
    """Return one curve; `y` are triples: what was found, the least and the most that it may be."""
    names = ("x", "y", "low", "high")
    points = [dict(zip(names, (at, *found), strict=True)) for at, found in zip(x, y, strict=True)]
    return {"what": what, "over": over, "unit": unit, "points": points, **_exponents(points)}


def _exponents(points: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the fitted exponent of the whole curve and the local ones between neighbours."""
    x = np.log([p["x"] for p in points])
    y = np.log([p["y"] for p in points])
    local = (np.diff(y) / np.diff(x)).tolist() if len(points) > 1 else []
    exponent = float(np.polyfit(x, y, 1)[0]) if len(points) > 1 else float("nan")
    return {"exponent": exponent, "local": local}
