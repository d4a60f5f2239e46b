"""Write a guest as an xl dump-core ELF file (docs/misc/dump-core-format)."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.dumps import formats
from p2mbatch.dumps.writers.image import GuestImage

_NAMES = (
    "",
    ".shstrtab",
    ".note.Xen",
    ".xen_prstatus",
    ".xen_shared_info",
    ".xen_pages",
    ".xen_p2m",
)

_FIRST_SECTION_AT = 512

_XEN_VERSION = (4, 17)


def write_core(image: GuestImage, out: BinaryIO) -> None:
    """Write `image` to `out`, forwards only: its pages, and which PFN has which frame.

    Entries that are not frames of the host (foreign ones) are left out, as xl dump-core does.
    """
    pfns = np.flatnonzero(image.has_page)
    pairs = np.stack([pfns, image.p2m[pfns]], axis=1).astype("<u8").tobytes()
    notes = _notes(pfns.size)
    prstatus = bytes(formats.VCPU_CONTEXT_BYTES[image.word_bytes])
    strings = b"\0".join(name.encode() for name in _NAMES) + b"\0"
    sizes = {
        ".note.Xen": len(notes),
        ".xen_prstatus": len(prstatus),
        ".xen_shared_info": PAGE_BYTES,
        ".xen_pages": pfns.size * PAGE_BYTES,
        ".xen_p2m": len(pairs),
        ".shstrtab": len(strings),
    }
    offsets: dict[str, int] = {}
    at = _FIRST_SECTION_AT
    for name, size in sizes.items():
        if name == ".xen_pages":
            at += -at % PAGE_BYTES
        offsets[name] = at
        at += size
    _write_headers(out, image, sizes, offsets)
    out.write(notes + prstatus + image.shared_info())
    gap = offsets[".xen_pages"] - offsets[".xen_shared_info"] - PAGE_BYTES
    out.write(bytes(gap))
    for pfn in pfns.tolist():
        out.write(image.page(pfn))
    out.write(pairs + strings)


def _write_headers(
    out: BinaryIO, image: GuestImage, sizes: dict[str, int], offsets: dict[str, int]
) -> None:
    """Write the ELF header and the section headers, padded to the first section."""
    machine = next(m for m, width in formats.ELF_MACHINES.items() if width == image.word_bytes)
    ident = formats.ELF_MAGIC + bytes((formats.ELF_CLASS64, formats.ELF_LSB, formats.ELF_VERSION))
    header = formats.ELF_HEADER.pack(
        ident.ljust(16, b"\0"),
        formats.ET_CORE,
        machine,
        formats.ELF_VERSION,
        0,
        0,
        formats.ELF_HEADER.size,
        0,
        formats.ELF_HEADER.size,
        56,
        0,
        formats.ELF_SECTION.size,
        len(_NAMES),
        _NAMES.index(".shstrtab"),
    )
    kinds = {".shstrtab": formats.SHT_STRTAB, ".note.Xen": formats.SHT_NOTE}
    each = {".xen_pages": PAGE_BYTES, ".xen_p2m": 16}
    table, name_at = b"", 0
    for name in _NAMES:
        if name:
            table += formats.ELF_SECTION.pack(
                name_at,
                kinds.get(name, formats.SHT_PROGBITS),
                0,
                0,
                offsets[name],
                sizes[name],
                0,
                0,
                PAGE_BYTES if name == ".xen_pages" else 0,
                each.get(name, 0),
            )
        else:
            table += bytes(formats.ELF_SECTION.size)
        name_at += len(name) + 1
    out.write((header + table).ljust(_FIRST_SECTION_AT, b"\0"))


def _notes(num_pages: int) -> bytes:
    """Return the contents of `.note.Xen` for a guest of one virtual CPU."""
    version = b"".join(part.to_bytes(8, "little") for part in _XEN_VERSION)
    notes = (
        (formats.NOTE_NONE, b""),
        (
            formats.NOTE_HEADER,
            formats.CORE_HEADER.pack(formats.CORE_MAGIC_PV, 1, num_pages, PAGE_BYTES),
        ),
        (formats.NOTE_XEN_VERSION, version.ljust(formats.NOTE_XEN_VERSION_BYTES, b"\0")),
        (formats.NOTE_FORMAT_VERSION, formats.CORE_FORMAT_VERSION.to_bytes(8, "little")),
    )
    return b"".join(formats.NOTE.pack(4, len(body), kind, b"Xen\0") + body for kind, body in notes)
