"""Which eras' kernels are lived in a child, and what is another with each.

An era has the seam's functions that speak with its child (`compiled/child`), and takes what the
tables of scenarios and traces must know of its pages from the built-in policy of its era.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from p2mbatch.base.errors import InputError
from p2mbatch.base.say import one_line
from p2mbatch.kernels.extract import Extracted
from p2mbatch.kernels.roots import THREE_LEVEL
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


def era_of(unit: Extracted, shown: str) -> Era:
    """Return the era of a kernel. Raises `InputError` where it is not lived yet.

    `shown` is how the file is named in messages.
    """
    if unit.era == THREE_LEVEL:
        return _three_level(unit, shown)
    raise InputError(
        f"{one_line(shown)}: a p2m of the {unit.era} era is checked, but not lived yet: "
        "three levels are"
    )


def _three_level(unit: Extracted, shown: str) -> Era:
    taken = next((word for word, name in _BOOT_ALLOCATOR.items() if name in unit.text), None)
    if taken is not None:
        raise InputError(
            f"{one_line(shown)}: its boot asks for {taken}, as kernels from 3.7 on do: checked, "
            "but not lived yet"
        )
    by_old_mfn = "p2m_top_mfn_p" not in {name for name, _, _ in unit.kept}
    changes = {"list_brk_pages": 2 if by_old_mfn else 3, "by_old_mfn": by_old_mfn}
    return Era(MENDED, _load_three_level, changes)


def _load_three_level() -> Operations:
    from p2mbatch.compiled.child.operations import OPERATIONS

    return OPERATIONS
