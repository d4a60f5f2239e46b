"""How fast whole commands are, each figure beside its peer or its limit, all measured in one run.

    python benchmarks/bench_commands.py [--quick] [--dir DIR] [--json FILE] [NAME ...]

NAME picks some of the measurements (see `MEASUREMENTS`); --quick uses small sizes, to see that it
works. The peer of a sweep's cell is `whole_guest.c`, which keeps every page; without a C compiler
its line says so. That of reading a save file is `cat`: the file is of a guest of 4 GiB whose pages
do not compress, written just before and so in the page cache. Files are made in DIR for a while.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import psutil

from p2mbatch.base import provenance
from p2mbatch.base.cc import find_compiler
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.sizes import parse_size
from p2mbatch.base.words import Columns
from p2mbatch.dumps.writers.image import GuestImage, image_of
from p2mbatch.dumps.writers.stream import write_stream
from p2mbatch.guests.batch.cells import columns_of
from p2mbatch.guests.batch.lives import live
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.stage import StagedGuest
from p2mbatch.guests.stepped import step_scenario
from p2mbatch.race.explorer import explore
from p2mbatch.race.names import parse_name
from p2mbatch.race.reduced import explore_reduced
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.results import SweepResult
from p2mbatch.sweeps.driver import sweep


class Sizes(NamedTuple):
    """What is measured."""

    large: str = "512GiB"
    migrations: int = 8
    small_cells: int = 200_000
    many_cells: int = 100_000
    large_cells: int = 360
    peer_seconds: float = 3.0
    repeats: int = 5
    save_file: str = "4GiB"
    races: tuple[str, ...] = ("old.never.sc.three-one-leaf", "old.never.sc.three-two-leaves")


QUICK = Sizes("8GiB", 2, 500, 2_000, 8, 0.1, 2, "64MiB", ())


class Figure(NamedTuple):
    """One line of the report."""

    what: str
    value: float
    unit: str
    beside: str = ""  # what it is held to, or what it stands beside


def timed(work: Callable[..., Any], *args: Any) -> tuple[float, Any]:
    """Return how long `work` takes, in seconds, and what it returns."""
    start = time.perf_counter()
    found = work(*args)
    return time.perf_counter() - start, found


def median_s(work: Callable[[], object], repeats: int) -> float:
    """Return the median time of `work` over so many repeats, after one that does not count."""
    work()
    return statistics.median(timed(work)[0] for _ in range(repeats))


_CHILD = """
import json, sys, time
from pathlib import Path
def status_bytes(name):
    # Not getrusage, whose peak a child inherits from the process that forked it.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name + ":"))
