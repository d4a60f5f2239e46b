"""What a guest lost by a move: its pages before the restore against those after the resume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from oracle.ends import Fault

if TYPE_CHECKING:
    from oracle.reference import Machine


@dataclass
class Losses:
    """PFNs counted over one migration; all 0 where the guest did not get through."""

    lost_pages: int = 0
    ghost_pages: int = 0
    lost_identity_pages: int = 0


def named(guest: Machine) -> set[int]:
    """PFNs that m2p names for a frame of the guest's."""
    return {guest.host.pfn_of(mfn) for mfn in guest.host.owned}


def populated(guest: Machine) -> set[int]:
    """PFNs whose entry is a frame of the guest's that m2p names this PFN for."""
    found = set()
    for mfn in guest.host.owned:
        pfn = guest.host.pfn_of(mfn)
        try:
            if guest.get_phys_to_machine(pfn) == mfn:
                found.add(pfn)
        except Fault:
            continue
    return found


def identity(guest: Machine) -> set[int]:
    """PFNs that read as their own number: tables of these policies hold none."""
    return set()


class Judge:
    """Looks at a guest before its restore, and again once it has got through."""

    def __init__(self, guest: Machine) -> None:
        self.populated = populated(guest)
        self.identity = identity(guest)

    def losses(self, guest: Machine) -> Losses:
        return Losses(
            lost_pages=len(self.populated - populated(guest)),
            ghost_pages=len(named(guest) - self.populated),
            lost_identity_pages=len(self.identity - identity(guest)),
        )
