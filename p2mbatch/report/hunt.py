"""What a hunt found, as a table for a terminal."""

from __future__ import annotations

from collections.abc import Collection

from p2mbatch.base.say import counted
from p2mbatch.hunt.hunting import sorted_finds
from p2mbatch.hunt.state import Progress
from p2mbatch.report.table import Table


def finds_table(progress: Progress, known: Collection[str]) -> Table:
    """Return a row for each kind that was found; those of `known` say so."""
    rows = [
        (
            find.kind,
            find.sentence.partition(" (")[0],
            str(find.rule),
            f"{find.life:,}",
            str(find.events),
            "known" if find.kind in known else "new",
        )
        for find in sorted_finds(progress)
    ]
    columns = "kind|what|rule|first life|events|known"
    note = "Each is in the hunt's folder as KIND.trace.json.gz."
    return Table.of_texts("finds", "What was found", note, columns, rows)


def in_words(progress: Progress) -> str:
    """Return how much was lived and what that showed, in a line."""
    seconds = progress.seconds
    rate = f", {progress.all_lives / seconds:,.0f} a second" if seconds else ""
    text = (
        f"{progress.all_lives:,} lives{rate}; {progress.broken:,} broke a rule, "
        f"in {counted(len(progress.finds), 'kind')}"
    )
    if progress.unconfirmed:
        text += f"; {progress.unconfirmed:,} of those looked at could not be confirmed"
    return text
