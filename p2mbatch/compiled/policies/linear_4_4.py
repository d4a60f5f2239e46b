"""4.3 to 5.13: a linear p2m whose hint is off by one (linear-spec L5, L9)."""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.jit import kernel
from p2mbatch.compiled.policies import linear
from p2mbatch.compiled.policies.flat_boot import boot_flat
from p2mbatch.compiled.tables import HostTables, P2MTables


@kernel
def boot(t: P2MTables, h: HostTables, runs: Int64Array) -> int:
    """Do `boot_flat` as this kernel does. Returns OK, a BUG_ or a FAULT_ code."""
    t.state[0].hint_rounds = 0
    t.state[0].reports_table = 1
    return boot_flat(t, h, runs, 0)


OPERATIONS = linear.OPERATIONS._replace(boot=boot)
