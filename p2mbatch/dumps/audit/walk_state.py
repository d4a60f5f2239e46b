"""A walk of the toolstack's while it runs, and what it found: shared by both kinds of list."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.dumps.stores import Page


def no_entries() -> Int64Array:
    """Return int64[0]."""
    return np.zeros(0, np.int64)


class FailingEntry(NamedTuple):
    """One word that the toolstack could not follow."""

    where: str
    """Which word: "entry 3 of the frame list list", …"""
    mfn: int | None
    """The word, None where it was not kept of a pipe."""
    leads_to: str
    """What the file knows of that frame."""

    @property
    def in_words(self) -> str:
        """The word, its MFN and where it leads."""
        mfn = "a word that was not kept" if self.mfn is None else f"MFN {self.mfn:#x}"
        return f"{self.where} is {mfn}: {self.leads_to}"


@dataclass
class LinearList:
    """Where a guest keeps its linear p2m list, and the page tables under it as far as walked."""

    cr3_mfn: int
    vaddr: int
    generation: int
    """The kernel raises it before and after each change of the tables: odd is amid one."""
    tables: dict[int, int] = field(default_factory=dict)
    """Level -> table pages of it that the list needs."""
    used: set[tuple[int, int]] = field(default_factory=set)
    """(level, PFN) of the table pages that were read."""
    top_entries: tuple[int, int] = (0, 0)
    """The first and the last entry of the top table that the list needs."""


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
    fll: Int64Array = field(default_factory=no_entries)
    """int64[num_mids]: the needed entries of the frame list list."""
    fl_pfns: Int64Array = field(default_factory=no_entries)
    """int64[num_mids]: PFN of each frame list page."""
    fl: Int64Array = field(default_factory=no_entries)
    """int64[num_leaves]: the frame list's entries, all mids in a row; or those that the page tables
    of a linear list name."""
    listed_pfns: Int64Array | None = None
    """int64[num_leaves]: the PFNs of `fl` where the file names them so, -1 where it does not."""
    linear: LinearList | None = None
    """Where the list is a linear one."""
    leaf_pfns: Int64Array = field(default_factory=no_entries)
    """int64[num_leaves]: PFN of each page that the toolstack would take for a leaf."""
    dropped_pfns: Int64Array = field(default_factory=no_entries)
    """int64[k]: PFNs that the file calls holes and the leaves do not, ascending."""
    dropped_words: Int64Array = field(default_factory=no_entries)
    """int64[k]: what the leaves say of them."""
    failing: FailingEntry | None = None
    """The entry at which a failed walk ended."""


class Stop(Exception):
    """Ends the walk; carries nothing: the walk object says why."""


def fail(walk: Walk, result: str, message: str, entry: FailingEntry | None = None) -> Stop:
    """Set the walk's result, the toolstack's words for it, the word it failed at; return `Stop`."""
    walk.result, walk.reason, walk.failing = result, message, entry
    return Stop()


NOT_OWN = "no PFN of this guest has that frame"

IMPOSSIBLE = "no host has such a frame"


def word_at(page: Page, x: int, word_bytes: int) -> int | None:
    """Return word `x` of `page`, None where it was not kept."""
    return unsigned(int(page.words[x]), word_bytes) if x < page.words.size else None


def unknown(walk: Walk, reason: str) -> Stop:
    """Set that the file does not tell, and why; return `Stop`."""
    walk.result, walk.reason = None, reason
    return Stop()


def unsigned(value: int, word_bytes: int) -> int:
    """Return `value` as the guest's word has it."""
    return int(value) & ((1 << 8 * word_bytes) - 1)


def bad_words(words: Int64Array, max_mfn: int) -> Int64Array:
    """Return the indices of words that the toolstack refuses on sight."""
    return np.flatnonzero((words <= 0) | (words > max_mfn))


def needed_words(page: Page, count: int) -> Int64Array:
    """Return the first `count` words of `page`.

    Of an incomplete page the last kept word is one that is refused on sight, so the zeros that
    stand for what follows it are never reached.
    """
    words = np.zeros(count, np.int64)
    have = page.words[:count]
    words[: have.size] = have
    return words


def shown_word(page: Page, x: int, word_bytes: int) -> str:
    """Return word `x` of `page` for a message; of an incomplete page it may not have been kept."""
    if x >= page.words.size:
        return "(some number, not kept of a pipe)"
    return f"{unsigned(int(page.words[x]), word_bytes):#x}"


def read_page(guest: DumpGuest, walk: Walk, pfn: int, what: str) -> Page:
    """Return page `pfn`, which is that of `what`. Raises `Stop` where the file does not show it."""
    page = guest.pages.read(pfn)
    if page is None:
        raise unknown(
            walk,
            f"the file does not show what the guest has at PFN {pfn}, the page of {what}: it holds "
            "no data for it, or calls it a page table and so has other words in it",
        )
    return page


def where_in_list(guest: DumpGuest, walk: Walk, x: int) -> str:
    """Return which word entry `x` of the whole frame list is."""
    if walk.linear is not None:
        return f"the level 1 entry of leaf {x}"
    mid, index = divmod(x, guest.geometry.entries)
    return f"entry {index} of frame list {mid} (PFN {int(walk.fl_pfns[mid])})"