"""


def child(code: str, *args: object, stdin: IO[bytes] | None = None) -> Any:
    """Return the JSON value that `code` prints in a Python process of its own.

    It finds `status_bytes("VmHWM")` there, the most memory that it had, and "VmRSS", what it has.
    """
    command = [sys.executable, "-c", _CHILD + code, *map(str, args)]
    return json.loads(subprocess.run(command, stdin=stdin, capture_output=True, check=True).stdout)


def _peer_s(sizes: Sizes, directory: Path) -> float:
    """Return how long the C program takes that keeps every page, NaN without a compiler."""
    compiler, program = find_compiler(), str(directory / "whole_guest")
    if compiler is None:
        return float("nan")
    source = str(Path(__file__).with_name("whole_guest.c"))
    subprocess.run([compiler, "-O2", "-march=native", "-o", program, source], check=True)
    command = [program, str(parse_size(sizes.large) // PAGE_BYTES), str(sizes.migrations)]
    return min(float(subprocess.check_output(command, text=True).split()[0]) for _ in range(2))


def large_cell(sizes: Sizes, directory: Path) -> Iterator[Figure]:
    """One large cell on one thread beside the C program that keeps every page."""
    both = {"memory_bytes": sizes.large, "migrations": sizes.migrations, "seed": 1}
    cells = [Scenario(policy=policy, **both) for policy in ("tracked", "stale")]
    num_rows, num_stale_rows = (len(run_scenario(cell)) for cell in cells)
    tracked, stale = (median_s(partial(run_scenario, cell), sizes.repeats) for cell in cells)
    peer, name = _peer_s(sizes, directory), f"cell {sizes.large}"
    beside = "the peer" if peer > 0 else "no C compiler"
    yield Figure("C program, every page kept", peer * 1e3, "ms", beside)
    what = f"{name}, tracked, {sizes.migrations} migrations"
    yield Figure(what, tracked * 1e3, "ms", "< 45 ms")
    yield Figure("C program / tracked cell", peer / tracked, "x", ">= 300")
    # A stale guest is lost early, and a life that ends costs nothing: its time is taken per
    # migration that ran.
    what = f"{name}, stale, lost after {num_stale_rows - 1}"
    yield Figure(what, stale * 1e3, "ms", "as it ends")
    per_row = (stale / num_stale_rows) / (tracked / num_rows)
    yield Figure("stale / tracked, per event", per_row, "x", "< 2")


def _rate(spec: SweepSpec, directory: Path, jobs: int) -> float:
    """Return the cells a second of a sweep from nothing."""
    out = directory / f"rate-{jobs}"
    shutil.rmtree(out, ignore_errors=True)
    return spec.num_cells / timed(lambda: sweep(spec, out, jobs=jobs, progress="quiet"))[0]


def _bare_rate(cells: Columns, num_cells: int, num_threads: int) -> float:
    """Return the small cells a second of batches alone on so many threads, without a store."""
    with ThreadPoolExecutor(num_threads) as pool:
        begin = time.perf_counter()
        list(pool.map(lambda _: live(cells), range(-(-num_cells // len(cells["seed"])))))
        return num_cells / (time.perf_counter() - begin)


def small_cells(sizes: Sizes, directory: Path) -> Iterator[Figure]:
    """Small cells a second, end to end through the journal, beside batches without it."""
    spec = SweepSpec.from_options(memory="1GiB", seeds=str(sizes.small_cells))
    some = columns_of(list(itertools.islice(spec.expand(), 2000)))
    _rate(SweepSpec.from_options(memory="1GiB", seeds="100"), directory, 1)
    # Turn and turn about, so that a machine that grows busier does not favour any.
    turns = [
        [
            f(n)
            for f in (partial(_bare_rate, some, sizes.small_cells), partial(_rate, spec, directory))
            for n in (1, 2)
        ]
        for _ in range(3)
    ]
    stepped = timed(lambda: [step_scenario(one) for one in itertools.islice(spec.scenarios(), 200)])
    yield Figure("small cells, step by step, 1 thread", 200 / stepped[0], "cells/s", "as before")
    for what, value, unit, beside in (
        ("small cells, batches alone, 1 thread", lambda turn: turn[0], "cells/s", "the limit"),
        ("batches alone, 2 threads / 1", lambda turn: turn[1] / turn[0], "x", ">= 1.9"),
        ("small cells, 1 thread", lambda turn: turn[2], "cells/s", ""),
        ("small cells, 2 threads", lambda turn: turn[3], "cells/s", ">= 60000"),
        ("small cells, 2 threads / 1", lambda turn: turn[3] / turn[2], "x", ">= 1.7"),
    ):
        yield Figure(what, statistics.median(map(value, turns)), unit, beside)


def _count_cells(sizes: Sizes, together: Any, rates: Any) -> None:
    """Put the cells a second of this process into `rates`, once all are ready."""
    memory, migrations = sizes.large, sizes.migrations
    some = [Scenario(memory_bytes=memory, migrations=migrations, seed=i) for i in range(8)]
    run_scenario(some[0])
    together.wait()
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < sizes.peer_seconds:
        run_scenario(some[count % 8])
        count += 1
    rates.put(count / (time.perf_counter() - begin))


def _process_rate(sizes: Sizes, count: int) -> float:
    """Return the cells a second of `count` processes that share nothing but the machine."""
    spawn = multiprocessing.get_context("spawn")
    shared = sizes, spawn.Barrier(count), spawn.SimpleQueue()
    running = [spawn.Process(target=_count_cells, args=shared) for _ in range(count)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    return sum(shared[2].get() for _ in running)


def two_threads(sizes: Sizes, directory: Path) -> Iterator[Figure]:
    """Two threads over one, on large cells, beside two processes over one: the machine's limit."""
    spec = SweepSpec.from_options(
        memory=sizes.large, migrations=str(sizes.migrations), seeds=str(sizes.large_cells)
    )
    # Turn and turn about, so that a machine that grows busier does not favour either.
    turns = [
        [*(_rate(spec, directory, n) for n in (1, 2)), *(_process_rate(sizes, n) for n in (1, 2))]
        for _ in range(3)
    ]
    for what, value, unit, beside in (
        ("large cells, 1 thread", lambda turn: turn[0], "cells/s", ""),
        ("large cells, 2 threads / 1", lambda turn: turn[1] / turn[0], "x", ">= 1.8"),
        ("two processes / one, no sweep", lambda turn: turn[3] / turn[2], "x", "machine's limit"),
    ):
        yield Figure(what, statistics.median(map(value, turns)), unit, beside)


