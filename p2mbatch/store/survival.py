"""The table at the end of a sweep: per policy and migration, what became of the guests."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from p2mbatch.model import policies
from p2mbatch.store.columns import OUTCOMES
from p2mbatch.store.results import SweepResult

LOST_OUTCOMES = OUTCOMES[1:]

_QUERY = """
SELECT policy, migrations, migration, outcome, strays > 0, COUNT(*)
FROM (
    SELECT c.policy, c.migrations, r.migration, r.outcome,
           SUM(r.stray_writes) OVER (PARTITION BY r.number ORDER BY r.migration) AS strays
    FROM rows r JOIN cells c ON c.number = r.number
)
GROUP BY 1, 2, 3, 4, 5
"""


class Survival(NamedTuple):
    """What became of one policy's guests by one migration (0 is the boot)."""

    policy: str
    migration: int
    num_guests: int
    """Guests whose life was to have that many migrations."""
    num_survived: int
    num_corrupted: int
    """Of those that survived, the ones with stray writes so far: damaged, and nobody told."""
    lost: dict[str, int]
    """How many were lost by then, by outcome (`LOST_OUTCOMES`)."""

    @property
    def counts(self) -> tuple[int, ...]:
        """All the numbers, to see where they change."""
        return (self.num_guests, self.num_survived, self.num_corrupted, *self.lost.values())


def survival(result: SweepResult) -> list[Survival]:
    """Return one entry per policy and migration of `result`, from the store's own tables."""
    at: Counter[tuple[str, int, int, str, bool]] = Counter()
    planned: dict[str, dict[int, int]] = {}
    for policy, migrations, migration, outcome, strayed, count in result.query(_QUERY):
        at[policy, migrations, migration, outcome, bool(strayed)] += count
        if migration == 0:
            lengths = planned.setdefault(policy, {})
            lengths[migrations] = lengths.get(migrations, 0) + count
    entries = []
    for policy in sorted(planned, key=policies.sort_key):
        lengths = planned[policy]
        lost = {length: dict.fromkeys(LOST_OUTCOMES, 0) for length in lengths}
        for migration in range(max(lengths) + 1):
            alive = [length for length in lengths if length >= migration]
            for length in alive:
                for outcome in LOST_OUTCOMES:
                    for strayed in (False, True):
                        number = at[policy, length, migration, outcome, strayed]
                        lost[length][outcome] += number
            corrupted = sum(at[policy, length, migration, "ok", True] for length in alive)
            intact = sum(at[policy, length, migration, "ok", False] for length in alive)
            entries.append(
                Survival(
                    policy,
                    migration,
                    sum(lengths[length] for length in alive),
                    corrupted + intact,
                    corrupted,
                    {o: sum(lost[length][o] for length in alive) for o in LOST_OUTCOMES},
                )
            )
    return entries
