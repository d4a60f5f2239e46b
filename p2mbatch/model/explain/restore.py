"""The restore on the new host, and the report at a resume's end."""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.tables import NO_PAGE, P_LEAF, TABLE_HOST
from p2mbatch.model.explain.boot import report_step
from p2mbatch.model.explain.flat import tell_flat_report
from p2mbatch.model.explain.save import TreeWalk
from p2mbatch.model.explain.story import Step
from p2mbatch.model.explain.view import View
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.toolstacks import Toolstack, said

SHARED = "That page is one that many PFNs share, and something was stored into it."


def tell_restore(
    before: View, after: View | None, result: EventResult, walk: TreeWalk
) -> list[Step]:
    """Return the steps of a restore: `after` is the guest before it resumed, None where it did not.

    Nothing where the save had failed. `walk` is that save's.
    """
    if result.outcome == "restore-failed":
        return [_refused(before, walk, result)]
    if after is None:
        return []
    return [_given(before, after, walk.tool), *_not_carried(before, after, walk.tool)]


def _refused(view: View, walk: TreeWalk, result: EventResult) -> Step:
    say = view.said()
    name, _, number = (result.detail or "").partition(" ")
    pfn = int(number)
    page = view.own_pfn(int(walk.found_leaves()[pfn >> view.shift]))
    text = (
        f"{say.pfn(pfn)} was sent, for its word in {view.name(say, page)} is "
        f"{say.mfn(view.word(page, pfn & (view.n - 1)))}, and the new host has no frame for it. "
        f'"{said(walk.tool.name, name)}": nothing of the guest is changed here.'
    )
    if page in (view.state.missing, view.state.identity):
        text += f" {SHARED}"
    return Step("restore", walk.tool.functions[name], text, False, say.numbers)


def _given(before: View, after: View, tool: Toolstack) -> Step:
    """Return what the guest was given: its frames, and how its own pages are numbered now."""
    say = after.said()
    last = int(after.state.saved_max_pfn)
    text = (
        f"The new host ({say.count(after.frames)} frames) gives frames to what was sent, up to "
        f"{say.pfn(last)}; the leaves that were found are overwritten with them. All other "
        "pages arrive as they were, the list among them"
    )
    page = _list_page(after)
    if page >= 0:
        old, new = before.mfn(page), after.mfn(page)
        text += (
            f": {after.what(say, page)} ({say.pfn(page)}) was {say.mfn(old)} and is {say.mfn(new)}"
        )
    return Step("restore", tool.restores, text + ".", None, say.numbers)


def _list_page(view: View) -> int:
    """Return the page whose MFN the guest reports, or -1."""
    for name in ("static_list", "top_mfn"):
        page = int(getattr(view.state, name))
        if page != NO_PAGE and (name != "static_list" or view.policy.is_two_level):
            return page
    return -1


MAX_PFNS_COMPARED = 1 << 22
"""Spans that are compared PFN by PFN: 16 GiB."""


def _not_carried(before: View, after: View, tool: Toolstack) -> list[Step]:
    """Return the PFNs whose entries no save carries, where the guest is not too large to look."""
    end = _end(before)
    if end > MAX_PFNS_COMPARED:
        return []
    rows = np.empty((2, end), np.int64)
    for row, view in zip(rows, (before, after), strict=True):
        view.policy.operations.get_row(view.t, view.h, 0, row)
    steps = []
    last = int(after.state.saved_max_pfn)
    # An era's words may have the highest bit; elsewhere below 0 is what lies behind a wild pointer.
    there = (rows[0] != INVALID) if before.policy.is_era else (rows[0] >= 0)
    gone = np.flatnonzero(there[: last + 1] & (rows[1, : last + 1] == INVALID))
    if gone.size:
        say = after.said()
        is_one = gone.size == 1
        text = (
            f"{say.count(gone.size, 'entry', 'entries')} that {'was' if is_one else 'were'} no "
            "frame of the guest's own, or that the new host has none for, "
            f"{'arrives' if is_one else 'arrive'} as INVALID{':' if is_one else ', the first'} "
            f"{say.pfn(gone[0])} with {say.word(rows[0, gone[0]])}."
        )
        steps.append(Step("restore", tool.restores, text, None, say.numbers))
    kept = _populated(before, rows[0]) & (rows[0] == rows[1])
    beyond = np.flatnonzero(kept[last + 1 :])
    if beyond.size:
        say = after.said()
        were, keep = "were not saved, the first", "their entries keep the old host's MFNs"
        if beyond.size == 1:
            were, keep = "was not saved,", "its entry keeps the old host's MFN"
        text = (
            f"{say.count(beyond.size, 'populated PFN')} past {say.pfn(last)} {were} "
            f"{say.pfn(last + 1 + beyond[0])}: {keep}."
        )
        steps.append(Step("restore", tool.restores, text, False, say.numbers))
    return steps


def _end(view: View) -> int:
    """Return the PFN past all that the guest has leaves for: it may have grown past its maximum."""
    leaves = view.t.slots[: int(view.state.num_slots), P_LEAF]
    last = int(leaves.max(initial=-1))
    return max(int(view.state.max_p2m_pfn), (last + 1) << view.shift)


def _populated(view: View, row: Int64Array) -> BoolArray:
    """Return for each PFN, by its entry, whether the guest has a frame there; bool[PFNs].

    The tail of mfn_list reads as MFN 0, which is nobody's; identity is no frame of the guest's.
    """
    found: BoolArray = (row > 0) & (row & int(view.state.identity_bit) == 0)
    if view.h.par[0].kind == TABLE_HOST:
        mfns = np.clip(row, 0, view.frames - 1)
        own = (view.h.owned[mfns] != 0) & (view.h.m2p[mfns] == np.arange(len(row)))
        found = (row >= 0) & (row < view.frames) & own
    return found


def tell_report(view: View, result: EventResult) -> list[Step]:
    """Return what the shared info page says after a resume that came through."""
    if result.outcome != "ok":
        return []
    if view.policy.is_linear:
        return [tell_flat_report(view, "report")]
    return [report_step(view, "report")]
