"""What the labels of an end mean: for the guest, and for its next migration.

Source: docs/races.md, "How an end is judged"; what a save does with a wrong list is model.md,
section 7.
"""

from __future__ import annotations

MEANINGS: dict[str, str] = {
    "ok": "nothing is lost and the next migration finds everything",
    "bug": (
        "the kernel stops at BUG virt_to_mfn(mid_mfn) != *top_mfn_p: the guest is gone, and there "
        "is no next migration"
    ),
    "fault": "the kernel reaches through a word that is no pointer: the guest is gone",
    "deadlock": "nobody can go on",
    "false": (
        "set_phys_to_machine returns false though there was memory: what was to be written is in "
        "nobody's tree; a caller that does not look loses the page"
    ),
    "lost": (
        "set_phys_to_machine returned true and the entry is not there: the page it named is not in "
        "the p2m and is not sent by the next migration"
    ),
    "stray": "an entry changed that nobody set",
    "uaf": (
        "a freed page was written or compared through: if somebody has it by then, it is his data"
    ),
    "leak": "a page is in nobody's hands any more: memory lost until the guest ends",
    "freed-in-tree": (
        "a freed page hangs in the tree: its next owner writes over the p2m, and the next "
        "migration reads what he wrote"
    ),
    "alias": "one page has two roles in the tree: a write to the one changes the other",
    "list": (
        "the mfn list names another page than the leaf: the next save takes that page for the "
        "p2m (misdirected), and the leaf's pages are lost"
    ),
    "mirror": (
        "p2m_top_mfn and p2m_top_mfn_p name different pages: the next growth below that top "
        "index hits the BUG"
    ),
    "wild": "a word on the way to a leaf is no pointer: the next access through it faults",
    "read": "a get returned what was never the entry's value",
    "max": (
        "the shared max_pfn is too low: the next save leaves out the highest pages, and no check "
        "sees it"
    ),
    "T-fail": "the toolstack's walk met a word of the wrong kind: the save fails, the guest lives",
    "T-abort": (
        "p2m_generation changed: the toolstack gives this migration up; nothing is lost, and it "
        "may be tried again"
    ),
    "T-lost": (
        "this live migration sends a populated page's entry wrongly or not at all: the page is "
        "lost on the other host, and no check sees it"
    ),
    "T-ghost": "this live migration sends an entry for a page that is not populated any more",
    "T-misdirected": (
        "the toolstack keeps another page than the leaf that is in the tree at the end: what the "
        "guest sets there later in this migration is not seen"
    ),
}


def meaning_of(class_name: str) -> list[tuple[str, str]]:
    """Return each label of a class with what it means."""
    return [(label, MEANINGS[label]) for label in class_name.split("+")]
