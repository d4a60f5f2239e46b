"""The registry of toolstacks: which walk a save does, which checks in which order, whose words.

Details keep their names in rows and traces whichever toolstack said so; the real tool's text stands
beside them where a person reads (`said`). Source: history.md section 11; linear-spec L8. The walks
of 4.7 were recorded; those of 4.6 and before are from reading Xen's source.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from p2mbatch.base.errors import InputError
from p2mbatch.compiled import tables as tb
from p2mbatch.model.xen import Version

TREE_ONLY: Final = "tree"
"""In traces of a linear p2m: 4.7's walk of the tree, on a guest that reports a table too."""

USUAL: Final = "4.7"
"""The toolstack where nothing says which."""

_TREE_TEXTS = {
    "max_pfn-too-large": "max_pfn {:#x} too large for p2m tree",
    "bad-fll-mfn": "Bad mfn {:#x} for p2m frame list list",
    "map-fll-failed": "Failed to map p2m frame list list at {:#x}",
    "bad-mfn-in-fll": "Bad mfn at index {} in p2m frame list list",
    "map-fl-failed": "Failed to map p2m frame list",
    "bad-mfn-in-fl": "Bad mfn at index {} in p2m frame list",
    "map-leaves-failed": "Failed to map p2m frames",
    "bad-mfn-in-p2m-frame-list": "Bad mfn in p2m_frame_list[{}]",
}

_LIST_TEXTS = {
    "bad-p2m-cr3": "Bad p2m_cr3 value {:#x}",
    "bad-p2m-range": "Bad virtual p2m address range",
    "map-ptes-failed": "Failed to map page table pages for p2m list (level {})",
    "bad-mfn-in-walk": "Bad mfn during page table walk at level {} of p2m list",
    "p2m-generation-changed": "p2m generation count changed. Migration aborted.",
    "bad-mfn-in-page-table": "Bad mfn for L{}[{}]",
}

_LEGACY_TEXTS = {
    "max_pfn-too-large": "Cannot save this big a guest",
    "bad-fll-mfn": "Timed out waiting for frame list updated.",
    "map-fll-failed": "Couldn't map p2m_frame_list_list",
    "map-fl-failed": "Couldn't map p2m_frame_list",
    "map-leaves-failed": "Couldn't map p2m table",
    "bad-mfn-in-p2m-frame-list": "Frame# in pfn-to-mfn frame list is not in pseudophys",
    "bad-mfn-in-page-table": "Fatal PT race",
    "populate-failed": "Failed to allocate memory for batch.!",
}

_RESTORE_TEXTS = {"populate-failed": "Failed to populate physmap"}

_RESTORED = "restored"
"""Beside the details' names: what writes the new frames over the leaves."""

_FUNCTIONS_46 = dict.fromkeys(_TREE_TEXTS, "map_p2m()") | {
    "bad-mfn-in-page-table": "normalise_pagetable()",
    "populate-failed": "populate_pfns()",
    _RESTORED: "update_guest_p2m()",
}

_LEAVES = ("map-leaves-failed", "bad-mfn-in-p2m-frame-list")

_FUNCTIONS_47 = (
    _FUNCTIONS_46
    | dict.fromkeys(_TREE_TEXTS, "map_p2m_tree()")
    | dict.fromkeys(
        ("bad-p2m-cr3", "bad-p2m-range", "map-ptes-failed", "bad-mfn-in-walk"), "map_p2m_list()"
    )
    | dict.fromkeys(_LEAVES, "map_p2m_leaves()")
    | {"p2m-generation-changed": "x86_pv_check_vm_state_p2m_list()"}
)

_LEGACY_FUNCTIONS = dict.fromkeys(_TREE_TEXTS, "map_and_save_p2m_table()") | {
    "max_pfn-too-large": "xc_domain_save()",
    "bad-fll-mfn": "map_frame_list_list()",
    "map-fll-failed": "map_frame_list_list()",
    "bad-mfn-in-page-table": "canonicalize_pagetable()",
    "populate-failed": "apply_batch()",
    _RESTORED: "xc_domain_restore()",
}


