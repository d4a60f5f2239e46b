"""The event `poke` of trace format 3: words that a guest's pages hold, whoever put them there.

How a guest that was imported starts with the damage that its file has. The words are the guest's
real state; m2p, ownership and presence stay as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID, geometry, signed_word
from p2mbatch.model.checks import Checker
from p2mbatch.model.trace import GuestLayout


def parse_words(check: Checker, value: Any, path: str, guest: GuestLayout) -> Int64Array:
    """Check `words`, [[page, index, word], ...]; return int64[k, 3], INVALID as -1.

    Pages lie in the direct map; words are unsigned numbers of the guest's width, null is INVALID.
    """
    rows = check.array(value, f"{path}.words")
    if not rows:
        raise check.fail(f"{path}.words", "is empty: it must name a word at least")
    entries = geometry(guest.word_bytes).entries
    invalid = (1 << 8 * guest.word_bytes) - 1
    out = []
    for i, row in enumerate(rows):
        at = f"{path}.words[{i}]"
        if not isinstance(row, list) or len(row) != 3:
            raise check.fail(at, "must be [page, index, word]")
        page = check.integer(row[0], f"{at}[0]", 0, guest.directmap_pages - 1)
        index = check.integer(row[1], f"{at}[1]", 0, entries - 1)
        word = INVALID
        if row[2] is not None:
            word = check.integer(row[2], f"{at}[2]", 0, invalid - 1)
        out.append([page, index, signed_word(word)])
    return np.array(out, np.int64).reshape(-1, 3)


def words_to_json(words: Int64Array) -> list[list[int | None]]:
    """Return int64[k, 3] of [page, index, word] as `parse_words` takes it."""
    return [
        [page, index, None if word == INVALID else word % (1 << 64)]
        for page, index, word in words.tolist()
    ]
