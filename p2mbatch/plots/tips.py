"""What a figure says of the mark that a pointer is at: titles inside of its SVG.

Each tip is an artist that is not seen, above the mark that it is of; its text is its id in the SVG,
from where `with_tips` takes it. Other formats have none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from p2mbatch.plots.style import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_TIPS = 400
"""Tips of one kind of mark in a figure; of more marks none has one: each is some 300 bytes."""

_GROUP = re.compile(r"""<g id=(["'])tip:(.*?)(?:\|cells:([^"'|]*))?\1>""", re.DOTALL)


def point_tip(ax: Axes, x: float, y: float, text: str) -> None:
    """Say `text` where a pointer is at the point (`x`, `y`), in data's coordinates."""
    ax.plot(
        [x], [y], ls="", marker="s", ms=10, color=GREY, alpha=0, gid=f"tip:{text}", label="_tip",
        scalex=False, scaley=False, clip_on=False, zorder=9,
    )  # fmt: skip


def tile_tip(ax: Axes, column: int, row: int, text: str, cells: Mapping[str, str]) -> None:
    """Say `text` where a pointer is in the tile of side 1 around (`column`, `row`).

    `cells` says which cells it stands for: values of scenario columns, or "low..high". A report
    leads there.
    """
    from matplotlib.patches import Rectangle

    tile = Rectangle((column - 0.5, row - 0.5), 1, 1, alpha=0, linewidth=0, zorder=9)
    tile.set_gid(f"tip:{text}|cells:{urlencode(cells)}")
    ax.add_patch(tile)


def with_tips(svg: str) -> str:
    """Return an SVG with the tips of its figure as titles."""

    def group(match: re.Match[str]) -> str:
        cells = f' data-cells="{match[3]}"' if match[3] else ""
        # Nothing is painted there, and still a pointer is to be seen.
        return f'<g pointer-events="all"{cells}><title>{match[2]}</title>'

    return _GROUP.sub(group, svg)
