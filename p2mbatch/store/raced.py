"""What growth by several CPUs at once did to a run's guests, by kernel and by how many CPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from p2mbatch.base.rates import Rate, rates_together
from p2mbatch.model.fates import CRASHED, MOVED_WRONG
from p2mbatch.model.policies import shown
from p2mbatch.store.fates import fates
from p2mbatch.store.live import kernel_age

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ["cell", "lost_pages", "stray_writes", "linux", "policy", "grow_where", "cpus"]


class RacedLine(NamedTuple):
    """Guests of one kernel that so many CPUs grow in one place, each under a schedule of its own.

    The intervals of all lines hold together.
    """

    kernel: str
    """The release, or the policy where none is named."""
    where: str
    """`grow_where`."""
    num_cpus: int
    num_guests: int
    hurt: Rate
    """Those of which any of the three that follow is true, or that stored through a page that a CPU
    had given back."""
    crashed: Rate
    """Of whatever: the line of one CPU says what there is without a race."""
    wrong: Rate
    """Moved wrong."""
    lost: Rate
    """Those that lost pages, in the race or in a migration. Pages that were never set, since a set
    returned false, are not lost."""


def raced_lines(frame: pd.DataFrame) -> list[RacedLine]:
    """Return the lines of a run's table, by where guests grow and by the kernel's age.

    Guests that one CPU grows are there to compare with. Nothing where no guest of the run is grown
    by several.
    """
    if frame.empty or not (frame["cpus"] > 1).any():
        return []
    rows = frame[_COLUMNS][((frame["migration"] > 0) & (frame["grow_bytes"] > 0)).to_numpy(bool)]
    rows = rows.assign(fate=fates(frame).loc[rows.index])
    each = rows.assign(
        crashed=rows["fate"] == CRASHED,
        wrong=rows["fate"] == MOVED_WRONG,
        lost=rows["lost_pages"] > 0,
        stray=rows["stray_writes"] > 0,
    ).groupby("cell", sort=False)
    kinds = ["crashed", "wrong", "lost", "stray"]
    guests = each[kinds].any()
    guests["hurt"] = guests[kinds].any(axis=1)
    names = ["grow_where", "linux", "policy", "cpus"]
    guests = guests.join(each[names].first())
    keys = sorted(guests[names].drop_duplicates().values.tolist(), key=_order)
    found, counts = [], list[tuple[int, int]]()
    for key in keys:
        own = guests[(guests[names] == key).all(axis=1).to_numpy(bool)]
        found.append((key, len(own)))
        counts += [(int(own[kind].sum()), len(own)) for kind in ("hurt", *kinds[:3])]
    rates = rates_together(counts)
    return [
        RacedLine(
            linux or shown(policy).short, str(where), int(cpus), number, *rates[4 * k : 4 * k + 4]
        )
        for k, ((where, linux, policy, cpus), number) in enumerate(found)
    ]


def _order(key: list[object]) -> tuple[object, ...]:
    where, linux, policy, cpus = key
    return (where != "within", where, kernel_age(str(linux), str(policy)), cpus)
