"""How many rows came to each fate: what tables and sentences of survival are made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from p2mbatch.base.words import Words, plain
from p2mbatch.model.fates import FATES
from p2mbatch.store.fates import fate_codes
from p2mbatch.store.order import Piece

FateCounts = Counter[tuple[str, int, int, str, bool]]
"""Rows by policy, planned migrations, migration, fate, and whether the row is its cell's last."""


def count_fates(pieces: Iterable[Piece]) -> FateCounts:
    """Return the counts of `pieces`, whose rows have "migration" and `FATE_COLUMNS`."""
    counts: FateCounts = Counter()
    for piece in pieces:
        each = np.repeat(np.arange(len(piece.cells)), piece.num_rows)
        policy, planned = piece.cells.values["policy"], plain(piece.cells.values["migrations"])
        at = plain(piece.rows["migration"])
        assert isinstance(policy, Words)
        is_last = np.zeros(len(each), np.int64)
        is_last[np.cumsum(piece.num_rows) - 1] = 1
        fate = fate_codes(piece.rows, piece.num_rows).astype(np.int64)
        lengths, length = np.unique(planned, return_inverse=True)
        steps = int(at.max(initial=0)) + 1
        shape = (len(policy.words), len(lengths), steps, len(FATES), 2)
        keys = (policy.codes[each], length[each], at, fate, is_last)
        found, numbers = np.unique(np.ravel_multi_index(keys, shape), return_counts=True)
        told = np.stack(np.unravel_index(found, shape), axis=1).tolist()
        for (which, index, migration, code, last), number in zip(
            told, numbers.tolist(), strict=True
        ):
            key = policy.words[which], int(lengths[index]), migration, FATES[code], bool(last)
            counts[key] += number
    return counts
