"""The table at the end of a sweep: what became of the guests, in few lines."""

from __future__ import annotations

from p2mbatch.model.fates import CORRUPTED, ENDS, SURVIVED
from p2mbatch.report.table import Table, TableColumn
from p2mbatch.store.names import told_apart
from p2mbatch.store.survival import Survival


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


def summary_table(entries: list[Survival], max_lines: int = 12) -> Table:
    """Return what became of the guests in at most `max_lines` rows per policy.

    Migrations over which nothing changes share a row; the boot is shown where guests ended in it
    or never migrated.
    """
    rows: list[tuple[Survival, int]] = []
    for policy in dict.fromkeys(entry.policy for entry in entries):
        own = [entry for entry in entries if entry.policy == policy]
        boot_matters = len(own) == 1 or own[0].num_survived < own[0].num_guests
        rows += _runs(own if boot_matters else own[1:], max_lines)

    def counts(title: str, values: list[int]) -> TableColumn:
        return TableColumn(title, title, "number", values)

    found = [entry for entry, _ in rows]
    ends = [fate for fate in ENDS if any(entry.ends[fate] for entry in entries)]
    names = told_apart(dict.fromkeys(entry.policy for entry in entries))
    policies = [names[entry.policy] for entry in found]
    columns = [
        TableColumn("policy", "policy", "text", policies),
        TableColumn("migration", "migration", "figure", [_span(*row) for row in rows]),
        counts("guests", [entry.num_guests for entry in found]),
        counts(SURVIVED, [entry.num_intact for entry in found]),
        counts(CORRUPTED, [entry.num_corrupted for entry in found]),
        *(counts(fate, [entry.ends[fate] for entry in found]) for fate in ends),
    ]
    return Table("summary", columns)


def _span(entry: Survival, last: int) -> str:
    """Return the migrations from that of `entry` to `last`, as a reader sees them."""
    first = "boot" if entry.migration == 0 else str(entry.migration)
    return first if last == entry.migration else f"{first}–{last}"
