"""The seam's functions of a kernel that runs in a child: compiled once for all of them.

Which child a guest has stands in its statics (`R_CHILD`), so nothing here is a user's.
"""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.child.era_memory import take_shared
from p2mbatch.compiled.child.layout import (
    A_RUNS,
    C_COUNT,
    C_FROM,
    C_XEN_MAX,
    E_GROW,
    E_PHASE,
    E_SET,
    HEADER,
    MAX_RUNS,
    OP_BOOT,
    OP_GROW,
    OP_REPORT,
    OP_RESUME,
    OP_SET,
    R_BUILDS,
    R_OPEN,
)
from p2mbatch.compiled.child.lookups import get, get_row
from p2mbatch.compiled.child.replay import END, advance, entry_word, set_done
from p2mbatch.compiled.child.request import (
    area_at,
    begin_request,
    broken,
    forget_lazy,
    lazy_pages,
    wake,
)
from p2mbatch.compiled.child.status import CHILD_BROKEN
from p2mbatch.compiled.child.tree import part_found, tree_found
from p2mbatch.compiled.child.wire import words_at
from p2mbatch.compiled.grow import populate_each
from p2mbatch.compiled.jit import (
    Inner,
    as_int,
    inline_kernel,
    inner_kernel,
    kernel,
    never_inline,
)
from p2mbatch.compiled.own.registers import (
    R_SET_MFN,
    R_SET_PFN,
    R_STATUS,
    begin,
    bound_hits,
    call_room,
)
from p2mbatch.compiled.pages import room_left
from p2mbatch.compiled.policies.operations import Operations
from p2mbatch.compiled.status import MORE_ROOM, NO_MEMORY, OK
from p2mbatch.compiled.tables import LAZY, HostTables, P2MTables


@inner_kernel
def why(t: P2MTables) -> int:
    """Return why a call stopped."""
    status = as_int(t.statics[R_STATUS])
    return status if status != OK else as_int(CHILD_BROKEN)


@inner_kernel
def until_phase(t: P2MTables, h: HostTables) -> None:
    """Do what the child did up to the next part of its call."""
    if advance(t, h) != E_PHASE:
        broken(t, as_int(0))


@inner_kernel
def _ended(t: P2MTables, h: HostTables) -> None:
    """Do what is left of a call whose last entry of its caller's is done."""
    if advance(t, h) != END:
        broken(t, as_int(0))


@inner_kernel
def to_the_end(t: P2MTables, h: HostTables) -> None:
    """Do the last part of a call; what it told the toolstack is then the guest's."""
    _ended(t, h)
    take_shared(t)
    c = words_at(area_at(t, as_int(0)), as_int(HEADER))
    t.state[0].xen_max = min(max(c[C_XEN_MAX], 0), max(t.state[0].max_p2m, t.state[0].max_p2m_pfn))


@inner_kernel
def _boot(t: P2MTables, h: HostTables) -> None:
    begin_request(t, h, as_int(OP_BOOT))
    wake(t)
    t.statics[R_BUILDS] = 1
    until_phase(t, h)
    t.statics[R_BUILDS] = 0
    tree_found(t)
    until_phase(t, h)
    t.state[0].brk_closed = 1
    t.state[0].xen_max = t.state[0].max_p2m_pfn
    to_the_end(t, h)


@kernel
def boot(t: P2MTables, h: HostTables, ranges: Int64Array) -> int:
    """Do `Operations.boot`."""
    t.state[0].m2p_order = h.par[0].m2p_order
    try:
        _boot(t, h)
    except Exception:
        status = why(t)
        if t.statics[R_BUILDS] != 0:
            part_found(t)
        return status
    return OK


@inner_kernel
def _rebuild(t: P2MTables, h: HostTables) -> None:
    begin_request(t, h, as_int(OP_RESUME))
    bound_hits(t)
    wake(t)
    until_phase(t, h)


@kernel
def rebuild(t: P2MTables, h: HostTables, x: int) -> int:
    """Do `Operations.rebuild`; what the same call then reports is left to `report`."""
    if t.state[0].num_slots + call_room(t) > len(t.words):
        t.state[0].position = 0
        return MORE_ROOM
    try:
        _rebuild(t, h)
    except Exception:
        return why(t)
    return OK


@inner_kernel
def _report(t: P2MTables, h: HostTables) -> None:
    if t.statics[R_OPEN] != OP_RESUME:
        begin_request(t, h, as_int(OP_REPORT))
        wake(t)
        until_phase(t, h)
    to_the_end(t, h)


@kernel
def report(t: P2MTables, h: HostTables) -> int:
    """Do `Operations.report`."""
    try:
        _report(t, h)
    except Exception:
        return why(t)
    return OK


# --- sets --------------------------------------------------------------------------------------


@inner_kernel
def _ask_sets(t: P2MTables, h: HostTables, runs: Int64Array, begin_at: int, count: int) -> None:
    """Ask for the entries of some runs, leaving out the first `begin_at`."""
    begin_request(t, h, as_int(OP_SET))
    c = words_at(area_at(t, as_int(0)), as_int(HEADER))
    out = words_at(area_at(t, as_int(A_RUNS)), as_int(3 * MAX_RUNS))
    for k in range(count):
        for i in range(3):
            out[3 * k + i] = runs[k, i]
    c[C_COUNT] = count
    c[C_FROM] = begin_at
    wake(t)


