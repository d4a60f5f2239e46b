"""Exports: a sweep's table as Parquet, CSV or JSON, in bounded memory, with its provenance."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO

from p2mbatch.base.errors import InputError
from p2mbatch.base.files import is_special, write_whole
from p2mbatch.store.columns import COLUMNS
from p2mbatch.store.results import SweepResult, arrow_schema

PROVENANCE_KEY = "p2mbatch"
"""The key of the provenance (JSON) in a Parquet file's metadata."""

_NAMES = [column.name for column in COLUMNS]


def _write_parquet(result: SweepResult, file: IO[bytes]) -> None:
    import pyarrow.parquet as pq

    details = {PROVENANCE_KEY: json.dumps(result.provenance)}
    schema = arrow_schema().with_metadata(details)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in result.batches():
            writer.write_batch(batch.replace_schema_metadata(details))


def _write_csv(result: SweepResult, file: IO[str]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_NAMES)
    writer.writerows(result.rows())


def _write_json(result: SweepResult, file: IO[str]) -> None:
    """One object: provenance, the columns, and the rows, one to a line."""
    columns = [{k: v for k, v in c._asdict().items() if k != "earlier"} for c in COLUMNS]
    file.write('{"provenance": ' + json.dumps(result.provenance))
    file.write(',\n"columns": ' + json.dumps(columns) + ',\n"rows": [')
    for index, row in enumerate(result.rows()):
        file.write(",\n" if index else "\n")
        file.write(json.dumps(dict(zip(_NAMES, row, strict=True))))
    file.write("\n]}\n")


_WRITERS: dict[str, Callable[[SweepResult, Any], None]] = {
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


def _write_provenance(result: SweepResult, file: IO[str]) -> None:
    json.dump(result.provenance, file, indent=1)
    file.write("\n")


def export(result: SweepResult, path: str | Path, file_format: str = "parquet") -> None:
    """Write `result`'s table to `path` as `file_format` ("parquet", "csv" or "json").

    Columns and their types are those of `store.columns`, rows are sorted by scenario. Parquet and
    JSON carry the provenance; beside a CSV file it is `<path>.provenance.json`. `path` "-" is
    stdout. Raises `InputError` for another format, and where the place can't be written to.
    """
    write = _WRITERS.get(file_format)
    if write is None:
        raise InputError(f"{file_format}: not an export format: use {', '.join(FORMATS)}")
    binary = file_format == "parquet"
    if str(path) == "-":
        write(result, sys.stdout.buffer if binary else sys.stdout)
        return
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a directory: name a file to write")
    one = partial(write, result)
    write_whole(path, one if binary else _as_text(one))
    if file_format == "csv" and not is_special(path):
        write_whole(provenance_path(path), _as_text(partial(_write_provenance, result)))
