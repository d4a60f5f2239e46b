"""The check that nobody else makes: would the toolstack accept this guest's mfn list list?

The same checks in the same order as the compiled save walk (model section 7; libxc's
`map_p2m_tree`), but over what a file holds: there are no ownership tables in a dump, so a frame is
the guest's own if the p2m names it; and unless somebody says how large the host was,
`formats.MAX_MFN` stands for `max_mfn`. The compiled walk needs the guest's pages as one slot table
and the host's m2p; this one reads the few pages it needs and searches the p2m in pieces.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.dumps import formats
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.dumps.stores import Page


def _none() -> Int64Array:
    return np.zeros(0, np.int64)


class FailingEntry(NamedTuple):
    """One word that the toolstack could not follow."""

    where: str
    """Which word: "entry 3 of the frame list list", …"""
    mfn: int | None
    """The word, None where it was not kept of a pipe."""
    leads_to: str
    """What the file knows of that frame."""


@dataclass
class Walk:
    """What the walk found, as far as it came."""

    result: str | None = None
    """`ok`, the detail of model section 7, `misdirected`, or None where it can't be told."""
    reason: str = ""
    """Why it can't be told; or the toolstack's own words for the failure."""
    passed: bool = False
    """Whether every check passed, whatever that proves of a file that contradicts itself."""
    max_mfn: int = 0
    """Frame numbers above this are refused on sight."""
    max_pfn: int = -1
    """The last PFN that would be saved, after the toolstack's trim."""
    fll_pfn: int = -1
    fll: Int64Array = field(default_factory=_none)
    """int64[num_mids]: the needed entries of the frame list list."""
    fl_pfns: Int64Array = field(default_factory=_none)
    """int64[num_mids]: PFN of each frame list page."""
    fl: Int64Array = field(default_factory=_none)
    """int64[num_leaves]: the frame list's entries, all mids in a row."""
    leaf_pfns: Int64Array = field(default_factory=_none)
    """int64[num_leaves]: PFN of each page that the toolstack would take for a leaf."""
    dropped_pfns: Int64Array = field(default_factory=_none)
    """int64[k]: PFNs that the file calls holes and the leaves do not, ascending."""
    dropped_words: Int64Array = field(default_factory=_none)
    """int64[k]: what the leaves say of them."""
    failing: FailingEntry | None = None
    """The entry at which a failed walk ended."""


class _Stop(Exception):
    """Ends the walk; carries nothing: the walk object says why."""


def save_check(guest: DumpGuest, max_mfn: int | None = None) -> Walk:
    """Walk `guest`'s frame list list as the toolstack does on save and return what came of it.

    `max_mfn` is the host's number of frames where it is known. Source: model section 7, the save
    checks in order.
    """
    most = formats.MAX_MFN[guest.word_bytes]
    walk = Walk(max_mfn=most if max_mfn is None else min(max_mfn, most))
    try:
        _walk(guest, walk)
        walk.result, walk.passed = "ok", True
    except _Stop:
        pass
    return walk


def _fail(walk: Walk, result: str, message: str, entry: FailingEntry | None = None) -> _Stop:
    walk.result, walk.reason, walk.failing = result, message, entry
    return _Stop()


_NOT_OWN = "no PFN of this guest has that frame"

_IMPOSSIBLE = "no host has such a frame"


def _word(page: Page, x: int, word_bytes: int) -> int | None:
    """Return word `x` of `page`, None where it was not kept."""
    return _unsigned(int(page.words[x]), word_bytes) if x < page.words.size else None


def _unknown(walk: Walk, reason: str) -> _Stop:
    walk.result, walk.reason = None, reason
    return _Stop()


def _unsigned(value: int, word_bytes: int) -> int:
    return int(value) & ((1 << 8 * word_bytes) - 1)


def _bad_words(words: Int64Array, max_mfn: int) -> Int64Array:
    """Return the indices of words that the toolstack refuses on sight."""
    return np.flatnonzero((words <= 0) | (words > max_mfn))


def _needed(page: Page, count: int) -> Int64Array:
    """Return the first `count` words of `page`.

    Of an incomplete page the last kept word is one that is refused on sight, so the zeros that
    stand for what follows it are never reached.
    """
    words = np.zeros(count, np.int64)
    have = page.words[:count]
    words[: have.size] = have
    return words


def _shown(page: Page, x: int, word_bytes: int) -> str:
    """Return word `x` of `page` for a message; of an incomplete page it may not have been kept."""
    if x >= page.words.size:
        return "(some number, not kept of a pipe)"
    return f"{_unsigned(int(page.words[x]), word_bytes):#x}"


