"""Write a guest for general tools: a pseudo-physical image, or an ELF core of segments.

Neither names a frame of the host: what lies at PFN p is at address 4096 p, as the guest's kernel
sees its memory. xl dump-core's own format (`core.write_core`) is what the p2m can be read from.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.dumps import formats
from p2mbatch.dumps.writers.image import GuestImage
from p2mbatch.model.runs import true_runs

_MAX_SEGMENTS = 0xFFFF
"""From here on e_phnum is this number and section header 0 has the true one (ELF's PN_XNUM)."""

_NO_ADDRESS = (1 << 64) - 1
"""p_vaddr of memory that the direct map does not reach, as vmcores have it."""

_LOW_PAGES = 256
"""Where a single run is cut: at 1 MiB."""

_NT_PRSTATUS = 1

_PRSTATUS_BYTES = {8: 336, 4: 144}
"""sizeof(struct elf_prstatus) by the guest's width (Linux, include/linux/elfcore.h)."""

_READ_WRITE_EXECUTE = 7


class _Sparse:
    """Writes forwards and leaves out pages of zeros where the file can have holes."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._can_skip = out.seekable()

    def zeros(self, num_bytes: int) -> None:
        """Write zeros, a hole where there can be one; never the last bytes of a file."""
        if self._can_skip:
            self._out.seek(num_bytes, 1)
            return
        for at in range(0, num_bytes, 1 << 20):
            self._out.write(bytes(min(num_bytes - at, 1 << 20)))

    def write(self, data: bytes) -> None:
        """Write `data` as it is."""
        self._out.write(data)

    def pages(self, image: GuestImage, first: int, count: int, last: bool) -> None:
        """Write the pages from PFN `first` on; the `last` of a file are never left out."""
        empty = 0
        for pfn in range(first, first + count):
            if not image.is_written(pfn) and not (last and pfn == first + count - 1):
                empty += PAGE_BYTES
                continue
            self.zeros(empty)
            empty = 0
            self.write(image.page(pfn))
        self.zeros(empty)


def write_flat(image: GuestImage, out: BinaryIO) -> None:
    """Write `image` to `out` as its memory by PFN: 4096 bytes for each PFN, zeros for holes."""
    sparse, at = _Sparse(out), 0
    span = image.p2m.size
    for first, count in true_runs(image.has_page).tolist():
        sparse.zeros((first - at) * PAGE_BYTES)
        at = first + count
        sparse.pages(image, first, count, last=at == span)
    if at < span:
        sparse.zeros((span - at - 1) * PAGE_BYTES)
        sparse.write(bytes(PAGE_BYTES))


def write_elf(image: GuestImage, out: BinaryIO) -> None:
    """Write `image` to `out` as an ELF64 core with a PT_LOAD for each run of pages.

    p_paddr is 4096 times the PFN; p_vaddr is where the kernel's direct map has it, all ones where
    that does not reach. A note stands for the one virtual CPU, whose registers are zeros.
    """
    runs = _mapped_runs(image)
    note = _note(image.word_bytes)
    num_headers = len(runs) + 1
    extended = num_headers >= _MAX_SEGMENTS
    note_at = formats.ELF_HEADER.size + num_headers * formats.ELF_SEGMENT.size
    section_at = note_at + len(note)
    pages_at = section_at + (formats.ELF_SECTION.size if extended else 0)
    pages_at += -pages_at % PAGE_BYTES
    head = [
        _elf_header(image.word_bytes, num_headers, section_at if extended else 0),
        formats.ELF_SEGMENT.pack(formats.PT_NOTE, 0, note_at, 0, 0, len(note), len(note), 4),
    ]
    at = pages_at
    for first, count in runs.tolist():
        size, paddr = count * PAGE_BYTES, first * PAGE_BYTES
        head.append(
            formats.ELF_SEGMENT.pack(
                formats.PT_LOAD,
                _READ_WRITE_EXECUTE,
                at,
                _address(image, first),
                paddr,
                size,
                size,
                PAGE_BYTES,
            )
        )
        at += size
    head.append(note)
    if extended:
        head.append(formats.ELF_SECTION.pack(0, formats.SHT_NULL, 0, 0, 0, 0, 0, num_headers, 0, 0))
    out.write(b"".join(head).ljust(pages_at, b"\0"))
    sparse = _Sparse(out)
    for i, (first, count) in enumerate(runs.tolist()):
        sparse.pages(image, first, count, last=i == len(runs) - 1)


def _mapped_runs(image: GuestImage) -> Int64Array:
    """Return the runs of PFNs that have a page, cut where the direct map ends: int64[k, 2].

    A run from PFN 0 on that is the only one is cut too: where every p_paddr is 0 readers (drgn)
    take it that a core has no physical addresses, as a process's has none.
    """
    limit = image.geometry.direct_map_limit_pages
    runs = true_runs(image.has_page)
    first, count = runs[:, 0], runs[:, 1]
    below = np.clip(limit - first, 0, count)
    parts = np.stack(
        [np.stack([first, below], axis=1), np.stack([first + below, count - below], axis=1)], axis=1
    ).reshape(-1, 2)
    parts = parts[parts[:, 1] > 0]
    if len(parts) == 1 and parts[0, 0] == 0 and parts[0, 1] > 1:
        num_pages = int(parts[0, 1])
        cut = min(_LOW_PAGES, num_pages - 1)
        return np.array([[0, cut], [cut, num_pages - cut]], np.int64)
    return parts


def _address(image: GuestImage, pfn: int) -> int:
    """Return the virtual address of `pfn` by the direct map."""
    if pfn >= image.geometry.direct_map_limit_pages:
        return _NO_ADDRESS
    return image.geometry.va_base + pfn * PAGE_BYTES & (1 << 64) - 1


def _elf_header(word_bytes: int, num_headers: int, section_at: int) -> bytes:
    """Return the ELF header; `section_at` is where section header 0 lies, 0 for none."""
    machine = next(m for m, width in formats.ELF_MACHINES.items() if width == word_bytes)
    ident = formats.ELF_MAGIC + bytes((formats.ELF_CLASS64, formats.ELF_LSB, formats.ELF_VERSION))
    return formats.ELF_HEADER.pack(
        ident.ljust(16, b"\0"),
        formats.ET_CORE,
        machine,
        formats.ELF_VERSION,
        0,
        formats.ELF_HEADER.size,
        section_at,
        0,
        formats.ELF_HEADER.size,
        formats.ELF_SEGMENT.size,
        min(num_headers, _MAX_SEGMENTS),
        formats.ELF_SECTION.size,
        1 if section_at else 0,
        0,
    )


def _note(word_bytes: int) -> bytes:
    """Return the note of one virtual CPU, without its state."""
    name, body = b"CORE\0", bytes(_PRSTATUS_BYTES[word_bytes])
    head = formats.ELF_NOTE.pack(len(name), len(body), _NT_PRSTATUS)
    return head + name.ljust(8, b"\0") + body
