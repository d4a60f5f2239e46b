"""Files that people have and that are not read: each by its name, with what to do instead."""

from __future__ import annotations

import struct

from p2mbatch.dumps import formats

_DUMP = "dump the guest with xl dump-core in dom0, or save it"

NO_P2M = "it has no p2m of its own, its frames are kept by Xen: no list of it can break"
"""What is said of HVM and PVH guests, which streams and dumps do not tell apart."""

_BY_MAGIC = {
    b"\xfd7zXZ\0": "xz data: unpack it first",
    b"BZh": "bzip2 data: unpack it first",
    b"\x28\xb5\x2f\xfd": "zstd data: unpack it first",
    b"\x04\x22\x4d\x18": "lz4 data: unpack it first",
    b"PK\3\4": "a zip archive: unpack it first",
    b"KDUMP   ": f"a kdump-compressed vmcore, which names no frame of a guest's host: {_DUMP}",
    b"DISKDUMP": f"a diskdump vmcore, which names no frame of a guest's host: {_DUMP}",
    b"makedumpfile\0\0\0\0": (
        "a flattened makedumpfile stream (makedumpfile -R puts it in order), which is a vmcore and "
        f"names no frame of a guest's host: {_DUMP}"
    ),
    b"EMiL": f"a LiME image, which was taken within the guest and has no frames in it: {_DUMP}",
    b"\xed\xeb\x0f\xf0": (
        "a dump-core file from before ELF (Xen 3.0), of a PV guest: dump the guest with a "
        "toolstack from Xen 3.1 on, or save it"
    ),
    b"\xee\xeb\x0f\xf0": f"a dump-core file from before ELF (Xen 3.0), of an HVM guest: {NO_P2M}",
    b"QEVM": f"a device model's saved state, which HVM guests have: {NO_P2M}",
    b"QFI\xfb": f"a qcow2 disk image, which holds no memory: {_DUMP}",
    b"{": "JSON: replay reads traces, sweep reads specs",
}


def describe(head: bytes) -> str:
    """Return what a file that begins with `head` is, and what to do with it."""
    head = head.lstrip() if head.lstrip()[:1] == b"{" else head
    for magic, what in _BY_MAGIC.items():
        if head.startswith(magic):
            return what
    return f"bytes {head[:16].hex(' ')}"


def describe_core(head: bytes) -> str | None:
    """Return what an ELF file that begins with `head` is where it is a core and no xl dump-core's.

    None where nothing tells. Only headers and notes within `head` are looked at.
    """
    try:
        names, num_segments, num_sections = _read_core_head(head)
    except struct.error:
        return None
    if names & {(b"VMCOREINFO_XEN", 0), *((b"Xen", kind) for kind in _CRASH_NOTES)}:
        return (
            "the vmcore of a whole host (kdump of Xen and dom0), which has no list of one guest's "
            f"pages: before a crash, {_DUMP}"
        )
    if (b"VMCOREINFO", 0) in names:
        return f"a vmcore of one kernel (kdump), which names no frame of its host: {_DUMP}"
    if num_segments and num_sections <= 1:
        return (
            "an ELF core of segments (virsh dump of an HVM guest, gcore, make-core --elf), which "
            f"names no frame of a guest's host: {_DUMP}"
        )
    return None


_CRASH_NOTES = (0x1000001, 0x1000002)
"""Notes of Xen's own crash: information and registers (xen/include/public/elfnote.h)."""


def _read_core_head(head: bytes) -> tuple[set[tuple[bytes, int]], int, int]:
    """Return (notes as (name, type), program headers, section headers) of an ELF core."""
    wide = head[4:5] == bytes([formats.ELF_CLASS64])
    header = formats.ELF_HEADER if wide else formats.ELF32_HEADER
    fields = header.unpack_from(head)
    segments_at, num_segments, num_sections = fields[5], fields[10], fields[12]
    if fields[1] != formats.ET_CORE or not num_segments:
        return set(), 0, num_sections
    segment = formats.ELF_SEGMENT if wide else formats.ELF32_SEGMENT
    notes: set[tuple[bytes, int]] = set()
    for i in range(num_segments):
        if segments_at + (i + 1) * segment.size > len(head):
            break
        values = segment.unpack_from(head, segments_at + i * segment.size)
        at, num_bytes = (values[2], values[5]) if wide else (values[1], values[4])
        if values[0] == formats.PT_NOTE:
            notes |= _notes(head[at : at + num_bytes])
    return notes, num_segments, num_sections


def _notes(data: bytes) -> set[tuple[bytes, int]]:
    """Return (name, type) of each note in `data`, as far as it goes."""
    found, at = set(), 0
    while at + formats.ELF_NOTE.size <= len(data):
        name_bytes, body_bytes, kind = formats.ELF_NOTE.unpack_from(data, at)
        at += formats.ELF_NOTE.size
        found.add((data[at : at + name_bytes].rstrip(b"\0"), kind))
        at += (name_bytes + 3 & ~3) + (body_bytes + 3 & ~3)
    return found
