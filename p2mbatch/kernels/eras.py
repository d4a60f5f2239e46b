"""Which eras' kernels are lived in a child, and what is another with each.

An era has the seam's functions that speak with its child (`compiled/child`), and takes what the
tables of scenarios and traces must know of its pages from the built-in policy of its era.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from p2mbatch.base.errors import InputError, PolicyError
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.say import one_line
from p2mbatch.compiled.child import layout as lo
from p2mbatch.kernels.build import Program
from p2mbatch.kernels.extract import Extracted
from p2mbatch.kernels.roots import ARRAYS, THREE_LEVEL, TWO_LEVEL
from p2mbatch.model.era_tables import static_pages
from p2mbatch.model.policies import MENDED

if TYPE_CHECKING:
    from p2mbatch.compiled.policies.operations import Operations

_BOOT_ALLOCATOR = {
    "pages of the boot allocator": "p2mk_alloc_bootmem",
    "slab_is_available": "p2mk_slab_is_available",
}
"""What kernels ask for at boot that no child has: the word -> what it is in a unit."""


@dataclass(frozen=True)
class Era:
    """What is another with a kernel of an era."""

    base: str
    """The built-in policy that has the same pages."""
    load: Callable[[], Operations]
    """Returns the compiled functions."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Policy` that are other than those of `base`."""
    flavor: int = 0
    """What its child is told of it (`layout`, F_ bits)."""


def era_of(unit: Extracted, shown: str) -> Era:
    """Return the era of a kernel. Raises `InputError` where it is not lived.

    `shown` is how the file is named in messages.
    """
    if unit.era == THREE_LEVEL:
        return _three_level(unit, shown)
    if unit.era == TWO_LEVEL:
        return _two_level(unit, shown)
    return _linear(unit)


def _linear(unit: Extracted) -> Era:
    """Return which linear p2m it is: by the hint that there is from 4.3 on, and how it moves."""
    from_4_3 = "xen_p2m_last_pfn" in _names(unit)
    flavor = lo.F_LINEAR | lo.F_REPORTS * from_4_3
    if not from_4_3:
        return Era("linear-3.19", _load_linear, {}, flavor)
    if re.search(r"\bxen_p2m_last_pfn\s*=\s*pfn\s*;", unit.text):
        return Era("linear-4.4", _load_linear, {}, flavor)
    return Era("linear", _load_linear, {}, flavor | lo.F_ROUNDS)


def _marking(unit: Extracted) -> Era:
    """Return which tree of those that mark 1:1 ranges it is."""
    flavor = lo.F_MARKS
    if "p2m_mid_identity" not in _names(unit):
        base = "moved" if "revector" in unit.roots else "identity"
        return Era(base, _load_marking, {}, flavor)
    flavor |= lo.F_MID_IDENTITY
    # Its pages come from the boot allocator while there is one: it is built when there are pages.
    if unit.list_from_boot:
        return Era("late-list", _load_marking, {}, flavor | lo.F_LATE_LIST)
    return Era("mid-identity", _load_marking, {}, flavor)


def _names(unit: Extracted) -> set[str]:
    return {name for name, _, _ in unit.kept}


def _three_level(unit: Extracted, shown: str) -> Era:
    if "identity" in unit.roots and "p2m_identity" in _names(unit):
        return _marking(unit)
    taken = next((word for word, name in _BOOT_ALLOCATOR.items() if name in unit.text), None)
    if taken is not None:
        raise InputError(
            f"{one_line(shown)}: its boot asks for {taken}, as kernels from 3.7 on do, and it "
            "has no p2m_identity: checked, but not lived"
        )
    by_old_mfn = "p2m_top_mfn_p" not in _names(unit)
    changes = {"list_brk_pages": 2 if by_old_mfn else 3, "by_old_mfn": by_old_mfn}
    return Era(MENDED, _load_three_level, changes)


def _two_level(unit: Extracted, shown: str) -> Era:
    missing = next((name for name in ARRAYS if name not in unit.arrays), None)
    if missing is not None:
        raise InputError(
            f"{one_line(shown)}: no array {missing} in it: such a p2m of two levels is checked, "
            "but not lived"
        )
    # A resume is told of in another file, which can't call what is static here.
    if "list" in unit.roots and unit.roots["list"].is_static:
        return Era("two-level-none", _load_never_rebuilt)
    return Era("two-level", _load_two_level)


def check_arrays(unit: Extracted, program: Program, max_domain_pages: int) -> None:
    """Raise `PolicyError` where a kernel's arrays are not as long as a p2m of two levels has them.

    `max_domain_pages` is how many PFNs its p2m holds.
    """
    word_bytes = unit.bits // 8
    wanted = static_pages(word_bytes, max_domain_pages)
    for name, (_, size) in zip(unit.arrays, program.arrays, strict=True):
        most = wanted[name] * PAGE_BYTES
        # The list's entries are one for each page of p2m_top_mfn, whatever is behind them.
        least = wanted["p2m_top_mfn"] * word_bytes if name == ARRAYS[-1] else most
        if not least <= size <= most:
            line = next(first for known, _, first in unit.kept if known == name)
            raise PolicyError(
                f"{unit.place(unit.users_file, line)}: {name} has {size} bytes: a p2m of "
                f"{max_domain_pages} pages has {most} there"
            )


def _load_two_level() -> Operations:
    from p2mbatch.compiled.child.two_level import OPERATIONS

    return OPERATIONS


def _load_never_rebuilt() -> Operations:
    from p2mbatch.compiled.child.two_level import NEVER_REBUILT

    return NEVER_REBUILT


def _load_three_level() -> Operations:
    from p2mbatch.compiled.child.operations import OPERATIONS

    return OPERATIONS


def _load_marking() -> Operations:
    from p2mbatch.compiled.child.eras import MARKING

    return MARKING


def _load_linear() -> Operations:
    from p2mbatch.compiled.child import eras

    return eras.LINEAR
