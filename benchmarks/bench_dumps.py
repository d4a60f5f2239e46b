"""How fast a save file is read and audited, beside `cat` and a plain readinto loop, in one run.

    python benchmarks/bench_dumps.py [--quick] [--memory SIZE] [--dir DIR] [--json FILE]

A save file of a guest of SIZE (4GiB by default) is generated in DIR, its pages filled with words
that do not compress, and read once so that it is in the page cache. Each figure is the best of
three runs in a process of its own; the memory is that process's peak. --quick uses 64MiB, to see
that it works. The file is deleted at the end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from p2mbatch.base.geometry import INVALID, PAGE_BYTES, PAGE_SHIFT, geometry
from p2mbatch.base.sizes import parse_size
from p2mbatch.dumps import formats
from p2mbatch.dumps.stores import narrow

HERE = Path(__file__).resolve().parent

_CHILD = """
import json, sys, time
start = time.perf_counter()
{code}
# Not getrusage, whose peak a child inherits from the process that forked it.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
found = {{"seconds": end - start, "audit_seconds": audited, "bytes": int(peak.split()[1]) << 10}}
print(json.dumps(found))
"""
_READ = """
from p2mbatch.dumps.readers.read import read_dump
from p2mbatch.dumps.audit.findings import audit
start = time.perf_counter()
guest = read_dump(sys.argv[1])
guest.p2m.sha256()
end = time.perf_counter()
again = time.perf_counter()
result = audit(guest)
assert result.walk.result == "ok", result.walk
audited = time.perf_counter() - again
"""
_LOOP = """
buffer = bytearray(1 << 20)
with open(sys.argv[1], "rb", buffering=0) as file:
    while file.readinto(buffer):
        pass
