"""What a reader finds: `DumpGuest`, and the p2m behind it, read in pieces.

A p2m is never expanded as a whole unless somebody asks for it: a file of 8 MB can name one leaf a
million times. Frames are int64 as everywhere; a 64-bit word with its top bit set (a foreign frame
of later kernels) is therefore negative, and INVALID is -1 in either width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import Geometry, geometry
from p2mbatch.dumps import formats
from p2mbatch.dumps.p2m import P2M
from p2mbatch.dumps.stores import PageStore


class SharedInfo(NamedTuple):
    """The fields of the shared info page that lead to the p2m, as unsigned numbers."""

    max_pfn: int
    """A count: one more than the last PFN of the p2m."""
    frame_list_list_mfn: int
    p2m_cr3: int
    p2m_vaddr: int
    p2m_generation: int


def parse_shared_info(page: bytes | memoryview, word_bytes: int) -> SharedInfo:
    """Return the fields of a shared info page (4096 bytes) of a guest of `word_bytes`."""
    layout = formats.SHARED_INFO_LAYOUTS[word_bytes]
    size = 8 if word_bytes == 8 else 4
    return SharedInfo(*(int.from_bytes(page[at : at + size], "little") for at in layout[1:]))


FREE_PFNS = 1 << 29
"""PFNs that any file may claim: 2 TiB, whose holes are hashed in about three seconds."""

MAX_PFNS_PER_PAGE = 256
"""PFNs beyond those for each page that the file holds: to hash them costs no more than half of what
reading the pages does."""


def excess_span(span: int, word_bytes: int, num_pages: int) -> str | None:
    """Return what is wrong with a p2m of `span` PFNs in a file of `num_pages` pages, or None.

    A few bytes can claim any span, and every PFN of it is hashed: refused before it is walked.
    """
    most = max(geometry(word_bytes).max_p2m_pfn, FREE_PFNS, MAX_PFNS_PER_PAGE * num_pages)
    if span <= most:
        return None
    return (
        f"expected a p2m of at most {most} PFNs in a file of {num_pages} pages, found PFNs up to "
        f"{span - 1}"
    )


def p2m_span(shared: SharedInfo, word_bytes: int, num_shown: int) -> int:
    """Return how many PFNs the p2m has, given shared info and that the file shows `num_shown`.

    A tree ends at `MAX_P2M_PFN`, whatever is said; a linear list has no such end, but then nothing
    is believed that the file does not show.
    """
    limit = geometry(word_bytes).max_p2m_pfn
    return min(shared.max_pfn, max(limit, num_shown) if shared.p2m_cr3 else limit)


@dataclass(frozen=True)
class DumpGuest:
    """One guest as a file shows it. Nothing here is larger than the file's structures."""

    name: str
    """The file, as it was named."""
    format: str
    """What the file is: "xl dump-core ELF", "libxc stream v3, xl wrapper", …"""
    word_bytes: int
    max_p2m_pfn: int
    """PFNs of the p2m, a count (the shared info page's max_pfn)."""
    p2m: P2M
    pages: PageStore
    shared_info: SharedInfo | None = None
    leaf_pfns: Int64Array | None = None
    """int64[num_leaves]: the leaf pages that the file itself names (migration streams only)."""
    container: str | None = None
    """What the stream lies in: "xl", "libxl", …; None for a bare stream and what is none."""
    unplaced_pages: int = 0
    """Pages that the file counts as the guest's without saying at which PFN (dump-core only)."""
    notes: tuple[str, ...] = ()
    """What a person should know about the file itself."""
    details: dict[str, int | str] = field(default_factory=dict)
    """Further facts by name: Xen version, records, resent pages, …"""

    @property
    def geometry(self) -> Geometry:
        """The tree's shape for this guest's width."""
        return geometry(self.word_bytes)
