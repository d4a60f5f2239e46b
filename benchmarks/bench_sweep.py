"""How fast sweeps are, each figure beside its peer or its limit, all measured in one run.

    python benchmarks/bench_sweep.py [--quick] [--json FILE] [NAME ...]

NAME picks some of the measurements (see `MEASUREMENTS`); --quick uses small sizes, to see that it
works. The peer of a cell is `whole_guest.c`, which keeps every page; without a C compiler its line
says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from p2mbatch.base import provenance
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.sizes import parse_size
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.results import SweepResult
from p2mbatch.sweeps.driver import sweep

HERE = Path(__file__).resolve().parent


class Figure(NamedTuple):
    """One line of the report."""

    what: str
    value: float
    unit: str
    limit: str
    """What it is held to, or what it stands beside."""


class Sizes(NamedTuple):
    """What is measured."""

    large: str = "512GiB"
    migrations: int = 8
    small_cells: int = 20_000
    many_cells: int = 100_000
    large_cells: int = 360
    peer_seconds: float = 3.0
    repeats: int = 5


QUICK = Sizes("8GiB", 2, 500, 2_000, 8, 0.1, 2)


def _median_s(work: Callable[[], Any], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _peer_s(sizes: Sizes, directory: Path) -> float | None:
    """Return how long the C program takes that keeps every page, None without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    program = directory / "whole_guest"
    source = str(HERE / "whole_guest.c")
    subprocess.run([compiler, "-O2", "-march=native", "-o", str(program), source], check=True)
    pages = str(parse_size(sizes.large) // PAGE_BYTES)
    times = []
    for _ in range(2):
        done = subprocess.run(
            [str(program), pages, str(sizes.migrations)], capture_output=True, text=True, check=True
        )
        times.append(float(done.stdout.split()[0]))
    return min(times)


def large_cell(sizes: Sizes, directory: Path) -> list[Figure]:
    """One large cell on one thread beside the C program that keeps every page."""
    peer = _peer_s(sizes, directory)
    figures = []
    if peer is None:
        figures.append(Figure("C program, every page kept", float("nan"), "ms", "no C compiler"))
    else:
        figures.append(Figure("C program, every page kept", peer * 1e3, "ms", "the peer"))
    tracked = 0.0
    for policy in ("tracked", "stale"):
        # A stale guest is lost early, and a life that ends costs nothing: its time is taken per
        # migration that ran.
        scenario = Scenario(
            memory_bytes=sizes.large, migrations=sizes.migrations, policy=policy, seed=1
        )
        num_rows = len(run_scenario(scenario))
        seconds = _median_s(lambda s=scenario: run_scenario(s), sizes.repeats)
        name = f"cell {sizes.large}, {policy}"
        if policy == "tracked":
            tracked = seconds
            figures.append(
                Figure(f"{name}, {sizes.migrations} migrations", seconds * 1e3, "ms", "< 45 ms")
            )
            if peer is not None:
                figures.append(Figure("C program / tracked cell", peer / seconds, "x", ">= 100"))
        else:
            ran = num_rows - 1
            figures.append(Figure(f"{name}, lost after {ran}", seconds * 1e3, "ms", "as it ends"))
            per_row = (seconds / num_rows) / (tracked / (sizes.migrations + 1))
            figures.append(Figure("stale / tracked, per event", per_row, "x", "< 2"))
    return figures


def _rate(spec: SweepSpec, directory: Path, jobs: int) -> float:
    out = directory / f"rate-{jobs}"
    shutil.rmtree(out, ignore_errors=True)
    start = time.perf_counter()
    sweep(spec, out, jobs=jobs, progress="quiet")
    return spec.num_cells / (time.perf_counter() - start)


def small_cells(sizes: Sizes, directory: Path) -> list[Figure]:
    """Small cells a second, end to end through the journal."""
    spec = SweepSpec.from_options(memory="1GiB", seeds=str(sizes.small_cells))
    _rate(SweepSpec.from_options(memory="1GiB", seeds="100"), directory, 1)
    return [
        Figure("small cells, 1 thread", _rate(spec, directory, 1), "cells/s", ""),
        Figure("small cells, 2 threads", _rate(spec, directory, 2), "cells/s", ">= 1500"),
    ]


_CELLS = """
import sys, time
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
some = [Scenario(memory_bytes=sys.argv[1], migrations=int(sys.argv[2]), seed=i) for i in range(8)]
run_scenario(some[0])
print("ready", flush=True)
sys.stdin.readline()
begin, count = time.perf_counter(), 0
while time.perf_counter() - begin < float(sys.argv[3]):
    run_scenario(some[count % 8])
    count += 1
print(count / (time.perf_counter() - begin))
"""


def _process_rate(sizes: Sizes, count: int) -> float:
    """Return the cells a second of `count` processes that share nothing but the machine."""
    arguments = [sizes.large, str(sizes.migrations), str(sizes.peer_seconds)]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _CELLS, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(count)
    ]  # fmt: skip
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return sum(float(process.communicate()[0]) for process in running)


