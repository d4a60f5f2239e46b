"""The ids of cells that are given as columns: the same as `fields.cell_id_of` has, all at once."""

from __future__ import annotations

import hashlib
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
    pieces = []
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
        pieces.append([named[code] for code in column.codes.tolist()])
    start = f"p2mbatch-cell/{MODEL_VERSION}:".encode()
    used = [column for column in pieces if any(column)]
    blake2b = hashlib.blake2b
    digests = [
        blake2b(start + b"".join(row)[1:], digest_size=16).digest()
        for row in zip(*used, strict=True)
    ]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)


def _pieces(name: str, column: npt.NDArray[Any] | Words, default: Any) -> list[bytes]:
    """Return ",name=value" of each cell, and nothing where that is the default."""
    if isinstance(column, Words):
        words = column.words
        if name == "policy":
            words = [policies.identity(word) for word in words]
        texts = [b"" if word == default else f",{name}={word!r}".encode() for word in words]
        return [texts[code] for code in column.codes.tolist()]
    values = column.tolist()
    if isinstance(default, np.ndarray):
        shown = (column != default).tolist()
        return [
            f",{name}={value!r}".encode() if show else b""
            for value, show in zip(values, shown, strict=True)
        ]
    known: dict[Any, bytes] = {default: b""}
    found = []
    for value in values:
        text = known.get(value)
        if text is None:
            text = known[value] = f",{name}={value!r}".encode()
        found.append(text)
    return found
