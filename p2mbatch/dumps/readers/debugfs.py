"""Read Linux's debugfs `xen/mmu/p2m`: which PFNs are pages, holes or identity, without frames."""

from __future__ import annotations

from array import array

import numpy as np

from p2mbatch.base.geometry import INVALID, geometry
from p2mbatch.base.listing import RANGE, Capture, Line, checked_width
from p2mbatch.base.sources import Cursor
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.dumps.p2m import ShapeP2M
from p2mbatch.dumps.stores import NoPages

_LEVELS = {b"level top", b"level middle", b"level entry", b"level error"}

_KINDS = {
    b"pfn": ShapeP2M.PAGE,
    b"identity": ShapeP2M.IDENTITY,
    b"missing": INVALID,
    b"abnormal": INVALID,
}

_FORM = "a line ' [0x…->0x…] kind'"


class _Ranges:
    """The ranges of a listing, each from where the one before ended."""

    def __init__(self) -> None:
        self.starts, self.values = array("q"), array("q")
        self.end = 0
        self.num_abnormal = 0
        self.unlisted: list[tuple[int, int]] = []
        self.has_levels = False

    def add(self, cursor: Cursor, line: Line, first: int, stop: int, kind: bytes) -> None:
        """Add a line's range. Raises `InputError` where it overlaps, is empty or of no kind."""
        if kind in _LEVELS:
            # Levels tell which level of the tree decided; the entries' own lines tell the rest.
            self.has_levels = True
            return
        if kind not in _KINDS:
            text = f"expected identity, missing, pfn or abnormal, found {kind.decode()!r}"
            raise cursor.fail(text, line.at)
        if first < self.end or stop <= first:
            text = f"expected a range from {self.end:#x} on, found {first:#x} to {stop:#x}"
            raise cursor.fail(text, line.at)
        if stop > geometry(8).max_p2m_pfn * 2:
            raise cursor.fail(f"expected PFNs of a p2m, found {stop:#x}", line.at)
        if first > self.end:
            self.unlisted.append((self.end, first))
            self._append(self.end, INVALID)
        self._append(first, _KINDS[kind])
        self.end = stop
        self.num_abnormal += (stop - first) * (kind == b"abnormal")

    def _append(self, first: int, value: int) -> None:
        self.starts.append(first)
        self.values.append(value)

    def trim(self) -> tuple[str, ...]:
        """Cut a last hole: older kernels list up to MAX_DOMAIN_PAGES, whatever the guest has."""
        if len(self.starts) < 2 or self.values[-1] != INVALID:
            return ()
        first, last = self.starts[-1], self.end - 1
        self.end = first
        return (f"the last hole (PFN {first} to {last}) is taken as the end of the p2m",)


def read_debugfs(cursor: Cursor, word_bytes: int | None = None) -> DumpGuest:
    """Read the listing at `cursor`, or a part of one; `word_bytes` is the guest's where known.

    Raises `InputError` with the offset for a line that does not fit.
    """
    ranges, capture = _Ranges(), Capture(cursor)
    for line in capture.lines():
        match = RANGE.fullmatch(line.text)
        if match is not None and (line.ended or match[3] in _KINDS or match[3] in _LEVELS):
            ranges.add(cursor, line, int(match[1], 16), int(match[2], 16), match[3])
        elif match is not None:
            raise cursor.fail("the last line has no end: the listing is cut short", line.at)
        else:
            capture.pass_over(line, _FORM)
    if not ranges.starts:
        raise cursor.fail("expected at least one line ' [0x…->0x…] pfn'")
    width, width_notes = checked_width(cursor, 0, word_bytes)
    notes = ["the listing tells holes from pages but names no frames", *width_notes]
    notes += ranges.trim()
    if ranges.num_abnormal:
        notes.append(f"{ranges.num_abnormal} PFNs are listed as abnormal and read as holes")
    if ranges.unlisted:
        num = sum(stop - first for first, stop in ranges.unlisted)
        notes.append(f"a part of a listing: {num} PFNs are not in it, neither pages nor holes")
    if ranges.end > geometry(width).max_p2m_pfn * (2 if width == 8 else 1):
        raise cursor.fail(f"expected at most {geometry(width).max_p2m_pfn} PFNs")
    return DumpGuest(
        name=cursor.name,
        format="Linux debugfs xen/mmu/p2m text" + (", with levels" if ranges.has_levels else ""),
        word_bytes=width,
        max_p2m_pfn=ranges.end,
        p2m=ShapeP2M(
            np.array(ranges.starts, np.int64),
            np.array(ranges.values, np.int64),
            ranges.end,
            np.array(ranges.unlisted, np.int64).reshape(-1, 2),
        ),
        pages=NoPages(),
        notes=(*notes, *capture.notes()),
    )
