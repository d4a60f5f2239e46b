"""The table at the end of a sweep: per policy and migration, what became of the guests."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from p2mbatch.results import SweepResult
from p2mbatch.schema import OUTCOMES, POLICIES

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
    for policy in sorted(planned, key=_policy_order):
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


def _policy_order(policy: str) -> tuple[int, str]:
    return (POLICIES.index(policy) if policy in POLICIES else len(POLICIES), policy)


def _runs(entries: list[Survival], max_lines: int) -> list[tuple[Survival, int]]:
    """Return one policy's entries with equal neighbours folded: (entry, last migration).

    Where there are still more than `max_lines`, only some of those in the middle are kept.
    """
    folded: list[tuple[Survival, int]] = []
    for entry in entries:
        if folded and folded[-1][0].counts == entry.counts:
            folded[-1] = (folded[-1][0], entry.migration)
        else:
            folded.append((entry, entry.migration))
    if len(folded) <= max_lines:
        return folded
    last = len(folded) - 1
    kept = sorted({round(i * last / (max_lines - 1)) for i in range(max_lines)})
    return [folded[index] for index in kept]


def format_table(entries: list[Survival], max_lines: int = 12) -> str:
    """Return `entries` as a text table of at most `max_lines` lines per policy.

    Migrations over which nothing changes share a line; the boot is shown where guests were lost
    in it or never migrated.
    """
    outcomes = [o for o in LOST_OUTCOMES if any(entry.lost[o] for entry in entries)]
    header = ["policy", "migration", "guests", "survived", "silently corrupted", "lost", *outcomes]
    lines: list[list[str]] = []
    for policy in dict.fromkeys(entry.policy for entry in entries):
        own = [entry for entry in entries if entry.policy == policy]
        boot_matters = len(own) == 1 or own[0].num_survived < own[0].num_guests
        for entry, last in _runs(own if boot_matters else own[1:], max_lines):
            first = "boot" if entry.migration == 0 else str(entry.migration)
            lines.append(
                [
                    entry.policy,
                    first if last == entry.migration else f"{first}–{last}",
                    f"{entry.num_guests:,}",
                    f"{entry.num_survived:,}",
                    f"{entry.num_corrupted:,}",
                    f"{sum(entry.lost.values()):,}",
                    *(f"{entry.lost[outcome]:,}" for outcome in outcomes),
                ]
            )
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    text = []
    for line in [header, *lines]:
        cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    text.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(text)
