"""The flat arrays of one guest (`P2MTables`) and of one host (`HostTables`), documented here once.

Memory is modelled page by page, because that is where the story lies: every structure of the tree
is a page of the guest, and a stray write lands on a page. A page that holds anything but zeros has
a *slot*, a row of `words`; a two-level directory leads from its PFN to the slot. Beside these exact
contents, `leaf_slot` and `leaf_page` cache where each leaf is, so that lookups and rebuilds need
not walk the pointer pages; once a pointer page has been hit (`WILD`), they are no longer believed.

Only some leaves need be resident (model section 10): a leaf page whose directory code is
`-2 - x` is leaf x not yet made; its words follow from the host's function.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from p2mbatch.base.arrays import Int32Array, Int64Array, UInt8Array, UInt64Array
from p2mbatch.base.geometry import Geometry
from p2mbatch.compiled.records import NO_PAGE as NO_PAGE
from p2mbatch.compiled.records import UNBOUNDED_ENTRIES as UNBOUNDED_ENTRIES
from p2mbatch.compiled.records import UNBOUNDED_ORDER as UNBOUNDED_ORDER
from p2mbatch.compiled.records import (
    HostParameters,
    OneRecord,
    State,
    as_array,
)

BLOCK_SHIFT = 9
"""log2 of the pages that one block of the page directory covers."""

LAZY = -2
"""Directory code of leaf x not yet made is `LAZY - x`; its entry in `leaf_slot` is `LAZY`."""

# Columns of P2MTables.slots. P_PAGE: PFN of the slot's page. P_KIND: see below. P_LEAF: leaf index
# x, or -1 for `p2m_missing` and all that is no leaf. P_EVENT: the last event in which a stray write
# hit the page (0: never). P_CLEAN: 1 while a leaf holds just what the host gave.
P_PAGE, P_KIND, P_LEAF, P_EVENT, P_CLEAN, P_WORDS = range(6)

# What a slot's page is: decides whether a store into it can change what the rebuild reads next.
# A TABLE is a page table page of a linear p2m.
ORDINARY, LEAF, POINTER, MID_MFN, TOP_MFN, TABLE = 0, 1, 2, 3, 4, 5

# Under a policy of one's own also: taken and not yet hung in anywhere, and given back.
TAKEN, FREED = 6, 7

STATIC_WORDS = 64
"""Words of `P2MTables.statics`."""

_NEW_SLOT = np.array([NO_PAGE, ORDINARY, -1, 0, 0], np.int64)


class Machine(NamedTuple):
    """What differs between the machines that traces were recorded on: data, not code."""

    image_map: bool
    """Whether a 64-bit guest knows brk and `mfn_list` by kernel-image addresses (section 3a)."""
    presence: bool
    """Whether a page without a frame is out of the direct map for stores (section 3b)."""
    only_own_sent: bool
    """Whether only entries that are the guest's own frames are sent, each of which then needs a
    frame on the destination (section 7, step 3)."""
    clears_frame_list_list: bool
    """Whether a restore leaves 0 as the shared info's frame list list MFN."""
    bounded_m2p: bool
    """Whether the guest's reads of m2p end at its order and at the mapped entries (section 7)."""


MACHINE_1 = Machine(False, False, False, False, False)
"""The machine of docs/model.md as format 1 recorded it."""

MACHINE_2 = Machine(True, True, True, True, True)
"""The machine as it is: formats 2 and 3."""

IMAGE_BASE = -(1 << 31)
"""Where the kernel image map begins, 0xffffffff80000000, as an int64."""

IMAGE_END = -(1 << 21)
"""The first address past what the kernel image map holds, 0xffffffffffe00000, as an int64."""

UNREACHABLE = 1 << 52
"""The page of an address that can't be reached: past every direct map."""


class P2MTables(NamedTuple):
    """One guest's memory as far as it differs from zeros, its tree, and what is cached of both.

    Kernels modify every array in place except `pool`. `n` is entries per page.
    """

    state: OneRecord[State]
    """record[1]: the scalars."""
    words: Int64Array
    """int64[slots, n]: the words of each page that has a slot. INVALID is -1 in either width;
    pointers are virtual addresses as the guest's words (64-bit ones as int64 bit patterns)."""
    slots: Int64Array
    """int64[slots, P_WORDS]: what each slot is, by the `P_` columns."""
    own: UInt64Array
    """uint64[slots, n / 64]: on a function host, bit i of a leaf: entry i got its frame."""
    block_of: Int32Array
    """int32[blocks of the direct map]: row of `block_code` for 512 pages, or -1."""
    block_code: Int32Array
    """int32[blocks in use, 512]: slot of a page, NO_PAGE, or LAZY - x."""
    leaf_slot: Int32Array
    """int32[num_leaves]: slot of leaf x; that of `p2m_missing` where there is none; LAZY."""
    leaf_page: Int32Array
    """int32[num_leaves]: PFN of the page that leaf x is; `p2m_missing` where there is none."""
    true_mid_mfn: Int64Array
    """int64[n]: PFN of the mid_mfn page last installed for each top index (model section 6)."""
    pool: Int64Array
    """int64[k, 2]: runs [first PFN, count] of `alloc_p2m_page`."""
    present: UInt8Array
    """uint8[directmap_pages] or empty: 1 where a page is in the direct map. Empty on a machine
    without presence, and on a function host as long as it is what the layout and `own` say."""
    statics: Int64Array
    """int64[STATIC_WORDS]: the static variables of a policy of one's own (`compiled/own`)."""


