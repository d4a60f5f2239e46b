"""Columns as bytes and back, and a store that another sweep made meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from p2mbatch.base.errors import InputError
from p2mbatch.base.json_text import read_text
from p2mbatch.base.words import NULL, Words
from p2mbatch.store import journal as journal_module
from p2mbatch.store.journal import JOURNAL_NAME, Journal
from p2mbatch.store.packing import arrow_array, pack_columns, unpack_columns

TYPES = [np.int8, np.int32, np.int64, np.uint64, np.float64, np.bool_, ">i8"]


@st.composite
def columns(draw: Any) -> dict[str, Any]:
    """Return columns of one length: numbers of each kind, and text that may be missing."""
    length = draw(st.integers(0, 40))
    found = {str(kind): draw(hnp.arrays(kind, length)) for kind in TYPES}
    words = draw(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4))
    codes = draw(hnp.arrays(np.int32, length, elements=st.integers(NULL, len(words) - 1)))
    return found | {"text": Words(codes, words), "every second": np.arange(2 * length)[::2]}


@settings(deadline=None, max_examples=60)
@given(columns())
def test_what_was_packed_is_unpacked(given_columns: dict[str, Any]) -> None:
    found = unpack_columns(pack_columns(given_columns))
    assert list(found) == list(given_columns)
    for name, column in given_columns.items():
        if isinstance(column, Words):
            assert found[name].codes.tolist() == column.codes.tolist()
            assert found[name].words == column.words
        else:
            np.testing.assert_array_equal(found[name], column)


@settings(deadline=None, max_examples=30)
@given(columns())
def test_a_column_is_what_arrow_makes_of_it(given_columns: dict[str, Any]) -> None:
    for column in given_columns.values():
        if not isinstance(column, Words) and column.dtype.isnative:
            ours, theirs = arrow_array(column), pa.array(np.ascontiguousarray(column))
            assert ours.type == theirs.type and ours.null_count == 0
            np.testing.assert_array_equal(
                *(a.to_numpy(zero_copy_only=False) for a in (ours, theirs))
            )


def test_a_number_that_is_not_there_is_refused() -> None:
    sink = pa.BufferOutputStream()
    batch = pa.RecordBatch.from_arrays([pa.array([1, None, 3])], ["leaves"])
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(ValueError, match="lacks 1 values"):
        unpack_columns(sink.getvalue().to_pybytes())


def test_a_store_that_another_sweep_made_meanwhile_is_not_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there is looked at under the lock: before that nothing is known."""
    hold = journal_module.hold_lock

    def after_another(directory: Path) -> Any:
        monkeypatch.setattr(journal_module, "hold_lock", hold)
        with Journal.open(directory) as other:
            other.begin_run({})
        return hold(directory)

    monkeypatch.setattr(journal_module, "hold_lock", after_another)
    with pytest.raises(KeyboardInterrupt), Journal.open(tmp_path / "s"):
        raise KeyboardInterrupt
    assert (tmp_path / "s" / JOURNAL_NAME).exists()
    with pytest.raises(KeyboardInterrupt), Journal.open(tmp_path / "t"):
        raise KeyboardInterrupt
    assert not (tmp_path / "t").exists()


def test_what_is_no_file_leaves_nothing_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with pytest.raises(InputError, match="is not a plain file"):
            read_text(tmp_path, 100)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
