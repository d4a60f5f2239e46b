"""Exports: a sweep's table as Parquet, CSV or JSON, in bounded memory, with its provenance."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO

from p2mbatch.base.errors import InputError
from p2mbatch.base.files import is_special, write_whole
from p2mbatch.base.paths import is_dir
from p2mbatch.store.arrow import arrow_schema
from p2mbatch.store.checksum import TableDigest
from p2mbatch.store.columns import COLUMNS
from p2mbatch.store.results import SweepResult

PROVENANCE_KEY = "p2mbatch"
"""The key of the provenance (JSON) in a Parquet file's metadata."""

_TUPLE_ROWS = 1 << 15
"""Rows that are Python objects at once."""

_NAMES = [column.name for column in COLUMNS]


DIGEST_KEY = "p2mbatch-digest"
"""The key of the digest over table and provenance (`checksum.py`): the last thing in a file."""


def _write_parquet(result: SweepResult, file: IO[bytes], digest: TableDigest) -> None:
    import pyarrow.parquet as pq

    details = {PROVENANCE_KEY: json.dumps(result.provenance)}
    schema = arrow_schema().with_metadata(details)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in result.batches():
            digest.add(batch)
            writer.write_batch(batch.replace_schema_metadata(details))
        writer.add_key_value_metadata({DIGEST_KEY: digest.text(result.provenance)})


def _rows(result: SweepResult, digest: TableDigest) -> Iterator[tuple[Any, ...]]:
    """Yield the rows as plain tuples, some thousand of them at a time."""
    for batch in result.batches():
        digest.add(batch)
        for first in range(0, batch.num_rows, _TUPLE_ROWS):
            part = batch.slice(first, _TUPLE_ROWS)
            yield from zip(*(column.to_pylist() for column in part.columns), strict=True)


def _write_csv(result: SweepResult, file: IO[str], digest: TableDigest) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_NAMES)
    writer.writerows(_rows(result, digest))


def _write_json(result: SweepResult, file: IO[str], digest: TableDigest) -> None:
    """One object: provenance, the columns, the rows, one to a line, and the digest."""
    columns = [{k: v for k, v in c._asdict().items() if k != "earlier"} for c in COLUMNS]
    file.write('{"provenance": ' + json.dumps(result.provenance))
    file.write(',\n"columns": ' + json.dumps(columns) + ',\n"rows": [')
    for index, row in enumerate(_rows(result, digest)):
        file.write(",\n" if index else "\n")
        file.write(json.dumps(dict(zip(_NAMES, row, strict=True))))
    file.write("\n],\n" + f'"{DIGEST_KEY}": "{digest.text(result.provenance)}"' + "}\n")


_WRITERS: dict[str, Callable[[SweepResult, Any, TableDigest], None]] = {
    "parquet": _write_parquet,
    "csv": _write_csv,
    "json": _write_json,
}

FORMATS = tuple(_WRITERS)


def provenance_path(path: Path) -> Path:
    """Return where the provenance of the CSV file `path` lies, since CSV has no place for it."""
    return path.with_name(path.name + ".provenance.json")


def _as_text(write: Callable[[IO[str]], object]) -> Callable[[BinaryIO], None]:
    """Return what writes to a binary file what `write` writes to a text file, in UTF-8."""

    def encoded(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        write(text)
        text.flush()
        text.detach()  # or the file would be closed with it

    return encoded


def _write_provenance(result: SweepResult, digest: TableDigest, file: IO[str]) -> None:
    told = digest.text(result.provenance)
    json.dump({**result.provenance, DIGEST_KEY: told}, file, indent=1)
    file.write("\n")


def export(result: SweepResult, path: str | Path, file_format: str = "parquet") -> None:
    """Write `result`'s table to `path` as `file_format` ("parquet", "csv" or "json").

    Columns and their types are those of `store.columns`, rows are sorted by scenario. Parquet and
    JSON carry the provenance and a digest over it and the table; beside a CSV file they are in
    `<path>.provenance.json`. `path` "-" is
    stdout. Raises `InputError` for another format, and where the place can't be written to.
    """
    write = _WRITERS.get(file_format)
    if write is None:
        raise InputError(f"{file_format}: not an export format: use {', '.join(FORMATS)}")
    binary, digest = file_format == "parquet", TableDigest()
    if str(path) == "-":
        write(result, sys.stdout.buffer if binary else sys.stdout, digest)
        return
    path = Path(path)
    if is_dir(path):
        raise InputError(f"{path}: is a directory: name a file to write")

    def one(file: Any) -> None:
        write(result, file, digest)

    write_whole(path, one if binary else _as_text(one))
    if file_format == "csv" and not is_special(path):
        write_whole(provenance_path(path), _as_text(partial(_write_provenance, result, digest)))
