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
from p2mbatch.guests.fields import FIELDS
from p2mbatch.guests.scenario import Scenario
from p2mbatch.spec.sections import Values

_NS_PER_CELL = 6_000

_NS_PER_EVENT = 2_500

_NS_PER_STEPPED_CELL = 70_000

_NS_PER_STEPPED_EVENT = 45_000

_NS_PER_LEAF_AND_EVENT = {"tail": 8, "scattered": 30, "extents": 50, "guest": 2500}
"""On README's machine, where leaves that nothing touches are not made."""

_NS_PER_RESIDENT_LEAF_AND_EVENT = 900


def cost_ns_each(cells: Columns, resident: str = "auto") -> Float64Array:
    """Return about how long each of these cells runs on one thread."""
    from p2mbatch.guests.batch.cells import covered

    events = plain(cells["migrations"]) + 1.0
    batched = covered(cells)
    per_event = np.where(batched, _NS_PER_EVENT, _NS_PER_STEPPED_EVENT) + _leaves_ns(
        cells, resident
    )
    found: Float64Array = np.where(batched, _NS_PER_CELL, _NS_PER_STEPPED_CELL) + per_event * events
    return found


def _leaves_ns(cells: Columns, resident: str) -> Int64Array:
    """Return about how long the kernels of one event take."""
    entries = PAGE_BYTES // plain(cells["word_bytes"])
    leaves = plain(cells["memory_bytes"]) // (PAGE_BYTES * entries)
    # A guest without holes is the same in every layout.
    is_full = (plain(cells["sparsity"]) == 0) & ~told(cells["guest"], bool).astype(np.bool_)
    costs = told(cells["layout"], lambda layout: _NS_PER_LEAF_AND_EVENT.get(layout, 50))
    costs[is_full] = _NS_PER_LEAF_AND_EVENT["tail"]
    if resident == "all":
        costs[:] = _NS_PER_RESIDENT_LEAF_AND_EVENT
    found: Int64Array = leaves * costs
    return found


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
