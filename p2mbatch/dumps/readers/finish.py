"""What every migration stream ends in: all leaves are there, and the guest is put together."""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import geometry
from p2mbatch.base.sources import Cursor
from p2mbatch.dumps.model import DumpGuest, SharedInfo, excess_span, p2m_span
from p2mbatch.dumps.p2m import LeafP2M
from p2mbatch.dumps.readers.pages import StreamPages


def finish_stream(
    cursor: Cursor,
    pages: StreamPages,
    leaf_pfns: Int64Array,
    shared: SharedInfo,
    *,
    last_pfn: int,
    version: int,
    container: str | None,
    details: dict[str, int | str],
) -> DumpGuest:
    """Return the guest of a stream that was read to its end.

    `leaf_pfns` int64[num_leaves] are those that it names, `last_pfn` is the last PFN it carries.
    Raises `InputError` where a leaf's page was not sent, or not as a plain one.
    """
    word_bytes = pages.word_bytes
    num_pfns = last_pfn + 1
    span = p2m_span(shared, word_bytes, num_pfns)
    excess = excess_span(span, word_bytes, pages.num_data_pages)
    if excess is not None:
        raise cursor.fail(excess)
    unique = np.unique(leaf_pfns)
    pages.prefetch(unique)
    for pfn in unique.tolist():
        if pages.read(pfn) is None:
            leaf = int(np.argmax(leaf_pfns == pfn))
            raise InputError(
                f"{cursor.name}: offset {cursor.offset:#x}: the stream ended without data of "
                f"leaf {leaf} (PFN {pfn}), which it names as a leaf: expected a plain page"
            )
    mid_pfns = geometry(word_bytes).entries ** 2
    notes = []
    if span < num_pfns:
        notes.append(
            f"the stream carries PFNs up to {last_pfn}, but the guest's shared info says "
            f"max_pfn {shared.max_pfn}"
        )
    elif span > num_pfns and num_pfns % mid_pfns:
        # The toolstack's trim ends with a mid; anything else is a p2m that grew meanwhile.
        notes.append(
            f"the stream carries PFNs up to {last_pfn} only, but the guest's shared info "
            f"says max_pfn {shared.max_pfn}: the rest is read as holes"
        )
    return DumpGuest(
        name=cursor.name,
        format=f"libxc stream v{version}, {container or 'libxc'} wrapper",
        word_bytes=word_bytes,
        max_p2m_pfn=span,
        p2m=LeafP2M(leaf_pfns, pages, word_bytes, num_pfns, span),
        pages=pages,
        shared_info=shared,
        leaf_pfns=leaf_pfns,
        container=container,
        notes=tuple(notes),
        details=details
        | {"pages_with_data": pages.num_data_pages, "resent_pages": pages.num_resent_pages},
    )