@dataclass(frozen=True)
class Toolstack:
    """One toolstack: what its save looks at, and what it says."""

    name: str
    """As scenarios and traces have it."""
    meaning: str
    """Which releases of Xen came with it, and what sets it apart, in one line."""
    code: int
    """As compiled code knows it (`compiled/tables`)."""
    xen: str
    """The hypervisor that came with it, where nothing says which: empty for one of today."""
    recorded: bool
    """Whether its walk was recorded, or is from reading."""
    texts: dict[str, str] = field(repr=False)
    """What it prints for each detail's name."""
    functions: dict[str, str] = field(repr=False)
    """The function of libxc that does each check, by the detail's name."""

    @property
    def reads_table(self) -> bool:
        """Return whether it reads a guest's linear list, and so tells guests that they may."""
        return self.code == tb.TRIMS

    @property
    def restores(self) -> str:
        """Return the function that writes the new frames over the leaves."""
        return self.functions[_RESTORED]


_TOOLSTACKS = (
    Toolstack(
        "legacy",
        "Xen 4.5 and older: no look at numbers before they are mapped, no trim",
        tb.LEGACY,
        "4.5",
        False,
        _LEGACY_TEXTS,
        _LEGACY_FUNCTIONS,
    ),
    Toolstack(
        "4.6",
        "Xen 4.6: numbers are looked at first, no trim",
        tb.RANGED,
        "4.6",
        False,
        _TREE_TEXTS | _RESTORE_TEXTS | {"bad-mfn-in-page-table": "Bad mfn for L{}[{}]"},
        _FUNCTIONS_46,
    ),
    Toolstack(
        "4.7",
        "Xen 4.7 and newer: equal entries at the end are trimmed, a linear list is read",
        tb.TRIMS,
        "",
        True,
        _TREE_TEXTS | _LIST_TEXTS | _RESTORE_TEXTS,
        _FUNCTIONS_47,
    ),
)

_REGISTRY = {toolstack.name: toolstack for toolstack in _TOOLSTACKS}


def names() -> tuple[str, ...]:
    """Return the toolstacks' names, the oldest first."""
    return tuple(_REGISTRY)


def find(name: str) -> Toolstack:
    """Return the toolstack of that name; raises `InputError` with those that there are."""
    if name not in _REGISTRY:
        raise InputError(f"toolstack: {name!r} is unknown: use {', '.join(names())}")
    return _REGISTRY[name]


def code_of(name: str | None) -> int:
    """Return the toolstack that a trace names as compiled code knows it.

    "tree" is one of 4.7 that does not read a linear list, and so is None one of 4.7.
    """
    return tb.TRIMS if name in (None, TREE_ONLY) else find(str(name)).code


def of_code(code: int) -> Toolstack:
    """Return the toolstack that compiled code knows by `code`."""
    return next(toolstack for toolstack in _TOOLSTACKS if toolstack.code == code)


def came_with(xen: Version) -> str:
    """Return the name of the toolstack that came with a version of Xen."""
    if xen < (4, 6, 0):
        return "legacy"
    return "4.6" if xen < (4, 7, 0) else "4.7"


_NUMBERS = re.compile(r"\d+")


def said(toolstack: str, detail: str | None) -> str:
    """Return what the real tool prints for a row's detail; empty where it has no such check."""
    toolstack = USUAL if toolstack == TREE_ONLY else toolstack
    if not detail or toolstack not in _REGISTRY:
        return ""
    name, _, numbers = detail.partition(" ")
    text = _REGISTRY[toolstack].texts.get(name, "")
    values = [int(number) for number in _NUMBERS.findall(numbers)]
    return text.format(*values) if text.count("{") <= len(values) else text.partition("{")[0]
