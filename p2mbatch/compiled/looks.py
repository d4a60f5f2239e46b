"""What a save finds, and looks at again once its guest is paused, for lives in compiled code.

By the list, as `era_life` does; `table_walk` has the same of a linear p2m's page tables.
"""

from __future__ import annotations

from typing import NamedTuple

from p2mbatch.base.arrays import Int32Array, Int64Array
from p2mbatch.compiled.found import compare_leaves, listed_leaves, map_leaves
from p2mbatch.compiled.jit import as_int, inner_kernel, kernel
from p2mbatch.compiled.save import map_frame_lists
from p2mbatch.compiled.status import MORE_ROOM, OK
from p2mbatch.compiled.tables import HostTables, P2MTables

TABLE_PAGES = 2048
"""Pages that a guest's page table has at most beside one for each block, with much to spare."""


class Walk(NamedTuple):
    """What a walk notes. Kernels modify all of it. `n` is entries per page."""

    work: Int64Array
    """int64[n]: PFNs of the list's pages, or of a level's tables."""
    mfns: Int64Array
    found: Int32Array
    """int64[leaves] and int32[leaves]: of each leaf found, the MFN that it was found by, its PFN.
    """
    pages: Int64Array
    levels: Int64Array
    """int64[TABLE_PAGES + leaves / 512] each: the page table's own pages, and which level's they
    are; while the leaves are being found, `pages` are those of a level."""


@kernel
def find_nothing(t: P2MTables, h: HostTables, walk: Walk) -> int:
    """Stand where `find_by_list` does for trees whose saves leave nothing to be looked at anew."""
    return as_int(0)


@kernel
def look_at_nothing(t: P2MTables, h: HostTables, walk: Walk, leaves: int) -> int:
    """Stand where `look_again` does, as `find_nothing`."""
    return as_int(OK)


@kernel
def find_by_list(t: P2MTables, h: HostTables, walk: Walk) -> int:
    """Walk the list; return how many leaves were found, or minus a SAVE_ code.

    Minus MORE_ROOM where there are more PFNs than `walk` has room for.
    """
    max_pfn = as_int(map_frame_lists(t, h, walk.work))
    if max_pfn < 0:
        return max_pfn
    leaves = (max_pfn >> t.state[0].entries_shift) + 1
    if leaves > len(walk.mfns):
        return as_int(-MORE_ROOM)
    status = listed_leaves(t, h, walk.work, walk.mfns[:leaves])
    return map_found(t, h, walk, leaves, max_pfn) if status == OK else as_int(-status)


@inner_kernel
def map_found(t: P2MTables, h: HostTables, walk: Walk, leaves: int, max_pfn: int) -> int:
    """Do the checks that every walk ends in; returns as `find_by_list`."""
    status = map_leaves(t, h, walk.mfns[:leaves], walk.found[:leaves], max_pfn)
    return as_int(-status) if status != OK else leaves


@kernel
def look_again(t: P2MTables, h: HostTables, walk: Walk, leaves: int) -> int:
    """Look again, the guest being paused, at the leaves found; return OK or MISDIRECTED."""
    return compare_leaves(t, walk.found[:leaves])
