"""Figures of what became of the guests: survival, outcomes over two axes, silent corruption."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from p2mbatch.errors import InputError
from p2mbatch.plots_style import (
    BLACK,
    FATE_LOOKS,
    GREY,
    PAPER,
    POLICY_LOOKS,
    axes_for,
    axis_title,
    fate_order,
    fates,
    frame_of,
    legend_above,
    ordered,
    say_empty,
    size_axis,
    style,
    thinned,
    value_text,
)
from p2mbatch.schema import OUTCOMES, POLICIES, SCENARIO_COLUMNS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

NUM_RESAMPLES = 2000
_LOST = OUTCOMES[1:]
_AXES = tuple(c.name for c in SCENARIO_COLUMNS if c.name not in ("cell", "policy", "migrations"))
_MAX_TILES_DRAWN = 900
"""More tiles than this are painted as one image: hatches would be smaller than their lines."""


class _Alive(NamedTuple):
    """One policy's survival, index m of each array being migration m (0 is the boot)."""

    share: Float64Array
    low: Float64Array
    high: Float64Array
    lost: dict[str, Float64Array]
    """Share of the guests that each outcome took in that very migration."""
    num_guests: int
    num_seeds: int


def _last_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the last row of each cell: how far it came and how it ended."""
    return frame.loc[frame.groupby("cell", sort=False)["migration"].idxmax()]


def _alive(frame: pd.DataFrame, policy: str) -> _Alive:
    """Return the survival of `policy`'s guests with a 95 % band from resampling whole seeds."""
    ends = _last_rows(frame[frame["policy"] == policy])
    seeds, seed_of = np.unique(ends["seed"].to_numpy(), return_inverse=True)
    planned = ends["migrations"].to_numpy()
    steps = int(planned.max()) + 1
    lost = (ends["outcome"] != "ok").to_numpy()
    at = ends["migration"].to_numpy()

    def counted(where: Int64Array, chosen: npt.NDArray[np.bool_]) -> Float64Array:
        table = np.zeros((len(seeds), steps))
        np.add.at(table, (seed_of[chosen], where[chosen]), 1)
        return table

    everyone = np.ones(len(ends), np.bool_)
    # Guests whose plan reaches migration m, and those of them that are lost by then.
    due = np.cumsum(counted(planned, everyone)[:, ::-1], axis=1)[:, ::-1]
    gone = np.cumsum(counted(at, lost), axis=1)
    for length in np.unique(planned)[:-1]:
        short = lost & (planned == length)
        gone[:, length + 1 :] -= counted(at, short).sum(axis=1, keepdims=True)
    total = due.sum(axis=0)
    share = 1 - gone.sum(axis=0) / total
    low, high = share, share
    if len(seeds) > 1:
        draws = np.random.default_rng(0).multinomial(
            len(seeds), np.full(len(seeds), 1 / len(seeds)), NUM_RESAMPLES
        )
        spread = 1 - (draws @ gone) / np.maximum(draws @ due, 1)
        low, high = np.percentile(spread, [2.5, 97.5], axis=0)
    by_outcome = {
        outcome: counted(at, (ends["outcome"] == outcome).to_numpy()).sum(axis=0) / total
        for outcome in _LOST
    }
    return _Alive(share, low, high, by_outcome, len(ends), len(seeds))


