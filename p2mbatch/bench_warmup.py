"""Call every kernel of the performance report once on a tiny guest, so that all are compiled."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from p2mbatch.bench_cases import BenchGuest, cases
from p2mbatch.bench_growth import run_once
from p2mbatch.bench_measure import CEILINGS, Ceilings
from p2mbatch.geometry import MIB

SMALL_BYTES = 64 * MIB


def warm_up() -> dict[str, float]:
    """Return the seconds that each group of kernels took to be ready."""
    times: dict[str, float] = {}

    def timed(name: str, call: Callable[[], object]) -> None:
        begin = time.perf_counter()
        call()
        times[name] = times.get(name, 0.0) + time.perf_counter() - begin

    guests: list[BenchGuest] = []
    timed("boot", lambda: guests.append(BenchGuest(SMALL_BYTES, None)))
    for case in cases(guests[0], heavy=False):
        for who in ("p2mbatch", "parallel"):
            if who in case.calls:
                group = case.kernel if who == "p2mbatch" else "parallel"
                timed(group.partition("_order")[0], case.calls[who])
    timed("sweep_cell", lambda: run_once(SMALL_BYTES, 1))
    ceilings = Ceilings(1 << 16, seconds=0.0)
    timed("ceilings", lambda: ceilings.get("chase", 1 << 16))
    for name in CEILINGS:
        timed("ceilings", partial(ceilings.get, name, 1 << 16))
        timed("ceilings", partial(ceilings.get, name, 1 << 16, 2))
    return times