def _read(guest: DumpGuest, walk: Walk, pfn: int, what: str) -> Page:
    page = guest.pages.read(pfn)
    if page is None:
        raise _unknown(
            walk,
            f"the file does not show what the guest has at PFN {pfn}, the page of {what}: it holds "
            "no data for it, or calls it a page table and so has other words in it",
        )
    return page


def _walk(guest: DumpGuest, walk: Walk) -> None:
    shared = guest.shared_info
    if shared is None:
        raise _unknown(walk, "the file does not hold the frame list list")
    if shared.p2m_cr3:
        raise _unknown(
            walk,
            f"the guest keeps a linear p2m list (p2m_cr3 {shared.p2m_cr3:#x}): the toolstack reads "
            "that list through the guest's page tables, not the tree",
        )
    shift = guest.geometry.entries_shift
    n = guest.geometry.entries
    max_pfn = _unsigned(shared.max_pfn - 1, 8)
    num_mids = (max_pfn >> (2 * shift)) + 1
    if num_mids > n:
        raise _fail(
            walk, f"max_pfn-too-large {max_pfn}", f"max_pfn {max_pfn:#x} too large for p2m tree"
        )
    _walk_top(guest, walk, num_mids)
    last = int(np.flatnonzero(np.diff(walk.fll, prepend=INVALID))[-1])
    walk.max_pfn = min(max_pfn, ((last + 1) << (2 * shift)) - 1)
    walk.fll = walk.fll[: (walk.max_pfn >> (2 * shift)) + 1]
    _walk_mids(guest, walk)
    _walk_leaves(guest, walk)


def _walk_top(guest: DumpGuest, walk: Walk, num_mids: int) -> None:
    """Read the frame list list and check its entries on sight."""
    width = guest.word_bytes
    assert guest.shared_info is not None
    mfn = guest.shared_info.frame_list_list_mfn
    where = "pfn_to_mfn_frame_list_list of the shared info page"
    if not 0 < mfn <= walk.max_mfn:
        raise _fail(
            walk,
            f"bad-fll-mfn {mfn}",
            f"Bad mfn {mfn:#x} for p2m frame list list",
            FailingEntry(where, mfn, _IMPOSSIBLE),
        )
    walk.fll_pfn = int(guest.p2m.find(np.array([mfn]))[0])
    if walk.fll_pfn < 0:
        raise _fail(
            walk,
            f"map-fll-failed {mfn}",
            f"Failed to map p2m frame list list at {mfn:#x}",
            FailingEntry(where, mfn, _NOT_OWN),
        )
    page = _read(guest, walk, walk.fll_pfn, "the frame list list")
    walk.fll = _needed(page, num_mids)
    bad = _bad_words(walk.fll, walk.max_mfn)
    if bad.size:
        x = int(bad[0])
        raise _fail(
            walk,
            f"bad-mfn-in-fll {x}",
            f"Bad mfn {_shown(page, x, width)} at index {x} (of {num_mids}) in p2m frame list list",
            FailingEntry(
                f"entry {x} of the frame list list (PFN {walk.fll_pfn})",
                _word(page, x, width),
                _IMPOSSIBLE,
            ),
        )


def _walk_mids(guest: DumpGuest, walk: Walk) -> None:
    """Find the frame list pages and read their entries."""
    width, shift = guest.word_bytes, guest.geometry.entries_shift
    walk.fl_pfns = guest.p2m.find(walk.fll)
    lost = np.flatnonzero(walk.fl_pfns < 0)
    if lost.size:
        x = int(lost[0])
        where = f"entry {x} of the frame list list (PFN {walk.fll_pfn})"
        entry = FailingEntry(where, int(walk.fll[x]), _NOT_OWN)
        raise _fail(walk, f"map-fl-failed {x}", "Failed to map p2m frame list", entry)
    guest.pages.prefetch(walk.fl_pfns)
    num_leaves = (walk.max_pfn >> shift) + 1
    pages = [
        _read(guest, walk, pfn, f"frame list {mid}")
        for mid, pfn in enumerate(walk.fl_pfns.tolist())
    ]
    walk.fl = np.concatenate(
        [
            _needed(page, min(num_leaves - (mid << shift), 1 << shift))
            for mid, page in enumerate(pages)
        ]
    )
    bad = _bad_words(walk.fl, walk.max_mfn)
    if bad.size:
        x = int(bad[0])
        shown = _shown(pages[x >> shift], x & ((1 << shift) - 1), width)
        raise _fail(
            walk,
            f"bad-mfn-in-fl {x}",
            f"Bad mfn {shown} at index {x} (of {num_leaves}) in p2m frame list",
            FailingEntry(
                _where_in_fl(guest, walk, x),
                _word(pages[x >> shift], x & ((1 << shift) - 1), width),
                _IMPOSSIBLE,
            ),
        )


