"""The figure of what a migration costs: time over guest size."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from p2mbatch.base.colors import BLACK, BLUE, GREEN, VERMILION
from p2mbatch.base.provenance import cpu_name
from p2mbatch.plots.style import (
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
    time_text,
)
from p2mbatch.plots.tips import Marks, point_tip
from p2mbatch.store.statistics import by_size, came_through, list_bytes, medians, quantiles

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


_COLUMNS = ["cell", "memory_bytes", "migration", "outcome", "leaves", "word_bytes"]

COSTS = {
    "rebuild_ns": Look("rebuild of the list", VERMILION, "", "s", (0, (5, 2))),
    "save_walk_ns": Look("toolstack's save walk", BLUE, "", "o", "-"),
    "restore_ns": Look("restore", GREEN, "", "^", (0, (1, 1.6))),
}


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
        rows = by_size(came_through(frame[[*_COLUMNS, *COSTS]]))
        if rows.empty:
            return say_empty(ax, "no guest came through a migration in this run")
        floor = _floor_ns(rows)
        shown = {name: look for name, look in COSTS.items() if (rows[name] > 0).any()}
        quartiles = {
            name: quantiles(rows, name, "size", (0.25, 0.5, 0.75)).clip(lower=1) for name in shown
        }
        ax.set_yscale("log")
        ax.set_ylabel("time (median, quartiles)")
        if len(floor) == 1:
            _bars(ax, shown, quartiles, float(floor.iloc[0]), _elsewhere(result))
            ax.set_xlabel(f"guests of {size_text(float(rows['memory_bytes'].iloc[0]))}")
            _time_axis(ax)
            return ax
        handles: list[Any] = []
        marks = Marks(result)
        for column, look in shown.items():
            found = quartiles[column]
            x = found.index.to_numpy(np.float64)
            ax.fill_between(x, found[0.25], found[0.75], color=look.color, alpha=0.15, lw=0)
            for size, median in zip(x.tolist(), found[0.5].tolist(), strict=True):
                said = f"{look.label}, {size_text(size)}: {time_text(median)}"
                there = rows[(rows["size"] == size).to_numpy()]
                point_tip(ax, size, median, marks.of(said, there, ["memory_bytes"]))
            handles += ax.plot(
                x, found[0.5], color=look.color, ls=look.dashes, marker=look.marker,
                mec=PAPER, label=look.label,
            )  # fmt: skip
        handles += ax.plot(
            floor.index, floor.to_numpy(), color=BLACK, lw=1.2, ls=(0, (3, 2, 1, 2)),
            label=f"memory's floor: copying the list{_elsewhere(result)}",
        )  # fmt: skip
        size_axis(ax, floor.index.to_numpy())
        _time_axis(ax)
        ax.set_xlabel(axis_title("memory_bytes"))
        legend_above(ax, handles, ncols=2)
        return ax


def _floor_ns(rows: pd.DataFrame) -> pd.Series[float]:
    """Return by size the time in which this machine copies as many bytes as the list has."""
    sizes = medians(rows.assign(list_bytes=list_bytes(rows)), "list_bytes", "size")
    copies = np.array([copy_ns(size) for size in sizes])
    # Fewer bytes can't take longer: where they did, something else had the processor.
    return sizes * 0.0 + np.minimum.accumulate(copies[::-1])[::-1]


def _bars(
    ax: Axes,
    shown: dict[str, Look],
    quartiles: dict[str, pd.DataFrame],
    floor_ns: float,
    elsewhere: str,
) -> None:
    """Draw the times of guests that are all of one size, side by side."""
    for index, (column, look) in enumerate(shown.items()):
        low, mid, high = (float(quartiles[column][level].iloc[0]) for level in (0.25, 0.5, 0.75))
        ax.bar(index, mid, 0.6, color=look.color, alpha=0.75)
        ax.errorbar([index], [mid], [[mid - low], [high - mid]], color=BLACK, capsize=4, lw=1)
    ax.axhline(floor_ns, color=BLACK, lw=1.2, ls=(0, (3, 2, 1, 2)))
    ax.text(
        len(shown) - 0.45, floor_ns, f"memory's floor: copying the list{elsewhere}", ha="right",
        va="bottom", fontsize=8.5,
    )  # fmt: skip
    ax.set_xticks(range(len(shown)), [look.label for look in shown.values()])


def _elsewhere(result: Any) -> str:
    """Return a remark for the floor where the run was made on another machine than this."""
    ran_on = getattr(result, "provenance", {}).get("cpu")
    return "" if ran_on in (None, cpu_name()) else f" (on {cpu_name()}, not the run's machine)"


def _time_axis(ax: Axes) -> None:
    """Label whole decades of nanoseconds with the unit that a person would use."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter

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
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.grid(visible=True, which="major")
