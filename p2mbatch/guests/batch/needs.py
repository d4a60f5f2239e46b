"""What the lives of cells need: of a workspace, each for itself, and of memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.base.geometry import geometry
from p2mbatch.compiled.batch.cells import ROW, WITHIN
from p2mbatch.compiled.batch.room import CHUNK, FOUND_SHORT, RUNS_SHORT, SHORT, Room, Size
from p2mbatch.compiled.tables import SCATTERED
from p2mbatch.guests.batch.cells import gets_more_pages
from p2mbatch.model.placing import Placements, table_bytes
from p2mbatch.model.policies import Policy

_ASIDE_BYTES = 1 << 18
"""What a cell needs beside what is counted, about."""

_FEW = 512


class Needs(NamedTuple):
    """The fields of `Size`, int64[cells] each."""

    slots: Int64Array
    blocks: Int64Array
    directmap: Int64Array
    leaves: Int64Array
    span: Int64Array
    found: Int64Array
    added: Int64Array
    present: Int64Array
    runs: Int64Array
    rounds: Int64Array

    def largest(self, good: BoolArray) -> Size:
        """Return the room in which each of the cells that are `good` can be lived."""
        return Size(*(int(column[good].max()) for column in self))


def needs_of(
    placed: Placements, made: np.ndarray[Any, Any], policy: Policy, word_bytes: int
) -> Needs:
    """Return the room that cells need, CELL records `made`."""
    n = geometry(word_bytes).entries
    gets_more = gets_more_pages(made)
    is_live = made["live"] != 0
    none = np.zeros(len(made), np.int64)
    leaves = np.maximum(placed.num_leaves, placed.num_boot_leaves)
    needs = Needs(
        slots=placed.num_slots,
        blocks=placed.num_blocks,
        directmap=placed.directmap,
        leaves=leaves,
        span=placed.reach * (made["notes_owned"] != 0),
        found=none + _FEW,
        added=none,
        present=placed.directmap * gets_more,
        runs=none,
        rounds=made["rounds"] * is_live,
    )
    if policy.is_linear or is_live.any():
        # A linear p2m may be saved leaf by leaf though nothing lives on meanwhile.
        all_leaves = np.maximum(placed.max_p2m_pfn // n + 1, leaves)
        needs = needs._replace(found=np.where(is_live | policy.is_linear, all_leaves, _FEW))
    if not gets_more.any():
        return needs
    at_once = np.maximum(made["grow_pages"], 2 * made["churn_pages"])
    return needs._replace(
        slots=placed.num_slots + _touched_leaves(made, leaves, n),
        added=np.minimum(at_once, placed.reach),
        runs=CHUNK * is_live,
    )


def _touched_leaves(made: np.ndarray[Any, Any], leaves: Int64Array, n: int) -> Int64Array:
    """Return how many leaves may be touched after boot, and so made, at most.

    A round gets or gives back up to twice its average, in a row where the holes are.
    """
    moves = made["migrations"].astype(np.float64)
    added = moves * (made["grow_pages"] + 2.0 * made["churn_pages"] * made["rounds"])
    lies_apart = (made["layout"] == SCATTERED) & (made["grow_where"] == WITHIN)
    touched = np.where(lies_apart, added, added / n + 2 * (added > 0))
    touched = np.minimum(touched, leaves)
    out = made["balloon_pages"].astype(np.float64)
    gone = moves * made["rounds"] * np.where(out > 0, 2 * out / n + 2, 0)
    touched += np.minimum(gone, made["num_boot_leaves"])
    found: Int64Array = np.minimum(touched, leaves).astype(np.int64)
    return found


def memory_bytes(
    placed: Placements, made: np.ndarray[Any, Any], needs: Needs, word_bytes: int
) -> Int64Array:
    """Return about how many bytes the lives of cells touch, each for itself."""
    n = geometry(word_bytes).entries
    is_live = made["live"] != 0
    owned = (
        2
        * needs.span
        * (made["marks_hole"] | made["names_all"] | made["live"] | made["may_share"] != 0)
    )
    tables = table_bytes(placed._replace(num_slots=needs.slots), word_bytes)
    # The judge's note of a leaf, and the leaf.
    judged = needs.slots * (8 + n // 8) + needs.leaves
    later = needs.present + 8 * needs.added + 12 * needs.found * is_live
    rows = (made["migrations"] + 1) * ROW.itemsize
    found: Int64Array = tables + owned + judged + later + rows
    return found + _ASIDE_BYTES


def with_more(size: Size, room: Room) -> Size:
    """Return `size` with more than `room` has of what a cell was short of there."""
    short = room.now[SHORT]
    if short == FOUND_SHORT:
        return size._replace(found=4 * len(room.mfns))
    if short == RUNS_SHORT:
        return size._replace(runs=4 * len(room.more.out))
    state = room.state[0]
    slots, blocks = len(room.words), len(room.block_code)
    if state.num_blocks + 6 > blocks:
        size = size._replace(blocks=2 * blocks + 64)
        if state.num_slots + 6 <= slots:
            return size
    return size._replace(slots=2 * slots + 64)
