"""Write the README's table of figures from a report of `p2mbatch bench --json` or bench.json.

    python benchmarks/readme_table.py perf/bench.json [README.md]

The table goes between the markers `<!-- bench:begin -->` and `<!-- bench:end -->`; nothing else of
the README is touched. The README's figures come from here alone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from p2mbatch.base.sizes import format_size
from p2mbatch.bench.report_file import load
from p2mbatch.report.bench import time_text

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
ROWS = (
    ("rebuild", "rebuild of the list (`tracked`)"),
    ("lookup_random", "random lookup"),
    ("lookup_sequential", "sequential lookup"),
    ("save_walk", "the toolstack's save walk"),
    ("restore_order0", "restore of every leaf, single frames"),
    ("restore_order9", "restore of every leaf, 2 MiB extents"),
)


def table(report: dict[str, Any]) -> str:
    """Return the table and the sentence that says what it was measured on, as Markdown."""
    by_key = {(r["kernel"], r["memory_bytes"], r["who"]): r for r in report["rows"]}
    size = max(r["memory_bytes"] for r in report["rows"])
    threads = report["threads"]
    lines = [
        f"| {format_size(size)} guest | one thread | {threads} threads | C, pointer tree | NumPy |",
        "|---|---:|---:|---:|---:|",
    ]
    for kernel, title in ROWS:
        per_item = kernel.startswith("lookup")
        cells = []
        for who in ("p2mbatch", "parallel", "c", "numpy"):
            row = by_key.get((kernel, size, who))
            ns = None if row is None else row["ns_per_item" if per_item else "median_ns"]
            cells.append("–" if ns is None else time_text(ns))
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    where = report["provenance"]
    times = report["compile"]
    lines += [
        "",
        f"Medians on {where['cpu']}, {threads} threads, Python {where['python']}, numba "
        f"{where['numba']}, by `p2mbatch bench`."
        + (
            f" All kernels of that report compile in {times['compile_all_s']:.0f} s once and load "
            f"in {times['load_all_s']:.1f} s from then on."
            if times
            else ""
        ),
    ]
    return "\n".join(lines)


def insert(text: str, found: str) -> str:
    """Return `text` with `found` between the markers. Raises ValueError where they are missing."""
    begin, end = text.find(BEGIN), text.find(END)
    if begin < 0 or end < begin:
        raise ValueError(f"the markers {BEGIN} and {END} are not there")
    return text[: begin + len(BEGIN)] + "\n" + found + "\n" + text[end:]


def main(args: list[str]) -> int:
    if not 1 <= len(args) <= 2:
        print(__doc__, file=sys.stderr)
        return 2
    readme = Path(args[1]) if len(args) == 2 else Path(__file__).parents[1] / "README.md"
    readme.write_text(
        insert(readme.read_text(encoding="utf-8"), table(load(args[0]))), encoding="utf-8"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
