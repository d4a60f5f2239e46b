"""What can go wrong under each policy, which change mended it, and how sure that is.

Source: history.md, sections 0 to 12; policies-spec P7; linear-spec L9. A commit is named where it
is known; where only releases were at hand, the first one that has the change is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Hazard:
    """One way in which a guest's p2m or list goes wrong."""

    name: str
    what: str
    """One sentence."""
    mended: str
    """Which commit or release ended it; empty where nothing has."""


HAZARDS: Final[dict[str, Hazard]] = {
    hazard.name: hazard
    for hazard in (
        Hazard(
            "stale-list",
            "after a migration the list is looked up by the old host's numbers",
            "2.6.37, commit 375b2a9ada6d",
        ),
        Hazard(
            "built-once",
            "the list is built at boot only, so the second save fails",
            "2.6.33, commit fa24ba62ea2",
        ),
        Hazard(
            "boot-only",
            "no resume builds the list, so the second save fails",
            "",
        ),
        Hazard(
            "past-arrays",
            "a guest with more pages than the static arrays name reports them all, so that no save "
            "gets past the list",
            "2.6.37, three levels",
        ),
        Hazard(
            "beyond-max",
            "after a migration, growth past the end that was reported is a BUG",
            "3.19, the linear p2m",
        ),
        Hazard(
            "half-grown",
            "a growth that got a mid page and no page of the list is a BUG at the next resume",
            "3.17, a late page; 3.19, a rebuild may allocate",
        ),
        Hazard(
            "tail-zero",
            "the tail of a partial last leaf reads as MFN 0",
            "2.6.38, commit cf04d120d94",
        ),
        Hazard(
            "not-saved",
            "pages populated past the end that was reported are not saved",
            "3.19, the whole area is",
        ),
        Hazard(
            "race",
            "of two CPUs that grow the same place at once one uses a page that was freed, or meets "
            "the list half changed, which is a BUG",
            "3.17 for the list's page, 3.19 for leaves; the BUG's window is still there",
        ),
        Hazard(
            "list-race",
            "of two CPUs that grow the same place at once one meets the list half changed, which "
            "is a BUG",
            "",
        ),
        Hazard(
            "shared-write",
            "a set under p2m_identity writes into a page that all 1:1 leaves share",
            "3.19, the shared leaves are mapped read-only",
        ),
        Hazard(
            "marks-lost",
            "1:1 marks in leaves of their own are gone after one migration",
            "",
        ),
        Hazard(
            "identity-mid",
            "a 1:1 hole that covers a whole mid below the end is a BUG at the first resume",
            "3.17, the list is built last",
        ),
        Hazard(
            "whole-area",
            "the whole area is reported, so the toolstack walks all of it",
            "4.3, commit 98dd166ea3a3; Xen 4.7, commit 91e204d37f, trims the walk",
        ),
        Hazard(
            "last-pages",
            "the page that made the table grow, and the rest of its leaf, are not saved",
            "5.14 and stable series of 2021, commit 4b511d5bfa74",
        ),
        Hazard(
            "null-page",
            "a rebuild that takes a page for the list does not look whether it got one",
            "",
        ),
        Hazard(
            "behind-walk",
            "a leaf that grows behind a live migration's walk is moved wrong: nothing looks again",
            "4.3 and Xen 4.7, which compare the linear list's generation",
        ),
        Hazard(
            "live-growth",
            "growth during a live migration changes the generation and aborts it",
            "",
        ),
    )
}


@dataclass(frozen=True)
class Facts:
    """What is known of a policy's kernels."""

    versions: str
    does: str
    """What these kernels do, in one sentence."""
    hazards: tuple[str, ...]
    run: str
    """Releases whose own functions were run."""
    read: str
    """Releases whose source was read."""
    between: str = ""
    """Releases that are taken to be alike, as they lie between those."""


_TREE = ("beyond-max", "half-grown", "not-saved", "race", "behind-walk")

