"""The figure of who came through each migration, and what became of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from p2mbatch.base.say import one_line
from p2mbatch.model.fates import ENDS
from p2mbatch.model.policies import sort_key
from p2mbatch.plots.style import (
    FATE_LOOKS,
    GREY,
    PAPER,
    axes_for,
    frame_of,
    legend_above,
    policy_look,
    say_empty,
    style,
)
from p2mbatch.plots.tips import Marks, point_tip
from p2mbatch.store.alive import Alive, alive_of
from p2mbatch.store.fates import last_rows

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def plot_survival(result: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the share of guests that came through each migration, per policy, and the others' fates.

    `result` is a `SweepResult` or its table. The band is the 95 % percentile interval over
    `alive.NUM_RESAMPLES` draws of whole seeds, left out where there is one seed. Below the line of
    zero hang those that each migration ended, by fate. Returns the axes.
    """
    with style():
        ax = axes_for(ax)
        frame = frame_of(result)
        ax.set_title("Guests that came through each migration")
        if frame.empty:
            return say_empty(ax, "no cell has finished yet")
        policies = sorted(frame["policy"].unique(), key=sort_key)
        handles: list[Any] = []
        last = 0
        alive = {policy: alive_of(frame, policy) for policy in policies}
        marks, lives = Marks(result), _lives(frame)
        for policy, found in alive.items():
            look = policy_look(policy)
            x = np.arange(len(found.share))
            last = max(last, int(x[-1]))
            every = max(1, len(x) // 12)
            if len(x) == 1:
                # Guests that only booted: one value is no line.
                place = (policies.index(policy) - (len(policies) - 1) / 2) * 0.3
                handles.append(
                    ax.bar(
                        place, found.share[0], 0.25, color=look.color, hatch=look.hatch,
                        edgecolor=PAPER, label=_named(look.label, found),
                    )
                )  # fmt: skip
                continue
            if found.num_seeds > 1:
                ax.fill_between(x, found.low, found.high, color=look.color, alpha=0.18, lw=0)
            for migration in x[::every].tolist():
                share = f"{found.share[migration] * 100:.3g} %"
                said = f"{look.label}, migration {migration:,}: {share} of {found.num_guests:,}"
                there = lives[
                    ((lives["policy"] == policy) & (lives["through"] >= migration)).to_numpy()
                ]
                mark = marks.of(
                    f"{said} had come through",
                    there.head(1),
                    policy=one_line(policy),
                    survived=f"{migration}..",
                )
                point_tip(ax, migration, float(found.share[migration]), mark)
            handles += ax.plot(
                x, found.share, color=look.color, ls=look.dashes, marker=look.marker,
                markevery=every, markeredgecolor=PAPER, clip_on=False, zorder=3,
                label=_named(look.label, found),
            )  # fmt: skip
        handles += _ends(ax, alive, last)
        _survival_axis(ax, last)
        legend_above(ax, handles, ncols=2)
        return ax


def _lives(frame: pd.DataFrame) -> pd.DataFrame:
    """Return each cell with its policy and how many migrations it came `through`."""
    ends = last_rows(frame[["cell", "policy", "migration", "outcome"]])
    through = ends["migration"] - (ends["outcome"] != "ok").to_numpy()
    return ends.assign(through=through)


def _named(label: str, found: Alive) -> str:
    return f"{label}, {found.num_guests:,} guest{'s'[: found.num_guests != 1]}"


_GAP, _DEPTH = 0.06, 0.55
"""Where the ends hang: this far below zero, and how deep an end of all guests reaches."""


def _ends(ax: Axes, alive: dict[str, Alive], last: int) -> list[Any]:
    """Hang whom each migration ended below zero, stacked by fate, a bar per policy."""
    from matplotlib.patches import Patch

    width = 0.8 / max(len(alive), 2)
    used: list[str] = []
    for index, (policy, found) in enumerate(alive.items()):
        floor = np.full(len(found.share), -_GAP)
        x = np.arange(len(found.share)) + (index - (len(alive) - 1) / 2) * width
        for fate in ENDS:
            depth = found.ends[fate] * _DEPTH
            hit = np.flatnonzero(depth > 0)
            if not len(hit):
                continue
            look = FATE_LOOKS[fate]
            used.append(fate)
            wide = width * 0.9 if last <= 40 else np.maximum(width, 0.12 * np.maximum(hit, 1))
            ax.bar(
                x[hit], -depth[hit], wide, bottom=floor[hit], facecolor=look.color,
                edgecolor=PAPER if look.hatch else look.color, hatch=look.hatch, lw=0,
            )  # fmt: skip
            ax.bar(
                x[hit], -depth[hit], wide, bottom=floor[hit], fill=False,
                edgecolor=policy_look(policy).color, lw=1.1,
            )  # fmt: skip
            floor = floor - depth
    return [
        Patch(
            facecolor=FATE_LOOKS[fate].color, edgecolor=PAPER, hatch=FATE_LOOKS[fate].hatch,
            label=FATE_LOOKS[fate].label,
        )
        for fate in ENDS
        if fate in used
    ]  # fmt: skip


def _survival_axis(ax: Axes, last: int) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_xlabel("migration (0 is the boot)")
    ax.set_ylabel("ended in it  ←  share of guests  →  came through")
    ax.set_ylim(-_GAP - _DEPTH - 0.03, 1.03)
    down = [-_GAP - _DEPTH, -_GAP - _DEPTH / 2]
    ax.set_yticks([*down, 0, 0.25, 0.5, 0.75, 1])
    ax.set_yticklabels(["100 %", "50 %", "0 %", "25 %", "50 %", "75 %", "100 %"])
    ax.axhspan(-_GAP, 0, color=PAPER, zorder=2, lw=0)
    ax.axhline(0, color=GREY, lw=0.8, zorder=2.5)
    ax.grid(visible=False, axis="x")
    if last > 40:
        # Most ends come in the first few of a thousand migrations.
        ax.set_xscale("symlog", linthresh=4, linscale=1.4)
        ticks = [0, 1, 2, 4, *(10**k for k in range(1, 8) if 10**k < last / 2), last]
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.minorticks_off()
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    ax.set_xlim(-0.5, last + max(0.5, last * 0.05 if last > 40 else 0))
