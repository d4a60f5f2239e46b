"""Figures of the performance report, each from its JSON values: `Axes` in, `Axes` out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from p2mbatch.base import colors as co
from p2mbatch.base.sizes import format_size
from p2mbatch.plots import style as st
from p2mbatch.plots.style import Look, axes_for, legend_above, new_figure, size_axis, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DASHES = ((0, (5, 2)), (0, (1, 1.6)), (0, (2, 1)))

WHO_LOOKS = {
    "p2mbatch": Look("p2mbatch, one thread", co.BLUE, "", "o", "-"),
    "parallel": Look("p2mbatch, all cores", co.SKY, "", "D", "-"),
    "c": Look("C, pointer tree", co.BLACK, "", "s", _DASHES[0]),
    "numpy": Look("NumPy", co.ORANGE, "", "^", _DASHES[1]),
    "naive": Look("plain Python", co.PURPLE, "", "v", _DASHES[1]),
    "floor": Look("floor from bytes moved", st.GREY, "", "", _DASHES[2]),
}

_CEILING_LOOKS = {
    "fill": Look("fill", co.GREEN, "", "", "-"),
    "copy": Look("copy", co.VERMILION, "", "", _DASHES[0]),
    "read": Look("read", co.BLUE, "", "", _DASHES[1]),
    "gather": Look("gather, random", st.GREY, "", "", _DASHES[2]),
}

_MARKERS = "os^vDPX*<>"


def plot_roofline(report: dict[str, Any], *, ax: Axes | None = None) -> Axes:
    """Draw each kernel's time at the largest guest over its floor's time, one thread and all.

    On the line a kernel is as fast as the bytes that it must move allow.
    """
    with style():
        ax = axes_for(ax, (7.6, 5.0))
        rows = [r for r in report["rows"] if r["who"] in ("p2mbatch", "parallel", "c")]
        largest = max(r["memory_bytes"] for r in rows)
        rows = [r for r in rows if r["memory_bytes"] == largest]
        marker = dict(zip(dict.fromkeys(r["kernel"] for r in rows), _MARKERS, strict=False))
        times = [t for r in rows for t in (r["floor_ns"], r["median_ns"])]
        ends = [min(times) / 1.6, max(times) * 1.6]
        lines = ax.plot(ends, ends, color=st.GREY, lw=1.2, label="the floor")
        lines += ax.plot(
            ends, [2 * end for end in ends], color=st.GREY, lw=0.8, ls=(0, (4, 3)),
            label="twice the floor",
        )  # fmt: skip
        # What the legend shows is drawn outside: a marker for each kernel, a colour for each who.
        handles = [
            *(ax.plot([], [], m, color=co.BLACK, label=kernel)[0] for kernel, m in marker.items())
        ]
        for who in dict.fromkeys(r["who"] for r in rows):
            look = WHO_LOOKS[who]
            fill: dict[str, Any] = {
                "color": look.color,
                "mfc": look.color if who == "p2mbatch" else "none",
            }
            handles += ax.plot([], [], "o", label=look.label, **fill)
            for r in (r for r in rows if r["who"] == who):
                ax.plot(r["floor_ns"], r["median_ns"], marker[r["kernel"]], ms=7, **fill)
        ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
        ax.set_xlabel("floor: what the bytes to be moved take (ns)")
        ax.set_ylabel("measured (ns)")
        ax.set_title(f"A guest of {format_size(largest)}: time over floor", loc="left")
        legend_above(ax, [*handles, *lines], ncols=4)
    return ax


def plot_ceilings(report: dict[str, Any], *, ax: Axes | None = None) -> Axes:
    """Draw one thread's bandwidth over the bytes gone through, with the caches' sizes."""
    with style():
        ax = axes_for(ax, (7.6, 3.8))
        sizes: set[int] = set()
        handles = []
        one = sorted((c for c in report["ceilings"] if c["threads"] == 1), key=_footprint)
        for name, look in _CEILING_LOOKS.items():
            x = [c["footprint_bytes"] for c in one if c["name"] == name]
            y = [c["bytes_per_s"] / 1e9 for c in one if c["name"] == name]
            sizes |= set(x)
            handles += ax.plot(
                x, y, color=look.color, ls=look.dashes, marker="o", ms=3, label=look.label
            )
        size_axis(ax, sorted(sizes))
        for level, size in report["caches_bytes"].items():
            if min(sizes) < size < max(sizes):
                ax.axvline(size, color=st.GREY, lw=0.8)
                ax.text(size, ax.get_ylim()[1], f" {level}", va="top", color=st.GREY, fontsize=8)
        ax.set(yscale="log", ylabel="GB/s, read and written", xlabel="bytes gone through")
        ax.set_title("Ceilings of one thread", loc="left")
        legend_above(ax, handles, ncols=4)
    return ax


def _footprint(ceiling: dict[str, Any]) -> int:
    return int(ceiling["footprint_bytes"])


def plot_sizes(report: dict[str, Any], kernel: str, *, ax: Axes | None = None) -> Axes:
    """Draw one kernel's time an item over the guest's size, beside its peers and its floor."""
    with style():
        ax = axes_for(ax, (3.9, 3.2))
        mine = [r for r in report["rows"] if r["kernel"] == kernel]
        for who, look in WHO_LOOKS.items():
            rows = [r for r in mine if r["who"] == ("p2mbatch" if who == "floor" else who)]
            x = [r["memory_bytes"] for r in rows]
            median, low, high = (
                [r[name] / r["items"] for r in rows] for name in ("median_ns", "low_ns", "high_ns")
            )
            if who == "floor":
                median = [r["floor_ns"] / r["items"] for r in rows]
            elif rows:
                ax.fill_between(x, low, high, color=look.color, alpha=0.15, lw=0)
            if rows:
                ax.plot(
                    x, median, color=look.color, ls=look.dashes, marker=look.marker or None, ms=4,
                    label=look.label,
                )  # fmt: skip
        size_axis(ax, sorted({r["memory_bytes"] for r in mine}), max_labels=5)
        ax.set(yscale="log", ylabel=f"ns a {mine[0]['unit']}", xlabel="guest memory")
        ax.set_title(kernel, loc="left")
    return ax


def plot_threads(report: dict[str, Any], *, ax: Axes | None = None) -> Axes:
    """Draw how much faster the parallel kernels are on more threads, at the largest guest."""
    with style():
        ax = axes_for(ax, (5.6, 3.8))
        rows = report["scaling"]
        counts = sorted({r["threads"] for r in rows}) or [1]
        ax.plot([1, counts[-1]], [1, counts[-1]], color=st.GREY, lw=1)
        handles = []
        for i, kernel in enumerate(dict.fromkeys(r["kernel"] for r in rows)):
            mine = [r for r in rows if r["kernel"] == kernel]
            handles += ax.plot(
                [r["threads"] for r in mine], [mine[0]["median_ns"] / r["median_ns"] for r in mine],
                color=(co.BLUE, co.VERMILION, co.GREEN)[i % 3], marker=_MARKERS[i], label=kernel,
            )  # fmt: skip
        ax.set(xlabel="threads", ylabel="times as fast as on one", xticks=counts)
        ax.set_title("Scaling over threads", loc="left")
        legend_above(ax, handles, ncols=3)
    return ax


def plot_growth(curve: dict[str, Any], *, ax: Axes | None = None) -> Axes:
    """Draw one growth curve with its fitted exponent."""
    with style():
        ax = axes_for(ax, (3.9, 3.2))
        x, y, low, high = ([p[name] for p in curve["points"]] for name in ("x", "y", "low", "high"))
        ax.plot(x, y, color=co.BLUE, marker="o", ms=4)
        ax.fill_between(x, low, high, color=co.BLUE, alpha=0.15, lw=0)
        ax.set(xscale="log", yscale="log", xlabel=curve["over"], ylabel=curve["unit"])
        ax.set_title(f"{curve['what']}: exponent {curve['exponent']:.2f}", loc="left", fontsize=10)
        if curve["unit"] == "bytes":
            least, most = (math.log2(limit) for limit in ax.get_ylim())
            whole = range(math.ceil(least), math.floor(most) + 1)
            powers = [1 << k for k in whole[:: -(-len(whole) // 6) or 1]]
            ax.set_yscale("log", base=2)
            ax.set_yticks(powers, [st.size_text(size) for size in powers])
    return ax


def _grid(plots: Iterable[Callable[..., Axes]], *, legend: bool) -> Figure:
    """Draw each of `plots` into a grid of small axes, three a row, with one legend or none."""
    plots = list(plots)
    num_rows = -(-len(plots) // 3)
    with style():
        figure, first = new_figure((11.5, 3.0 * num_rows + (0.6 if legend else 0)))
        first.remove()
        grid = figure.subplots(num_rows, 3, squeeze=False).ravel()
        for ax, plot in zip(grid, plots, strict=False):
            plot(ax=ax)
        for ax in grid[len(plots) :]:
            ax.set_axis_off()
        if legend:
            found = {line.get_label(): line for ax in grid for line in ax.get_lines()}
            figure.legend(handles=list(found.values()), loc="outside upper left", ncols=6)
    return figure


def figure_sizes(report: dict[str, Any]) -> Figure:
    """Draw every kernel's time over the guest's size."""
    kernels = dict.fromkeys(r["kernel"] for r in report["rows"])
    return _grid((partial(plot_sizes, report, kernel) for kernel in kernels), legend=True)


def figure_growth(report: dict[str, Any]) -> Figure:
    """Draw all growth curves."""
    return _grid((partial(plot_growth, curve) for curve in report["growth"]), legend=False)


def _single(plot: Callable[..., Axes], size: tuple[float, float]) -> Callable[..., Figure]:
    def draw(report: dict[str, Any]) -> Figure:
        figure, ax = new_figure(size)
        plot(report, ax=ax)
        return figure

    return draw


FIGURES: dict[str, tuple[Callable[[dict[str, Any]], Figure], str]] = {
    "roofline": (_single(plot_roofline, (7.6, 5.0)), "Each kernel's time over its floor."),
    "ceilings": (_single(plot_ceilings, (7.6, 3.8)), "Bandwidth over footprint."),
    "threads": (_single(plot_threads, (5.6, 3.8)), "The parallel kernels over threads."),
    "sizes": (figure_sizes, "Time an item over the guest's size; bands are quartiles."),
    "growth": (figure_growth, "How time and memory grow, with fitted exponents."),
}
"""Name -> (what draws it from a report, caption), in the report's order."""
