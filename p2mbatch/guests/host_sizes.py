"""Hosts of different sizes in one life: what a scenario's `hosts` says, and what a host gets of it.

As text, "8GiB,16GiB..32GiB": one entry for each host, the last one for all that follow; a range is
drawn for each host by the seed.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.sizes import MIB, format_size, parse_size

MAX_HOSTS = 1000

MAX_HOST_BYTES: Final = 1 << 52
"""What 52-bit machine addresses reach."""


def canonical_hosts(raw: Any) -> str:
    """Return `raw` (text, one size, or a list of sizes and ranges) as the text that hosts are.

    Empty for none. Raises ValueError with one line that says what is wrong.
    """
    if isinstance(raw, bool) or not isinstance(raw, str | int | list | tuple):
        raise ValueError(f"{raw!r} is no list of sizes: write one for each host")
    parts = raw.split(",") if isinstance(raw, str) else [raw] if isinstance(raw, int) else raw
    if not parts or (isinstance(raw, str) and not raw.strip()):
        return ""
    if len(parts) > MAX_HOSTS:
        raise ValueError(f"{len(parts)} hosts: use {MAX_HOSTS} at most")
    return ",".join(_canonical_part(part) for part in parts)


def _canonical_part(part: Any) -> str:
    low, high = _ends(part)
    if low > high:
        raise ValueError(f"the range {part} runs backwards")
    return format_size(low) if low == high else f"{format_size(low)}..{format_size(high)}"


def _ends(part: Any) -> tuple[int, int]:
    if isinstance(part, bool) or not isinstance(part, str | int):
        raise ValueError(f"{part!r} is not the size of a host")
    first, dots, last = str(part).partition("..")
    return _size(first), _size(last if dots else first)


def _size(text: str) -> int:
    try:
        found = parse_size(text)
    except InputError as error:
        raise ValueError(str(error).removeprefix("size: ")) from None
    if not found or found % PAGE_BYTES:
        raise ValueError(f"{text.strip():.40} is not whole pages of {PAGE_BYTES} bytes")
    if found > MAX_HOST_BYTES:
        largest = format_size(MAX_HOST_BYTES)
        raise ValueError(f"{text.strip():.40} is larger than any host is taken for, {largest}")
    return found


def host_ranges(hosts: str) -> list[tuple[int, int]]:
    """Return (least, largest) bytes of each host that `hosts` names, the last for all others."""
    return [_ends(part) for part in hosts.split(",")]


def largest_host(hosts: str) -> int:
    """Return the bytes of the largest host that there can be."""
    return max(high for _, high in host_ranges(hosts))


def host_bytes(hosts: str, seed: int, index: int) -> int:
    """Return the bytes of the `index`-th host: a range gives any whole MiB of it alike."""
    ranges = host_ranges(hosts)
    low, high = ranges[min(index, len(ranges) - 1)]
    grain = MIB if high - low >= MIB else PAGE_BYTES
    word = int.from_bytes(
        hashlib.blake2b(f"p2mbatch-host:{seed}:{index}".encode(), digest_size=8).digest(), "little"
    )
    return low + grain * ((word * ((high - low) // grain + 1)) >> 64)
