"""Figures of what became of the guests: survival, outcomes over two axes, silent corruption."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from p2mbatch.base.arrays import Float64Array
from p2mbatch.base.colors import BLACK
from p2mbatch.base.errors import InputError
from p2mbatch.model.fates import CORRUPTED, SURVIVED
from p2mbatch.model.policies import sort_key
from p2mbatch.plots.style import (
    FATE_LOOKS,
    GREY,
    PAPER,
    axes_for,
    axis_title,
    frame_of,
    legend_above,
    policy_look,
    say_empty,
    size_axis,
    style,
    thinned,
    value_text,
)
from p2mbatch.store.fates import (
    TELLING_AXES,
    fate_order,
    fates,
    last_rows,
    telling_migration,
    varying_axes,
    worst_policy,
)
from p2mbatch.store.statistics import came_through, quantiles, silent_shares

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


_MAX_TILES_DRAWN = 900
"""More tiles than this are painted as one image: hatches would be smaller than their lines."""


def _chosen_axes(frame: pd.DataFrame, x: str | None, y: str | None) -> tuple[str, str]:
    for name in (x, y):
        if name is not None and name not in (*TELLING_AXES, "migrations"):
            raise InputError(f"{name!r} is no axis of a sweep: use {', '.join(TELLING_AXES)}")
    free = [name for name in varying_axes(frame) if name not in (x, y)]
    x = x or next((name for name in free if name == "memory_bytes"), None)
    x = x or (free[0] if free else "memory_bytes")
    # The seed is the last resort: it is what repeats a cell, not what it is about.
    free = [name for name in free if name != x and (name != "seed")] + (
        ["seed"] if "seed" in free and x != "seed" else []
    )
    return x, y or (free[0] if free else "sparsity" if x != "sparsity" else "memory_bytes")


def plot_outcomes(
    result: Any,
    *,
    ax: Axes | None = None,
    x: str | None = None,
    y: str | None = None,
    policy: str | None = None,
    migration: int | None = None,
) -> Axes:
    """Draw what became of the guests by `migration` over two axes, as tiles.

    Each tile is split by the shares of its guests' fates. `x` and `y` are scenario columns
    (memory and the first other axis that varies), `policy` the one that fared worst, `migration`
    the one by which fates differ most, where nothing is said. Raises `InputError` for
    a name that is no axis.
    """
    with style():
        ax = axes_for(ax)
        frame = frame_of(result)
        if frame.empty:
            return say_empty(ax, "no cell has finished yet")
        policy = policy or worst_policy(frame)
        chosen = frame[frame["policy"] == policy]
        if migration is None and not chosen.empty:
            migration = telling_migration(chosen)
        last = migration or 0
        chosen = chosen[(chosen["migrations"] >= last) & (chosen["migration"] <= last)]
        if chosen.empty:
            when = f" that were to migrate {last} times" if last else ""
            return say_empty(ax, f"there are no guests of policy {policy!r}{when} in this run")
        x, y = _chosen_axes(chosen, x, y)
        ends = last_rows(chosen.assign(fate=fates(chosen)))
        by = "the boot" if last == 0 else f"migration {last}"
        ax.set_title(f"What became of the guests by {by}: {policy}")
        handles = _tiles(ax, ends, x, y)
        legend_above(ax, handles, ncols=3)
        return ax


def _tiles(ax: Axes, ends: pd.DataFrame, x: str, y: str) -> list[Any]:
    """Draw the tiles and return the legend's handles."""
    from matplotlib.patches import Patch

    columns = sorted(ends[x].unique(), key=_number_or_text)
    rows = sorted(ends[y].unique(), key=_number_or_text)
    order = fate_order(list(ends["fate"].unique()))
    counts = np.zeros((len(order), len(rows), len(columns)))
    np.add.at(
        counts,
        (
            ends["fate"].map({fate: i for i, fate in enumerate(order)}).to_numpy(),
            ends[y].map({value: i for i, value in enumerate(rows)}).to_numpy(),
            ends[x].map({value: i for i, value in enumerate(columns)}).to_numpy(),
        ),
        1,
    )
    total = counts.sum(axis=0)
    shares = counts / np.maximum(total, 1)
    if total.size <= _MAX_TILES_DRAWN:
        _draw_tiles(ax, shares, order)
    else:
        _paint_tiles(ax, shares, total, order)
    if len(columns) <= 9 and len(rows) <= 14:
        survived = [i for i, fate in enumerate(order) if fate in (SURVIVED, CORRUPTED)]
        _label_tiles(ax, counts[survived].sum(axis=0), total)
    ax.set_xlim(-0.5, len(columns) - 0.5)
    ax.set_ylim(-0.5, len(rows) - 0.5)
    ax.grid(visible=False)
    shown = thinned(len(columns), 9)
    ax.set_xticks(shown, [value_text(x, columns[i]) for i in shown])
    shown = thinned(len(rows), 14)
    ax.set_yticks(shown, [value_text(y, rows[i]) for i in shown])
    ax.set_xlabel(axis_title(x))
    ax.set_ylabel(axis_title(y).replace(" (fraction of the span not populated)", ""))
    return [
        Patch(
            facecolor=FATE_LOOKS[f].color, edgecolor=PAPER, hatch=FATE_LOOKS[f].hatch,
            label=FATE_LOOKS[f].label,
        )
        for f in order
    ]  # fmt: skip


