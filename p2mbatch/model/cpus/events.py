"""The event `cpus`: what several CPUs set at once, as a set's result; the pages that it lost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import IsStopped
from p2mbatch.base.geometry import FOREIGN_FRAME_BIT
from p2mbatch.model.cpus.race import Choose, Race, Raced
from p2mbatch.model.cpus.schedule import Schedule
from p2mbatch.model.life import Life
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.reads import entries_of
from p2mbatch.model.runs import last_written


def set_by_cpus(life: Life, sets: Sequence[Int64Array], key: int) -> EventResult:
    """Let each CPU apply its runs, int64[k, 3] of [pfn, mfn or INVALID, count], under a schedule.

    A set that returns false ends its own CPU's runs, a BUG or a fault those of all. Raises
    `InputError` where the steps of the policy are not modelled.
    """
    return raced(life, sets, Schedule(key))[0]


def raced(
    life: Life,
    sets: Sequence[Int64Array],
    choose: Choose,
    is_stopped: IsStopped | None = None,
) -> tuple[EventResult, Raced]:
    """Do `set_by_cpus` as `choose` says, and return what there is to tell of it beside.

    The result's `lost_pages` are those that a set which returned true gave the guest and that no
    entry names. Raises `StoppedError` where the work is stopped meanwhile.
    """
    race = Race(life, sets, choose, is_stopped)
    life.begin_event()
    life.keep_presence(np.concatenate(sets))
    done = race.run()
    result = life.result_of(done.status)
    result.entries_set, result.set_returned = done.entries_set, done.returned
    result.placeholder_writes = life.scalar("placeholder_writes")
    if result.ok:
        result.lost_pages = _num_lost(life, sets, done.num_set)
    return result, done


def _num_lost(life: Life, sets: Sequence[Int64Array], num_set: Sequence[int]) -> int:
    """Return how many PFNs hold none of what each CPU set last there, all of it pages."""
    last = (last_written(runs, count) for runs, count in zip(sets, num_set, strict=True))
    pfns, words = np.concatenate([np.stack(each) for each in last], axis=1)
    # Frames of other guests and 1:1 ones are no pages of the guest's.
    flags = life.scalar("flag_bits") or FOREIGN_FRAME_BIT
    is_page = (words >= 0) & (words & flags == 0)
    is_given = is_page & ~np.isin(pfns, pfns[~is_page])
    pfns, words = pfns[is_given], words[is_given]
    found = entries_of(life.policy, life.tables, life.host, pfns)
    return len(np.setdiff1d(pfns, pfns[found == words]))
