"""Runs: as few as there can be, of the same entries, wherever the pieces end that are read."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2mbatch.model import runs as runs_module
from p2mbatch.model.runs import frame_runs, merged_runs, true_runs


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
