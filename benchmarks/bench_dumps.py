"""How fast a save file is read and audited, beside `cat` and a plain readinto loop, in one run.

    python benchmarks/bench_dumps.py [--quick] [--dir DIR] [--json FILE]

A save file of a guest of 4 GiB is written into DIR, its pages filled with words that do not
compress, and so is in the page cache. Each figure is the best of three runs in a process of its
own, in turns so that noise hits all; the memory is that process's peak. --quick uses 64 MiB, to see
that it works. The file is deleted at the end.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import figures
from figures import Figure, child
from p2mbatch.base.geometry import INVALID, PAGE_BYTES, PAGE_SHIFT, geometry
from p2mbatch.base.sizes import GIB, MIB
from p2mbatch.dumps.writers.image import GuestImage
from p2mbatch.dumps.writers.stream import write_stream

_READ = """
import json, sys, time
from pathlib import Path
from p2mbatch.dumps.readers.read import read_dump
from p2mbatch.dumps.audit.findings import audit
start = time.perf_counter()
guest = read_dump(sys.argv[1])
guest.p2m.sha256()
read = time.perf_counter()
walk = audit(guest).walk
assert walk.result == "ok", walk
found = {"seconds": read - start, "audit": time.perf_counter() - read}
"""
_LOOP = """
import json, sys, time
from pathlib import Path
start, buffer = time.perf_counter(), bytearray(1 << 20)
with open(sys.argv[1], "rb", buffering=0) as file:
    while file.readinto(buffer):
        pass
found = {"seconds": time.perf_counter() - start}
"""
_PEAK = """
# Not getrusage, whose peak a child inherits from the process that forked it.
lines = Path("/proc/self/status").read_text().splitlines()
found["peak"] = next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
print(json.dumps(found))
"""


@dataclass(frozen=True)
class FullImage(GuestImage):
    """A guest whose pages hold what does not compress, where they are not the p2m's own."""

    noise: bytes

    def page(self, pfn: int) -> bytes:
        start = pfn % 1024 * PAGE_BYTES
        return super().page(pfn) if pfn in self.words else self.noise[start : start + PAGE_BYTES]


def dense_guest(memory_bytes: int) -> FullImage:
    """Return a 64-bit guest whose memory the host gave in shuffled extents of 2 MiB."""
    n, span = geometry(8).entries, memory_bytes >> PAGE_SHIFT
    num_leaves, rng = -(-span // n), np.random.default_rng(7)
    extents = rng.permutation(4 * num_leaves)[:num_leaves]
    p2m = ((extents[:, None] + 1) * n + np.arange(n)).reshape(-1)[:span]
    leaves = (8192 if span > 20000 else 512) + np.arange(num_leaves)
    words = {}

    def write_list(first: int, values: Any, rest: int) -> Any:
        """Put `values` into as many pages as they need; return those pages' MFNs."""
        pages = first + np.arange(-(-len(values) // n))
        padded = np.append(values, np.full(len(pages) * n - len(values), rest))
        words.update(zip(pages.tolist(), padded.reshape(-1, n), strict=True))
        return p2m[pages]

    write_list(int(leaves[0]), p2m, INVALID)
    mids = write_list(257, p2m[leaves], p2m[257])
    (list_mfn,) = write_list(256, mids, p2m[257])
    return FullImage(
        word_bytes=8, frames=(4 * num_leaves + 1) * n, shared_max_pfn=span,
        frame_list_list_mfn=int(list_mfn), p2m=p2m, leaf_pfns=leaves, words=words,
        noise=rng.bytes(1024 * PAGE_BYTES),
    )  # fmt: skip


def through_a_pipe(code: str, path: Path) -> Any:
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE) as feeder:
        return child(code, "-", stdin=feeder.stdout)


def save_file(memory_bytes: int, directory: Path) -> Iterator[Figure]:
    """Reading and auditing a save file, beside what only moves its bytes."""
    path = directory / "guest.save"
    with path.open("wb") as out:
        write_stream(dense_guest(memory_bytes), out)

    def cat() -> dict[str, float]:
        # A shell's redirection to /dev/null, so that cat reads as it does for people.
        command = f"cat '{path}' > /dev/null"
        return {"seconds": figures.seconds(lambda: subprocess.run(command, shell=True, check=True))}

    runs = {
        "cat FILE > /dev/null": cat,
        "readinto loop, 1 MiB": lambda: child(_LOOP + _PEAK, path),
        "read_dump FILE": lambda: child(_READ + _PEAK, path),
        "cat FILE | read_dump -": lambda: through_a_pipe(_READ + _PEAK, path),
    }
    turns = [{what: run() for what, run in runs.items()} for _ in range(3)]
    yield Figure("save file, in the page cache", path.stat().st_size / 1e9, "GB")
    for what in runs:
        best = min((turn[what] for turn in turns), key=lambda found: found["seconds"])
        ratio = min(turn["cat FILE > /dev/null"]["seconds"] for turn in turns) / best["seconds"]
        rate = path.stat().st_size / best["seconds"] / 1e9
        yield Figure(what, best["seconds"], "s", f"{rate:.2f} GB/s, {ratio:.2f} x cat")
        if "peak" in best:
            yield Figure(f"{what}: peak memory", best["peak"] / 1e6, "MB")
        if "audit" in best:
            yield Figure(f"{what}: audit", best["audit"], "s")


if __name__ == "__main__":
    figures.main(__doc__, {"save-file": save_file}, 4 * GIB, 64 * MIB)
