"""The performance report as text, as HTML, and beside an older one; from `bench.run`'s values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from p2mbatch._version import __version__
from p2mbatch.base.sizes import GIB, format_size
from p2mbatch.bench.report_file import OWN, Change, rows_by_key
from p2mbatch.plots.bench import FIGURES
from p2mbatch.plots.gallery import save
from p2mbatch.report.bench_words import (
    bends,
    busy_text,
    changes_text,
    headline,
    short_of_numpy,
    time_text,
)
from p2mbatch.report.page import asset, inline, template, write_text
from p2mbatch.report.table import Table


def tables(report: dict[str, Any]) -> list[Table]:
    """Return the report's tables: ceilings, kernels, compile and load times, growth."""
    return [
        ceiling_table(report), kernel_table(report), compile_table(report), growth_table(report)
    ]  # fmt: skip


def ceiling_table(report: dict[str, Any]) -> Table:
    """Return what the machine can do, from the smallest and the largest footprint measured."""
    footprints = {c["footprint_bytes"] for c in report["ceilings"] if c["name"] == "chase"}
    rows = [
        [
            c["name"], format_size(c["footprint_bytes"]), str(c["threads"]),
            "–" if c["name"] in ("gather", "chase") else f"{c['bytes_per_s'] / 1e9:.1f} GB/s",
            f"{c['ns_per_word']:.3g} ns", _spread(c),
        ]
        for c in sorted(report["ceilings"], key=lambda c: (c["footprint_bytes"], c["threads"]))
        if c["footprint_bytes"] in footprints
    ]  # fmt: skip
    return Table.of_texts(
        "ceilings", "Ceilings",
        "What this machine does at best. fill, copy, read: words in order, bytes read and written "
        "together. gather: independent random reads of 8 bytes. chase: each read waits for the one "
        "before, so its time is the latency.",
        "pattern|over|threads|bandwidth|per word|spread", rows,
    )  # fmt: skip


def kernel_table(report: dict[str, Any]) -> Table:
    """Return each kernel at each size beside its floor and its peers."""
    by_key = rows_by_key(report)

    def beside(row: dict[str, Any], peer: str) -> str:
        other = by_key.get((row["kernel"], row["memory_bytes"], peer))
        return f"{other['median_ns'] / row['median_ns']:.2f}×" if other else "–"

    rows = [
        [
            row["kernel"], format_size(row["memory_bytes"]), str(row["threads"]),
            time_text(row["median_ns"]), _spread(row), f"{row['ns_per_item']:.3g} ns/{row['unit']}",
            f"{row['median_ns'] / row['floor_ns']:.2f}",
            *(beside(row, peer) for peer in ("c", "numpy", "naive")), time_text(row["warmup_ns"]),
        ]
        for row in report["rows"]
        if row["who"] in OWN
    ]  # fmt: skip
    return Table.of_texts(
        "kernels", "Kernels",
        "Medians over repeats taken in turn with the peers'; the spread is half the distance of "
        "the quartiles. / floor: how many times the least time that the bytes to be moved take. "
        "faster than: how many times as long the peer takes on one thread. The warm-up (first) "
        "call is apart. " + short_of_numpy(report),
        "kernel|guest|threads|time|spread|per item|/ floor|faster than C|than NumPy|than Python|"
        "warm-up", rows,
    )  # fmt: skip


def _spread(timing: dict[str, Any]) -> str:
    return f"±{timing['spread'] * 100:.0f} %"


def compile_table(report: dict[str, Any]) -> Table:
    """Return how long the kernels take to compile, and to load once they are cached."""
    times = report["compile"]
    groups = [name[8:-2] for name in times if name.startswith("compile_")]
    rows = [
        [group, "s", f"{times[f'compile_{group}_s']:.2f}", f"{times.get(f'load_{group}_s', 0):.3f}"]
        for group in groups
        if group == "all" or times[f"compile_{group}_s"] > 0.02
    ]
    return Table.of_texts(
        "compile", "Compile and load time",
        "First calls in a new process: with an empty cache, and with the cache that left behind. "
        "A kernel that another has brought along costs nothing more. all: by the clock, two "
        "processes at once while compiling, interpreter and imports included.",
        "kernels|unit|compiled|loaded", rows,
    )  # fmt: skip


def growth_table(report: dict[str, Any]) -> Table:
    """Return the fitted exponents and where the curves bend."""
    rows = []
    for curve in report["growth"]:
        ends = [f"{slope:.2f}" for slope in curve["local"][:1] + curve["local"][-1:]]
        exponent = f"{curve['exponent']:.2f}"
        rows.append([curve["what"], f"over {curve['over']}", exponent, *(ends or ["–", "–"])])
    return Table.of_texts(
        "growth", "How cost grows",
        "The exponent is the slope on double logarithmic axes: 1 is proportional. " + bends(report),
        "what|over what|exponent|at the small end|at the large end", rows,
    )  # fmt: skip


def to_text(report: dict[str, Any], changes: list[Change] | None = None) -> str:
    """Return the whole report for a terminal."""
    parts = [table.to_text() for table in tables(report)]
    parts += [
        f"left out: a guest of {format_size(item['memory_bytes'])} needs "
        f"{item['needed'] / GIB:.1f} GiB of memory, {item['available'] / GIB:.1f} GiB were free"
        for item in report["left_out"]
    ]
    parts.append(busy_text(report))
    if not report["c_peer"]:
        parts.append("no C compiler was found: no comparison with the C program")
    if changes is not None:
        parts.append(changes_text(changes))
    return "\n\n".join(part for part in parts if part) + "\n"


def write_figures(report: dict[str, Any], folder: Path) -> None:
    """Write the figures into `folder` as SVG. Raises `InputError` where that can't be done."""
    for name, figure in FIGURES.items():
        save(figure.draw(report), folder / f"{name}.svg")


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
        figures=[(n, inline(f.draw(report), n), f.caption) for n, f in FIGURES.items()],
    )
    write_text(path, page)


def _facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    caches = [f"{level} {format_size(size)}" for level, size in report["caches_bytes"].items()]
    return [
        *((name.replace("_", " "), str(value)) for name, value in report["provenance"].items()),
        ("caches", ", ".join(caches) or "unknown"),
        ("measured in", f"{report['seconds']:.0f} s"),
        ("processors that others took", f"{report.get('others_share', 0.0):.0%}"),
    ]
