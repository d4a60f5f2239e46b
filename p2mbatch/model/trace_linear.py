"""What traces of a linear p2m have beside the others' (linear-spec L10), checked as strictly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import geometry, signed_word
from p2mbatch.model.checks import Checker
from p2mbatch.model.policies import Policy
from p2mbatch.model.trace import GuestLayout
from p2mbatch.model.trace_eras import check_apart

BLOCK_PFNS = 1 << 18
"""PFNs that one level-1 page serves."""

MAX_AREA = BLOCK_PFNS << 14

_MAX_WORD = (1 << 64) - 1

_KEYS = {
    "word_bytes", "nr_pages", "mfn_list_pfn", "pgd_pfn", "boot_pool", "page_pool", "area_pfns",
    "p2m_vaddr", "virt_p2m_4tools", "identity", "extra", "directmap_pages",
}  # fmt: skip

_SHARED = ("p2m_cr3_mfn", "p2m_vaddr", "max_pfn", "frame_list_list_mfn")

IDENTITY = 1 << 62


@dataclass(frozen=True)
class LinearLayout(GuestLayout):
    """Where a guest with a linear p2m keeps its pages; its `max_p2m_pfn` is the area's PFNs."""

    pgd_pfn: int
    """The level-4 page."""
    boot_pool: Int64Array
    """int64[k, 2]: runs [first PFN, count] of the pages that boot takes."""
    p2m_vaddr: int
    """Where the flat table begins: a multiple of 2 MiB, as its word."""
    virt_p2m_4tools: bool
    """Whether the toolstack can read the linear table: no list is kept until a restore."""
    identity: Int64Array
    """int64[k, 2]: runs [first PFN, count] that boot marks 1:1."""
    extra: Int64Array
    """int64[k, 2]: runs [first PFN, count] of memory that may be populated later."""

    @property
    def boot_pages(self) -> int:
        """Pages that boot may take for structures."""
        return int(self.boot_pool[:, 1].sum()) + 1


def parse_linear(check: Checker, value: Any, policy: Policy) -> LinearLayout:
    """Check the guest of a linear p2m: its numbers, and that its structures lie apart."""
    check.keys(value, "guest", _KEYS, frozenset())
    if value["word_bytes"] != 8 or type(value["word_bytes"]) is not int:
        raise check.fail("guest.word_bytes", f"is {value['word_bytes']!r}: use 8")
    nr_pages = check.integer(value["nr_pages"], "guest.nr_pages", 1, MAX_AREA)
    area = check.integer(value["area_pfns"], "guest.area_pfns", nr_pages, MAX_AREA)
    if area % BLOCK_PFNS:
        raise check.fail("guest.area_pfns", f"is {area}: it must be a multiple of {BLOCK_PFNS}")
    vaddr = check.integer(value["p2m_vaddr"], "guest.p2m_vaddr", 0, _MAX_WORD)
    if vaddr % (1 << 21) or vaddr + 8 * area > _MAX_WORD:
        raise check.fail(
            "guest.p2m_vaddr", f"is {vaddr}: it must be a multiple of 2 MiB with room for the table"
        )
    flag = value["virt_p2m_4tools"]
    if not isinstance(flag, bool) or (flag and policy.whole_area):
        wanted = "false" if policy.whole_area else "true or false"
        raise check.fail("guest.virt_p2m_4tools", f"is {flag!r}: it must be {wanted}")
    limit = geometry(8).max_p2m_pfn
    layout = LinearLayout(
        8,
        nr_pages,
        area,
        check.integer(value["mfn_list_pfn"], "guest.mfn_list_pfn", 0, nr_pages),
        0,
        0,
        check.runs(value["page_pool"], "guest.page_pool", ("pfn", "count")),
        check.integer(value["directmap_pages"], "guest.directmap_pages", 1, limit),
        check.integer(value["pgd_pfn"], "guest.pgd_pfn", 0, nr_pages),
        check.runs(value["boot_pool"], "guest.boot_pool", ("pfn", "count")),
        signed_word(vaddr),
        flag,
        check.runs(value["identity"], "guest.identity", ("pfn", "count")),
        check.runs(value["extra"], "guest.extra", ("pfn", "count")),
    )
    _check_places(check, layout)
    return layout


def _check_places(check: Checker, layout: LinearLayout) -> None:
    end = min(layout.nr_pages, layout.directmap_pages)
    parts = [
        ("guest.mfn_list_pfn", layout.mfn_list_pfn, layout.mfn_list_pages),
        ("guest.pgd_pfn", layout.pgd_pfn, 1),
    ]
    for i, (first, count) in enumerate(layout.boot_pool.tolist()):
        parts.append((f"guest.boot_pool[{i}]", first, count))
    check_apart(check, parts, end, layout.page_pool, layout.directmap_pages)
    for name in ("identity", "extra"):
        runs = getattr(layout, name)
        check.within(runs, 0, 1 << 52, f"guest.{name}", "PFN")
        low = layout.nr_pages if name == "extra" else 0
        for i, first in enumerate(runs[:, 0].tolist()):
            if first < low:
                raise check.fail(
                    f"guest.{name}[{i}]", f"PFN {first} is below nr_pages: it boots with that"
                )


def spelled_out(runs: Any) -> Any:
    """Return a `set`'s runs with "identity" as the words that it stands for."""
    if not isinstance(runs, list):
        return runs
    return [
        [row[0], row[0] | IDENTITY, row[2]]
        if isinstance(row, list) and len(row) == 3 and row[1] == "identity" and _is_pfn(row[0])
        else row
        for row in runs
    ]


def _is_pfn(value: Any) -> bool:
    return type(value) is int and 0 <= value < IDENTITY


def spelled_back(pfn: int, word: int | None) -> int | str | None:
    """Return a `set`'s word as a trace has it."""
    return "identity" if word == pfn | IDENTITY else word


def parse_tweak(check: Checker, event: Any, path: str) -> dict[str, Any]:
    """Check a `tweak`: what the next save reads in place of what there is."""
    if "shared" in event:
        check.keys(event["shared"], f"{path}.shared", set(), frozenset(_SHARED))
        for name, number in event["shared"].items():
            check.integer(number, f"{path}.shared.{name}", 0, _MAX_WORD)
    for i, row in enumerate(check.array(event.get("ptes", []), f"{path}.ptes")):
        if not isinstance(row, list) or len(row) != 3:
            raise check.fail(f"{path}.ptes[{i}]", "must be [table pfn, index, frame]")
        for j, high in enumerate((1 << 52, 511, (1 << 63) - 1)):
            check.integer(row[j], f"{path}.ptes[{i}][{j}]", 0, high)
    return dict(event)


def guest_to_json(layout: LinearLayout) -> dict[str, Any]:
    """Return a guest's layout as the JSON object that it was parsed from."""
    runs = ("boot_pool", "page_pool", "identity", "extra")
    out = {name: getattr(layout, name, None) for name in _KEYS}
    out |= {name: getattr(layout, name).tolist() for name in runs}
    return out | {"area_pfns": layout.max_p2m_pfn, "p2m_vaddr": layout.p2m_vaddr % (1 << 64)}