def _where_in_fl(guest: DumpGuest, walk: Walk, x: int) -> str:
    """Return which word entry `x` of the whole frame list is."""
    mid, index = divmod(x, guest.geometry.entries)
    return f"entry {index} of frame list {mid} (PFN {int(walk.fl_pfns[mid])})"


def _walk_leaves(guest: DumpGuest, walk: Walk) -> None:
    """Find the leaves, hold them against the p2m, and tell whether they are the true ones."""
    shift = guest.geometry.entries_shift
    n = guest.geometry.entries
    leaf_pfns = guest.p2m.find(walk.fl)
    _prefer_named_leaves(guest, walk, leaf_pfns)
    lost = np.flatnonzero(leaf_pfns < 0)
    if lost.size:
        x = int(lost[0])
        entry = FailingEntry(_where_in_fl(guest, walk, x), int(walk.fl[x]), _NOT_OWN)
        raise _fail(walk, f"map-leaves-failed {x}", "Failed to map p2m frames", entry)
    walk.leaf_pfns = leaf_pfns
    beyond = leaf_pfns > walk.max_pfn
    home = np.where(beyond, 0, leaf_pfns) >> shift
    # Only where the page found is not the leaf that the file itself names can its words differ
    # from the p2m, which `find` has just searched.
    true = guest.leaf_pfns
    trusted = np.zeros(leaf_pfns.size, np.bool_)
    if true is not None:
        known = min(true.size, leaf_pfns.size)
        trusted[:known] = true[:known] == leaf_pfns[:known]
    agrees = trusted[home]
    for leaf in np.unique(home[~agrees & ~beyond]).tolist():
        page = _read(guest, walk, int(leaf_pfns[leaf]), f"leaf {leaf} as listed")
        entries = np.flatnonzero((home == leaf) & ~beyond)
        words = _needed(page, n)[leaf_pfns[entries] & (n - 1)]
        agrees[entries] = words == walk.fl[entries]
        kept = page.words.size
        if not page.complete and np.any((leaf_pfns[entries] & (n - 1)) >= kept):
            raise _unknown(walk, f"leaf {leaf} as listed was not kept: read the file, not a pipe")
    bad = np.flatnonzero(beyond | ~agrees)
    if bad.size:
        x = int(bad[0])
        pfn = int(leaf_pfns[x])
        leads = f"PFN {pfn}, which lies beyond max_pfn"
        if not beyond[x]:
            leads = f"PFN {pfn}, whose entry in the listed leaf {int(home[x])} is another frame"
        raise _fail(
            walk,
            f"bad-mfn-in-p2m-frame-list {x}",
            f"Bad mfn in p2m_frame_list[{x}]",
            FailingEntry(_where_in_fl(guest, walk, x), int(walk.fl[x]), leads),
        )
    if not _leaves_are_true(guest, walk):
        raise _fail(walk, "misdirected", "")


def _prefer_named_leaves(guest: DumpGuest, walk: Walk, leaf_pfns: Int64Array) -> None:
    """Where several PFNs name a listed frame, take the leaf that the file itself names.

    It was the host's m2p that told the toolstack which of them it is. Changes `leaf_pfns`.
    """
    if guest.leaf_pfns is None:
        return
    known = min(guest.leaf_pfns.size, leaf_pfns.size)
    for x in np.flatnonzero(guest.leaf_pfns[:known] != leaf_pfns[:known]).tolist():
        pfn = int(guest.leaf_pfns[x])
        if pfn < guest.max_p2m_pfn and guest.p2m.chunk(pfn, pfn + 1)[0] == walk.fl[x]:
            leaf_pfns[x] = pfn


def _leaves_are_true(guest: DumpGuest, walk: Walk) -> bool:
    """Return whether the pages found are the p2m: by PFN, or by content where none are named."""
    if guest.leaf_pfns is not None:
        known = min(guest.leaf_pfns.size, walk.leaf_pfns.size)
        return np.array_equal(guest.leaf_pfns[:known], walk.leaf_pfns[:known])
    n = guest.geometry.entries
    pfns, dropped = [_none()], [_none()]
    for leaf, pfn in enumerate(walk.leaf_pfns.tolist()):
        first, stop = leaf * n, min((leaf + 1) * n, walk.max_pfn + 1)
        entries = guest.p2m.chunk(first, stop)
        words = _read(guest, walk, pfn, f"leaf {leaf}").words[: stop - first]
        # The dump dropped entries of frames that it could not map, so only named ones can differ.
        if np.any((entries != INVALID) & (entries != words)):
            return False
        missing = np.flatnonzero((entries == INVALID) & (words != INVALID))
        pfns.append(missing + first)
        dropped.append(words[missing])
    walk.dropped_pfns, walk.dropped_words = np.concatenate(pfns), np.concatenate(dropped)
    return True
