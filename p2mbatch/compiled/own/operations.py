"""The operations of a policy of one's own: the seam's functions around those of the user's file.

This file's text is run once for each policy, in the module that holds the user's functions
(`assemble`); the names with a capital letter are theirs. What it defines is a function of its own
each time, and so has a place of its own in the cache.
"""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID, WILD
from p2mbatch.compiled.boot import build_tree
from p2mbatch.compiled.grow import populate_each, set_each
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline
from p2mbatch.compiled.loops import without_foreign_bit
from p2mbatch.compiled.own.layouts import leaf_found, list_found
from p2mbatch.compiled.own.registers import (
    R_DIRTY,
    R_LAST,
    R_MARK,
    R_OWN_TREE,
    R_SET_MFN,
    R_SET_PFN,
    R_STATUS,
    begin,
    bound_hits,
    call_room,
)
from p2mbatch.compiled.own.words import noted
from p2mbatch.compiled.pages import page_at, room_left
from p2mbatch.compiled.status import FAULT_MID, FAULT_TOP, MORE_ROOM, NO_MEMORY, OK
from p2mbatch.compiled.tables import (
    NO_PAGE,
    HostTables,
    P2MTables,
)


def _of_the_policy(*arguments: object) -> int:
    """Stand for a function of the user's, which takes this name's place."""
    raise NotImplementedError


MAKE_ARRAYS = _of_the_policy
XEN_BUILD_DYNAMIC_PHYS_TO_MACHINE = _of_the_policy
XEN_BUILD_MFN_LIST_LIST = _of_the_policy
XEN_POST_SUSPEND = _of_the_policy
XEN_SETUP_MFN_LIST_LIST = _of_the_policy
ALLOC_P2M = _of_the_policy
SET_PHYS_TO_MACHINE = _of_the_policy
GET_PHYS_TO_MACHINE = _of_the_policy
PFN_TO_MFN = _of_the_policy


# --- a lookup of the policy's own --------------------------------------------------------------


@inner_kernel
def own_pfn_to_mfn(t: P2MTables, h: HostTables, pfn: int) -> int:
    """Do `pfn_to_mfn` by the policy's own lookup."""
    return without_foreign_bit(GET_PHYS_TO_MACHINE(t, h, pfn))


@inner_kernel
def own_virt_to_mfn(t: P2MTables, h: HostTables, where: int, line: int) -> int:
    """Do `virt_to_mfn` by the policy's own lookup."""
    page = page_at(t, where)
    return noted(t, page, as_int(PFN_TO_MFN(t, h, page)))


_p2m_own_pfn_to_mfn = own_pfn_to_mfn
_p2m_own_virt_to_mfn = own_virt_to_mfn


@inner_kernel
def _read(t: P2MTables, h: HostTables, pfn: int) -> int:
    """Return the entry of `pfn`, or the FAULT_ code of what is in the way."""
    try:
        entry = as_int(GET_PHYS_TO_MACHINE(t, h, pfn))
    except Exception:
        return as_int(FAULT_MID)
    return entry


@inner_kernel
def _find_leaf(t: P2MTables, h: HostTables, x: int) -> None:
    """Find out by the policy's own lookup which page leaf `x` is."""
    t.statics[R_LAST] = NO_PAGE
    t.statics[R_MARK] = 1
    entry = _read(t, h, x * t.words.shape[1])
    t.statics[R_MARK] = 0
    if entry == FAULT_MID:
        t.state[0].wild = 1
    else:
        leaf_found(t, x)


@inner_kernel
def _find_leaves(t: P2MTables, h: HostTables) -> None:
    """Do `_find_leaf` for all, where what the lookup goes through has changed."""
    if t.statics[R_DIRTY] != 0:
        for x in range(t.state[0].num_leaves):
            _find_leaf(t, h, x)
        t.statics[R_DIRTY] = 0


def get(t: P2MTables, h: HostTables, pfns: Int64Array, out: Int64Array) -> None:
    """Do `Operations.get` by the policy's own lookup."""
    begin(t)
    for k in range(len(pfns)):
        out[k] = _read(t, h, pfns[k])


def get_row(t: P2MTables, h: HostTables, first: int, out: Int64Array) -> None:
    """Do `Operations.get_row` by the policy's own lookup."""
    begin(t)
    for k in range(len(out)):
        entry = _read(t, h, first + k)
        out[k] = entry if entry > FAULT_TOP else WILD


# --- calls of the user's functions: OK, or why one stopped -------------------------------------


@inner_kernel
def _call_boot(t: P2MTables, h: HostTables) -> int:
    """Lay out the policy's arrays and build its p2m."""
    begin(t)
    try:
        MAKE_ARRAYS(t, h)
        XEN_BUILD_DYNAMIC_PHYS_TO_MACHINE(t, h)
    except Exception:
        return t.statics[R_STATUS]
    return OK


@inner_kernel
def _call_build(t: P2MTables, h: HostTables) -> int:
    """Build the list at boot."""
    begin(t)
    try:
        XEN_BUILD_MFN_LIST_LIST(t, h)
    except Exception:
        return t.statics[R_STATUS]
    return OK


