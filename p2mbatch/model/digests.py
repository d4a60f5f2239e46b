"""Digests of a p2m: runs of pages at once, so that it takes as long as hashing and no longer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from p2mbatch.base.arrays import Int32Array, Int64Array
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.inspect import p2m_words
from p2mbatch.compiled.policies import three_lookup
from p2mbatch.model.life import Life

_READ_LEAVES = (p2m_words, three_lookup.get_row)
"""The lookups that read a leaf's words as they are, but for `p2m_identity`'s."""

_LONG_LEAVES = 32
"""From so many leaves on, pages side by side or one page again are hashed without being copied."""

_GATHERED_LEAVES = 64
"""Other leaves are brought together first, so many at a time that they stay in a cache."""

_CHUNK_PFNS = 1 << 17
"""PFNs that are looked up at a time where no leaf can be read as it is: 1 MiB of words."""


def p2m_sha256(life: Life, end: int) -> str:
    """Return the digest of the entries of every PFN below `end`, no bit masked."""
    digest, at = hashlib.sha256(), 0
    words, slots = life.tables.words, life.tables.leaf_slot
    n = words.shape[1]
    for first, stop in _plain_stretches(life, min(end // n, life.scalar("num_leaves"))):
        _hash_looked_up(digest, life, at, first * n)
        hash_leaves(digest, words, slots[first:stop])
        at = stop * n
    _hash_looked_up(digest, life, at, end)
    return digest.hexdigest()


def hash_leaves(digest: hashlib._Hash, words: Int64Array, slots: Int32Array) -> None:
    """Feed the pages `words[slots]` (int64[pages, n], int32[k]) to `digest` in that order."""
    at = 0
    for first, stop in _long_runs(slots):
        _hash_gathered(digest, words, slots[at:first])
        if slots[first] == slots[first + 1]:
            _hash_again(digest, words[slots[first]], stop - first)
        else:
            digest.update(words[slots[first] : slots[first] + stop - first].data)
        at = stop
    _hash_gathered(digest, words, slots[at:])


def _plain_stretches(life: Life, num_leaves: int) -> Iterator[tuple[int, int]]:
    """Yield (first, stop) of leaves that are hashed as they are, ascending."""
    if life.policy.operations.get_row not in _READ_LEAVES or life.scalar("wild"):
        return
    slots, pages = life.tables.leaf_slot[:num_leaves], life.tables.leaf_page[:num_leaves]
    plain = (slots >= 0) & ((pages != life.scalar("identity")) | (pages == tb.NO_PAGE))
    edges = np.flatnonzero(np.diff(plain, prepend=False, append=False))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _long_runs(slots: Int32Array) -> Iterator[tuple[int, int]]:
    """Yield (first, stop) of long runs of one slot, or of slots side by side, ascending."""
    if len(slots) < _LONG_LEAVES:
        return
    step = np.diff(slots)
    edges = np.flatnonzero(np.diff(step)) + 1
    starts, stops = np.append(0, edges), np.append(edges, len(step))
    long = (stops - starts >= _LONG_LEAVES) & ((step[starts] == 0) | (step[starts] == 1))
    at = 0
    for start, stop in zip(starts[long].tolist(), stops[long].tolist(), strict=True):
        # Two runs that meet share a leaf: the first has it.
        yield max(start, at), stop + 1
        at = stop + 1


def _hash_gathered(digest: hashlib._Hash, words: Int64Array, slots: Int32Array) -> None:
    together = np.empty((min(len(slots), _GATHERED_LEAVES), words.shape[1]), np.int64)
    for first in range(0, len(slots), _GATHERED_LEAVES):
        some = slots[first : first + _GATHERED_LEAVES]
        # "clip" only keeps numpy from copying twice.
        np.take(words, some, axis=0, out=together[: len(some)], mode="clip")
        digest.update(together[: len(some)].data)


def _hash_again(digest: hashlib._Hash, page: Int64Array, times: int) -> None:
    """Feed one page `times` times."""
    copies = np.tile(page, (_GATHERED_LEAVES, 1))
    for _ in range(times // _GATHERED_LEAVES):
        digest.update(copies.data)
    digest.update(copies[: times % _GATHERED_LEAVES].data)


def _hash_looked_up(digest: hashlib._Hash, life: Life, first: int, end: int) -> None:
    """Feed the entries of the PFNs from `first` to `end` by the policy's own lookup."""
    chunk = np.empty(min(_CHUNK_PFNS, max(end - first, 0)), np.int64)
    for pfn in range(first, end, _CHUNK_PFNS):
        part = chunk[: min(_CHUNK_PFNS, end - pfn)]
        life.policy.operations.get_row(life.tables, life.host, pfn, part)
        digest.update(part.data)
