"""Which policy a release of Linux is, and what else its configuration says (design section 4).

Ranges are those of the specifications, from sources of each release read or run. What was mended in
a stable series is from that series' review mails: "xen: fix setting of max_pfn in shared_info"
(4b511d5bfa74 upstream) is among the patches of 4.4.284, 4.9.283, 4.14.247, 4.19.207, 5.4.148,
5.10.67, 5.13.19 and 5.14.6. So 5.14.0 to 5.14.5 lack it; "5.14" alone stands for the series, which
the specification has as mended.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.sizes import GIB
from p2mbatch.model.policies import find

Release = tuple[int, ...]

_NUMBER = r"(0|[1-9][0-9]{0,2})"

_RELEASE = re.compile(
    rf"(2)\.(6)\.{_NUMBER}(?:\.{_NUMBER})?|([3-9]|1[0-9])\.{_NUMBER}(?:\.{_NUMBER})?"
)

_CANDIDATES: Final = "2.6.37-rc"

_MENDED: Final[dict[Release, int]] = {
    (4, 4): 284,
    (4, 9): 283,
    (4, 14): 247,
    (4, 19): 207,
    (5, 4): 148,
    (5, 10): 67,
    (5, 13): 19,
    (5, 14): 6,
}
"""The first release of each stable series in which the hint is rounded up."""

_FIRSTS: Final[tuple[tuple[Release, str, str], ...]] = (
    ((2, 6, 27), "two-level", "two-level"),
    ((2, 6, 30), "two-level-none", "two-level-none"),
    ((2, 6, 33), "two-level", "two-level"),
    ((2, 6, 37), "tracked", "tracked"),
    ((2, 6, 38), "tail", "tail"),
    ((2, 6, 39), "identity", "identity"),
    ((3, 7), "moved", "identity"),
    ((3, 14), "mid-identity", "mid-identity"),
    ((3, 17), "late-list", "late-list"),
    ((3, 19), "linear-3.19", ""),
    ((4, 3), "linear-4.4", ""),
    ((5, 14), "linear", ""),
)
"""The first release of each policy, on 64 bits and on 32 bits."""

_LAST_2_6_39: Final = 4

_LAST_OF: Final = {3: 19, 4: 20, 5: 19}
"""The last release of each series of numbers that is over; which is the last of 6, time tells."""

_NEWEST: Final = 7
"""No first number above this is known here."""

_FIRST_5_14: Final = "5.14.0"
"""The release, which is not mended yet; `5.14` alone stands for the series, which is."""


@dataclass(frozen=True)
class Kernel:
    """One release of Linux as a guest of one width runs it."""

    policy: str
    max_domain_pages: int
    """What CONFIG_XEN_MAX_DOMAIN_MEMORY lets it use, by default; 0: no such end is modelled."""
    hotplug_gib: int
    """The default of its limit of hot-added memory: what a linear p2m has room for."""


def canonical_version(text: str) -> str:
    """Return a release's name as scenarios have it: "5.10.0" is "5.10".

    Raises `InputError` for what is no release's name.
    """
    if text == _CANDIDATES:
        return text
    numbers = _numbers(text)
    length = 3 if numbers[:2] == (2, 6) else 2
    if text == _FIRST_5_14:
        return text
    return ".".join(map(str, numbers if numbers[length] else numbers[:length]))


def release_key(text: str) -> Release:
    """Return what sorts releases by age; a name that is none comes last."""
    if text == _CANDIDATES:
        return 2, 6, 36, 1 << 20
    try:
        return _numbers(text)
    except InputError:
        return (1 << 20,)


def kernel_of(text: str, word_bytes: int) -> Kernel:
    """Return what the release `text` is for guests of `word_bytes`.

    Raises `InputError` with the reason where it is not modelled, or no such guest could be.
    """
    if text == _CANDIDATES:
        return Kernel("stale", _most((2, 6, 37), word_bytes), 0)
    numbers = _numbers(text)
    series = numbers[:3] if numbers[:2] == (2, 6) else numbers[:2]
    stable = numbers[len(series)]
    _refuse(text, series, stable, word_bytes)
    wide, narrow = next(names for first, *names in reversed(_FIRSTS) if series >= first)
    policy = wide if word_bytes == 8 else narrow
    mended = _MENDED.get(series)
    if mended is not None and (stable or text == _FIRST_5_14):
        policy = "linear" if stable >= mended else "linear-4.4"
    hotplug = 512 if find(policy).is_linear else 0
    return Kernel(policy, _most(series, word_bytes), hotplug)


def _most(series: Release, word_bytes: int) -> int:
    """Return MAX_DOMAIN_PAGES: 32 or 8 GiB with two levels; 128, later 500 or 64 GiB.

    The option went with 4.3 (c70727a5bc18); a 64-bit guest then has 512 GiB, as much as its list.
    """
    wide, narrow = 32, 8
    if series >= (2, 6, 37):
        wide, narrow = 128, 128
    if series >= (3, 10):
        wide, narrow = 500, 64
    if series >= (4, 3):
        return 0
    return (wide if word_bytes == 8 else narrow) * GIB // PAGE_BYTES


def _numbers(text: str) -> Release:
    """Return the numbers of a release, its stable number (0 where it has none) the last."""
    if text.startswith(_CANDIDATES):
        raise InputError(
            f"linux: {text}: which release candidate had which commit is not known: use "
            f"{_CANDIDATES}, or a policy"
        )
    match = _RELEASE.fullmatch(text)
    if match is None:
        raise InputError(f"linux: {text!r} is no release of Linux, such as 2.6.32 or 5.10.67")
    if match[1]:
        return 2, 6, int(match[3]), int(match[4] or 0)
    return int(match[5]), int(match[6]), int(match[7] or 0)


def _refuse(text: str, series: Release, stable: int, word_bytes: int) -> None:
    """Raise `InputError` for a release that is not modelled, or that no PV guest could be."""
    if series < (2, 6, 26):
        raise InputError(f"linux: {text} is not modelled: the oldest that is known is 2.6.27")
    if series == (2, 6, 26):
        raise InputError(f"linux: {text} keeps no mfn list list: its guests can't be saved")
    if series == (2, 6, 39) and not stable:
        raise InputError(
            "linux: 2.6.39 as first released is none of the policies: the leaves that its 1:1 "
            "ranges end in are missing from the list; 2.6.39.4 and 3.0 are mended"
        )
    if series == (2, 6, 39) and stable > _LAST_2_6_39:
        raise InputError(f"linux: there is no {text}: 2.6.39.{_LAST_2_6_39} was the last one")
    if series == (2, 6, 39) and stable != _LAST_2_6_39:
        raise InputError(
            f"linux: {text}: which stable release of 2.6.39 was the first to be mended is not "
            "known: use 2.6.39.4, the last one"
        )
    if (2, 6, 39) < series < (3, 0):
        raise InputError(f"linux: there is no {text}: 3.0 followed 2.6.39")
    if series[0] > 2 and series[1] > _LAST_OF.get(series[0], 1000):
        last = f"{series[0]}.{_LAST_OF[series[0]]}"
        raise InputError(f"linux: there is no {text}: {series[0] + 1}.0 followed {last}")
    if series[0] > _NEWEST:
        raise InputError(f"linux: {text} is newer than any release that is known here")
    if word_bytes == 4 and series >= (5, 9):
        raise InputError(f"linux: there are no 32-bit PV guests with {text}: they ended with 5.9")
    if word_bytes == 4 and series >= (3, 19):
        raise InputError(
            f"linux: 32-bit guests of 3.19 to 5.8 are not modelled: {text} has a linear p2m"
        )
