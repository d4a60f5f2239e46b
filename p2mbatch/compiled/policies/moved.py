"""3.7 to 3.13: `identity`, with a 64-bit guest's leaves moved out of `mfn_list` (spec P4b)."""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.jit import kernel
from p2mbatch.compiled.policies import identity
from p2mbatch.compiled.policies.identity import begin
from p2mbatch.compiled.policies.three_boot import end_boot, move_leaves
from p2mbatch.compiled.status import OK
from p2mbatch.compiled.tables import HostTables, P2MTables


@kernel
def boot(t: P2MTables, h: HostTables, ranges: Int64Array) -> int:
    """Boot with 1:1 ranges (int64[k, 2]: start, end). Returns OK, a BUG_ or a FAULT_ code."""
    status = begin(t, h, ranges)
    if status == OK:
        status = move_leaves(t, h)
    return end_boot(t, h) if status == OK else status


OPERATIONS = identity.OPERATIONS._replace(boot=boot)
