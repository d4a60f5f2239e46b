"""The rows of an audit's page, in words for people; `--json` has the keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.dumps.audit.walk_state import FailingEntry
from p2mbatch.plots.style import size_text

Found = dict[str, Any]


def facts_of(found: Found) -> list[tuple[str, str]]:
    """Return (name, value) of all that an audit found (`Audit.to_json`), as a person reads it."""
    rows: list[tuple[str, str]] = []
    for part in (_file, _guest, _memory, _check, _tree, _linear):
        rows += part(found)
    return rows


def failing_entry(found: Found) -> str:
    """Return the word at which the save check ended, its MFN and where it leads; "" for none."""
    entry = found["failing_entry"]
    return FailingEntry(**entry).in_words if entry else ""


def _pages(count: int) -> str:
    return f"{count:,} pages ({size_text(count * PAGE_BYTES)})"


def _runs(sizes: Found) -> str:
    if not sizes["num"]:
        return "none"
    largest = f"{_pages(sizes['largest_pages'])} from PFN {sizes['largest_pfn']:,}"
    return f"{sizes['num']:,} of {_pages(sizes['pages'])} in all; the largest is {largest}"


def _file(found: Found) -> Iterator[tuple[str, str]]:
    yield "File", found["file"]
    yield "What it is", found["format"]
    if found["container"] is not None:
        yield "What the stream lies in", found["container"]
    for name, value in found["details"].items():
        yield f"{name[:1].upper()}{name[1:].replace('_', ' ')}", str(value)


def _guest(found: Found) -> Iterator[tuple[str, str]]:
    yield "Guest", f"{8 * found['word_bytes']}-bit"
    yield "PFNs of its p2m", _pages(found["max_p2m_pfn"])
    if found.get("kernels"):
        yield "Kernels that have such a p2m", found["kernels"]
    elif found["frame_list_list_mfn"] is not None:
        yield "Kernels that have such a p2m", f"not told: {found['era_evidence']}"


def _memory(found: Found) -> Iterator[tuple[str, str]]:
    yield "Pages of its own", _pages(found["populated_pages"])
    names: dict[str, str] = {
        "foreign_entries": "Entries that are another domain's frames",
        "identity_entries": "Entries that are the machine's own (1:1)",
        "unlisted_pfns": "PFNs that the listing leaves out",
        "lost_in_dump_pages": "Pages lost in the dump",
        "surplus_pages": "Pages that no PFN below max_pfn has",
    }
    for key, name in names.items():
        if found[key]:
            yield name, f"{found[key]:,}"
    yield "Holes", _runs(found["holes"])
    if found["extents"]["num"]:
        yield "Extents (frames in a row)", _runs(found["extents"])
        yield "Extents of 2 MiB", f"{found['superpages']:,}"
    if found["p2m_sha256"] is not None:
        yield "Digest of the p2m (SHA-256)", found["p2m_sha256"]


def _check(found: Found) -> Iterator[tuple[str, str]]:
    yield "Save check", found["save_check"] or "not made"
    if found["save_check"] not in (None, "ok") and found["save_check_message"]:
        yield "The toolstack would say", found["save_check_message"]
    if found["failing_entry"] is not None:
        yield "The entry at which it fails", failing_entry(found)
    if found["fate_if_migrated"] is not None:
        yield "What a migration makes of it", found["fate_if_migrated"]


def _tree(found: Found) -> Iterator[tuple[str, str]]:
    tree, places = found["tree"], found["structures"]
    if tree is None:
        return
    share = f"{100 * tree['structure_overhead']:.2f} % of its memory"
    size = size_text(int(tree["structure_bytes"]))
    yield "Tree", f"{tree['leaves']:,} leaves, {tree['mids']:,} mids: {size}, {share}"
    yield "Entries that a rebuild writes", f"{tree['entries_per_rebuild']:,}"
    if found["frame_list_list_mfn"] is not None:
        at = places["frame_list_list_pfn"]
        page = "no page of the guest's" if at is None else f"PFN {at:,}"
        yield "Frame list list", f"MFN {found['frame_list_list_mfn']:#x}, {page}"
    for key, name in (("p2m_top_pfn", "p2m_top"), ("p2m_missing_pfn", "p2m_missing")):
        if places[key] is not None:
            yield name, f"PFN {places[key]:,}"


def _linear(found: Found) -> Iterator[tuple[str, str]]:
    linear = found["linear"]
    if linear is None:
        return
    size = size_text(linear["list_bytes"])
    yield "Linear list", f"{size} at {linear['p2m_vaddr']:#x}, {linear['leaf_pages']:,} leaf pages"
    tables = ", ".join(f"{count} of level {level}" for level, count in linear["tables"].items())
    yield "Page tables under it", f"from MFN {linear['p2m_cr3_mfn']:#x}: {tables or 'none read'}"
    amid = ", odd: amid a change" if linear["amid_an_update"] else ""
    yield "Generation", f"{linear['p2m_generation']}{amid}"
