"""Find the guest's own side of the tree in a dump: the pages that link leaves by address.

The toolstack's side (frame list list, frame lists) is named by MFN and so is easily found. The
guest's side is not named at all; but a mid page's words are addresses of leaves, so they differ
from the leaves' PFNs by a constant: the address at which the kernel has PFN 0. It may have its
memory at two: 64-bit Linux maps its own image (brk, and `mfn_list` until 3.7 moved the leaves) at
one, all memory at another, and what a tree grows by is always of the second. So a page may use two
constants, and each level has its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID, PAGE_SHIFT
from p2mbatch.dumps.audit.walk_state import Walk
from p2mbatch.dumps.model import DumpGuest

_BEFORE, _AFTER = 4096, 1024
"""Pages around the frame list list that are looked at."""

_KEY_WORDS = 8
"""Leading words by which a leaf is recognised before it is compared as a whole."""

_CONFIRM_LEAVES = 4
"""Leaves that a mid page must name for its likeness not to be chance."""

NO_TOP = "a page links the leaves by address, but none links that page"
"""Why nothing was found where the guest's side has two levels, or a top that lies elsewhere."""

_NO_PAGES = "the file has no pages that would show it"

_NOT_KEPT = (
    "the pages that would show it are not kept of a pipe or gzip of more than 64 MiB: unpack it "
    "into a file"
)

_MAX_BASES = 2
"""Address ranges that show all of the guest's memory: the kernel image's and the direct map."""

