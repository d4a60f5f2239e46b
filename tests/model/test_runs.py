"""Runs: as few as there can be, of the same entries, wherever the pieces end that are read."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2mbatch.model import runs as runs_module
from p2mbatch.model.runs import frame_runs, merged_runs, put_runs, true_runs


def entries(runs: np.ndarray) -> list[tuple[int, int]]:
    """Return what `runs` say, page by page."""
    return [
        (pfn + i, mfn + i if mfn >= 0 else mfn) for pfn, mfn, n in runs.tolist() for i in range(n)
    ]


def fewest(pairs: list[tuple[int, int]]) -> int:
    """Return how many runs `pairs` are, read one by one."""
    goes_on = [
        b[0] == a[0] + 1 and b[1] == (a[1] + 1 if a[1] >= 0 else a[1]) for a, b in pairwise(pairs)
    ]
    return len(pairs) - sum(goes_on)


PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(-1, 6)), max_size=12)


@pytest.mark.parametrize("piece", [1, 2, 5, 1 << 18])
@given(pairs=PAIRS, in_order=st.booleans())
def test_frames_are_told_in_the_fewest_runs(
    piece: int, pairs: list[tuple[int, int]], in_order: bool
) -> None:
    mfns = np.array([mfn for _, mfn in pairs], np.int64)
    pfns = range(len(pairs)) if in_order else np.array([pfn for pfn, _ in pairs], np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs_module, "_PIECE", piece)
        found = frame_runs(pfns, mfns)
    told = list(zip(map(int, pfns), mfns.tolist(), strict=True))
    assert entries(found) == told and len(found) == fewest(told)
    assert found.dtype == np.int64 and found.shape[1] == 3
    assert np.array_equal(merged_runs(found), found)


@given(st.lists(st.booleans(), max_size=20))
def test_runs_of_a_mask_are_where_it_is_true(mask: list[bool]) -> None:
    found = true_runs(np.array(mask, np.bool_))
    assert [first + i for first, n in found.tolist() for i in range(n)] == [
        i for i, is_set in enumerate(mask) if is_set
    ]
    assert (found[1:, 0] > found[:-1].sum(axis=1)).all() and (found[:, 1] > 0).all()


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 90)), max_size=9))
def test_runs_are_put_down_word_by_word(steps: list[tuple[int, int, int]]) -> None:
    runs, end = [], 0
    for gap, value, count in steps * 30:
        runs.append((end + gap, value, count))
        end += gap + count
    words = np.full(end, -1)
    put_runs(words, np.array(runs, np.int64).reshape(-1, 3))
    expected = dict(entries(np.array(runs, np.int64).reshape(-1, 3)))
    assert words.tolist() == [expected.get(k, -1) for k in range(end)]
