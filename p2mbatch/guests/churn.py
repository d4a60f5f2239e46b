"""What a guest does while it is sent live: a round's growth and ballooning, drawn by its seed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID, PAGE_BYTES
from p2mbatch.compiled.hosts import given_frames
from p2mbatch.model.life import Life
from p2mbatch.model.placement import Placement
from p2mbatch.model.runs import frame_runs

if TYPE_CHECKING:
    from p2mbatch.guests.fields import ScenarioFields

_NONE = np.zeros(0, np.int64)


def may_get_more(scenario: ScenarioFields) -> bool:
    """Return whether the guest may get pages that it did not boot with, before or in a move."""
    return bool(scenario.grow_bytes or scenario.churn_bytes)


def most_added(scenario: ScenarioFields) -> int:
    """Return how many pages the guest may get more in all: a round's draw is twice its average."""
    each = scenario.grow_bytes + 2 * scenario.churn_bytes * scenario.rounds
    return each // PAGE_BYTES * scenario.migrations


class Planned(NamedTuple):
    """What a guest is to do in one round."""

    runs: Int64Array
    """int64[k, 3], as a set's: what comes back, what goes, what is new."""
    num_added: int
    """How many pages are new."""
    out: Int64Array
    """PFNs that are ballooned out when it ends, int64[k]."""


class Churn:
    """The rounds of one guest's live migrations."""

    def __init__(self, scenario: ScenarioFields, placement: Placement) -> None:
        self._scenario, self._placement = scenario, placement
        self._out = _NONE
        """PFNs that are ballooned out now."""

    def plan(self, life: Life, migration: int, num_added: int) -> list[Planned]:
        """Return what the guest is to do in each round of its `migration`-th move.

        It got `num_added` pages before. How much is drawn from 0 to twice the scenario's average.
        """
        planned: list[Planned] = []
        out = self._out
        for number in range(self._scenario.rounds):
            back, out = out, self._leaving(life, migration, number)
            added = self._added(migration, number, num_added)
            num_added += len(added)
            runs = [_given(life, back), _gone(out), _given(life, added)]
            planned.append(Planned(np.concatenate(runs), len(added), out))
        return planned

    def done(self, planned: list[Planned]) -> int:
        """Take note that these rounds, at least one, were; return how many pages they added."""
        self._out = planned[-1].out
        return sum(one.num_added for one in planned)

    def _drawn(self, what: str, most: int, *when: int) -> int:
        """Return a number from 0 to `most`, any of them alike."""
        text = ":".join(map(str, ("p2mbatch", what, self._scenario.seed, *when)))
        word = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
        return word * (most + 1) >> 64

    def _added(self, migration: int, number: int, num_added: int) -> Int64Array:
        pages = self._scenario.churn_bytes // PAGE_BYTES
        count = self._drawn("churn", 2 * pages, migration, number)
        return self._placement.added_pages(num_added, count) if count else _NONE

    def _leaving(self, life: Life, migration: int, number: int) -> Int64Array:
        """Return the PFNs that the guest balloons out: in a row, but for tables and holes."""
        pages = self._scenario.balloon_bytes // PAGE_BYTES
        count = self._drawn("balloon", 2 * pages, migration, number)
        if not count:
            return _NONE
        first = self._drawn("from", self._placement.nr_pages - 1, migration, number)
        end = min(first + 2 * count + self._placement.struct_pages, self._placement.nr_pages)
        pfns = np.arange(first, end)
        for begin, length in self._placement.structures.tolist():
            pfns = pfns[(pfns < begin) | (pfns >= begin + length)]
        has, given = np.empty((2, len(pfns)), np.int64)
        life.policy.operations.get(life.tables, life.host, pfns, has)
        given_frames(life.host.par, pfns, given)
        out: Int64Array = pfns[(has == given) & (given != INVALID)][:count]
        return out


def _given(life: Life, pfns: Int64Array) -> Int64Array:
    """Return the runs of a set that gives the guest `pfns`, with the frames that its host has."""
    mfns = np.empty(len(pfns), np.int64)
    given_frames(life.host.par, pfns, mfns)
    return frame_runs(pfns, mfns)


def _gone(pfns: Int64Array) -> Int64Array:
    """Return the runs of a set that takes `pfns` from the guest."""
    return frame_runs(pfns, np.full(len(pfns), INVALID))
