"""Which policies a guest can have that was laid out for another: who looks where its pages are.

Kernels of one tree over `mfn_list` and brk place their pages alike; an era's are in places of its
own, but for those of a linear p2m and of two levels, which differ in what they do with them.
"""

from __future__ import annotations

from p2mbatch.base.errors import InputError
from p2mbatch.model.policies import Policy, find, names


def shares_places(one: Policy, other: Policy) -> bool:
    """Return whether a guest laid out for `one` has its pages where `other` looks for them."""
    if not one.is_era or not other.is_era:
        return one.is_era == other.is_era
    kinds = [(policy.is_linear, policy.is_two_level) for policy in (one, other)]
    return one.places == other.places or (kinds[0] == kinds[1] and any(kinds[0]))


def check_places(name: str, policy: str, source: str) -> None:
    """Raise `InputError` where the guest of `source`, laid out for `name`, can't have `policy`."""
    if not shares_places(find(name), find(policy)):
        fitting = [other for other in names() if shares_places(find(name), find(other))]
        raise InputError(
            f"policy: {find(policy).short} places its pages otherwise than {source} has them: use "
            f"{', '.join(fitting)}"
        )
