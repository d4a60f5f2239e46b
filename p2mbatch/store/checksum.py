"""A digest over a table and its provenance, the same in every format and however it is cut."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from p2mbatch.store.columns import COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa


def _state() -> Any:
    return hashlib.blake2b(digest_size=16)


class TableDigest:
    """Takes the batches of a table one after the other."""

    def __init__(self) -> None:
        # Two for each column: text has lengths beside it.
        self._states = [(_state(), _state()) for _ in COLUMNS]
        self._num_rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take the next rows, columns as in `arrow_schema`."""
        self._num_rows += batch.num_rows
        for states, array in zip(self._states, batch.columns, strict=True):
            for state, part in zip(states, _parts(array), strict=False):
                state.update(part)

    def text(self, provenance: dict[str, Any]) -> str:
        """Return the digest of what was taken and of `provenance`, in hex digits."""
        whole = _state()
        whole.update(json.dumps(provenance, sort_keys=True).encode())
        whole.update(f"{self._num_rows}".encode())
        for column, states in zip(COLUMNS, self._states, strict=True):
            whole.update(column.name.encode() + b"".join(state.digest() for state in states))
        return str(whole.hexdigest())


def _parts(array: pa.Array) -> list[bytes]:
    """Return the bytes of one column: of text its lengths, -1 where there is none, and itself."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(array.type):
        return [array.to_numpy(zero_copy_only=False).tobytes()]
    lengths = pc.fill_null(pc.binary_length(array), -1).to_numpy(zero_copy_only=False)
    full = pc.fill_null(array, "")
    _, offsets, data = full.buffers()
    at = np.frombuffer(offsets, np.int32)[full.offset : full.offset + len(full) + 1]
    text = data[int(at[0]) : int(at[-1])] if data is not None and len(full) else b""
    return [lengths.astype(np.int64).tobytes(), bytes(text)]
