"""Write what migration streams lie in: the parts before and after the stream.

Xen's own checker passes what is written for xl. For the files of libvirt, XenServer and xend there
is none to be had: they follow the published layouts, and only our reader was tried on them.
"""

from __future__ import annotations

from typing import BinaryIO

from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.dumps import formats
from p2mbatch.dumps.writers.image import GuestImage

WRAPPERS = ("libxc", "libxl", "xl", "libvirt", "xenserver")
"""What a stream of version 2 or 3 is written in."""

LEGACY_WRAPPERS = ("libxc", "xl", "xend", "libvirt", "xenserver", "xenserver-1")
"""What a legacy stream is written in."""

IN_LIBXL = ("libxl", "xl", "libvirt")
"""Where a libxl stream lies around a stream of version 2 or 3."""

_JSON_CONFIG = b"{}\n\0"

_TEXT_CONFIG = b"name = 'guest'\n"


def begin_container(out: BinaryIO, wrapper: str, image: GuestImage, legacy: bool) -> None:
    """Write what comes before the stream, or before libxl's around it."""
    kib = image.p2m.size * PAGE_BYTES >> 10
    if wrapper == "xl":
        config = _TEXT_CONFIG if legacy else _JSON_CONFIG
        flags = 0 if legacy else formats.XL_FLAG_JSON | formats.XL_FLAG_STREAM_V2
        out.write(formats.XL_MAGIC)
        out.write(formats.XL_HEADER.pack(formats.XL_BYTE_ORDER, flags, 0, len(config)) + config)
    elif wrapper == "libvirt":
        arch = "x86_64" if image.word_bytes == 8 else "i686"
        xml = (
            f"<domain type='xen'><name>guest</name><memory unit='KiB'>{kib}</memory>"
            f"<os><type arch='{arch}' machine='xenpv'>linux</type></os></domain>"
        ).encode()
        version = 1 if legacy else 2
        out.write(formats.LIBVIRT_HEADER.pack(formats.LIBVIRT_MAGIC, version, len(xml)) + xml)
    elif wrapper == "xend":
        config = f"(domain (name guest) (memory {kib >> 10}))".encode()
        out.write(formats.XEND_MAGIC + len(config).to_bytes(4, "big") + config)
    elif wrapper == "xenserver-1":
        out.write(formats.XENSERVER_1_MAGIC)
    elif wrapper == "xenserver":
        record = f"(word_size {8 * image.word_bytes})".encode()
        out.write(formats.XENSERVER_MAGIC)
        out.write(formats.XENSERVER_HEADER.pack(formats.XENSERVER_XENOPS, len(record)) + record)
        kind = formats.XENSERVER_LIBXC_LEGACY if legacy else formats.XENSERVER_LIBXC
        out.write(formats.XENSERVER_HEADER.pack(kind, 0))


def end_container(out: BinaryIO, wrapper: str) -> None:
    """Write what comes after the stream."""
    if wrapper == "xenserver":
        out.write(formats.XENSERVER_HEADER.pack(formats.XENSERVER_END, 0))
