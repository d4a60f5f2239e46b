"""Columns of tables: numbers as numpy arrays, text as codes beside its few words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from p2mbatch.base.arrays import Int32Array, Int64Array

NULL = -1
"""The code of a text that is not there."""


class Words(NamedTuple):
    """A column of text: `words[codes[i]]`, or none where the code is `NULL`."""

    codes: Int32Array
    words: list[str]

    def __len__(self) -> int:
        return len(self.codes)

    def texts(self) -> list[str | None]:
        """Return the texts one by one."""
        known = [*self.words, None]
        return [known[code] for code in self.codes.tolist()]


Column = npt.NDArray[Any] | Words
"""int64 or float64 values, or text."""

Columns = dict[str, Column]


def words_of(texts: Iterable[str | None]) -> Words:
    """Return `texts` as a column, the words in the order in which they come first."""
    known: dict[str, int] = {}
    codes = [NULL if t is None else known.setdefault(t, len(known)) for t in texts]
    return Words(np.array(codes, np.int32), list(known))


def joined_words(parts: Sequence[Words]) -> Words:
    """Return columns of text one behind the other, over one list of words."""
    known: dict[str, int] = {}
    codes = []
    for part in parts:
        here = [known.setdefault(word, len(known)) for word in part.words]
        # The last stands for `NULL`, which -1 finds.
        codes.append(np.array([*here, NULL], np.int32)[part.codes])
    return Words(np.concatenate(codes) if codes else np.zeros(0, np.int32), list(known))


def taken(column: Column, at: npt.NDArray[Any]) -> Column:
    """Return the entries `at` (indices or a mask) of a column."""
    if isinstance(column, Words):
        return Words(column.codes[at], column.words)
    found: npt.NDArray[Any] = column[at]
    return found


def values_in(column: Column) -> list[Any]:
    """Return the values of a column one by one, None for a text that is not there."""
    found: list[Any] = column.texts() if isinstance(column, Words) else column.tolist()
    return found


def plain(column: Column) -> npt.NDArray[Any]:
    """Return a column that is not of text."""
    assert not isinstance(column, Words)
    return column


def told(column: Column, of_word: Callable[..., Any]) -> Int64Array:
    """Return for each entry what the number `of_word` of its text is; the column is of text."""
    assert isinstance(column, Words)
    found: Int64Array = np.array([int(of_word(word)) for word in column.words], np.int64)
    return found[column.codes]


def joined_columns(parts: Sequence[Columns]) -> Columns:
    """Return the columns of `parts`, of which there is at least one, one behind the other."""
    found: Columns = {}
    for name in parts[0]:
        columns = [part[name] for part in parts]
        if isinstance(columns[0], Words):
            found[name] = joined_words([c for c in columns if isinstance(c, Words)])
        else:
            found[name] = np.concatenate([c for c in columns if not isinstance(c, Words)])
    return found
