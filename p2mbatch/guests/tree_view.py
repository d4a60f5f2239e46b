"""A guest's tree and its mfn list list at one moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int8Array, Int64Array

UNREADABLE = -2
"""In `TreeView.list_entries`: the toolstack can't reach the page that should hold the entry."""


@dataclass(frozen=True)
class TreeView:
    """A guest's tree and its mfn list list at one moment, for pictures and checks.

    `num_tops` is the top entries that the span needs, `num_leaves` its leaves.
    """

    entries: int
    """n, entries per page."""
    num_tops: int
    mid_exists: BoolArray
    """bool[num_tops]: whether the top entry has a mid page of its own."""
    leaf_kind: Int8Array
    """int8[num_leaves]: 0 missing, 1 from boot, 2 grown later."""
    top_entries: Int64Array
    """int64[num_tops]: the frame list list's MFNs."""
    top_true: Int64Array
    """int64[num_tops]: the present MFN of each true mid_mfn page."""
    list_entries: Int64Array
    """int64[num_leaves]: the frame list as the toolstack would read it, UNREADABLE where not."""
    list_true: Int64Array
    """int64[num_leaves]: the present MFN of each true leaf."""
    hit_pages: Int64Array
    """int64[k]: PFNs of the pages that stray writes hit in the last event."""
    structures: dict[str, list[tuple[int, int]]]
    """Where the structures are: name to runs (first PFN, pages)."""

    @property
    def shares_list_page(self) -> BoolArray:
        """Return which mids' true page of the list is another mid's too: bool[num_tops].

        Those of a 64-bit guest are of before the change, which has one page for all its mids.
        """
        own = self.top_true[self.mid_exists]
        pages, count = np.unique(own, return_counts=True)
        return self.mid_exists & np.isin(self.top_true, pages[count > 1])

    @property
    def stale_top(self) -> BoolArray:
        """Return which frame list list entries are not true: bool[num_tops]."""
        return np.not_equal(self.top_entries, self.top_true)

    @property
    def stale_list(self) -> BoolArray:
        """Return which frame list entries are not true: bool[num_leaves]."""
        return np.not_equal(self.list_entries, self.list_true)


@dataclass(frozen=True)
class Snapshot:
    """One guest at one moment, with what its last event came to, for `plot_tree`."""

    view: TreeView
    title: str
    span_pages: int
    stray_writes: int = 0
    outcome: str = "ok"
    detail: str | None = None
