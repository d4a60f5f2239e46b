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
from p2mbatch.compiled import bijection

BLOCK_SHIFT = 9
"""log2 of the pages that one block of the page directory covers."""

NO_PAGE = -1
"""Directory code of a page that nobody has written: it reads as zeros."""

LAZY = -2
"""Directory code of leaf x not yet made is `LAZY - x`; its entry in `leaf_slot` is `LAZY`."""

# Columns of P2MTables.slots. P_PAGE: PFN of the slot's page. P_KIND: see below. P_LEAF: leaf index
# x, or -1 for `p2m_missing` and all that is no leaf. P_EVENT: the last event in which a stray write
# hit the page (0: never). P_CLEAN: 1 while a leaf holds just what the host gave.
P_PAGE, P_KIND, P_LEAF, P_EVENT, P_CLEAN, P_WORDS = range(6)

# What a slot's page is: decides whether a store into it can change what the rebuild reads next.
ORDINARY, LEAF, POINTER, MID_MFN, TOP_MFN = 0, 1, 2, 3, 4

# Under a policy of one's own also: taken and not yet hung in anywhere, and given back.
TAKEN, FREED = 5, 6

STATIC_WORDS = 64
"""Words of `P2MTables.statics`."""

_NEW_SLOT = np.array([NO_PAGE, ORDINARY, -1, 0, 0], np.int64)

# Indices into P2MTables.state. Counts and PFNs; NO_PAGE for a structure that does not exist yet.
# S_WALKED_MAX_PFN: the last PFN that the last save walk would send. S_SAVED_MAX_PFN: the last one
# for which the present host gave anything.
(
    S_ENTRIES_SHIFT,
    S_VA_BASE,
    S_VA_MASK,
    S_WORD_BITS,
    S_MAX_P2M,
    S_NR_PAGES,
    S_MAX_P2M_PFN,
    S_XEN_MAX,
    S_MFN_LIST_PFN,
    S_BRK_PFN,
    S_BRK_PAGES,
    S_BRK_USED,
    S_BRK_CLOSED,
    S_POOL_USED,
    S_FAIL_AT,
    S_ALLOCS,
    S_DIRECTMAP,
    S_SHARED_FLL,
    S_SHARED_MAX,
    S_MISSING,
    S_MID_MISSING,
    S_TOP,
    S_MID_MISSING_MFN,
    S_TOP_MFN_P,
    S_TOP_MFN,
    S_NUM_SLOTS,
    S_NUM_BLOCKS,
    S_NUM_LEAVES,
    S_WILD,
    S_EVENT,
    # These three count within an event, and are set to zero together.
    S_STRAY_WRITES,
    S_STRAY_PAGES,
    S_ENTRIES_WRITTEN,
    S_SAVED_MAX_PFN,
    S_WALKED_MAX_PFN,
    S_POSITION,
    S_DETAIL,
    S_NUM_MIDS,
    S_NUM_MID_MFNS,
    S_NUM_GROWN,
    # The machine (machine-v2 sections 3 and 7): see `Machine`.
    S_IMAGE_MAP,
    S_PRESENCE,
    S_ONLY_OWN_SENT,
    S_CLEARS_FLL,
    S_M2P_ORDER,
    STATE_WORDS,
) = range(46)


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

UNBOUNDED_ORDER = 63
"""`S_M2P_ORDER` that bounds nothing."""

UNBOUNDED_ENTRIES = (1 << 63) - 1
"""`H_M2P_ENTRIES` that bounds nothing."""

UNREACHABLE = 1 << 52
"""The page of an address that can't be reached: past every direct map."""


class P2MTables(NamedTuple):
    """One guest's memory as far as it differs from zeros, its tree, and what is cached of both.

    Kernels modify every array in place except `pool`. `n` is entries per page.
    """

    state: Int64Array
    """int64[STATE_WORDS]: the scalars, by the `S_` indices."""
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


# Indices into HostTables.par.
TABLE_HOST, FUNCTION_HOST = 0, 1

TAIL, SCATTERED, EXTENTS = 0, 1, 2

LAYOUTS = {"tail": TAIL, "scattered": SCATTERED, "extents": EXTENTS}

