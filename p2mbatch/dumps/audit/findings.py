"""Audit a guest's file: what it is, what its p2m looks like, and whether it can be saved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.say import one_line
from p2mbatch.base.sizes import format_size
from p2mbatch.dumps.audit.area import area_tables, digests
from p2mbatch.dumps.audit.era import Era, era_of
from p2mbatch.dumps.audit.hazards import CHECK, SEVERITIES, Hazard, find_hazards
from p2mbatch.dumps.audit.recover import recover
from p2mbatch.dumps.audit.shape import Shape, Sizes, measure
from p2mbatch.dumps.audit.structures import Structures, find_structures, true_leaves
from p2mbatch.dumps.audit.walk_state import Walk
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.model.fates import FOR_OPERATORS, fate_of

# Save check -> (what it means, what to do), one sentence each.
_MEANINGS = {
    "ok": (
        "The list in this file leads to every leaf of the p2m. It proves little: the toolstack "
        "writes a guest through this very list, so a guest with a broken one leaves no file.",
        "What the next resume does to the list is decided by the guest's kernel: import the guest "
        "and replay or sweep its migrations.",
    ),
    "max_pfn-too-large": (
        "The guest says that it has more pages than a three-level list can name.",
        "Look for a corrupt shared info page, or lower the guest's maximum memory.",
    ),
    "bad-fll-mfn": (
        "The shared info page names no possible frame as the frame list list.",
        "The guest's kernel never set it, or it was overwritten: shut the guest down cleanly.",
    ),
    "map-fll-failed": (
        "The frame list list's frame is not the guest's: the shared info page was not renewed "
        "after the last migration.",
        "Shut the guest down cleanly and boot a kernel that renews it on resume.",
    ),
    "bad-mfn-in-fll": (
        "An entry of the frame list list can't be a frame at all: something wrote over the page.",
        "Look for what wrote there; the guest can't be saved and should be shut down cleanly.",
    ),
    "map-fl-failed": (
        "The frame list list still names frames of an earlier host: the kernel rebuilt its list "
        "through pages that were no longer its own. Kernels with a three-level tree (commit "
        "58e05027b53) and without the change 375b2a9ada6d do that: release candidates of Linux "
        "2.6.37, and vendors' trees that took the one and not the other. Linux up to 2.6.36 has "
        "two levels and not this fault.",
        "Do not migrate this guest again: shut it down cleanly and boot a kernel with the fix.",
    ),
    "bad-mfn-in-fl": (
        "An entry of a frame list can't be a frame at all: something wrote over the page.",
        "Look for what wrote there; the guest can't be saved and should be shut down cleanly.",
    ),
    "map-leaves-failed": (
        "A frame list names a leaf by a frame that is not the guest's, so one of an earlier host "
        "or of a page that has been given back.",
        "Shut the guest down cleanly and boot a kernel that rebuilds the whole list on resume.",
    ),
    "bad-mfn-in-p2m-frame-list": (
        "The pages that the list names are not leaves of this p2m: their own frames are not in "
        "them where they must be.",
        "The list was built before leaves moved: shut the guest down cleanly.",
    ),
    "bad-p2m-cr3": (
        "The shared info page names no possible frame as the top page table of the linear list.",
        "The shared info page was overwritten: shut the guest down cleanly.",
    ),
    "bad-p2m-range": (
        "The shared info page names addresses for the linear list at which it can't lie.",
        "The shared info page was overwritten: shut the guest down cleanly.",
    ),
    "map-ptes-failed": (
        "A page table of the linear list is no page of the guest's.",
        "Nothing can save this guest along that list: shut it down cleanly.",
    ),
    "bad-mfn-in-walk": (
        "The page tables do not lead to every part of the linear list: an entry is absent or no "
        "frame.",
        "Nothing can save this guest along that list: shut it down cleanly.",
    ),
    "bad-mfn-in-page-table": (
        "The list's leaves are found, but a page table under it names a page that no save carries: "
        "it would stop when it sends that table.",
        "A table or leaf lies beyond max_pfn, as kernels from 4.3 to 5.13 can leave it where "
        "memory was added: shut the guest down cleanly.",
    ),
    "misdirected": (
        "Every check passes, but on pages that are not the p2m: a save would carry wrong frame "
        "numbers and the restored guest would run on other memory than its own.",
        "Do not save or migrate this guest: shut it down cleanly.",
    ),
}


_CONTRADICTS = (
    "Dump the guest again, paused (without --live), or ask the running guest: xen-mfndump dump-p2m."
)


@dataclass(frozen=True)
class Audit:
    """All that is said of one guest."""

    guest: DumpGuest
    walk: Walk
    shape: Shape
    structures: Structures
    hazards: list[Hazard]
    p2m_sha256: str | None
    era: Era
    lost_pages: int
    """Pages that the guest's leaves name and the file lost."""
    surplus_pages: int
    """Pages that the file counts and no PFN of the p2m has."""

    @property
    def failed(self) -> bool:
        """Whether the save check was made and failed."""
        return self.walk.result not in (None, "ok")

    def is_as_bad_as(self, severity: str) -> bool:
        """Return whether the save check failed, or a hazard is of `severity` or worse."""
        if self.failed or severity == CHECK:
            return self.failed
        most = SEVERITIES.index(severity)
        return any(SEVERITIES.index(hazard.severity) <= most for hazard in self.hazards)

    @property
    def guest_in_words(self) -> str:
        """The guest in a few words, for a table."""
        kind = " linear" if self.walk.linear is not None else ""
        span = format_size(self.guest.max_p2m_pfn * PAGE_BYTES)
        return f"{8 * self.guest.word_bytes}-bit{kind}, {span}"

    @property
    def verdict(self) -> str:
        """The audit in a few words, for a table: the check, else the worst hazard above a note."""
        if self.failed:
            return f"can't be saved: {self.walk.result}"
        worst = self.hazards[0] if self.hazards else None
        said = "not checked" if self.walk.result is None else "nothing against it"
        if worst is None or worst.severity == SEVERITIES[-1]:
            return said
        return f"{said}; {worst.severity}: {worst.kind.replace('-', ' ')}"

    @property
    def meaning(self) -> tuple[str, str]:
        """(What the save check's result means, what to do)."""
        if self.walk.result is None:
            if self.lost_pages or self.surplus_pages:
                return f"The save check decides nothing: {self.walk.reason}.", _CONTRADICTS
            return f"The save check was not made: {self.walk.reason}.", ""
        return _MEANINGS[self.walk.result.partition(" ")[0]]

    @property
    def fate(self) -> tuple[str, str]:
        """(What a migration now would make of the guest, what follows from that); "" for a save
        that nothing speaks against, or that was not checked."""
        if not self.failed:
            return "", ""
        wrong = self.walk.result == "misdirected"
        fate = fate_of("misdirected" if wrong else "save-failed")
        return fate, FOR_OPERATORS[fate]

    @property
    def evidence(self) -> str:
        """What this file can and can't prove of the guest, where its check failed."""
        if not self.failed:
            return ""
        return (
            "No toolstack writes a guest through a list that it can't follow: this file was made "
            "(make-core), was changed, or was dumped while the guest ran."
        )

    def linear(self) -> dict[str, Any] | None:
        """Return the linear list and the page tables under it; None where the guest has a tree."""
        linear = self.walk.linear
        if linear is None:
            return None
        n, num_tables = self.guest.geometry.entries, sum(linear.tables.values())
        return {
            "p2m_cr3_mfn": linear.cr3_mfn,
            "p2m_vaddr": linear.vaddr,
            "p2m_generation": linear.generation,
            "amid_an_update": bool(linear.generation & 1),
            "list_bytes": -(-self.guest.max_p2m_pfn // n) * PAGE_BYTES,
            "leaf_pages": int(np.unique(self.walk.leaf_pfns).size),
            "tables": {str(level): count for level, count in sorted(linear.tables.items())},
            "table_bytes": num_tables * PAGE_BYTES,
        }

    def area(self) -> dict[str, Any] | None:
        """Return the digests that a trace of the same guest has, over its linear list's whole area.

        None where the guest has no linear list, or the file does not show all tables under it.
        Hashes a word for each PFN of the area.
        """
        linear = self.walk.linear
        if linear is None or self.guest.word_bytes != 8 or not self.guest.pages.complete:
            return None
        found = area_tables(self.guest, linear)
        return digests(self.guest, found) if found is not None else None

    def tree(self) -> dict[str, int | float] | None:
        """Return what the tree and its list cost the guest; None where it has no tree.

        Leaves are those that the file or the walk names, else the populated stretches.
        """
        if self.walk.linear is not None:
            return None
        shape, fixed, leaves = self.shape, 6, self.shape.leaves
        named, uses = np.unique(true_leaves(self.guest, self.walk), return_counts=True)
        if named.size and named[0] >= 0:
            # Leaves are shared by nobody; p2m_missing is, or it was found by name.
            leaves = int(np.count_nonzero((uses == 1) & (named != self.structures.missing)))
        pages = leaves + 2 * shape.mids + fixed
        return {
            "leaves": leaves,
            "mids": shape.mids,
            "frame_lists": shape.mids,
            "structure_pages": pages,
            "structure_bytes": pages * PAGE_BYTES,
            "structure_overhead": pages / shape.populated if shape.populated else 0.0,
            "entries_per_rebuild": -(-self.guest.max_p2m_pfn // self.guest.geometry.entries)
            + shape.mids,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the audit as an object of plain values; keys do not depend on the guest."""
        guest, shape, shared = self.guest, self.shape, self.guest.shared_info
        meaning, advice = self.meaning
        return {
            "file": guest.name,
            "format": guest.format,
            "word_bytes": guest.word_bytes,
            "max_p2m_pfn": guest.max_p2m_pfn,
            "pages_present": shape.present,
            "populated_pages": shape.populated,
            "foreign_entries": shape.foreign,
            "identity_entries": shape.identity,
            "p2m_sha256": self.p2m_sha256,
            "frame_list_list_mfn": shared.frame_list_list_mfn if shared else None,
            "save_check": self.walk.result,
            "save_check_message": self.walk.reason or None,
            "save_check_meaning": meaning,
            "fate_if_migrated": self.fate[0] or None,
            "save_check_advice": advice or None,
            "save_check_evidence": self.evidence or None,
            "failing_entry": self.walk.failing._asdict() if self.walk.failing else None,
            "container": guest.container,
            "policies": list(self.era.policies),
            "kernels": self.era.in_words or None,
            "era_evidence": self.era.evidence,
            "p2m_generation": shared.p2m_generation if shared and shared.p2m_cr3 else None,
            "lost_in_dump_pages": self.lost_pages,
            "surplus_pages": self.surplus_pages,
            "unlisted_pfns": shape.unlisted,
            "holes": shape.holes.to_json(),
            "extents": shape.extents.to_json(),
            "superpages": shape.superpages,
            "tree": self.tree(),
            "linear": self.linear(),
            "linear_area": self.area(),
            "structures": {
                "frame_list_list_pfn": self.walk.fll_pfn if self.walk.fll_pfn >= 0 else None,
                "p2m_top_pfn": self.structures.top if self.structures.found else None,
                "p2m_missing_pfn": self.structures.missing
                if self.structures.missing >= 0
                else None,
            },
            "hazards": [hazard.to_json() for hazard in self.hazards],
            "notes": list(guest.notes),
            "details": guest.details,
        }


def audit(guest: DumpGuest, max_mfn: int | None = None) -> Audit:
    """Return the audit of `guest`. Reads its p2m a few times and some thousand pages.

    `max_mfn` is the number of frames of the host that the file comes from, where it is known.
    """
    guest, walk, lost, surplus = recover(guest, max_mfn)
    shape = measure(guest.p2m, guest.geometry)
    if max_mfn is not None and shape.max_mfn >= max_mfn:
        note = (
            f"the guest has frame {shape.max_mfn}, and a host of {max_mfn} frames was named: the "
            "save check is for another host than the file's"
        )
        guest = replace(guest, notes=(*guest.notes, note))
    structures = find_structures(guest, walk)
    era = era_of(guest, walk, structures)
    return Audit(
        guest=guest,
        walk=walk,
        shape=shape,
        structures=structures,
        hazards=find_hazards(guest, walk, shape, structures, era, lost, surplus),
        era=era,
        p2m_sha256=guest.p2m.sha256() if guest.p2m.has_frames and not shape.unlisted else None,
        lost_pages=lost,
        surplus_pages=surplus,
    )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"


def _sizes_text(name: str, sizes: Sizes) -> list[str]:
    if not sizes.num:
        return [f"{name:<18}none"]
    largest = format_size(sizes.largest * PAGE_BYTES)
    lines = [
        f"{name:<18}{sizes.num}, the largest {sizes.largest} pages ({largest}) "
        f"from PFN {sizes.largest_pfn}"
    ]
    widest = int(sizes.pages_by_order.max())
    for order, count in enumerate(sizes.by_order.tolist()):
        if count:
            pages = int(sizes.pages_by_order[order])
            bar = "#" * max(1, round(30 * pages / widest))
            size = format_size(PAGE_BYTES << order)
            lines.append(f"{'':<18}from {size:>7}: {count:>9} holding {pages:>10} pages {bar}")
    return lines


def _linear_text(result: Audit) -> list[str]:
    """Return the lines about a linear list, none where there is a tree."""
    linear = result.linear()
    if linear is None:
        return []
    amid = "odd: caught in the middle of an update" if linear["amid_an_update"] else "even"
    tables = ", ".join(f"{count} of level {level}" for level, count in linear["tables"].items())
    return [
        f"{'linear list':<18}{format_size(linear['list_bytes'])} at {linear['p2m_vaddr']:#x}, "
        f"{linear['leaf_pages']} leaf pages",
        f"{'page tables':<18}from MFN {linear['p2m_cr3_mfn']:#x}: {tables or 'none read'} "
        f"({format_size(linear['table_bytes'])})",
        f"{'generation':<18}{linear['p2m_generation']} ({amid})",
    ]


def audit_text(result: Audit) -> str:
    """Return the audit as text for a terminal, one line a fact."""
    guest, shape, tree = result.guest, result.shape, result.tree()
    lines = [
        f"{one_line(guest.name)}: {one_line(guest.format)}",
        f"{'guest':<18}{8 * guest.word_bytes}-bit, max_p2m_pfn {guest.max_p2m_pfn} "
        f"({format_size(guest.max_p2m_pfn * PAGE_BYTES)})",
        f"{'pages present':<18}{shape.present} ({_percent(shape.present, guest.max_p2m_pfn)}), "
        f"foreign {shape.foreign}, identity {shape.identity}",
        *_sizes_text("holes", shape.holes),
    ]
    if shape.unlisted:
        lines.append(f"{'not listed':<18}{shape.unlisted} PFNs, neither pages nor holes")
    if result.lost_pages:
        lines.append(f"{'lost in the dump':<18}{result.lost_pages} pages")
    if result.surplus_pages:
        lines.append(f"{'surplus':<18}{result.surplus_pages} pages that no PFN below max_pfn has")
    if guest.p2m.has_frames:
        lines += [
            *_sizes_text("extents", shape.extents),
            f"{'2 MiB extents':<18}{shape.superpages}, "
            f"{_percent(512 * shape.superpages, shape.populated)} of the populated pages",
            f"{'p2m sha256':<18}{result.p2m_sha256 or 'none: the listing is a part'}",
        ]
    if tree is not None:
        lines.append(
            f"{'tree':<18}{tree['leaves']} leaves, {tree['mids']} mids, "
            f"{format_size(int(tree['structure_bytes']))}, "
            f"{100 * tree['structure_overhead']:.2f} % of the populated memory"
        )
    lines += _linear_text(result)
    if guest.shared_info is not None and tree is not None:
        at = f", PFN {result.walk.fll_pfn}" if result.walk.fll_pfn >= 0 else ""
        lines.append(f"{'frame list list':<18}MFN {guest.shared_info.frame_list_list_mfn}{at}")
    if result.era.policies:
        lines.append(f"{'kernels':<18}{result.era.in_words}")
        lines.append(f"{'':<18}{result.era.evidence}")
    elif guest.shared_info is not None:
        lines.append(f"{'kernels':<18}not told: {result.era.evidence}")
    meaning, advice = result.meaning
    lines.append(f"{'save check':<18}{result.walk.result or 'not made'}")
    if result.failed and result.walk.reason:
        lines.append(f"{'':<18}the toolstack would say: {result.walk.reason}")
    if failing := result.walk.failing:
        lines.append(f"{'':<18}{failing.in_words}")
    lines += [f"{'':<18}{text}" for text in (meaning, advice, result.evidence) if text]
    if result.failed:
        fate, follows = result.fate
        lines.append(f"{'if migrated':<18}{fate}: {follows}")
    lines += [f"{hazard.severity:<18}{hazard.kind}: {hazard.text}" for hazard in result.hazards]
    lines += [f"{'note':<18}{note}" for note in guest.notes]
    facts = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in guest.details.items())
    if facts:
        lines.append(f"{'file':<18}{facts}")
    return "\n".join(lines)
