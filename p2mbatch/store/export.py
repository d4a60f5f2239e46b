"""Exports: a sweep's table as Parquet, CSV or JSON, in bounded memory, with its provenance."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from p2mbatch.base.errors import InputError, ResourceError
from p2mbatch.base.files import is_special
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


@contextlib.contextmanager
def _replacing(path: Path, *, binary: bool) -> Iterator[IO[Any]]:
    """Open a file beside `path` that takes its place when all is written, and only then.

    A device or a pipe is opened itself: a file must not take the place of /dev/null.
    """
    if is_special(path):
        with path.open("wb") if binary else path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") if binary else part.open("w", encoding="utf-8", newline="") as file:
            yield file
        part.replace(path)
    except OSError as error:
        raise ResourceError(f"{path}: can't be written: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def export(result: SweepResult, path: str | Path, file_format: str = "parquet") -> None:
    """Write `result`'s table to `path` as `file_format` ("parquet", "csv" or "json").

    Columns and their types are those of `store.columns`, rows are sorted by scenario. Parquet and
    JSON carry the provenance; beside a CSV file it is `<path>.provenance.json`. `path` "-" is
    stdout. Raises `InputError` for another format and `ResourceError` where the disk says no.
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
    with _replacing(path, binary=binary) as file:
        write(result, file)
    if file_format == "csv":
        with _replacing(provenance_path(path), binary=False) as file:
            json.dump(result.provenance, file, indent=1)
            file.write("\n")
