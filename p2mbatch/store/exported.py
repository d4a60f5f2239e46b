"""Exports read back: the table of a file that `export` wrote, by the digest that it carries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from p2mbatch.base.errors import InputError
from p2mbatch.base.json_text import parse_json, read_text
from p2mbatch.base.limits import check_json_values
from p2mbatch.base.paths import is_file, is_there
from p2mbatch.store.arrow import arrow_schema
from p2mbatch.store.checksum import TableDigest
from p2mbatch.store.export import DIGEST_KEY, FORMATS, PROVENANCE_KEY, provenance_path
from p2mbatch.store.results import SweepResult

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


_DAMAGED = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What Python says of a file that is not as `export` writes it."""

_MAX_PROVENANCE_BYTES = 64 << 20


class Exported(NamedTuple):
    """A sweep's table and where it comes from, out of a file."""

    path: Path
    frame: pd.DataFrame
    provenance: dict[str, Any]


def open_table(path: str | Path) -> SweepResult | Exported:
    """Return the results at `path`: a store's directory, or a file that `export` wrote.

    Raises `InputError` for anything else, and where the file isn't as it was written.
    """
    return read_export(Path(path)) if is_file(path) else SweepResult.open(path)


def read_export(path: Path) -> Exported:
    """Return the table of the export at `path`; its ending names the format.

    Raises `InputError` naming the file where it is none, or is not as it was written.
    """
    import pyarrow as pa

    read = {"parquet": _read_parquet, "csv": _read_csv, "json": _read_json}
    kind = path.suffix.lower().removeprefix(".")
    if kind not in read:
        raise InputError(
            f"{path}: neither a store's directory nor an export by its ending: name one of "
            f"{', '.join(FORMATS)}"
        )
    try:
        table, provenance, told = read[kind](path)
        # What is shown is what was written: metadata of columns is not.
        table = table.select(arrow_schema().names).cast(arrow_schema())
        table.validate(full=True)
        digest = TableDigest()
        for batch in table.combine_chunks().to_batches():
            digest.add(batch)
        is_right = digest.text(provenance) == told
    except (*_DAMAGED, pa.ArrowException) as error:
        what = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not an export, or damaged: {what}: export it again") from None
    if not is_right:
        raise InputError(
            f"{path}: not as it was written (its digest is another than its table's): export it "
            "again"
        )
    return Exported(path, table.to_pandas(), provenance)


def _read_parquet(path: Path) -> tuple[pa.Table, dict[str, Any], str]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        details = file.metadata.metadata or {}
        table = file.read()
    provenance = json.loads(details[PROVENANCE_KEY.encode()])
    return table, provenance, details[DIGEST_KEY.encode()].decode()


def _read_csv(path: Path) -> tuple[pa.Table, dict[str, Any], str]:
    from pyarrow import csv

    beside = provenance_path(path)
    if not is_there(beside):
        raise InputError(f"{beside}: is missing beside {path}")
    details = json.loads(read_text(beside, _MAX_PROVENANCE_BYTES))
    told = details.pop(DIGEST_KEY)
    types = {field.name: field.type for field in arrow_schema()}
    nulls = [field.name for field in arrow_schema() if field.nullable]
    options = csv.ConvertOptions(column_types=types, null_values=[], strings_can_be_null=False)
    table = csv.read_csv(path, convert_options=options)
    for name in nulls:
        # Where there is no text there was none: CSV knows no other nothing.
        at = table.schema.get_field_index(name)
        column = _null_where_empty(table.column(at))
        table = table.set_column(at, name, column)
    return table, details, told


def _null_where_empty(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def _read_json(path: Path) -> tuple[pa.Table, dict[str, Any], str]:
    import pyarrow as pa

    text = path.read_text(encoding="utf-8")
    check_json_values(text, str(path))
    document = parse_json(text, str(path))
    table = pa.Table.from_pylist(document["rows"], schema=arrow_schema())
    return table, document["provenance"], document[DIGEST_KEY]
