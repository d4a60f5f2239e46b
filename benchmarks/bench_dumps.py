"""How fast a save file is read and audited, beside `cat` and a plain readinto loop, in one run.

    python benchmarks/bench_dumps.py [--quick] [--dir DIR] [--json FILE]

A save file of a guest of 4 GiB is written into DIR, its pages filled with words that do not
compress, and so is in the page cache. Each figure is the best of three runs in a process of its
own; the memory is that process's peak. --quick uses 64 MiB, to see
that it works. The file is deleted at the end.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import figures
from figures import Figure, child
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.sizes import GIB, MIB
from p2mbatch.dumps.writers.image import GuestImage, image_of
from p2mbatch.dumps.writers.stream import write_stream
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.stage import StagedGuest

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


def full_guest(memory_bytes: int) -> FullImage:
    """Return a 64-bit guest whose memory the host gave in shuffled extents of 2 MiB."""
    staged = StagedGuest(Scenario.make(memory_bytes=memory_bytes, build_order=9), "all")
    staged.boot()
    return FullImage(**vars(image_of(staged.life)))


def through_a_pipe(code: str, path: Path) -> list[float]:
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE) as feeder:
        return child(code, "-", stdin=feeder.stdout)


def save_file(memory_bytes: int, directory: Path) -> Iterator[Figure]:
    """Reading and auditing a save file, beside what only moves its bytes."""
    path = directory / "guest.save"
    with path.open("wb") as out:
        write_stream(full_guest(memory_bytes), out)

    def cat() -> list[float]:
        # A shell's redirection to /dev/null, so that cat reads as it does for people.
        command = f"cat '{path}' > /dev/null"
        return [figures.seconds(lambda: subprocess.run(command, shell=True, check=True))]

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
    for what, (seconds, *more) in best.items():
        beside = f"{gigabytes / seconds:.2f} GB/s, {best[next(iter(runs))][0] / seconds:.2f} x cat"
        yield Figure(what, seconds, "s", beside)
        if more:
            yield Figure(f"{what}: peak memory", more[0] / 1e6, "MB")
        if more[1:]:
            yield Figure(f"{what}: audit", more[1], "s")


if __name__ == "__main__":
    figures.main(__doc__, {"save-file": save_file}, 4 * GIB, 64 * MIB)
