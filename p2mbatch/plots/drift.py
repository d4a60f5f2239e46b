"""The figure of whether a migration's cost stays while a guest is migrated again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from p2mbatch.base.colors import BLACK
from p2mbatch.plots.costs import COSTS
from p2mbatch.plots.style import axes_for, digits, frame_of, legend_above, say_empty, style
from p2mbatch.plots.tips import Marks, point_tip
from p2mbatch.store.bins import binned
from p2mbatch.store.statistics import quantiles, through_all

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_PLACES, _NUM_RANGES = 40, 25
"""Of more migrations ranges are shown."""


def plot_drift(result: Any, *, ax: Axes | None = None) -> Axes:
    """Draw each cost of a migration over its number, as a part of the guest's own median.

    Only guests that came through all their migrations count, so that each place of the line is of
    the same ones: medians over them, with bands between the quartiles. Returns the axes.
    """
    with style():
        ax = axes_for(ax)
        ax.set_title("Time per migration, as a guest is migrated again")
        rows = through_all(frame_of(result), COSTS)
        if rows.empty or rows["migration"].max() < 2:
            return say_empty(ax, "no guest came through two migrations or more in this run")
        places = binned(rows["migration"], "migration", _MAX_PLACES, _NUM_RANGES)
        rows = rows.assign(place=places.each)
        handles: list[Any] = []
        marks = Marks(result)
        for column, look in COSTS.items():
            own = rows.groupby("cell", sort=False)[column].transform("median")
            shown = rows.assign(part=rows[column] / own)[(own > 0).to_numpy()]
            if shown.empty:
                continue
            found = quantiles(shown, "part", "place", (0.25, 0.5, 0.75))
            x = found.index.to_numpy(np.float64)
            ax.fill_between(x, found[0.25], found[0.75], color=look.color, alpha=0.15, lw=0)
            for place, part in zip(x.tolist(), found[0.5].tolist(), strict=True):
                said = f"{look.label}, migration {place:,.0f}: {digits(part)} times"
                there = shown[(shown["place"] == place).to_numpy()]
                mark = marks.of(said, there.head(1), survived=f"{there['migration'].max()}..")
                point_tip(ax, place, part, mark)
            handles += ax.plot(
                x, found[0.5], color=look.color, ls=look.dashes, marker=look.marker, ms=4,
                label=look.label,
            )  # fmt: skip
        ax.axhline(1, color=BLACK, lw=0.8, zorder=1)
        ax.set_ylim(0, max(2.0, ax.get_ylim()[1]))
        ax.set_xlabel("migration")
        ax.set_ylabel("time, of the guest's own median (quartiles)")
        legend_above(ax, handles, ncols=3)
        return ax
