"""Blocks as bytes and back: Arrow's IPC streams, compressed, and the digests over them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from p2mbatch.base.arrays import BoolArray, UInt8Array
from p2mbatch.base.words import NULL, Column, Columns, Words
from p2mbatch.store.blocks import Block
from p2mbatch.store.columns import ROW_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

DIGEST_BYTES = 16

Plain = np.ndarray[Any, Any]
"""A column of numbers or of bits."""

_COMPRESSION = "lz4"
"""Half again as large as zstd's, and read and written four times as fast."""

ROW_NAMES = tuple(column.name for column in ROW_COLUMNS)


class Packed(NamedTuple):
    """The parts of a block as bytes, in the order in which a reader wants them."""

    ids: bytes
    """16 bytes for each finished cell, then for each that failed."""
    cells: bytes
    """What the finished cells are, their times and their numbers of rows."""
    failed: bytes
    """What the failed cells are, and their messages; empty where there are none."""
    rows: bytes

    def checks(self) -> bytes:
        """Return the digests of the parts, one behind the other."""
        return b"".join(map(digest, self))


def digest(*parts: object) -> bytes:
    """Return a digest over values, each by its type, its length and its bytes or its text."""
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        # A flipped bit can make text bytes, or a number one of another kind.
        state.update(f"{type(part).__name__}{len(data)}:".encode())
        state.update(data)
    return state.digest()


def pack(block: Block, failed_at: str) -> Packed:
    """Return `block` as bytes; `failed_at` is the time that its failures are said to be of."""
    failed = block.failed
    more: Columns = {"duration_ns": block.duration_ns, "num_rows": block.num_rows}
    reasons: Columns = {
        "error": failed.error,
        "message": failed.message,
        "failed_at": Words(np.zeros(len(failed.cells), np.int32), [failed_at]),
    }
    return Packed(
        block.cells.ids.tobytes() + failed.cells.ids.tobytes(),
        pack_columns(block.cells.values | more),
        pack_columns(failed.cells.values | reasons) if len(failed.cells) else b"",
        pack_columns(block.rows),
    )


def ids_of(data: bytes) -> UInt8Array:
    """Return packed ids as uint8[n, 16]."""
    return np.frombuffer(data, np.uint8).reshape(-1, DIGEST_BYTES)


def pack_columns(columns: Columns) -> bytes:
    """Return columns of one length as bytes."""
    import pyarrow as pa

    arrays = [arrow_array(column) for column in columns.values()]
    batch = pa.RecordBatch.from_arrays(arrays, list(columns))
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=_COMPRESSION, use_threads=False)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def unpack_columns(data: bytes, names: Collection[str] | None = None) -> Columns:
    """Return the columns that are packed in `data`, whose digest was found right.

    With `names` those of them that are there, and the others are not unpacked.
    """
    import pyarrow as pa

    wanted = None
    if names is not None:
        with pa.ipc.open_stream(data) as reader:
            wanted = [i for i, name in enumerate(reader.schema.names) if name in names]
    options = pa.ipc.IpcReadOptions(included_fields=wanted, use_threads=False)
    with pa.ipc.open_stream(data, options=options) as reader:
        batch = reader.read_next_batch()
    return {name: _column(batch.column(i)) for i, name in enumerate(batch.schema.names)}


def arrow_array(column: Column) -> pa.Array:
    """Return a column as an Arrow array, text as a dictionary's.

    By its memory: Arrow's own way imports pandas, to see whether it is given one of its columns.
    """
    import pyarrow as pa

    if not isinstance(column, Words):
        return _numbers(column)
    is_null = column.codes == NULL
    codes = _numbers(column.codes, is_null if is_null.any() else None)
    raw = [word.encode() for word in column.words]
    ends = np.cumsum([0, *map(len, raw)], dtype=np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(raw))]
    words = pa.Array.from_buffers(pa.string(), len(raw), buffers)
    return pa.DictionaryArray.from_arrays(codes, words)


def _numbers(values: Plain, is_null: BoolArray | None = None) -> pa.Array:
    import pyarrow as pa

    if values.dtype.kind not in "iufb":
        return pa.array(values)
    known = None if is_null is None else pa.py_buffer(np.packbits(~is_null, bitorder="little"))
    if values.dtype == np.bool_:
        data = np.packbits(values, bitorder="little")
    else:
        data = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [known, pa.py_buffer(data)])


def _column(array: Any) -> Column:
    """Return an Arrow array that `arrow_array` made, or one that is to be taken for such."""
    import pyarrow as pa

    if isinstance(array, pa.DictionaryArray):
        return Words(_values(array.indices, NULL), array.dictionary.to_pylist())
    return _values(array)


_NUMPY = {"float": "float32", "double": "float64", "halffloat": "float16"}
"""Names that Arrow's types have and numpy's have not."""


def _values(array: Any, missing: int | None = None) -> Plain:
    """Return an array's values, `missing` where there is none.

    Raises ValueError where there is none and nothing stands for it.
    """
    import pyarrow as pa

    if pa.types.is_boolean(array.type):
        return _bits(array, 1)
    if not pa.types.is_primitive(array.type):
        values: Plain = array.to_numpy(zero_copy_only=False)
        return values
    name = str(array.type)
    kind = np.dtype(_NUMPY.get(name, name))
    if not len(array):
        return np.empty(0, kind)
    found = np.frombuffer(array.buffers()[1], kind, len(array), array.offset * kind.itemsize)
    if array.null_count and missing is None:
        raise ValueError(f"a column of {name} lacks {array.null_count} values")
    return np.where(_bits(array, 0), found, kind.type(missing)) if array.null_count else found


def _bits(array: Any, which: int) -> BoolArray:
    """Return one of an array's buffers of bits."""
    if not len(array):
        return np.empty(0, np.bool_)
    bits = np.frombuffer(array.buffers()[which], np.uint8)
    found = np.unpackbits(bits, count=array.offset + len(array), bitorder="little")
    return found[array.offset :].astype(np.bool_)
