"""Figures: each `plot_*(result, *, ax=None, …)` draws one into an Axes and returns it.

`result` is a `SweepResult` or its table; without `ax` a new pyplot figure is made. `PLOTS` names
them for `p2mbatch plot` and the report, `save` writes one to a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2mbatch.base.lazy import exports

if TYPE_CHECKING:
    from p2mbatch.plots.corruption import plot_corruption
    from p2mbatch.plots.costs import copy_ns, plot_cost
    from p2mbatch.plots.drift import plot_drift
    from p2mbatch.plots.gallery import FORMATS, PLOTS, Plot, draw, save
    from p2mbatch.plots.live import plot_live
    from p2mbatch.plots.outcomes import plot_outcomes
    from p2mbatch.plots.overhead import plot_overhead
    from p2mbatch.plots.survival import plot_survival
    from p2mbatch.plots.tree import plot_tree
else:
    _EXPORTS = {
        "FORMATS": "gallery",
        "PLOTS": "gallery",
        "Plot": "gallery",
        "copy_ns": "costs",
        "draw": "gallery",
        "plot_corruption": "corruption",
        "plot_cost": "costs",
        "plot_drift": "drift",
        "plot_live": "live",
        "plot_outcomes": "outcomes",
        "plot_overhead": "overhead",
        "plot_survival": "survival",
        "plot_tree": "tree",
        "save": "gallery",
    }
    __getattr__, __dir__ = exports(__name__, _EXPORTS)

__all__ = [
    "FORMATS",
    "PLOTS",
    "Plot",
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
