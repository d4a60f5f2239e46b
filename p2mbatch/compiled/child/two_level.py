"""The seam's functions of a kernel in a child whose p2m is a tree of two levels (policies-spec P1).

Its arrays are there before it runs: what they then hold is read, and what is stored is told as in
any child. It has no growth of its own: a leaf is grown by setting its first entry.
"""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled.child.arrays import (
    LIST,
    MISSING,
    TOP,
    array_here,
    array_offset,
    array_page,
    array_pages,
)
from p2mbatch.compiled.child.eras import MARKING
from p2mbatch.compiled.child.layout import (
    A_RUNS,
    C_COUNT,
    C_FROM,
    CHILD_MEMORY,
    CHILD_RANGE,
    CHILD_WORDS,
    HEADER,
    MAX_RUNS,
    NUM_ARRAYS,
    OP_BOOT,
    OP_SET,
    R_OPEN,
)
from p2mbatch.compiled.child.operations import (
    grow_each,
    set_one,
    to_the_end,
    until_phase,
    why,
)
from p2mbatch.compiled.child.request import (
    area_at,
    begin_request,
    child_at,
    child_form,
    wake,
)
from p2mbatch.compiled.child.wire import narrow_words_at, words_at
from p2mbatch.compiled.hosts import layout_frame
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel, never_inline
from p2mbatch.compiled.own.memory import leaf_hung
from p2mbatch.compiled.own.registers import OWN_ROOM, may_hit, stop
from p2mbatch.compiled.pages import address, page_code, take_slot
from p2mbatch.compiled.policies import none
from p2mbatch.compiled.status import NO_MEMORY, OK
from p2mbatch.compiled.tables import (
    LEAF,
    MID_MFN,
    P_KIND,
    P_PAGE,
    POINTER,
    TOP_MFN,
    HostTables,
    P2MTables,
)

# --- boot --------------------------------------------------------------------------------------


@inner_kernel
def _take_arrays(t: P2MTables) -> None:
    """Make the arrays resident, as the child's program has them before anything ran."""
    never_inline()
    for k in range(NUM_ARRAYS):
        kind = MID_MFN
        if k == MISSING:
            kind = LEAF
        elif k == TOP:
            kind = POINTER
        elif k == LIST:
            kind = TOP_MFN
        for i in range(array_pages(t, as_int(k))):
            if not may_hit(t):
                stop(t, OWN_ROOM, as_int(0))
            page = array_page(t, as_int(k)) + i
            slot = take_slot(t, page)
            t.slots[slot, P_KIND] = kind
            _read_page(t, slot)
            if kind == MID_MFN:
                t.true_mid_mfn[i] = page


@inner_kernel
def _read_page(t: P2MTables, slot: int) -> None:
    """Make a page of an array equal to the child's."""
    child = words_at(child_at(t), as_int(CHILD_WORDS))
    held = as_int(child[CHILD_RANGE])
    where = child[CHILD_MEMORY] + held + array_offset(t, as_int(t.slots[slot, P_PAGE]))
    row = t.words[slot]
    if t.state[0].word_bits == 32:
        narrow = narrow_words_at(as_int(where), as_int(len(row)))
        for i in range(len(row)):
            row[i] = as_int(narrow[i]) if narrow[i] != 0xFFFFFFFF else INVALID
    else:
        wide = words_at(as_int(where), as_int(len(row)))
        for i in range(len(row)):
            row[i] = wide[i]
    if t.slots[slot, P_KIND] == POINTER:
        last, form = ~as_int(row[0]), as_int(0)
        for i in range(len(row)):
            if row[i] != last:
                last = as_int(row[i])
                form = array_here(t, last)
                if form == last and t.state[0].word_bits == 64:
                    form = child_form(t, held, last)
            row[i] = form