def _number_or_text(value: Any) -> Any:
    return value if isinstance(value, str) else float(value)


def _draw_tiles(ax: Axes, shares: Float64Array, order: list[str]) -> None:
    """Draw each tile as rectangles side by side, hatched."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    left = np.zeros(shares.shape[1:])
    size = 0.94
    for index, fate in enumerate(order):
        look = FATE_LOOKS[fate]
        patches = [
            Rectangle(
                (column - size / 2 + left[row, column] * size, row - size / 2),
                shares[index, row, column] * size,
                size,
            )
            for row, column in np.argwhere(shares[index] > 0)
        ]
        left += shares[index]
        ax.add_collection(
            PatchCollection(
                patches, facecolor=look.color, edgecolor=PAPER, hatch=look.hatch, linewidth=0.4
            )
        )


def _paint_tiles(ax: Axes, shares: Float64Array, total: Float64Array, order: list[str]) -> None:
    """Paint all tiles as one image, each a few pixels wide so that shares still show."""
    from matplotlib.colors import to_rgb

    parts = 8
    edges = np.cumsum(shares, axis=0)
    middle = (np.arange(parts) + 0.5) / parts
    which = (middle[None, None, :] >= edges[..., None]).sum(axis=0).clip(max=len(order) - 1)
    colors = np.array([to_rgb(FATE_LOOKS[fate].color) for fate in order])
    image = colors[which]
    image[total == 0] = 1.0
    rows, columns = total.shape
    ax.imshow(
        image.reshape(rows, columns * parts, 3), origin="lower", aspect="auto",
        interpolation="nearest", extent=(-0.5, columns - 0.5, -0.5, rows - 0.5),
    )  # fmt: skip


def _label_tiles(ax: Axes, survived: Float64Array, total: Float64Array) -> None:
    """Write into each tile how many of its guests survived."""
    small = max(total.shape[1] / 9, total.shape[0] / 14, total.max() / 1e4)
    size = 8.5 if small < 0.75 else 7
    for row, column in np.argwhere(total > 0):
        ax.text(
            column, row, f"{survived[row, column]:.0f} of {total[row, column]:.0f}", ha="center",
            va="center", fontsize=size, color=BLACK,
            bbox={"boxstyle": "round,pad=0.2", "facecolor": PAPER, "edgecolor": "none",
                  "alpha": 0.88},
        )  # fmt: skip


def plot_corruption(result: Any, *, ax: Axes | None = None) -> Axes:
    """Draw stray writes and the pages that they hit against guest memory, per policy.

    Medians of the migrations that were reported ok, with bars from the 5th to the 95th percentile;
    the line of percentages says how many of those had stray writes: corruption that nobody is told
    of. Returns the axes.
    """
    from matplotlib.lines import Line2D

    with style():
        ax = axes_for(ax)
        frame = frame_of(result)
        ax.set_title("Stray writes that no outcome tells of")
        rows = came_through(frame)
        if rows.empty:
            return say_empty(ax, "no guest came through a migration in this run")
        policies = sorted(rows["policy"].unique(), key=sort_key)
        sizes = np.sort(rows["memory_bytes"].unique())
        handles: list[Any] = []
        for index, policy in enumerate(policies):
            look = policy_look(policy)
            own = rows[rows["policy"] == policy]
            shift = 1.012 ** (index - (len(policies) - 1) / 2)
            for column, filled in (("stray_writes", True), ("stray_pages", False)):
                found = quantiles(own, column, "memory_bytes", (0.05, 0.5, 0.95))
                x = found.index.to_numpy(np.float64) * shift
                low, mid, high = (found[level].to_numpy() for level in found)
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
        size_axis(ax, sizes)
        ax.set_xlabel(axis_title("memory_bytes"))
        ax.set_ylabel("per migration that was reported ok")
        _from_zero(ax, float(rows["stray_writes"].max()))
        _silent_shares(ax, rows, policies, sizes)
        legend_above(ax, handles, ncols=3)
        return ax


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
    shares = silent_shares(rows)
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
