"""A guest's tree and list at one moment, small enough to be drawn: like neighbours taken together.

Entries are judged as a toolstack that has found `p2m_top_mfn` would read them: the frame lists by
the numbers in it, the leaves by the numbers in those.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import FOREIGN_FRAME_BIT, INVALID
from p2mbatch.compiled.tables import NO_PAGE
from p2mbatch.model.explain.view import View
from p2mbatch.model.reads import entries_of, pages_of_leaves
from p2mbatch.model.runs import leading

Run = tuple[int, int, str, str]
"""(first leaf, last leaf, what the leaves are, what the list says of them)."""

MAX_ROWS = 48
"""Rows of a picture; what lies behind is left out and said."""


def picture_of(view: View, hits: list[int]) -> dict[str, Any]:
    """Return the picture of a guest; `hits` are PFNs that stray writes of this event hit."""
    rows = _rows(view) if not view.policy.is_linear and _listed(view) else []
    return {
        "rows": rows[:MAX_ROWS],
        "num_more": max(0, len(rows) - MAX_ROWS),
        "map": _map(view, hits),
        "end_pfn": int(view.state.max_p2m_pfn),
    }


def _listed(view: View) -> bool:
    """Return whether the guest has booted so far that it has leaves."""
    return int(view.state.missing) != NO_PAGE and int(view.state.brk_closed) != 0


def _rows(view: View) -> list[dict[str, Any]]:
    """Return a row for each top index that is needed, like ones in a row taken together."""
    n, shift = view.n, view.shift
    num_leaves = min(-(-int(view.state.max_p2m_pfn) // n), int(view.state.num_leaves))
    leaves = pages_of_leaves(view.t, num_leaves)
    true = _mfns(view, leaves)
    kinds = _kinds(view, leaves)
    out: list[dict[str, Any]] = []
    for top in range((num_leaves + n - 1) >> shift):
        first, last = top << shift, min((top + 1) << shift, num_leaves)
        name, entries = _list_of(view, top, true[first:last])
        runs = _runs(kinds[first:last], entries, first)
        row = {"top": [top, top], "list": name, "runs": [[b - a + 1, k, s] for a, b, k, s in runs]}
        if out and out[-1]["list"] == name and out[-1]["runs"] == row["runs"]:
            out[-1]["top"][1] = top
        else:
            out.append(row)
    return out


def _mfns(view: View, pages: Int64Array) -> Int64Array:
    """Return the MFN of each page: its entry without flags."""
    out = entries_of(view.policy, view.t, view.h, np.maximum(pages, 0))
    flags = int(view.state.flag_bits) or FOREIGN_FRAME_BIT
    masked = np.where(out == INVALID, INVALID, out & ~np.int64(flags))
    found: Int64Array = np.where(pages < 0, np.int64(-3), masked)
    return found


def _kinds(view: View, leaves: Int64Array) -> list[str]:
    """Return what each leaf is."""
    state = view.state
    kinds = np.full(len(leaves), "leaf", dtype="U8")
    kinds[leaves == int(state.missing)] = "missing"
    if int(state.identity) != NO_PAGE:
        kinds[leaves == int(state.identity)] = "identity"
    kinds[leaves < 0] = "wild"
    found: list[str] = kinds.tolist()
    return found


def _list_of(view: View, top: int, true: Int64Array) -> tuple[str, list[str]]:
    """Return what the frame list list has for a top index, and what its list has for each leaf."""
    state = view.state
    two_level = view.policy.is_two_level
    if int(state.top_mfn) == NO_PAGE and not two_level:
        return "none", ["none"] * len(true)
    listed = int(state.static_top_mfn) + top if two_level else int(view.t.true_mid_mfn[top])
    # The kernel's own page, whatever the shared info page says of it just now.
    page = view.own_pfn(view.word(int(state.static_list if two_level else state.top_mfn), top))
    if page < 0:
        return "stale", ["unreadable"] * len(true)
    states = np.where(view.row(page)[: len(true)] == true, "true", "stale").tolist()
    return "true" if page == listed else "stale", states


def _runs(kinds: list[str], states: list[str], first: int) -> list[Run]:
    """Return leaves that are alike in a row as runs."""
    out: list[Run] = []
    for x, (kind, state) in enumerate(zip(kinds, states, strict=True), first):
        if out and out[-1][2:] == (kind, state):
            out[-1] = (out[-1][0], x, kind, state)
        else:
            out.append((x, x, kind, state))
    return out


def _map(view: View, hits: list[int]) -> list[dict[str, Any]]:
    """Return the structures' places in the guest's memory, and the pages that were hit."""
    state = view.state
    places = [
        ("mfn_list", int(state.mfn_list_pfn), -(-int(state.nr_pages) // view.n)),
        ("brk", int(state.brk_pfn), int(state.brk_used)),
        ("boot allocator", int(state.bootmem_pfn), int(state.bootmem_used)),
    ]
    places += [("page allocator", f, c) for f, c in leading(view.t.pool, int(state.pool_used))]
    found = [{"name": n, "pfn": f, "count": c} for n, f, c in places if c > 0]
    return found + [{"name": "hit", "pfn": pfn, "count": 1} for pfn in sorted(hits)[:64]]
