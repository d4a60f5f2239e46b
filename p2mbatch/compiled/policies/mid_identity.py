"""3.14/3.15 to 3.16: `moved`, with a shared mid `p2m_mid_identity` (policies-spec P5)."""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.jit import kernel
from p2mbatch.compiled.policies import moved
from p2mbatch.compiled.policies.three_boot import (
    end_boot,
    first_list,
    flag_words,
    hang_boot_leaves,
    mark_each,
    mid_placeholders,
    move_leaves,
)
from p2mbatch.compiled.status import OK
from p2mbatch.compiled.tables import HostTables, P2MTables


@kernel
def boot(t: P2MTables, h: HostTables, ranges: Int64Array) -> int:
    """Boot with 1:1 ranges (int64[k, 2]: start, end). Returns OK, a BUG_ or a FAULT_ code."""
    flag_words(t, h, True)
    status = mid_placeholders(t)
    if status == OK:
        status = hang_boot_leaves(t)
    if status == OK:
        status = first_list(t, h)
    if status == OK:
        status = mark_each(t, h, ranges)
    if status == OK:
        status = move_leaves(t, h)
    return end_boot(t, h) if status == OK else status


OPERATIONS = moved.OPERATIONS._replace(boot=boot)
