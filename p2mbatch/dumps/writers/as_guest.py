"""A guest that would be written, as a reader would find it: no file is needed to look at it."""

from __future__ import annotations

import numpy as np

from p2mbatch.base.geometry import INVALID
from p2mbatch.dumps.model import DumpGuest, parse_shared_info
from p2mbatch.dumps.p2m import SparseP2M
from p2mbatch.dumps.stores import Page, PageStore, TableData, widen
from p2mbatch.dumps.writers.image import GuestImage


class ImagePages(PageStore):
    """The pages of a `GuestImage` as they lie in memory."""

    def __init__(self, image: GuestImage) -> None:
        self._image = image
        self._present = image.has_page

    def read(self, pfn: int) -> Page | None:
        """Return the page's words; None where the guest has no such page."""
        data = self._bytes(pfn)
        return None if data is None else Page(widen(data, self._image.word_bytes), True)

    def read_table(self, pfn: int) -> TableData | None:
        """Return the page's entries, which name MFNs."""
        data = self._bytes(pfn)
        return None if data is None else TableData(np.frombuffer(data, "<u8"), False)

    def _bytes(self, pfn: int) -> memoryview | None:
        if not 0 <= pfn < self._present.size or not self._present[pfn]:
            return None
        return memoryview(self._image.page(pfn))


def guest_of_image(image: GuestImage, name: str) -> DumpGuest:
    """Return `image` as the guest that a dump of it would show; `name` is what it is called.

    Nothing is lost: entries of frames that the host has not are there too.
    """
    listed = np.flatnonzero(image.p2m != INVALID)
    return DumpGuest(
        name=name,
        format="a guest of the model",
        word_bytes=image.word_bytes,
        max_p2m_pfn=image.p2m.size,
        p2m=SparseP2M(listed, image.p2m[listed], image.p2m.size),
        pages=ImagePages(image),
        shared_info=parse_shared_info(image.shared_info(), image.word_bytes),
        leaf_pfns=image.leaf_pfns,
    )
