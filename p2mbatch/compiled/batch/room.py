"""The workspace that a batch's cells are lived in one after the other, and how it is cleared."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int32Array, Int64Array, UInt8Array, UInt64Array
from p2mbatch.base.geometry import Geometry
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.batch.cells import Cell
from p2mbatch.compiled.batch.digest import MESSAGE_BYTES, WORK_WORDS
from p2mbatch.compiled.jit import as_int, inner_kernel, never_inline
from p2mbatch.compiled.looks import TABLE_PAGES
from p2mbatch.compiled.records import HostParameters, OneRecord, State, as_array
from p2mbatch.compiled.tables import (
    BLOCK_SHIFT,
    NO_PAGE,
    P2MTables,
)

CHUNK = 1024
"""Pages or runs that are looked at together."""


MOVED, WRITTEN, MOVES, ADDED, KEPT, NOTED, SHORT, NUM_NOW = range(8)
"""Places of `Room.now`: whether the last move came as far as the restore, how many entries the last
row's event wrote, how many moves were tried, how many pages came since boot, whether presence is
kept apart, how many PFNs the hosts' `owned` may be noted of, and what a cell was short of."""

TABLES_SHORT, FOUND_SHORT, RUNS_SHORT = range(3)
"""What MORE_ROOM asks for: slots or blocks of the tables, `Size.found`, or `Size.runs`."""


class Size(NamedTuple):
    """How much a workspace holds: the most of each that one of its cells needs."""

    slots: int
    blocks: int
    directmap: int
    """Pages of the direct map."""
    leaves: int
    span: int
    """Pages up to `reach` where hosts note frames' owners, else 0."""
    found: int = 512
    """Leaves that a save finds which is live, or is looked at step by step."""
    added: int = 0
    """Pages that a guest gets at once after it has booted."""
    present: int = 0
    """Pages of the direct map where any may come or go after boot, else 0."""
    runs: int = 0
    """Runs of pages that a guest gives back in all rounds of a live migration."""
    rounds: int = 0


class MoreRoom(NamedTuple):
    """What lives of guests that get more pages need beside. Kernels modify all of it."""

    kept: UInt8Array
    """uint8[directmap]: what `P2MTables.present` is while presence is kept."""
    pfns: Int64Array
    """int64[added]: what it gets."""
    some: Int64Array
    has: Int64Array
    """int64[CHUNK] each: PFNs and their entries."""
    runs: Int64Array
    """int64[CHUNK, 3]: a set's."""
    out: Int64Array
    """int64[runs, 2]: [first PFN, count] of what is ballooned out now, then of each round's."""
    out_end: Int64Array
    """int64[rounds + 1]: where those end."""


class Room(NamedTuple):
    """A guest's tables (as `P2MTables`) and its hosts' with room for the largest of a batch's.

    Kernels modify all of it but `blank`. `n` is entries per page.
    """

    blank: OneRecord[State]
    """record[1]: the scalars of no guest, but with the geometry's and the machine's."""
    state: OneRecord[State]
    words: Int64Array
    slots: Int64Array
    own: UInt64Array
    block_of: Int32Array
    block_code: Int32Array
    leaf_slot: Int32Array
    leaf_page: Int32Array
    true_mid_mfn: Int64Array
    pool: Int64Array
    present: UInt8Array
    statics: Int64Array
    first_statics: Int64Array
    """What `statics` is as a guest begins: zeros, or which child a kernel in C runs in."""
    first_par: OneRecord[HostParameters]
    second_par: OneRecord[HostParameters]
    """record[1]: the host that the guest is on, and the one that it goes to, by turns."""
    m2p: Int64Array
    first_owned: UInt8Array
    second_owned: UInt8Array
    """uint8[span] each: `HostTables.owned` of the two hosts, 0 but where the last guest noted."""
    domain: Int64Array
    """What is empty of a function host."""
    marked: Int64Array
    """int64[4, 2]: the 1:1 ranges that boot marks, or a linear boot's runs."""
    work: Int64Array
    row: Int64Array
    """int64[n] each."""
    odd: Int64Array
    bits: UInt64Array
    """int64[leaves] and uint64[leaves, n / 64]: what the judge notes."""
    marks: UInt8Array
    """uint8[leaves]."""
    grown: Int64Array
    """int64[leaves]: the leaves that grow."""
    counts: Int64Array
    """int64[3]."""
    mfns: Int64Array
    found: Int32Array
    pages: Int64Array
    levels: Int64Array
    """Of a `Walk`."""
    now: Int64Array
    """int64[NUM_NOW]: how far a life is, by the places above."""
    message: UInt8Array
    digest: UInt64Array
    more: Any
    """`MoreRoom` for guests that get more pages, else ()."""


