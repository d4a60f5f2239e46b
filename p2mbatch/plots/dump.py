"""Figures of a real guest's dump: its p2m as a map, its extents, its tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.colors import BLUE, SKY
from p2mbatch.base.entries import is_own
from p2mbatch.base.geometry import INVALID, PAGE_BYTES
from p2mbatch.dumps.audit.findings import Audit
from p2mbatch.dumps.audit.structures import true_leaves
from p2mbatch.dumps.p2m import P2M
from p2mbatch.guests.tree_view import UNREADABLE, Snapshot, TreeView
from p2mbatch.plots.style import GREY, axes_for, say_empty, size_text, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_MAP_COLUMNS, _MAP_ROWS = 480, 300

_PAGES_PER_DOT = 24
"""Small guests get larger dots: single pages of a 480-column map could not be seen."""

_BLOCK_PAGES = 64
"""Pages that are looked at together when the map's axes are cut."""

_MAX_CUTS = 6

_CUT_SHARE = 0.015
"""Width of a cut, as a part of what is shown."""


class CutAxis:
    """An axis without the long stretches that hold nothing: where a page number is drawn on it."""

    def __init__(self, blocks: Int64Array) -> None:
        """Make the axis that shows `blocks`, int64[k] ascending, k at least 1."""
        gaps = np.diff(blocks) - 1
        # A gap is left out where it is longer than what there is in a tenth of the axis.
        long = np.flatnonzero(gaps > max(blocks.size // 10, 4))
        long = np.sort(long[np.argsort(gaps[long], kind="stable")][-_MAX_CUTS:])
        self.firsts = np.append(blocks[0], blocks[long + 1]) * _BLOCK_PAGES
        self.stops = (np.append(blocks[long], blocks[-1]) + 1) * _BLOCK_PAGES
        lengths = self.stops - self.firsts
        apart = lengths.sum() * _CUT_SHARE
        self._at = np.cumsum(lengths + apart) - lengths - apart
        self.length = float(self._at[-1] + lengths[-1])
        """Pages that the axis is long, cuts included."""

    def place(self, pages: Int64Array) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return where each of `pages` (int64[k], of shown blocks) is: float64, from 0 to 1."""
        part = np.clip(np.searchsorted(self.firsts, pages, side="right") - 1, 0, None)
        places: np.ndarray[tuple[int], np.dtype[np.float64]] = (
            self._at[part] + pages - self.firsts[part]
        ) / self.length
        return places

    def label(self, axis: Any, apart: float) -> None:
        """Put sizes at the ends of the stretches, at least `apart` (0 to 1) from each other."""
        ends = np.stack([self.firsts, self.stops], axis=1).ravel()
        where = np.stack([self._at, self._at + self.stops - self.firsts], axis=1).ravel()
        places = where / self.length
        kept = [0]
        for i in range(1, places.size):
            if places[i] - places[kept[-1]] > apart:
                kept.append(i)
        texts = [size_text(int(ends[i]) * PAGE_BYTES) if ends[i] else "0" for i in kept]
        axis.set_ticks(places[kept], texts)

    @property
    def cuts(self) -> list[float]:
        """Where stretches are left out, from 0 to 1: the middle of each."""
        ends = self._at[:-1] + (self.stops - self.firsts)[:-1]
        return list((ends + self._at[1:]) / 2 / self.length)


def _cut_axes(p2m: P2M, word_bytes: int) -> tuple[CutAxis, CutAxis]:
    """Return the axes of PFNs and of MFNs that show all that is populated."""
    pfns, mfns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start, entries in p2m.chunks():
        own = is_own(entries, word_bytes)
        pfns.append(np.unique((np.flatnonzero(own) + start) // _BLOCK_PAGES))
        mfns.append(np.unique(entries[own] // _BLOCK_PAGES))
    return CutAxis(np.unique(np.concatenate(pfns))), CutAxis(np.unique(np.concatenate(mfns)))


def plot_p2m_map(result: Audit, *, ax: Axes | None = None) -> Axes:
    """Draw the p2m as a map: PFN across, MFN up, darker where more pages are. Returns the axes.

    A column without colour is a hole. Long stretches that hold nothing are left out of both axes: a
    dashed line stands for each.
    """
    with style():
        ax = axes_for(ax, (9.0, 5.2))
        guest, shape = result.guest, result.shape
        if not guest.p2m.has_frames or shape.max_mfn < 0:
            return say_empty(ax, "the file names no frames")
        width = guest.word_bytes
        across, up = _cut_axes(guest.p2m, width)
        num_columns = int(np.clip(across.length // _PAGES_PER_DOT, 60, _MAP_COLUMNS))
        num_rows = num_columns * _MAP_ROWS // _MAP_COLUMNS
        grid = np.zeros((num_rows, num_columns), np.int64)
        for start, entries in guest.p2m.chunks():
            own = is_own(entries, width)
            columns = (across.place(np.flatnonzero(own) + start) * num_columns).astype(np.int64)
            at = (up.place(entries[own]) * num_rows).astype(np.int64) * num_columns + columns
            grid += np.bincount(at, minlength=grid.size).reshape(grid.shape)
        from matplotlib.colors import LinearSegmentedColormap, LogNorm

        from p2mbatch.plots.powers import label_powers

        tint = LinearSegmentedColormap.from_list("pages", [SKY, BLUE, "#00314d"])
        shown = np.ma.masked_equal(grid, 0)
        image = ax.imshow(
            shown,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            extent=(0, 1, 0, 1),
            cmap=tint,
            norm=LogNorm(1, max(int(grid.max()), 2)),
        )
        bar = ax.figure.colorbar(image, ax=ax, label="pages in one dot", pad=0.02)
        label_powers(bar.ax.yaxis)
        box = ax.get_window_extent()
        # A label is about 0.75 by 0.2 inches.
        across.label(ax.xaxis, 0.75 * ax.figure.dpi / box.width)
        up.label(ax.yaxis, 0.2 * ax.figure.dpi / box.height)
        for cut in across.cuts:
            ax.axvline(cut, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        for cut in up.cuts:
            ax.axhline(cut, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        ax.set_xlabel("guest memory, by PFN")
        ax.set_ylabel("machine memory, by MFN")
        ax.set_title("Where the guest's pages are")
        return ax


def plot_extents(result: Audit, *, ax: Axes | None = None) -> Axes:
    """Draw how many pages lie in extents (frames in a row) of which size. Returns the axes."""
    with style():
        ax = axes_for(ax, (9.0, 3.6))
        shape = result.shape
        pages = shape.extents.pages_by_order
        used = np.flatnonzero(pages)
        if not result.guest.p2m.has_frames or not used.size:
            return say_empty(ax, "the file names no frames")
        orders = np.arange(used[0], used[-1] + 1)
        ax.bar(orders, pages[orders] * PAGE_BYTES, width=0.8, color=BLUE)
        for order in used.tolist():
            ax.annotate(
                f"{int(shape.extents.by_order[order]):,}",
                (order, int(pages[order]) * PAGE_BYTES),
                ha="center",
                va="bottom",
                fontsize=8,
                color=GREY,
            )
        # A label takes about 0.6 inches.
        every = -(-orders.size // max(int(ax.get_window_extent().width / ax.figure.dpi / 0.6), 1))
        labelled = orders[::every]
        ax.set_xticks(labelled, [size_text(PAGE_BYTES << int(order)) for order in labelled])
        places = np.linspace(0, int(pages.max()) * PAGE_BYTES, 5)
        ax.set_yticks(places, [size_text(place) if place else "0" for place in places])
        ax.set_xlabel("extents from this size on (their number above the bar)")
        ax.set_ylabel("memory in them")
        ax.set_title("How contiguous the guest's memory is")
        return ax


def dump_snapshot(result: Audit) -> Snapshot:
    """Return the guest of an audit as `plot_tree` draws it: its list against its true leaves.

    What the toolstack's walk could not read is UNREADABLE; where nothing in the file says which
    pages the leaves are, the list is held against the walk's own finds.
    """
    guest, walk, structures = result.guest, result.walk, result.structures
    n, span = guest.geometry.entries, guest.max_p2m_pfn
    num_tops, num_leaves = -(-span // n**2), -(-span // n)
    leaves = _fit(true_leaves(guest, walk), num_leaves, -1)
    top_entries = _fit(walk.fll, num_tops, UNREADABLE)
    if walk.fll.size and walk.fll.size < num_tops:
        # What the toolstack trims repeats the last entry.
        top_entries[walk.fll.size :] = walk.fll[-1]
    own = guest.p2m.find(top_entries) >= 0
    kind = np.zeros(num_leaves, np.int8)
    expected = (leaves[0] if num_leaves else 0) + np.arange(num_leaves)
    steps = np.flatnonzero(leaves != expected)
    shared = (leaves == structures.missing) | (leaves < 0)
    kind[~shared] = 2
    kind[: int(steps[0]) if steps.size else num_leaves] = 1
    mids = np.zeros(num_tops, np.bool_)
    for top in range(num_tops):
        part = kind[top * n : (top + 1) * n]
        page = structures.mids.get(top, structures.mid_missing)
        mids[top] = page != structures.mid_missing if structures.found else bool(part.any())
    known = np.flatnonzero(leaves >= 0)
    true = np.full(num_leaves, INVALID, np.int64)
    if known.size:
        true[known] = _entries_at(guest.p2m, leaves[known])
    listed = _fit(walk.fl, num_leaves, UNREADABLE)
    if walk.fl.size:
        listed[walk.fl.size :] = true[walk.fl.size :]
    view = TreeView(
        entries=n,
        num_tops=num_tops,
        mid_exists=mids,
        leaf_kind=kind,
        top_entries=top_entries,
        top_true=np.where(own, top_entries, INVALID),
        list_entries=listed,
        list_true=true,
        hit_pages=np.zeros(0, np.int64),
        structures={"list": [(walk.fll_pfn, 1)]} if walk.fll_pfn >= 0 else {},
    )
    return Snapshot(view, f"save check: {walk.result or 'not made'}", span)


def _fit(values: Int64Array, size: int, fill: int) -> Int64Array:
    out = np.full(size, fill, np.int64)
    count = min(size, values.size)
    out[:count] = values[:count]
    return out


def _entries_at(p2m: P2M, pfns: Int64Array) -> Int64Array:
    """Return the entries of `pfns`, INVALID for those beyond the span; piece by piece."""
    out = np.full(pfns.size, INVALID, np.int64)
    for start, entries in p2m.chunks():
        inside = (pfns >= start) & (pfns < start + entries.size)
        out[inside] = entries[pfns[inside] - start]
    return out
