"""Recognise text listings of a p2m and take their lines as people capture them.

What a terminal or a mail puts around a listing is not part of it: prompts, quoting, lines of other
programs, blanks. They are passed over and counted. A line that begins as one of the listing's and
does not fit is never passed over: it is refused with its offset.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.sources import Cursor

ENTRY = re.compile(rb"pfn=0x([0-9a-f]{1,16}) ==> mfn=0x([0-9a-f]{1,16}) \(type 0x[0-9a-f]+\).*")

M2P_ENTRY = re.compile(rb"mfn=0x([0-9a-f]{1,16}) ==> pfn=0x([0-9a-f]{1,16})")

HEADER = re.compile(rb"Guest Width: (\d+), PT Levels: \d+ P2M size: = (\d+)")

M2P_HEADER = re.compile(rb"Max MFN: (\d+)")

RULE = re.compile(rb"--- (Dumping|End of) (P2M|M2P)\b.* ---")

RANGE = re.compile(rb"\[0x([0-9a-f]{1,16})->0x([0-9a-f]{1,16})\] ([a-z ]+)")

_QUOTES = re.compile(rb"(?:[>|] ?)+")

_OURS = (b"pfn=", b"mfn=", b"[0x", b"Guest Width:", b"Max MFN:")
"""Beginnings of lines that belong to a listing, whether they fit or not."""

_BLOCK_BYTES = 1 << 18

_MAX_LINE_BYTES = 1000

_FREE_STRAYS = 1 << 16

_MAX_STRAYS = 4
"""Lines passed over for each one that is the listing's."""


class Line(NamedTuple):
    """One line without its end, quoting and blanks around it."""

    at: int
    """Offset of the line in the file."""
    text: bytes
    ended: bool
    """False only of a last line that has no end of line."""


class Capture:
    """The lines of a listing as it was captured, and what was around them."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._num_strays = 0
        self._first: Line | None = None
        self._num_quoted = 0
        self._num_stripped = 0
        self._num_lines = 0
        self._num_passed = 0

    def lines(self) -> Iterator[Line]:
        """Yield the lines of the rest of the file."""
        for at, raw, ended in _raw_lines(self._cursor):
            self._num_lines += 1
            text = raw.strip()
            quote = _QUOTES.match(text)
            if quote is not None:
                self._num_quoted += 1
                raw = text[quote.end() :]
                text = raw.strip()
            # Every line of every listing begins with a blank.
            self._num_stripped += raw[:1] not in (b" ", b"\t") and text.startswith(_OURS)
            yield Line(at, text, ended)

    def pass_over(self, line: Line, expected: str) -> None:
        """Count `line` as no part.

        Raises `InputError` where it begins as one of the listing's, or nearly all are no part.
        """
        self._num_passed += 1
        most = _FREE_STRAYS + _MAX_STRAYS * (self._num_lines - self._num_passed)
        if self._num_passed > most:
            text = f"expected a listing, found {self._num_passed} lines that are no part of one"
            raise self._cursor.fail(text, line.at)
        if not line.text:
            return
        if line.text.startswith(_OURS):
            raise self._cursor.fail(f"expected {expected}, found {line.text[:60]!r}", line.at)
        self._num_strays += 1
        self._first = self._first or line

    def notes(self) -> tuple[str, ...]:
        """Return the notes on what was passed over, if anything was."""
        notes = []
        if self._first is not None:
            lines = (
                "1 line that is" if self._num_strays == 1 else f"{self._num_strays} lines that are"
            )
            notes.append(
                f"{lines} no part of the listing passed over, the first at offset "
                f"{self._first.at:#x}: {self._first.text[:60].decode(errors='replace')!r}"
            )
        if self._num_quoted:
            notes.append(f"the quoting of {self._num_quoted} lines was passed over")
        if self._num_stripped:
            notes.append(f"{self._num_stripped} lines lack the blanks that they were printed with")
        return tuple(notes)


def _bare(line: bytes) -> bytes:
    """Return `line` without quoting and the blanks around it."""
    line = line.strip()
    quote = _QUOTES.match(line)
    return line[quote.end() :].strip() if quote else line


def first_line(head: bytes) -> bytes | None:
    """Return the first line of a listing in `head`, bare; None where there is none."""
    patterns = (ENTRY, M2P_ENTRY, HEADER, M2P_HEADER, RULE, RANGE)
    for line in head.split(b"\n"):
        text = _bare(line)
        if any(pattern.fullmatch(text) for pattern in patterns):
            return text
    return None


def _raw_lines(cursor: Cursor) -> Iterator[tuple[int, bytes, bool]]:
    """Yield (offset, line without its end, whether it had one) of the rest of the file."""
    rest = b""
    while True:
        at = cursor.offset - len(rest)
        block = cursor.peek(_BLOCK_BYTES)
        cursor.skip(len(block), "text")
        # Every line of a listing is kept, one way or another.
        cursor.check_kept(cursor.offset)
        parts = (rest + block).split(b"\n")
        rest = parts.pop()
        for part in parts:
            yield at, part, True
            at += len(part) + 1
        if len(rest) > _MAX_LINE_BYTES:
            raise cursor.fail("expected lines of a p2m listing, found one without an end", at)
        if not block:
            if rest:
                yield at, rest, False
            return


def checked_width(cursor: Cursor, own: int, asked: int | None) -> tuple[int, tuple[str, ...]]:
    """Return (word_bytes, notes) of a listing that tells `own` (0: nothing), `asked` by an option.

    Raises `InputError` where the two differ, or the listing tells what is no width.
    """
    if own and own not in (4, 8):
        raise cursor.fail(f"expected guest width 4 or 8, found {own}")
    if own and asked and own != asked:
        raise cursor.fail(f"the listing is of a {8 * own}-bit guest, {8 * asked} bits were asked")
    if own or asked:
        return own or asked or 8, ()
    return 8, ("the listing does not tell the guest's width: taken as 64-bit (--width says it)",)


def gaps(pfns: Int64Array, span: int) -> Int64Array:
    """Return int64[k, 2]: the stretches below `span` of which `pfns` (ascending) has nothing."""
    edges = np.concatenate([[-1], pfns, [span]])
    at = np.flatnonzero(np.diff(edges) > 1)
    return np.stack([edges[at] + 1, edges[at + 1]], axis=1)
