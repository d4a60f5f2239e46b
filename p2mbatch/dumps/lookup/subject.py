"""The guest that is asked about: a file's, or a trace's after an event, with its host then."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.entries import FOREIGN_FLAG, is_foreign, is_identity
from p2mbatch.base.geometry import INVALID
from p2mbatch.dumps.audit.recover import recover
from p2mbatch.dumps.audit.structures import Structures, find_structures, true_leaves
from p2mbatch.dumps.audit.walk_state import Walk
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.dumps.writers.as_guest import guest_of_image
from p2mbatch.dumps.writers.image import GuestImage

OWN, FOREIGN, IDENTITY, HOLE = "own", "foreign", "identity", "hole"
LOST, UNLISTED, BEYOND, PAGE = "lost in the dump", "not listed", "beyond max_pfn", "page"
"""What an entry is: `PAGE` is a page whose frame the file does not name."""


@dataclass(frozen=True)
class Subject:
    """A guest with its list walked and its structures found, as far as they can be."""

    guest: DumpGuest
    dumped: DumpGuest
    """The guest by the file's own table, without what its leaves say beyond it."""
    walk: Walk
    structures: Structures
    m2p: Int64Array | None = None
    """int64[frames]: the host's m2p, known of traces only."""
    owned: Int64Array | None = None
    """The MFNs of the guest's own frames, ascending; known of traces only."""

    @cached_property
    def leaves(self) -> Int64Array:
        """int64[k]: the true leaves' PFNs, -1 where one is not known."""
        return true_leaves(self.guest, self.walk)

    def entry(self, pfn: int) -> int:
        """Return the entry of `pfn`, INVALID beyond the span."""
        if not 0 <= pfn < self.guest.max_p2m_pfn:
            return INVALID
        return int(self.guest.p2m.chunk(pfn, pfn + 1)[0])

    def kinds(self, start: int, entries: Int64Array) -> list[str]:
        """Return what each of `entries`, of the PFNs from `start` on, is."""
        width, p2m = self.guest.word_bytes, self.guest.p2m
        kinds = np.full(entries.size, OWN if p2m.has_frames else PAGE, object)
        kinds[is_foreign(entries, width)] = FOREIGN
        kinds[is_identity(entries, width)] = IDENTITY
        kinds[entries == INVALID] = HOLE
        own = (entries > 0) & (kinds == OWN)
        if self.dumped.p2m is not p2m:
            dumped = self.dumped.p2m.chunk(start, start + entries.size)
            kinds[own & (dumped == INVALID)] = LOST
        for first, stop in p2m.unlisted.tolist():
            kinds[max(first - start, 0) : max(stop - start, 0)] = UNLISTED
        return list(kinds)

    def named_by(self, mfn: int) -> Int64Array:
        """Return the PFNs whose entry is `mfn`, int64[k] ascending (one pass)."""
        found = [np.zeros(0, np.int64)]
        for start, entries in self.guest.p2m.chunks():
            found.append(np.flatnonzero(entries == mfn) + start)
        return np.concatenate(found)

    def foreign_by(self, mfn: int) -> Int64Array:
        """Return the PFNs that name `mfn` as another domain's frame, int64[k] ascending."""
        width = self.guest.word_bytes
        flags = {FOREIGN_FLAG[4], FOREIGN_FLAG[width]}
        flagged = [np.array([mfn | flag], np.uint64).view(np.int64)[0] for flag in flags]
        return np.unique(np.concatenate([self.named_by(int(word)) for word in flagged]))

    def page_names(self, pfn: int) -> list[str]:
        """Return which structures page `pfn` is, as far as they are known; [] for any other."""
        structures, walk = self.structures, self.walk
        names = []
        if structures.found:
            names += ["p2m_top"] * (pfn == structures.top)
            names += ["p2m_mid_missing"] * (pfn == structures.mid_missing)
            names += [
                f"the mid page of top {top}"
                for top, page in structures.mids.items()
                if page == pfn and page != structures.mid_missing
            ]
        names += ["p2m_missing"] * (pfn == structures.missing)
        names += ["the frame list list"] * (pfn == walk.fll_pfn)
        lists = np.flatnonzero(walk.fl_pfns == pfn).tolist()
        if len(lists) > 1:
            names.append(f"p2m_mid_missing_mfn (the frame list of {len(lists)} tops)")
        names += [f"the frame list of top {top}" for top in lists if len(lists) == 1]
        shown = np.flatnonzero(self.leaves == pfn)
        if shown.size > 1 and pfn != structures.missing:
            names.append(f"the leaf of {shown.size} stretches, from leaf {int(shown[0])} on")
        names += [f"leaf {int(x)}" for x in shown if shown.size == 1]
        if walk.linear is not None:
            names += [
                f"a level {level} page table of the list"
                for level, page in sorted(walk.linear.used)
                if page == pfn
            ]
        return names


def subject_of(guest: DumpGuest) -> Subject:
    """Return the guest of a file, with its list walked."""
    recovered = recover(guest)
    walk = recovered.walk
    return Subject(recovered.guest, guest, walk, find_structures(recovered.guest, walk))


def subject_of_image(image: GuestImage, name: str) -> Subject:
    """Return a trace's guest after an event, with its host's m2p; `name` is the trace's."""
    guest = guest_of_image(image, name)
    walk = recover(guest).walk
    return Subject(
        guest, guest, walk, find_structures(guest, walk), m2p=image.m2p, owned=image.owned_mfns
    )
