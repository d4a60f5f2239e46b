"""The check that nobody else makes: would the toolstack accept this guest's list of leaves?

The same checks in the same order as the compiled save walk (model section 7; libxc's
`map_p2m_tree`, `map_p2m_list`), but over what a file holds: there are no ownership tables in a
dump, so a frame is the guest's own if the p2m names it; and unless somebody says how large the host
was, `formats.MAX_MFN` stands for `max_mfn`. The compiled walk needs the guest's pages as one slot
table and the host's m2p; this one reads the few pages it needs and searches the p2m in pieces.
"""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.dumps import formats
from p2mbatch.dumps.audit.walk_linear import check_tables, walk_linear
from p2mbatch.dumps.audit.walk_state import (
    NOT_OWN,
    FailingEntry,
    Stop,
    Walk,
    fail,
    needed_words,
    no_entries,
    read_page,
    unknown,
    where_in_list,
)
from p2mbatch.dumps.audit.walk_tree import walk_tree
from p2mbatch.dumps.model import DumpGuest


def save_check(guest: DumpGuest, max_mfn: int | None = None) -> Walk:
    """Walk `guest`'s list as the toolstack does on save and return what came of it.

    `max_mfn` is the host's number of frames where it is known. Source: model section 7, the save
    checks in order; for a linear list, the order that is written in `walk_linear`.
    """
    most = formats.MAX_MFN[guest.word_bytes]
    walk = Walk(max_mfn=most if max_mfn is None else min(max_mfn, most))
    try:
        if guest.shared_info is None:
            raise unknown(walk, "the file does not hold the frame list list")
        if guest.shared_info.p2m_cr3:
            walk_linear(guest, walk)
        else:
            walk_tree(guest, walk)
        _walk_leaves(guest, walk)
        if walk.linear is not None:
            check_tables(guest, walk)
        walk.result, walk.passed = "ok", True
    except Stop:
        pass
    return walk


def _walk_leaves(guest: DumpGuest, walk: Walk) -> None:
    """Find the leaves, hold them against the p2m, and tell whether they are the true ones."""
    shift = guest.geometry.entries_shift
    n = guest.geometry.entries
    leaf_pfns = guest.p2m.find(walk.fl) if walk.listed_pfns is None else walk.listed_pfns
    _prefer_named_leaves(guest, walk, leaf_pfns)
    lost = np.flatnonzero(leaf_pfns < 0)
    if lost.size:
        x = int(lost[0])
        entry = FailingEntry(where_in_list(guest, walk, x), int(walk.fl[x]), NOT_OWN)
        raise fail(walk, f"map-leaves-failed {x}", "Failed to map p2m frames", entry)
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
        page = read_page(guest, walk, int(leaf_pfns[leaf]), f"leaf {leaf} as listed")
        entries = np.flatnonzero((home == leaf) & ~beyond)
        words = needed_words(page, n)[leaf_pfns[entries] & (n - 1)]
        agrees[entries] = words == walk.fl[entries]
        kept = page.words.size
        if not page.complete and np.any((leaf_pfns[entries] & (n - 1)) >= kept):
            raise unknown(walk, f"leaf {leaf} as listed was not kept: read the file, not a pipe")
    bad = np.flatnonzero(beyond | ~agrees)
    if bad.size:
        x = int(bad[0])
        pfn = int(leaf_pfns[x])
        leads = f"PFN {pfn}, which lies beyond max_pfn"
        if not beyond[x]:
            leads = f"PFN {pfn}, whose entry in the listed leaf {int(home[x])} is another frame"
        raise fail(
            walk,
            f"bad-mfn-in-p2m-frame-list {x}",
            f"Bad mfn in p2m_frame_list[{x}]",
            FailingEntry(where_in_list(guest, walk, x), int(walk.fl[x]), leads),
        )
    if not _leaves_are_true(guest, walk):
        raise fail(walk, "misdirected", "")


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
    pfns, dropped = [no_entries()], [no_entries()]
    for leaf, pfn in enumerate(walk.leaf_pfns.tolist()):
        first, stop = leaf * n, min((leaf + 1) * n, walk.max_pfn + 1)
        entries = guest.p2m.chunk(first, stop)
        words = read_page(guest, walk, pfn, f"leaf {leaf}").words[: stop - first]
        # The dump dropped entries of frames that it could not map, so only named ones can differ.
        if np.any((entries != INVALID) & (entries != words)):
            return False
        missing = np.flatnonzero((entries == INVALID) & (words != INVALID))
        pfns.append(missing + first)
        dropped.append(words[missing])
    walk.dropped_pfns, walk.dropped_words = np.concatenate(pfns), np.concatenate(dropped)
    return True
