"""Which pages a linear kernel's boot takes, one after the other, and where a file has them.

Source: linear-spec L3 to L5, as `compiled/policies/flat_boot` does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.dumps.audit.area import ADDRESSES, AreaTables
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.model.policies import Policy

REAL, MISSING, ONE_TO_ONE = 0, 1, 2
"""What a slot is: a leaf of its own, or the shared one of that kind."""

_SLOTS = 512
"""Slots that a table of level 1 maps, and PFNs of a slot."""


class LinearBoot(NamedTuple):
    """What a boot does with its PFNs, before it is said which pages it takes."""

    nr_pages: int
    extra: Int64Array
    """int64[k, 2]: runs [first PFN, count] of extra memory."""
    num_blocks: int
    """Of the area."""
    kinds: Int64Array
    """int64[size / 512]: what `boot_pages` says of each slot below the booted size."""
    vaddr: int
    lone: Int64Array
    """int64[k]: PFNs that must boot with a frame for their slot to have its own leaf."""

    @property
    def size(self) -> int:
        """The booted pages, rounded up to whole leaves."""
        return -(-self.nr_pages // _SLOTS) * _SLOTS


def boot_order(
    guest: DumpGuest,
    policy: Policy,
    boot: LinearBoot,
    area: AreaTables | None,
    *,
    listed: bool,
) -> list[int]:
    """Return the PFN of each page that boot takes, in its order, -1 where the file shows none.

    `listed` is whether the mfn list list is built too.
    """
    pages = area.pages if area is not None else {}
    first = (boot.vaddr & ADDRESSES) >> 21

    def table(level: int, block: int) -> int:
        return pages.get((level, first + block >> 9 * (level - 1)), -1)

    def leaf(slot: int) -> int:
        known = area is not None and slot < area.leaves.size
        return int(area.leaves[slot]) if area is not None and known else -1

    missing, missing_table = _missing(boot, area, leaf, table)
    last = boot.num_blocks - 1
    order = [missing, leaf(last * _SLOTS + _SLOTS - 1), missing_table, table(1, last)]
    made: set[tuple[int, int]] = set()
    own_blocks: set[int] = set()

    def tables_above(block: int) -> Iterator[int]:
        """Yield the tables of level 3 and 2 that a block's entry needs and that are not there."""
        for level in (3, 2):
            place = (level, first + block >> 9 * (level - 1))
            if place not in made:
                made.add(place)
                yield table(level, block)

    for block in range(boot.num_blocks):
        kinds = boot.kinds[block * _SLOTS : (block + 1) * _SLOTS]
        # Slots behind the booted ones are 1:1.
        kinds = np.append(kinds, np.full(_SLOTS - kinds.size, ONE_TO_ONE, np.int64))
        if kinds[0] != REAL and (kinds == kinds[0]).all():
            order += tables_above(block)
            continue
        own_blocks.add(block)
        for i in np.flatnonzero((kinds == REAL) | (np.arange(_SLOTS) == 0)).tolist():
            if kinds[i] == REAL:
                order.append(leaf(block * _SLOTS + i))
            if i == 0:
                order += tables_above(block)
                order.append(table(1, block))
    for slot in _grown_slots(boot):
        if slot // _SLOTS not in own_blocks:
            own_blocks.add(slot // _SLOTS)
            order.append(table(1, slot // _SLOTS))
        order.append(leaf(slot))
    order += [-1] * policy.hash_pages
    return order + (_list_pages(guest, sorted(own_blocks)) if listed else [])


def _missing(
    boot: LinearBoot,
    area: AreaTables | None,
    leaf: Callable[[int], int],
    table: Callable[[int, int], int],
) -> tuple[int, int]:
    """Return the PFNs of `p2m_missing` and of the level-1 table of missing blocks, -1 for none."""
    slots = np.flatnonzero(boot.kinds == MISSING)
    if area is None or not slots.size:
        return -1, -1
    whole = boot.kinds[: boot.kinds.size // _SLOTS * _SLOTS].reshape(-1, _SLOTS) == MISSING
    blocks = np.flatnonzero(whole.all(axis=1))
    return leaf(int(slots[0])), table(1, int(blocks[0])) if blocks.size else -1


def _grown_slots(boot: LinearBoot) -> list[int]:
    """Return the slots that extra memory makes grow, in the order in which it does."""
    slots: list[int] = []
    for pfn, count in boot.extra.tolist():
        slots.extend(range(pfn // _SLOTS, (pfn + count - 1) // _SLOTS + 1))
    return list(dict.fromkeys(slots))


def _list_pages(guest: DumpGuest, own_blocks: list[int]) -> list[int]:
    """Return the list's pages: `p2m_mid_missing_mfn`, `p2m_top_mfn_p`, `p2m_top_mfn`, the mids."""
    own_blocks = [block for block in own_blocks if block < _SLOTS]
    shared = guest.shared_info
    mfn = np.array([shared.frame_list_list_mfn if shared is not None else 0], np.uint64)
    top = int(guest.p2m.find(mfn.astype(np.int64))[0]) if mfn[0] else -1
    page = guest.pages.read(top) if top >= 0 else None
    if page is None or not page.complete:
        return [-1, -1, -1] + [-1] * len(own_blocks)
    found: Int64Array = guest.p2m.find(page.words)
    return [int(found[-1]), -1, top, *found[own_blocks].tolist()]
