"""What cells cost, from their scenarios alone: time and memory.

First guesses for batches, admission and dry runs; how long batches are then goes by what was
measured.
"""

from __future__ import annotations

import functools

import numpy as np

from p2mbatch.base.arrays import Float64Array, Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.words import Columns, plain, told
from p2mbatch.guests.fields import FIELDS, IDENTITY
from p2mbatch.guests.scenario import Scenario
from p2mbatch.model.policies import find, is_known
from p2mbatch.spec.sections import Values

_NS_PER_CELL = 6_000

_NS_PER_EVENT = 2_500

_NS_PER_STEPPED_CELL = 70_000

_NS_PER_STEPPED_EVENT = 45_000

_NS_PER_LEAF_AND_EVENT = {"tail": 8, "scattered": 30, "extents": 50, "guest": 2500}
"""On README's machine, where leaves that nothing touches are not made."""

_NS_PER_RESIDENT_LEAF_AND_EVENT = 900

_NS_PER_LOST_LEAF_AND_EVENT = 1200
"""Of a p2m of two levels, which loses leaves that come after boot: each is made to be counted."""

_NS_PER_AREA_AND_EVENT = 70_000
"""Of a linear p2m whose area is walked whole, 512 GiB unless a cell says otherwise."""

_NS_PER_HOLE_PAGE_AND_EVENT = 14
"""A 1:1 page is looked at by itself."""

_NS_PER_LIVE_LEAF = 150
"""A live save notes each leaf."""

_NS_PER_PAGE = {"tail": 30, "extents": 40, "scattered": 400}
"""A page that a guest gets or gives back once it has booted, by how those lie."""

_NS_PER_RACED_PAGE = 3 * 7_500
"""Of what several CPUs set: three steps at least, of plain Python."""

_NS_PER_TOUCHED_LEAF_AND_EVENT = 5_000
"""A leaf that has such a page: it is made, and from then on memory."""


def cost_ns_each(cells: Columns, resident: str = "auto") -> Float64Array:
    """Return about how long each of these cells runs on one thread."""
    from p2mbatch.guests.batch.cells import covered

    events = plain(cells["migrations"]) + 1.0
    batched = covered(cells)
    per_event = np.where(batched, _NS_PER_EVENT, _NS_PER_STEPPED_EVENT) + _leaves_ns(
        cells, resident
    )
    found: Float64Array = np.where(batched, _NS_PER_CELL, _NS_PER_STEPPED_CELL) + per_event * events
    return found + _later_ns(cells)


def _entries(cells: Columns) -> Int64Array:
    found: Int64Array = PAGE_BYTES // plain(cells["word_bytes"])
    return found


def _leaves(cells: Columns) -> Int64Array:
    """Return how many leaves the guests' spans have."""
    found: Int64Array = plain(cells["memory_bytes"]) // (PAGE_BYTES * _entries(cells))
    return found


def _leaves_ns(cells: Columns, resident: str) -> Int64Array:
    """Return about how long the kernels of one event take."""
    # A guest without holes is the same in every layout.
    is_full = (plain(cells["sparsity"]) == 0) & ~told(cells["guest"], bool).astype(np.bool_)
    costs = told(cells["layout"], lambda layout: _NS_PER_LEAF_AND_EVENT.get(layout, 50))
    loses = told(cells["policy"], _loses_leaves) & told(cells["layout"], "extents".__eq__)
    costs[loses != 0] = _NS_PER_LOST_LEAF_AND_EVENT
    costs[is_full] = _NS_PER_LEAF_AND_EVENT["tail"]
    if resident == "all":
        costs[:] = _NS_PER_RESIDENT_LEAF_AND_EVENT
    has_hole = told(cells["layout"], IDENTITY.__eq__)
    holes = np.minimum(plain(cells["hole_bytes"]), plain(cells["memory_bytes"])) // PAGE_BYTES
    areas = told(cells["policy"], _walks_area) * _NS_PER_AREA_AND_EVENT
    found: Int64Array = _leaves(cells) * costs + has_hole * holes * _NS_PER_HOLE_PAGE_AND_EVENT
    return found + areas


def _loses_leaves(policy: str) -> bool:
    return is_known(policy) and find(policy).is_two_level


def _walks_area(policy: str) -> bool:
    return is_known(policy) and find(policy).is_linear and find(policy).whole_area


def _later_ns(cells: Columns) -> Float64Array:
    """Return about how long takes what guests get and give back once they have booted.

    What goes in one round comes back in the next.
    """
    moves, rounds = plain(cells["migrations"]) * 1.0, plain(cells["rounds"])
    is_live = told(cells["live"], "yes".__eq__)
    each = (plain(cells["churn_bytes"]) + 2.0 * plain(cells["balloon_bytes"])) / PAGE_BYTES
    grown = plain(cells["grow_bytes"]) / PAGE_BYTES
    # No more than there are: of what a guest gets once, and of what it gives back in a round.
    span = plain(cells["memory_bytes"]) / PAGE_BYTES
    pages = moves * (np.minimum(grown, span) + rounds * np.minimum(each, 2 * span))
    per_page = told(cells["layout"], lambda layout: _NS_PER_PAGE.get(layout, _NS_PER_PAGE["tail"]))
    lies_apart = told(cells["layout"], "scattered".__eq__)
    in_a_row = pages / _entries(cells) + moves * ((grown > 0) + rounds * (each > 0))
    leaves = _leaves(cells)
    touched = np.minimum(np.where(lies_apart, pages, in_a_row), leaves)
    found: Float64Array = touched * (moves + 1) * _NS_PER_TOUCHED_LEAF_AND_EVENT
    found += pages * per_page + moves * is_live * leaves * _NS_PER_LIVE_LEAF
    raced = moves * np.minimum(grown, span) * (plain(cells["cpus"]) > 1)
    return found + raced * _NS_PER_RACED_PAGE


def memory_bytes_each(cells: Columns, resident: str = "auto") -> Int64Array:
    """Return about what each of these cells needs while it runs, in bytes.

    One that no guest can be (a sample draws such ones) needs nothing: it fails before it starts.
    """
    from p2mbatch.guests.batch.cells import values_at
    from p2mbatch.guests.batch.lives import needed_bytes

    found, known = needed_bytes(cells, resident)
    for k in np.flatnonzero(~known).tolist():
        found[k] = _memory_bytes(values_at(cells, k)[:-1], resident)
    return found


@functools.lru_cache(maxsize=16384)
def _memory_bytes(values_but_seed: Values, resident: str) -> int:
    """Return what a cell needs; the seed is last in a cell's values and plays no part in it."""
    from p2mbatch.guests.stage import estimate_memory_bytes

    fields = dict(zip(FIELDS, (*values_but_seed, 0), strict=True))
    try:
        return estimate_memory_bytes(Scenario.make(**fields), resident)
    except InputError:
        return 0