@inner_kernel
def _call_resume(t: P2MTables, h: HostTables) -> int:
    """Do what a resume does with the list."""
    begin(t)
    bound_hits(t)
    try:
        XEN_POST_SUSPEND(t, h)
    except Exception:
        return t.statics[R_STATUS]
    return OK


@inner_kernel
def _call_report(t: P2MTables, h: HostTables) -> int:
    """Report the list."""
    begin(t)
    try:
        XEN_SETUP_MFN_LIST_LIST(t, h)
    except Exception:
        return t.statics[R_STATUS]
    return OK


@inner_kernel
def _grow(t: P2MTables, h: HostTables, x: int) -> int:
    """Make leaf `x`; also NO_MEMORY."""
    never_inline()
    begin(t)
    try:
        done = ALLOC_P2M(t, h, x * t.words.shape[1])
    except Exception:
        return t.statics[R_STATUS]
    return OK if done else NO_MEMORY


@inner_kernel
def _call_set(t: P2MTables, h: HostTables, pfn: int, mfn: int) -> int:
    """Set one entry; also NO_MEMORY."""
    never_inline()
    begin(t)
    t.statics[R_SET_PFN] = pfn
    t.statics[R_SET_MFN] = mfn
    try:
        done = SET_PHYS_TO_MACHINE(t, h, pfn, mfn)
    except Exception:
        return t.statics[R_STATUS]
    return OK if done else NO_MEMORY


# --- the seam's functions ----------------------------------------------------------------------


@inner_kernel
def _first_list(t: P2MTables, h: HostTables) -> int:
    """Build the first list, close brk and report."""
    status = _call_build(t, h)
    if status == OK:
        t.state[0].brk_closed = 1
        t.state[0].xen_max = t.state[0].max_p2m_pfn
        status = _call_report(t, h)
    return status


def boot(t: P2MTables, h: HostTables, ranges: Int64Array) -> int:
    """Do `Operations.boot` in the tree that p2mbatch builds."""
    status = build_tree(t, h)
    return _first_list(t, h) if status == OK else status


def boot_own_tree(t: P2MTables, h: HostTables, ranges: Int64Array) -> int:
    """Do `Operations.boot` where the policy lays its p2m out itself."""
    t.state[0].m2p_order = h.par[0].m2p_order
    t.statics[R_OWN_TREE] = 1
    status = _call_boot(t, h)
    if status == OK:
        t.statics[R_DIRTY] = 1
        _find_leaves(t, h)
        status = _first_list(t, h)
    if status == OK:
        list_found(t, h)
    return status


def rebuild(t: P2MTables, h: HostTables, x: int) -> int:
    """Do `Operations.rebuild`."""
    if t.state[0].num_slots + call_room(t) > len(t.words):
        t.state[0].position = 0
        return MORE_ROOM
    return _call_resume(t, h)


def rebuild_own_tree(t: P2MTables, h: HostTables, x: int) -> int:
    """Do `Operations.rebuild` where the policy lays its p2m out itself."""
    status = _call_resume(t, h)
    if status == OK:
        _find_leaves(t, h)
    return status


def report(t: P2MTables, h: HostTables) -> int:
    """Do `Operations.report`."""
    return _call_report(t, h)


def set_runs(t: P2MTables, h: HostTables, runs: Int64Array, done: int) -> int:
    """Do `Operations.set_runs`."""
    return set_each(t, h, runs, done, _grow)


def own_set_runs(t: P2MTables, h: HostTables, runs: Int64Array, done: int) -> int:
    """Do `Operations.set_runs` by the policy's own `set_phys_to_machine`."""
    skip = done
    t.state[0].position = done
    shift = t.state[0].entries_shift
    for run in range(len(runs)):
        pfn, mfn, count = runs[run, 0], runs[run, 1], runs[run, 2]
        begin_at = min(skip, count)
        skip -= begin_at
        for k in range(begin_at, count):
            if not room_left(t):
                return MORE_ROOM
            value = mfn + k if mfn >= 0 else as_int(INVALID)
            status = _call_set(t, h, pfn + k, value)
            if t.statics[R_DIRTY] != 0 and (pfn + k) >> shift < t.state[0].num_leaves:
                _find_leaf(t, h, (pfn + k) >> shift)
                t.statics[R_DIRTY] = 0
            if status != OK:
                return status
            t.state[0].position += 1
    return OK


def grow_leaves(t: P2MTables, h: HostTables, leaves: Int64Array, lazy: bool, first: int) -> int:
    """Do `Operations.grow_leaves`."""
    return populate_each(t, h, leaves, lazy, first, _grow)


@inner_kernel
def _grow_own_tree(t: P2MTables, h: HostTables, x: int) -> int:
    """Do `_grow` and find out where the leaf is now."""
    status = _grow(t, h, x)
    if t.statics[R_DIRTY] != 0:
        _find_leaf(t, h, x)
        t.statics[R_DIRTY] = 0
    return status


def grow_leaves_own_tree(
    t: P2MTables, h: HostTables, leaves: Int64Array, lazy: bool, first: int
) -> int:
    """Do `Operations.grow_leaves` where the policy lays its p2m out itself."""
    return populate_each(t, h, leaves, lazy, first, _grow_own_tree)
