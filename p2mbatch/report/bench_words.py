"""What a benchmark's figures mean, in sentences."""

from __future__ import annotations

from typing import Any

from p2mbatch.base.sizes import format_size
from p2mbatch.bench.report_file import Change, rows_by_key

NUMPY_BAR = 3.0
"""How many times as fast as vectorised NumPy a compiled kernel should be."""

CALL_NS = 20_000
"""Shorter work is no longer than what calling it costs."""


def time_text(ns: float) -> str:
    """Return a time with three digits and its unit."""
    for unit, factor in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        # What three digits would round up to a thousand belongs to the next unit.
        if ns >= 0.9995 * factor:
            return f"{ns / factor:.3g} {unit}"
    return f"{ns:.3g} ns"


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


BEND = 0.3
"""Slopes that differ by less are one slope."""


def bends(report: dict[str, Any]) -> str:
    """Return in words where the growth curves bend, and what lies there."""
    said = []
    for curve in report["growth"]:
        local = curve["local"]
        if curve["unit"] != "ns" or len(local) < 2:
            continue
        # Two neighbours at each end: a single slope is as uncertain as two times are.
        small, large = (sum(ends) / len(ends) for ends in (local[:2], local[-2:]))
        name = f"{curve['what']} over {curve['over']}"
        if abs(large - small) < BEND:
            said.append(f"{name} does not bend.")
            continue
        middle = (small + large) / 2
        at = next(i for i, slope in enumerate(local) if (slope >= middle) == (large > small))
        x = curve["points"][at]["x"]
        said.append(
            f"{name} bends around {x:,} (slope {small:.2f} at the small end, {large:.2f} at the "
            f"large end){_why(curve, x, small, large, report)}."
        )
    return " ".join(said)


def _why(curve: dict[str, Any], x: int, small: float, large: float, report: dict[str, Any]) -> str:
    """Return what lies at a bend: fixed costs before it, or a cache that is full there."""
    if curve["over"] in ("migrations", "cells"):
        return "; each one costs the same, so what is not proportional there is the fixed cost"
    if small < BEND and large > small:
        return ": up to there what every call costs outweighs what grows with the guest"
    num_leaves = x if curve["over"] == "leaves" else x // 512
    footprint = 20 * num_leaves
    near = [
        level for level, size in report["caches_bytes"].items() if size / 2 <= footprint <= 2 * size
    ]
    if near:
        return f": {format_size(footprint)} are gone through there, about what {near[0]} holds"
    return f": {format_size(footprint)} of leaves' entries are gone through there"


BUSY_SHARE = 0.1
"""Where others take more of the processors, a report says that its times are to be doubted."""


def busy_text(report: dict[str, Any]) -> str:
    """Return a warning where the machine was not this report's alone, else nothing."""
    share = report.get("others_share", 0.0)
    if share <= BUSY_SHARE:
        return ""
    return (
        f"Other programs took {share:.0%} of the processors while this was measured: times are "
        "too long, those of several threads most of all, and only ratios within a row mean much."
    )


_ON = {"p2mbatch": "one thread", "parallel": "all cores"}


def changes_text(changes: list[Change]) -> str:
    """Return what moved beyond the noise, or that nothing did."""
    moved = [change for change in changes if change.beyond_noise]
    if not moved:
        return f"against the older run: none of {len(changes)} rows moved beyond the noise"
    lines = [f"against the older run: {len(moved)} of {len(changes)} rows moved beyond the noise"]
    lines += [
        f"  {c.kernel} {format_size(c.memory_bytes)} on {_ON[c.who]}: {c.ratio:.2f}× the time "
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
