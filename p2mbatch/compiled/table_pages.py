"""A linear p2m's page table pages as the toolstack reads them (linear-spec L8)."""

from __future__ import annotations

from p2mbatch.base.arrays import Int32Array, Int64Array, UInt8Array
from p2mbatch.compiled.found import names_itself
from p2mbatch.compiled.jit import kernel
from p2mbatch.compiled.owners import own_pfn
from p2mbatch.compiled.pages import page_code, page_word
from p2mbatch.compiled.policies.flat import MAPS
from p2mbatch.compiled.policies.three_lookup import mfn_of
from p2mbatch.compiled.tables import P_KIND, TABLE, HostTables, P2MTables

ABSENT, ENTRY, WORD = 0, 1, 2
"""What `read_table` found: no entry, one of a table, or the word of a page that is no table."""

FRAME_BITS = (1 << 40) - 1
"""Of a frame number in an entry that the toolstack reads."""


@kernel
def own_page(t: P2MTables, h: HostTables, mfn: int) -> int:
    """Return the PFN at which the guest owns frame `mfn`, or -1."""
    return own_pfn(t, h, mfn)


@kernel
def read_table(
    t: P2MTables, h: HostTables, page: int, frames: Int64Array, kinds: UInt8Array
) -> None:
    """Read page `page` as a page table page: the frame in each entry, 0 where there is none.

    `frames` is int64[512], `kinds` uint8[512].
    """
    slot = page_code(t, page)
    is_table = slot >= 0 and t.slots[slot, P_KIND] == TABLE
    for i in range(len(frames)):
        word = page_word(t, h, page, i)
        if not is_table:
            frames[i] = (word >> 12) & FRAME_BITS
            kinds[i] = WORD
        elif word == 0:
            frames[i] = 0
            kinds[i] = ABSENT
        else:
            frames[i] = mfn_of(t, h, word & (MAPS - 1))
            kinds[i] = ENTRY


@kernel
def first_unnamed(
    t: P2MTables,
    h: HostTables,
    found: Int32Array,
    max_pfn: int,
    frames: Int64Array,
    kinds: UInt8Array,
) -> int:
    """Return the first entry whose frame the p2m as found does not have; or -1."""
    for i in range(len(frames)):
        if kinds[i] != ABSENT and not names_itself(t, h, found, frames[i], max_pfn):
            return i
    return -1
