"""What a report says of guests that several CPUs grow at once: how many that hurts, by kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2mbatch.base.rates import CONFIDENCE, Rate
from p2mbatch.plots.style import digits
from p2mbatch.report.table import Table, TableColumn
from p2mbatch.report.words import listed
from p2mbatch.store.raced import RacedLine, raced_lines

if TYPE_CHECKING:
    import pandas as pd

_NOTE = (
    "Guests that get more before each migration, set by so many CPUs at once, each guest under a "
    "schedule of its own seed. Hurt: crashed, moved wrong, lost pages, or stored through pages "
    "that had been given back, whatever it came from: what one CPU's guests show is no race's. "
    "Pages that the guest never got, since a set returned false, are not lost. Intervals (Clopper "
    f"and Pearson) hold together with {CONFIDENCE:.0%}."
)


def raced_told(frame: pd.DataFrame) -> list[str]:
    """Return what a run says of guests that several CPUs grow, in a sentence; or nothing."""
    lines = [line for line in raced_lines(frame) if line.num_cpus > 1]
    if not lines:
        return []
    most = max(line.num_cpus for line in lines)
    many = len({(line.num_cpus, line.where) for line in lines}) > 1
    kinds: dict[str, list[str]] = {}
    for line in lines:
        if line.num_cpus == most:
            where = f" ({line.where})" if many else ""
            kinds.setdefault(_share(line.hurt), []).append(f"{line.kernel}{where}")
    told = [f"{share} under {listed(kernels)}" for share, kernels in kinds.items()]
    return [
        f"Growth by {most} CPUs at once hurt {'; '.join(told)} "
        f"(intervals hold together with {CONFIDENCE:.0%})."
    ]


def _share(rate: Rate) -> str:
    """Return a rate as a reader sees it, with its interval."""
    low, high = digits(rate.low * 100), digits(rate.high * 100)
    return f"{digits(rate.share * 100)} % ({low} to {high})"


def raced_table(frame: pd.DataFrame) -> Table | None:
    """Return every kernel's guests by how many CPUs grew them; None for runs without such."""
    lines = raced_lines(frame)
    if not lines:
        return None

    def rates(name: str, title: str) -> TableColumn:
        return TableColumn(name, title, "figure", [_share(getattr(o, name)) for o in lines])

    def column(name: str, title: str, kind: str, is_axis: bool) -> TableColumn:
        return TableColumn(name, title, kind, [_value(o, name) for o in lines], is_axis)

    columns = [
        column("kernel", "kernel", "text", True),
        column("where", "growing", "text", True),
        column("num_cpus", "CPUs", "number", True),
        column("num_guests", "guests", "number", False),
        rates("hurt", "hurt"),
        rates("crashed", "crashed"),
        rates("wrong", "moved wrong"),
        rates("lost", "lost pages"),
    ]
    return Table("cpus", columns, _NOTE)


def _value(line: RacedLine, name: str) -> object:
    found: object = getattr(line, name)
    return found
