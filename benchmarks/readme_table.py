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
from p2mbatch.bench.report_file import load, rows_by_key
from p2mbatch.report.table import time_text

BEGIN, END = "<!-- bench:begin -->\n", "\n<!-- bench:end -->"
ROWS = {
    "rebuild": "rebuild of the list (`tracked`)",
    "lookup_random": "random lookup",
    "lookup_sequential": "sequential lookup",
    "save_walk": "the toolstack's save walk",
    "restore_order0": "restore of every leaf, single frames",
    "restore_order9": "restore of every leaf, 2 MiB extents",
}


def table(report: dict[str, Any]) -> str:
    """Return the table and the sentence that says what it was measured on, as Markdown."""
    by_key, threads = rows_by_key(report), f"{report['threads']} threads"
    size = max(r["memory_bytes"] for r in report["rows"])
    lines = [f"| {format_size(size)} guest | one thread | {threads} | C, pointer tree | NumPy |"]
    lines.append("|---|---:|---:|---:|---:|")
    for kernel, title in ROWS.items():
        which = "ns_per_item" if kernel.startswith("lookup") else "median_ns"
        rows = [by_key.get((kernel, size, who)) for who in ("p2mbatch", "parallel", "c", "numpy")]
        cells = ["–" if row is None else time_text(row[which]) for row in rows]
        lines.append(f"| {' | '.join([title, *cells])} |")
    where, times = report["provenance"], report["compile"]
    said = f"Medians on {where['cpu']}, {threads}, Python {where['python']}, "
    said += f"numba {where['numba']}, by `p2mbatch bench`."
    if times:
        said += f" All kernels of that report compile in {times['compile_all_s']:.0f} s once and "
        said += f"load in {times['load_all_s']:.1f} s from then on."
    return "\n".join([*lines, "", said])


def main(source: str, readme: str = str(Path(__file__).parents[1] / "README.md")) -> None:
    """Write the table of report `source` into `readme`."""
    before, begin, rest = Path(readme).read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        sys.exit(f"{readme}: the markers of the table are not there")
    text = before + begin + table(load(source)) + end + after
    Path(readme).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
