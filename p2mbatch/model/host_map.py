"""Who is where on a real host: its m2p as `xen-mfndump dump-m2p` prints it, a guest's neighbours.

A cell names a map as "PATH#DIGEST". The digest is of the words, so the cell is the same wherever
the file lies and whatever a terminal put around the listing.
"""

from __future__ import annotations

import functools
import hashlib
import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.listing import M2P_ENTRY, M2P_HEADER, RULE, Capture, first_line
from p2mbatch.base.references import DIGEST_DIGITS, find_referred, split_reference
from p2mbatch.base.sources import Cursor, open_source

_ALL_ONES = (1 << 64) - 1

_M2P_FORM = "a line '  mfn=0x… ==> pfn=0x…'"

_MAX_MFN = 1 << 36
"""Frames of the largest host that a map is read of: 256 TiB."""


class HostMap(NamedTuple):
    """Who is where on a host, as `dump-m2p` prints it."""

    m2p: Int64Array
    """int64[frames]: the PFN that each frame stands for, INVALID where nobody has it."""
    notes: tuple[str, ...]


def is_host_map(head: bytes) -> bool:
    """Return whether a file that begins with `head` is a host's map and no guest's listing."""
    first = first_line(head)
    if first is None:
        return False
    rule = RULE.fullmatch(first)
    if rule is not None:
        return rule[2] == b"M2P"
    return bool(M2P_ENTRY.fullmatch(first) or M2P_HEADER.fullmatch(first))


def read_m2p_listing(cursor: Cursor) -> HostMap:
    """Read the `dump-m2p` listing at `cursor`. Raises `InputError` unless it is whole."""
    size, ended = None, False
    values, capture = array("Q"), Capture(cursor)
    for line in capture.lines():
        entry = M2P_ENTRY.fullmatch(line.text)
        if entry is not None and line.ended:
            if (mfn := int(entry[1], 16)) != len(values):
                text = f"expected a line for mfn {len(values):#x}, found {mfn:#x}"
                raise cursor.fail(text, line.at)
            values.append(int(entry[2], 16))
        elif header := M2P_HEADER.fullmatch(line.text):
            size = int(header[1])
        elif rule := RULE.fullmatch(line.text):
            ended |= rule[1] == b"End of"
        else:
            capture.pass_over(line, _M2P_FORM)
    if not values:
        raise cursor.fail(f"expected at least one {_M2P_FORM[2:]}")
    if size not in (None, len(values)):
        raise cursor.fail(f"expected {size} frames as the header says, found {len(values)}")
    if size is None and not ended:
        raise cursor.fail("expected the header or the end line of dump-m2p: the map is cut short")
    m2p = np.frombuffer(values, np.uint64).copy()
    # A 32-bit dump-m2p prints 32-bit words; Xen's own debug pattern marks frames nobody ever had.
    m2p[(m2p == 0xFFFF_FFFF) | (m2p >= _MAX_MFN)] = _ALL_ONES
    return HostMap(m2p.view(np.int64), capture.notes())


def read_host_map(path: str | os.PathLike[str]) -> HostMap:
    """Return the map in the `dump-m2p` listing at `path`, plain or gzipped.

    Raises `InputError` naming the file where it is no such listing, or not a whole one.
    """
    with open_source(path) as cursor:
        if not is_host_map(cursor.peek(1 << 16)):
            raise cursor.fail("expected the text of xen-mfndump dump-m2p")
        return read_m2p_listing(cursor)


class NeighbourMap(NamedTuple):
    """A host's map as a cell has it."""

    path: str
    digest: str
    """16 hex digits of a SHA-256 of the words."""
    m2p: Int64Array
    """int64[frames]: the PFN that each frame stands for, INVALID where nobody has it."""

    @property
    def reference(self) -> str:
        """Return what a cell names the map by."""
        return f"{self.path}#{self.digest}"

    @property
    def memory_bytes(self) -> int:
        """Return the memory of the host that the map is of."""
        return len(self.m2p) * PAGE_BYTES


def find_map(text: str, directories: Sequence[Path] = ()) -> NeighbourMap:
    """Return the map that `text` names: the path of a listing, or a cell's "PATH#DIGEST".

    A relative path is looked for in `directories`, then in the working directory. Raises
    `InputError` where there is no such file, where it is no map, and where it is not the map of the
    digest any more.
    """
    return find_referred(text, directories, _load, what="a host's map", kind="map")


@functools.lru_cache(maxsize=8)
def _load(path: str, stamp: tuple[int, int]) -> NeighbourMap:
    """Read the map at `path`; `stamp` says when it was written and how long it is."""
    m2p = read_host_map(path).m2p
    digest = hashlib.sha256(m2p.astype("<i8", copy=False).data).hexdigest()[:DIGEST_DIGITS]
    return NeighbourMap(path, digest, m2p)


@functools.lru_cache(maxsize=8)
def _known(reference: str) -> NeighbourMap:
    return find_map(reference)


def map_of(reference: str) -> NeighbourMap:
    """Return the map of a cell's "PATH#DIGEST", which is read once; or of a path, as it is now.

    Raises `InputError` as `find_map`.
    """
    return _known(reference) if split_reference(reference)[1] else find_map(reference)