TABLE_HOST, FUNCTION_HOST = 0, 1

TAIL, SCATTERED, EXTENTS = 0, 1, 2

LAYOUTS = {"tail": TAIL, "scattered": SCATTERED, "extents": EXTENTS}

TRIMS, RANGED, LEGACY = 0, 1, 2
"""`State.toolstack`: of Xen 4.7 and later, of 4.6, of 4.5 and before (model/toolstacks.py)."""

WAS_FREED, SHARED_OWN = 1, 2
"""Bits of `HostTables.owned` on a function host."""

KEEPS_FREED, KEEPS_BOOTED = 1, 2
"""`HostParameters.keeps_freed` of a host that does, and of a function host that the guest booted
on, where what it booted with and has not any more was freed; `HostTables.owned` tells of others."""


class HostTables(NamedTuple):
    """One host: which MFN a PFN gets there, and who owns each frame (model section 7).

    A table host has explicit runs and an m2p; a function host computes both from `par`, and its
    arrays are empty where it has no real host's map. Ownership on a function host is kept beside
    the guest's leaves (`P2MTables.own`), since only the guest's own frames can change hands.
    """

    par: OneRecord[HostParameters]
    """record[1]: the parameters."""
    m2p: Int64Array
    """int64[frames]: PFN that m2p holds for each frame, INVALID elsewhere. On a function host
    empty, or int64[k] of a real host's map: what frames stand for that are not the guest's."""
    owned: UInt8Array
    """uint8[frames] or empty: 1 where the frame is this guest's own. On a function host uint8[span]
    where it keeps freed frames' words or a leaf that many PFNs share was written to: bit WAS_FREED
    where the guest freed the frame of a PFN, SHARED_OWN where it owns that of one with such a leaf.
    """
    domain: Int64Array
    """int64[k, 3] or empty: runs [pfn, mfn, count], ascending by PFN."""


def allocate(
    geo: Geometry,
    *,
    nr_pages: int,
    max_p2m_pfn: int,
    mfn_list_pfn: int,
    brk_pfn: int,
    brk_pages: int,
    pool: Int64Array,
    directmap_pages: int,
    num_slots: int,
    num_blocks: int,
    machine: Machine,
    table_presence: bool = False,
) -> P2MTables:
    """Return the tables of a guest that has not booted, with room for `num_slots` pages.

    `table_presence` keeps a presence byte for each page, as table hosts need.
    Arrays come from the allocator as untouched zero pages, so room that is never used costs
    address space only. Raises MemoryError where the machine refuses even that.
    """
    n = geo.entries
    num_leaves = min(-(-max_p2m_pfn // n), n * n)
    state = State(
        entries_shift=geo.entries_shift,
        va_base=geo.va_base,
        va_mask=geo.va_pages_mask,
        word_bits=8 * geo.word_bytes,
        max_p2m=geo.max_p2m_pfn,
        nr_pages=nr_pages,
        max_p2m_pfn=max_p2m_pfn,
        xen_max=nr_pages,
        mfn_list_pfn=mfn_list_pfn,
        brk_pfn=brk_pfn,
        brk_pages=brk_pages,
        directmap=directmap_pages,
        num_leaves=num_leaves,
        saved_max_pfn=max_p2m_pfn - 1,
        walked_max_pfn=max_p2m_pfn - 1,
        image_map=machine.image_map and geo.word_bytes == 8,
        presence=machine.presence,
        only_own_sent=machine.only_own_sent,
        clears_fll=machine.clears_frame_list_list,
    )
    directory = (directmap_pages >> BLOCK_SHIFT) + 1
    return P2MTables(
        state=as_array(state),
        words=np.zeros((num_slots, n), np.int64),
        slots=np.full((num_slots, P_WORDS), _NEW_SLOT, np.int64),
        own=np.zeros((num_slots, n // 64), np.uint64),
        block_of=np.full(directory, -1, np.int32),
        block_code=np.full((num_blocks, 1 << BLOCK_SHIFT), NO_PAGE, np.int32),
        leaf_slot=np.zeros(num_leaves, np.int32),
        leaf_page=np.zeros(num_leaves, np.int32),
        true_mid_mfn=np.full(n, NO_PAGE, np.int64),
        pool=np.ascontiguousarray(pool, np.int64).reshape(-1, 2),
        present=np.zeros(directmap_pages if machine.presence and table_presence else 0, np.uint8),
        statics=np.zeros(STATIC_WORDS, np.int64),
    )


def grown(t: P2MTables, extra_slots: int, extra_blocks: int) -> P2MTables:
    """Return `t` with room for more pages, its contents copied.

    Stray writes can hit any number of pages, so kernels stop with MORE_ROOM and are called again.
    """

    def longer(array: npt.NDArray, extra: int, fill: int | Int64Array) -> npt.NDArray:  # type: ignore[type-arg]
        out = np.full((len(array) + extra, *array.shape[1:]), fill, array.dtype)
        out[: len(array)] = array
        return out

    def zeros_after(array: npt.NDArray) -> npt.NDArray:  # type: ignore[type-arg]
        out = np.zeros((len(array) + extra_slots, *array.shape[1:]), array.dtype)
        used = int(t.state[0].num_slots)
        out[:used] = array[:used]
        return out

    return t._replace(
        words=zeros_after(t.words),
        slots=longer(t.slots, extra_slots, _NEW_SLOT),
        own=zeros_after(t.own),
        block_code=longer(t.block_code, extra_blocks, NO_PAGE),
    )
