"""Figures: each `plot_*(result, *, ax=None, …)` draws one into an Axes and returns it.

`result` is a `SweepResult` or its table; without `ax` a new pyplot figure is made. `PLOTS` names
them for `p2mbatch plot` and the report, `save` writes one to a file.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from p2mbatch.base.errors import InputError
from p2mbatch.base.files import write_whole
from p2mbatch.guests.tree_view import Snapshot
from p2mbatch.plots.corruption import plot_corruption
from p2mbatch.plots.costs import copy_ns, plot_cost
from p2mbatch.plots.drift import plot_drift
from p2mbatch.plots.live import plot_live
from p2mbatch.plots.outcomes import plot_outcomes
from p2mbatch.plots.overhead import plot_overhead
from p2mbatch.plots.style import new_figure, style
from p2mbatch.plots.survival import plot_survival
from p2mbatch.plots.tips import with_tips
from p2mbatch.plots.tree import plot_tree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


__all__ = [
    "PLOTS",
    "Plot",
    "Snapshot",
    "caption_of",
    "copy_ns",
    "draw",
    "plot_corruption",
    "plot_cost",
    "plot_drift",
    "plot_live",
    "plot_outcomes",
    "plot_overhead",
    "plot_survival",
    "plot_tree",
    "save",
]

FORMATS = ("svg", "png", "pdf")


class Plot(NamedTuple):
    """One kind of figure."""

    function: Callable[..., Axes]
    size: tuple[float, float]
    """Width and height in inches."""
    caption: str
    """One sentence: what the figure shows and how to read it."""


PLOTS: dict[str, Plot] = {
    "tree": Plot(
        plot_tree,
        (12.6, 6.6),
        "One guest of the run before and after its first migration: above the leaves its own tree, "
        "below them the list that the toolstack reads, at the bottom its memory.",
    ),
    "survival": Plot(
        plot_survival,
        (8.0, 4.8),
        "Share of the guests that had come through each migration (bands: 95 % over seeds), and "
        "below zero what became of the others in it.",
    ),
    "outcomes": Plot(
        plot_outcomes,
        (8.0, 4.8),
        "Fates over two axes of the sweep: each tile is split by what became of its guests.",
    ),
    "corruption": Plot(
        plot_corruption,
        (8.0, 4.8),
        "Words written to pages that are not the list's, and how many pages they hit, in "
        "migrations that were reported ok (medians, 5th to 95th percentile).",
    ),
    "overhead": Plot(
        plot_overhead,
        (8.0, 4.8),
        "Memory of the tree and its list as a share of what the guest has, by where its holes lie.",
    ),
    "cost": Plot(
        plot_cost,
        (8.0, 4.8),
        "Time that this model's kernels take per migration, against the time in which memory can "
        "copy as many bytes as the list has.",
    ),
    "drift": Plot(
        plot_drift,
        (8.0, 4.8),
        "Whether a migration's time stays: of the guests that came through all their migrations, "
        "each one's time as a part of its own median.",
    ),
    "live": Plot(
        plot_live,
        (10.6, 6.4),
        "Guests that get more in each round of a live migration, a line a kernel: how many were "
        "moved wrong, how many pages a move lost without a word, and how many tries it took where "
        "the toolstack gives up; above, growth within their memory, below, beyond its end.",
    ),
}


def caption_of(name: str, figure: Figure) -> str:
    """Return the caption of `figure`, drawn by `draw`: of what is in it, and of nothing else."""
    caption = PLOTS[name].caption
    if name == "outcomes" and figure.axes[0].texts:
        caption += " The numbers say how many survived."
    return caption


def draw(name: str, result: Any, **options: Any) -> Figure:
    """Return a new figure with the plot `name` of `result`; `options` go to its function.

    Raises `InputError` for a name that is not in `PLOTS`.
    """
    if name not in PLOTS:
        raise InputError(f"{name!r} is no figure: use {', '.join(PLOTS)}")
    with style():
        figure, ax = new_figure(PLOTS[name].size)
        PLOTS[name].function(result, ax=ax, **options)
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Write `figure` to `path`, in the format that its ending names (svg, png or pdf).

    All or nothing. Raises `InputError` for another ending, or where the place can't be written to.
    The file holds no date, so the same figure gives the
    same bytes.
    """
    target = Path(path)
    kind = target.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise InputError(f"{path}: end the name in .{', .'.join(FORMATS)}: that says the format")
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[kind]
    drawn = io.BytesIO()
    with style():
        figure.savefig(drawn, format=kind, metadata=metadata)
    content = drawn.getvalue()
    if kind == "svg":
        content = with_tips(content.decode()).encode()
    write_whole(target, lambda file: file.write(content))
