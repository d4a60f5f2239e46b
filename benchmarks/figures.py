"""Figures of the benchmarks of whole commands: told as they are measured, then written."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from p2mbatch.base import provenance


class Figure(NamedTuple):
    """One line of the report."""

    what: str
    value: float
    unit: str
    beside: str = ""
    """What it is held to, or what it stands beside."""


Measurement = Callable[[Any, Path], Iterator[Figure]]
"""Takes the sizes and an empty folder; gives its figures as it has them."""


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median_s(work: Callable[[], object], repeats: int) -> float:
    """Return the median time of `work` over so many repeats, after one that does not count."""
    work()
    return statistics.median(seconds(work) for _ in range(repeats))


_CHILD = """
import json, resource, sys, time
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


def main(doc: str, measurements: dict[str, Measurement], full: Any, quick: Any) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(measurements))
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--dir", metavar="DIR", help="where the files are made for a while")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    unknown = set(options.names) - set(measurements)
    if unknown:
        parser.error(f"{unknown.pop()}: not a measurement: use {', '.join(measurements)}")
    figures = []
    for name in options.names or measurements:
        with tempfile.TemporaryDirectory(prefix="p2mbatch-bench-", dir=options.dir) as directory:
            for f in measurements[name](quick if options.quick else full, Path(directory)):
                figures.append(f._asdict())
                print(f"{f.what:45} {f.value:12,.2f} {f.unit:8} {f.beside}", flush=True)
    if options.json:
        record = {"provenance": provenance.collect(), "figures": figures}
        Path(options.json).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
