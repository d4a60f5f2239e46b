"""Read what `xen-mfndump dump-p2m` prints: a guest's p2m."""

from __future__ import annotations

from array import array

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import geometry
from p2mbatch.base.listing import (
    ENTRY,
    HEADER,
    RULE,
    Capture,
    checked_width,
    gaps,
)
from p2mbatch.base.sources import Cursor
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.dumps.p2m import SparseP2M
from p2mbatch.dumps.stores import NoPages

_ALL_ONES = (1 << 64) - 1

_UNENDED = "the listing has neither header nor end: it may be the beginning of a longer one"

_ENTRY_FORM = "a line '  pfn=0x… ==> mfn=0x… (type 0x…)'"


def read_p2m_listing(cursor: Cursor, word_bytes: int | None = None) -> DumpGuest:
    """Read the `dump-p2m` listing at `cursor`, or a part of one, and return the guest.

    `word_bytes` is the guest's where the listing has no header. PFNs that a part does not list are
    neither pages nor holes. Raises `InputError` with the offset for a line that does not fit.
    """
    own_width, size, ended = 0, None, False
    pfns, mfns, capture = array("q"), array("Q"), Capture(cursor)
    for line in capture.lines():
        entry = ENTRY.fullmatch(line.text)
        if entry is not None:
            pfn = int(entry[1], 16)
            if ended:
                raise cursor.fail("expected one listing, found a line behind its end", line.at)
            if pfns and pfn <= pfns[-1]:
                text = f"expected a line for a pfn above {pfns[-1]:#x}, found {pfn:#x}"
                raise cursor.fail(text, line.at)
            if pfn >= geometry(4).max_p2m_pfn:
                raise cursor.fail(f"expected PFNs of a p2m, found {pfn:#x}", line.at)
            pfns.append(pfn)
            mfns.append(int(entry[2], 16))
        elif header := HEADER.fullmatch(line.text):
            if size is not None:
                raise cursor.fail("expected one listing, found a second header", line.at)
            own_width, size = int(header[1]), int(header[2])
        elif rule := RULE.fullmatch(line.text):
            ended |= rule[1] == b"End of"
        else:
            capture.pass_over(line, _ENTRY_FORM)
    if not pfns:
        raise cursor.fail(f"expected at least one {_ENTRY_FORM[2:]}")
    width, notes = checked_width(cursor, own_width, word_bytes)
    if size is None and not ended:
        notes = (*notes, _UNENDED)
    return _listed_guest(
        cursor,
        width,
        np.frombuffer(pfns, np.int64),
        np.frombuffer(mfns, np.uint64).copy(),
        size,
        (*notes, *capture.notes()),
    )


def _listed_guest(
    cursor: Cursor,
    width: int,
    pfns: Int64Array,
    frames: np.ndarray[tuple[int], np.dtype[np.uint64]],
    size: int | None,
    notes: tuple[str, ...],
) -> DumpGuest:
    """Return the guest of `frames` at `pfns`, of a listing whose header says `size` PFNs."""
    if width == 4:
        # A 32-bit dump-p2m prints a 32-bit INVALID, a 64-bit one widens it.
        frames[frames == 0xFFFF_FFFF] = _ALL_ONES
        if np.any((frames >> 32 != 0) & (frames != _ALL_ONES)):
            raise cursor.fail("expected 32-bit frame numbers in a 32-bit guest")
    span = int(pfns[-1]) + 1
    if size is not None and size < span:
        raise cursor.fail(f"expected {size} entries as the header says, found PFN {span - 1:#x}")
    span = size or span
    if span > geometry(width).max_p2m_pfn:
        raise cursor.fail(f"expected at most {geometry(width).max_p2m_pfn} entries")
    unlisted = gaps(pfns, span)
    if unlisted.size:
        part = f"a part of a listing: {pfns.size} of {span} PFNs, from PFN {int(pfns[0])} on"
        notes = (*notes, f"{part}; the others are unknown, neither pages nor holes")
    present = np.flatnonzero(frames != _ALL_ONES)
    return DumpGuest(
        name=cursor.name,
        format="xen-mfndump dump-p2m text",
        word_bytes=width,
        max_p2m_pfn=span,
        p2m=SparseP2M(pfns[present], frames[present].view(np.int64), span, unlisted),
        pages=NoPages(),
        notes=notes,
    )
