"""What will hurt this guest later, though it may look well now (model section 9)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.entries import is_foreign, is_identity
from p2mbatch.base.geometry import INVALID
from p2mbatch.dumps.audit.era import Era
from p2mbatch.dumps.audit.shape import Shape
from p2mbatch.dumps.audit.structures import Structures, linked_page, true_leaves
from p2mbatch.dumps.audit.walk_state import Walk
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.dumps.p2m import LeafP2M, SparseP2M
from p2mbatch.model.policies import find

SEVERITIES = ("loss", "risk", "note")
"""How bad a hazard is: "loss": the next migration loses memory or the guest; "risk": something
more has to happen first (growth, a frame named twice); "note": worth knowing, and healthy guests
have it too.
"""

CHECK = "check"
"""What `--fail-on` calls a save check that failed: worse than any hazard."""

_SEVERITY_OF = {
    "mid-without-list": "loss",
    "beyond-max-pfn": "loss",
    "stale-entries": "loss",
    "lost-in-dump": "loss",
    "odd-generation": "risk",
    # Every guest that was ever restored has it, up to 3.18: it takes growth to hurt.
    "stale-list-tail": "note",
    "repeated-frames": "risk",
    "zero-frames": "risk",
    "foreign-entries": "note",
    "partial-last-leaf": "note",
}


class Hazard(NamedTuple):
    """One danger found in this guest."""

    kind: str
    num: int
    """How many entries, pages or tops it concerns."""
    text: str
    """One sentence: what was found, and what comes of it."""

    @property
    def severity(self) -> str:
        """One of `SEVERITIES`, by kind."""
        return _SEVERITY_OF[self.kind]

    def to_json(self) -> dict[str, str | int]:
        """Return the hazard as plain values."""
        return {"kind": self.kind, "severity": self.severity, "num": self.num, "text": self.text}


def find_hazards(
    guest: DumpGuest,
    walk: Walk,
    shape: Shape,
    structures: Structures,
    era: Era,
    lost: int = 0,
    surplus: int = 0,
) -> list[Hazard]:
    """Return the hazards of model section 9 that `guest` shows, and frames named in wrong ways.

    The worst come first. `era` is what the file shows of the guest's kernel; `lost` and `surplus`
    are the pages that a dump lost, and those that it counts and no PFN has.
    """
    found = [
        _mids_without_list(guest, walk, structures, era),
        _stale_list_tail(guest, walk),
        _partial_last_leaf(guest, walk),
        _beyond_max_pfn(guest, walk, surplus),
        _stale_entries(guest, walk),
    ]
    if shape.zero_frames and guest.p2m.has_frames:
        text = (
            f"{shape.zero_frames} PFNs name MFN 0, which is never a guest's: the tail of a "
            "mfn_list page that was read as frames"
        )
        found.append(Hazard("zero-frames", shape.zero_frames, text))
    repeated = guest.p2m.num_repeated() if guest.p2m.has_frames else 0
    if repeated > max(shape.zero_frames - 1, 0):
        count = repeated - max(shape.zero_frames - 1, 0)
        text = (
            f"{count} PFNs name a frame that another PFN names too: the host's m2p can be right "
            "for one of them only"
        )
        found.append(Hazard("repeated-frames", count, text))
    if shape.foreign:
        text = (
            f"{shape.foreign} entries are another domain's frames: a save does not carry them, "
            "and their mark is lost"
        )
        found.append(Hazard("foreign-entries", shape.foreign, text))
    if lost:
        text = f"{lost} pages that the leaves name are not in the file: the dump is not whole"
        found.append(Hazard("lost-in-dump", lost, text))
    if walk.linear is not None and walk.linear.generation & 1:
        text = (
            f"p2m_generation is {walk.linear.generation}, an odd number: the file caught the "
            "kernel in the middle of a change of the list's page tables"
        )
        found.append(Hazard("odd-generation", 1, text))
    hazards = [hazard for hazard in found if hazard is not None]
    return sorted(hazards, key=lambda hazard: SEVERITIES.index(hazard.severity))


def tops_without_list(guest: DumpGuest, walk: Walk, structures: Structures) -> list[int]:
    """Return the top indices whose frame list is still the shared placeholder beside an own mid.

    `alloc_p2m` got the mid page and not the list's (model section 9, item 2). [] where the file
    does not show the guest's own side.
    """
    if not structures.found or not walk.fll.size:
        return []
    mids = structures.mids
    placeholders = _placeholders(guest, walk, structures)
    return [
        top
        for top, pfn in enumerate(guest.p2m.find(walk.fll).tolist())
        if mids.get(top, structures.mid_missing) != structures.mid_missing and pfn in placeholders
    ]


def _mids_without_list(
    guest: DumpGuest, walk: Walk, structures: Structures, era: Era
) -> Hazard | None:
    """A mid page whose frame list is still the shared placeholder (section 9, item 2).

    Late lists (policies-spec P6) get one at the resume.
    """
    bad = tops_without_list(guest, walk, structures)
    late = [find(name).late_list for name in era.policies]
    if not bad or (late and all(late)):
        return None
    first = linked_page(guest, structures, structures.mids[bad[0]], 0)
    how = "alloc_p2m got the first and not the second"
    if structures.missing >= 0 and first != structures.missing:
        how = "1:1 words were set there while it ran"
    but = "" if late and not any(late) else ", but in Linux 3.17 and 3.18, which make one then"
    text = (
        f"top index {bad[0]} has a mid page but no frame list of its own ({how}): the next resume "
        f"hits the BUG _brk_start == 0{but}"
    )
    return Hazard("mid-without-list", len(bad), text)


def _placeholders(guest: DumpGuest, walk: Walk, structures: Structures) -> set[int]:
    """Return the PFNs of pages that can only be `p2m_mid_missing_mfn`.

    It is what tops without a mid have as their list, and at boot it is taken before the frame list
    list (with `p2m_mid_identity_mfn` and `p2m_top_mfn_p` between them in kernels that have them),
    full of p2m_missing's frame.
    """
    fl_pfns = guest.p2m.find(walk.fll).tolist()
    found = {
        pfn
        for top, pfn in enumerate(fl_pfns)
        if pfn >= 0 and structures.mids.get(top) == structures.mid_missing
    }
    at = max(structures.missing, 0)
    missing = guest.p2m.chunk(at, at + 1)
    for pfn in range(walk.fll_pfn - 3, walk.fll_pfn):
        page = guest.pages.read(pfn) if structures.missing >= 0 else None
        if page is not None and page.complete and bool(np.all(page.words == missing)):
            found.add(pfn)
    return found


def num_stale_entries(guest: DumpGuest, walk: Walk) -> int:
    """Return how many entries of the frame list list beyond the guest name no frame of it.

    The rebuild never renews them (model section 9, item 1). 0 where the file does not show that
    page.
    """
    page = guest.pages.read(walk.fll_pfn) if walk.fll_pfn >= 0 else None
    if page is None or not page.complete:
        return 0
    first = -(-guest.max_p2m_pfn // guest.geometry.entries**2)
    tail = page.words[first:]
    return int(np.count_nonzero((tail > 0) & (guest.p2m.find(tail) < 0)))


def _stale_list_tail(guest: DumpGuest, walk: Walk) -> Hazard | None:
    """Entries of the frame list list beyond the guest that the rebuild never renews (item 1)."""
    num = num_stale_entries(guest, walk)
    if not num:
        return None
    text = (
        f"{num} entries of the frame list list beyond max_pfn name frames that are not "
        "the guest's: populating a PFN there hits the BUG virt_to_mfn(mid_mfn) != *top_mfn_p "
        "(kernels before the fix write through a wrong page instead)"
    )
    return Hazard("stale-list-tail", num, text)


def _partial_last_leaf(guest: DumpGuest, walk: Walk) -> Hazard | None:
    """Words behind max_pfn in the last leaf that look like frames (item 3)."""
    n = guest.geometry.entries
    used = guest.max_p2m_pfn % n
    leaves = true_leaves(guest, walk)
    last = guest.max_p2m_pfn // n
    if not used or last >= leaves.size or leaves[last] < 0:
        return None
    page = guest.pages.read(int(leaves[last]))
    if page is None or not page.complete:
        return None
    tail = page.words[used:]
    count = int(np.count_nonzero(tail != INVALID))
    if not count:
        return None
    zeros = int(np.count_nonzero(tail == 0))
    text = (
        f"the last leaf is used up to entry {used} of {n}, and {count} words behind that are not "
        f"INVALID ({zeros} are MFN 0): grown by one page, the guest would read them as frames"
    )
    return Hazard("partial-last-leaf", count, text)


def _beyond_max_pfn(guest: DumpGuest, walk: Walk, surplus: int) -> Hazard | None:
    """Frames at PFNs that no save carries (item 5), and pages for which there is no PFN at all."""
    count, p2m = surplus, guest.p2m
    if isinstance(p2m, SparseP2M):
        count += int(p2m.pfns.size - np.searchsorted(p2m.pfns, guest.max_p2m_pfn))
    elif isinstance(p2m, LeafP2M) and guest.leaf_pfns is not None:
        n = guest.geometry.entries
        for leaf in np.unique(guest.leaf_pfns[-(-guest.max_p2m_pfn // n) :]).tolist():
            page = guest.pages.read(leaf)
            words = page.words if page is not None else np.zeros(0, np.int64)
            count += _num_own(words, guest.word_bytes)
    if 0 <= walk.max_pfn < guest.max_p2m_pfn - 1:
        for start in range(walk.max_pfn + 1, guest.max_p2m_pfn, 1 << 20):
            entries = p2m.chunk(start, min(start + (1 << 20), guest.max_p2m_pfn))
            count += _num_own(entries, guest.word_bytes)
    if not count:
        return None
    text = (
        f"{count} of the guest's pages lie beyond what a save carries: they are lost on migration"
    )
    return Hazard("beyond-max-pfn", count, text)


def _num_own(entries: Int64Array, word_bytes: int) -> int:
    other = is_foreign(entries, word_bytes) | is_identity(entries, word_bytes)
    return int(np.count_nonzero((entries > 0) & ~other))


def _stale_entries(guest: DumpGuest, walk: Walk) -> Hazard | None:
    """Entries of the list as far as the walk read it that name no frame of the guest."""
    lists = np.concatenate([walk.fll, walk.fl])
    if walk.passed or not lists.size:
        return None
    stale = int(np.count_nonzero(guest.p2m.find(lists) < 0))
    if not stale:
        return None
    text = (
        f"{stale} of the {lists.size} entries of the mfn list list that the walk could read name "
        "frames that are not the guest's: frame numbers of an earlier host"
    )
    return Hazard("stale-entries", stale, text)
