"""3.19 to 4.2: a linear p2m that is reported whole, by its list alone (linear-spec L6)."""

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
    t.state[0].reports_table = 0
    return boot_flat(t, h, runs, 4)


OPERATIONS = linear.OPERATIONS._replace(boot=boot)
