"""The seam's functions of a kernel of an era that runs in a child: its boot, and its lookups.

Sets, growth, rebuild and report are those of `operations`: what a store means is told by the
guest's state. Which era it is stands in what the parent has of the child (CHILD_FLAVOR).
"""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import WILD
from p2mbatch.compiled.child.flat_tables import flat_found
from p2mbatch.compiled.child.layout import (
    A_BOOT,
    A_EXTRA,
    A_MARKED,
    C_BOOT_RUNS,
    C_EXTRA,
    C_LATE_LIST,
    C_MARKED,
    C_MARKS,
    C_PEEKED,
    CHILD_FLAVOR,
    CHILD_MEMORY,
    CHILD_WORDS,
    F_LATE_LIST,
    F_MARKS,
    F_MID_IDENTITY,
    F_REPORTS,
    F_ROUNDS,
    HEADER,
    MAX_BOOT_RUNS,
    OP_BOOT,
    R_BUILDS,
    R_TABLE,
)
from p2mbatch.compiled.child.lookups import looked_up
from p2mbatch.compiled.child.operations import (
    OPERATIONS as THREE_LEVEL,
)
from p2mbatch.compiled.child.operations import (
    to_the_end,
    until_phase,
    why,
)
from p2mbatch.compiled.child.request import area_at, begin_request, child_at, wake
from p2mbatch.compiled.child.status import CHILD_RUNS
from p2mbatch.compiled.child.tree import part_found, tree_found
from p2mbatch.compiled.child.wire import words_at
from p2mbatch.compiled.hosts import layout_frame
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel, never_inline
from p2mbatch.compiled.own.registers import stop
from p2mbatch.compiled.pages import page_code, take_slot
from p2mbatch.compiled.policies import three_lookup
from p2mbatch.compiled.policies.flat import SLOTS
from p2mbatch.compiled.policies.three_boot import flag_words
from p2mbatch.compiled.policies.three_lookup import get_entry
from p2mbatch.compiled.status import FAULT_MID, OK
from p2mbatch.compiled.tables import LAZY, NO_PAGE, P_KIND, TABLE, HostTables, P2MTables


@inner_kernel
def _flavor(t: P2MTables) -> int:
    """Return what kind of era the child's kernel is of (F_ bits)."""
    return as_int(words_at(child_at(t), as_int(CHILD_WORDS))[CHILD_FLAVOR])


@inner_kernel
def _write_runs(t: P2MTables, area: int, runs: Int64Array, as_ends: bool) -> int:
    """Write runs [first, count], or ranges [start, end), for the child; return how many."""
    if len(runs) > MAX_BOOT_RUNS:
        stop(t, as_int(CHILD_RUNS), as_int(0))
    out = words_at(area_at(t, area), as_int(2 * MAX_BOOT_RUNS))
    for k in range(len(runs)):
        out[2 * k] = runs[k, 0]
        out[2 * k + 1] = runs[k, 0] + runs[k, 1] if as_ends else runs[k, 1]
    return as_int(len(runs))


# --- trees -------------------------------------------------------------------------------------


@inner_kernel
def _begin_tree(t: P2MTables, h: HostTables, ranges: Int64Array) -> None:
    flavor, state = _flavor(t), t.state[0]
    flag_words(t, h, flavor & F_MARKS != 0)
    state.identity_beyond = flavor & F_MID_IDENTITY != 0
    state.late_list = flavor & F_LATE_LIST != 0
    begin_request(t, h, as_int(OP_BOOT))
    c = words_at(area_at(t, as_int(0)), as_int(HEADER))
    c[C_MARKS] = 1
    c[C_LATE_LIST] = state.late_list
    c[C_MARKED] = _write_runs(t, as_int(A_MARKED), ranges, False)
    runs = words_at(area_at(t, as_int(A_BOOT)), as_int(2))
    runs[0], runs[1] = state.bootmem_pfn, state.bootmem_pages
    c[C_BOOT_RUNS] = 1


@inner_kernel
def _boot_tree(t: P2MTables, h: HostTables, ranges: Int64Array) -> None:
    _begin_tree(t, h, ranges)
    wake(t)
    t.statics[R_BUILDS] = 1
    until_phase(t, h)
    t.statics[R_BUILDS] = 0
    tree_found(t)
    until_phase(t, h)
    # Neither the ranges' pages of the list nor those of moved leaves are the list being built.
    written = t.state[0].entries_written
    until_phase(t, h)
    t.state[0].entries_written = written
    if t.state[0].late_list != 0:
        t.state[0].xen_max = t.state[0].max_p2m_pfn
    until_phase(t, h)
    t.state[0].brk_closed = 1
    t.state[0].xen_max = t.state[0].max_p2m_pfn
    to_the_end(t, h)


