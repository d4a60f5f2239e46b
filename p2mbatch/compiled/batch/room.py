"""The workspace that a batch's cells are lived in one after the other, and how it is cleared."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int32Array, Int64Array, UInt8Array, UInt64Array
from p2mbatch.base.geometry import Geometry
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.batch.cells import Cell
from p2mbatch.compiled.batch.digest import MESSAGE_BYTES, WORK_WORDS
from p2mbatch.compiled.jit import inner_kernel, never_inline
from p2mbatch.compiled.records import HostParameters, OneRecord, State, as_array
from p2mbatch.compiled.tables import (
    BLOCK_SHIFT,
    NO_PAGE,
    P2MTables,
)


class Size(NamedTuple):
    """How much a workspace holds: the most of each that one of its cells needs."""

    slots: int
    blocks: int
    directmap: int
    """Pages of the direct map."""
    leaves: int
    span: int
    """Pages of the span where hosts keep freed frames' words, else 0."""


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
    freed: UInt8Array
    """uint8[span], zeros: nobody frees a frame in a scenario."""
    domain: Int64Array
    """What is empty of a function host."""
    marked: Int64Array
    """int64[0, 2]: the 1:1 ranges that boot marks."""
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
    message: UInt8Array
    digest: UInt64Array


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
    blank = tables.state.copy()  # type: ignore[attr-defined]
    pars = [as_array(HostParameters(kind=tb.FUNCTION_HOST, frames=0)) for _ in range(2)]
    return Room(
        blank,
        **tables._asdict(),
        first_statics=np.zeros(tb.STATIC_WORDS, np.int64),
        first_par=pars[0],
        second_par=pars[1],
        m2p=np.zeros(0, np.int64),
        freed=np.zeros(size.span, np.uint8),
        domain=np.zeros((0, 3), np.int64),
        marked=np.zeros((0, 2), np.int64),
        work=np.empty(geo.entries, np.int64),
        row=np.empty(geo.entries, np.int64),
        odd=np.empty(size.leaves, np.int64),
        bits=np.empty((size.leaves, geo.entries // 64), np.uint64),
        marks=np.empty(size.leaves, np.uint8),
        grown=np.empty(size.leaves, np.int64),
        counts=np.zeros(3, np.int64),
        message=np.zeros(MESSAGE_BYTES, np.uint8),
        digest=np.zeros(WORK_WORDS, np.uint64),
    )


@inner_kernel
def clear(room: Room) -> None:
    """Forget the guest before. Slots and blocks are begun anew when they are taken (`pages`)."""
    never_inline()
    state = room.state[0]
    room.block_of[: (state.directmap >> BLOCK_SHIFT) + 1] = -1
    room.leaf_slot[: state.num_leaves] = 0
    room.leaf_page[: state.num_leaves] = 0
    room.true_mid_mfn[:] = NO_PAGE
    for i in range(len(room.statics)):
        room.statics[i] = room.first_statics[i]
    room.state[0] = room.blank[0]


@inner_kernel
def new_tables(cell: Cell, room: Room) -> P2MTables:
    """Return the tables of a cell's guest, not booted, in a cleared `room`: `new_life`."""
    never_inline()
    state = room.state[0]
    state.nr_pages = cell.nr_pages
    state.max_p2m_pfn = cell.span
    state.xen_max = cell.nr_pages
    state.mfn_list_pfn = cell.brk_pfn + cell.brk_pages
    state.brk_pfn = cell.brk_pfn
    state.brk_pages = cell.brk_pages
    state.directmap = cell.directmap
    state.num_leaves = cell.num_leaves
    state.saved_max_pfn = cell.span - 1
    state.walked_max_pfn = cell.span - 1
    state.toolstack = cell.toolstack
    state.bootmem_pfn = state.mfn_list_pfn + cell.num_boot_leaves
    state.bootmem_pages = cell.bootmem_pages
    room.pool[0, 0] = state.bootmem_pfn + cell.bootmem_pages
    room.pool[0, 1] = cell.pool_pages
    return P2MTables(
        room.state,
        room.words,
        room.slots,
        room.own,
        room.block_of[: (cell.directmap >> BLOCK_SHIFT) + 1],
        room.block_code,
        room.leaf_slot[: cell.num_leaves],
        room.leaf_page[: cell.num_leaves],
        room.true_mid_mfn,
        room.pool[: min(cell.pool_pages, 1)],
        room.present,
        room.statics,
    )
