"""What a guest's tables say, many PFNs or leaves at a time."""

from __future__ import annotations

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.inspect import leaf_pages
from p2mbatch.model.policies import Policy


def entries_of(policy: Policy, t: tb.P2MTables, h: tb.HostTables, pfns: Int64Array) -> Int64Array:
    """Return `get_phys_to_machine` of each PFN, int64[k], no bit masked; < -1 behind a wild one."""
    out = np.empty(len(pfns), np.int64)
    policy.operations.get(t, h, pfns, out)
    return out


def pages_of_leaves(t: tb.P2MTables, num_leaves: int) -> Int64Array:
    """Return the PFN of each leaf's page, int64[num_leaves]; < 0 behind a wild pointer."""
    out = np.empty(num_leaves, np.int64)
    leaf_pages(t, out)
    return out
