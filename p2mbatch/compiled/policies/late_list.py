"""3.17 and 3.18: `mid-identity`, its list built last, from the boot allocator (spec P6)."""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.jit import kernel
from p2mbatch.compiled.policies import mid_identity
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
from p2mbatch.compiled.tables import (
    HostTables,
    P2MTables,
)


@kernel
def boot(t: P2MTables, h: HostTables, ranges: Int64Array) -> int:
    """Boot with 1:1 ranges (int64[k, 2]: start, end). Returns OK, a BUG_ or a FAULT_ code."""
    flag_words(t, h, True)
    t.state[0].late_list = 1
    status = mid_placeholders(t)
    if status == OK:
        status = hang_boot_leaves(t)
    if status == OK:
        status = mark_each(t, h, ranges)
    if status == OK:
        status = move_leaves(t, h)
    if status == OK:
        t.state[0].xen_max = t.state[0].max_p2m_pfn
        status = first_list(t, h)
    return end_boot(t, h) if status == OK else status


OPERATIONS = mid_identity.OPERATIONS._replace(boot=boot)
