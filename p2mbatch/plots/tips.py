"""What a figure says of the mark that a pointer is at: titles inside of its SVG.

Each tip is an artist that is not seen, above the mark that it is of; its text is its id in the SVG,
from where `with_tips` takes it. Other formats have none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from p2mbatch.plots.style import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_TIPS = 400
"""Tips of one kind of mark in a figure; of more marks none has one: each is some 300 bytes."""

_GROUP = re.compile(r"""<g id=(["'])tip:(.*?)\1>""", re.DOTALL)


def point_tip(ax: Axes, x: float, y: float, text: str) -> None:
    """Say `text` where a pointer is at the point (`x`, `y`), in data's coordinates."""
    ax.plot(
        [x], [y], ls="", marker="s", ms=10, color=GREY, alpha=0, gid=f"tip:{text}", label="_tip",
        scalex=False, scaley=False, clip_on=False, zorder=9,
    )  # fmt: skip


def tile_tip(ax: Axes, x: float, y: float, width: float, height: float, text: str) -> None:
    """Say `text` where a pointer is in the rectangle with its lower left corner at (`x`, `y`)."""
    from matplotlib.patches import Rectangle

    tile = Rectangle((x, y), width, height, alpha=0, linewidth=0, zorder=9)
    tile.set_gid(f"tip:{text}")
    ax.add_patch(tile)


def with_tips(svg: str) -> str:
    """Return an SVG with the tips of its figure as titles."""
    # Nothing is painted there, and still a pointer is to be seen.
    return _GROUP.sub(r'<g pointer-events="all"><title>\2</title>', svg)
