"""One panel of the tree's picture: the tree, its list and the memory below them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.colors import BLACK, BLUE, GREEN, ORANGE, SKY, VERMILION
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.say import counted
from p2mbatch.guests.tree_view import UNREADABLE, Snapshot
from p2mbatch.model.fates import fate_of
from p2mbatch.plots.style import GREY, PALE, PAPER, size_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_MAX_BOXES = 32
"""Mid pages drawn as boxes of their own; more are drawn in groups."""

_MAX_ARROWS = 48

# How an entry reads. By accident right: it holds the true MFN, but was read from a page that is
# not the list's, an innocent one into which the rebuild wrote.
_TRUE, _ACCIDENT, _STALE, _UNREAD = range(4)

UNREAD_COLOR = "#3d434b"

_STATE_COLORS = (BLUE, ORANGE, VERMILION, UNREAD_COLOR)

# Not dots: one pattern of dots is a quarter of a megabyte of SVG.
_STATE_HATCHES = ("", "----", "//////", "xxxx")

_LEAF_COLORS = (PAPER, SKY, GREEN)

# Heights of a panel's parts, in its own units from the bottom: memory, list, leaves, tree.
_MEMORY, _TOP_MFN, _MID_MFN, _LEAVES, _MID, _TOP = 0.0, 2.1, 3.4, 4.9, 6.4, 7.7

_HIGH = 0.36

CEILING = 8.95

_TOP_PAGE = (0.36, 0.64)
"""Left and right of the two top pages in a panel: in the middle, so that their links fan out."""


class Panel:
    """Draws one snapshot with its left edge at `left`; a panel is one unit wide."""

    def __init__(self, ax: Axes, shot: Snapshot, left: float, *, labelled: bool) -> None:
        self.ax = ax
        self.shot = shot
        self.view = shot.view
        self.left = left
        self.labelled = labelled
        view = shot.view
        num_groups = min(view.num_tops, _MAX_BOXES)
        # Group g of top entries is tops[g] to tops[g + 1]; its boxes are as wide as its share.
        self.tops = np.linspace(0, view.num_tops, num_groups + 1).round().astype(np.int64)
        shares = view.shares_list_page
        self.shared = [bool(shares[a:b].any()) for a, b in itertools.pairwise(self.tops)]
        self.num_leaves = len(view.leaf_kind)
        self.top_state = np.where(view.stale_top, _STALE, _TRUE)
        through = self.top_state[np.arange(self.num_leaves) // view.entries]
        self.list_state = np.where(
            view.stale_list, _STALE, np.where(through == _TRUE, _TRUE, _ACCIDENT)
        )
        self.list_state[view.list_entries == UNREADABLE] = _UNREAD

    def draw(self) -> None:
        """Draw all parts from the back to the front."""
        self._bands()
        self._links()
        self._tops()
        self._mids()
        self._leaves()
        self._mid_mfns()
        self._memory()
        self._captions()
        self._asides()

    # --- places --------------------------------------------------------------------------------

    def _box(self, group: int) -> tuple[float, float]:
        """Return left and right of the box of group `group` of mid pages."""
        count = len(self.tops) - 1
        gap = min(0.012, 0.25 / count)
        a = self.left + group / count
        return a + gap / 2, a + 1 / count - gap / 2

    def _list_box(self, group: int) -> tuple[float, float]:
        """Return the box of a group's page of the list: one for all mids that share one."""
        if not self.shared[group]:
            return self._box(group)
        sharing = np.flatnonzero(self.shared)
        return self._box(int(sharing[0]))[0], self._box(int(sharing[-1]))[1]

    def _top_cell(self, group: int) -> tuple[float, float]:
        """Return left and right of the cell of group `group` in a top page."""
        count = len(self.tops) - 1
        a, b = _TOP_PAGE
        return (
            self.left + a + (b - a) * group / count,
            self.left + a + (b - a) * (group + 1) / count,
        )

    def _leaf_place(self, leaf: int) -> float:
        return self.left + leaf / max(self.num_leaves, 1)

    def _group_leaves(self, group: int) -> tuple[int, int]:
        n = self.view.entries
        first, end = int(self.tops[group]) * n, int(self.tops[group + 1]) * n
        return min(first, self.num_leaves), min(end, self.num_leaves)

    # --- parts ---------------------------------------------------------------------------------

    def _bands(self) -> None:
        from matplotlib.patches import FancyBboxPatch

        for low, high, color in (
            (_LEAVES, _TOP + 0.48, "#eff6fb"),
            (_TOP_MFN - 0.48, _LEAVES, "#f7f4ee"),
            (_MEMORY - 0.42, _MEMORY + 0.42, "#f4f5f7"),
        ):
            self.ax.add_patch(
                FancyBboxPatch(
                    (self.left - 0.012, low), 1.024, high - low, facecolor=color, edgecolor="none",
                    boxstyle="round,pad=0,rounding_size=0.012", mutation_aspect=9, zorder=0,
                )
            )  # fmt: skip

    def _links(self) -> None:
        """Draw the links: above by address, below by MFN, each in the colour of what it is."""
        for group in range(len(self.tops) - 1):
            a, b = self._box(group)
            middle = (a + b) / 2
            top = sum(self._top_cell(group)) / 2
            first, end = self._group_leaves(group)
            x0, x1 = self._leaf_place(first), self._leaf_place(end)
            tops = slice(int(self.tops[group]), int(self.tops[group + 1]))
            if self.view.mid_exists[tops].any():
                self._line(top, _TOP - _HIGH / 2, middle, _MID + _HIGH / 2)
                self._fan(a, b, _MID - _HIGH / 2, x0, x1, _LEAVES + _HIGH / 2, BLUE)
            a, b = self._list_box(group)
            middle = (a + b) / 2
            if (self.top_state[tops] == _TRUE).all():
                self._line(top, _TOP_MFN + _HIGH / 2, middle, _MID_MFN - _HIGH / 2)
            else:
                self._cut(top, _TOP_MFN + _HIGH / 2, middle, _MID_MFN - _HIGH / 2)
            own = self.list_state[first:end]
            if len(own):
                worst = int(own.max())
                color = _STATE_COLORS[worst] if worst <= _ACCIDENT else GREY
                self._fan(a, b, _MID_MFN + _HIGH / 2, x0, x1, _LEAVES - _HIGH / 2, color)

    def _line(self, x0: float, y0: float, x1: float, y1: float) -> None:
        self.ax.plot([x0, x1], [y0, y1], color=BLUE, lw=1.3, zorder=2, solid_capstyle="butt")

    def _cut(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """Draw a link that is no more: dashed and crossed out."""
        self.ax.plot([x0, x1], [y0, y1], color=GREY, lw=1.0, ls=(0, (2, 2)), zorder=2)
        self.ax.plot(
            [x0 + 0.62 * (x1 - x0)], [y0 + 0.62 * (y1 - y0)], marker="x", mew=2, zorder=4,
            ms=8 if len(self.tops) <= 17 else 5, color=VERMILION,
        )  # fmt: skip

    def _fan(
        self, a: float, b: float, y: float, x0: float, x1: float, y_leaf: float, color: str
    ) -> None:
        from matplotlib.patches import Polygon

        alive = color != GREY
        self.ax.add_patch(
            Polygon(
                [(a, y), (b, y), (x1, y_leaf), (x0, y_leaf)],
                facecolor=color, alpha=0.16 if alive else 0.08,
                edgecolor="none", zorder=1,
            )
        )  # fmt: skip
        for xa, xb in ((a, x0), (b, x1)):
            self.ax.plot(
                [xa, xb], [y, y_leaf], color=color, lw=0.8, ls="-" if alive else (0, (2, 2)),
                alpha=0.7, zorder=1.5,
            )  # fmt: skip

    def _tops(self) -> None:
        """Draw the two top pages: a cell per group of entries."""
        for y, states in ((_TOP, None), (_TOP_MFN, self.top_state)):
            for group in range(len(self.tops) - 1):
                a, b = self._top_cell(group)
                tops = slice(int(self.tops[group]), int(self.tops[group + 1]))
                if states is None:
                    self._cell(a, b, y, BLUE if self.view.mid_exists[tops].any() else PAPER)
                else:
                    self._cell(a, b, y, _STATE_COLORS[int(states[tops].max())])

    def _cell(self, a: float, b: float, y: float, color: str, *, hatch: str = "") -> None:
        from matplotlib.patches import Rectangle

        stale = color == VERMILION
        self.ax.add_patch(
            Rectangle(
                (a, y - _HIGH / 2), b - a, _HIGH, facecolor=color,
                edgecolor=PAPER if color != PAPER else GREY, hatch="//////" if stale else hatch,
                lw=0.6 if color != PAPER else 0.8, zorder=3,
            )
        )  # fmt: skip

    def _mids(self) -> None:
        for group in range(len(self.tops) - 1):
            tops = slice(int(self.tops[group]), int(self.tops[group + 1]))
            if self.view.mid_exists[tops].any():
                a, b = self._box(group)
                self._cell(a, b, _MID, "#4f9fd0")

    def _leaves(self) -> None:
        """Paint the leaves as one strip: a hole is paper, what grew after the boot is green."""
        kinds = _sampled(self.view.leaf_kind.astype(np.int64), worst=False)
        self._strip(kinds, _LEAF_COLORS, self.left, self.left + 1, _LEAVES)

    def _mid_mfns(self) -> None:
        """Paint each mid_mfn page's entries as the toolstack reads them."""
        for group in range(len(self.tops) - 1):
            first, end = self._group_leaves(group)
            if end > first and not self.shared[group]:
                self._list_page(group, self.list_state[first:end])
        if any(self.shared):
            n = self.view.entries
            words = np.full(n, _UNREAD)
            for top in np.flatnonzero(self.view.shares_list_page).tolist():
                # A word that is true for one of the mids is of the one that wrote it last.
                own = self.list_state[top * n : (top + 1) * n]
                words[: len(own)] = np.minimum(words[: len(own)], own)
            group = self.shared.index(True)
            self._list_page(group, words)
            self.ax.text(
                sum(self._list_box(group)) / 2, _MID_MFN, "one page for all mids", ha="center",
                va="center", fontsize=8, zorder=7,
                bbox={"boxstyle": "round,pad=0.2", "facecolor": PAPER, "edgecolor": GREY},
            )  # fmt: skip

    def _list_page(self, group: int, words: npt.NDArray[Any]) -> None:
        a, b = self._list_box(group)
        states = _sampled(words, worst=True)
        self._strip(states, _STATE_COLORS, a, b, _MID_MFN)
        self._cell_hatch(a, b, _MID_MFN, _STATE_HATCHES[int(np.bincount(states).argmax())])

    def _cell_hatch(self, a: float, b: float, y: float, hatch: str) -> None:
        from matplotlib.patches import Rectangle

        self.ax.add_patch(
            Rectangle(
                (a, y - _HIGH / 2), b - a, _HIGH, fill=False, hatch=hatch, edgecolor=PAPER, lw=0,
                alpha=0.75, zorder=4,
            )
        )  # fmt: skip

    def _strip(
        self, states: npt.NDArray[Any], colors: Sequence[str], a: float, b: float, y: float
    ) -> None:
        """Draw a strip from `a` to `b`: each of `states` an equal part, runs of one as one bar."""
        from matplotlib.patches import Rectangle

        starts = np.flatnonzero(np.concatenate(([True], states[1:] != states[:-1])))
        ends = np.append(starts[1:], len(states))
        places = a + (b - a) * starts / len(states)
        widths = (b - a) * (ends - starts) / len(states)
        for state in np.unique(states):
            own = states[starts] == state
            self.ax.broken_barh(
                list(zip(places[own], widths[own], strict=True)), (y - _HIGH / 2, _HIGH),
                facecolor=colors[state], edgecolor="none", zorder=3,
            )  # fmt: skip
        self.ax.add_patch(
            Rectangle(
                (a, y - _HIGH / 2), b - a, _HIGH, fill=False, edgecolor=GREY, lw=0.6, zorder=4.5
            )
        )

    def _memory(self) -> None:
        """Draw the guest's memory, the structures in it, and where stray writes landed."""
        from matplotlib.patches import Rectangle

        span = self.shot.span_pages
        self.ax.add_patch(
            Rectangle(
                (self.left, _MEMORY - _HIGH / 2), 1, _HIGH, facecolor=PALE, edgecolor=GREY, lw=0.8,
                zorder=2,
            )
        )  # fmt: skip
        runs = [run for runs in self.view.structures.values() for run in runs if run[1]]
        for first, count in runs:
            self.ax.add_patch(
                Rectangle(
                    (self.left + first / span, _MEMORY - _HIGH / 2), max(count / span, 0.004),
                    _HIGH, facecolor=BLUE, edgecolor="none", zorder=2.5,
                )
            )  # fmt: skip
        hits = np.asarray(self.view.hit_pages)
        if len(hits):
            self._hits(hits, runs)

    def _hits(self, hits: Int64Array, runs: list[tuple[int, int]]) -> None:
        """Draw the pages that stray writes hit, with arrows from the list that sent them there."""
        from matplotlib.patches import FancyArrowPatch
        from matplotlib.path import Path

        inside = np.zeros(len(hits), np.bool_)
        for first, count in runs:
            inside |= (hits >= first) & (hits < first + count)
        places = self.left + hits / self.shot.span_pages
        few = len(hits) <= 24
        for chosen, color in ((~inside, VERMILION), (inside, BLACK)):
            x = places[chosen]
            self.ax.vlines(
                x,
                _MEMORY - _HIGH / 2,
                _MEMORY + _HIGH / 2,
                color=color,
                lw=2 if few else 1,
                zorder=3,
            )
            self.ax.plot(
                x, np.full(len(x), _MEMORY), ls="", marker="*", ms=15 if few else 8, color=color,
                mec=PAPER, mew=0.8 if few else 0.4, zorder=6,
            )  # fmt: skip
        # Which entry led to which page is not in the view, so all arrows start at one place: the
        # rebuild, which wrote through the whole row.
        start = (self.left + 0.5, _TOP_MFN - 0.55)
        end = _MEMORY + _HIGH / 2 + 0.12
        shown = places[np.linspace(0, len(places) - 1, min(len(places), _MAX_ARROWS)).astype(int)]
        for place in shown:
            bend = [start, (start[0], 0.75), (place, 1.25), (place, end)]
            path = Path(bend, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
            self.ax.add_patch(
                FancyArrowPatch(
                    path=path, arrowstyle="-|>", mutation_scale=12 if few else 7,
                    color=VERMILION, lw=1.7 if few else 0.8, zorder=5,
                )
            )  # fmt: skip

    # --- words ---------------------------------------------------------------------------------

    def _captions(self) -> None:
        text = self.ax.text
        ended = self.shot.outcome != "ok"
        wrong = ended or bool(self.view.stale_list.any())
        text(self.left, CEILING + 0.25, self.shot.title, fontsize=12, fontweight="bold")
        text(
            self.left, CEILING - 0.22, self._verdict(), fontsize=9.5, va="center",
            color=VERMILION if wrong else BLUE, fontweight="bold",
        )  # fmt: skip
        span = size_text(self.shot.span_pages * PAGE_BYTES)
        below: dict[str, Any] = {"fontsize": 8, "color": GREY, "va": "top"}
        text(self.left, _MEMORY - 0.62, "0", ha="left", **below)
        text(self.left + 1, _MEMORY - 0.62, span, ha="right", **below)
        if len(self.view.hit_pages):
            text(
                self.left + 0.5, _TOP_MFN - 0.4, "rebuild writes through it", ha="center",
                va="center", fontsize=8,
                color=PAPER, fontweight="bold", zorder=7,
                bbox={"boxstyle": "round,pad=0.25", "facecolor": VERMILION, "edgecolor": "none"},
            )  # fmt: skip
        if not self.labelled:
            return
        for y, name, what in (
            (_TOP, "p2m_top", "addresses of mids"),
            (_MID, "p2m_mid", "addresses of leaves"),
            (_LEAVES, "leaves", "PFN → MFN"),
            (_MID_MFN, "p2m_mid_mfn", "frame list: MFNs"),
            (_TOP_MFN, "p2m_top_mfn", "frame list list: MFNs"),
            (_MEMORY, "memory", "of the guest"),
        ):
            text(-0.03, y + 0.13, name, ha="right", va="center", fontsize=9, fontweight="bold")
            text(-0.03, y - 0.2, what, ha="right", va="center", fontsize=7.5, color=GREY)

    def _asides(self) -> None:
        """Say beside the top pages who walks each half, and how."""
        aside: dict[str, Any] = {"fontsize": 8.5, "color": "#4a525c", "va": "center"}
        text = self.ax.text
        text(self.left + 0.01, _TOP, "the guest walks this tree\nby address", **aside)
        text(self.left + 0.01, _TOP_MFN, "the toolstack walks this\nlist by MFN", **aside)

    def _verdict(self) -> str:
        """Return in a few words what the panel shows, from the same numbers."""
        total = self.num_leaves
        good = total - int(self.view.stale_list.sum())
        if self.shot.outcome != "ok":
            said = f"{fate_of(self.shot.outcome, self.shot.detail)}: {self.shot.outcome}"
            said += f" ({self.shot.detail})" if self.shot.detail not in (None, "-") else ""
        elif good == total:
            said = f"all {total:,} leaves found" if total > 1 else "its one leaf is found"
        else:
            said = f"{good:,} of {total:,} leaves found"
        hits = len(self.view.hit_pages)
        if hits:
            pages = counted(hits, "page")
            said += f" · {self.shot.stray_writes:,} stray writes into {pages}"
        return said


def _sampled(states: npt.NDArray[Any], *, worst: bool, width: int = 512) -> npt.NDArray[Any]:
    """Return `states` as at most `width` columns: the worst of each, or the one in its middle."""
    if len(states) <= width:
        return states
    edges = np.linspace(0, len(states), width + 1).astype(np.int64)
    if worst:
        found: npt.NDArray[Any] = np.maximum.reduceat(states, edges[:-1])
        return found
    middle: npt.NDArray[Any] = states[(edges[:-1] + edges[1:]) // 2]
    return middle