_PEAK = """
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
for layout in ("tail", "scattered", "extents"):
    run_scenario(Scenario(memory_bytes="256MiB", sparsity=0.5, layout=layout))
try:
    # What the imports needed for a moment is forgotten: the peak is then the present again.
    Path("/proc/self/clear_refs").write_text("5")
    before = status_bytes("VmRSS")
except OSError:
    before = status_bytes("VmHWM")
run_scenario(Scenario(memory_bytes=sys.argv[1], migrations=int(sys.argv[2])), sys.argv[3])
print(status_bytes("VmHWM") - before)
"""


def peak_memory(sizes: Sizes, directory: Path) -> Iterator[Figure]:
    """Peak memory of one large cell beyond the imports and the compiled kernels."""
    for resident, limit in (("auto", "< 100 MB"), ("all", "< 1.3 GiB")):
        megabytes = child(_PEAK, sizes.large, sizes.migrations, resident) / 1e6
        yield Figure(f"peak memory, --resident {resident}", megabytes, "MB", limit)


def _command(memory: str, out: Path, *options: str) -> list[str]:
    sweep_command = [sys.executable, "-m", "p2mbatch", "sweep", "--quiet", "--memory", memory]
    return [*sweep_command, "--out", str(out), *options]


def _finished(out: Path) -> int:
    try:
        return SweepResult.open(out).progress.num_finished
    except Exception:
        return 0


def many_cells(sizes: Sizes, directory: Path) -> Iterator[Figure]:
    """Memory over a long sweep, and how soon a killed one is at work again."""
    out = directory / "many"
    # More than are waited for: a sweep that is done before it is looked at can't be killed.
    total = max(10 * sizes.many_cells, 500_000)
    command = _command("1GiB", out, "--seeds", str(total), "--no-report")

    def wait_for(process: subprocess.Popen[bytes], cells: float) -> None:
        while _finished(out) < cells and process.poll() is None:
            time.sleep(0.02)

    process, memory = subprocess.Popen(command), []
    for share in (0.1, 0.9):
        wait_for(process, share * sizes.many_cells)
        memory.append(psutil.Process(process.pid).memory_info().rss / 1e6)
    wait_for(process, sizes.many_cells)
    process.kill()
    process.wait()
    before = _finished(out)
    assert before < total
    start = time.perf_counter()
    process = subprocess.Popen(command)
    wait_for(process, before + 1)
    again = time.perf_counter() - start
    process.kill()
    process.wait()
    yield Figure(f"memory at 10 % of {sizes.many_cells:,} cells", memory[0], "MB")
    yield Figure("growth from there to 90 %", memory[1] - memory[0], "MB", "about 0")
    yield Figure(f"new cells after a kill at {before:,}", again, "s", "< 1")


def start_up(sizes: Sizes, directory: Path) -> Iterator[Figure]:
    """The command for one small cell: warm, and the first time ever."""
    names = iter(range(1000))

    def once(**environment: str) -> None:
        command = _command("256MiB", directory / str(next(names)))
        subprocess.run(command, check=True, env=os.environ | environment, capture_output=True)

    warm = median_s(once, sizes.repeats)
    yield Figure("command, one small cell, warm", warm, "s", "< 0.9")
    first, _ = timed(lambda: once(P2MBATCH_CACHE_DIR=str(directory / "cache")))
    yield Figure("command, first run ever", first, "s", "< 25")


_READ = """
from p2mbatch.dumps.readers.read import read_dump
from p2mbatch.dumps.audit.findings import audit
start = time.perf_counter()
guest = read_dump(sys.argv[1])
guest.p2m.sha256()
read = time.perf_counter()
walk = audit(guest).walk
assert walk.result == "ok", walk
print(json.dumps([read - start, status_bytes("VmHWM"), time.perf_counter() - read]))
"""
_LOOP = """
start, buffer = time.perf_counter(), bytearray(1 << 20)
with open(sys.argv[1], "rb", buffering=0) as file:
    while file.readinto(buffer):
        pass
print(json.dumps([time.perf_counter() - start, status_bytes("VmHWM")]))
"""


@dataclass(frozen=True)
class FullImage(GuestImage):
    """A guest whose pages hold what does not compress, where they are not the p2m's own."""

    noise: bytes = np.random.default_rng(7).bytes(1024 * PAGE_BYTES)

    def page(self, pfn: int) -> bytes:
        start = pfn % 1024 * PAGE_BYTES
        return super().page(pfn) if pfn in self.words else self.noise[start : start + PAGE_BYTES]


