"""Find the guest's own side of the tree in a dump: the pages that link leaves by address.

The toolstack's side (frame list list, frame lists) is named by MFN and so is easily found. The
guest's side is not named at all; but a mid page's words are addresses of leaves, so they differ
from the leaves' PFNs by one constant, whatever the kernel's address of its memory is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID, PAGE_SHIFT
from p2mbatch.dumps.audit.walk import Walk
from p2mbatch.dumps.model import DumpGuest

_BEFORE, _AFTER = 4096, 1024
"""Pages around the frame list list that are looked at."""

_KEY_WORDS = 8
"""Leading words by which a leaf is recognised before it is compared as a whole."""

_CONFIRM_LEAVES = 4
"""Leaves that a mid page must name for its likeness not to be chance."""


@dataclass(frozen=True)
class Structures:
    """PFNs of the structures that were found, -1 where one was not."""

    missing: int = -1
    """`p2m_missing`."""
    mid_missing: int = -1
    """`p2m_mid_missing`."""
    top: int = -1
    """`p2m_top`."""
    mids: dict[int, int] = field(default_factory=dict)
    """Top index -> PFN of its mid page, `p2m_mid_missing` included."""
    num_own_mids: int = 0
    """Mids that are not `p2m_mid_missing`."""

    @property
    def found(self) -> bool:
        """Whether the guest's side was found at all."""
        return self.top >= 0


def true_leaves(guest: DumpGuest, walk: Walk) -> Int64Array:
    """Return int64[k]: the leaves' PFNs, -1 where one is not known; empty where none is.

    The file names them (streams), or a walk that succeeded found them, or they are recognised near
    the frame list list by what they must hold.
    """
    if guest.leaf_pfns is not None:
        return guest.leaf_pfns
    if walk.result == "ok" or walk.fll_pfn < 0 or not guest.pages.complete:
        return walk.leaf_pfns if walk.result == "ok" else np.zeros(0, np.int64)
    n, count = guest.geometry.entries, min(-(-guest.max_p2m_pfn // guest.geometry.entries), _AFTER)
    leaf_of = {
        guest.p2m.chunk(x * n, min((x + 1) * n, guest.max_p2m_pfn))[:_KEY_WORDS].tobytes(): x
        for x in range(count)
    }
    leaves = np.full(count, -1, np.int64)
    for pfn in _window(guest, walk).tolist():
        page = guest.pages.read(pfn)
        leaf = leaf_of.get(page.words[:_KEY_WORDS].tobytes()) if page is not None else None
        if leaf is None or page is None:
            continue
        first, stop = leaf * n, min((leaf + 1) * n, guest.max_p2m_pfn)
        if np.array_equal(page.words[: stop - first], guest.p2m.chunk(first, stop)):
            leaves[leaf] = pfn
    return leaves


def _window(guest: DumpGuest, walk: Walk) -> Int64Array:
    """Return the PFNs near the frame list list, int64[k]: brk pages lie side by side."""
    first, stop = max(walk.fll_pfn - _BEFORE, 0), walk.fll_pfn + _AFTER
    return np.arange(first, min(stop, guest.max_p2m_pfn))


def find_structures(guest: DumpGuest, walk: Walk) -> Structures:
    """Return the structures of `guest` found near its frame list list; `walk` is its save check.

    Looks at some thousand pages; finds nothing in a dump that was read from a pipe, in text, or
    where neither file nor walk names the leaves.
    """
    leaves = true_leaves(guest, walk)
    first = leaves[: guest.geometry.entries]
    num_known = np.count_nonzero(first >= 0)
    if not guest.pages.complete or walk.fll_pfn < 0 or num_known < _CONFIRM_LEAVES:
        return Structures()
    window = _window(guest, walk)
    guest.pages.prefetch(window)
    for pfn in window.tolist():
        base = _base_of_mid(guest, pfn, first)
        if base is not None:
            found = _from_mid(guest, window, pfn, base)
            if found.found:
                return found
    return Structures()


def _base_of_mid(guest: DumpGuest, pfn: int, leaves: Int64Array) -> int | None:
    """Return the address of PFN 0 if page `pfn` links `leaves` by address, else None."""
    page = guest.pages.read(pfn)
    if page is None or not page.complete:
        return None
    bases = (page.words[: leaves.size] - (leaves << PAGE_SHIFT))[leaves >= 0]
    base = int(bases[0])
    if base & ((1 << PAGE_SHIFT) - 1) or np.any(bases != base):
        return None
    return base


def _from_mid(guest: DumpGuest, window: Int64Array, mid: int, base: int) -> Structures:
    """Return all structures, given the first mid page and the address of PFN 0."""
    n = guest.geometry.entries
    num_mids = -(-guest.max_p2m_pfn // n**2)
    top = -1
    for pfn in window.tolist():
        page = guest.pages.read(pfn)
        if page is None or page.words[0] != base + (mid << PAGE_SHIFT):
            continue
        pages = (page.words - base) >> PAGE_SHIFT
        if np.all((pages >= 0) & (pages < guest.max_p2m_pfn)):
            top, mids = pfn, pages
            break
    if top < 0:
        return Structures()
    mid_missing = int(mids[-1]) if num_mids < n else -1
    missing = -1
    if mid_missing >= 0:
        page = guest.pages.read(mid_missing)
        words = page.words if page is not None else np.zeros(0, np.int64)
        if words.size == n and np.all(words == words[0]):
            missing = (int(words[0]) - base) >> PAGE_SHIFT
    used = mids[:num_mids].tolist()
    return Structures(
        missing=missing if _is_missing(guest, missing) else -1,
        mid_missing=mid_missing,
        top=top,
        mids=dict(enumerate(used)),
        num_own_mids=sum(page != mid_missing for page in used),
    )


def _is_missing(guest: DumpGuest, pfn: int) -> bool:
    page = guest.pages.read(pfn) if pfn >= 0 else None
    return page is not None and bool(np.all(page.words == INVALID))
