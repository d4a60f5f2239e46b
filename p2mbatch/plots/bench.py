"""Figures of the performance report, each drawn from its JSON values."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from p2mbatch.base import colors as co
from p2mbatch.base.sizes import format_size
from p2mbatch.plots import style as st
from p2mbatch.plots.style import Look, legend_above, new_figure, size_axis, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
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


def _label_powers(*axes: Axis) -> None:
    from p2mbatch.plots.powers import label_powers

    label_powers(*axes)


def plot_roofline(report: dict[str, Any], ax: Axes) -> None:
    """Draw each kernel's time at the largest guest over its floor's time, one thread and all.

    On the line a kernel is as fast as the bytes that it must move allow.
    """
    largest = max(r["memory_bytes"] for r in report["rows"])
    rows = [r for r in report["rows"] if r["who"] in ("p2mbatch", "parallel", "c")]
    rows = [r for r in rows if r["memory_bytes"] == largest]
    marker = dict(zip(dict.fromkeys(r["kernel"] for r in rows), _MARKERS, strict=False))
    times = [t for r in rows for t in (r["floor_ns"], r["median_ns"])]
    ends = [min(times) / 1.6, max(times) * 1.6]
    twice = [2 * end for end in ends]
    lines = ax.plot(ends, ends, color=st.GREY, lw=1.2, label="the floor")
    lines += ax.plot(ends, twice, color=st.GREY, lw=0.8, ls=(0, (4, 3)), label="twice the floor")
    # What the legend shows is drawn outside: a marker for each kernel, a colour for each who.
    handles = [
        *(ax.plot([], [], m, color=co.BLACK, label=kernel)[0] for kernel, m in marker.items())
    ]
    for who in dict.fromkeys(r["who"] for r in rows):
        color = WHO_LOOKS[who].color
        fill: dict[str, Any] = {"color": color, "mfc": color if who == "p2mbatch" else "none"}
        handles += ax.plot([], [], "o", label=WHO_LOOKS[who].label, **fill)
        for r in (r for r in rows if r["who"] == who):
            ax.plot(r["floor_ns"], r["median_ns"], marker[r["kernel"]], ms=7, **fill)
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends, ylabel="measured (ns)")
    _label_powers(ax.xaxis, ax.yaxis)
    ax.set_xlabel("floor: what the bytes to be moved take (ns)")
    ax.set_title(f"A guest of {format_size(largest)}: time over floor", loc="left")
    legend_above(ax, [*handles, *lines], ncols=4)


def plot_ceilings(report: dict[str, Any], ax: Axes) -> None:
    """Draw one thread's bandwidth over the bytes gone through, with the caches' sizes."""
    one = {(c["name"], c["footprint_bytes"]): c for c in report["ceilings"] if c["threads"] == 1}
    sizes = sorted({size for name, size in one if name in _CEILING_LOOKS})
    handles = []
    for name, look in _CEILING_LOOKS.items():
        x = [size for size in sizes if (name, size) in one]
        y = [one[name, size]["bytes_per_s"] / 1e9 for size in x]
        handles += ax.plot(x, y, "o", color=look.color, ls=look.dashes, ms=3, label=look.label)
    size_axis(ax, sizes)
    for level, size in report["caches_bytes"].items():
        if sizes[0] < size < sizes[-1]:
            ax.axvline(size, color=st.GREY, lw=0.8)
            ax.text(size, ax.get_ylim()[1], f" {level}", va="top", color=st.GREY, fontsize=8)
    ax.set(yscale="log", ylabel="GB/s, read and written", xlabel="bytes gone through")
    _label_powers(ax.yaxis)
    ax.set_title("Ceilings of one thread", loc="left")
    legend_above(ax, handles, ncols=4)


def plot_threads(report: dict[str, Any], ax: Axes) -> None:
    """Draw how much faster the parallel kernels are on more threads, at the largest guest."""
    rows, handles = report["scaling"], []
    counts = sorted({r["threads"] for r in rows}) or [1]
    ax.plot([1, counts[-1]], [1, counts[-1]], color=st.GREY, lw=1)
    for i, kernel in enumerate(dict.fromkeys(r["kernel"] for r in rows)):
        times = {r["threads"]: r["median_ns"] for r in rows if r["kernel"] == kernel}
        faster = [times[min(times)] / ns for ns in times.values()]
        color = (co.BLUE, co.VERMILION, co.GREEN)[i % 3]
        handles += ax.plot([*times], faster, f"{_MARKERS[i]}-", color=color, label=kernel)
    ax.set(xlabel="threads", ylabel="times as fast as on one", xticks=counts)
    ax.set_title("Scaling over threads", loc="left")
    legend_above(ax, handles)


def plot_sizes(report: dict[str, Any], kernel: str, ax: Axes) -> None:
    """Draw one kernel's time an item over the guest's size, beside its peers and its floor."""
    mine = [r for r in report["rows"] if r["kernel"] == kernel]
    for who, look in WHO_LOOKS.items():
        rows = [r for r in mine if r["who"] == ("p2mbatch" if who == "floor" else who)]
        if not rows:
            continue
        x = [r["memory_bytes"] for r in rows]
        names = ("floor_ns",) * 3 if who == "floor" else ("median_ns", "low_ns", "high_ns")
        times, low, high = ([r[name] / r["items"] for r in rows] for name in names)
        ax.fill_between(x, low, high, color=look.color, alpha=0.15, lw=0)
        line: dict[str, Any] = {"ls": look.dashes, "marker": look.marker or None, "ms": 4}
        ax.plot(x, times, color=look.color, label=look.label, **line)
    size_axis(ax, sorted({r["memory_bytes"] for r in mine}), max_labels=5)
    ax.set(yscale="log", ylabel=f"ns a {mine[0]['unit']}", xlabel="guest memory")
    _label_powers(ax.yaxis)
    ax.set_title(kernel, loc="left")


def plot_growth(curve: dict[str, Any], ax: Axes) -> None:
    """Draw one growth curve with its fitted exponent."""
    x, y, low, high = ([p[name] for p in curve["points"]] for name in ("x", "y", "low", "high"))
    ax.plot(x, y, color=co.BLUE, marker="o", ms=4)
    ax.fill_between(x, low, high, color=co.BLUE, alpha=0.15, lw=0)
    ax.set(xscale="log", yscale="log", xlabel=curve["over"], ylabel=curve["unit"])
    _label_powers(ax.xaxis, ax.yaxis)
    # One point has none.
    fitted = "" if math.isnan(curve["exponent"]) else f": exponent {curve['exponent']:.2f}"
    ax.set_title(f"{curve['what']}{fitted}", loc="left", fontsize=10)
    if curve["unit"] == "bytes":
        ax.set_yscale("log", base=2)
        ax.yaxis.set_major_formatter(lambda size, _: st.size_text(size))
        ax.yaxis.set_minor_formatter(lambda size, _: "")


class BenchFigure(NamedTuple):
    """One figure of the report: `plots` says what is drawn, each into axes of its own."""

    caption: str
    size: tuple[float, float]
    """In inches; of a row, where there are several: they stand three a row, legend above."""
    plots: Callable[[dict[str, Any]], list[Callable[[Axes], None]]]

    def draw(self, report: dict[str, Any]) -> Figure:
        """Return the figure."""
        plots = self.plots(report)
        num_rows = -(-len(plots) // 3)
        with style():
            figure, ax = new_figure((self.size[0], self.size[1] * num_rows))
            grid = [ax]
            if len(plots) > 1:
                ax.remove()
                grid = [*figure.subplots(num_rows, 3, squeeze=False).ravel()]
            for ax, plot in zip(grid, plots, strict=False):
                plot(ax)
            for ax in grid[len(plots) :]:
                ax.set_axis_off()
            lines = {line.get_label(): line for ax in grid for line in ax.get_lines()}
            named = [line for name, line in lines.items() if not str(name).startswith("_")]
            if len(plots) > 1 and named:
                figure.legend(handles=named, loc="outside upper left", ncols=6)
        return figure


FIGURES = {
    "roofline": BenchFigure(
        "Each kernel's time over its floor.", (7.6, 5.0), lambda r: [partial(plot_roofline, r)]
    ),
    "ceilings": BenchFigure(
        "Bandwidth over footprint.", (7.6, 3.8), lambda r: [partial(plot_ceilings, r)]
    ),
    "threads": BenchFigure(
        "The parallel kernels over threads.", (5.6, 3.8), lambda r: [partial(plot_threads, r)]
    ),
    "sizes": BenchFigure(
        "Time an item over the guest's size; bands are quartiles.", (11.5, 3.2),
        lambda r: [partial(plot_sizes, r, name) for name in dict.fromkeys(
            row["kernel"] for row in r["rows"]
        )],
    ),
    "growth": BenchFigure(
        "How time and memory grow, with fitted exponents.", (11.5, 3.0),
        lambda r: [partial(plot_growth, curve) for curve in r["growth"]],
    ),
}  # fmt: skip
"""The figures by name, in the report's order."""