def plot_survival(result: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the share of guests alive after each migration, per policy, and what ends them.

    `result` is a `SweepResult` or its table. The band is the 95 % percentile interval over
    `NUM_RESAMPLES` draws of whole seeds, left out where there is one seed. Below the line of zero
    hang the losses of each migration by outcome. Returns the axes.
    """
    with style():
        ax = axes_for(ax)
        frame = frame_of(result)
        ax.set_title("Guests alive after each migration")
        if frame.empty:
            return say_empty(ax, "no cell has finished yet")
        policies = ordered(list(frame["policy"].unique()), POLICIES)
        handles: list[Any] = []
        last = 0
        alive = {policy: _alive(frame, policy) for policy in policies}
        for policy, found in alive.items():
            look = POLICY_LOOKS[policy]
            x = np.arange(len(found.share))
            last = max(last, int(x[-1]))
            every = max(1, len(x) // 12)
            if found.num_seeds > 1:
                ax.fill_between(x, found.low, found.high, color=look.color, alpha=0.18, lw=0)
            handles += ax.plot(
                x, found.share, color=look.color, ls=look.dashes, marker=look.marker,
                markevery=every, markeredgecolor=PAPER, clip_on=False, zorder=3,
                label=f"{look.label}, {found.num_guests:,} guest{'s'[: found.num_guests != 1]}",
            )  # fmt: skip
        handles += _losses(ax, alive, last)
        _survival_axis(ax, last)
        legend_above(ax, handles, ncols=2)
        return ax


_GAP, _DEPTH = 0.06, 0.55
"""Where the losses hang: this far below zero, and how deep a loss of all guests reaches."""


def _losses(ax: Axes, alive: dict[str, _Alive], last: int) -> list[Any]:
    """Hang each migration's losses below zero, stacked by outcome, a bar per policy."""
    from matplotlib.patches import Patch

    width = 0.8 / max(len(alive), 2)
    used: list[str] = []
    for index, (policy, found) in enumerate(alive.items()):
        floor = np.full(len(found.share), -_GAP)
        x = np.arange(len(found.share)) + (index - (len(alive) - 1) / 2) * width
        for outcome in _LOST:
            depth = found.lost[outcome] * _DEPTH
            hit = np.flatnonzero(depth > 0)
            if not len(hit):
                continue
            look = FATE_LOOKS[outcome]
            used.append(outcome)
            wide = width * 0.9 if last <= 40 else np.maximum(width, 0.12 * np.maximum(hit, 1))
            ax.bar(
                x[hit], -depth[hit], wide, bottom=floor[hit], facecolor=look.color,
                edgecolor=PAPER if look.hatch else look.color, hatch=look.hatch, lw=0,
            )  # fmt: skip
            ax.bar(
                x[hit], -depth[hit], wide, bottom=floor[hit], fill=False,
                edgecolor=POLICY_LOOKS[policy].color, lw=1.1,
            )  # fmt: skip
            floor = floor - depth
    return [
        Patch(
            facecolor=FATE_LOOKS[o].color, edgecolor=PAPER, hatch=FATE_LOOKS[o].hatch,
            label=f"lost: {FATE_LOOKS[o].label}",
        )
        for o in _LOST
        if o in used
    ]  # fmt: skip


def _survival_axis(ax: Axes, last: int) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_xlabel("migration (0 is the boot)")
    ax.set_ylabel("lost in it  ←  share of guests  →  alive")
    ax.set_ylim(-_GAP - _DEPTH - 0.03, 1.03)
    down = [-_GAP - _DEPTH, -_GAP - _DEPTH / 2]
    ax.set_yticks([*down, 0, 0.25, 0.5, 0.75, 1])
    ax.set_yticklabels(["100 %", "50 %", "0 %", "25 %", "50 %", "75 %", "100 %"])
    ax.axhspan(-_GAP, 0, color=PAPER, zorder=2, lw=0)
    ax.axhline(0, color=GREY, lw=0.8, zorder=2.5)
    ax.grid(visible=False, axis="x")
    if last > 40:
        # Most losses come in the first few of a thousand migrations.
        ax.set_xscale("symlog", linthresh=4, linscale=1.4)
        ticks = [0, 1, 2, 4, *(10**k for k in range(1, 8) if 10**k < last / 2), last]
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.minorticks_off()
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    ax.set_xlim(-0.5, last + max(0.5, last * 0.05 if last > 40 else 0))


def varying_axes(frame: pd.DataFrame) -> list[str]:
    """Return the scenario columns that have more than one value, in the schema's order.

    Sizes of hosts and neighbours that only follow the guest's memory are no axes of their own.
    """
    names = [name for name in _AXES if frame[name].nunique() > 1]
    follow = [
        name
        for name in ("host_memory_bytes", "neighbour_memory_bytes")
        if name in names and frame.groupby("memory_bytes")[name].nunique().max() == 1
    ]
    return [name for name in names if name not in follow]


def _chosen_axes(frame: pd.DataFrame, x: str | None, y: str | None) -> tuple[str, str]:
    for name in (x, y):
        if name is not None and name not in (*_AXES, "migrations"):
            raise InputError(f"{name!r} is no axis of a sweep: use {', '.join(_AXES)}")
    free = [name for name in varying_axes(frame) if name not in (x, y)]
    x = x or next((name for name in free if name == "memory_bytes"), None)
    x = x or (free[0] if free else "memory_bytes")
    # The seed is the last resort: it is what repeats a cell, not what it is about.
    free = [name for name in free if name != x and (name != "seed")] + (
        ["seed"] if "seed" in free and x != "seed" else []
    )
    return x, y or (free[0] if free else "sparsity" if x != "sparsity" else "memory_bytes")


def worst_policy(frame: pd.DataFrame) -> str:
    """Return the policy whose guests came through the smallest part of their migrations."""
    ends = _last_rows(frame)
    come_through = ends["migration"] - (ends["outcome"] != "ok")
    share = ((come_through + 1) / (ends["migrations"] + 1)).groupby(ends["policy"]).mean()
    return str(min(ordered(list(share.index), POLICIES), key=lambda policy: float(share[policy])))


def telling_migration(frame: pd.DataFrame) -> int:
    """Return the migration by which the guests' fates differ most: the first of the widest mix."""
    fate = fates(frame)
    best, most = 0, -1.0
    for migration in sorted(frame["migration"].unique())[:50]:
        upto = frame["migration"] <= migration
        ends = frame[upto].groupby("cell", sort=False)["migration"].idxmax()
        shares = fate[ends].value_counts(normalize=True).to_numpy()
        mixed = float(-(shares * np.log(shares)).sum())
        if mixed > most + 1e-9 or (best == 0 and mixed >= most):
            best, most = int(migration), mixed
    return best


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
    (memory and the first other axis that varies), `policy` the one that lost most, `migration`
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
        ends = _last_rows(chosen.assign(fate=fates(chosen)))
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
        survived = [i for i, fate in enumerate(order) if fate.startswith("ok")]
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
        rows = frame[(frame["migration"] > 0) & (frame["outcome"] == "ok")]
        if rows.empty:
            return say_empty(ax, "no guest came through a migration in this run")
        policies = ordered(list(rows["policy"].unique()), POLICIES)
        sizes = np.sort(rows["memory_bytes"].unique())
        handles: list[Any] = []
        for index, policy in enumerate(policies):
            look = POLICY_LOOKS[policy]
            own = rows[rows["policy"] == policy].groupby("memory_bytes")
            shift = 1.012 ** (index - (len(policies) - 1) / 2)
            for column, filled in (("stray_writes", True), ("stray_pages", False)):
                quantiles = own[column].quantile([0.05, 0.5, 0.95]).unstack()
                x = quantiles.index.to_numpy(np.float64) * shift
                low, mid, high = (quantiles[q].to_numpy() for q in (0.05, 0.5, 0.95))
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
    shares = (rows["stray_writes"] > 0).groupby([rows["policy"], rows["memory_bytes"]]).mean()
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
                ha="center", va="top", fontsize=8.5, color=POLICY_LOOKS[policy].color,
                fontweight="bold",
            )  # fmt: skip
