"""Figures of what the structures cost: memory over sparsity, time over guest size."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from p2mbatch.base.colors import BLACK, BLUE, GREEN, VERMILION
from p2mbatch.base.provenance import cpu_name
from p2mbatch.plots.style import (
    GREY,
    LAYOUT_LOOKS,
    PAPER,
    Look,
    axes_for,
    axis_title,
    frame_of,
    legend_above,
    say_empty,
    size_axis,
    size_text,
    style,
)
from p2mbatch.store.columns import LAYOUTS
from p2mbatch.store.fates import last_rows, ordered
from p2mbatch.store.statistics import came_through, list_bytes, medians, quantiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_MAX_SIZES = 4

_SIZE_LINES = ((1.0, 1.2), (0.8, 1.8), (0.6, 2.5), (0.45, 3.4))
"""(alpha, width) of a line, the smallest guests first: larger ones are drawn broader."""

_COSTS = {
    "rebuild_ns": Look("rebuild of the list", VERMILION, "", "s", (0, (5, 2))),
    "save_walk_ns": Look("toolstack's save walk", BLUE, "", "o", "-"),
    "restore_ns": Look("restore", GREEN, "", "^", (0, (1, 1.6))),
}


def plot_overhead(result: Any, *, ax: Axes | None = None) -> Axes:
    """Draw what the tree and its list take, as a share of the populated memory, over sparsity.

    A line per layout and size: the layout by colour, dashes and marker, the size by the line's
    breadth; of more than four sizes, four spread over all. Medians over everything else. Returns
    the axes.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter

    with style():
        ax = axes_for(ax)
        frame = frame_of(result)
        ax.set_title("Memory that the p2m structures take")
        # Before the boot has gone through there is no tree to measure.
        frame = frame[(frame["outcome"] == "ok")]
        if frame.empty:
            return say_empty(ax, "no guest has booted in this run")
        frame = last_rows(frame)
        sizes = np.sort(frame["memory_bytes"].unique())
        if len(sizes) > _MAX_SIZES:
            sizes = sizes[np.linspace(0, len(sizes) - 1, _MAX_SIZES).round().astype(int)]
        layouts = ordered(list(frame["layout"].unique()), LAYOUTS)
        for layout in layouts:
            look = LAYOUT_LOOKS[layout]
            for size, (alpha, width) in zip(sizes, _SIZE_LINES, strict=False):
                own = frame[(frame["layout"] == layout) & (frame["memory_bytes"] == size)]
                line = medians(own, "structure_overhead", "sparsity")
                ax.plot(
                    line.index, line.to_numpy(), color=look.color, ls=look.dashes, alpha=alpha,
                    lw=width, marker=look.marker, ms=5, mec=PAPER, clip_on=False,
                )  # fmt: skip
        handles = [
            Line2D([], [], color=LAYOUT_LOOKS[name].color, ls=LAYOUT_LOOKS[name].dashes,
                   marker=LAYOUT_LOOKS[name].marker, label=f"holes: {name}")
            for name in layouts
        ]  # fmt: skip
        handles += [
            Line2D([], [], color=GREY, alpha=alpha, lw=width, label=size_text(size))
            for size, (alpha, width) in zip(sizes, _SIZE_LINES, strict=False)
        ]
        ax.set_xlabel(axis_title("sparsity"))
        ax.set_ylabel("share of the populated memory")
        ax.set_ylim(0, float(frame["structure_overhead"].max()) * 1.08)
        top = float(frame["structure_overhead"].max())
        digits = 2 if top < 0.02 else 1
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.{digits}f} %"))
        places = np.sort(frame["sparsity"].unique())
        pad = (places[-1] - places[0]) * 0.04 or 0.05
        ax.set_xlim(places[0] - pad, places[-1] + pad)
        if len(places) <= 11:
            ax.set_xticks(places, [f"{place:.3g}" for place in places])
        legend_above(ax, handles, ncols=4)
        return ax


