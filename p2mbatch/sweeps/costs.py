"""What a cell costs, from its scenario alone: time, memory, and whether most of it is Python.

First guesses for batches, admission and dry runs; how long batches are then goes by what was
measured.
"""

from __future__ import annotations

import functools

from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import PAGE_BYTES, geometry
from p2mbatch.guests.fields import FIELDS
from p2mbatch.guests.scenario import Scenario
from p2mbatch.spec.sections import Values

_MEMORY, _SPARSITY, _LAYOUT, _MIGRATIONS, _WORD_BYTES, _GUEST = (
    FIELDS.index(name)
    for name in ("memory_bytes", "sparsity", "layout", "migrations", "word_bytes", "guest")
)

_NS_PER_CELL = 70_000

_NS_PER_EVENT = 45_000

_NS_PER_LEAF_AND_EVENT = {"tail": 8, "scattered": 30, "extents": 50, "guest": 2500}
"""On README's machine, where leaves that nothing touches are not made."""

_NS_PER_RESIDENT_LEAF_AND_EVENT = 900

_SHORT_EVENT_NS = 150_000
"""An event whose kernels take less is mostly Python around calls of a few microseconds: that of a
64-bit guest of 32 GiB without holes, or of 8 GiB with scattered ones."""


def _leaves_ns(values: Values, resident: str) -> int:
    """Return about how long the kernels of one event take."""
    leaves = int(values[_MEMORY] // (PAGE_BYTES * geometry(values[_WORD_BYTES]).entries))
    if resident == "all":
        return leaves * _NS_PER_RESIDENT_LEAF_AND_EVENT
    # A guest without holes is the same in every layout.
    layout = values[_LAYOUT] if values[_SPARSITY] or values[_GUEST] else "tail"
    return leaves * _NS_PER_LEAF_AND_EVENT[layout]


def cost_ns(values: Values, resident: str = "auto") -> int:
    """Return about how long the cell of these canonical values runs on one thread."""
    per_event = _NS_PER_EVENT + _leaves_ns(values, resident)
    return int(_NS_PER_CELL + per_event * (values[_MIGRATIONS] + 1))


def is_mostly_python(values: Values, resident: str = "auto") -> bool:
    """Return whether the cell's kernels are so short that a second thread only gets in its way.

    Each of a cell's kernel calls hands over the interpreter's lock. Where it is wanted back within
    microseconds, two threads spend more on waking each other than the kernels take.
    """
    return _leaves_ns(values, resident) < _SHORT_EVENT_NS


@functools.lru_cache(maxsize=16384)
def _memory_bytes(values_but_seed: Values, resident: str) -> int:
    """Return what a cell needs; the seed is last in a cell's values and plays no part in it."""
    from p2mbatch.guests.stage import estimate_memory_bytes

    fields = dict(zip(FIELDS, (*values_but_seed, 0), strict=True))
    try:
        return estimate_memory_bytes(Scenario.make(**fields), resident)
    except InputError:
        return 0


def memory_bytes(values: Values, resident: str) -> int:
    """Return about what the cell of these canonical values needs while it runs, in bytes.

    One that no guest can be (a sample draws such ones) needs nothing: it fails before it starts.
    """
    return _memory_bytes(values[:-1], resident)
