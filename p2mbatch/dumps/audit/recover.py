"""What a dump left out of its own table, told from the guest's leaves; and where it contradicts it.

`xl dump-core` lists the frames that it could map. What it could not map (another domain's frames,
identity frames) and what went away while it ran is a hole in its table, but the guest's leaves,
which lie among the dumped pages, still say what is there. Holes and lost pages look the same in the
table only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.entries import is_foreign, is_identity
from p2mbatch.base.geometry import INVALID
from p2mbatch.dumps.audit.structures import find_structures, linked_pages
from p2mbatch.dumps.audit.walk import save_check
from p2mbatch.dumps.audit.walk_state import Walk
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.dumps.p2m import SparseP2M


class Recovered(NamedTuple):
    """A guest with the entries that its leaves have, and the save check over them."""

    guest: DumpGuest
    walk: Walk
    lost_pages: int
    """PFNs whose leaf names a frame of the guest's own and whose page the dump does not hold."""
    surplus_pages: int
    """Pages that the dump counts as the guest's and that no PFN of the p2m has."""


def recover(guest: DumpGuest, max_mfn: int | None = None) -> Recovered:
    """Return `guest` with what its leaves say of PFNs that a dump calls holes.

    `max_mfn` is the host's number of frames where it is known. Where the file contradicts itself,
    a walk that passed every check proves nothing: its result becomes None, with the numbers.
    """
    walk = save_check(guest, max_mfn)
    lost = 0
    if isinstance(guest.p2m, SparseP2M) and guest.pages.complete:
        pfns, words = walk.dropped_pfns, walk.dropped_words
        if walk.result != "ok":
            pfns, words = _from_some_leaves(guest, walk)
        lost = int(np.count_nonzero(_own(words, guest.word_bytes, walk.max_mfn)))
        if pfns.size:
            guest = replace(guest, p2m=_with(guest.p2m, pfns, words))
            if walk.result != "ok":
                walk = save_check(guest, max_mfn)
    surplus = max(guest.unplaced_pages - lost, 0)
    if walk.result == "ok" and lost + surplus:
        walk.result, walk.reason = None, _contradiction(lost, surplus)
    return Recovered(guest, walk, lost, surplus)


def _contradiction(lost: int, surplus: int) -> str:
    parts = []
    if lost:
        parts.append(
            f"the leaves name frames for {lost} PFNs whose pages the file does not hold: "
            f"{lost} pages were lost in the dump"
        )
    if surplus:
        parts.append(
            f"the file counts {surplus} pages of the guest's that no PFN below max_pfn has: a save "
            "would leave them behind (model section 9, item 5)"
        )
    return f"the file contradicts itself ({'; '.join(parts)})"


def _own(
    words: Int64Array, word_bytes: int, max_mfn: int
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return which leaf words name a frame of the guest's own: bool of their shape."""
    marked = is_foreign(words, word_bytes) | is_identity(words, word_bytes)
    own: np.ndarray[tuple[int], np.dtype[np.bool_]] = (words > 0) & (words <= max_mfn) & ~marked
    return own


def _with(p2m: SparseP2M, pfns: Int64Array, words: Int64Array) -> SparseP2M:
    """Return `p2m` with entries `words` at `pfns`, which it has as holes."""
    all_pfns = np.concatenate([p2m.pfns, pfns])
    order = np.argsort(all_pfns, kind="stable")
    return SparseP2M(all_pfns[order], np.concatenate([p2m.mfns, words])[order], p2m.span)


def _from_some_leaves(guest: DumpGuest, walk: Walk) -> tuple[Int64Array, Int64Array]:
    """Return (PFNs, words) that leaves have beyond the table, of a walk that failed.

    Leaves are those that the list names as far as it was read, else those that the guest's own side
    of the tree links. A page is believed to be a leaf only where it has every entry of the table's,
    and there is one.
    """
    n = guest.geometry.entries
    pfns, words = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    listed = guest.p2m.find(walk.fl)
    if not np.any(listed >= 0):
        listed = _linked_leaves(guest, walk)
    for leaf, pfn in enumerate(listed.tolist()):
        page = guest.pages.read(pfn) if pfn >= 0 else None
        if page is None:
            continue
        first, stop = leaf * n, min((leaf + 1) * n, walk.max_pfn + 1)
        entries, found = guest.p2m.chunk(first, stop), page.words[: stop - first]
        listed = entries != INVALID
        if not listed.any() or np.any(listed & (entries != found)):
            continue
        missing = np.flatnonzero(~listed & (found != INVALID))
        pfns.append(missing + first)
        words.append(found[missing])
    return np.concatenate(pfns), np.concatenate(words)


def _linked_leaves(guest: DumpGuest, walk: Walk) -> Int64Array:
    """Return int64[k]: the PFN of each leaf as the guest's mids link it, -1 where one does not."""
    structures, n = find_structures(guest, walk), guest.geometry.entries
    leaves = np.full(-(-(walk.max_pfn + 1) // n), -1, np.int64)
    for top, mid in structures.mids.items():
        linked = linked_pages(guest, structures, mid)[: max(leaves.size - top * n, 0)]
        leaves[top * n : top * n + linked.size] = linked
    return leaves
