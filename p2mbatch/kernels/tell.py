"""What was taken of a kernel's file, told to a person."""

from __future__ import annotations

from collections.abc import Iterator

from p2mbatch.base.errors import InputError
from p2mbatch.base.say import counted, one_line
from p2mbatch.kernels.eras import era_of
from p2mbatch.kernels.extract import Extracted
from p2mbatch.kernels.roots import ROOTS, TWO_LEVEL
from p2mbatch.model import policies

_WHAT = {
    "boot": "first build of the p2m",
    "list": "first build of the list, and rebuild",
    "report": "report to the toolstack",
    "get": "get",
    "set": "set",
    "grow": "grow",
    "vmalloc": "move to virtual memory",
    "identity": "mark a range as identity",
    "revector": "move the leaves",
    "early_set": "set at boot",
}


def told(found: Extracted, shown: str) -> Iterator[str]:
    """Yield the lines that say what was taken of a file, which the user calls `shown`."""
    tree = "its tree's asm/xen/page.h" if found.has_tree else "our asm/xen/page.h"
    num_own, num_others = len(found.kept), found.num_items - len(found.kept)
    yield f"{one_line(shown)}: {found.era}, {found.bits}-bit, {tree}"
    yield f"taken      {counted(num_own, 'item')} of {found.num_items}, {num_others} left out"
    yield _era(found, shown)
    yield ""
    yield from _roots(found)
    if found.arrays:
        yield ""
        yield f"arrays     {', '.join(found.arrays)}"
    yield ""
    yield "ends the guest"
    for site in found.sites:
        yield f"  {site.line:>5}  {site.text}  ({site.function})"
    if found.true_pages:
        yield ""
        yield "stores to the list, and which page is meant"
        for store in found.true_pages:
            yield f"  {store.line:>5}  {store.place}  {' or '.join(store.meant)}"


def _era(found: Extracted, shown: str) -> str:
    """Return the line that says which era's machine the file is given, and by what."""
    try:
        era = era_of(found, shown)
    except InputError as error:
        return f"not lived  {one_line(str(error)).removeprefix(f'{one_line(shown)}: ')}"
    name = era.base
    if era.changes.get("by_old_mfn"):
        name = next(name for name in policies.names() if policies.find(name).by_old_mfn)
    return f"lived as   {name}, by {era.told_by}"


def _roots(found: Extracted) -> Iterator[str]:
    absent = []
    for wanted in ROOTS:
        root = found.roots.get(wanted.name)
        if root is not None:
            unseen = wanted.name == "list" and found.era == TWO_LEVEL and root.is_static
            what = "first build of the list; static: no resume calls it" if unseen else None
            yield f"  {root.line:>5}  {root.function}  ({what or _WHAT[wanted.name]})"
        elif found.era in wanted.eras:
            absent.append(wanted.candidates[0])
    if absent:
        yield f"not there  {', '.join(absent)}"