FACTS: Final[dict[str, Facts]] = {
    "two-level": Facts(
        "2.6.27 to 2.6.29, 2.6.33 to 2.6.36",
        "Two levels in static arrays; the list is rebuilt in full at every resume.",
        ("past-arrays", "tail-zero", "not-saved"),
        "2.6.27, 2.6.29, 2.6.33, 2.6.35, 2.6.36",
        "2.6.27 to 2.6.36",
    ),
    "two-level-none": Facts(
        "2.6.30 to 2.6.32",
        "Two levels in static arrays; the list is built at boot and never again.",
        ("built-once", "past-arrays", "tail-zero", "not-saved"),
        "2.6.30, 2.6.32",
        "2.6.30 to 2.6.32",
    ),
    "stale": Facts(
        "release candidates of 2.6.37",
        "Three levels; a rebuild looks the list's pages up by the numbers that are in it.",
        ("stale-list", "tail-zero", *_TREE),
        "the commit before 375b2a9ada6d",
        "58e05027b53 to 375b2a9ada6d",
        "",
    ),
    "tracked": Facts(
        "2.6.37",
        "Three levels; a rebuild knows the list's pages by their addresses.",
        ("tail-zero", *_TREE),
        "2.6.37",
        "2.6.37",
    ),
    "tail": Facts(
        "2.6.38",
        "As tracked, with the tail of the last leaf INVALID and one more brk request at boot.",
        _TREE,
        "2.6.38",
        "2.6.38",
    ),
    "identity": Facts(
        "3.0 to 3.6, 2.6.39.4, on 32-bit to 3.13",
        "As tail, with a shared leaf for 1:1 ranges and flags at the top of the word.",
        (*_TREE, "shared-write", "marks-lost"),
        "3.0, 3.4, 3.6",
        "2.6.39, 3.0, 3.4, 3.6",
        "3.1 to 3.3, 3.5",
    ),
    "moved": Facts(
        "3.7 to 3.13",
        "As identity, with a 64-bit guest's leaves moved out of mfn_list at the end of boot.",
        (*_TREE, "shared-write", "marks-lost"),
        "3.10",
        "3.10",
        "3.7 to 3.9, 3.11 to 3.13",
    ),
    "mid-identity": Facts(
        "3.14 to 3.16",
        "As moved, with a shared mid for whole 1:1 steps.",
        (*_TREE, "shared-write", "marks-lost", "identity-mid"),
        "3.16",
        "3.16",
        "3.14, 3.15",
    ),
    "late-list": Facts(
        "3.17 and 3.18",
        "As mid-identity, with the list built last at boot and pages for it taken later too.",
        ("beyond-max", "not-saved", "race", "behind-walk", "shared-write", "marks-lost"),
        "3.18",
        "3.18",
        "3.17",
    ),
    "linear-3.19": Facts(
        "3.19 to 4.2",
        "One flat table in virtual memory, reported whole by a list alone.",
        ("whole-area", "list-race", "marks-lost", "null-page", "behind-walk"),
        "3.19",
        "3.19",
        "4.0 to 4.2",
    ),
    "linear-4.4": Facts(
        "4.3 to 5.13, to the stable releases that are mended; 5.14.0 to 5.14.5",
        "One flat table, reported by address and by a hint that is off by one.",
        ("last-pages", "list-race", "marks-lost", "null-page", "live-growth"),
        "4.4, 5.10",
        "4.4, 5.10",
        "4.3, 4.5 to 5.9, 5.11 to 5.13",
    ),
    "linear": Facts(
        "5.14 and newer; 4.4.284, 4.9.283, 4.14.247, 4.19.207, 5.4.148, 5.10.67, 5.13.19, 5.14.6 "
        "and on",
        "One flat table, reported by address and by a hint that is rounded up.",
        ("list-race", "marks-lost", "null-page", "live-growth"),
        "6.4",
        "6.1, 6.4",
        "5.14 to 6.0, 6.2, 6.3; after 6.4 not looked at. The change is among the patches of "
        "5.14.6, so 5.14.0 to 5.14.5 are linear-4.4; 5.14 alone means the series",
    ),
    "none": Facts(
        "no Linux: mini-os is one",
        "Three levels; the list is built at boot and never again.",
        ("boot-only", "tail-zero", *_TREE),
        "",
        "2.6.37",
    ),
}
"""By policy. Those of the user's own have none."""
