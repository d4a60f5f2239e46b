"""The table at the end of a sweep: per policy and migration, what became of the guests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from p2mbatch.base.words import Words
from p2mbatch.model import policies
from p2mbatch.model.fates import CORRUPTED, ENDS, FATES, SURVIVED
from p2mbatch.store.fates import FATE_COLUMNS, fate_codes
from p2mbatch.store.results import SweepResult


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


def survival(result: SweepResult) -> list[Survival]:
    """Return one entry per policy and migration of `result`, from the store's own tables.

    A guest counts by its row of that migration, or by its last one where its life ended before.
    """
    at: Counter[tuple[str, int, int, str]] = Counter()
    last: Counter[tuple[str, int, int, str]] = Counter()
    planned: dict[str, Counter[int]] = {}
    for policy, migrations, migration, fate, is_last, count in _counts(result):
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


def ends(result: SweepResult) -> dict[str, int]:
    """Return how many guests came to each fate in the end."""
    found = dict.fromkeys(FATES, 0)
    for *_, fate, is_last, count in _counts(result):
        found[fate] += count * is_last
    return found


def _counts(result: SweepResult) -> Iterator[tuple[str, int, int, str, bool, int]]:
    """Yield (policy, planned migrations, migration, fate, whether its row is the last, rows)."""
    for piece in result.blocks(["migration", *FATE_COLUMNS]):
        each = np.repeat(np.arange(len(piece.cells)), piece.num_rows)
        policy, planned = piece.cells.values["policy"], piece.cells.values["migrations"]
        at = piece.rows["migration"]
        assert isinstance(policy, Words)
        assert isinstance(planned, np.ndarray) and isinstance(at, np.ndarray)
        is_last = np.zeros(len(each), np.int64)
        is_last[np.cumsum(piece.num_rows) - 1] = 1
        fate = fate_codes(piece.rows, piece.num_rows).astype(np.int64)
        lengths, length = np.unique(planned, return_inverse=True)
        steps = int(at.max(initial=0)) + 1
        shape = (len(policy.words), len(lengths), steps, len(FATES), 2)
        keys = (policy.codes[each], length[each], at, fate, is_last)
        found, counts = np.unique(np.ravel_multi_index(keys, shape), return_counts=True)
        told = np.stack(np.unravel_index(found, shape), axis=1).tolist()
        for (which, index, migration, code, last), count in zip(told, counts.tolist(), strict=True):
            n = int(lengths[index])
            yield policy.words[which], n, migration, FATES[code], bool(last), count