@inner_kernel
def _find_leaves(t: P2MTables, h: HostTables) -> None:
    """Note where each leaf is, by what `p2m_top` says."""
    never_inline()
    shift, n = t.state[0].entries_shift, t.words.shape[1]
    missing = address(t, as_int(t.state[0].missing))
    missing_slot = page_code(t, as_int(t.state[0].missing))
    for page in range(array_pages(t, as_int(TOP))):
        slot = page_code(t, t.state[0].static_top + page)
        for i in range(n):
            x = (page << shift) + i
            if t.words[slot, i] == missing:
                t.leaf_slot[x] = missing_slot
                t.leaf_page[x] = t.state[0].missing
            else:
                leaf_hung(t, h, x, as_int(t.words[slot, i]), as_int(0))


@inner_kernel
def _boot(t: P2MTables, h: HostTables) -> None:
    state = t.state[0]
    state.max_p2m = state.max_domain_pages
    begin_request(t, h, as_int(OP_BOOT))
    wake(t)
    until_phase(t, h)
    _take_arrays(t)
    # Which leaf is where is found out once all of them are hung.
    state.wild = 1
    until_phase(t, h)
    state.wild = 0
    _find_leaves(t, h)
    until_phase(t, h)
    state.brk_closed = 1
    state.xen_max = state.max_p2m_pfn
    to_the_end(t, h)


@kernel
def boot(t: P2MTables, h: HostTables, ranges: Int64Array) -> int:
    """Do `Operations.boot`. No `ranges` are marked: there are no 1:1 entries."""
    t.state[0].m2p_order = h.par[0].m2p_order
    try:
        _boot(t, h)
    except Exception:
        return why(t)
    return OK


# --- growth ------------------------------------------------------------------------------------


@inner_kernel
def _first_frame(t: P2MTables, h: HostTables, x: int) -> int:
    """Return the frame that the first PFN of leaf `x` is given."""
    return layout_frame(h.par[0], t.state[0].saved_max_pfn, x << t.state[0].entries_shift)


@inner_kernel
def _grown(t: P2MTables, h: HostTables, x: int) -> int:
    """Do the set that grew leaf `x` in the child: what `grow.populate_each` asks for."""
    never_inline()
    status = as_int(OK)
    try:
        status = set_one(t, h, x << t.state[0].entries_shift, _first_frame(t, h, x))
    except Exception:
        status = why(t)
    if status == OK and t.leaf_page[x] == t.state[0].missing:
        status = as_int(NO_MEMORY)
    if status != OK:
        t.statics[R_OPEN] = 0
    return status


@inner_kernel
def _ask_growth(t: P2MTables, h: HostTables, leaves: Int64Array) -> int:
    """Ask for the first entries of leaves to be set."""
    never_inline()
    try:
        begin_request(t, h, as_int(OP_SET))
        c = words_at(area_at(t, as_int(0)), as_int(HEADER))
        out = words_at(area_at(t, as_int(A_RUNS)), as_int(3 * MAX_RUNS))
        for k in range(len(leaves)):
            out[3 * k] = leaves[k] << t.state[0].entries_shift
            out[3 * k + 1] = _first_frame(t, h, as_int(leaves[k]))
            out[3 * k + 2] = 1
        c[C_COUNT] = len(leaves)
        c[C_FROM] = 0
        wake(t)
    except Exception:
        return why(t)
    return OK


@kernel
def grow_leaves(t: P2MTables, h: HostTables, leaves: Int64Array, lazy: bool, first: int) -> int:
    """Do `Operations.grow_leaves`, each by its first entry."""
    return grow_each(
        t, h, leaves, lazy, first, as_int(OP_SET), as_int(MAX_RUNS), _ask_growth, _grown
    )


OPERATIONS = MARKING._replace(boot=boot, grow_leaves=grow_leaves)
NEVER_REBUILT = OPERATIONS._replace(rebuild=none.keep)
"""Where nothing outside of the file can call what builds the list (policies-spec P2)."""
