"""What traces of the eras have beside those of the first three policies (policies-spec P0).

Checked as strictly as the rest: what a policy does not know is an unknown key.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID, Geometry, geometry, signed_word
from p2mbatch.model.checks import Checker, kind
from p2mbatch.model.era_tables import static_pages
from p2mbatch.model.policies import Policy
from p2mbatch.model.trace import GuestLayout

_MAX_WORD = (1 << 64) - 1

_STATIC = ("p2m_missing", "p2m_top", "p2m_top_mfn", "p2m_top_mfn_list")


@dataclass(frozen=True)
class EraLayout(GuestLayout):
    """Where a guest of a tree era keeps its pages."""

    bootmem: tuple[int, int] | None = None
    """[first PFN, count] of the boot allocator's pages; None where the kernel takes none."""
    static: dict[str, int] | None = None
    """First PFN of each static array of a p2m of two levels, by its name."""
    max_domain_pages: int = 0
    """PFNs that a p2m of two levels holds."""

    @property
    def boot_pages(self) -> int:
        """Pages that boot may take for structures."""
        static = sum(self.static_pages.values())
        return self.brk_pages + (self.bootmem[1] if self.bootmem else 0) + static

    @property
    def static_pages(self) -> dict[str, int]:
        """How many pages each static array has, by its name."""
        if self.static is None:
            return {}
        return static_pages(self.word_bytes, self.max_domain_pages)


def parse_guest(check: Checker, value: Any, policy: Policy) -> EraLayout:
    """Check the guest of a tree era: its numbers, and that its structures lie apart."""
    keys = {f.name for f in fields(GuestLayout)} | ({"bootmem"} if policy.bootmem else set())
    if policy.is_two_level:
        keys |= {"static", "max_domain_pages"}
    check.keys(value, "guest", keys, frozenset())
    if value["word_bytes"] not in (4, 8) or type(value["word_bytes"]) is not int:
        raise check.fail("guest.word_bytes", f"is {value['word_bytes']!r}: use 8 or 4")
    geo = geometry(value["word_bytes"])
    nr_pages = check.integer(value["nr_pages"], "guest.nr_pages", 1, geo.max_p2m_pfn)
    span = check.integer(value["max_p2m_pfn"], "guest.max_p2m_pfn", nr_pages, geo.max_p2m_pfn)
    directmap = check.integer(value["directmap_pages"], "guest.directmap_pages", 1, _limit(geo))
    layout = EraLayout(
        geo.word_bytes,
        nr_pages,
        span,
        check.integer(value["mfn_list_pfn"], "guest.mfn_list_pfn", 0, nr_pages),
        check.integer(value["brk_pfn"], "guest.brk_pfn", 0, nr_pages),
        check.integer(value["brk_pages"], "guest.brk_pages", not policy.is_two_level, nr_pages),
        check.runs(value["page_pool"], "guest.page_pool", ("pfn", "count")),
        directmap,
        _pair(check, value["bootmem"], "guest.bootmem") if policy.bootmem else None,
        *(_parse_static(check, value, geo) if policy.is_two_level else ()),
    )
    end = min(nr_pages, directmap)
    parts = [
        ("guest.brk_pfn", layout.brk_pfn, layout.brk_pages),
        ("guest.mfn_list_pfn", layout.mfn_list_pfn, layout.mfn_list_pages),
    ]
    if layout.bootmem is not None and layout.bootmem[1]:
        parts.append(("guest.bootmem", *layout.bootmem))
    for name, count in layout.static_pages.items():
        assert layout.static is not None
        parts.append((f"guest.static.{name}", layout.static[name], count))
    check_apart(check, parts, end, layout.page_pool, directmap)
    return layout


def _parse_static(check: Checker, value: Any, geo: Geometry) -> tuple[dict[str, int], int]:
    """Check where the static arrays of a p2m of two levels begin, and how many PFNs it holds."""
    static = value["static"]
    check.keys(static, "guest.static", set(_STATIC), frozenset())
    for name in _STATIC:
        check.integer(static[name], f"guest.static.{name}", 0, 1 << 52)
    step = geo.entries**2
    most = check.integer(
        value["max_domain_pages"], "guest.max_domain_pages", step, step * geo.entries
    )
    if most % step:
        raise check.fail("guest.max_domain_pages", f"is {most}: it must be a multiple of {step}")
    return dict(static), most


