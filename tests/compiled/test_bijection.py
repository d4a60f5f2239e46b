"""The hosts' bijections: that they are, in both directions, and that they look like chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled import bijection
from p2mbatch.compiled.jit import kernel
from p2mbatch.compiled.records import Bijection, OneRecord, as_array


@kernel
def _both(perm: OneRecord[Bijection], first: int, out: Int64Array, back: Int64Array) -> None:
    for i in range(len(out)):
        out[i] = bijection.forward(perm[0], first + i)
        back[i] = bijection.inverse(perm[0], out[i])


def images(size: int, key: object, first: int = 0, count: int | None = None) -> Int64Array:
    """Return where `count` indices from `first` go, having checked that they come back."""
    out = np.empty(size if count is None else count, np.int64)
    back = np.empty_like(out)
    _both(as_array(bijection.parameters(size, key)), first, out, back)
    assert np.array_equal(back, np.arange(first, first + len(out)))
    return out


@pytest.mark.lane
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 100, 1000])
def test_every_small_size_is_a_bijection(size: int) -> None:
    assert np.array_equal(np.sort(images(size, "small")), np.arange(size))


@given(st.integers(1, 1 << 17), st.integers(0, 1 << 32))
def test_any_size_and_key_is_a_bijection(size: int, key: int) -> None:
    assert np.array_equal(np.sort(images(size, key)), np.arange(size))


@given(st.integers(1 << 20, bijection.MAX_SIZE), st.integers(0, 1 << 32), st.data())
def test_large_sizes_come_back(size: int, key: int, data: st.DataObject) -> None:
    count = 64
    out = images(size, key, data.draw(st.integers(0, size - count)), count)
    assert out.min() >= 0
    assert out.max() < size
    assert len(np.unique(out)) == count


@pytest.mark.parametrize("size", [1 << 18, 300_007, 5_000_000])
def test_consecutive_indices_go_anywhere(size: int) -> None:
    """Positions and differences fill 64 bins as chance would: chi-squared within six sigma."""
    out = images(size, "spread", count=min(size, 1 << 18))
    for values in (out, np.diff(out) % size, np.diff(out, 2) % size, out[512:] - out[:-512]):
        counts = np.bincount((values % size) * 64 // size, minlength=64)
        expected = len(values) / 64
        chi2 = float(((counts - expected) ** 2 / expected).sum())
        assert chi2 < 63 + 6 * np.sqrt(2 * 63), chi2


def test_other_keys_give_other_orders() -> None:
    a, b = images(1 << 16, ("seed", 1)), images(1 << 16, ("seed", 2))
    assert np.count_nonzero(a == b) < 20
    assert np.array_equal(a, images(1 << 16, ("seed", 1)))
