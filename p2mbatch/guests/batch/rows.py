"""What a batch wrote of its rows, as the columns that a store has."""

from __future__ import annotations

from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.words import Columns, Words
from p2mbatch.compiled.batch.cells import ROW
from p2mbatch.compiled.status import NO_MEMORY, OK, OWN
from p2mbatch.model.outcomes import meaning_of
from p2mbatch.model.policies import Policy

OUTCOMES = ("ok", "bug", "fault", "save-failed", "restore-failed", "misdirected")

_COLUMNS = set(ROW.names or ()) - {"status", "detail", "structure_pages"}
"""Columns that are a row's as they are."""


def row_columns(
    rows: np.ndarray[Any, Any],
    num_rows: Int64Array,
    made: np.ndarray[Any, Any],
    policy: Policy,
    word_bytes: int,
    statics: Int64Array,
) -> Columns:
    """Return the row columns by name."""
    found: Columns = {name: np.ascontiguousarray(rows[name]) for name in _COLUMNS}
    pages = rows["structure_pages"]
    populated = np.repeat(made["populated_pages"], num_rows)
    found["structure_bytes"] = pages * PAGE_BYTES
    found["structure_overhead"] = pages / populated
    outcome, detail = np.zeros(len(rows), np.int32), np.full(len(rows), -1, np.int32)
    words: dict[str, int] = {}
    known: dict[tuple[int, int], tuple[int, int]] = {}
    ended = np.flatnonzero((rows["status"] != OK) & (rows["status"] != NO_MEMORY))
    cell = np.repeat(np.arange(len(made)), num_rows)
    for k in ended.tolist():
        status, number = int(rows["status"][k]), int(rows["detail"][k]) % (1 << 8 * word_bytes)
        # Of a policy of one's own the words are in its variables.
        key = (status, -1 - k if status >= OWN else number)
        if key not in known:
            said, more = meaning_of(status, number, policy, statics[cell[k]])
            code = -1 if more is None else words.setdefault(more, len(words))
            known[key] = OUTCOMES.index(said), code
        outcome[k], detail[k] = known[key]
    found["outcome"] = Words(outcome, list(OUTCOMES))
    found["detail"] = Words(detail, list(words))
    return found
