"""The figure of what the structures take: memory over sparsity."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from p2mbatch.plots.style import (
    GREY,
    LAYOUT_LOOKS,
    PAPER,
    axes_for,
    axis_title,
    digits,
    frame_of,
    legend_above,
    say_empty,
    size_axis,
    size_text,
    style,
)
from p2mbatch.plots.tips import Marks, point_tip
from p2mbatch.store.bins import Bins, binned
from p2mbatch.store.columns import LAYOUTS
from p2mbatch.store.fates import last_rows, ordered
from p2mbatch.store.statistics import medians

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


_MAX_SIZES, _MAX_PLACES, _NUM_RANGES = 4, 48, 20
"""Lines for sizes; places along the axis, of more of which ranges are shown."""

_COLUMNS = ["cell", "migration", "memory_bytes", "sparsity", "layout", "structure_overhead"]

_SIZE_LINES = ((1.0, 1.2), (0.8, 1.8), (0.6, 2.5), (0.45, 3.4))
"""(alpha, width) of a line, the smallest guests first: larger ones are drawn broader."""


def plot_overhead(result: Any, *, ax: Axes | None = None) -> Axes:
    """Draw what the tree and its list take, as a share of the populated memory, over sparsity.

    A line per layout and size: the layout by colour, dashes and marker, the size by the line's
    breadth; of more than four sizes, four spread over all, of very many, four classes. Medians
    over everything else. Where all guests are of one sparsity the sizes are the axis, and where
    these are one too, the layouts. Returns the axes.
    """
    with style():
        ax = axes_for(ax)
        frame = frame_of(result)
        ax.set_title("Memory that the p2m structures take")
        # Before the boot has gone through there is no tree to measure.
        frame = frame[_COLUMNS][(frame["outcome"] == "ok").to_numpy()]
        if frame.empty:
            return say_empty(ax, "no guest has booted in this run")
        frame = last_rows(frame)
        layouts = ordered(list(frame["layout"].unique()), LAYOUTS)
        if frame["sparsity"].nunique() > 1:
            _over_sparsity(ax, frame, layouts, Marks(result))
        elif frame["memory_bytes"].nunique() > 1:
            _over_size(ax, frame, layouts, Marks(result))
        else:
            _by_layout(ax, frame, layouts)
        ax.set_ylabel("share of the populated memory")
        _share_axis(ax, float(frame["structure_overhead"].max()))
        return ax


def _share_axis(ax: Axes, top: float) -> None:
    from matplotlib.ticker import FuncFormatter

    ax.set_ylim(0, top * 1.08)
    places = 2 if top < 0.02 else 1
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.{places}f} %"))


def _placed(frame: pd.DataFrame, name: str) -> tuple[pd.DataFrame, Bins]:
    """Return `frame` with `place`: a column's value, or of many the middle of its range."""
    places = binned(frame[name], name, _MAX_PLACES, _NUM_RANGES)
    return frame.assign(place=np.array(places.values, np.float64)[places.codes]), places


def _line(
    ax: Axes, rows: pd.DataFrame, layout: str, marks: Marks, alpha: float = 1.0, width: float = 1.8
) -> None:
    look, line = LAYOUT_LOOKS[layout], medians(rows, "structure_overhead", "place")
    for place, share in line.items():
        at = float(str(place))
        where = size_text(at) if at > 1 else f"sparsity {digits(at)}"
        said = f"{layout}, {where}: {digits(share * 100)} %"
        there = rows[(rows["place"] == at).to_numpy()]
        mark = marks.of(said, there, ["sparsity", "memory_bytes"], layout=layout)
        point_tip(ax, at, float(share), mark)
    ax.plot(
        line.index, line.to_numpy(), color=look.color, ls=look.dashes, alpha=alpha, lw=width,
        marker=look.marker, ms=5, mec=PAPER, clip_on=False,
    )  # fmt: skip


def _over_sparsity(ax: Axes, frame: pd.DataFrame, layouts: list[str], marks: Marks) -> None:
    from matplotlib.lines import Line2D

    frame, places = _placed(frame, "sparsity")
    classes = _size_classes(frame)
    for layout in layouts:
        of_layout = (frame["layout"] == layout).to_numpy()
        for (_, chosen), (alpha, width) in zip(classes, _SIZE_LINES, strict=False):
            _line(ax, frame[of_layout & chosen], layout, marks, alpha, width)
    handles = [_layout_line(name) for name in layouts]
    handles += [
        Line2D([], [], color=GREY, alpha=alpha, lw=width, label=label)
        for (label, _), (alpha, width) in zip(classes, _SIZE_LINES, strict=False)
    ]
    ax.set_xlabel(axis_title("sparsity"))
    found = np.array(places.values if places.edges is None else places.edges, np.float64)
    pad = (found[-1] - found[0]) * 0.04
    ax.set_xlim(found[0] - pad, found[-1] + pad)
    if places.edges is None and len(found) <= 11:
        ax.set_xticks(found, [f"{place:.3g}" for place in found])
    legend_above(ax, handles, ncols=4)


def _size_classes(frame: pd.DataFrame) -> list[tuple[str, Any]]:
    """Return (label, which rows) of up to four sizes, or classes of sizes."""
    memory = frame["memory_bytes"].to_numpy()
    sizes = np.unique(memory)
    if len(sizes) <= _MAX_PLACES:
        if len(sizes) > _MAX_SIZES:
            sizes = sizes[np.linspace(0, len(sizes) - 1, _MAX_SIZES).round().astype(int)]
        return [(size_text(size), memory == size) for size in sizes]
    ends = np.exp2(np.linspace(np.log2(sizes[0]), np.log2(sizes[-1] + 1), _MAX_SIZES + 1))
    return [
        (f"{size_text(low)} to {size_text(high)}", (memory >= low) & (memory < high))
        for low, high in itertools.pairwise(ends)
        if ((memory >= low) & (memory < high)).any()
    ]


def _layout_line(name: str) -> Any:
    from matplotlib.lines import Line2D

    look = LAYOUT_LOOKS[name]
    label = f"holes: {name}"
    return Line2D([], [], color=look.color, ls=look.dashes, marker=look.marker, label=label)


def _over_size(ax: Axes, frame: pd.DataFrame, layouts: list[str], marks: Marks) -> None:
    frame, places = _placed(frame, "memory_bytes")
    for layout in layouts:
        _line(ax, frame[(frame["layout"] == layout).to_numpy()], layout, marks)
    size_axis(ax, places.values)
    ax.set_xlabel(f"{axis_title('memory_bytes')}, {_holes(frame)}")
    legend_above(ax, [_layout_line(name) for name in layouts], ncols=4)


def _by_layout(ax: Axes, frame: pd.DataFrame, layouts: list[str]) -> None:
    for index, name in enumerate(layouts):
        look = LAYOUT_LOOKS[name]
        own = frame["structure_overhead"][(frame["layout"] == name).to_numpy()].median()
        ax.bar(index, own, 0.5, color=look.color, hatch=look.hatch, edgecolor=PAPER)
    ax.set_xticks(range(len(layouts)), [f"holes: {name}" for name in layouts])
    ax.set_xlim(-0.8, len(layouts) - 0.2)
    ax.set_xlabel(f"guests of {size_text(int(frame['memory_bytes'].iloc[0]))}, {_holes(frame)}")


def _holes(frame: pd.DataFrame) -> str:
    share = float(frame["sparsity"].iloc[0])
    return f"{share * 100:.3g} % of the span not populated"
