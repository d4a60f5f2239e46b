"""Exports of a store's rows, and `status` and `export` as commands."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from p2mbatch.base.errors import InputError
from p2mbatch.report.compare import compare
from p2mbatch.store.arrow import arrow_schema
from p2mbatch.store.columns import COLUMNS
from p2mbatch.store.export import (
    DIGEST_KEY,
    FORMATS,
    PROVENANCE_KEY,
    export,
    provenance_path,
)
from p2mbatch.store.exported import open_table, read_export
from p2mbatch.store.journal import JOURNAL_NAME, Journal
from p2mbatch.store.results import SweepResult
from sweep_support import STORE_SPEC as SPEC
from sweep_support import command, commit, one_line, p2mbatch, result


def test_exports_agree_and_carry_the_provenance(store: Path, tmp_path: Path) -> None:
    opened = SweepResult.open(store)
    for file_format in ("parquet", "csv", "json"):
        export(opened, tmp_path / f"t.{file_format}", file_format)
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.schema.remove_metadata().equals(arrow_schema().remove_metadata())
    meaning = table.schema.field("stray_writes").metadata[b"meaning"]
    assert meaning.startswith(b"Stores that")
    details = json.loads(table.schema.metadata[PROVENANCE_KEY.encode()])
    assert details == opened.provenance
    pd.testing.assert_frame_equal(table.to_pandas(), opened.frame)
    csv = pd.read_csv(tmp_path / "t.csv", dtype={"detail": str, "toolstack": str})
    # Text that is empty and none at all are the same in CSV.
    empty = [name for name in csv if csv[name].isna().all()]
    assert (opened.frame[empty].fillna("") == "").all(axis=None)
    pd.testing.assert_frame_equal(
        csv.drop(columns=empty), opened.frame.drop(columns=empty), check_dtype=False
    )
    beside = json.loads(provenance_path(tmp_path / "t.csv").read_text())
    told = beside.pop(DIGEST_KEY)
    assert beside == details
    document = json.loads((tmp_path / "t.json").read_text())
    assert document["provenance"] == details
    assert document[DIGEST_KEY] == told
    for file_format in FORMATS:
        read = read_export(tmp_path / f"t.{file_format}")
        pd.testing.assert_frame_equal(read.frame, opened.frame)
        assert read.provenance == details
    assert [column["name"] for column in document["columns"]] == list(opened.frame.columns)
    assert [r["cell"] for r in document["rows"]] == opened.frame["cell"].tolist()


def test_an_export_replaces_its_file_only_when_it_is_whole(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "t.csv"
    target.write_text("old")
    shutil.copytree(store, tmp_path / "bad")
    path = tmp_path / "bad" / JOURNAL_NAME
    raw = bytearray(path.read_bytes())
    raw[4096:] = b"\xa5" * (len(raw) - 4096)
    path.write_bytes(raw)
    with pytest.raises(InputError):
        export(SweepResult.open(tmp_path / "bad"), target, "csv")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []


def test_status_and_export_as_commands(store: Path, tmp_path: Path) -> None:
    status = p2mbatch("status", str(store))
    assert status.returncode == 0
    assert "10 finished, 0 failed, 99,990 to go" in status.stdout
    assert "state     interrupted" in status.stdout
    found = json.loads(p2mbatch("status", str(store), "--json").stdout)
    assert found["num_finished"] == 10
    out = p2mbatch("export", str(store), "--format", "csv", "-o", "-")
    assert out.stdout.splitlines()[0] == ",".join(column.name for column in COLUMNS)
    assert len(out.stdout.splitlines()) == 21
    one_line(p2mbatch("export", str(tmp_path / "none"), "-o", "x.csv"), 2, "no sweep's results")
    one_line(p2mbatch("export", str(store), "-o", str(tmp_path)), 2, "is a directory")


def test_an_ending_that_is_no_format_is_asked_about(store: Path, tmp_path: Path) -> None:
    one_line(p2mbatch("export", str(store), "-o", str(tmp_path / "t.xlsx")), 2, "'xlsx'", "csv")
    assert not (tmp_path / "t.xlsx").exists()
    assert p2mbatch("export", str(store), "-o", str(tmp_path / "t")).returncode == 0
    assert pq.read_table(tmp_path / "t").num_rows == 20


def test_status_says_how_many_failures_it_does_not_show(store: Path) -> None:
    with Journal.open(store) as journal:
        journal.admit(SPEC, resident="auto", extend=False)
        failures = [result(100 + i, error="Error", message=f"number {i}") for i in range(50)]
        commit(journal, failures, 60)
    shown = p2mbatch("status", str(store))
    assert shown.stdout.count("failed    1 × Error") == 20
    assert "failed    30 more" in shown.stdout
    listed = json.loads(p2mbatch("status", str(store), "--json").stdout)["failures"]
    assert sum(failure["num_cells"] for failure in listed) == 50


@pytest.mark.parametrize(
    "args", [["status"], ["export", "-o", "-"], ["export", "--format", "json", "-o", "-"]]
)
def test_a_stdout_that_takes_no_more_is_one_line(store: Path, args: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command(args[0], str(store), *args[1:]), stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr == "p2mbatch: error: the output can't be written: No space left on device\n"


def test_what_is_no_export_is_named(store: Path, tmp_path: Path) -> None:
    export(SweepResult.open(store), tmp_path / "t.csv", "csv")
    provenance_path(tmp_path / "t.csv").unlink()
    (tmp_path / "t.txt").write_text("mine")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not really PAR1")
    (tmp_path / "t.json").write_text('{"rows": [1]}')
    for name, says in (
        ("t.csv", r"provenance.json: is missing beside"),
        ("t.txt", r"neither a store's directory nor an export"),
        ("t.parquet", r"not an export, or damaged"),
        ("t.json", r"not an export, or damaged"),
    ):
        with pytest.raises(InputError, match=says) as caught:
            open_table(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_store_is_compared_with_an_export_of_it(store: Path, tmp_path: Path) -> None:
    export(SweepResult.open(store), tmp_path / "t.parquet", "parquet")
    assert compare(open_table(store), open_table(tmp_path / "t.parquet")).equal
