"""By which of the race explorer's steps a policy's kernel grows its p2m on several CPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2mbatch.compiled.race import layout as at
from p2mbatch.model.cpus.limits import check_races
from p2mbatch.model.policies import Policy

_CODES: Final = {"old": at.OLD, "orig": at.ORIG, "new": at.NEW}

_NO_REPORT: Final = {at.K3: at.K4, at.K5: at.K6, at.J3: at.J4, at.J5: at.J6, at.Z1: at.T1}
"""Steps of a kernel that has no p2m_generation and no hint, each with the one in its place."""


@dataclass(frozen=True)
class Racing:
    """A policy's steps: one of the explorer's kernels, and what is otherwise."""

    code: int
    skips: dict[int, int]
    """Steps that the kernel has not, each with the one in its place."""
    repairs_list: bool
    """Whether who loses at the list goes on with the page that won, as kernel `loser` does."""
    ends_at_pfn: bool
    """Whether a higher end is the PFN itself: before the repair of max_pfn in 2021."""


def racing_of(policy: Policy) -> Racing:
    """Return a policy's steps. Raises `InputError` where they are not modelled."""
    check_races(policy, "cpus")
    return Racing(
        code=_CODES[policy.races],
        skips=_NO_REPORT if policy.whole_area else {},
        repairs_list=policy.late_list,
        ends_at_pfn=policy.ends_within,
    )
