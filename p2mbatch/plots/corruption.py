"""The figure of stray writes that no outcome tells of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from p2mbatch.base.say import one_line
from p2mbatch.model.fates import DAMAGE
from p2mbatch.model.policies import sort_key
from p2mbatch.plots.style import (
    GREY,
    PAPER,
    axes_for,
    axis_title,
    frame_of,
    legend_above,
    policy_look,
    say_empty,
    size_axis,
    size_text,
    style,
)
from p2mbatch.plots.tips import Marks, point_tip
from p2mbatch.store.statistics import by_size, came_through, quantiles, silent_shares

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


_COLUMNS = ["cell", "policy", "memory_bytes", "migration", "outcome", "stray_pages", *DAMAGE]

_NONE = "none of its guests came through a migration"


def plot_corruption(result: Any, *, ax: Axes | None = None) -> Axes:
    """Draw stray writes and the pages that they hit against guest memory, per policy.

    Medians of the migrations that were reported ok, with bars from the 5th to the 95th percentile;
    the line of percentages says how many of those had stray writes: corruption that nobody is told
    of. Of more than some dozen sizes there is a place for each range of them; where all guests are
    of one size the policies stand side by side. Returns the axes.
    """
    from matplotlib.lines import Line2D

    with style():
        ax = axes_for(ax)
        frame = frame_of(result)
        ax.set_title("Stray writes that no outcome tells of")
        rows = by_size(came_through(frame[_COLUMNS]))
        if rows.empty:
            return say_empty(ax, "no guest came through a migration in this run")
        policies = sorted(rows["policy"].unique(), key=sort_key)
        sizes = np.sort(rows["size"].unique())
        handles: list[Any] = []
        marks = Marks(result)
        for index, policy in enumerate(policies):
            look = policy_look(policy)
            own = rows[(rows["policy"] == policy).to_numpy()]
            # Side by side, and within the axis however close the sizes are.
            step = min(1.012, float(sizes[-1] / sizes[0]) ** 0.01)
            shift = step ** (index - (len(policies) - 1) / 2)
            for column, filled in (("stray_writes", True), ("stray_pages", False)):
                found = quantiles(own, column, "size", (0.05, 0.5, 0.95))
                x = found.index.to_numpy(np.float64) * shift
                if len(sizes) == 1:
                    x = np.array([index + (0.0 if filled else 0.18)])
                low, mid, high = (found[level].to_numpy() for level in found)
                for at, size, number in zip(x, found.index, mid, strict=True):
                    what = "stray writes" if filled else "pages hit"
                    said = f"{look.label}, {size_text(float(size))}: {number:,.0f} {what}"
                    there = own[(own["size"] == size).to_numpy()]
                    mark = marks.of(said, there, ["memory_bytes"], policy=one_line(policy))
                    point_tip(ax, float(at), float(number), mark)
                ax.errorbar(
                    x, mid, [mid - low, high - mid], color=look.color, marker=look.marker,
                    ls="-" if filled else ":", lw=1.5, elinewidth=0.9, capsize=2.2,
                    mfc=look.color if filled else PAPER, clip_on=False, zorder=3 + index,
                )  # fmt: skip
            handles.append(Line2D([], [], color=look.color, marker=look.marker, label=look.label))
        handles += [
            Line2D([], [], color=GREY, marker="o", label="stray writes (words)"),
            Line2D([], [], color=GREY, marker="o", mfc=PAPER, ls=":", label="pages hit"),
        ]
        absent = sorted(set(frame["policy"].unique()) - set(policies), key=sort_key)
        for policy in absent:
            handles.append(Line2D([], [], ls="", label=f"{policy_look(policy).label}: {_NONE}"))
        _from_zero(ax, float(rows["stray_writes"].max()))
        if len(sizes) == 1:
            _side_by_side(ax, rows, policies)
        else:
            size_axis(ax, sizes)
            ax.set_xlabel(axis_title("memory_bytes"))
            _silent_shares(ax, rows, policies, sizes)
        ax.set_ylabel("per migration that was reported ok")
        legend_above(ax, handles, ncols=3)
        return ax


def _side_by_side(ax: Axes, rows: pd.DataFrame, policies: list[Any]) -> None:
    """Name the policies of a run of one size, and how many of their migrations did damage."""
    shares = silent_shares(rows, "size")
    size = float(rows["size"].iloc[0])
    names = [
        f"{policy_look(policy).label}\n{shares[policy, size] * 100:.0f} % corrupted unseen"
        for policy in policies
    ]
    ax.set_xticks(range(len(policies)), names)
    ax.set_xlim(-0.6, len(policies) - 0.4)
    ax.set_xlabel(f"guests of {size_text(float(rows['memory_bytes'].iloc[0]))}")


def _from_zero(ax: Axes, top: float) -> None:
    """Make y logarithmic but for a linear stretch that has room for zero."""
    decades = max(int(np.ceil(np.log10(max(top, 1.0)))), 1)
    ax.set_yscale("symlog", linthresh=1, linscale=0.6)
    ax.set_ylim(-0.15, 10 ** (decades + 0.2))
    step = max(1, -(-decades // 7))
    ticks = [0, *(10**k for k in range(0, decades + 1, step))]
    ax.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.minorticks_off()


def _silent_shares(
    ax: Axes, rows: pd.DataFrame, policies: list[Any], sizes: npt.NDArray[Any]
) -> None:
    """Write above the data, per policy and size, how many ok migrations corrupted the guest."""
    from matplotlib.transforms import blended_transform_factory

    low, high = ax.get_ylim()
    ax.set_ylim(low, high * 10 ** (0.45 * (len(policies) + 1)))
    where = blended_transform_factory(ax.transData, ax.transAxes)
    ax.text(
        0.012, 0.985, "of the migrations reported ok, so many had corrupted the guest:",
        transform=ax.transAxes, va="top", fontsize=8.5, color=GREY,
    )  # fmt: skip
    shares = silent_shares(rows, "size")
    logs = np.log2(sizes.astype(np.float64))
    room = (logs[-1] - logs[0]) / 9
    for index, policy in enumerate(policies):
        last = -np.inf
        for size, log in zip(sizes, logs, strict=True):
            if (policy, size) not in shares.index or log - last < room:
                continue
            last = log
            ax.text(
                float(size), 0.915 - 0.062 * index, f"{shares[policy, size] * 100:.0f} %",
                transform=where,
                ha="center", va="top", fontsize=8.5, color=policy_look(policy).color,
                fontweight="bold",
            )  # fmt: skip
