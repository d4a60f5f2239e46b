"""The ids of cells that are given as columns: the same as `fields.cell_id_of` has, all at once."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from p2mbatch._version import MODEL_VERSION
from p2mbatch.base.arrays import UInt8Array
from p2mbatch.base.words import Columns, Words
from p2mbatch.guests.fields import (
    FIELDS,
    FILES,
    HOST_PER_GUEST,
    LEAST_HOST_BYTES,
    ScenarioFields,
)
from p2mbatch.guests.references import digest_of
from p2mbatch.model import policies

_FOLLOW = ("memory_bytes", "host_memory_bytes", "neighbour_memory_bytes")
"""Fields whose default follows from others, or that have none."""


def cell_ids(columns: Columns) -> UInt8Array:
    """Return the ids of cells whose canonical values are `columns`, uint8[n, 16]."""
    memory = columns["memory_bytes"]
    assert not isinstance(memory, Words)
    plain: dict[str, Any] = {
        "host_memory_bytes": np.maximum(HOST_PER_GUEST * memory, LEAST_HOST_BYTES),
        "neighbour_memory_bytes": memory,
    }
    pieces: list[bytes | list[bytes]] = []
    for name in FIELDS:
        if name in FILES:
            continue
        default = plain.get(name)
        if name not in _FOLLOW:
            default = ScenarioFields.model_fields[name].default
        pieces.append(_pieces(name, columns[name], default))
    # The digests of files come last, whatever their fields' places.
    for name in FILES:
        column = columns[name]
        assert isinstance(column, Words)
        named = [f",{name}={digest_of(word)}".encode() if word else b"" for word in column.words]
        pieces.append(_of_codes(named, column))
    return _digests(pieces, len(memory))


def _digests(pieces: list[bytes | list[bytes]], num_cells: int) -> UInt8Array:
    """Return the digest of each cell's pieces, those that all cells share joined beforehand."""
    start = f"p2mbatch-cell/{MODEL_VERSION}:".encode()
    parts: list[Iterable[bytes]] = []
    shared = b""
    for piece in pieces:
        if isinstance(piece, bytes):
            shared += piece
            continue
        parts += [itertools.repeat(shared, num_cells), piece]
        shared = b""
    parts.append(itertools.repeat(shared, num_cells))
    blake2b = hashlib.blake2b
    digests = [
        # Behind the first comma, whichever field it stands before.
        blake2b(start + b"".join(row)[1:], digest_size=16).digest()
        for row in zip(*parts, strict=True)
    ]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)


def _of_codes(texts: list[bytes], column: Words) -> bytes | list[bytes]:
    """Return the text of each code; one of them where it is that of all cells."""
    codes = column.codes
    if len(codes) and (codes == codes[0]).all():
        return texts[int(codes[0])]
    return [texts[code] for code in codes.tolist()]


def _pieces(name: str, column: npt.NDArray[Any] | Words, default: Any) -> bytes | list[bytes]:
    """Return ",name=value" of each cell, and nothing where that is the default.

    One for all where all have the same.
    """
    if isinstance(column, Words):
        words = column.words
        if name == "policy":
            words = [policies.identity(word) for word in words]
        texts = [b"" if word == default else f",{name}={word!r}".encode() for word in words]
        return _of_codes(texts, column)
    is_default = column == default
    if len(column) and is_default.all():
        return b""
    if len(column) and not is_default.any() and (column == column[0]).all():
        return f",{name}={column[0].item()!r}".encode()
    if column.dtype.kind == "i":
        before = f",{name}=".encode()
        shown = zip(column.tolist(), is_default.tolist(), strict=True)
        return [b"" if hidden else before + b"%d" % value for value, hidden in shown]
    known: dict[Any, bytes] = {default: b""}
    found = []
    for value in column.tolist():
        text = known.get(value)
        if text is None:
            text = known[value] = f",{name}={value!r}".encode()
        found.append(text)
    return found