def _limit(geo: Geometry) -> int:
    """Return how many pages a direct map may have: it ends below where INVALID would point."""
    return geo.max_p2m_pfn if geo.word_bytes == 8 else ((1 << 32) - geo.va_base >> 12) - 1


def check_apart(
    check: Checker,
    parts: list[tuple[str, int, int]],
    end: int,
    pool: Int64Array,
    pool_end: int,
) -> None:
    """Refuse structures that go past `end`, a pool that goes past its own, pages in two of them."""
    for path, first, count in parts:
        if first + count > end:
            raise check.fail(
                path, f"{first} + {count} pages goes past {end}, where the guest's mapped pages end"
            )
    check.within(pool, 0, pool_end, "guest.page_pool", "page")
    runs = [(path, np.array([[first, count]], np.int64), 0) for path, first, count in parts]
    check.disjoint([*runs, ("guest.page_pool", pool, 0)], "page")


def _pair(check: Checker, value: Any, path: str) -> tuple[int, int]:
    """Check [first PFN, count]."""
    row = check.array(value, path)
    if len(row) != 2:
        raise check.fail(path, "must be [pfn, count]")
    first = check.integer(row[0], f"{path}[0]", 0, 1 << 52)
    return first, check.integer(row[1], f"{path}[1]", 0, 1 << 52)


def parse_ranges(check: Checker, value: Any, path: str) -> Int64Array:
    """Check 1:1 ranges and return them as int64[k, 2] of [start, end).

    One that starts past its end, or ends past the tree, is what some kernel must not mind.
    """
    rows = check.array(value, path)
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 2:
            raise check.fail(f"{path}[{i}]", "must be [start, end]")
        for j, cell in enumerate(row):
            check.integer(cell, f"{path}[{i}][{j}]", 0, 1 << 52)
    return np.array(rows, np.int64).reshape(-1, 2)


def parse_set_runs(check: Checker, value: Any, path: str, word_bytes: int) -> Int64Array:
    """Check the runs of a `set`, flagged words among them; return them as int64[k, 3].

    Words of 64 bits are their int64 bit patterns; null is INVALID.
    """
    rows = check.array(value, path)
    invalid = _MAX_WORD if word_bytes == 8 else (1 << 32) - 1
    out = []
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 3:
            raise check.fail(f"{path}[{i}]", "must be [pfn, mfn, count]")
        pfn = check.integer(row[0], f"{path}[{i}][0]", 0, 1 << 52)
        count = check.integer(row[2], f"{path}[{i}][2]", 1, 1 << 52)
        if pfn + count > 1 << 52:
            raise check.fail(f"{path}[{i}]", f"PFN {pfn} + {count} goes past {1 << 52}")
        word = INVALID
        if row[1] is not None:
            if type(row[1]) is not int:
                raise check.fail(
                    f"{path}[{i}][1]", f"mfn is {kind(row[1])}: it must be a whole number"
                )
            word = check.integer(row[1], f"{path}[{i}][1]", 0, invalid - 1)
            if word + count > invalid:
                raise check.fail(f"{path}[{i}]", f"MFN {word} + {count} goes past {invalid}")
            word = signed_word(word)
        out.append([pfn, word, count])
    return np.array(out, np.int64).reshape(-1, 3)


def unsigned(word: int) -> int | None:
    """Return a word of a `set` as a trace has it."""
    return None if word == INVALID else word % (1 << 64)


def guest_to_json(layout: GuestLayout) -> dict[str, Any]:
    """Return a guest's layout as the JSON object that it was parsed from."""
    guest = {f.name: getattr(layout, f.name) for f in fields(layout)}
    guest["page_pool"] = layout.page_pool.tolist()
    if guest.get("static") is None:
        guest.pop("static", None)
        guest.pop("max_domain_pages", None)
    if guest.get("bootmem") is None:
        guest.pop("bootmem", None)
    else:
        guest["bootmem"] = list(guest["bootmem"])
    return guest
