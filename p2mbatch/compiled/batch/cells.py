"""What crosses into a batch and out of it: a record for each cell, and one for each row."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.records import OneRecord, record_dtype


@dataclasses.dataclass(slots=True, kw_only=True)
class Cell:
    """One cell: its guest as it was placed, its hosts, its life. Counts and PFNs in pages."""

    layout: int
    span: int
    """`max_p2m_pfn`."""
    nr_pages: int
    num_holes: int
    num_grown: int
    brk_pfn: int
    brk_pages: int
    num_boot_leaves: int
    bootmem_pages: int
    pool_pages: int
    directmap: int
    max_p2m_pfn: int
    """PFNs that the kernel's p2m is made for: the span, or a linear one's area."""
    max_domain_pages: int
    """Of a p2m of two levels: PFNs that it holds; else 0."""
    num_leaves: int
    """Leaves that are cached."""
    is_linear: int
    p2m_vaddr: int
    no_list: int
    """Of a linear p2m: where it begins, and whether no list is kept at first."""
    hole_first: int
    hole_end: int
    """The 1:1 PFNs; 0 where there are none."""
    marks_hole: int
    """Whether there are any and boot marks them."""
    has_identity: int
    """Whether words in leaves may say 1:1 from boot on."""
    reach: int
    """The PFN after the last that may ever be populated."""
    names_all: int
    """Whether a host keeps a frame for each of those: the guest may get more of them."""
    notes_owned: int
    """Whether `HostTables.owned` is kept: what is freed, and what is owned under a shared leaf."""
    may_share: int
    """Whether sets may write into the leaf that 1:1 PFNs share."""
    grow_pages: int
    """What the guest gets more before each migration."""
    grow_where: int
    """Where that is: WITHIN, BEYOND or INSIDE."""
    live: int
    rounds: int
    churn_pages: int
    balloon_pages: int
    """Whether it lives on while it is sent, for how many rounds; what it then gets and gives back
    in one, on average."""
    fixed_pages: int
    """Pages of structures that are not counted as they are taken."""
    populated_pages: int
    first_host: int
    num_hosts: int
    """Which of the batch's hosts are this cell's; the last is taken for all that follow."""
    build_order: int
    restore_order: int
    neighbours: float
    """The part of the frames that are not the guest's and belong to other domains."""
    neighbour_pages: int
    small_order: int
    """Whether a 64-bit guest is told the smallest m2p order that holds the host's frames."""
    keeps_freed: int
    """Whether m2p keeps the PFN of a frame that was freed."""
    toolstack: int
    """As `State.toolstack`."""
    migrations: int
    stays: int
    """Whether a guest whose save or restore is refused lives on."""
    seed: int


WITHIN, BEYOND, INSIDE = range(3)
"""Where pages are that are populated later: in the span's holes, past its end, in 1:1 PFNs."""


@dataclasses.dataclass(slots=True, kw_only=True)
class Row:
    """One row: a boot's or a migration's."""

    migration: int
    status: int
    """A status code (`status`); OK and NO_MEMORY are survived."""
    detail: int
    """The number of a save's or a restore's failed check."""
    stray_writes: int
    stray_pages: int
    lost_pages: int
    ghost_pages: int
    lost_identity_pages: int
    placeholder_writes: int
    stale_top_entries: int
    stale_mid_entries: int
    leaves: int
    mids: int
    mid_mfn_pages: int
    structure_pages: int
    entries_written: int
    resident_leaves: int
    rebuild_ns: int
    save_walk_ns: int
    restore_ns: int


@dataclasses.dataclass(slots=True, kw_only=True)
class Control:
    """How far a batch is, and whether it is to stop."""

    stop: int = 0
    """Not 0: give up before the next event. Any thread may set it."""
    cell: int = 0
    """The cell to go on with."""
    rows: int = 0
    """Rows that the cells before it have."""


CELL = record_dtype(Cell, float=np.dtype(np.float64))

ROW = record_dtype(Row)

CONTROL = record_dtype(Control)


class Batch(NamedTuple):
    """Cells that one call lives, and where it puts what they come to."""

    cells: Int64Array
    """CELL[cells]."""
    sizes: Int64Array
    """int64[k, 2]: the hosts' least and largest bytes."""
    rows: Int64Array
    """ROW[k], with room for all rows that there can be."""
    ends: Int64Array
    took_ns: Int64Array
    """int64[cells] each: where each cell's rows end, and how long it took."""
    statics: Int64Array
    """int64[cells, k]: the static variables of its policy; k is 0 where nobody asks."""
    control: OneRecord[Control]
