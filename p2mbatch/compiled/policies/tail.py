"""2.6.38: `tracked`, with the last leaf's tail INVALID and one more request of brk at boot.

Source: policies-spec P3.
"""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.grow import populate_each
from p2mbatch.compiled.jit import kernel
from p2mbatch.compiled.policies import three_level, three_list, three_lookup
from p2mbatch.compiled.policies.operations import Operations
from p2mbatch.compiled.policies.three_boot import (
    end_boot,
    first_list,
    flag_words,
    hang_boot_leaves,
    old_placeholders,
)
from p2mbatch.compiled.policies.three_level import grow
from p2mbatch.compiled.status import OK
from p2mbatch.compiled.tables import HostTables, P2MTables


@kernel
def boot(t: P2MTables, h: HostTables, ranges: Int64Array) -> int:
    """Build the tree and the first list. Returns OK, a BUG_ or a FAULT_ code.

    No `ranges` are marked: this kernel has no 1:1 entries.
    """
    flag_words(t, h, False)
    status = old_placeholders(t)
    if status == OK:
        status = hang_boot_leaves(t)
    if status == OK:
        status = first_list(t, h)
    return end_boot(t, h) if status == OK else status


@kernel
def grow_leaves(t: P2MTables, h: HostTables, leaves: Int64Array, lazy: bool, first: int) -> int:
    """Do `grow.populate_each` with the growing that the eras of three levels share."""
    return populate_each(t, h, leaves, lazy, first, grow)


OPERATIONS = Operations(
    boot=boot,
    set_runs=three_level.set_runs,
    grow_leaves=grow_leaves,
    rebuild=three_list.rebuild,
    report=three_list.report,
    get=three_lookup.get,
    get_parallel=three_lookup.get,
    get_row=three_lookup.get_row,
)
