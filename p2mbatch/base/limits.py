"""What a file may cost beyond its own size: one rule for every reader.

A file of a few KiB can claim the largest guest there is, or unpack to a thousand times its size.
Work and memory are bounded by what the file really holds: whatever is refused is refused before it
is unpacked, parsed or walked, and the line says both numbers.
"""

from __future__ import annotations

from p2mbatch.base.errors import InputError
from p2mbatch.base.sizes import MIB

GZIP_RATIO = 32
"""Bytes that may be kept for each compressed one. Traces shrink by 4 to 10, listings by 12 at most,
a guest's p2m is 1/512 of its memory and gzip shrinks by 1030 at most."""

GZIP_FREE_BYTES = 8 * MIB
"""What is kept of any file, however small: small guests hold much that repeats."""

MAX_JSON_VALUES = 1 << 25
"""A value takes up to 80 bytes in memory. A trace of a 16 GiB guest without two frames side by side
has half as many."""


def gzip_excess(packed_bytes: int, kept_bytes: int) -> str | None:
    """Return what is wrong where `kept_bytes` of a gzip file are kept after `packed_bytes` of it.

    None where nothing is.
    """
    if kept_bytes <= GZIP_FREE_BYTES + GZIP_RATIO * packed_bytes:
        return None
    return (
        f"{packed_bytes} compressed bytes grew to {kept_bytes} bytes that would have to be kept, "
        f"more than {GZIP_RATIO} for each: a decompression bomb, or a file to be unpacked first"
    )


def check_json_values(data: bytes | str, name: str) -> None:
    """Raise `InputError` naming `name` where JSON text may hold more values than are read.

    Told by the characters that begin or part values: before anything is parsed.
    """
    if isinstance(data, bytes):
        num = data.count(b"[") + data.count(b"{") + data.count(b",")
    else:
        num = data.count("[") + data.count("{") + data.count(",")
    if num > MAX_JSON_VALUES:
        raise InputError(
            f"{name}: expected at most {MAX_JSON_VALUES} values of JSON, found some {num}"
        )
