"""The performance report as text, as HTML, and beside an older one; from `bench.run`'s values."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from p2mbatch._version import __version__
from p2mbatch.base.sizes import GIB, format_size
from p2mbatch.bench.report_file import Change
from p2mbatch.plots import bench as plots_bench
from p2mbatch.plots.gallery import save
from p2mbatch.plots.style import new_figure
from p2mbatch.report.bench_words import (
    bends,
    busy_text,
    changes_text,
    headline,
    short_of_numpy,
    time_text,
)
from p2mbatch.report.page import asset, inline, template, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Table(NamedTuple):
    """A table of texts; `numbers` says which columns are aligned to the right."""

    name: str
    title: str
    note: str
    columns: list[str]
    rows: list[list[str]]

    def to_text(self) -> str:
        """Return the table for a terminal, its note below it."""
        rows = [self.columns, *self.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.columns))]
        lines = [
            "  ".join(
                cell.ljust(width) if i < 2 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([self.title, *lines, *textwrap.wrap(self.note, 100)])

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [
            "| " + " | ".join(self.columns) + " |",
            "|" + "|".join("---" if i < 2 else "---:" for i in range(len(self.columns))) + "|",
        ]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join(lines)


def tables(report: dict[str, Any]) -> list[Table]:
    """Return the report's tables: ceilings, kernels, compile and load times, growth."""
    return [
        ceiling_table(report), kernel_table(report), compile_table(report), growth_table(report)
    ]  # fmt: skip


def ceiling_table(report: dict[str, Any]) -> Table:
    """Return what the machine can do, from the smallest and the largest footprint measured."""
    rows = []
    footprints = sorted({c["footprint_bytes"] for c in report["ceilings"] if c["name"] == "chase"})
    for c in sorted(report["ceilings"], key=lambda c: (c["footprint_bytes"], c["threads"])):
        if c["footprint_bytes"] not in footprints:
            continue
        rate = "–" if c["name"] in ("gather", "chase") else f"{c['bytes_per_s'] / 1e9:.1f} GB/s"
        rows.append(
            [
                c["name"], format_size(c["footprint_bytes"]), str(c["threads"]), rate,
                f"{c['ns_per_word']:.3g} ns", f"±{c['spread'] * 100:.0f} %",
            ]
        )  # fmt: skip
    return Table(
        "ceilings", "Ceilings",
        "What this machine does at best. fill, copy, read: words in order, bytes read and written "
        "together. gather: independent random reads of 8 bytes. chase: each read waits for the one "
        "before, so its time is the latency.",
        ["pattern", "over", "threads", "bandwidth", "per word", "spread"], rows,
    )  # fmt: skip


def kernel_table(report: dict[str, Any]) -> Table:
    """Return each kernel at each size beside its floor and its peers."""
    by_key = {(r["kernel"], r["memory_bytes"], r["who"]): r for r in report["rows"]}
    rows = []
    for (kernel, size, who), row in by_key.items():
        if who not in ("p2mbatch", "parallel"):
            continue

        def beside(peer: str, row: dict[str, Any] = row) -> str:
            other = by_key.get((row["kernel"], row["memory_bytes"], peer))
            return f"{other['median_ns'] / row['median_ns']:.2f}×" if other else "–"

        rows.append(
            [
                kernel, format_size(size), str(row["threads"]), time_text(row["median_ns"]),
                f"±{row['spread'] * 100:.0f} %", f"{row['ns_per_item']:.3g} ns/{row['unit']}",
                f"{row['median_ns'] / row['floor_ns']:.2f}", beside("c"), beside("numpy"),
                beside("naive"), time_text(row["warmup_ns"]),
            ]
        )  # fmt: skip
    return Table(
        "kernels", "Kernels",
        "Medians over repeats taken in turn with the peers'; the spread is half the distance of "
        "the quartiles. / floor: how many times the least time that the bytes to be moved take. "
        "faster than: how many times as long the peer takes on one thread. The warm-up (first) "
        "call is apart. " + short_of_numpy(report),
        [
            "kernel", "guest", "threads", "time", "spread", "per item", "/ floor",
            "faster than C", "than NumPy", "than Python", "warm-up",
        ],
        rows,
    )  # fmt: skip


