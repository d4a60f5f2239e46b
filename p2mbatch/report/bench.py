"""The performance report as text, as HTML, and beside an older one; from `bench.run`'s values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from p2mbatch._version import __version__
from p2mbatch.base.sizes import GIB, format_size
from p2mbatch.bench.report_file import OWN, Change, rows_by_key
from p2mbatch.plots.bench import FIGURES
from p2mbatch.plots.gallery import save
from p2mbatch.plots.style import time_text
from p2mbatch.report.page import asset, inline, template, write_text
from p2mbatch.report.table import Table

NUMPY_BAR = 3.0  # how many times as fast as vectorised NumPy a compiled kernel should be
CALL_NS = 20_000  # shorter work is no longer than what calling it costs
BEND = 0.3  # slopes that differ by less are one slope
BUSY_SHARE = 0.1  # where others take more of the processors, the times are to be doubted


def tables(report: dict[str, Any]) -> list[Table]:
    """Return the report's tables: ceilings, kernels, compile and load times, growth."""
    return [f(report) for f in (ceiling_table, kernel_table, compile_table, growth_table)]


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
        exponent = "–" if math.isnan(curve["exponent"]) else f"{curve['exponent']:.2f}"
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
        version=__version__, css=asset("report.css"), report=report, headline=headline(report),
        busy=busy_text(report), facts=_facts(report), tables=tables(report),
        changes=changes_text(changes) if changes is not None else "",
        figures=[(n, inline(f.draw(report), n, f.caption), f.caption) for n, f in FIGURES.items()],
    )  # fmt: skip
    write_text(path, page)


def _facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    caches = [f"{level} {format_size(size)}" for level, size in report["caches_bytes"].items()]
    return [
        *((name.replace("_", " "), str(value)) for name, value in report["provenance"].items()),
        ("caches", ", ".join(caches) or "unknown"),
        ("measured in", f"{report['seconds']:.0f} s"),
        ("processors that others took", f"{report.get('others_share', 0.0):.0%}"),
    ]


def short_of_numpy(report: dict[str, Any]) -> str:
    """Return in words which kernels on one thread miss `NUMPY_BAR`, and what is in the way."""
    by_key = rows_by_key(report)
    said = []
    for (kernel, size, who), row in by_key.items():
        peer = by_key.get((kernel, size, "numpy"))
        ns = row["median_ns"]
        if who != "p2mbatch" or peer is None or peer["median_ns"] >= NUMPY_BAR * ns:
            continue
        over_floor = ns / row["floor_ns"]
        why = f"{over_floor:.1f} times its floor"
        if ns < CALL_NS:
            why = "the call costs as much as the work"
        elif over_floor < 1.5:
            why = f"at {over_floor:.2f} of its floor, which bounds NumPy too"
        said.append(f"{kernel} at {format_size(size)} ({peer['median_ns'] / ns:.1f}×: {why})")
    if not said:
        return f"Every kernel is at least {NUMPY_BAR:g} times as fast as NumPy."
    return f"Less than {NUMPY_BAR:g} times as fast as NumPy: " + ", ".join(said) + "."


def bends(report: dict[str, Any]) -> str:
    """Return in words where the growth curves bend, and what lies there."""
    said = []
    for curve in report["growth"]:
        local = curve["local"]
        if curve["unit"] != "ns" or len(local) < 2:
            continue
        # Two neighbours at each end: a single slope is as uncertain as two times are.
        small, large = (sum(ends) / len(ends) for ends in (local[:2], local[-2:]))
        said.append(f"{curve['what']} over {curve['over']} ")
        if abs(large - small) < BEND:
            said[-1] += "does not bend."
            continue
        middle = (small + large) / 2
        at = next(i for i, slope in enumerate(local) if (slope >= middle) == (large > small))
        x = curve["points"][at]["x"]
        said[-1] += f"bends around {x:,} (slope {small:.2f} at the small end, {large:.2f} at the "
        said[-1] += f"large end){_why(curve, x, small, large, report)}."
    return " ".join(said)


def _why(curve: dict[str, Any], x: int, small: float, large: float, report: dict[str, Any]) -> str:
    """Return what lies at a bend: fixed costs before it, or a cache that is full there."""
    if curve["over"] in ("migrations", "cells"):
        return "; each one costs the same, so what is not proportional there is the fixed cost"
    if small < BEND and large > small:
        return ": up to there what every call costs outweighs what grows with the guest"
    footprint = 20 * (x if curve["over"] == "leaves" else x // 512)
    gone = f": {format_size(footprint)} of leaves' entries are gone through there"
    sizes = report["caches_bytes"].items()
    near = [level for level, size in sizes if size / 2 <= footprint <= 2 * size]
    return f"{gone}, about what {near[0]} holds" if near else gone


def busy_text(report: dict[str, Any]) -> str:
    """Return a warning where the machine was not this report's alone, else nothing."""
    share = report.get("others_share", 0.0)
    if share <= BUSY_SHARE:
        return ""
    return (
        f"Other programs took {share:.0%} of the processors while this was measured: times are "
        "too long, those of several threads most of all, and only ratios within a row mean much."
    )


def changes_text(changes: list[Change]) -> str:
    """Return what moved beyond the noise, or that nothing did."""
    moved = [change for change in changes if change.beyond_noise]
    if not moved:
        return f"against the older run: none of {len(changes)} rows moved beyond the noise"
    lines = [f"against the older run: {len(moved)} of {len(changes)} rows moved beyond the noise"]
    lines += [
        f"  {c.kernel} {format_size(c.memory_bytes)} on "
        f"{'one thread' if c.who == 'p2mbatch' else 'all cores'}: {c.ratio:.2f}× the time "
        f"(noise: up to {c.noise:.2f}×)"
        for c in moved
    ]
    return "\n".join(lines)


def headline(report: dict[str, Any]) -> str:
    """Return the report's first sentence."""
    rows = rows_by_key(report)
    largest = max(r["memory_bytes"] for r in report["rows"])
    mine = rows[("rebuild", largest, "p2mbatch")]
    text = f"A {format_size(largest)} guest's rebuild takes {time_text(mine['median_ns'])}"
    peer = rows.get(("rebuild", largest, "c"))
    if peer:
        text += f", {mine['median_ns'] / peer['median_ns']:.2f} of the C program's time"
    lookup = rows[("lookup_random", largest, "p2mbatch")]
    return text + f"; a random lookup {time_text(lookup['ns_per_item'])}"
