"""Sizes as people write and read them: "128GiB" in, bytes out, and back."""

from __future__ import annotations

import re

from p2mbatch.base.errors import InputError

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

_UNITS = {
    "": 1,
    "b": 1,
    "kib": KIB,
    "mib": MIB,
    "gib": GIB,
    "tib": TIB,
    "k": KIB,
    "m": MIB,
    "g": GIB,
    "t": TIB,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}

_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


def parse_size(text: str | int, name: str = "size") -> int:
    """Return the bytes that `text` names: "128GiB", "630MiB", "1.5TiB", "10GB" or a plain number.

    K, M, G and T alone are the binary units. The result must be a whole number of bytes.
    Raises `InputError` naming `name` otherwise.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        if text < 0:
            raise InputError(f"{name}: {text} is negative: use a size such as 128GiB")
        return text
    match = _SIZE.fullmatch(str(text))
    factor = _UNITS.get(match.group(2).lower()) if match else None
    if match is None or factor is None:
        raise InputError(f"{name}: {text!r} is not a size: use a number and a unit, such as 128GiB")
    whole, _, fraction = match.group(1).partition(".")
    scale: int = 10 ** len(fraction)
    num_bytes, rest = divmod(int(whole + fraction) * factor, scale)
    if rest:
        raise InputError(f"{name}: {text!r} is not a whole number of bytes")
    return num_bytes


def format_size(num_bytes: int) -> str:
    """Return `num_bytes` as a person writes it, exactly: "128GiB", "1740MiB", "12345B"."""
    for unit, factor in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if num_bytes and num_bytes % factor == 0:
            return f"{num_bytes // factor}{unit}"
    return f"{num_bytes}B"