def full_guest(memory: str) -> FullImage:
    """Return a 64-bit guest whose memory the host gave in shuffled extents of 2 MiB."""
    staged = StagedGuest(Scenario.make(memory_bytes=memory, build_order=9), "all")
    staged.boot()
    return FullImage(**vars(image_of(staged.life)))


def through_a_pipe(code: str, path: Path) -> list[float]:
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE) as feeder:
        return child(code, "-", stdin=feeder.stdout)


def save_file(sizes: Sizes, directory: Path) -> Iterator[Figure]:
    """Reading and auditing a save file, beside what only moves its bytes."""
    path = directory / "guest.save"
    with path.open("wb") as out:
        write_stream(full_guest(sizes.save_file), out)

    def cat() -> list[float]:
        # A shell's redirection to /dev/null, so that cat reads as it does for people.
        command = f"cat '{path}' > /dev/null"
        return [timed(lambda: subprocess.run(command, shell=True, check=True))[0]]

    runs = {
        "cat FILE > /dev/null": cat,
        "readinto loop, 1 MiB": lambda: child(_LOOP, path),
        "read_dump FILE": lambda: child(_READ, path),
        "cat FILE | read_dump -": lambda: through_a_pipe(_READ, path),
    }
    # In turns, so that noise hits all; the quickest of each counts.
    turns = [[run() for run in runs.values()] for _ in range(3)]
    best = dict(zip(runs, map(min, zip(*turns, strict=True)), strict=True))
    gigabytes = path.stat().st_size / 1e9
    yield Figure("save file, in the page cache", gigabytes, "GB")
    for what, (took, *more) in best.items():
        beside = f"{gigabytes / took:.2f} GB/s, {best[next(iter(runs))][0] / took:.2f} x cat"
        yield Figure(what, took, "s", beside)
        if more:
            yield Figure(f"{what}: peak memory", more[0] / 1e6, "MB")
        if more[1:]:
            yield Figure(f"{what}: audit", more[1], "s")


def races(sizes: Sizes, directory: Path) -> Iterator[Figure]:
    """Races whole and reduced, a race that the tests' naive explorer can finish beside that."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from race import naive

    for warm in (explore, explore_reduced):  # compiling is not measured
        warm(parse_name("old.never.sc.same-leaf"))
    name = "old.never.sc.two-each"
    whole, found = timed(explore, parse_name(name))
    slow, by_naive = timed(naive.explore, parse_name(name).to_json())
    assert by_naive["states"] == found.num_states
    yield Figure(f"{name}, whole", whole, "s", f"{slow / whole:.0f} x as fast as naive")
    for name in ("old.never.sc.four", "orig.never.sc.four", "new.never.sc.four"):
        reduced, found = timed(explore_reduced, parse_name(name))
        yield Figure(f"{name}, reduced", reduced, "s", f"{found.num_states:,} states")
    for name in sizes.races:
        reduced, classes = timed(explore_reduced, parse_name(name))
        whole, found = timed(explore, parse_name(name))
        assert set(found.classes) == set(classes.classes)
        yield Figure(f"{name}, whole", whole, "s", f"{found.num_states:,} states")
        yield Figure(f"{name}, reduced", reduced, "s", f"{whole / reduced:.0f} x as fast as whole")


# Each is given an empty folder and gives its figures as it has them.
MEASUREMENTS: dict[str, Callable[[Sizes, Path], Iterator[Figure]]] = {
    "large-cell": large_cell,
    "small-cells": small_cells,
    "two-threads": two_threads,
    "peak-memory": peak_memory,
    "many-cells": many_cells,
    "start-up": start_up,
    "save-file": save_file,
    "races": races,
}


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--dir", metavar="DIR", help="where the files are made for a while")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    unknown = set(options.names) - set(MEASUREMENTS)
    if unknown:
        parser.error(f"{unknown.pop()}: not a measurement: use {', '.join(MEASUREMENTS)}")
    sizes = QUICK if options.quick else Sizes()
    figures: list[dict[str, Any]] = []
    for name in options.names or MEASUREMENTS:
        with tempfile.TemporaryDirectory(prefix="p2mbatch-bench-", dir=options.dir) as directory:
            for f in MEASUREMENTS[name](sizes, Path(directory)):
                figures.append(f._asdict())
                print(f"{f.what:45} {f.value:12,.2f} {f.unit:8} {f.beside}", flush=True)
    if options.json:
        record = {"provenance": provenance.collect(), "figures": figures}
        Path(options.json).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
