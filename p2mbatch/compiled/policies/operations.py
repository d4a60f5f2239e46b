"""What a policy is in compiled code: one function for each operation on a guest.

Nothing outside of this folder asks which policy a guest has: it calls the guest's operations.
They are called once for each operation (a boot, a run of sets, a rebuild), never once for a leaf.
Common loops (`grow.set_each`, `lists.each_mid`) take a policy's own step as an argument that is
known when they are compiled, so that the step costs what any call does.

Python calls the compiled function itself. Measured with a guest's tables as arguments: 1.9 us so,
9.5 us through a caller that is handed the function as a value of numba's `FunctionType`, and 0.2 us
for each such call that compiled code makes: much for a leaf, little for an operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.status import OK
from p2mbatch.compiled.tables import (
    HostTables,
    P2MTables,
)


class Operations(NamedTuple):
    """A policy's compiled functions. All modify the tables in place, raise nothing and return a
    status code (`status`), if anything. `t` are the guest's tables, `h` those of its host.
    """

    boot: Callable[..., int]
    """Build what the kernel keeps its p2m in over the loaded `mfn_list`, the first list, and report
    it: all that boot does, what it takes from brk included. Takes `t`, `h` and the 1:1 ranges to
    mark (int64[k, 2]: start, end), which only some kernels do; that of a linear p2m takes the runs
    of `flat_boot.boot_flat`."""
    set_runs: Callable[[P2MTables, HostTables, Int64Array, int], int]
    """`set_phys_to_machine` over runs (int64[k, 3]: pfn, mfn or INVALID, count), leaving out the
    first so many entries: as `grow.set_each`."""
    grow_leaves: Callable[[P2MTables, HostTables, Int64Array, bool, int], int]
    """Populate whole leaves on a function host: as `grow.populate_each`."""
    rebuild: Callable[[P2MTables, HostTables, int], int]
    """What a resume does with the list, from leaf x on. MORE_ROOM asks for a call with grown tables
    and `State.position`."""
    report: Callable[[P2MTables, HostTables], int]
    """Set what the toolstack finds the list by."""
    get: Callable[[P2MTables, HostTables, Int64Array, Int64Array], None]
    """`get_phys_to_machine` of each PFN (int64[k]) to another int64[k]: as `lookup.lookup`."""
    get_parallel: Callable[[P2MTables, HostTables, Int64Array, Int64Array], None]
    """`get` on all cores."""
    get_row: Callable[[P2MTables, HostTables, int, Int64Array], None]
    """The entries of the PFNs from one on to int64[k], WILD behind a wild pointer."""
    rebuild_mids: Callable[[P2MTables, int, Int64Array, Int64Array], int] | None = None
    """A whole rebuild below a leaf on all cores, where the policy has one: as
    `tracked.rebuild_mids`."""


def rebuild_parallel(operations: Operations, t: P2MTables, h: HostTables) -> int:
    """Do `rebuild` from leaf 0 on all cores, after boot; returns as it does.

    What is not plain, and a policy that has no parallel rebuild, is left to one thread.
    """
    if operations.rebuild_mids is None:
        return int(operations.rebuild(t, h, 0))
    shift = int(t.state[0].entries_shift)
    end = (int(t.state[0].xen_max) + (1 << shift) - 1) >> shift
    work = np.empty((2, (end + (1 << shift) - 1) >> shift), np.int64)
    written = operations.rebuild_mids(t, end, work[0], work[1])
    if written < 0:
        return int(operations.rebuild(t, h, 0))
    t.state[0].entries_written += written
    return OK
