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
from p2mbatch.kernels.extract import BOOT_ALLOCATOR, Extracted
from p2mbatch.kernels.roots import ARRAYS, THREE_LEVEL, TWO_LEVEL
from p2mbatch.model.era_tables import static_pages
from p2mbatch.model.policies import MENDED

if TYPE_CHECKING:
    from p2mbatch.compiled.policies.operations import Operations


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
    told_by: str = ""
    """What of the file says so, and what would say another."""

    def is_as(self, other: Era) -> bool:
        """Return whether guests of this era and of `other` have the same tables around them."""
        # Of the two 32-bit guests differ by the file's own functions alone.
        alike = self.base == other.base or {self.base, other.base} == {"moved", "identity"}
        return alike and self.load is other.load and self.changes == other.changes


def era_of(unit: Extracted, shown: str) -> Era:
    """Return the era of a kernel. Raises `InputError` where it is not lived.

    `shown` is how the file is named in messages.
    """
    if unit.era == THREE_LEVEL:
        return _three_level(unit, shown)
    if unit.era == TWO_LEVEL:
        return _two_level(unit, shown)
    return _linear(unit)


_LAST_IS_PFN = re.compile(
    r"\bxen_p2m_last_pfn\s*=\s*pfn\s*;|\bWRITE_ONCE\s*\(\s*xen_p2m_last_pfn\s*,\s*pfn\s*\)"
)
"""The hint of 4.3 to 5.13, which is one too low (linear-spec L9)."""


def _linear(unit: Extracted) -> Era:
    """Return which linear p2m it is: by the hint that there is from 4.3 on, and how it moves."""
    from_4_3 = "xen_p2m_last_pfn" in _names(unit)
    flavor = lo.F_REPORTS * from_4_3
    if not from_4_3:
        told_by = "xen_vmalloc_p2m_tree without xen_p2m_last_pfn"
        return Era("linear-3.19", _load_linear, {}, flavor, told_by)
    if _LAST_IS_PFN.search(unit.text):
        told_by = "xen_p2m_last_pfn = pfn; newer kernels round it up"
        return Era("linear-4.4", _load_linear, {}, flavor, told_by)
    told_by = "xen_p2m_last_pfn, nowhere set to pfn itself, as older kernels do"
    return Era("linear", _load_linear, {}, flavor | lo.F_ROUNDS, told_by)


def _marking(unit: Extracted) -> Era:
    """Return which tree of those that mark 1:1 ranges it is."""
    flavor = lo.F_MARKS
    if "p2m_mid_identity" not in _names(unit):
        moves = "revector" in unit.roots
        told_by = f"p2m_identity with{'' if moves else 'out'} xen_revector_p2m_tree"
        more = "; newer kernels have p2m_mid_identity"
        return Era("moved" if moves else "identity", _load_marking, {}, flavor, told_by + more)
    flavor |= lo.F_MID_IDENTITY
    # Its pages come from the boot allocator while there is one: it is built when there are pages.
    if unit.list_from_boot:
        told_by = "p2m_mid_identity, and the list asks for boot's pages; in older kernels for brk"
        return Era("late-list", _load_marking, {}, flavor | lo.F_LATE_LIST, told_by)
    told_by = "p2m_mid_identity, and the list asks for brk; in newer kernels for boot's pages"
    return Era("mid-identity", _load_marking, {}, flavor, told_by)


def _names(unit: Extracted) -> set[str]:
    return {name for name, _, _ in unit.kept}


def _three_level(unit: Extracted, shown: str) -> Era:
    if "identity" in unit.roots and "p2m_identity" in _names(unit):
        return _marking(unit)
    taken = next((said for name, said in BOOT_ALLOCATOR.items() if name in unit.text), None)
    if taken is not None:
        raise InputError(
            f"{one_line(shown)}: its boot asks for {taken}, which of kernels of three levels only "
            "those are lived with that have a set_phys_range_identity and a variable "
            f"p2m_identity: {_lacks(unit)}: checked, but not lived"
        )
    if "m2p_override_init" in _names(unit):
        told_by = "p2m_mid_missing with m2p_override_init; newer kernels have p2m_identity"
        return Era("tail", _load_marking, told_by=told_by)
    by_old_mfn = "p2m_top_mfn_p" not in _names(unit)
    changes = {"list_brk_pages": 2 if by_old_mfn else 3, "by_old_mfn": by_old_mfn}
    told_by = f"p2m_mid_missing with{'out' if by_old_mfn else ''} p2m_top_mfn_p"
    more = "; newer kernels have m2p_override_init, or p2m_identity"
    return Era(MENDED, _load_three_level, changes, told_by=told_by + more)


def _lacks(unit: Extracted) -> str:
    """Return which of the names there is not by which a kernel that marks 1:1 ranges is told."""
    lacking = [] if "identity" in unit.roots else ["set_phys_range_identity"]
    lacking += [] if "p2m_identity" in _names(unit) else ["p2m_identity"]
    return f"it has no {' and no '.join(lacking)}"


def _two_level(unit: Extracted, shown: str) -> Era:
    missing = next((name for name in ARRAYS if name not in unit.arrays), None)
    if missing is not None:
        raise InputError(
            f"{one_line(shown)}: no array {missing} in it: such a p2m of two levels is checked, "
            "but not lived"
        )
    # A resume is told of in another file, which can't call what is static here.
    if "list" in unit.roots and unit.roots["list"].is_static:
        told_by = "static xen_build_mfn_list_list; in other kernels a resume may call it"
        return Era("two-level-none", _load_never_rebuilt, told_by=told_by)
    told_by = "p2m_top without p2m_mid_missing, and a resume rebuilds"
    return Era("two-level", _load_two_level, told_by=told_by)


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
