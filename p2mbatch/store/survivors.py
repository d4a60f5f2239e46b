"""What became of the guests, per policy and migration, from counts of their rows' fates."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from p2mbatch.model import policies
from p2mbatch.model.fates import CORRUPTED, ENDS, FATES, SURVIVED
from p2mbatch.store.fate_counts import FateCounts
from p2mbatch.store.names import told_apart

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
    def num_intact(self) -> int:
        """How many came through with all that they had."""
        return self.num_survived - self.num_corrupted

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
    # Of each policy: rows by migration and fate, those that end a life early, and lives by length.
    now: dict[str, Counter[tuple[int, str]]] = {}
    ended: dict[str, Counter[tuple[int, int, str]]] = {}
    planned: dict[str, Counter[int]] = {}
    for (policy, migrations, migration, fate, is_last), count in counts.items():
        now.setdefault(policy, Counter())[migration, fate] += count
        if is_last and migration < migrations:
            ended.setdefault(policy, Counter())[migration, migrations, fate] += count
        if migration == 0:
            planned.setdefault(policy, Counter())[migrations] += count
    entries = []
    for policy in sorted(planned, key=policies.sort_key):
        entries += _of_policy(policy, planned[policy], now[policy], ended.get(policy, Counter()))
    return entries


def _of_policy(
    policy: str,
    planned: Counter[int],
    now: Counter[tuple[int, str]],
    ended: Counter[tuple[int, int, str]],
) -> list[Survival]:
    """Return a policy's entries.

    `planned` is lives by their length, `now` rows by migration and fate, `ended` lives that ended
    early by the migration that they ended in, their length and their fate.
    """
    entries = []
    num_guests = planned.total()
    before = dict.fromkeys(FATES, 0)
    begins: dict[int, Counter[str]] = {}
    stops: dict[int, Counter[str]] = {}
    for (migration, length, fate), count in ended.items():
        # It counts from the migration behind its last row on, for as long as it was to live.
        begins.setdefault(migration + 1, Counter())[fate] += count
        stops.setdefault(length + 1, Counter())[fate] += count
    for migration in range(max(planned) + 1):
        for fate, count in begins.get(migration, Counter()).items():
            before[fate] += count
        for fate, count in stops.get(migration, Counter()).items():
            before[fate] -= count
        here = {fate: before[fate] + now[migration, fate] for fate in FATES}
        entries.append(
            Survival(
                policy,
                migration,
                num_guests,
                here[SURVIVED] + here[CORRUPTED],
                here[CORRUPTED],
                {fate: here[fate] for fate in ENDS},
            )
        )
        num_guests -= planned[migration]
    return entries


def summary_frame(counts: FateCounts) -> pd.DataFrame:
    """Return `survivals` as a table: policy, migration, guests, and how many came to each fate."""
    import pandas as pd

    entries = survivals(counts)
    names = told_apart(dict.fromkeys(entry.policy for entry in entries))
    rows = [
        {
            "policy": names[entry.policy],
            "migration": entry.migration,
            "guests": entry.num_guests,
            SURVIVED: entry.num_intact,
            CORRUPTED: entry.num_corrupted,
            **entry.ends,
        }
        for entry in entries
    ]
    return pd.DataFrame(rows, columns=["policy", "migration", "guests", *FATES])
