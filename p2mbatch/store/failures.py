"""The cells of a store that failed and were not finished by a later try."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import numpy as np

from p2mbatch.base.arrays import BoolArray, UInt8Array
from p2mbatch.base.words import Words, joined_words, taken
from p2mbatch.store.blocks import Cells, Failed, joined_failed, some_cells
from p2mbatch.store.id_set import IdSet
from p2mbatch.store.ledger import Head, read_parts
from p2mbatch.store.order import Missing, no_cells, with_later
from p2mbatch.store.packing import ids_of, unpack_columns


def _last_failed(
    connection: sqlite3.Connection, heads: Sequence[Head]
) -> tuple[UInt8Array, BoolArray]:
    """Return the ids of all failures in turn, and which of them stand; raises `Missing`."""
    if not any(head.num_failed for head in heads):
        return np.zeros((0, 16), np.uint8), np.zeros(0, np.bool_)
    finished, failed = IdSet(), []
    for head in heads:
        parts = read_parts(connection, head, ["ids"])
        if parts is None:
            raise Missing
        ids = ids_of(parts[0])
        finished.add(ids[: head.num_cells])
        failed.append(ids[head.num_cells :])
    ids = np.concatenate(failed)
    # Of a cell that failed in several tries the last counts.
    _, first = np.unique(ids[::-1], axis=0, return_index=True)
    stands = np.zeros(len(ids), np.bool_)
    stands[len(ids) - 1 - first] = True
    return ids, stands & ~finished.holds(ids)


def num_failures(connection: sqlite3.Connection, heads: Sequence[Head]) -> int:
    """Return how many cells failed; raises `Missing`."""
    return int(_last_failed(connection, heads)[1].sum())


def read_failures(connection: sqlite3.Connection, heads: Sequence[Head]) -> tuple[Failed, Words]:
    """Return the failed cells, and when each failed; raises `Missing`."""
    ids, stands = _last_failed(connection, heads)
    parts, times = [], []
    for head in heads:
        if not head.num_failed:
            continue
        found = read_parts(connection, head, ["failed"])
        if found is None:
            raise Missing
        columns = unpack_columns(found[0])
        error, message, when = (columns.pop(n) for n in ("error", "message", "failed_at"))
        assert isinstance(error, Words) and isinstance(message, Words) and isinstance(when, Words)
        cells = Cells(
            np.zeros((head.num_failed, 16), np.uint8), with_later(columns, head.num_failed)
        )
        parts.append(Failed(cells, error, message))
        times.append(when)
    none = Words(np.zeros(0, np.int32), [])
    if not parts:
        return Failed(no_cells(), none, none), none
    all_failed, when = joined_failed(parts), joined_words(times)
    kept = [taken(column, stands) for column in (all_failed.error, all_failed.message, when)]
    error, message, when = (column for column in kept if isinstance(column, Words))
    cells = some_cells(Cells(ids, all_failed.cells.values), stands)
    return Failed(cells, error, message), when
