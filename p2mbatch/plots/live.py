"""The figure of guests that grow while they move: what goes wrong, what is lost, how many tries."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from p2mbatch.base.arrays import Float64Array
from p2mbatch.base.colors import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION
from p2mbatch.plots.style import (
    GREY,
    PAPER,
    axes_for,
    frame_of,
    legend_above,
    say_empty,
    size_axis,
    size_text,
    style,
)
from p2mbatch.plots.tips import Mark, Marks, point_tip
from p2mbatch.store.live import LiveLine, live_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class _Panel(NamedTuple):
    """One measure over the churn."""

    title: str
    values: Callable[[LiveLine], Float64Array]
    said: str
    """What a tip says of a value."""
    kind: str


_PANELS = (
    _Panel("guests moved wrong (%)", lambda line: 100 * line.wrong, "moved wrong {:.3g} %", "part"),
    _Panel("pages lost in a move", lambda line: line.lost_pages, "{:,.3g} pages lost", "count"),
    _Panel("tries until it is moved", lambda line: line.tries, "{:.3g} tries", "tries"),
)

_WHERE = {
    "within": "more within its memory",
    "beyond": "more beyond its end",
    "identity": "more in its 1:1 pages",
}

_COLORS = (VERMILION, ORANGE, PURPLE, BLACK, BLUE, SKY, GREEN)
_MARKERS = ("o", "s", "^", "v", "D", "P", "X")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.6)), (0, (3, 1, 1, 1)))


def plot_live(result: Any, *, ax: Axes | None = None) -> Axes:
    """Draw what became of live guests over how much they got in each round, a line a kernel.

    `result` is a `SweepResult` or its table. A row of panels for each place where guests get more:
    how many were moved wrong, what a move lost, how many tries one took. Kernels of which a whole
    row is alike share a line. Where nothing was moved the tries are above the last line of the
    axis. Returns the axes, which hold the panels.
    """
    with style():
        ax = axes_for(ax)
        ax.set_title("Guests that grow while they move")
        lines = live_lines(frame_of(result))
        if not lines:
            return say_empty(ax, "no guest of this run gets more while it is sent")
        ax.set_axis_off()
        places = list(dict.fromkeys(line.where for line in lines))
        labels = list(dict.fromkeys(line.kernel for line in lines))
        marks = Marks(result)
        for row, where in enumerate(places):
            here = _alike([line for line in lines if line.where == where])
            for column, panel in enumerate(_PANELS):
                part = _inset(ax, row, column, len(places))
                _draw(part, panel, here, labels, marks)
                part.set_title(panel.title if row == 0 else "", fontsize=9, loc="left")
                if column == 0:
                    part.set_ylabel(_WHERE[where])
                if row == len(places) - 1:
                    part.set_xlabel("more in a round, on average")
                else:
                    part.tick_params(labelbottom=False)
        legend_above(ax, _legend(ax, labels), ncols=min(len(labels), 7))
        return ax


def _inset(ax: Axes, row: int, column: int, num_rows: int) -> Axes:
    """Return the axes of one panel."""
    width, height = 0.27, 0.8 / num_rows
    x = 0.06 + column * 0.335
    y = 0.1 + (num_rows - 1 - row) * 0.92 / num_rows
    part = ax.inset_axes((x, y, width, height))
    part.set_in_layout(False)
    return part


def _alike(lines: list[LiveLine]) -> list[tuple[LiveLine, list[str]]]:
    """Return lines that differ somewhere, each with the kernels that it is of."""
    found: list[tuple[LiveLine, list[str]]] = []
    for line in lines:
        for other, kernels in found:
            if all(
                np.array_equal(panel.values(line), panel.values(other), equal_nan=True)
                for panel in _PANELS
            ) and np.array_equal(line.churn_bytes, other.churn_bytes):
                kernels.append(line.kernel)
                break
        else:
            found.append((line, [line.kernel]))
    return found


def _look(labels: list[str], kernel: str) -> dict[str, Any]:
    k = labels.index(kernel)
    return {
        "color": _COLORS[k % len(_COLORS)],
        "marker": _MARKERS[k % len(_MARKERS)],
        "ls": _DASHES[k % len(_DASHES)],
    }


def _legend(ax: Axes, labels: list[str]) -> list[Any]:
    from matplotlib.lines import Line2D

    return [Line2D([], [], label=label, **_look(labels, label)) for label in labels]


def _draw(
    ax: Axes,
    panel: _Panel,
    lines: list[tuple[LiveLine, list[str]]],
    labels: list[str],
    marks: Marks,
) -> None:
    """Draw one measure of each kernel, of those that are alike side by side on one line."""
    churns = np.unique(np.concatenate([line.churn_bytes for line, _ in lines]))
    top = _axis(ax, panel, [line for line, _ in lines])
    for line, kernels in lines:
        y = np.where(np.isinf(panel.values(line)), top, panel.values(line))
        for k, kernel in enumerate(kernels):
            look = _look(labels, kernel)
            # Of those that are alike each has a part of the marks.
            every = (k, len(kernels)) if len(churns) > len(kernels) else (k % len(churns), 1)
            ax.plot(
                line.churn_bytes, y, markevery=every, ms=4.5, lw=1.4, markeredgecolor=PAPER,
                markeredgewidth=0.5, clip_on=False, zorder=3, **look,
            )  # fmt: skip
        for k, value in enumerate(panel.values(line).tolist()):
            if np.isnan(value):
                continue
            churn = int(line.churn_bytes[k])
            told = f"none moved in {line.most_tries} tries"
            told = told if np.isinf(value) else panel.said.format(value)
            said = f"{', '.join(kernels)}, {size_text(churn)}: {told}"
            cells = {**line.filters, "churn_bytes": str(churn)}
            point_tip(ax, churn, float(y[k]), Mark(said, cells, marks.name(line.cells[k])))
    size_axis(ax, churns, max_labels=4)


def _axis(ax: Axes, panel: _Panel, lines: list[LiveLine]) -> float:
    """Scale a panel's value axis; return where values lie that have no end."""
    if panel.kind == "part":
        ax.set_ylim(0, 100)
        return 100.0
    found = np.concatenate([panel.values(line) for line in lines])
    found = found[np.isfinite(found)]
    highest = float(found.max(initial=1))
    if panel.kind == "count":
        ax.set_yscale("symlog", linthresh=1)
        ax.set_ylim(0, max(10.0, 2 * highest))
        _ticks(ax, [0, *(10**k for k in range(9) if 10**k < 2 * max(highest, 5))])
        return highest
    top = 2 * max(2.0, highest, *(line.most_tries for line in lines))
    ax.set_yscale("log")
    ax.set_ylim(1, top)
    ax.axhline(top / 1.4, color=GREY, lw=0.8, zorder=1)
    _ticks(ax, [n for n in (1, 2, 5, 10, 20, 50, 100) if n < top / 1.4], ("none", top))
    return top


def _ticks(ax: Axes, values: list[int], last: tuple[str, float] | None = None) -> None:
    """Label the value axis at these numbers alone, and at a last place by a word."""
    from matplotlib.ticker import NullLocator

    named = [(f"{value:,}", float(value)) for value in values] + ([last] if last else [])
    ax.set_yticks([place for _, place in named], [name for name, _ in named])
    ax.yaxis.set_minor_locator(NullLocator())
