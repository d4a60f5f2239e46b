"""Stores of earlier versions: read as today's, never written to."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from p2mbatch.base import provenance
from p2mbatch.base.errors import InputError
from p2mbatch.base.words import Columns
from p2mbatch.store.journal import JOURNAL_NAME, Journal
from p2mbatch.store.results import SweepResult
from p2mbatch.store.survival import survival
from store_support import rewrite, write_older
from sweep_support import STORE_SPEC as SPEC
from sweep_support import commit, result


def made_older(directory: Path) -> Path:
    """Return a store of version 2 with ten finished cells and one that failed."""
    cells = [*map(result, range(10)), result(77, "MemoryError", "no room")]
    write_older(directory, SPEC, cells, provenance.collect(["p2mbatch", "sweep"]))
    return directory


def test_a_store_of_version_2_is_read_as_one_of_today_and_not_written_to(
    store: Path, tmp_path: Path
) -> None:
    older = made_older(tmp_path / "older")
    with Journal.open(store) as journal:
        journal.admit(SPEC, resident="auto", extend=False)
        commit(journal, [result(77, error="MemoryError", message="no room")], 11)
    one, other = SweepResult.open(older), SweepResult.open(store)
    pd.testing.assert_frame_equal(one.frame, other.frame)
    names = [name for name in other.failures if name != "failed_at"]
    pd.testing.assert_frame_equal(one.failures[names], other.failures[names])
    assert one.progress == other.progress
    assert survival(one) == survival(other)
    assert one.spec.digest == SPEC.digest and one.provenance["command"] == ["p2mbatch", "sweep"]
    before = (older / JOURNAL_NAME).read_bytes()
    with pytest.raises(InputError, match=r"older p2mbatch .*can be read, but no rows can be added"):
        Journal.open(older)
    assert (older / JOURNAL_NAME).read_bytes() == before


@pytest.mark.parametrize("value", ["NULL", "'many'", "x'00ff'"])
def test_a_row_of_the_wrong_kind_is_damage_and_not_a_traceback(tmp_path: Path, value: str) -> None:
    store = made_older(tmp_path / "older")
    with sqlite3.connect(store / JOURNAL_NAME) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '')")
    with sqlite3.connect(store / JOURNAL_NAME) as connection:
        connection.execute(f"UPDATE rows SET mids = {value} WHERE migration = 1")
    connection.close()
    with pytest.raises(InputError, match=r"the store is damaged .mids"):
        SweepResult.open(store).frame  # noqa: B018


def test_a_store_older_than_a_column_is_read_with_what_it_had(store: Path, tmp_path: Path) -> None:
    expected = SweepResult.open(store).frame.assign(lost_pages=0, guest="")
    older = made_older(tmp_path / "older")
    connection = sqlite3.connect(older / JOURNAL_NAME)
    with connection:
        connection.execute("ALTER TABLE rows DROP COLUMN lost_pages")
        connection.execute("ALTER TABLE cells DROP COLUMN guest")
        connection.execute("ALTER TABLE failures DROP COLUMN guest")
    connection.close()

    def without(cells: Columns, rows: Columns) -> None:
        del rows["lost_pages"], cells["guest"]

    rewrite(store, without)
    for one in (SweepResult.open(older), SweepResult.open(store)):
        pd.testing.assert_frame_equal(one.frame, expected)
        assert one.progress.num_finished == 10
    assert SweepResult.open(older).failures["guest"].tolist() == [""]
