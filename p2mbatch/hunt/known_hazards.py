"""Which known hazard a find is, by what is known of each policy's kernels, and what mended it."""

from __future__ import annotations

from typing import Final

from p2mbatch.hunt.judge import Broken
from p2mbatch.model.hazards import FACTS, HAZARDS, Hazard

TRIMMED: Final = Hazard(
    "trimmed",
    "the toolstack's walk of a linear table compares a distance with an index: where the table "
    "begins at no multiple of 1 GiB it drops the last block, and nothing says so",
    "",
)
"""Of the toolstack: Linux begins its table at a multiple of 1 GiB (linear-spec L9)."""

_NAMES: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    ("resume-bug", "_brk_start == 0, half grown", ("half-grown",)),
    ("resume-bug", "_brk_start == 0, an identity mid", ("identity-mid",)),
    ("set-bug", "virt_to_mfn(mid_mfn) != *top_mfn_p, past the end", ("beyond-max",)),
    ("resume-fault", "null list page", ("null-page",)),
    ("lost-pages", "past the end", ("last-pages", "not-saved")),
    ("unset-entry", "in the tail", ("tail-zero",)),
    ("shared-page-writes", "", ("shared-write",)),
    ("wrong-list", "", ("built-once", "boot-only", "stale-list")),
    ("save-refused", "wrong list", ("built-once", "boot-only", "stale-list")),
    ("misdirected", "wrong list", ("built-once", "boot-only", "stale-list")),
    ("stray-writes", "", ("stale-list",)),
)
"""What broke, how its place begins, and the hazards that it may be."""


def hazard_of(policy: str, broken: Broken) -> Hazard | None:
    """Return the known hazard of the policy `policy` that a find shows; None where it is none."""
    if (broken.what, broken.where) == ("lost-pages", "trimmed away"):
        return TRIMMED
    facts = FACTS.get(policy)
    for what, where, names in _NAMES:
        if facts and broken.what == what and broken.where.startswith(where):
            return next((HAZARDS[name] for name in names if name in facts.hazards), None)
    return None
