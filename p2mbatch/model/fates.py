"""What becomes of a guest: the names of fates, which outcome is which, and what follows from each.

Rows and traces keep the outcome; everything that is told to people tells fates (docs/sweeps.md).
"""

from __future__ import annotations

SURVIVED, CORRUPTED = "survived", "silently corrupted"
"""Fates of a guest that came through: intact as far as the model tells, or damaged unseen."""

STUCK = "stuck"
"""The toolstack refused to save or to restore it and let it run on where it was."""

ABORTED = "aborted"
"""A live migration that was given up as the p2m had changed under it: it may be tried again."""

CRASHED = "crashed"
"""It hit a BUG or a fault."""

MOVED_WRONG = "moved wrong"
"""The toolstack took other pages for its p2m."""

FATES = (SURVIVED, CORRUPTED, STUCK, ABORTED, CRASHED, MOVED_WRONG)
"""Every fate, in the order in which figures and tables show them."""

ENDS = FATES[2:]
"""The fates of guests that did not come through."""

BY_OUTCOME = {
    "ok": SURVIVED,
    "save-failed": STUCK,
    "restore-failed": STUCK,
    "bug": CRASHED,
    "fault": CRASHED,
    "misdirected": MOVED_WRONG,
}
"""The fate that an outcome is, but for `ABORTED_DETAIL` and for damage."""

ABORTED_DETAIL = "p2m-generation-changed"
"""How the detail of a save begins that failed since the guest changed its p2m."""

DAMAGE = ("stray_writes", "lost_pages", "ghost_pages", "placeholder_writes")
"""Columns that are 0 in every row of a guest that is intact."""

FOR_OPERATORS = {
    SURVIVED: "intact, as far as the model tells",
    CORRUPTED: "every migration was reported ok, and pages of it are damaged or gone: nothing "
    "tells, and it takes the damage with it",
    STUCK: "it runs on where it was and can't be moved: it needs a shutdown to leave its host",
    ABORTED: "it runs on where it was with nothing lost: try again",
    CRASHED: "it is gone, with all that it had in memory",
    MOVED_WRONG: "what arrived is not the guest: its old host may have it still, if it was kept",
}
"""What follows from a fate for whoever runs the hosts."""


def fate_of(outcome: str, detail: str | None = None) -> str:
    """Return the fate that an outcome is with such a detail, damage left out."""
    if outcome == "save-failed" and (detail or "").startswith(ABORTED_DETAIL):
        return ABORTED
    return BY_OUTCOME[outcome]
