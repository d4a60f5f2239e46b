"""What a sweep ends in on a terminal: what was asked, the table, how many cells and rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2mbatch.base import terminal
from p2mbatch.base.say import counted, one_line, say
from p2mbatch.guests.fields import FIELDS

if TYPE_CHECKING:
    from p2mbatch.spec.sweep_spec import SweepSpec
    from p2mbatch.store.results import SweepResult


def _grows_on_cpus(spec: SweepSpec) -> bool:
    """Return whether a spec's guests may be grown by several CPUs: only then is that looked for."""
    if any(section.axis("cpus") is not None for section in (*spec.grid, *spec.sample)):
        return True
    at = FIELDS.index("cpus")
    return any(cell.values[at] > 1 for cell in spec.cells)


def say_ending(result: SweepResult, out: object) -> None:
    """Print the table of the sweep in the store `out`, as far as it has come."""
    from p2mbatch.report.summary import summary_table
    from p2mbatch.report.words import together
    from p2mbatch.store.survival import ends, survival

    progress, spec = result.progress, result.spec if result.specs else None
    width = terminal.width()
    if spec is not None and spec.question:
        say(one_line(spec.question))
    if progress.num_finished:
        say(summary_table(survival(result)).to_text(width), fates=True)
    if spec is not None and spec.sample and progress.num_finished:
        say(together(ends(result)))
    if spec is not None and _grows_on_cpus(spec):
        from p2mbatch.report.raced import raced_table

        if (raced := raced_table(result.compact)) is not None:
            say(raced.to_text(width))
    say(
        f"{counted(progress.num_finished, 'cell')}, {counted(progress.num_rows, 'row')} "
        f"in {one_line(out)}"
    )