@inner_kernel
def set_one(t: P2MTables, h: HostTables, pfn: int, mfn: int) -> int:
    """Do one set that the child did: that which it was asked for, and no other."""
    if advance(t, h) != E_SET:
        broken(t, as_int(0))
    if entry_word(t, as_int(1)) != pfn or entry_word(t, as_int(2)) != mfn:
        broken(t, as_int(0))
    begin(t)
    t.statics[R_SET_PFN] = pfn
    t.statics[R_SET_MFN] = mfn
    done = set_done(t, h)
    t.statics[R_SET_PFN] = -1
    return OK if done != 0 else NO_MEMORY


@inner_kernel
def _set_some(t: P2MTables, h: HostTables, runs: Int64Array, skip: int) -> int:
    """Do the sets of at most MAX_RUNS runs from entry `skip` of them on."""
    if t.statics[R_OPEN] != OP_SET:
        _ask_sets(t, h, runs, skip, as_int(len(runs)))
    for run in range(len(runs)):
        first = min(skip, runs[run, 2])
        skip -= first
        for k in range(first, runs[run, 2]):
            if not room_left(t):
                return MORE_ROOM
            value = runs[run, 1] + k if runs[run, 1] != INVALID else as_int(INVALID)
            status = set_one(t, h, as_int(runs[run, 0] + k), value)
            if status != OK:
                # The child sets no more behind it.
                _ended(t, h)
                return status
            t.state[0].position += 1
    _ended(t, h)
    return OK


@inner_kernel
def _set_caught(t: P2MTables, h: HostTables, runs: Int64Array, skip: int) -> int:
    never_inline()
    try:
        return _set_some(t, h, runs, skip)
    except Exception:
        t.statics[R_OPEN] = 0
        return why(t)


@kernel
def set_runs(t: P2MTables, h: HostTables, runs: Int64Array, done: int) -> int:
    """Do `Operations.set_runs` by the kernel's own `set_phys_to_machine`."""
    if done == 0:
        t.statics[R_OPEN] = 0
    t.state[0].position = done
    before = as_int(0)
    for first in range(0, len(runs), MAX_RUNS):
        some = runs[first : first + MAX_RUNS]
        count = as_int(0)
        for k in range(len(some)):
            count += some[k, 2]
        skip = min(max(done - before, 0), count)
        before += count
        if skip < count:
            status = _set_caught(t, h, some, skip)
            if status != OK:
                return status
    return OK


# --- growth ------------------------------------------------------------------------------------


@inner_kernel
def _grown(t: P2MTables, h: HostTables, x: int) -> int:
    if advance(t, h) != E_GROW or entry_word(t, as_int(1)) != x << t.state[0].entries_shift:
        broken(t, as_int(0))
    begin(t)
    if set_done(t, h) != 0:
        return OK
    _ended(t, h)
    return NO_MEMORY


@inner_kernel
def _grow(t: P2MTables, h: HostTables, x: int) -> int:
    """Do the growth of one leaf that the child did: what `grow.populate_each` asks for."""
    never_inline()
    try:
        status = _grown(t, h, x)
    except Exception:
        status = why(t)
    if status != OK:
        t.statics[R_OPEN] = 0
    return status


@inner_kernel
def _ask_growth(t: P2MTables, h: HostTables, leaves: Int64Array) -> int:
    never_inline()
    try:
        begin_request(t, h, as_int(OP_GROW))
        c = words_at(area_at(t, as_int(0)), as_int(HEADER))
        out = words_at(area_at(t, as_int(A_RUNS)), as_int(3 * MAX_RUNS))
        for k in range(len(leaves)):
            out[k] = leaves[k] << t.state[0].entries_shift
        c[C_COUNT] = len(leaves)
        wake(t)
    except Exception:
        return why(t)
    return OK


@inner_kernel
def _growth_ended(t: P2MTables, h: HostTables) -> int:
    never_inline()
    try:
        _ended(t, h)
    except Exception:
        t.statics[R_OPEN] = 0
        return why(t)
    return OK


@inline_kernel
def grow_each(
    t: P2MTables,
    h: HostTables,
    leaves: Int64Array,
    lazy: bool,
    first: int,
    op: int,
    most: int,
    ask: Inner,
    grow: Inner,
) -> int:
    """Do `Operations.grow_leaves` by requests `op` for at most `most` leaves.

    `ask` makes a request for some leaves, `grow` does what the child did for one of them.
    """
    if first == 0:
        t.statics[R_OPEN] = 0
    done = first
    while done < len(leaves):
        # As many as one request takes; what one of them left open is gone on with.
        begin_at = done - done % most
        some = leaves[begin_at : begin_at + most]
        if t.statics[R_OPEN] != op:
            status = ask(t, h, leaves[done : begin_at + len(some)])
            if status != OK:
                return status
        status = populate_each(t, h, some, lazy, done - begin_at, grow)
        if status != OK:
            t.state[0].position += begin_at
            return status
        status = _growth_ended(t, h)
        if status != OK:
            return status
        pages = lazy_pages(t, h)
        for k in range(done - begin_at, len(some)):
            if t.leaf_slot[some[k]] == LAZY:
                forget_lazy(t, pages, as_int(t.leaf_page[some[k]]))
        done = begin_at + len(some)
    return OK


@kernel
def grow_leaves(t: P2MTables, h: HostTables, leaves: Int64Array, lazy: bool, first: int) -> int:
    """Do `Operations.grow_leaves` by the kernel's own growth of one leaf."""
    return grow_each(
        t, h, leaves, lazy, first, as_int(OP_GROW), as_int(3 * MAX_RUNS), _ask_growth, _grow
    )


OPERATIONS = Operations(
    boot=boot,
    set_runs=set_runs,
    grow_leaves=grow_leaves,
    rebuild=rebuild,
    report=report,
    get=get,
    get_parallel=get,
    get_row=get_row,
)
