"""The toolstack's way to the leaves of a tree: frame list list, frame lists (`map_p2m_tree`)."""

from __future__ import annotations

import numpy as np

from p2mbatch.base.geometry import INVALID
from p2mbatch.dumps.audit.walk_state import (
    IMPOSSIBLE,
    NOT_OWN,
    FailingEntry,
    Walk,
    bad_words,
    fail,
    needed_words,
    read_page,
    shown_word,
    unsigned,
    where_in_list,
    word_at,
)
from p2mbatch.dumps.model import DumpGuest


def walk_tree(guest: DumpGuest, walk: Walk) -> None:
    """Find the frame list's entries, `walk.fl`, by the frame list list of the shared info page."""
    shared = guest.shared_info
    assert shared is not None
    shift = guest.geometry.entries_shift
    n = guest.geometry.entries
    max_pfn = unsigned(shared.max_pfn - 1, 8)
    num_mids = (max_pfn >> (2 * shift)) + 1
    if num_mids > n:
        raise fail(
            walk, f"max_pfn-too-large {max_pfn}", f"max_pfn {max_pfn:#x} too large for p2m tree"
        )
    _walk_top(guest, walk, num_mids)
    last = int(np.flatnonzero(np.diff(walk.fll, prepend=INVALID))[-1])
    walk.max_pfn = min(max_pfn, ((last + 1) << (2 * shift)) - 1)
    walk.fll = walk.fll[: (walk.max_pfn >> (2 * shift)) + 1]
    _walk_mids(guest, walk)


def _walk_top(guest: DumpGuest, walk: Walk, num_mids: int) -> None:
    """Read the frame list list and check its entries on sight."""
    width = guest.word_bytes
    assert guest.shared_info is not None
    mfn = guest.shared_info.frame_list_list_mfn
    where = "pfn_to_mfn_frame_list_list of the shared info page"
    if not 0 < mfn <= walk.max_mfn:
        raise fail(
            walk,
            f"bad-fll-mfn {mfn}",
            f"Bad mfn {mfn:#x} for p2m frame list list",
            FailingEntry(where, mfn, IMPOSSIBLE),
        )
    walk.fll_pfn = int(guest.p2m.find(np.array([mfn]))[0])
    if walk.fll_pfn < 0:
        raise fail(
            walk,
            f"map-fll-failed {mfn}",
            f"Failed to map p2m frame list list at {mfn:#x}",
            FailingEntry(where, mfn, NOT_OWN),
        )
    page = read_page(guest, walk, walk.fll_pfn, "the frame list list")
    walk.fll = needed_words(page, num_mids)
    bad = bad_words(walk.fll, walk.max_mfn)
    if bad.size:
        x = int(bad[0])
        raise fail(
            walk,
            f"bad-mfn-in-fll {x}",
            f"Bad mfn {shown_word(page, x, width)} at index {x} (of {num_mids}) in p2m frame list "
            "list",
            FailingEntry(
                f"entry {x} of the frame list list (PFN {walk.fll_pfn})",
                word_at(page, x, width),
                IMPOSSIBLE,
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
        entry = FailingEntry(where, int(walk.fll[x]), NOT_OWN)
        raise fail(walk, f"map-fl-failed {x}", "Failed to map p2m frame list", entry)
    guest.pages.prefetch(walk.fl_pfns)
    num_leaves = (walk.max_pfn >> shift) + 1
    pages = [
        read_page(guest, walk, pfn, f"frame list {mid}")
        for mid, pfn in enumerate(walk.fl_pfns.tolist())
    ]
    walk.fl = np.concatenate(
        [
            needed_words(page, min(num_leaves - (mid << shift), 1 << shift))
            for mid, page in enumerate(pages)
        ]
    )
    bad = bad_words(walk.fl, walk.max_mfn)
    if bad.size:
        x = int(bad[0])
        shown = shown_word(pages[x >> shift], x & ((1 << shift) - 1), width)
        raise fail(
            walk,
            f"bad-mfn-in-fl {x}",
            f"Bad mfn {shown} at index {x} (of {num_leaves}) in p2m frame list",
            FailingEntry(
                where_in_list(guest, walk, x),
                word_at(pages[x >> shift], x & ((1 << shift) - 1), width),
                IMPOSSIBLE,
            ),
        )
