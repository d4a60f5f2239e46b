"""Figures of the performance report, each from its JSON values: `Axes` in, `Axes` out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from p2mbatch.base.colors import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION
from p2mbatch.base.sizes import format_size
from p2mbatch.plots.style import (
    GREY,
    Look,
    axes_for,
    legend_above,
    new_figure,
    size_axis,
    size_text,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


WHO_LOOKS = {
    "p2mbatch": Look("p2mbatch, one thread", BLUE, "", "o", "-"),
    "parallel": Look("p2mbatch, all cores", SKY, "", "D", "-"),
    "c": Look("C, pointer tree", BLACK, "", "s", (0, (5, 2))),
    "numpy": Look("NumPy", ORANGE, "", "^", (0, (1, 1.6))),
    "naive": Look("plain Python", PURPLE, "", "v", (0, (1, 1.6))),
    "floor": Look("floor from bytes moved", GREY, "", "", (0, (2, 1))),
}

_CEILING_LOOKS = {
    "fill": Look("fill", GREEN, "", "", "-"),
    "copy": Look("copy", VERMILION, "", "", (0, (5, 2))),
    "read": Look("read", BLUE, "", "", (0, (1, 1.6))),
    "gather": Look("gather, random", GREY, "", "", (0, (2, 1))),
}

_MARKERS = "os^vDPX*<>"


def _row(report: dict[str, Any], kernel: str, who: str) -> list[dict[str, Any]]:
    return [r for r in report["rows"] if r["kernel"] == kernel and r["who"] == who]


def plot_roofline(report: dict[str, Any], *, ax: Axes | None = None) -> Axes:
    """Draw each kernel's time at the largest guest over its floor's time, one thread and all.

    On the line a kernel is as fast as the bytes that it must move allow.
    """
    with style():
        ax = axes_for(ax, (7.6, 4.6))
        rows = [r for r in report["rows"] if r["who"] in ("p2mbatch", "parallel", "c")]
        largest = max(r["memory_bytes"] for r in rows)
        rows = [r for r in rows if r["memory_bytes"] == largest]
        kernels = list(dict.fromkeys(r["kernel"] for r in rows))
        times = [t for r in rows for t in (r["floor_ns"], r["median_ns"])]
        low, high = min(times) / 1.6, max(times) * 1.6
        ax.plot([low, high], [low, high], color=GREY, lw=1.2)
        ax.plot([low, high], [2 * low, 2 * high], color=GREY, lw=0.8, ls=(0, (4, 3)))
        for row in rows:
            look = WHO_LOOKS[row["who"]]
            ax.plot(
                row["floor_ns"], row["median_ns"], ls="", color=look.color, ms=7,
                marker=_MARKERS[kernels.index(row["kernel"]) % len(_MARKERS)],
                mfc=look.color if row["who"] == "p2mbatch" else "none",
            )  # fmt: skip
        ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
        ax.set_xlabel("floor: what the bytes to be moved take (ns)")
        ax.set_ylabel("measured (ns)")
        ax.set_title(f"A guest of {format_size(largest)}: time over floor", loc="left")
        legend_above(ax, _roofline_handles(kernels, {r["who"] for r in rows}), ncols=4)
    return ax


def _roofline_handles(kernels: list[str], who: set[str]) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], ls="", marker=_MARKERS[i % len(_MARKERS)], color=BLACK, label=kernel)
        for i, kernel in enumerate(kernels)
    ]
    for name in ("p2mbatch", "parallel", "c"):
        if name in who:
            look = WHO_LOOKS[name]
            fill = look.color if name == "p2mbatch" else "none"
            handles.append(
                Line2D([], [], ls="", marker="o", color=look.color, mfc=fill, label=look.label)
            )
    handles.append(Line2D([], [], color=GREY, lw=1.2, label="the floor"))
    handles.append(Line2D([], [], color=GREY, lw=0.8, ls=(0, (4, 3)), label="twice the floor"))
    return handles


def plot_ceilings(report: dict[str, Any], *, ax: Axes | None = None) -> Axes:
    """Draw one thread's bandwidth over the bytes gone through, with the caches' sizes."""
    with style():
        ax = axes_for(ax, (7.6, 3.6))
        sizes: set[int] = set()
        handles = []
        for name, look in _CEILING_LOOKS.items():
            found = sorted(
                (c["footprint_bytes"], c["bytes_per_s"] / 1e9)
                for c in report["ceilings"]
                if c["name"] == name and c["threads"] == 1
            )
            if found:
                x, y = zip(*found, strict=True)
                sizes |= set(x)
                handles += ax.plot(
                    x, y, color=look.color, ls=look.dashes, marker="o", ms=3, label=look.label
                )
        size_axis(ax, sorted(sizes))
        for level, size in report["caches_bytes"].items():
            if min(sizes) < size < max(sizes):
                ax.axvline(size, color=GREY, lw=0.8)
                ax.text(size, ax.get_ylim()[1], f" {level}", va="top", color=GREY, fontsize=8)
        ax.set(yscale="log", ylabel="GB/s, read and written", xlabel="bytes gone through")
        ax.set_title("Ceilings of one thread", loc="left")
        legend_above(ax, handles, ncols=4)
    return ax


def plot_sizes(report: dict[str, Any], kernel: str, *, ax: Axes | None = None) -> Axes:
    """Draw one kernel's time an item over the guest's size, beside its peers and its floor."""
    with style():
        ax = axes_for(ax, (3.9, 3.2))
        sizes: set[int] = set()
        unit = "item"
        for who in WHO_LOOKS:
            rows = _row(report, kernel, "p2mbatch" if who == "floor" else who)
            if not rows:
                continue
            look, unit = WHO_LOOKS[who], rows[0]["unit"]
            x = [r["memory_bytes"] for r in rows]
            y = [(r["floor_ns"] if who == "floor" else r["median_ns"]) / r["items"] for r in rows]
            sizes |= set(x)
            ax.plot(
                x, y, color=look.color, ls=look.dashes, marker=look.marker or None, ms=4,
                label=look.label,
            )  # fmt: skip
            if who != "floor":
                ax.fill_between(
                    x,
                    [r["low_ns"] / r["items"] for r in rows],
                    [r["high_ns"] / r["items"] for r in rows],
                    color=look.color, alpha=0.15, lw=0,
                )  # fmt: skip
        size_axis(ax, sorted(sizes), max_labels=5)
        ax.set(yscale="log", ylabel=f"ns a {unit}", xlabel="guest memory")
        ax.set_title(kernel, loc="left")
    return ax


def figure_sizes(report: dict[str, Any]) -> Figure:
    """Draw every kernel's time over the guest's size: a grid of small axes with one legend."""
    kernels = list(dict.fromkeys(r["kernel"] for r in report["rows"]))
    with style():
        figure, first = new_figure((11.5, 3.0 * -(-len(kernels) // 3) + 0.6))
        first.remove()
        grid = figure.subplots(-(-len(kernels) // 3), 3, squeeze=False).ravel()
        for ax, kernel in zip(grid, kernels, strict=False):
            plot_sizes(report, kernel, ax=ax)
        for ax in grid[len(kernels) :]:
            ax.set_axis_off()
        found = {line.get_label(): line for ax in grid for line in ax.get_lines()}
        figure.legend(handles=list(found.values()), loc="outside upper left", ncols=6)
    return figure


def plot_threads(report: dict[str, Any], *, ax: Axes | None = None) -> Axes:
    """Draw how much faster the parallel kernels are on more threads, at the largest guest."""
    with style():
        ax = axes_for(ax, (5.6, 3.6))
        rows = report["scaling"]
        most = max((r["threads"] for r in rows), default=1)
        ax.plot([1, most], [1, most], color=GREY, lw=1)
        handles = []
        looks = (BLUE, VERMILION, GREEN)
        for i, kernel in enumerate(dict.fromkeys(r["kernel"] for r in rows)):
            mine = [r for r in rows if r["kernel"] == kernel]
            one = mine[0]["median_ns"]
            handles += ax.plot(
                [r["threads"] for r in mine], [one / r["median_ns"] for r in mine],
                color=looks[i % 3], marker=_MARKERS[i], label=kernel,
            )  # fmt: skip
        ax.set(xlabel="threads", ylabel="times as fast as on one")
        ax.set_xticks(sorted({r["threads"] for r in rows}) or [1])
        ax.set_title("Scaling over threads", loc="left")
        legend_above(ax, handles, ncols=3)
    return ax


def plot_growth(curve: dict[str, Any], *, ax: Axes | None = None) -> Axes:
    """Draw one growth curve with its fitted exponent."""
    with style():
        ax = axes_for(ax, (3.9, 3.2))
        x = [p["x"] for p in curve["points"]]
        y = [p["y"] for p in curve["points"]]
        ax.plot(x, y, color=BLUE, marker="o", ms=4)
        ax.fill_between(
            x, [p["low"] for p in curve["points"]], [p["high"] for p in curve["points"]],
            color=BLUE, alpha=0.15, lw=0,
        )  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel=curve["over"], ylabel=curve["unit"])
        ax.set_title(f"{curve['what']}: exponent {curve['exponent']:.2f}", loc="left", fontsize=10)
        if curve["unit"] == "bytes":
            low, high = (math.log2(limit) for limit in ax.get_ylim())
            whole = range(math.ceil(low), math.floor(high) + 1)
            powers = [1 << k for k in whole[:: -(-len(whole) // 6) or 1]]
            ax.set_yscale("log", base=2)
            ax.set_yticks(powers, [size_text(size) for size in powers])
    return ax


def figure_growth(report: dict[str, Any]) -> Figure:
    """Draw all growth curves: a grid of small axes."""
    curves = report["growth"]
    with style():
        figure, first = new_figure((11.5, 3.0 * -(-len(curves) // 3)))
        first.remove()
        grid = figure.subplots(-(-len(curves) // 3), 3, squeeze=False).ravel()
        for ax, curve in zip(grid, curves, strict=False):
            plot_growth(curve, ax=ax)
        for ax in grid[len(curves) :]:
            ax.set_axis_off()
    return figure