@kernel
def boot_tree(t: P2MTables, h: HostTables, ranges: Int64Array) -> int:
    """Do `Operations.boot` for a tree of three levels with 1:1 ranges (int64[k, 2])."""
    try:
        _boot_tree(t, h, ranges)
    except Exception:
        status = why(t)
        if t.statics[R_BUILDS] != 0:
            part_found(t)
        return status
    return OK


# --- the linear p2m ----------------------------------------------------------------------------


@inner_kernel
def _peek(t: P2MTables, h: HostTables, c: Int64Array) -> None:
    """Let the child have the first word of each leaf of `mfn_list` that is not made yet.

    It tells a page of frames from a hole, and nothing is made for it.
    """
    state = t.state[0]
    memory = words_at(child_at(t), as_int(CHILD_WORDS))[CHILD_MEMORY]
    num_boot = (state.nr_pages + SLOTS - 1) >> 9
    for x in range(num_boot):
        if t.leaf_slot[x] == LAZY:
            page = as_int(t.leaf_page[x])
            words_at(memory + (page << 12), as_int(1))[0] = layout_frame(
                h.par[0], state.saved_max_pfn, x << 9
            )
    c[C_PEEKED] = num_boot


@inner_kernel
def _end_peeking(t: P2MTables) -> None:
    """Take those words away again: the child does not note that it has them."""
    never_inline()
    state = t.state[0]
    memory = words_at(child_at(t), as_int(CHILD_WORDS))[CHILD_MEMORY]
    for x in range((state.nr_pages + SLOTS - 1) >> 9):
        page = as_int(state.mfn_list_pfn + x)
        if page_code(t, page) < 0:
            words_at(memory + (page << 12), as_int(1))[0] = 0


@inner_kernel
def _begin_flat(t: P2MTables, h: HostTables, runs: Int64Array) -> None:
    flavor, state = _flavor(t), t.state[0]
    flag_words(t, h, True)
    state.identity_beyond = 1
    state.max_p2m = state.max_p2m_pfn
    state.hint_rounds = flavor & F_ROUNDS != 0
    state.reports_table = flavor & F_REPORTS != 0
    t.statics[R_TABLE] = NO_PAGE
    t.slots[take_slot(t, as_int(state.pgd)), P_KIND] = TABLE
    begin_request(t, h, as_int(OP_BOOT))
    c = words_at(area_at(t, as_int(0)), as_int(HEADER))
    marked = 1 + runs[0, 0]
    extra = marked + runs[0, 1]
    c[C_BOOT_RUNS] = _write_runs(t, as_int(A_BOOT), runs[1:marked], False)
    c[C_MARKED] = _write_runs(t, as_int(A_MARKED), runs[marked:extra], True)
    c[C_EXTRA] = _write_runs(t, as_int(A_EXTRA), runs[extra:], False)
    _peek(t, h, c)


@inner_kernel
def _boot_flat(t: P2MTables, h: HostTables, runs: Int64Array) -> None:
    _begin_flat(t, h, runs)
    wake(t)
    until_phase(t, h)
    flat_found(t)
    _end_peeking(t)
    until_phase(t, h)
    t.state[0].brk_closed = 1
    t.state[0].xen_max = t.state[0].max_p2m_pfn
    to_the_end(t, h)


@kernel
def boot_flat(t: P2MTables, h: HostTables, runs: Int64Array) -> int:
    """Do `Operations.boot` for a linear p2m; `runs` are those of `flat_boot.boot_flat`."""
    try:
        _boot_flat(t, h, runs)
    except Exception:
        _end_peeking(t)
        return why(t)
    return OK


# --- lookups -----------------------------------------------------------------------------------


@kernel
def get(t: P2MTables, h: HostTables, pfns: Int64Array, out: Int64Array) -> None:
    """Do `Operations.get` by the kernel's own lookup."""
    three_lookup.get(t, h, pfns, out)
    looked_up(t, h, as_int(0), pfns, out, as_int(FAULT_MID))


@kernel
def get_row(t: P2MTables, h: HostTables, first: int, out: Int64Array) -> None:
    """Do `Operations.get_row` by the kernel's own lookup."""
    for k in range(len(out)):
        out[k] = get_entry(t, h, first + k)
    looked_up(t, h, first, out[:0], out, as_int(WILD))


MARKING = THREE_LEVEL._replace(boot=boot_tree, get=get, get_parallel=get, get_row=get_row)
"""Of kernels that mark 1:1 ranges in a tree of three levels."""

LINEAR = MARKING._replace(boot=boot_flat)
"""Of kernels whose p2m is linear."""
