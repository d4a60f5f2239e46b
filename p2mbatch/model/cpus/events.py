"""The event `cpus`: what several CPUs set at once, as a set's result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.model.cpus.race import Choose, Race, Raced
from p2mbatch.model.cpus.schedule import Schedule
from p2mbatch.model.life import Life
from p2mbatch.model.outcomes import EventResult


def set_by_cpus(life: Life, sets: Sequence[Int64Array], key: int) -> EventResult:
    """Let each CPU apply its runs, int64[k, 3] of [pfn, mfn or INVALID, count], under a schedule.

    A set that returns false ends its own CPU's runs, a BUG or a fault those of all. Raises
    `InputError` where the steps of the policy are not modelled.
    """
    return raced(life, sets, Schedule(key))[0]


def raced(life: Life, sets: Sequence[Int64Array], choose: Choose) -> tuple[EventResult, Raced]:
    """Do `set_by_cpus` as `choose` says, and return what there is to tell of it beside."""
    race = Race(life, sets, choose)
    life.begin_event()
    life.keep_presence(np.concatenate(list(sets)))
    done = race.run()
    result = life.result_of(done.status)
    result.entries_set, result.set_returned = done.entries_set, done.returned
    result.placeholder_writes = life.scalar("placeholder_writes")
    return result, done