def two_threads(sizes: Sizes, directory: Path) -> list[Figure]:
    """Two threads over one, on large cells, beside two processes over one: the machine's limit."""
    spec = SweepSpec.from_options(
        memory=sizes.large, migrations=str(sizes.migrations), seeds=str(sizes.large_cells)
    )
    # Turn and turn about, so that a machine that grows busier does not favour either.
    pairs = [
        (
            *(_rate(spec, directory, 1), _rate(spec, directory, 2)),
            *(_process_rate(sizes, 1), _process_rate(sizes, 2)),
        )
        for _ in range(3)
    ]
    ratio = statistics.median(p[1] / p[0] for p in pairs)
    limit = statistics.median(p[3] / p[2] for p in pairs)
    return [
        Figure("large cells, 1 thread", statistics.median(p[0] for p in pairs), "cells/s", ""),
        Figure("large cells, 2 threads / 1", ratio, "x", ">= 1.8"),
        Figure("two processes / one, no sweep", limit, "x", "the machine's limit"),
    ]


_PEAK = """
import resource, sys
from pathlib import Path
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

for layout in ("tail", "scattered", "extents"):
    run_scenario(Scenario(memory_bytes="256MiB", sparsity=0.5, layout=layout))
try:
    # What the imports needed for a moment is forgotten: the peak is then the present again.
    Path("/proc/self/clear_refs").write_text("5")
    before, peak = status("VmRSS"), lambda: status("VmHWM")
except OSError:
    before = peak()
run_scenario(Scenario(memory_bytes=sys.argv[1], migrations=int(sys.argv[2])), sys.argv[3])
print(peak() - before)
"""


def peak_memory(sizes: Sizes, directory: Path) -> list[Figure]:
    """Peak memory of one large cell beyond the imports and the compiled kernels."""
    figures = []
    for resident, limit in (("auto", "< 100 MB"), ("all", "< 1.3 GiB")):
        args = [sizes.large, str(sizes.migrations), resident]
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, *args], capture_output=True, text=True, check=True
        )
        megabytes = int(done.stdout) * 1024 / 1e6
        figures.append(Figure(f"peak memory, --resident {resident}", megabytes, "MB", limit))
    return figures


def _start(out: Path, num_cells: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "p2mbatch", "sweep", "--memory", "1GiB"),
            *("--seeds", str(num_cells), "--out", str(out), "--no-report", "--quiet"),
        ],
        text=True,
    )


def _finished(out: Path) -> int:
    try:
        return SweepResult.open(out).progress.num_finished
    except Exception:
        return 0


def _resident_mb(process: subprocess.Popen[str]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e6


def many_cells(sizes: Sizes, directory: Path) -> list[Figure]:
    """Memory over a long sweep, and how soon a killed one is at work again."""
    out = directory / "many"
    process = _start(out, sizes.many_cells)
    memory = {}
    for share in (0.1, 0.9):
        while _finished(out) < share * sizes.many_cells and process.poll() is None:
            time.sleep(0.1)
        memory[share] = _resident_mb(process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = _finished(out)
    start = time.perf_counter()
    process = _start(out, sizes.many_cells)
    while _finished(out) == before and process.poll() is None:
        time.sleep(0.02)
    again = time.perf_counter() - start
    process.send_signal(signal.SIGKILL)
    process.wait()
    grown = memory[0.9] - memory[0.1]
    count = f"{sizes.many_cells:,}"
    return [
        Figure(f"memory at 10 % of {count} cells", memory[0.1], "MB", ""),
        Figure("growth from there to 90 %", grown, "MB", "about 0"),
        Figure(f"new cells after a kill at {before:,}", again, "s", "< 3"),
    ]


def start_up(sizes: Sizes, directory: Path) -> list[Figure]:
    """The command for one small cell: warm, and the first time ever."""

    def once(name: str, cache: Path | None = None) -> None:
        environment = dict(os.environ)
        if cache is not None:
            environment["P2MBATCH_CACHE_DIR"] = str(cache)
        subprocess.run(
            [
                *(sys.executable, "-m", "p2mbatch", "sweep"),
                *("--memory", "256MiB", "--out", str(directory / name)),
            ],
            check=True,
            env=environment,
            capture_output=True,
        )

    names = (f"warm-{i}" for i in range(100))
    warm = _median_s(lambda: once(next(names)), sizes.repeats)
    start = time.perf_counter()
    once("first", directory / "cache")
    first = time.perf_counter() - start
    return [
        Figure("command, one small cell, warm", warm, "s", "< 1.5"),
        Figure("command, first run ever", first, "s", "< 30"),
    ]


MEASUREMENTS: dict[str, Callable[[Sizes, Path], list[Figure]]] = {
    "large-cell": large_cell,
    "small-cells": small_cells,
    "two-threads": two_threads,
    "peak-memory": peak_memory,
    "many-cells": many_cells,
    "start-up": start_up,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    unknown = set(options.names) - set(MEASUREMENTS)
    if unknown:
        parser.error(f"{unknown.pop()}: not a measurement: use {', '.join(MEASUREMENTS)}")
    sizes = QUICK if options.quick else Sizes()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="p2mbatch-bench-") as directory:
        for name in options.names or MEASUREMENTS:
            for figure in MEASUREMENTS[name](sizes, Path(directory)):
                figures.append(figure)
                print(
                    f"{figure.what:45} {figure.value:12,.2f} {figure.unit:8} {figure.limit}",
                    flush=True,
                )
    if options.json:
        record = {
            "provenance": provenance.collect(),
            "figures": [figure._asdict() for figure in figures],
        }
        Path(options.json).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