end = time.perf_counter()
audited = None
"""


class Figure(NamedTuple):
    """One line of the report."""

    what: str
    seconds: float
    gigabytes_per_s: float
    peak_bytes: int | None
    audit_seconds: float | None


def write_guest(path: Path, memory_bytes: int) -> None:
    """Write an xl save file of a dense 64-bit guest to `path`, page by page, in bounded memory."""
    geo = geometry(8)
    n, span = geo.entries, memory_bytes >> PAGE_SHIFT
    num_leaves, num_mids = -(-span // n), -(-span // n**2)
    rng = np.random.default_rng(7)
    # The host gave the memory in shuffled extents of 2 MiB.
    extents = rng.permutation(4 * num_leaves)[:num_leaves]
    p2m = ((extents[:, None] + 1) * n + np.arange(n)).reshape(-1)[:span]
    first_leaf, fll = 8192 if span > 20000 else 512, 256
    leaf_pfns = first_leaf + np.arange(num_leaves)
    pages: dict[int, bytes] = {}
    for x, pfn in enumerate(leaf_pfns.tolist()):
        words = np.full(n, INVALID)
        part = p2m[x * n : (x + 1) * n]
        words[: part.size] = part
        pages[pfn] = narrow(words, 8)
    top = np.full(n, p2m[fll + 1])
    for mid in range(num_mids):
        words = np.full(n, p2m[fll + 1])
        part = p2m[leaf_pfns[mid * n : (mid + 1) * n]]
        words[: part.size] = part
        pages[fll + 1 + mid] = narrow(words, 8)
        top[mid] = p2m[fll + 1 + mid]
    pages[fll] = narrow(top, 8)
    shared = bytearray(PAGE_BYTES)
    layout = formats.SHARED_INFO_LAYOUTS[8]
    shared[layout.max_pfn : layout.max_pfn + 8] = span.to_bytes(8, "little")
    mfn = int(p2m[fll]).to_bytes(8, "little")
    shared[layout.frame_list_list : layout.frame_list_list + 8] = mfn
    noise = rng.bytes(formats.BATCH_PAGES * PAGE_BYTES)
    with path.open("wb") as out:

        def record(kind: int, *body: bytes) -> None:
            length = sum(map(len, body))
            out.write(formats.RECORD.pack(kind, length) + b"".join(body) + bytes(-length % 8))

        out.write(formats.XL_MAGIC + formats.XL_HEADER.pack(formats.XL_BYTE_ORDER, 2, 0, 0))
        out.write(formats.LIBXL_HEADER.pack(formats.LIBXL_IDENT, 2, 0))
        record(formats.LIBXL_LIBXC_CONTEXT)
        out.write(formats.IMAGE_HEADER.pack(formats.IMAGE_MARKER, formats.IMAGE_IDENT, 3, 0, 0, 0))
        out.write(formats.DOMAIN_HEADER.pack(formats.DOMAIN_PV, 12, 0, 4, 17))
        record(formats.X86_PV_INFO, formats.PV_INFO.pack(8, 4, 0, 0))
        record(formats.STATIC_DATA_END)
        frames = formats.P2M_FRAMES.pack(0, span - 1) + leaf_pfns.astype("<u8").tobytes()
        record(formats.X86_PV_P2M_FRAMES, frames)
        for start in range(0, span, formats.BATCH_PAGES):
            pfns = np.arange(start, min(start + formats.BATCH_PAGES, span))
            data = bytearray(noise[: pfns.size * PAGE_BYTES])
            for at, pfn in enumerate(pfns.tolist()):
                if pfn in pages:
                    data[at * PAGE_BYTES : (at + 1) * PAGE_BYTES] = pages[pfn]
            header = formats.PAGE_DATA.pack(pfns.size, 0)
            record(formats.PAGE_DATA_TYPE, header, pfns.astype("<u8").tobytes(), bytes(data))
        record(formats.SHARED_INFO, bytes(shared))
        record(formats.END)
        record(formats.LIBXL_END)


def child(code: str, path: Path, stdin: int | None = None) -> dict[str, float]:
    """Run `code` in a process of its own and return what it measured."""
    argument = "-" if stdin is not None else str(path)
    done = subprocess.run(
        [sys.executable, "-c", _CHILD.format(code=code), argument],
        stdin=stdin,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def through_a_pipe(code: str, path: Path) -> dict[str, float]:
    """As `child`, with `cat` feeding the file into a pipe."""
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE) as feeder:
        assert feeder.stdout is not None
        return child(code, path, feeder.stdout.fileno())


def measure(path: Path, repeats: int) -> list[Figure]:
    """Return the figures, the best of `repeats` runs each, in turns so that noise hits all."""
    size = path.stat().st_size

    def cat() -> dict[str, float]:
        start = time.perf_counter()
        # A shell's redirection to /dev/null, so that cat reads as it does for people.
        subprocess.run(f"cat '{path}' > /dev/null", shell=True, check=True)
        return {"seconds": time.perf_counter() - start}

    runs = {
        "cat FILE > /dev/null": cat,
        "readinto loop, 1 MiB": lambda: child(_LOOP, path),
        "read_dump FILE": lambda: child(_READ, path),
        "cat FILE | read_dump -": lambda: through_a_pipe(_READ, path),
    }
    best: dict[str, dict[str, float]] = {}
    for _ in range(repeats):
        for what, run in runs.items():
            found = run()
            if what not in best or found["seconds"] < best[what]["seconds"]:
                best[what] = found
    return [
        Figure(
            what,
            found["seconds"],
            size / found["seconds"] / 1e9,
            int(found["bytes"]) if "bytes" in found else None,
            found.get("audit_seconds"),
        )
        for what, found in best.items()
    ]


def main() -> None:
    """Make the file, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--memory", default="4GiB")
    parser.add_argument("--dir", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    memory = parse_size("64MiB" if options.quick else options.memory)
    directory = Path(tempfile.mkdtemp(prefix="p2mbatch-bench-", dir=options.dir))
    try:
        path = directory / "guest.save"
        write_guest(path, memory)
        figures = measure(path, 1 if options.quick else 3)
        size = path.stat().st_size
    finally:
        shutil.rmtree(directory)
    print(f"save file of {size / 1e9:.2f} GB, in the page cache")
    for f in figures:
        ratio = figures[0].seconds / f.seconds
        peak = f"{f.peak_bytes / 1e6:7.0f} MB" if f.peak_bytes else " " * 10
        after = f"  audit {f.audit_seconds:.2f} s" if f.audit_seconds is not None else ""
        print(
            f"{f.what:26} {f.seconds:8.3f} s {f.gigabytes_per_s:8.2f} GB/s "
            f"{ratio:7.2f} x cat {peak}{after}"
        )
    if options.json:
        options.json.write_text(json.dumps([f._asdict() for f in figures], indent=1))


if __name__ == "__main__":
    main()
