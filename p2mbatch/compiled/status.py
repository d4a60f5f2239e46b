"""Status codes of compiled operations, and the words that they stand for."""

from __future__ import annotations

# Status codes of kernels that change something. Faults double as what a lookup returns in place
# of an entry, which is INVALID or not negative.
OK = 0

BUG_BRK_OVERFLOW, BUG_BRK_CLOSED, BUG_SET, BUG_TOP_MFN, BUG_MIDIDX, BUG_MID_MFN_P = range(1, 7)

BUG_BOOTMEM, BUG_OUT_OF_MEMORY = 7, 8

BUG_PANIC, BUG_PTEP, BUG_NULL = 12, 13, 14

NO_MEMORY = 10
"""`alloc_p2m` got no page: set_phys_to_machine returns false."""

MORE_ROOM = 11
"""Out of slots: `grown` tables and call again from `State.position`."""

NOT_PLAIN = 15
"""A walk that is left to be done step by step."""

FAULT_TOP, FAULT_MID, FAULT_STORE, FAULT_LIST = -2, -3, -4, -5

SAVE_MAX_PFN, SAVE_BAD_FLL_MFN, SAVE_MAP_FLL, SAVE_BAD_MFN_FLL, SAVE_MAP_FL = range(20, 25)

SAVE_BAD_MFN_FL, SAVE_MAP_LEAVES, SAVE_BAD_MFN_LIST, MISDIRECTED = range(25, 29)

STOPPED = 16
"""A batch was told to stop before it was done."""

RESTORE_POPULATE = 29
"""A PFN that was sent has no frame on the destination: `State.detail`."""

SAVE_BAD_CR3, SAVE_BAD_RANGE, SAVE_MAP_TABLES, SAVE_BAD_WALK, SAVE_BAD_TABLE = range(30, 35)
"""Of a linear list's walk in compiled code. The last three's `State.detail` is the level, times
2^32, and the index."""

SAVE_ABORTED = 35
"""A live save that walked a linear p2m's table, which the guest then changed."""

OWN = 40
"""From here on: why a policy of the user's own stopped (`own/registers`)."""

BUGS = {
    BUG_BRK_OVERFLOW: "brk overflow",
    BUG_BRK_CLOSED: "_brk_start == 0",
    BUG_SET: "mfn != INVALID_P2M_ENTRY",
    BUG_TOP_MFN: "virt_to_mfn(mid_mfn) != *top_mfn_p",
    BUG_MIDIDX: "mididx",
    BUG_MID_MFN_P: "mid_mfn_p != p2m_mid_missing_mfn",
    BUG_BOOTMEM: "bootmem overflow",
    BUG_OUT_OF_MEMORY: "Out of memory",
    BUG_NULL: "p == NULL",
    BUG_PANIC: "panic",
    BUG_PTEP: "!ptep || level != PG_LEVEL_4K",
}

FAULTS = {
    FAULT_TOP: "p2m_top entry",
    FAULT_MID: "p2m_mid entry",
    FAULT_STORE: "mid_mfn store",
    FAULT_LIST: "null list page",
}

SAVE_FAILURES = {
    SAVE_MAX_PFN: "max_pfn-too-large",
    SAVE_BAD_FLL_MFN: "bad-fll-mfn",
    SAVE_MAP_FLL: "map-fll-failed",
    SAVE_BAD_MFN_FLL: "bad-mfn-in-fll",
    SAVE_MAP_FL: "map-fl-failed",
    SAVE_BAD_MFN_FL: "bad-mfn-in-fl",
    SAVE_MAP_LEAVES: "map-leaves-failed",
    SAVE_BAD_MFN_LIST: "bad-mfn-in-p2m-frame-list",
}

TABLE_FAILURES = {
    SAVE_BAD_CR3: "bad-p2m-cr3",
    SAVE_BAD_RANGE: "bad-p2m-range",
    SAVE_MAP_TABLES: "map-ptes-failed",
    SAVE_BAD_WALK: "bad-mfn-in-walk",
    SAVE_BAD_TABLE: "bad-mfn-in-page-table",
}

RESTORE_FAILURES = {RESTORE_POPULATE: "populate-failed"}
