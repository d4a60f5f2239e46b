"""The performance report's measurements: ceilings, kernels beside their peers, how cost grows.

`run` measures and returns plain JSON values; p2mbatch.report.bench shows them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from p2mbatch.base.errors import InputError
from p2mbatch.base.provenance import cache_sizes, collect, num_cores
from p2mbatch.base.sizes import GIB, format_size
from p2mbatch.bench import peers
from p2mbatch.bench.cases import BenchGuest, Case, cases
from p2mbatch.bench.ceilings import CEILINGS, Ceilings
from p2mbatch.bench.growth import growth
from p2mbatch.bench.measure import Call, OtherLoad, Timing, measure_in_turn
from p2mbatch.bench.report_file import FORMAT
from p2mbatch.compiled.jit import set_num_threads

SIZES = (GIB, 16 * GIB, 128 * GIB, 512 * GIB)  # guests that are measured by default
IN_CACHE_BYTES = 1 << 18  # what any processor's second cache holds
THREAD_KERNELS = ("lookup_random", "rebuild", "restore_order9")  # shown over the threads


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    case_seconds: float  # of each case at each size, over all who do it
    ceiling_seconds: float
    max_ceiling_bytes: int
    heavy: bool  # whether slow peers run on big guests too
    min_samples: int = 5
    max_samples: int = 41

    def measure(self, calls: dict[str, Call]) -> dict[str, Timing]:
        """Return the timings of one case's calls."""
        samples = {"min_samples": self.min_samples, "max_samples": self.max_samples}
        return measure_in_turn(calls, seconds=self.case_seconds, **samples)


QUICK = Effort(0.25, 0.08, GIB, heavy=False)
FULL = Effort(3.0, 0.6, GIB, heavy=True)
# Enough to see that everything runs; its numbers mean nothing.
SMOKE = Effort(0.0, 0.0, 1 << 24, heavy=False, min_samples=2, max_samples=2)


def needed_bytes(memory_bytes: int) -> int:
    """Return the memory that measuring a guest of this size takes: its leaves, and arrays."""
    return int(memory_bytes // 512 * 1.1) + 2 * GIB


def run(
    sizes: Sequence[int] = SIZES,
    *,
    effort: Effort = QUICK,
    compile_times: dict[str, float] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure everything and return it as JSON values (docs/performance.md names the fields).

    `sizes` are guests' memory in bytes; one that does not fit this machine is left out and named.
    `say` is told what is being measured. Raises `InputError` where no size fits.
    """
    begin, others = time.monotonic(), OtherLoad()
    threads = num_cores()
    fitting, left_out = _fitting(sizes)
    with peers.built_peer() as program:
        say("ceilings")
        ceilings = Ceilings(effort.max_ceiling_bytes, seconds=effort.ceiling_seconds)
        _measure_ceilings(ceilings, threads)
        rows, scaling = list[dict[str, Any]](), list[dict[str, Any]]()
        for size in fitting:
            say(f"a guest of {format_size(size)}")
            for case in cases(BenchGuest(size, program), heavy=effort.heavy):
                rows += _case_rows(case, size, ceilings, threads, effort)
                if size == fitting[-1] and case.kernel in THREAD_KERNELS:
                    scaling += _thread_rows(case, size, threads, effort)
        say("how cost grows")
        grown = growth(max(fitting), effort.case_seconds)
    return {
        "format": FORMAT, "provenance": collect(), "seconds": time.monotonic() - begin,
        "threads": threads, "others_share": others.share(), "caches_bytes": cache_sizes(),
        "left_out": left_out, "c_peer": program is not None, "compile": compile_times or {},
        "ceilings": [*ceilings.found.values()], "rows": rows, "scaling": scaling, "growth": grown,
    }  # fmt: skip


def _fitting(sizes: Sequence[int]) -> tuple[list[int], list[dict[str, Any]]]:
    free = int(psutil.virtual_memory().available)
    needed = {size: needed_bytes(size) for size in sorted(set(sizes))}
    left_out = [
        {"memory_bytes": size, "needed": bytes_, "available": free}
        for size, bytes_ in needed.items()
        if bytes_ > free
    ]
    if len(left_out) == len(needed):
        raise InputError(
            f"--sizes: none fits: {format_size(min(sizes))} needs "
            f"{needed[min(sizes)] / GIB:.1f} GiB of memory and {free / GIB:.1f} GiB are free"
        )
    return [size for size, bytes_ in needed.items() if bytes_ <= free], left_out


def _measure_ceilings(ceilings: Ceilings, threads: int) -> None:
    """Measure the table that the report opens with, in cache and out, and the steps between."""
    for size in (IN_CACHE_BYTES, ceilings.max_bytes):
        for name in CEILINGS:
            ceilings.get(name, size)
            if threads > 1:
                ceilings.get(name, size, threads)
        ceilings.get("chase", size)
    step = IN_CACHE_BYTES >> 3
    while step < ceilings.max_bytes:
        for name in CEILINGS:
            ceilings.get(name, step)
        step <<= 3


def _case_rows(
    case: Case, size: int, ceilings: Ceilings, threads: int, effort: Effort
) -> list[dict[str, Any]]:
    calls = {"p2mbatch": case.calls["p2mbatch"], "floor": case.floor(ceilings, 1)}
    if threads > 1 and "parallel" in case.calls:
        calls["parallel"] = case.calls["parallel"]
        calls["floor_parallel"] = case.floor(ceilings, threads)
    calls |= {who: call for who, call in case.calls.items() if who != "parallel"}
    timings, rows = effort.measure(calls), []
    for who, timing in timings.items():
        on, floor = (threads, "floor_parallel") if who.endswith("parallel") else (1, "floor")
        said = {"floor_ns": timings[floor].median_ns, "floor_text": case.floor_text}
        rows.append({**_row(case, size, on, timing), "who": who, **said})
    return rows


def _thread_rows(case: Case, size: int, threads: int, effort: Effort) -> Iterator[dict[str, Any]]:
    """Measure the parallel kernel on one thread, two, four ... all."""
    for count in sorted({min(1 << k, threads) for k in range(threads.bit_length() + 1)}):
        before = set_num_threads(count)
        try:
            timing = effort.measure({"it": case.calls["parallel"]})["it"]
        finally:
            set_num_threads(before)
        yield _row(case, size, count, timing)


def _row(case: Case, size: int, threads: int, timing: Timing) -> dict[str, Any]:
    return {
        "kernel": case.kernel, "memory_bytes": size, "threads": threads, "items": case.items,
        "unit": case.unit, "ns_per_item": timing.median_ns / case.items, **timing.to_dict(),
    }  # fmt: skip