def copy_ns(num_bytes: float, budget_ns: int = 5_000_000) -> float:
    """Return the nanoseconds in which this machine copies `num_bytes`, the best of many.

    From a buffer of that size to another, so that what fits a cache is measured in that cache; as
    often as `budget_ns` allows, at least three times.
    """
    source = np.ones(max(int(num_bytes) // 8, 1), np.int64)
    target = np.zeros_like(source)
    taken: list[int] = []
    begin = time.perf_counter_ns()
    while len(taken) < 3 or time.perf_counter_ns() - begin < budget_ns:
        start = time.perf_counter_ns()
        np.copyto(target, source)
        taken.append(time.perf_counter_ns() - start)
    return float(min(taken))


def plot_cost(result: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the time of rebuild, save walk and restore over guest memory, log-log.

    Medians over the migrations that went through, with bands between the quartiles. The floor is
    the bandwidth of memory at each size: the time in which this machine copies as many bytes as
    the list has (`list_bytes`, `copy_ns`), measured when the figure is drawn. Returns the axes.
    """
    with style():
        ax = axes_for(ax)
        frame = frame_of(result)
        ax.set_title("Time per migration")
        rows = came_through(frame)
        if rows.empty:
            return say_empty(ax, "no guest came through a migration in this run")
        handles: list[Any] = []
        for column, look in _COSTS.items():
            if not (rows[column] > 0).any():
                continue
            quartiles = quantiles(rows, column, "memory_bytes", (0.25, 0.5, 0.75)).clip(lower=1)
            x = quartiles.index.to_numpy(np.float64)
            ax.fill_between(x, quartiles[0.25], quartiles[0.75], color=look.color, alpha=0.15, lw=0)
            handles += ax.plot(
                x, quartiles[0.5], color=look.color, ls=look.dashes, marker=look.marker,
                mec=PAPER, label=look.label,
            )  # fmt: skip
        sizes = medians(rows.assign(list_bytes=list_bytes(rows)), "list_bytes", "memory_bytes")
        copies = np.array([copy_ns(size) for size in sizes])
        # Fewer bytes can't take longer: where they did, something else had the processor.
        copies = np.minimum.accumulate(copies[::-1])[::-1]
        handles += ax.plot(
            sizes.index, copies, color=BLACK, lw=1.2,
            ls=(0, (3, 2, 1, 2)), marker="_" if len(sizes) == 1 else "", ms=12,
            label=f"memory's floor: copying the list{_elsewhere(result)}",
        )  # fmt: skip
        ax.set_yscale("log")
        size_axis(ax, rows["memory_bytes"].unique())
        _time_axis(ax)
        ax.set_xlabel(axis_title("memory_bytes"))
        ax.set_ylabel("time (median, quartiles)")
        legend_above(ax, handles, ncols=2)
        return ax


def _elsewhere(result: Any) -> str:
    """Return a remark for the floor where the run was made on another machine than this."""
    ran_on = getattr(result, "provenance", {}).get("cpu")
    return "" if ran_on in (None, cpu_name()) else f" (on {cpu_name()}, not the run's machine)"


def _time_axis(ax: Axes) -> None:
    """Label whole decades of nanoseconds with the unit that a person would use."""
    from matplotlib.ticker import FixedFormatter, FixedLocator

    low, high = ax.get_ylim()
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    ax.set_ylim(10.0**first, 10.0**last)
    decades = range(first, last + 1)
    names = {0: "ns", 1: "µs", 2: "ms", 3: "s"}
    labels = [
        f"{10.0 ** (k - 3 * min(max(k // 3, 0), 3)):g} {names[min(max(k // 3, 0), 3)]}"
        for k in decades
    ]
    ax.yaxis.set_major_locator(FixedLocator([10.0**k for k in decades]))
    ax.yaxis.set_major_formatter(FixedFormatter(labels))
    ax.grid(visible=True, which="major")
