"""How long the kernels take to compile, and to load from their cache.

`python -m p2mbatch.bench.ready FD GROUP` calls every kernel of the performance report's group once
on a tiny guest and prints the seconds that each took, as JSON; it ends where the pipe FD does. The
groups share no kernel that Python calls, so two processes can compile them into one cache at once.
Importing this file loads no kernel: where they are cached is settled when they are loaded.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from p2mbatch.base.held import end_with, held_process
from p2mbatch.base.signals import removed_at_end

Calls = Iterator[tuple[str, Callable[[], object]]]


def _serial() -> Calls:
    """Return what to call on one thread, by name; each must be called before the next."""
    from p2mbatch.base.sizes import MIB
    from p2mbatch.bench.cases import BenchGuest, cases
    from p2mbatch.bench.growth import run_cells

    guests: list[BenchGuest] = []
    yield "boot", lambda: guests.append(BenchGuest(64 * MIB))
    for case in cases(guests[0], heavy=False):
        yield case.kernel.partition("_order")[0], case.calls["p2mbatch"]
    yield "sweep_cell", partial(run_cells, 64 * MIB)


def _parallel() -> Calls:
    """Return the parallel kernels, with nothing to do: none needs a guest that has booted."""
    import numpy as np

    from p2mbatch.base.sizes import MIB
    from p2mbatch.bench.cases import bench_scenario
    from p2mbatch.compiled import ceilings as kc
    from p2mbatch.compiled.lookup import lookup_chunks
    from p2mbatch.compiled.m2p import m2p_chunks
    from p2mbatch.compiled.policies.tracked import rebuild_mids
    from p2mbatch.compiled.restore import restore_slots
    from p2mbatch.compiled.save import walk_mids
    from p2mbatch.guests.stage import StagedGuest

    life = StagedGuest(bench_scenario(64 * MIB), "all").life
    t, h = life.tables, life.host
    none, left = np.zeros(0, np.int64), np.zeros(0, np.uint8)
    yield "lookup_parallel", partial(lookup_chunks, t.words, t.leaf_slot, 0, none, none, none)
    yield "lookup_m2p_parallel", partial(m2p_chunks, t, h, none, none)
    yield "rebuild_parallel", partial(rebuild_mids, t, 0, none, none)
    yield "save_walk_parallel", partial(walk_mids, t, h, none, 0, 0)
    yield "restore_parallel", partial(restore_slots, t, h, 0, left)
    for name, args in (("read", (none,)), ("fill", (none, 7)), ("copy", (none, none)),
                       ("gather", (none, none, none))):  # fmt: skip
        yield "ceilings", partial(getattr(kc, name), *args)
        yield "ceilings", partial(getattr(kc, f"{name}_parallel"), *args, 0)
    yield "ceilings", partial(kc.chase, none, 0)


GROUPS = {"serial": _serial, "parallel": _parallel}


def warm_up(group: str) -> dict[str, float]:
    """Return the seconds that each of the kernels of `group` took to be ready."""
    times: dict[str, float] = {}
    for name, call in GROUPS[group]():
        begin = time.perf_counter()
        call()
        times[name] = times.get(name, 0.0) + time.perf_counter() - begin
    return times


def _run(groups: Iterable[str], folder: str) -> dict[str, float]:
    """Get the kernels of `groups` ready at once, a process each; return their seconds."""
    environment, begin = {**os.environ, "P2MBATCH_CACHE_DIR": folder}, time.perf_counter()
    pipe, times = subprocess.PIPE, dict[str, float]()
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(
                held_process(
                    "p2mbatch.bench.ready", group,
                    env=environment, stdout=pipe, stderr=pipe, text=True,
                )
            )
            for group in groups
        ]  # fmt: skip
        for process in running:
            text, error = process.communicate()
            if process.returncode:
                raise RuntimeError(f"the kernels could not be compiled:\n{error}")
            times.update(json.loads(text))
    return {**times, "all": time.perf_counter() - begin}


@contextlib.contextmanager
def fresh_cache() -> Iterator[dict[str, float]]:
    """Compile every kernel of the report into a new cache, then load it in other processes.

    Yields the seconds that each took, once compiled (`compile_..._s`) and once loaded
    (`load_..._s`); `all` is by the clock, interpreter and imports included. Inside the context the
    environment points at that cache, so that what is measured next is neither compiled again nor
    taken from a cache that says nothing about this build.
    """
    with (
        tempfile.TemporaryDirectory(prefix="p2mbatch-bench-cache-") as folder,
        removed_at_end(folder),
    ):
        times = {f"compile_{name}_s": s for name, s in _run(GROUPS, folder).items()}
        for group in GROUPS:
            for name, seconds in _run((group,), folder).items():
                times[f"load_{name}_s"] = times.get(f"load_{name}_s", 0.0) + seconds
        before = dict(os.environ)
        os.environ["P2MBATCH_CACHE_DIR"] = folder
        try:
            yield times
        finally:
            os.environ.clear()
            os.environ.update(before)


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    print(json.dumps(warm_up(sys.argv[2])))