def compile_table(report: dict[str, Any]) -> Table:
    """Return how long the kernels take to compile, and to load once they are cached."""
    times = report["compile"]
    rows = []
    for name, compiled in times.items():
        if not name.startswith("compile_"):
            continue
        group = name.removeprefix("compile_").removesuffix("_s")
        if compiled > 0.02 or group == "all":
            loaded = times.get(f"load_{group}_s", 0.0)
            rows.append([group, "s", f"{compiled:.2f}", f"{loaded:.3f}"])
    return Table(
        "compile", "Compile and load time",
        "First calls in a new process: with an empty cache, and with the cache that left behind. "
        "A kernel that another has brought along costs nothing more. all: by the clock, two "
        "processes at once while compiling, interpreter and imports included.",
        ["kernels", "unit", "compiled", "loaded"], rows,
    )  # fmt: skip


def growth_table(report: dict[str, Any]) -> Table:
    """Return the fitted exponents and where the curves bend."""
    rows = [
        [
            curve["what"], f"over {curve['over']}", f"{curve['exponent']:.2f}",
            f"{curve['local'][0]:.2f}" if curve["local"] else "–",
            f"{curve['local'][-1]:.2f}" if curve["local"] else "–",
        ]
        for curve in report["growth"]
    ]  # fmt: skip
    return Table(
        "growth", "How cost grows",
        "The exponent is the slope on double logarithmic axes: 1 is proportional. " + bends(report),
        ["what", "over what", "exponent", "at the small end", "at the large end"], rows,
    )  # fmt: skip


def to_text(report: dict[str, Any], changes: list[Change] | None = None) -> str:
    """Return the whole report for a terminal."""
    parts = [table.to_text() for table in tables(report)]
    parts += [
        f"left out: a guest of {format_size(item['memory_bytes'])} needs "
        f"{item['needed'] / GIB:.1f} GiB of memory, {item['available'] / GIB:.1f} GiB were free"
        for item in report["left_out"]
    ]
    if busy_text(report):
        parts.append(busy_text(report))
    if not report["c_peer"]:
        parts.append("no C compiler was found: no comparison with the C program")
    if changes is not None:
        parts.append(changes_text(changes))
    return "\n\n".join(parts) + "\n"


def figures(report: dict[str, Any]) -> list[tuple[str, Figure, str]]:
    """Return the figures: name, figure, caption."""
    found = []
    for name, draw, size, caption in (
        ("roofline", plots_bench.plot_roofline, (7.6, 5.0), "Each kernel's time over its floor."),
        ("ceilings", plots_bench.plot_ceilings, (7.6, 3.8), "Bandwidth over footprint."),
        ("threads", plots_bench.plot_threads, (5.6, 3.8), "The parallel kernels over threads."),
    ):
        figure, ax = new_figure(size)
        draw(report, ax=ax)
        found.append((name, figure, caption))
    sizes = plots_bench.figure_sizes(report)
    found.append(("sizes", sizes, "Time an item over the guest's size; bands are quartiles."))
    grown = plots_bench.figure_growth(report)
    found.append(("growth", grown, "How time and memory grow, with fitted exponents."))
    return found


def write_figures(report: dict[str, Any], folder: Path) -> None:
    """Write the figures into `folder` as SVG. Raises `InputError` where that can't be done."""
    for name, figure, _ in figures(report):
        save(figure, folder / f"{name}.svg")


def write_html(report: dict[str, Any], path: Path, changes: list[Change] | None = None) -> None:
    """Write the report as one self-contained page. Raises `InputError` where that can't be done."""
    page = template("bench.html.j2").render(
        version=__version__,
        css=asset("report.css"),
        report=report,
        headline=headline(report),
        busy=busy_text(report),
        facts=_facts(report),
        tables=tables(report),
        changes=changes_text(changes) if changes is not None else "",
        figures=[(name, inline(figure, name), text) for name, figure, text in figures(report)],
    )
    write_text(path, page)


def _facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [(name.replace("_", " "), str(value)) for name, value in report["provenance"].items()]
    caches = ", ".join(
        f"{level} {format_size(size)}" for level, size in report["caches_bytes"].items()
    )
    return [
        *facts,
        ("caches", caches or "unknown"),
        ("measured in", f"{report['seconds']:.0f} s"),
        ("processors that others took", f"{report.get('others_share', 0.0):.0%}"),
    ]