(
    H_KIND,
    H_FRAMES,
    H_RESERVED,
    H_ORDER,
    H_NUM_EXTENTS,
    H_LAYOUT,
    H_ENTRIES_SHIFT,
    H_NR_PAGES,
    H_SPAN,
    H_NUM_HOLES,
    H_HOLES_TO_OTHERS,
    H_NAMES_ALL,
    H_STRUCT_FIRST,
    H_STRUCT_PAGES,
    H_NUM_GROWN,
    H_GUEST_FRAMES,
    H_NUM_NEIGHBOUR,
    H_NEIGHBOUR_PAGES,
    H_M2P_ORDER,
    H_M2P_ENTRIES,
    H_KEEPS_FREED,
    H_FRAMES_PERM,
) = range(22)

# H_RESERVED: frames at the bottom that Xen keeps. H_NUM_HOLES: pages of the span that the layout
# leaves out. H_HOLES_TO_OTHERS: their frames belong to whoever comes next (a new host) rather than
# being free (ballooned out on this one). H_NAMES_ALL: any page of the span may be populated later.
# H_M2P_ORDER: log2 of the m2p's size as a kernel that boots here has it; H_M2P_ENTRIES: how many
# entries are mapped for guests. Both only bound what the guest reads. H_KEEPS_FREED: whether m2p
# keeps the PFN of a frame that is freed, as before Xen 4.2.
# H_GUEST_FRAMES: how many of the frames, in the order they are handed out, are kept for the guest.
H_HOLES_PERM = H_FRAMES_PERM + bijection.NUM_PARAMETERS

H_WORDS = H_HOLES_PERM + bijection.NUM_PARAMETERS


class HostTables(NamedTuple):
    """One host: which MFN a PFN gets there, and who owns each frame (model section 7).

    A table host has explicit runs and an m2p; a function host computes both from `par`, and its
    arrays are empty. Ownership on a function host is kept beside the guest's leaves
    (`P2MTables.own`), since only the guest's own frames can change hands.
    """

    par: Int64Array
    """int64[H_WORDS]: the parameters, by the `H_` indices."""
    m2p: Int64Array
    """int64[frames] or empty: PFN that m2p holds for each frame, INVALID elsewhere."""
    owned: UInt8Array
    """uint8[frames] or empty: 1 where the frame is this guest's own."""
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
    state = np.zeros(STATE_WORDS, np.int64)
    state[S_ENTRIES_SHIFT] = geo.entries_shift
    state[S_VA_BASE] = geo.va_base
    state[S_VA_MASK] = geo.va_pages_mask
    state[S_WORD_BITS] = 8 * geo.word_bytes
    state[S_MAX_P2M] = geo.max_p2m_pfn
    state[S_NR_PAGES] = nr_pages
    state[S_MAX_P2M_PFN] = max_p2m_pfn
    state[S_XEN_MAX] = nr_pages
    state[S_MFN_LIST_PFN] = mfn_list_pfn
    state[S_BRK_PFN] = brk_pfn
    state[S_BRK_PAGES] = brk_pages
    state[S_FAIL_AT] = -1
    state[S_DIRECTMAP] = directmap_pages
    state[S_MISSING : S_TOP_MFN + 1] = NO_PAGE
    state[S_NUM_LEAVES] = num_leaves
    state[S_IMAGE_MAP] = machine.image_map and geo.word_bytes == 8
    state[S_PRESENCE] = machine.presence
    state[S_ONLY_OWN_SENT] = machine.only_own_sent
    state[S_CLEARS_FLL] = machine.clears_frame_list_list
    state[S_M2P_ORDER] = UNBOUNDED_ORDER
    state[S_SAVED_MAX_PFN] = max_p2m_pfn - 1
    state[S_WALKED_MAX_PFN] = max_p2m_pfn - 1
    directory = (directmap_pages >> BLOCK_SHIFT) + 1
    return P2MTables(
        state=state,
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
        used = int(t.state[S_NUM_SLOTS])
        out[:used] = array[:used]
        return out

    return t._replace(
        words=zeros_after(t.words),
        slots=longer(t.slots, extra_slots, _NEW_SLOT),
        own=zeros_after(t.own),
        block_code=longer(t.block_code, extra_blocks, NO_PAGE),
    )
