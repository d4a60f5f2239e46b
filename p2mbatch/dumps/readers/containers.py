"""What migration streams lie in: xl, libvirt, XenServer and xend files, libxl streams, or nothing.

Each has a header of its own and then a stream that is read as a bare one. Source: Xen's
tools/xl/xl.h (savefileheader), docs/specs/libxl-migration-stream; libvirt's libxl driver
(libxlSavefileHeader); xen-api's suspend image framing; xend's XendCheckpoint. All little-endian but
for xend's length and libxl's header.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from p2mbatch.base.sources import CHUNK_BYTES, Cursor
from p2mbatch.dumps import formats
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.dumps.readers.legacy import LegacyReader, looks_like_legacy, looks_like_legacy_hvm
from p2mbatch.dumps.readers.others import NO_P2M
from p2mbatch.dumps.readers.stream import LibxcReader, check_body_bytes, skip_body

_LIBXC_MAGIC = formats.IMAGE_MARKER.to_bytes(8, "big")

_LIBXL_MAGIC = formats.LIBXL_IDENT.to_bytes(8, "big")


def looks_like_stream(head: bytes) -> bool:
    """Return whether a file that begins with `head` is a save file or a migration stream."""
    return _container_of(head) is not None or _is_bare(head)


def read_stream(cursor: Cursor) -> DumpGuest:
    """Read the stream at `cursor` to its end, whatever it lies in, and return the guest.

    Raises `InputError` for anything that the formats do not allow, HVM guests included.
    """
    head = cursor.peek(_HEAD_BYTES)
    read = _container_of(head)
    guest = read(cursor) if read is not None else _inner(cursor, None, "a migration stream")
    trailing = len(cursor.peek(CHUNK_BYTES))
    if trailing:
        more = f"{trailing}" if trailing < CHUNK_BYTES else f"at least {trailing}"
        note = f"{more} bytes follow the stream's end (offset {cursor.offset:#x}) and were not read"
        guest = replace(guest, notes=(*guest.notes, note))
    return guest


_HEAD_BYTES = 64


def _is_bare(head: bytes) -> bool:
    """Return whether `head` begins a stream without a container."""
    return head[:8] in (_LIBXC_MAGIC, _LIBXL_MAGIC) or looks_like_legacy(head) is not None


def _inner(cursor: Cursor, container: str | None, expected: str) -> DumpGuest:
    """Read the stream at the cursor, which lies in `container`, by what it begins with."""
    head = cursor.peek(_HEAD_BYTES)
    if head[:8] == _LIBXL_MAGIC:
        return _read_libxl(cursor, container or "libxl")
    if head[:8] == _LIBXC_MAGIC:
        return LibxcReader(cursor, container, in_libxl=False).read()
    long_bytes = looks_like_legacy(head)
    if long_bytes is not None:
        return LegacyReader(cursor, container, long_bytes).read()
    if container is not None and looks_like_legacy_hvm(head):
        raise cursor.fail(
            f"expected {expected} of a PV guest, found what a legacy stream of an HVM guest begins "
            f"with: {NO_P2M}"
        )
    raise cursor.fail(f"expected {expected}, found {head[:16].hex(' ') or 'the end of the file'}")


def _read_xl(cursor: Cursor) -> DumpGuest:
    at = cursor.offset
    magic = bytes(cursor.take(len(formats.XL_MAGIC), "xl save file header"))
    if magic != formats.XL_MAGIC:
        raise cursor.fail(f"expected the xl save file magic, found {magic!r}", at)
    at = cursor.offset
    head = cursor.take(formats.XL_HEADER.size, "xl save file header")
    order, mandatory, _, optional_bytes = formats.XL_HEADER.unpack(head)
    if order != formats.XL_BYTE_ORDER:
        what = "a big-endian file" if order == 0x04030201 else f"byte order {order:#x}"
        raise cursor.fail(f"expected byte order {formats.XL_BYTE_ORDER:#010x}, found {what}", at)
    unknown = mandatory & ~(formats.XL_FLAG_JSON | formats.XL_FLAG_STREAM_V2)
    if unknown:
        raise cursor.fail(f"expected mandatory flags 1 and 2, found unknown {unknown:#x}", at + 4)
    cursor.skip(optional_bytes, "xl's optional data")
    if mandatory & formats.XL_FLAG_STREAM_V2:
        return _read_libxl(cursor, "xl")
    if cursor.peek(8) == _LIBXL_MAGIC:
        raise cursor.fail(
            "expected mandatory flag 2 before a libxl stream, found the flags of a legacy one",
            at + 4,
        )
    return _inner(cursor, "xl", "a legacy stream of Xen 4.5 or older (mandatory flag 2 is not set)")


def _read_libxl(cursor: Cursor, container: str) -> DumpGuest:
    at = cursor.offset
    head = cursor.take(formats.LIBXL_HEADER.size, "libxl stream header")
    ident, version, options = formats.LIBXL_HEADER.unpack(head)
    if ident != formats.LIBXL_IDENT:
        raise cursor.fail(
            f"expected a libxl stream ({formats.LIBXL_IDENT:#x}), found {ident:#x}", at
        )
    if version != formats.LIBXL_VERSION:
        raise cursor.fail(f"expected libxl stream version 2, found {version}", at + 8)
    if options & 1:
        raise cursor.fail("expected a little-endian libxl stream, found a big-endian one", at + 12)
    guest: DumpGuest | None = None
    while True:
        cursor.step()
        at = cursor.offset
        kind, length = formats.RECORD.unpack(cursor.take(8, "a libxl record header"))
        if kind == formats.LIBXL_END:
            check_body_bytes(cursor, at, "libxl END", length, 0)
            break
        if kind == formats.LIBXL_LIBXC_CONTEXT:
            check_body_bytes(cursor, at, "LIBXC_CONTEXT", length, 0)
            if guest is not None:
                raise cursor.fail("expected one LIBXC_CONTEXT record, found another", at)
            guest = LibxcReader(cursor, container, in_libxl=True).read()
            continue
        if kind not in formats.LIBXL_NAMES and not kind & formats.RECORD_OPTIONAL:
            raise cursor.fail(f"expected a libxl record type, found {kind:#x}", at)
        skip_body(cursor, at, formats.LIBXL_NAMES.get(kind, f"record {kind:#x}"), length)
    if guest is None:
        raise cursor.fail("expected a LIBXC_CONTEXT record before libxl's END", at)
    return guest


def _read_libvirt(cursor: Cursor) -> DumpGuest:
    at = cursor.offset
    head = cursor.take(formats.LIBVIRT_HEADER.size, "libvirt's save image header")
    _, version, xml_bytes = formats.LIBVIRT_HEADER.unpack(head)
    if version not in formats.LIBVIRT_VERSIONS:
        what = "a big-endian file" if version >> 24 in formats.LIBVIRT_VERSIONS else f"{version}"
        raise cursor.fail(f"expected libvirt save image version 1 or 2, found {what}", at + 16)
    if xml_bytes > formats.MAX_BODY_BYTES:
        raise cursor.fail(f"expected the guest's XML, found {xml_bytes} bytes of it", at + 20)
    cursor.skip(xml_bytes, "the guest's XML")
    return _inner(cursor, "libvirt", "a libxl or libxc stream in libvirt's save image")


def _read_xend(cursor: Cursor) -> DumpGuest:
    cursor.take(len(formats.XEND_MAGIC), "xend's signature")
    at = cursor.offset
    config_bytes = int.from_bytes(cursor.take(4, "the length of xend's configuration"), "big")
    if config_bytes > formats.MAX_BODY_BYTES:
        raise cursor.fail(f"expected the guest's configuration, found {config_bytes} bytes", at)
    cursor.skip(config_bytes, "xend's configuration")
    return _inner(cursor, "xend", "a legacy stream in xend's save file")


def _read_xenserver_1(cursor: Cursor) -> DumpGuest:
    cursor.take(len(formats.XENSERVER_1_MAGIC), "XenServer's signature")
    return _inner(cursor, "xenserver-1", "a legacy stream in XenServer's first suspend image")


def _read_xenserver(cursor: Cursor) -> DumpGuest:
    """Read XenServer's suspend image of the second generation: headers, records, a footer."""
    cursor.take(len(formats.XENSERVER_MAGIC), "XenServer's signature")
    guest: DumpGuest | None = None
    while True:
        cursor.step()
        at = cursor.offset
        head = cursor.take(formats.XENSERVER_HEADER.size, "a header of XenServer's suspend image")
        kind, length = formats.XENSERVER_HEADER.unpack(head)
        if kind == formats.XENSERVER_END:
            break
        if kind in formats.XENSERVER_STREAMS:
            if guest is not None:
                raise cursor.fail("expected one memory image, found another", at)
            # Its length is not known before it is written: the stream ends itself.
            name = formats.XENSERVER_STREAMS[kind]
            guest = _inner(cursor, "xenserver", f"a {name} stream in XenServer's suspend image")
            continue
        if kind not in formats.XENSERVER_RECORDS:
            raise cursor.fail(f"expected a record of a suspend image, found type {kind:#x}", at)
        if length > formats.MAX_BODY_BYTES:
            raise cursor.fail(
                f"expected at most {formats.MAX_BODY_BYTES} bytes in a record, found {length}",
                at + 8,
            )
        cursor.skip(length, f"XenServer's {formats.XENSERVER_RECORDS[kind]} record")
    if guest is None:
        raise cursor.fail("expected a memory image before the footer (0xffff)", at)
    return guest


_READERS: dict[bytes, Callable[[Cursor], DumpGuest]] = {
    # The first words: a damaged rest is told as such.
    formats.XL_MAGIC[:16]: _read_xl,
    formats.LIBVIRT_MAGIC: _read_libvirt,
    formats.XEND_MAGIC: _read_xend,
    formats.XENSERVER_MAGIC: _read_xenserver,
    formats.XENSERVER_1_MAGIC: _read_xenserver_1,
}


def _container_of(head: bytes) -> Callable[[Cursor], DumpGuest] | None:
    """Return what reads the container that a file beginning with `head` is, None for none."""
    return next((read for magic, read in _READERS.items() if head.startswith(magic)), None)
