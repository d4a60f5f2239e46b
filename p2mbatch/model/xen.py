"""What a hypervisor's version decides of a host: the m2p's order, and what freeing a frame leaves.

Source: machine-v2 section 7; Xen's commits d10651be94, b0b0525d19 (4.1.2) and 4515d7bd13 (4.2).
"""

from __future__ import annotations

import re

from p2mbatch.base.errors import InputError

Version = tuple[int, int, int]

FIRST: Version = (4, 0, 0)
"""The first version whose m2p is known here."""

_LAST_WITH_SMALL_ORDER: Version = (4, 1, 1)

_CLEARS_FREED: Version = (4, 2, 0)

_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?")


def parse_xen(text: object, where: str = "xen") -> Version:
    """Return the numbers of a version such as "4.1.2"; "4.1" is 4.1.0.

    Raises `InputError` naming `where` for anything else, and for versions before 4.0.
    """
    found = _VERSION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise InputError(f"{where}: is {text!r}: it must be a version such as '4.1.2'")
    version = int(found[1]), int(found[2]), int(found[3] or 0)
    if version < FIRST:
        raise InputError(f"{where}: is {text!r}: the m2p of Xen before 4.0 is not known")
    return version


def has_small_m2p_order(version: Version | None) -> bool:
    """Return whether a 64-bit guest is told the smallest order that holds the host's frames."""
    return version is not None and version <= _LAST_WITH_SMALL_ORDER


def keeps_freed_frames(version: Version | None) -> bool:
    """Return whether m2p keeps the PFN of a frame that was freed; None: a version of today."""
    return version is not None and version < _CLEARS_FREED
