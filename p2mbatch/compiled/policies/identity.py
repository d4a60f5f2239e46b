"""3.0 to 3.6, on 32-bit to 3.13: a shared leaf `p2m_identity` for 1:1 ranges (policies-spec P4)."""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.jit import inner_kernel, kernel
from p2mbatch.compiled.policies import tail
from p2mbatch.compiled.policies.three_boot import (
    end_boot,
    first_list,
    flag_words,
    hang_boot_leaves,
    identity_page,
    mark_each,
    old_placeholders,
)
from p2mbatch.compiled.status import OK
from p2mbatch.compiled.tables import HostTables, P2MTables


@inner_kernel
def begin(t: P2MTables, h: HostTables, ranges: Int64Array) -> int:
    """Build the tree and the first list, then mark 1:1 ranges. Returns as `boot`."""
    flag_words(t, h, True)
    status = old_placeholders(t)
    if status == OK:
        status = identity_page(t)
    if status == OK:
        status = hang_boot_leaves(t)
    if status == OK:
        status = first_list(t, h)
    return mark_each(t, h, ranges) if status == OK else status


@kernel
def boot(t: P2MTables, h: HostTables, ranges: Int64Array) -> int:
    """Boot with 1:1 ranges (int64[k, 2]: start, end). Returns OK, a BUG_ or a FAULT_ code."""
    status = begin(t, h, ranges)
    return end_boot(t, h) if status == OK else status


OPERATIONS = tail.OPERATIONS._replace(boot=boot)
