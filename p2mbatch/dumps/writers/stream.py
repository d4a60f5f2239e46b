"""Write a migration stream, v2 or v3, bare or in one of the `containers`.

The order of records is the toolstack's own; the result passes Xen's `verify-stream-v2`.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.dumps import formats
from p2mbatch.dumps.writers.containers import (
    IN_LIBXL,
    WRAPPERS,
    begin_container,
    end_container,
)
from p2mbatch.dumps.writers.image import GuestImage, reachable_leaves

_XEN_VERSIONS = {2: (4, 13), 3: (4, 17)}
"""What the domain header says: the last Xen that wrote version 2, and one that writes 3."""

_TSC_KHZ = 2_400_000


def write_stream(
    image: GuestImage, out: BinaryIO, *, version: int = 3, wrapper: str = "xl", live: bool = False
) -> None:
    """Write `image` to `out` as a stream of `version` 2 or 3 in `wrapper`, one of WRAPPERS.

    `live` sends the pages of the p2m structures twice, as a live migration would: first with
    other contents, at the end as they are. Raises `InputError` for another version or wrapper,
    and where the guest's leaves can't be reached.
    """
    if version not in (2, 3):
        raise InputError(f"version: {version} is not a stream version: use 2 or 3")
    if wrapper not in WRAPPERS:
        raise InputError(f"wrapper: {wrapper!r} is not one: use {', '.join(WRAPPERS)}")
    last_pfn = image.last_saved_pfn()
    leaves = reachable_leaves(image, last_pfn)
    begin_container(out, wrapper, image, legacy=False)
    if wrapper in IN_LIBXL:
        out.write(formats.LIBXL_HEADER.pack(formats.LIBXL_IDENT, formats.LIBXL_VERSION, 0))
        _record(out, formats.LIBXL_LIBXC_CONTEXT)
    _write_libxc(image, out, version, last_pfn, leaves.astype("<u8").tobytes(), live)
    if wrapper in IN_LIBXL:
        _record(out, formats.LIBXL_END)
    end_container(out, wrapper)


def _record(out: BinaryIO, kind: int, *body: bytes) -> None:
    length = sum(map(len, body))
    out.write(formats.RECORD.pack(kind, length))
    for part in body:
        out.write(part)
    out.write(bytes(-length % 8))


def _write_libxc(
    image: GuestImage, out: BinaryIO, version: int, last_pfn: int, leaves: bytes, live: bool
) -> None:
    """Write the libxc stream from the image header to END."""
    width = image.word_bytes
    out.write(
        formats.IMAGE_HEADER.pack(formats.IMAGE_MARKER, formats.IMAGE_IDENT, version, 0, 0, 0)
    )
    major, minor = _XEN_VERSIONS[version]
    out.write(formats.DOMAIN_HEADER.pack(formats.DOMAIN_PV, 12, 0, major, minor))
    _record(out, formats.X86_PV_INFO, formats.PV_INFO.pack(width, formats.PT_LEVELS[width], 0, 0))
    if version >= 3:
        _record(out, formats.STATIC_DATA_END)
    _record(out, formats.X86_PV_P2M_FRAMES, formats.P2M_FRAMES.pack(0, last_pfn), leaves)
    structures = np.array(sorted(p for p in image.words if p <= last_pfn), np.int64)
    present = image.has_page
    for start in range(0, last_pfn + 1, formats.BATCH_PAGES):
        stop = min(start + formats.BATCH_PAGES, last_pfn + 1)
        _write_pages(out, image, np.arange(start, stop), present, outdated=live)
    if live:
        for start in range(0, structures.size, formats.BATCH_PAGES):
            batch = structures[start : start + formats.BATCH_PAGES]
            _write_pages(out, image, batch, present, outdated=False)
    _record(out, formats.X86_TSC_INFO, formats.TSC_INFO.pack(0, _TSC_KHZ, 0, 0, 0))
    _record(out, formats.SHARED_INFO, image.shared_info())
    context = bytes(formats.VCPU_CONTEXT_BYTES[width])
    _record(out, formats.X86_PV_VCPU_BASIC, bytes(8), context)
    _record(out, formats.END)


def _write_pages(
    out: BinaryIO,
    image: GuestImage,
    pfns: np.ndarray[tuple[int], np.dtype[np.int64]],
    present: np.ndarray[tuple[int], np.dtype[np.bool_]],
    outdated: bool,
) -> None:
    """Write one PAGE_DATA record; `outdated` puts other bytes into pages that are not zeros."""
    has_data = present[pfns]
    kinds = image.page_types(pfns).astype(np.uint64)
    entries = pfns.astype(np.uint64) | kinds << np.uint64(formats.TYPE_SHIFT)
    pages = [
        b"\x5a" * PAGE_BYTES if outdated and pfn in image.words else image.sent_page(pfn)
        for pfn in pfns[has_data].tolist()
    ]
    header = formats.PAGE_DATA.pack(pfns.size, 0)
    _record(out, formats.PAGE_DATA_TYPE, header, entries.astype("<u8").tobytes(), *pages)
