"""What became of the guests, per policy and migration, from counts of their rows' fates."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from p2mbatch.model import policies
from p2mbatch.model.fates import CORRUPTED, ENDS, FATES, SURVIVED
from p2mbatch.store.fate_counts import FateCounts

if TYPE_CHECKING:
    import pandas as pd


class Survival(NamedTuple):
    """What became of one policy's guests by one migration (0 is the boot)."""

    policy: str
    migration: int
    num_guests: int
    """Guests whose life was to have that many migrations."""
    num_survived: int
    num_corrupted: int
    """Of those that survived, the silently corrupted ones."""
    ends: dict[str, int]
    """How many came to each fate of those that did not survive (`fates.ENDS`)."""

    @property
    def num_ended(self) -> int:
        """How many did not come through."""
        return sum(self.ends.values())

    @property
    def counts(self) -> tuple[int, ...]:
        """All the numbers, to see where they change."""
        return (self.num_guests, self.num_survived, self.num_corrupted, *self.ends.values())


def survivals(counts: FateCounts) -> list[Survival]:
    """Return one entry per policy and migration.

    A guest counts by its row of that migration, or by its last one where its life ended before.
    """
    at: Counter[tuple[str, int, int, str]] = Counter()
    last: Counter[tuple[str, int, int, str]] = Counter()
    planned: dict[str, Counter[int]] = {}
    for (policy, migrations, migration, fate, is_last), count in counts.items():
        at[policy, migrations, migration, fate] += count
        if is_last:
            last[policy, migrations, migration, fate] += count
        if migration == 0:
            planned.setdefault(policy, Counter())[migrations] += count
    entries = []
    for policy in sorted(planned, key=policies.sort_key):
        lengths = planned[policy]
        ended = {length: dict.fromkeys(ENDS, 0) for length in lengths}
        for migration in range(max(lengths) + 1):
            alive = [length for length in lengths if length >= migration]
            now = {fate: sum(at[policy, n, migration, fate] for n in alive) for fate in FATES}
            for length in alive:
                for fate, number in ended[length].items():
                    now[fate] += number
                    ended[length][fate] += last[policy, length, migration, fate]
            entries.append(
                Survival(
                    policy,
                    migration,
                    sum(lengths[length] for length in alive),
                    now[SURVIVED] + now[CORRUPTED],
                    now[CORRUPTED],
                    {fate: now[fate] for fate in ENDS},
                )
            )
    return entries


def summary_frame(counts: FateCounts) -> pd.DataFrame:
    """Return `survivals` as a table: policy, migration, guests, and how many came to each fate."""
    import pandas as pd

    rows = [
        {
            "policy": policies.shown(entry.policy).short,
            "migration": entry.migration,
            "guests": entry.num_guests,
            SURVIVED: entry.num_survived - entry.num_corrupted,
            CORRUPTED: entry.num_corrupted,
            **entry.ends,
        }
        for entry in survivals(counts)
    ]
    return pd.DataFrame(rows, columns=["policy", "migration", "guests", *FATES])
