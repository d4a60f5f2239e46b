"""Plain-text tables for the terminal."""

from __future__ import annotations

from p2mbatch.model.fates import CORRUPTED, ENDS, SURVIVED
from p2mbatch.model.policies import shown
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


def format_table(entries: list[Survival], max_lines: int = 12) -> str:
    """Return `entries` as a text table of at most `max_lines` lines per policy.

    Migrations over which nothing changes share a line; the boot is shown where guests ended in it
    or never migrated.
    """
    ends = [fate for fate in ENDS if any(entry.ends[fate] for entry in entries)]
    header = ["policy", "migration", "guests", SURVIVED, CORRUPTED, *ends]
    lines: list[list[str]] = []
    for policy in dict.fromkeys(entry.policy for entry in entries):
        own = [entry for entry in entries if entry.policy == policy]
        boot_matters = len(own) == 1 or own[0].num_survived < own[0].num_guests
        for entry, last in _runs(own if boot_matters else own[1:], max_lines):
            first = "boot" if entry.migration == 0 else str(entry.migration)
            lines.append(
                [
                    shown(entry.policy).short,
                    first if last == entry.migration else f"{first}–{last}",
                    f"{entry.num_guests:,}",
                    f"{entry.num_survived:,}",
                    f"{entry.num_corrupted:,}",
                    *(f"{entry.ends[fate]:,}" for fate in ends),
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
