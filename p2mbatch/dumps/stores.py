"""Where the bytes of a dumped guest's pages come from, and how its words are widened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array, UInt64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.dumps import formats


class Page(NamedTuple):
    """A guest page as far as it was kept."""

    words: Int64Array
    """int64[k]: the first k words, INVALID as -1."""
    complete: bool
    """Whether k is the whole page. A pipe keeps only the words that can be frame numbers and the
    first that cannot (absent where that is word 0)."""


class TableData(NamedTuple):
    """A page that the guest may use as a page table: 512 entries of 8 bytes in either width."""

    entries: UInt64Array
    """uint64[512]."""
    holds_pfns: bool
    """Whether present entries name PFNs: streams translate the page tables that they send."""


class PageStore(ABC):
    """The guest's pages as a file holds them."""

    complete: bool = True
    """Whether every page of the file can be had in full (not so when read from a pipe)."""

    @abstractmethod
    def read(self, pfn: int) -> Page | None:
        """Return the page's words; None where the file holds no data for this PFN."""

    def read_table(self, pfn: int) -> TableData | None:
        """Return page `pfn` as a page table; None where the file holds no data for this PFN."""
        return None

    def prefetch(self, pfns: Int64Array) -> None:  # noqa: B027 - most stores have nothing to do
        """Say that these PFNs (int64) will be read, so that they can be looked up in one go."""


class NoPages(PageStore):
    """The store of files that list frames, but hold no pages."""

    complete = False

    def read(self, pfn: int) -> Page | None:
        """Return None."""
        return None


def widen(data: memoryview | bytes, word_bytes: int) -> Int64Array:
    """Return the little-endian words of `data` as int64, all ones as -1 in either width."""
    words = np.frombuffer(data, formats.WORD_DTYPES[word_bytes])
    if word_bytes == 8:
        return words.view(np.int64)
    wide = words.astype(np.int64)
    wide[words == 0xFFFF_FFFF] = INVALID
    return wide


def narrow(frames: Int64Array, word_bytes: int) -> bytes:
    """Return int64 `frames` as little-endian words of the guest's width: the inverse of `widen`."""
    return frames.astype(np.uint64).astype(formats.WORD_DTYPES[word_bytes]).tobytes()