_KNOWN_BASES = {
    8: (-(1 << 31), -0x7800_0000_0000, -0x7F00_0000_0000),
    4: (0xC000_0000,),
}
"""By width: where Linux has PFN 0, as int64. 64-bit: the kernel map 0xffffffff80000000, the direct
map 0xffff880000000000 (2.6.29 to 4.x), and 0xffff810000000000 before (arch/x86, page_64_types.h).
32-bit: PAGE_OFFSET. Beside them counts every base that the pages themselves agree on."""


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
    reason: str = ""
    """Why nothing was found, where nothing was."""
    boot_leaf_base: int = 0
    """The address of PFN 0 by which the first leaf is linked, as int64."""
    pointer_base: int = 0
    """The address of PFN 0 by which `p2m_top` links the first mid page, as int64."""

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
    if walk.passed or walk.fll_pfn < 0 or not guest.pages.complete:
        return walk.leaf_pfns if walk.passed else np.zeros(0, np.int64)
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
    where neither file nor walk names the leaves, and says why.
    """
    if walk.linear is not None:
        return Structures(reason="the guest keeps a linear p2m list: there is no tree")
    leaves = true_leaves(guest, walk)
    first = leaves[: guest.geometry.entries]
    if not guest.pages.complete:
        return Structures(reason=_NO_PAGES if guest.shared_info is None else _NOT_KEPT)
    if walk.fll_pfn < 0:
        return Structures(reason="the frame list list, near which it lies, was not found")
    if np.unique(first[first >= 0]).size < _CONFIRM_LEAVES:
        return Structures(reason=f"fewer than {_CONFIRM_LEAVES} leaves are known by page")
    window = _window(guest, walk)
    guest.pages.prefetch(window)
    # By address a mid links these; it may also leave out those that are full of INVALID.
    known, told = [first], _without_blank(guest, first)
    if told.size and not np.array_equal(told, first):
        known.append(told)
    reason = "no page near the frame list list links the leaves by address"
    for pfn in window.tolist():
        bases = next(filter(None, (_bases_of_mid(guest, pfn, leaves) for leaves in known)), ())
        if bases:
            found = _from_mid(guest, window, pfn, bases)
            if found.found:
                return found
            reason = found.reason
    return Structures(reason=reason)


def _without_blank(guest: DumpGuest, leaves: Int64Array) -> Int64Array:
    """Return `leaves` with -1 for those full of INVALID; none at all where too few are left.

    A leaf that became 1:1 while the guest ran is `p2m_identity` in the tree, and in the list it is
    `p2m_missing` until the next resume.
    """
    blank = [pfn for pfn in np.unique(leaves[leaves >= 0]).tolist() if _is_missing(guest, pfn)]
    told = np.where(np.isin(leaves, blank), -1, leaves)
    return told if np.unique(told[told >= 0]).size >= _CONFIRM_LEAVES else told[:0]


def _bases_of_mid(guest: DumpGuest, pfn: int, leaves: Int64Array) -> tuple[int, ...]:
    """Return the addresses of PFN 0 if page `pfn` links `leaves` by address, else ().

    The first is that of the first known leaf. Pages that hold anything else differ from the leaves
    by as many numbers as there are leaves.
    """
    page = guest.pages.read(pfn)
    if page is None or not page.complete:
        return ()
    bases = (page.words[: leaves.size] - (leaves << PAGE_SHIFT))[leaves >= 0]
    if not bases.size or bases[0] & ((1 << PAGE_SHIFT) - 1):
        return ()
    others = np.unique(bases)
    if others.size > _MAX_BASES or np.any(others & ((1 << PAGE_SHIFT) - 1)):
        return ()
    return int(bases[0]), *(int(base) for base in others if base != bases[0])


def _pages_of(guest: DumpGuest, words: Int64Array, bases: tuple[int, ...]) -> Int64Array:
    """Return the PFN of each pointer of `words` under one of `bases`, -1 where it is under none."""
    pages = np.full(words.size, -1, np.int64)
    for base in bases:
        at = words - base
        inside = (at >= 0) & (at >> PAGE_SHIFT < guest.max_p2m_pfn) & (pages < 0)
        inside &= (at & ((1 << PAGE_SHIFT) - 1)) == 0
        pages[inside] = at[inside] >> PAGE_SHIFT
    return pages


def linked_page(guest: DumpGuest, structures: Structures, page_pfn: int, index: int) -> int | None:
    """Return the page that pointer `index` of page `page_pfn` leads to, None out of the guest.

    `structures` were found in `guest`; every base that any of its levels uses is tried.
    """
    found = linked_pages(guest, structures, page_pfn)[index : index + 1]
    return int(found[0]) if found.size and found[0] >= 0 else None


def linked_pages(guest: DumpGuest, structures: Structures, page_pfn: int) -> Int64Array:
    """Return int64[n]: the page that each pointer of page `page_pfn` leads to, -1 out of the guest.

    As `linked_page`; int64[0] where the file does not show that page.
    """
    page = guest.pages.read(page_pfn)
    own = (structures.boot_leaf_base, structures.pointer_base)
    bases = tuple(dict.fromkeys((*own, *_KNOWN_BASES[guest.word_bytes])))
    return _pages_of(guest, page.words if page is not None else np.zeros(0, np.int64), bases)


def _from_mid(
    guest: DumpGuest, window: Int64Array, mid: int, leaf_bases: tuple[int, ...]
) -> Structures:
    """Return all structures, given the first mid page and the bases of the leaves it links."""
    n = guest.geometry.entries
    num_mids = -(-guest.max_p2m_pfn // n**2)
    bases = tuple(dict.fromkeys((*leaf_bases, *_KNOWN_BASES[guest.word_bytes])))
    top, pointer_base, mids = -1, 0, window[:0]
    for pfn in window.tolist():
        page = guest.pages.read(pfn)
        if page is None or not page.complete:
            continue
        own_base = int(page.words[0]) - (mid << PAGE_SHIFT)
        if own_base not in bases:
            continue
        pages = _pages_of(guest, page.words, bases)
        if np.all(pages >= 0):
            top, pointer_base, mids = pfn, own_base, pages
            break
    if top < 0:
        return Structures(reason=NO_TOP)
    mid_missing = int(mids[-1]) if num_mids < n else -1
    missing = -1
    if mid_missing >= 0:
        page = guest.pages.read(mid_missing)
        words = page.words if page is not None else np.zeros(0, np.int64)
        if words.size == n and np.all(words == words[0]):
            missing = int(_pages_of(guest, words[:1], bases)[0])
    used = mids[:num_mids].tolist()
    return Structures(
        missing=missing if _is_missing(guest, missing) else -1,
        mid_missing=mid_missing,
        top=top,
        mids=dict(enumerate(used)),
        num_own_mids=sum(page != mid_missing for page in used),
        boot_leaf_base=leaf_bases[0],
        pointer_base=pointer_base,
    )


def _is_missing(guest: DumpGuest, pfn: int) -> bool:
    page = guest.pages.read(pfn) if pfn >= 0 else None
    return page is not None and bool(np.all(page.words == INVALID))
