"""`xen_build_mfn_list_list` by the guest's policy, and in parallel for one large guest."""

from __future__ import annotations

import numpy as np

from p2mbatch.compiled.jit import kernel, never_inline
from p2mbatch.compiled.pages import page_code, room_left
from p2mbatch.compiled.policies.common import FAULT_LIMIT, mid_mfn_init
from p2mbatch.compiled.policies.stale import stale_mid
from p2mbatch.compiled.policies.tracked import rebuild_mids, rebuild_plain, tracked_mid
from p2mbatch.compiled.status import MORE_ROOM, OK
from p2mbatch.compiled.tables import (
    S_BRK_CLOSED,
    S_ENTRIES_SHIFT,
    S_ENTRIES_WRITTEN,
    S_MID_MISSING_MFN,
    S_POLICY,
    S_POSITION,
    S_XEN_MAX,
    STALE,
    HostTables,
    P2MTables,
)

# --- xen_build_mfn_list_list -------------------------------------------------------------------


@kernel
def rebuild(t: P2MTables, h: HostTables, x: int) -> int:
    """Build the mfn list list from leaf `x` on, by the guest's policy (model section 6).

    Source: kernel `xen_build_mfn_list_list`, before (`stale`) and after the change. Returns OK, a
    BUG_ or FAULT_ code with what was stored left in place, or MORE_ROOM with `state[S_POSITION]`
    the leaf to go on from. Only a call with `x` 0 refills `p2m_mid_missing_mfn`.
    """
    never_inline()
    state = t.state
    shift = state[S_ENTRIES_SHIFT]
    n = 1 << shift
    stale = state[S_POLICY] == STALE
    end = (state[S_XEN_MAX] + n - 1) >> shift
    if x == 0 and state[S_BRK_CLOSED] != 0 and not stale:
        status = mid_mfn_init(t, h, page_code(t, state[S_MID_MISSING_MFN]))
        if status != OK:
            return status
    if not stale and x & (n - 1) == 0 and state[S_BRK_CLOSED] != 0:
        x = rebuild_plain(t, x, end)
    while x < end:
        if not room_left(t):
            state[S_POSITION] = x
            return MORE_ROOM
        stop = min((x | (n - 1)) + 1, end)
        step = stale_mid(t, h, x, stop) if stale else tracked_mid(t, h, x, stop)
        if step <= 0:
            return -step if step > FAULT_LIMIT else step - FAULT_LIMIT
        x += step
    return OK


def rebuild_parallel(t: P2MTables, h: HostTables) -> int:
    """Do `rebuild` from leaf 0 on all cores, for a `tracked` guest after boot.

    Returns as `rebuild` does.
    """
    shift = int(t.state[S_ENTRIES_SHIFT])
    end = (int(t.state[S_XEN_MAX]) + (1 << shift) - 1) >> shift
    work = np.empty((2, (end + (1 << shift) - 1) >> shift), np.int64)
    written = rebuild_mids(t, end, work[0], work[1])
    if written < 0:
        return int(rebuild(t, h, 0))
    t.state[S_ENTRIES_WRITTEN] += written
    return OK
