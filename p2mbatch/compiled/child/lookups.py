"""Lookups by the function of a kernel that runs in a child: what it says of PFNs stands.

What our own lookup says is there first: of leaves that are not made yet it alone is asked.
"""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import WILD
from p2mbatch.compiled.child.layout import (
    A_RUNS,
    C_COUNT,
    HEADER,
    MAX_RUNS,
    NOT_READ,
    OP_GET,
    R_OPEN,
)
from p2mbatch.compiled.child.replay import END, advance
from p2mbatch.compiled.child.request import area_at, begin_request, broken, wake
from p2mbatch.compiled.child.wire import words_at
from p2mbatch.compiled.inspect import p2m_words
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel, never_inline
from p2mbatch.compiled.lookup import lookup
from p2mbatch.compiled.status import FAULT_MID, FAULT_TOP
from p2mbatch.compiled.tables import LAZY, NO_PAGE, HostTables, P2MTables


@inner_kernel
def _is_asked(t: P2MTables, pfn: int, in_row: bool) -> bool:
    """Return whether a PFN is the kernel's to look up: its leaf is there, or none is known.

    What a leaf that is not made yet holds is the layout's, whoever looks there. In a row, of the
    PFNs of a leaf that a linear p2m shares, the first and the last alone are asked.
    """
    state = t.state[0]
    x = pfn >> state.entries_shift
    if in_row and state.pgd != NO_PAGE and 0 < pfn & (t.words.shape[1] - 1) < t.words.shape[1] - 1:
        if x >= state.num_leaves:
            return False
        if t.leaf_page[x] == state.missing or t.leaf_page[x] == state.identity:
            return False
    return pfn < 0 or x >= state.num_leaves or t.leaf_slot[x] != LAZY


@inner_kernel
def looked_up(
    t: P2MTables, h: HostTables, first: int, pfns: Int64Array, out: Int64Array, fault: int
) -> None:
    """Put into `out` what the kernel's own lookup says of `pfns`, or of those from `first` on.

    Where that ends in a fault and ours did not, `fault` stands. What could not be asked stays.
    """
    never_inline()
    try:
        _look_up(t, h, first, pfns, out, fault)
    except Exception:
        t.statics[R_OPEN] = 0


@inner_kernel
def _look_up(
    t: P2MTables, h: HostTables, first: int, pfns: Int64Array, out: Int64Array, fault: int
) -> None:
    most = 3 * MAX_RUNS
    begin_at = as_int(0)
    while begin_at < len(out):
        begin_request(t, h, as_int(OP_GET))
        c = words_at(area_at(t, as_int(0)), as_int(HEADER))
        asked = words_at(area_at(t, as_int(A_RUNS)), as_int(most))
        count, end = as_int(0), begin_at
        while end < len(out) and count < most:
            pfn = as_int(pfns[end]) if len(pfns) > 0 else first + end
            if _is_asked(t, pfn, len(pfns) == 0):
                asked[count] = pfn
                count += 1
            end += 1
        c[C_COUNT] = count
        if count > 0:
            wake(t)
            _take_lookups(t, h, first, pfns, out, begin_at, end, fault)
        begin_at = end
    t.statics[R_OPEN] = 0


@inner_kernel
def _take_lookups(
    t: P2MTables,
    h: HostTables,
    first: int,
    pfns: Int64Array,
    out: Int64Array,
    begin_at: int,
    end: int,
    fault: int,
) -> None:
    """Take the answers to one request; one that is a fault leaves what there was."""
    if advance(t, h) != END:
        broken(t, as_int(0))
    asked = words_at(area_at(t, as_int(A_RUNS)), as_int(3 * MAX_RUNS))
    count = as_int(0)
    for k in range(begin_at, end):
        pfn = as_int(pfns[k]) if len(pfns) > 0 else first + k
        if _is_asked(t, pfn, len(pfns) == 0):
            if asked[count] != NOT_READ:
                out[k] = asked[count]
            elif out[k] > FAULT_TOP and out[k] != WILD:
                out[k] = fault
            count += 1


@kernel
def get(t: P2MTables, h: HostTables, pfns: Int64Array, out: Int64Array) -> None:
    """Do `Operations.get` by the kernel's own lookup."""
    lookup(t, h, pfns, out)
    looked_up(t, h, as_int(0), pfns, out, as_int(FAULT_MID))


@kernel
def get_row(t: P2MTables, h: HostTables, first: int, out: Int64Array) -> None:
    """Do `Operations.get_row` by the kernel's own lookup."""
    p2m_words(t, h, first, out)
    looked_up(t, h, first, out[:0], out, as_int(WILD))
