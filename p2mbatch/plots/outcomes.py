"""The figure of what became of the guests over two axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from p2mbatch.base.arrays import Float64Array
from p2mbatch.base.colors import BLACK
from p2mbatch.base.errors import InputError
from p2mbatch.base.say import one_line
from p2mbatch.guests.fields import FILES
from p2mbatch.model.fates import CORRUPTED, SURVIVED
from p2mbatch.plots.style import (
    FATE_LOOKS,
    GREY,
    PAPER,
    axes_for,
    axis_title,
    frame_of,
    legend_above,
    say_empty,
    style,
    thinned,
    value_text,
)
from p2mbatch.plots.tips import MAX_TIPS, Mark, Marks, tile_tip
from p2mbatch.store.bins import Bins, binned
from p2mbatch.store.fates import (
    FATE_COLUMNS,
    TELLING_AXES,
    fate_order,
    fates,
    last_rows,
    telling_migration,
    varying_axes,
    worst_policy,
)
from p2mbatch.store.names import told_apart

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


_MAX_TILES_DRAWN = 900
"""More tiles than this are painted as one image: hatches would be smaller than their lines."""

_MAX_VALUES, _NUM_RANGES = 48, (14, 12)
"""An axis of more values is cut into about so many ranges, across and up."""

_NOBODY = "no guest of this kind in the run"


def _needed(frame: pd.DataFrame, x: str | None, y: str | None) -> list[str]:
    """Return what the figure is made of: of a million cells' table the rest is not copied."""
    told = ("fate",) if "fate" in frame else FATE_COLUMNS
    axes = {"memory_bytes", "sparsity", x, y, *varying_axes(frame)}
    wanted = {"cell", "policy", "migrations", "migration", *told, *axes}
    return [str(name) for name in frame if name in wanted]


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
        names = told_apart([*map(str, frame["policy"].unique()), policy])
        chosen = frame[_needed(frame, x, y)][(frame["policy"] == policy).to_numpy()]
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
        ax.set_title(f"What became of the guests by {by}: {names[policy]}")
        handles = _tiles(ax, ends, x, y, policy, Marks(result))
        legend_above(ax, handles, ncols=3)
        return ax


def _tiles(ax: Axes, ends: pd.DataFrame, x: str, y: str, policy: str, marks: Marks) -> list[Any]:
    """Draw the tiles and return the legend's handles."""
    from matplotlib.patches import Patch

    columns, rows = (
        binned(ends[name], name, _MAX_VALUES, number)
        for name, number in zip((x, y), _NUM_RANGES, strict=True)
    )
    order = fate_order([str(fate) for fate in ends["fate"].unique()])
    fate = ends["fate"].map({fate: i for i, fate in enumerate(order)}).to_numpy(np.int64)
    shape = (len(order), len(rows.values), len(columns.values))
    cell = np.ravel_multi_index((fate, rows.codes, columns.codes), shape)
    counts = np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)
    total = counts.sum(axis=0)
    shares = counts / np.maximum(total, 1)
    if total.size <= _MAX_TILES_DRAWN:
        _draw_tiles(ax, shares, order)
    else:
        _paint_tiles(ax, shares, total, order)
    if shape[2] <= 9 and shape[1] <= 14:
        survived = [i for i, fate in enumerate(order) if fate in (SURVIVED, CORRUPTED)]
        _label_tiles(ax, counts[survived].sum(axis=0), total)
    if total.size <= MAX_TIPS:
        place = rows.codes * len(columns.values) + columns.codes
        first = dict(zip(place[::-1].tolist(), ends["cell"].to_numpy()[::-1], strict=True))
        named = {at: marks.name(cell) for at, cell in first.items()}
        _tips(ax, counts, order, (x, columns), (y, rows), policy, named)
    ax.set_xlim(-0.5, shape[2] - 0.5)
    ax.set_ylim(-0.5, shape[1] - 0.5)
    ax.grid(visible=False)
    _ticks(ax.xaxis, x, columns, 9)
    _ticks(ax.yaxis, y, rows, 14)
    ax.set_xlabel(axis_title(x))
    ax.set_ylabel(axis_title(y).replace(" (fraction of the span not populated)", ""))
    handles = [
        Patch(
            facecolor=FATE_LOOKS[f].color, edgecolor=PAPER, hatch=FATE_LOOKS[f].hatch,
            label=FATE_LOOKS[f].label,
        )
        for f in order
    ]  # fmt: skip
    if (total == 0).any():
        handles.append(Patch(facecolor=PAPER, edgecolor=GREY, ls=":", label=_NOBODY))
    return handles


def _tips(
    ax: Axes,
    counts: Float64Array,
    order: list[str],
    across: tuple[str, Bins],
    up: tuple[str, Bins],
    policy: str,
    first: dict[int, str],
) -> None:
    """Say of each tile where it is and what became of its guests; `first` names one of each."""
    total = counts.sum(axis=0)
    for row, column in np.argwhere(total > 0).tolist():
        here = zip(order, counts[:, row, column].tolist(), strict=True)
        fates_here = ", ".join(f"{number:,.0f} {fate}" for fate, number in here if number)
        where = ", ".join(_named(*up, row) + _named(*across, column))
        cells = {name: _value(name, at, i) for (name, at), i in ((up, row), (across, column))}
        mark = Mark(
            f"{where}: {fates_here}",
            {"policy": one_line(policy)} | cells,
            first[row * total.shape[1] + column],
        )
        tile_tip(ax, column, row, mark)


def _value(name: str, places: Bins, at: int) -> str:
    """Return one of an axis's places as the address of a report has it."""
    if places.edges is not None:
        return places.ends(at)
    value = places.values[at]
    if name in FILES:
        # As the table of cells has it.
        return one_line(value_text(name, value))
    return f"{value:.6g}" if isinstance(value, float) else one_line(value)


def _named(name: str, places: Bins, at: int) -> list[str]:
    """Return an axis with the value or range of one of its places; nothing of a lone value."""
    if len(places.values) == 1:
        return []
    title = name.removesuffix("_bytes").replace("_", " ")
    if places.edges is None:
        return [f"{title} {value_text(name, places.values[at])}"]
    low, high = (value_text(name, float(places.edges[i])) for i in (at, at + 1))
    return [f"{title} {low} to {high}"]


def _ticks(axis: Any, name: str, places: Bins, most: int) -> None:
    """Label an axis of tiles: values in their middle, ranges at their ends."""
    shown = thinned(len(places.values), most)
    if places.edges is None:
        axis.set_ticks(shown, [value_text(name, places.values[i]) for i in shown])
        return
    shown = thinned(len(places.edges), most)
    axis.set_ticks(
        [i - 0.5 for i in shown], [value_text(name, float(places.edges[i])) for i in shown]
    )


def _draw_tiles(ax: Axes, shares: Float64Array, order: list[str]) -> None:
    """Draw each tile as rectangles side by side, hatched."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    left = np.zeros(shares.shape[1:])
    size = 0.94
    absent = [
        Rectangle((column - size / 2, row - size / 2), size, size)
        for row, column in np.argwhere(shares.sum(axis=0) == 0)
    ]
    # Not a fate: a combination that the run does not have.
    ax.add_collection(
        PatchCollection(absent, facecolor=PAPER, edgecolor=GREY, linestyle=":", linewidth=0.6)
    )
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
