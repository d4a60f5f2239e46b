"""5.14 and newer, and the stable series mended in 2021: a linear p2m, the hint rounded up.

Source: linear-spec.
"""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.grow import populate_each
from p2mbatch.compiled.jit import kernel
from p2mbatch.compiled.policies import flat, three_lookup
from p2mbatch.compiled.policies.flat import grow_slot
from p2mbatch.compiled.policies.flat_boot import boot_flat
from p2mbatch.compiled.policies.operations import Operations
from p2mbatch.compiled.tables import HostTables, P2MTables


@kernel
def boot(t: P2MTables, h: HostTables, runs: Int64Array) -> int:
    """Do `boot_flat` as this kernel does. Returns OK, a BUG_ or a FAULT_ code."""
    t.state[0].hint_rounds = 1
    t.state[0].reports_table = 1
    return boot_flat(t, h, runs, 0)


@kernel
def grow_leaves(t: P2MTables, h: HostTables, leaves: Int64Array, lazy: bool, first: int) -> int:
    """Do `grow.populate_each` in a linear p2m."""
    return populate_each(t, h, leaves, lazy, first, grow_slot)


OPERATIONS = Operations(
    boot=boot,
    set_runs=flat.set_runs,
    grow_leaves=grow_leaves,
    rebuild=flat.rebuild,
    report=flat.report,
    get=three_lookup.get,
    get_parallel=three_lookup.get,
    get_row=three_lookup.get_row,
)
