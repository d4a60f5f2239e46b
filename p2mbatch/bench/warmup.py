"""Call every kernel of the performance report once on a tiny guest, so that all are compiled.

`python -m p2mbatch.bench_warmup GROUP` prints the seconds that each took, as JSON. The groups
share no kernel that Python calls, so two processes can compile them into one cache at once.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from p2mbatch.base.sizes import MIB
from p2mbatch.bench.cases import BenchGuest, cases, place_guest
from p2mbatch.bench.growth import run_once
from p2mbatch.compiled import ceilings as kc
from p2mbatch.compiled import m2p as bulk
from p2mbatch.compiled.lookup import lookup_chunks
from p2mbatch.compiled.policies.tracked import rebuild_mids
from p2mbatch.compiled.restore import restore_slots
from p2mbatch.compiled.save import walk_mids

GROUPS = ("serial", "parallel")

SMALL_BYTES = 64 * MIB


def warm_up(group: str) -> dict[str, float]:
    """Return the seconds that each of the kernels of `group` took to be ready."""
    times: dict[str, float] = {}

    def timed(name: str, call: Callable[[], object]) -> None:
        begin = time.perf_counter()
        call()
        times[name] = times.get(name, 0.0) + time.perf_counter() - begin

    if group == "serial":
        guests: list[BenchGuest] = []
        timed("boot", lambda: guests.append(BenchGuest(SMALL_BYTES, None)))
        for case in cases(guests[0], heavy=False):
            timed(case.kernel.partition("_order")[0], case.calls["p2mbatch"])
        timed("sweep_cell", partial(run_once, SMALL_BYTES, 1))
        return times
    # None of these needs a guest that has booted: there is nothing for them to do.
    t, h = place_guest(SMALL_BYTES)
    none, left = np.zeros(0, np.int64), np.zeros(0, np.uint8)
    for name, call in (
        ("lookup", partial(lookup_chunks, t.words, t.leaf_slot, 0, none, none, none)),
        ("lookup_m2p", partial(bulk.m2p_chunks, t, h, none, none)),
        ("rebuild", partial(rebuild_mids, t, 0, none, none)),
        ("save_walk", partial(walk_mids, t, h, none, 0, 0)),
        ("restore", partial(restore_slots, t, h, 0, left)),
    ):
        timed(f"{name}_parallel", call)
    for ceiling in (
        partial(kc.read, none),
        partial(kc.read_parallel, none, 0),
        partial(kc.fill, none, 7),
        partial(kc.fill_parallel, none, 7, 0),
        partial(kc.copy, none, none),
        partial(kc.copy_parallel, none, none, 0),
        partial(kc.gather, none, none, none),
        partial(kc.gather_parallel, none, none, none, 0),
        partial(kc.chase, none, 0),
    ):
        timed("ceilings", ceiling)
    return times


if __name__ == "__main__":
    print(json.dumps(warm_up(sys.argv[1])))
