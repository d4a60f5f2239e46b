"""Write a libxc migration stream of version 1, as toolstacks up to Xen 4.5 did.

Source: public descriptions of the format, as the reader of it.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.dumps import formats
from p2mbatch.dumps.writers.containers import LEGACY_WRAPPERS, begin_container, end_container
from p2mbatch.dumps.writers.image import GuestImage, reachable_leaves


def write_legacy(
    image: GuestImage, out: BinaryIO, *, wrapper: str = "xl", toolstack_bits: int = 64
) -> None:
    """Write `image` to `out` as a legacy stream of a toolstack of 32 or 64 bits, in `wrapper`.

    A legacy toolstack sends all of max_pfn: there is no trim. Raises `InputError` for another
    wrapper or width, and where the guest's leaves can't be reached.
    """
    if toolstack_bits not in (32, 64):
        raise InputError(f"toolstack_bits: {toolstack_bits} is not one: use 32 or 64")
    if wrapper not in LEGACY_WRAPPERS:
        raise InputError(f"wrapper: {wrapper!r} is not one: use {', '.join(LEGACY_WRAPPERS)}")
    if image.linear is not None:
        raise InputError("a legacy toolstack knows no linear p2m list: it can't save this guest")
    p2m_size = min(image.shared_max_pfn, image.p2m.size)
    if p2m_size > 1 << formats.LEGACY_TYPE_SHIFT:
        raise InputError(f"{p2m_size} PFNs: a legacy stream can name 2^28 at most")
    leaves = reachable_leaves(image, p2m_size - 1)
    dtype = formats.WORD_DTYPES[toolstack_bits // 8]
    begin_container(out, wrapper, image, legacy=True)
    out.write(np.array([p2m_size, (1 << toolstack_bits) - 1], np.uint64).astype(dtype).tobytes())
    context_bytes = formats.VCPU_CONTEXT_BYTES[image.word_bytes]
    info = formats.LEGACY_BLOCK.pack(b"vcpu", context_bytes) + bytes(context_bytes)
    info += formats.LEGACY_BLOCK.pack(b"extv", 0)
    out.write(len(info).to_bytes(4, "little") + info + leaves.astype(dtype).tobytes())
    present = image.has_page
    for start in range(0, p2m_size, formats.LEGACY_MAX_BATCH_PAGES):
        stop = min(start + formats.LEGACY_MAX_BATCH_PAGES, p2m_size)
        _write_batch(out, image, np.arange(start, stop), present, dtype)
    _write_chunk(out, formats.LEGACY_VCPU_INFO, bytes(4) + (1).to_bytes(8, "little"))
    _write_chunk(out, formats.LEGACY_LAST_CHECKPOINT)
    _write_chunk(out, 0)
    absent = np.flatnonzero(~present[:p2m_size])
    out.write(absent.size.to_bytes(4, "little") + absent.astype(dtype).tobytes())
    out.write(bytes(context_bytes + formats.LEGACY_EXTENDED_VCPU_BYTES) + image.shared_info())
    end_container(out, wrapper)


def _write_chunk(out: BinaryIO, kind: int, body: bytes = b"") -> None:
    out.write(kind.to_bytes(4, "little", signed=True) + body)


def _write_batch(
    out: BinaryIO, image: GuestImage, pfns: Int64Array, present: BoolArray, dtype: str
) -> None:
    """Write the pages of `pfns` (int64, at most 1024) as one batch, absent ones by type only."""
    has_data = present[pfns]
    types = np.where(has_data, formats.TYPE_PLAIN, formats.TYPE_NOT_PRESENT)
    ids = pfns | types << formats.LEGACY_TYPE_SHIFT
    _write_chunk(out, pfns.size, ids.astype(dtype).tobytes())
    for pfn in pfns[has_data].tolist():
        out.write(image.page(pfn))
