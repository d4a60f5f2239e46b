"""How many CPUs may set how much at once, and under which policies."""

from __future__ import annotations

from p2mbatch.base.errors import InputError
from p2mbatch.model.policies import Policy

MAX_CPUS = 64
"""CPUs that grow one guest at the same time, at most."""

MAX_ENTRIES = 1 << 20
"""Entries of one race: each is three steps at least, one after the other."""

MAX_TRACE_ENTRIES = 1 << 22
"""Entries of all races of one trace: minutes of plain Python."""

MAX_KEY = (1 << 64) - 1


def check_races(policy: Policy, where: str) -> None:
    """Raise `InputError` naming `where` if no steps are modelled for a policy."""
    if not policy.races:
        raise InputError(
            f"{where}: how several CPUs grow a guest of policy {policy.short} at once is not "
            "modelled"
        )