def make_room(geo: Geometry, size: Size) -> Room:
    """Return a workspace for guests of one width on the machine as it is (machine-v2)."""
    tables = tb.allocate(
        geo,
        nr_pages=0,
        max_p2m_pfn=size.leaves * geo.entries,
        mfn_list_pfn=0,
        brk_pfn=0,
        brk_pages=0,
        pool=np.zeros((1, 2), np.int64),
        directmap_pages=size.directmap,
        num_slots=size.slots,
        num_blocks=size.blocks,
        machine=tb.MACHINE_2,
    )
    # A linear p2m may be for more leaves than a tree can have.
    tables = tables._replace(
        leaf_slot=np.zeros(size.leaves, np.int32), leaf_page=np.zeros(size.leaves, np.int32)
    )
    blank = tables.state.copy()  # type: ignore[attr-defined]
    pars = [as_array(HostParameters(kind=tb.FUNCTION_HOST, frames=0)) for _ in range(2)]
    return Room(
        blank,
        **tables._asdict(),
        first_statics=np.zeros(tb.STATIC_WORDS, np.int64),
        first_par=pars[0],
        second_par=pars[1],
        m2p=np.zeros(0, np.int64),
        first_owned=np.zeros(size.span, np.uint8),
        second_owned=np.zeros(size.span, np.uint8),
        domain=np.zeros((0, 3), np.int64),
        marked=np.zeros((4, 2), np.int64),
        work=np.empty(geo.entries, np.int64),
        row=np.empty(geo.entries, np.int64),
        odd=np.empty(size.leaves, np.int64),
        bits=np.empty((size.leaves, geo.entries // 64), np.uint64),
        marks=np.empty(size.leaves, np.uint8),
        grown=np.empty(size.leaves, np.int64),
        counts=np.zeros(3, np.int64),
        mfns=np.empty(size.found, np.int64),
        found=np.empty(size.found, np.int32),
        pages=np.empty(TABLE_PAGES + size.found // 512, np.int64),
        levels=np.empty(TABLE_PAGES + size.found // 512, np.int64),
        now=np.zeros(NUM_NOW, np.int64),
        more=_more_room(size) if size.present else (),
        message=np.zeros(MESSAGE_BYTES, np.uint8),
        digest=np.zeros(WORK_WORDS, np.uint64),
    )


def _more_room(size: Size) -> MoreRoom:
    return MoreRoom(
        kept=np.empty(size.present, np.uint8),
        pfns=np.empty(size.added, np.int64),
        some=np.empty(CHUNK, np.int64),
        has=np.empty(CHUNK, np.int64),
        runs=np.empty((CHUNK, 3), np.int64),
        out=np.empty((size.runs, 2), np.int64),
        out_end=np.zeros(size.rounds + 1, np.int64),
    )


@inner_kernel
def clear(room: Room) -> None:
    """Forget the guest before. Slots and blocks are begun anew when they are taken (`pages`)."""
    never_inline()
    state = room.state[0]
    room.block_of[: (state.directmap >> BLOCK_SHIFT) + 1] = -1
    cached = num_cached(state)
    room.leaf_slot[:cached] = 0
    room.leaf_page[:cached] = 0
    room.true_mid_mfn[:] = NO_PAGE
    for i in range(len(room.statics)):
        room.statics[i] = room.first_statics[i]
    noted = room.now[NOTED]
    room.first_owned[:noted] = 0
    room.second_owned[:noted] = 0
    room.now[:] = 0
    room.state[0] = room.blank[0]


@inner_kernel
def num_cached(state: State) -> int:
    """Return for how many leaves there are places: a p2m of two levels may hold fewer than boot."""
    shift = state.entries_shift
    return max(state.num_leaves, (state.nr_pages + (1 << shift) - 1) >> shift)


@inner_kernel
def new_tables(cell: Cell, room: Room) -> P2MTables:
    """Return the tables of a cell's guest, not booted, in a cleared `room`: `new_life`."""
    never_inline()
    state = room.state[0]
    state.nr_pages = cell.nr_pages
    state.max_p2m_pfn = cell.max_p2m_pfn
    state.xen_max = cell.nr_pages
    state.mfn_list_pfn = cell.brk_pfn + cell.brk_pages
    state.brk_pfn = cell.brk_pfn
    state.brk_pages = cell.brk_pages
    state.directmap = cell.directmap
    state.num_leaves = cell.num_leaves
    state.saved_max_pfn = cell.max_p2m_pfn - 1
    state.walked_max_pfn = cell.max_p2m_pfn - 1
    state.toolstack = cell.toolstack
    state.bootmem_pfn = state.mfn_list_pfn + cell.num_boot_leaves
    state.bootmem_pages = cell.bootmem_pages
    room.pool[0, 0] = state.bootmem_pfn + cell.bootmem_pages
    room.pool[0, 1] = cell.pool_pages
    if cell.is_linear != 0:
        state.pgd = cell.brk_pfn
        state.no_list = cell.no_list
        state.p2m_vaddr = cell.p2m_vaddr
    if cell.max_domain_pages > 0:
        _place_arrays(cell, state)
    cached = num_cached(state)
    return P2MTables(
        room.state,
        room.words,
        room.slots,
        room.own,
        room.block_of[: (cell.directmap >> BLOCK_SHIFT) + 1],
        room.block_code,
        room.leaf_slot[:cached],
        room.leaf_page[:cached],
        room.true_mid_mfn,
        room.pool[: min(cell.pool_pages, 1)],
        room.present,
        room.statics,
    )


@inner_kernel
def _place_arrays(cell: Cell, state: State) -> None:
    """Say where the static arrays of a p2m of two levels are: `era_tables.with_static`."""
    tops = cell.max_domain_pages >> (2 * state.entries_shift)
    state.max_domain_pages = cell.max_domain_pages
    state.missing = cell.brk_pfn
    state.static_top = cell.brk_pfn + 1
    state.static_top_mfn = cell.brk_pfn + 1 + tops
    state.static_list = cell.brk_pfn + 1 + 2 * tops


@inner_kernel
def put_marks(cell: Cell, marked: Int64Array) -> int:
    """Write what boot takes beside the tables (`Life.marked`) to `marked`; return its rows."""
    has_hole = cell.marks_hole
    if cell.is_linear == 0:
        marked[0, 0] = cell.hole_first
        marked[0, 1] = cell.hole_end
        return has_hole
    marked[0, 0] = 1
    marked[0, 1] = has_hole
    marked[1, 0] = cell.brk_pfn + cell.brk_pages + cell.num_boot_leaves
    marked[1, 1] = cell.bootmem_pages
    marked[2, 0] = cell.hole_first
    marked[2, 1] = cell.hole_end - cell.hole_first
    extra = 2 + has_hole
    marked[extra, 0] = cell.nr_pages
    marked[extra, 1] = cell.span - cell.nr_pages
    return extra + as_int(cell.span > cell.nr_pages)
