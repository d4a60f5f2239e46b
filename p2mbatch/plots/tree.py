"""The picture of one guest's tree and its mfn list list, before and after a migration.

A panel shows one moment. Above the leaves hangs the guest's own tree, linked by virtual address;
below them the list that the toolstack reads, linked by MFN; at the bottom lies all of the guest's
memory, with the pages of the structures and those that stray writes hit. Every colour comes from
the simulated guest's own words, none from what ought to be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from p2mbatch.base.colors import BLUE, GREEN, ORANGE, SKY, VERMILION
from p2mbatch.base.errors import InputError
from p2mbatch.guests.guest import Guest
from p2mbatch.guests.snapshots import live_through
from p2mbatch.guests.tree_view import UNREADABLE, Snapshot
from p2mbatch.model.policies import shown
from p2mbatch.plots.style import (
    GREY,
    PAPER,
    axes_for,
    frame_of,
    say_empty,
    size_text,
    style,
    value_text,
)
from p2mbatch.plots.tree_panel import CEILING, UNREAD_COLOR, Panel
from p2mbatch.store.fates import telling_cell
from p2mbatch.store.results import SweepResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_tree(
    source: Any,
    *,
    ax: Axes | None = None,
    cell: str | None = None,
    migration: int = 1,
) -> Axes:
    """Draw one guest's tree, its mfn list list and its memory, before and after a migration.

    `source` is a `Guest` (drawn as it is now), one or more `Snapshot`s (a panel each), or a
    `SweepResult` or its table: then the guest of `cell` (an id or the beginning of one; by default
    the most telling, see `telling_cell`) is simulated again up to `migration`. Raises `InputError`
    for a cell that is not in the run. Returns the axes.
    """
    with style():
        snapshots, name = _snapshots(source, cell, migration)
        ax = axes_for(ax, (6.0 * max(len(snapshots), 1) + 0.6, 6.6))
        if not snapshots:
            return say_empty(ax, "no cell has finished yet")
        ax.set_axis_off()
        if name:
            ax.set_title(name)
        for index, shot in enumerate(snapshots):
            Panel(ax, shot, 1.1 * index, labelled=index == 0).draw()
        _legend(ax, snapshots)
        ax.set_xlim(-0.24, 1.1 * len(snapshots) - 0.08)
        ax.set_ylim(-1.6, CEILING + 0.6)
        return ax


def _snapshots(source: Any, cell: str | None, migration: int) -> tuple[list[Snapshot], str]:
    if isinstance(source, Guest):
        return [source.snapshot()], ""
    if isinstance(source, Snapshot):
        return [source], ""
    if isinstance(source, Sequence) and all(isinstance(s, Snapshot) for s in source):
        return list(source), ""
    frame = frame_of(source)
    if frame.empty:
        return [], ""
    if cell is None:
        row = telling_cell(frame)
    else:
        if isinstance(source, SweepResult):
            found: list[Any] = source.cells_beginning(cell)
        else:
            found = [name for name in frame["cell"].unique() if name.startswith(cell)]
        own, count = frame[frame["cell"].isin(found)], len(found)
        if count != 1:
            raise InputError(f"cell: {count} cells begin with {cell!r}: give the id of one")
        row = own.iloc[0]
    return live_through(row, migration), tree_title(row)


def tree_title(row: Any) -> str:
    """Return who the guest of a table's row is, as a figure's title."""
    of = f" of {value_text('guest', row['guest'])}" if row["guest"] else ""
    about = f"{size_text(int(row['memory_bytes']))} guest{of}, policy {shown(row['policy']).short}"
    if row["sparsity"]:
        about += f", {row['sparsity'] * 100:.3g} % holes ({row['layout']})"
    return f"{about}, seed {row['seed']}"


def _legend(ax: Axes, snapshots: Sequence[Snapshot]) -> None:
    """Explain the colours that the panels use, in one row below them."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    kinds = {int(kind) for shot in snapshots for kind in np.unique(shot.view.leaf_kind)}
    stale = any(shot.view.stale_list.any() or shot.view.stale_top.any() for shot in snapshots)
    accident = any(
        (~shot.view.stale_list & np.repeat(shot.view.stale_top, shot.view.entries)[:n]).any()
        for shot in snapshots
        for n in [len(shot.view.stale_list)]
    )
    unread = any((shot.view.list_entries == UNREADABLE).any() for shot in snapshots)
    hit = any(len(shot.view.hit_pages) for shot in snapshots)
    entries = [
        (True, Patch(facecolor=BLUE, label="entry true; structure")),
        (stale, Patch(facecolor=VERMILION, edgecolor=PAPER, hatch="//////", label="entry stale")),
        (
            accident,
            Patch(
                facecolor=ORANGE, edgecolor=PAPER, hatch="----",
                label="right by accident, in an innocent page",
            ),
        ),
        (
            unread,
            Patch(
                facecolor=UNREAD_COLOR, edgecolor=PAPER, hatch="xxxx",
                label="out of the toolstack's reach",
            ),
        ),
        (True, Patch(facecolor=SKY, label="leaf")),
        (2 in kinds, Patch(facecolor=GREEN, label="leaf grown later")),
        (0 in kinds, Patch(facecolor=PAPER, edgecolor=GREY, label="no leaf")),
        (
            hit,
            Line2D(
                [], [], ls="", marker="*", ms=12, color=VERMILION, mec=PAPER,
                label="page overwritten",
            ),
        ),
    ]  # fmt: skip
    handles = [handle for wanted, handle in entries if wanted]
    ax.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(-0.012, -1.55),
        bbox_transform=ax.transData, ncols=len(handles) if len(snapshots) > 1 else 2,
        columnspacing=1.4, handlelength=1.5, borderaxespad=0,
    )  # fmt: skip
