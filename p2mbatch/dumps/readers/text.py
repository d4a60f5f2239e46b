"""Read text listings of a p2m: `xen-mfndump dump-p2m`, and Linux's debugfs `xen/mmu/p2m`.

The first names every frame; the second only tells holes from pages. Neither has the frame list
list, so a save cannot be checked from them.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator

import numpy as np

from p2mbatch.base.geometry import INVALID, geometry
from p2mbatch.dumps import formats
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.dumps.p2m import ShapeP2M, SparseP2M
from p2mbatch.dumps.readers.sources import Cursor
from p2mbatch.dumps.stores import NoPages

_ENTRY = re.compile(rb"  pfn=0x([0-9a-f]{1,16}) ==> mfn=0x([0-9a-f]{1,16}) \(type 0x[0-9a-f]+\).*")

_HEADER = re.compile(rb" Guest Width: (\d+), PT Levels: \d+ P2M size: = (\d+)")

_RULE = re.compile(rb" --- .* ---")

_RANGE = re.compile(rb" \[0x([0-9a-f]{1,16})->0x([0-9a-f]{1,16})\] ([a-z ]+)")

_LEVELS = {b"level top", b"level middle", b"level entry", b"level error"}

_KINDS = {
    b"pfn": ShapeP2M.PAGE,
    b"identity": ShapeP2M.IDENTITY,
    b"missing": INVALID,
    b"abnormal": INVALID,
}

_BLOCK_BYTES = 1 << 18

_MAX_LINE_BYTES = 1000

_ALL_ONES = (1 << 64) - 1


def looks_like_text(head: bytes) -> bool:
    """Return whether a file that begins with `head` is a text listing of a p2m."""
    first = next((line for line in head.split(b"\n") if line.strip()), b"")
    return any(pattern.match(first) for pattern in (_ENTRY, _HEADER, _RULE, _RANGE))


def _lines(cursor: Cursor) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, line without its end) of the rest of the file."""
    rest = b""
    while True:
        at = cursor.offset - len(rest)
        block = cursor.peek(_BLOCK_BYTES)
        cursor.skip(len(block), "text")
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        for line in lines:
            yield at, line.rstrip(b"\r")
            at += len(line) + 1
        if len(rest) > _MAX_LINE_BYTES:
            raise cursor.fail("expected lines of a p2m listing, found one without an end", at)
        if not block:
            if rest:
                raise cursor.fail("the last line has no end: the listing is cut short", at)
            return


def read_text(cursor: Cursor) -> DumpGuest:
    """Read the listing at `cursor` and return the guest. Raises `InputError` for a line that fits
    neither format, with its offset.
    """
    head = cursor.peek(4096)
    first = next(line for line in head.split(b"\n") if line.strip())
    return _read_debugfs(cursor) if _RANGE.match(first) else _read_mfndump(cursor)


def _read_mfndump(cursor: Cursor) -> DumpGuest:
    width, size, ended = 0, None, False
    pfns, mfns = array("Q"), array("Q")
    at = 0
    for at, line in _lines(cursor):
        entry = _ENTRY.fullmatch(line)
        if entry is not None and not ended:
            pfn, mfn = int(entry[1], 16), int(entry[2], 16)
            if pfn != len(pfns):
                raise cursor.fail(f"expected a line for pfn {len(pfns):#x}, found {pfn:#x}", at)
            pfns.append(pfn)
            mfns.append(mfn)
        elif header := _HEADER.fullmatch(line):
            width, size = int(header[1]), int(header[2])
            if width not in formats.PT_LEVELS:
                raise cursor.fail(f"expected guest width 4 or 8, found {width}", at)
        elif _RULE.fullmatch(line):
            ended = bool(pfns)
        elif line.strip():
            raise cursor.fail(f"expected a line '  pfn=0x… ==> mfn=0x…', found {line[:60]!r}", at)
    if size is not None and size != len(pfns):
        raise cursor.fail(f"expected {size} entries as the header says, found {len(pfns)}")
    if not pfns:
        raise cursor.fail("expected at least one line '  pfn=0x… ==> mfn=0x…'")
    notes = () if width else ("the listing does not tell the guest's width: taken as 64-bit",)
    width = width or 8
    frames = np.frombuffer(mfns, np.uint64).copy()
    if width == 4:
        # A 32-bit dump-p2m prints a 32-bit INVALID, a 64-bit one widens it.
        frames[frames == 0xFFFF_FFFF] = _ALL_ONES
        if np.any((frames >> 32 != 0) & (frames != _ALL_ONES)):
            raise cursor.fail("expected 32-bit frame numbers in a 32-bit guest")
    if len(pfns) > geometry(width).max_p2m_pfn:
        raise cursor.fail(f"expected at most {geometry(width).max_p2m_pfn} entries")
    present = np.flatnonzero(frames != _ALL_ONES)
    return DumpGuest(
        name=cursor.name,
        format="xen-mfndump dump-p2m text",
        word_bytes=width,
        max_p2m_pfn=len(pfns),
        p2m=SparseP2M(present, frames[present].view(np.int64), len(pfns)),
        pages=NoPages(),
        notes=notes,
    )


def _read_debugfs(cursor: Cursor) -> DumpGuest:
    starts, values = array("q"), array("q")
    end, level_end, has_levels, num_abnormal = 0, 0, False, 0
    for at, line in _lines(cursor):
        match = _RANGE.fullmatch(line)
        if match is None:
            if not line.strip():
                continue
            raise cursor.fail(f"expected a line ' [0x…->0x…] kind', found {line[:60]!r}", at)
        first, stop, kind = int(match[1], 16), int(match[2], 16), match[3]
        is_level = kind in _LEVELS
        has_levels |= is_level
        if not is_level and kind not in _KINDS:
            raise cursor.fail(
                f"expected identity, missing, pfn or abnormal, found {kind.decode()!r}", at
            )
        expected = level_end if is_level else end
        if first != expected or stop <= first:
            raise cursor.fail(
                f"expected a range from {expected:#x} on, found {first:#x} to {stop:#x}", at
            )
        if stop > geometry(8).max_p2m_pfn * 2:
            raise cursor.fail(f"expected PFNs of a p2m, found {stop:#x}", at)
        if is_level:
            level_end = stop
            continue
        end = stop
        num_abnormal += (stop - first) * (kind == b"abnormal")
        starts.append(first)
        values.append(_KINDS[kind])
    if not starts:
        raise cursor.fail("expected at least one line ' [0x…->0x…] pfn'")
    span, notes = _trim(starts, values, end)
    if num_abnormal:
        notes.append(f"{num_abnormal} PFNs are listed as abnormal and read as holes")
    return DumpGuest(
        name=cursor.name,
        format="Linux debugfs xen/mmu/p2m text" + (", with levels" if has_levels else ""),
        word_bytes=8,
        max_p2m_pfn=span,
        p2m=ShapeP2M(np.array(starts, np.int64), np.array(values, np.int64), span),
        pages=NoPages(),
        notes=(
            "the listing tells holes from pages but names no frames; it does not tell the "
            "guest's width: taken as 64-bit",
            *notes,
        ),
    )


def _trim(starts: array[int], values: array[int], end: int) -> tuple[int, list[str]]:
    """Return (span, notes): older kernels list up to MAX_DOMAIN_PAGES, whatever the guest has."""
    if len(starts) > 1 and values[-1] == INVALID:
        note = f"the last hole (PFN {starts[-1]} to {end - 1}) is taken as the end of the p2m"
        return starts[-1], [note]
    return end, []
