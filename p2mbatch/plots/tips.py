"""What a figure says of the mark that a pointer is at: titles inside of its SVG.

Each tip is an artist that is not seen, above the mark that it is of; its text is its id in the SVG,
from where `with_tips` takes it. Other formats have none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from p2mbatch.plots.style import GREY

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MAX_TIPS = 400
"""Tips of one kind of mark in a figure; of more marks none has one: each is some 300 bytes."""

_GROUP = re.compile(r"""<g id=(["'])tip:(.*?)(?:\|cells:([^"'|]*))?\1>""", re.DOTALL)


class Mark(NamedTuple):
    """What a mark stands for."""

    text: str
    """What is said of it."""
    cells: Mapping[str, str] = MappingProxyType({})
    """Which cells: values of columns of a report's table of cells, or "low..high", "low..<high"."""
    cell: str = ""
    """One of them, the beginning of its id."""

    @property
    def gid(self) -> str:
        """Return what an artist has as its id, from where `with_tips` takes it."""
        if not self.cells:
            return f"tip:{self.text}"
        said = f"; first cell {self.cell}" if self.cell else ""
        query = urlencode({**self.cells, **({_CELL: self.cell} if self.cell else {})})
        return f"tip:{self.text}{said}|cells:{query}"


_CELL = "_cell"
"""In a mark's query: the cell that stands for the others."""


class Marks:
    """Which cells of `result`, a `SweepResult` or its table, a figure's marks stand for."""

    def __init__(self, result: Any) -> None:
        self._names = getattr(result, "cell_names", None)

    def of(self, text: str, rows: pd.DataFrame, axes: Iterable[str] = (), **cells: str) -> Mark:
        """Return the mark of `rows`, which have `cell`, or of no cell where there are none.

        `axes` are columns of theirs by whose values the cells are found, others are in `cells`.
        """
        if rows.empty:
            return Mark(text)
        found = dict(cells)
        for name in axes:
            low, high = rows[name].min(), rows[name].max()
            found[name] = f"{low:.15g}" if low == high else f"{low:.15g}..{high:.15g}"
        return Mark(text, found, self.name(rows["cell"].iloc[0]))

    def name(self, cell: Any) -> str:
        """Return how the id of a cell of the table begins; empty where nobody knows."""
        if isinstance(cell, str):
            return cell[:10]
        return "" if self._names is None else str(self._names([int(cell)])[0][:10])


def point_tip(ax: Axes, x: float, y: float, mark: Mark) -> None:
    """Say what a mark is where a pointer is at the point (`x`, `y`), in data's coordinates."""
    ax.plot(
        [x], [y], ls="", marker="s", ms=10, color=GREY, alpha=0, gid=mark.gid, label="_tip",
        scalex=False, scaley=False, clip_on=False, zorder=9,
    )  # fmt: skip


def tile_tip(ax: Axes, column: int, row: int, mark: Mark) -> None:
    """Say what a mark is where a pointer is in the tile of side 1 around (`column`, `row`)."""
    from matplotlib.patches import Rectangle

    tile = Rectangle((column - 0.5, row - 0.5), 1, 1, alpha=0, linewidth=0, zorder=9)
    tile.set_gid(mark.gid)
    ax.add_patch(tile)


def with_tips(svg: str) -> str:
    """Return an SVG with the tips of its figure as titles."""

    def group(match: re.Match[str]) -> str:
        cells = f' data-cells="{match[3]}"' if match[3] else ""
        # Nothing is painted there, and still a pointer is to be seen.
        return f'<g pointer-events="all"{cells}><title>{match[2]}</title>'

    return _GROUP.sub(group, svg)
