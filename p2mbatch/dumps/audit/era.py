"""Which kernels a guest's file can be of: what its p2m shows of the era that built it.

Told from the shared info page (a linear list is reported from Linux 4.3 on), from the levels of the
guest's own side, from which addresses link its leaves (3.7 and later move them, on 64-bit) and from
how many pages of brk lie between `p2m_missing` and the frame list list. Source: policies-spec, the
order in which each era takes its pages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from p2mbatch.dumps.audit.structures import NO_TOP, Structures
from p2mbatch.dumps.audit.walk_state import Walk
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.model.policies import Policy, find, names


class Era(NamedTuple):
    """The kernels that fit."""

    policies: tuple[str, ...]
    """The policies that have such a p2m, in the order of all tables; () where nothing tells."""
    evidence: str
    """What in the file says so, or why nothing does."""

    @property
    def in_words(self) -> str:
        """The kernels and their policies in one line, "" where nothing tells."""
        kernels = map(find, self.policies)
        return "; ".join(f"{of.releases or of.meaning} ({of.name})" for of in kernels)


def era_of(guest: DumpGuest, walk: Walk, structures: Structures) -> Era:
    """Return the era of `guest`'s kernel as far as the file shows it."""
    shared = guest.shared_info
    if shared is not None and shared.p2m_cr3:
        return _linear_era(guest, shared.max_pfn)
    if structures.reason == NO_TOP and _is_static(guest, walk):
        return Era(
            _those(lambda policy: policy.is_two_level),
            "a page links the leaves by address and no page links that, and the frame list list "
            "ends in zeros: two levels, in arrays of the kernel image",
        )
    if not structures.found or structures.missing < 0:
        return Era((), structures.reason or "p2m_missing was not found")
    moved = structures.boot_leaf_base != structures.pointer_base
    distance = walk.fll_pfn - structures.missing
    own = set(structures.mids.values()) - {structures.mid_missing}
    num_mids = sum(structures.missing < pfn < walk.fll_pfn for pfn in own)
    trees = [find(name) for name in names() if _has_tree(find(name))]
    trees = [policy for policy in trees if policy.moves_leaves(guest.word_bytes) == moved]
    fitting = tuple(
        policy.name
        for policy in trees
        if not policy.late_list and policy.list_distance(num_mids, guest.word_bytes) == distance
    )
    where = "its leaves are linked by another address than its mids" if moved else (
        "its leaves are linked by the same address as its mids"
    )  # fmt: skip
    if fitting:
        text = f"the frame list list lies {distance} pages behind p2m_missing, and {where}"
        return Era(fitting, text)
    if moved:
        return Era(tuple(policy.name for policy in trees), f"{where}: Linux 3.7 and later")
    return Era((), f"the frame list list lies {distance} pages behind p2m_missing: in no known era")


def _those(fits: Callable[[Policy], bool]) -> tuple[str, ...]:
    """Return the policies of real kernels that `fits` is true for."""
    return tuple(name for name in names() if fits(find(name)))


def _has_tree(policy: Policy) -> bool:
    """Return whether it is a kernel's tree of three levels."""
    return not (policy.is_linear or policy.is_two_level or policy.own) and policy.rebuilds


def _is_static(guest: DumpGuest, walk: Walk) -> bool:
    """Return whether the list is of static arrays: zeros where nothing was ever stored."""
    page = guest.pages.read(walk.fll_pfn) if walk.fll_pfn >= 0 else None
    return page is not None and page.complete and int(page.words[-1]) == 0


def _linear_era(guest: DumpGuest, max_pfn: int) -> Era:
    if guest.word_bytes == 4:
        return Era((), "a linear list in a 32-bit guest: Linux 4.3 to 5.8, which is not modelled")
    reported = "the shared info page reports a linear list"
    if max_pfn % guest.geometry.entries:
        kernels = _those(lambda policy: policy.is_linear and policy.ends_within)
        return Era(kernels, f"{reported}, and max_pfn {max_pfn} ends within a leaf")
    kernels = _those(lambda policy: policy.is_linear and not policy.whole_area)
    return Era(kernels, f"{reported}, and max_pfn ends at a leaf's end")
