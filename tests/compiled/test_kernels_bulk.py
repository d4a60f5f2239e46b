"""The kernels for whole guests do what the exact ones do, to the bit, on every layout and width."""

from __future__ import annotations

import numpy as np
import pytest

from p2mbatch.base.geometry import INVALID, PAGE_BYTES
from p2mbatch.base.sizes import MIB
from p2mbatch.bench.peers import numpy_shuffle
from p2mbatch.compiled import bijection
from p2mbatch.compiled import boot as kb
from p2mbatch.compiled import m2p as bulk
from p2mbatch.compiled import save as ks
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.jit import kernel
from p2mbatch.compiled.lookup import (
    ROW_BLOCK,
    get_phys_to_machine,
    leaves_in_row,
    lookup,
    lookup_parallel,
)
from p2mbatch.compiled.policies.operations import rebuild_parallel
from p2mbatch.compiled.policies.tracked import OPERATIONS, rebuild, set_runs
from p2mbatch.compiled.records import as_array
from p2mbatch.compiled.restore import restore, restore_parallel
from p2mbatch.compiled.rows import forward_row, inverse_each
from p2mbatch.compiled.save import save_walk_parallel
from p2mbatch.compiled.status import BUG_BRK_CLOSED, OK
from p2mbatch.model.hosts import function_host
from p2mbatch.model.life import Life
from p2mbatch.model.placement import place

SHAPES = [
    ("tail", 0.0, 8),
    ("tail", 0.3, 8),
    ("scattered", 0.2, 8),
    ("extents", 0.4, 8),
    ("tail", 0.0, 4),
    ("extents", 0.4, 4),
]


class Booted:
    def __init__(self, layout, sparsity, word_bytes, resident=True, mebibytes=130):
        self.placement = place(
            memory_bytes=mebibytes * MIB, sparsity=sparsity, layout=layout, policy="tracked",
            word_bytes=word_bytes, seed=3,
        )  # fmt: skip
        self.life = self.placement.new_life(self.host(0, 9), resident=resident)
        first, end = (0, 1 << 62) if resident else self.placement.struct_leaves()
        assert self.life.boot(first, end).outcome == "ok"
        if self.placement.num_grown:
            grown = self.life.grow_leaves(self.placement.grown_leaves(), lazy=not resident)
            assert grown.outcome == "ok"

    def host(self, index, order):
        # A gibibyte of frames, so that the rows of single frames are done abreast too.
        return function_host(
            self.placement.population, frames=1 << 18, order=order, neighbours=0.7,
            neighbour_pages=self.placement.span, key=(3, index), first=index == 0,
        )  # fmt: skip

    @property
    def t(self):
        return self.life.tables

    @property
    def h(self):
        return self.life.host


def copied(t):
    return tb.P2MTables(*(array.copy() for array in t))


def same(a, b):
    return [name for name, x, y in zip(a._fields, a, b, strict=True) if not np.array_equal(x, y)]


@pytest.fixture(scope="module", params=SHAPES, ids=lambda s: f"{s[0]}-{s[1]}-{s[2]}")
def booted(request):
    return Booted(*request.param)


def some_pfns(guest, count=5000):
    span = guest.placement.span
    random = np.random.default_rng(1)
    far = guest.placement.geo.max_p2m_pfn
    return np.concatenate(
        [
            random.integers(0, span, count),
            np.sort(random.integers(0, span, count)),
            np.arange(span - 1500, span + 1500),
            np.arange(700, 700 + count),
            [-1, -(1 << 40), far - 1, far, far + 5, 1 << 62],
            random.integers(-1000, 2 * far, 300),
        ]
    )


@kernel
def lookup_each(t, h, pfns, out):
    for k in range(len(pfns)):
        out[k] = get_phys_to_machine(t, h, pfns[k])


@pytest.mark.parametrize("resident", [True, False])
def test_lookup_is_the_exact_one(booted, resident):
    guest = booted if resident else Booted("tail", 0.1, 8, resident=False)
    pfns = some_pfns(guest)
    exact, one, all_cores = (np.empty(len(pfns), np.int64) for _ in range(3))
    lookup_each(guest.t, guest.h, pfns, exact)
    lookup(guest.t, guest.h, pfns, one)
    lookup_parallel(guest.t, guest.h, pfns, all_cores)
    assert np.array_equal(exact, one)
    assert np.array_equal(exact, all_cores)
    assert (exact != INVALID).any()
    # So few that it does not pay to see which leaves lie side by side.
    few = np.empty(len(pfns), np.int64)
    for k in range(0, len(pfns), 40):
        lookup(guest.t, guest.h, pfns[k : k + 40], few[k : k + 40])
    assert np.array_equal(exact, few)


def test_leaves_in_row_are_those_side_by_side():
    @kernel
    def in_row(leaf_slot, num_lookups):
        return leaves_in_row(leaf_slot, num_lookups)

    for length in (1, 700, 3 * ROW_BLOCK + 17):
        slots = np.arange(5, 5 + length, dtype=np.int32)
        assert in_row(slots, length) == length
        assert in_row(slots, length - 1) == 0
        for broken in {0, length // 2, length - 1, min(length - 1, ROW_BLOCK)}:
            for value in (tb.LAZY - 3, 2):
                other = slots.copy()
                other[broken] = value
                expected = broken if broken or value < 0 else 1
                assert in_row(other, 1 << 20) == expected


def test_lookup_of_nothing_and_of_one(booted):
    for count in (0, 1):
        pfns, out = np.full(count, 700), np.empty(count, np.int64)
        lookup(booted.t, booted.h, pfns, out)
        lookup_parallel(booted.t, booted.h, pfns, out)
        assert (out >= 0).all()


@pytest.mark.parametrize("order", [0, 9])
def test_m2p_is_the_exact_one(booted, order):
    guest = booted
    host = guest.host(0, order)
    frames = int(host.par[0].frames)
    mfns = np.concatenate([np.arange(0, frames, 7), [-1, frames, frames + 1, 1 << 50]])
    exact = np.full(len(mfns), INVALID - 1)
    bulk._m2p_left(guest.t, host, mfns, exact)
    one, all_cores = np.empty(len(mfns), np.int64), np.empty(len(mfns), np.int64)
    bulk.lookup_m2p(guest.t, host, mfns, one)
    bulk.lookup_m2p_parallel(guest.t, host, mfns, all_cores)
    assert np.array_equal(exact, one)
    assert np.array_equal(exact, all_cores)
    assert (exact == INVALID).any() and (exact >= 0).any()


def test_m2p_undoes_lookup(booted):
    pfns = np.arange(booted.placement.nr_pages // 2)
    mfns, back = np.empty(len(pfns), np.int64), np.empty(len(pfns), np.int64)
    lookup(booted.t, booted.h, pfns, mfns)
    bulk.lookup_m2p(booted.t, booted.h, mfns, back)
    populated = mfns != INVALID
    assert np.array_equal(back[populated], pfns[populated])


def test_m2p_of_a_table_host():
    from p2mbatch.model.hosts import table_host

    booted = Booted("tail", 0.0, 8)
    host = table_host(100, np.zeros((0, 3), np.int64), np.array([[10, 3, 5]]))
    mfns = np.array([-1, 9, 10, 14, 15, 99, 100])
    out = np.empty(len(mfns), np.int64)
    for look in (bulk.lookup_m2p, bulk.lookup_m2p_parallel):
        look(booted.t, host, mfns, out)
        assert out.tolist() == [-1, -1, 3, 7, -1, -1, -1]


@pytest.mark.parametrize("order", [0, 3, 9])
def test_restore_rebuild_and_walk_in_parallel(booted, order):
    """One migration three ways: entry by entry, on one thread, and on all cores."""
    host = booted.host(5, order)
    work = np.empty(booted.t.words.shape[1], np.int64)
    results = []
    for way in ("entries", "one", "all"):
        t = copied(booted.t)
        Life(t, booted.h, booted.placement.policy).begin_event()
        walk = save_walk_parallel if way == "all" else ks.save_walk
        assert walk(t, booted.h, work) == OK
        if way == "entries":
            # Leaves that are not clean are restored entry by entry.
            t.slots[:, tb.P_CLEAN] = 0
        restored = restore_parallel if way == "all" else restore
        assert restored(t, host, work) == OK
        rebuilt = rebuild_parallel(OPERATIONS, t, host) if way == "all" else rebuild(t, host, 0)
        assert rebuilt == OK
        assert kb.set_shared_info(t, host) == OK
        assert walk(t, host, work) == OK
        results.append(t)
    entries, one, every = results
    assert same(one, every) == []
    assert same(one._replace(slots=entries.slots), entries) == []
    assert not np.array_equal(one.words, booted.t.words)


def test_a_broken_list_is_walked_exactly(booted):
    """The parallel walk leaves what is wrong to the exact one, which names it."""
    t = copied(booted.t)
    work = np.empty(t.words.shape[1], np.int64)
    slot = np.flatnonzero(t.slots[:, tb.P_PAGE] == t.true_mid_mfn[0])[0]
    t.words[slot, 3] += 1
    status = ks.save_walk(t, booted.h, work)
    assert status != OK
    assert save_walk_parallel(t, booted.h, work) == status


def test_parallel_rebuild_meets_the_bug_that_one_thread_meets(booted):
    """A mid that the list has no page for (model section 9, clause 2): nothing goes on after it."""
    t = copied(booted.t)
    tracked = np.flatnonzero(t.slots[:, tb.P_PAGE] == t.state[0].top_mfn_p)[0]
    t.words[tracked, 0] = t.words[tracked, t.words.shape[1] - 1]
    other = copied(t)
    status = rebuild(t, booted.h, 0)
    assert status == BUG_BRK_CLOSED
    assert rebuild_parallel(OPERATIONS, other, booted.h) == status
    assert same(t, other) == []


def test_setting_runs_sets_every_entry_and_its_owner(booted):
    t = copied(booted.t)
    n = t.words.shape[1]
    pages = booted.placement.nr_pages // n * n
    before = np.empty(pages, np.int64)
    lookup(t, booted.h, np.arange(pages), before)
    runs = np.array(
        [[5, INVALID, 3], [n - 10, INVALID, 700], [3 * n, 123456, n], [9 * n, INVALID, 1]]
    )
    assert set_runs(t, booted.h, runs, 0) == OK
    assert t.state[0].position == runs[:, 2].sum()
    expected = before.copy()
    for pfn, mfn, count in runs.tolist():
        expected[pfn : pfn + count] = np.arange(mfn, mfn + count) if mfn >= 0 else INVALID
    after = np.empty(pages, np.int64)
    lookup(t, booted.h, np.arange(pages), after)
    assert np.array_equal(after, expected)
    bits = np.unpackbits(
        t.own[t.leaf_slot[: pages // n]].view(np.uint8), axis=1, bitorder="little"
    ).ravel()
    touched = np.zeros(pages, bool)
    for pfn, _, count in runs.tolist():
        touched[pfn : pfn + count] = True
    assert np.array_equal(bits[touched] != 0, expected[touched] != INVALID)


def test_resuming_set_runs_in_the_middle(booted):
    n = booted.t.words.shape[1]
    runs = np.array([[2 * n + 4, 5000, 3 * n], [7 * n, INVALID, 10]])
    whole, parts = copied(booted.t), copied(booted.t)
    set_runs(whole, booted.h, runs, 0)
    set_runs(parts, booted.h, runs[:, :], n + 17)
    first = np.array([[2 * n + 4, 5000, n + 17]])
    set_runs(parts, booted.h, first, 0)
    parts.state[0].position = whole.state[0].position
    assert same(whole, parts) == []


def test_page_bytes_is_what_the_tables_hold():
    assert Booted("tail", 0.0, 8).t.words.shape[1] * 8 == PAGE_BYTES


@kernel
def _row(perm, first, count, row):
    return forward_row(perm[0], first, count, 7, row)


@kernel
def _back(perm, images, count):
    inverse_each(perm[0], images, count)


@pytest.mark.lane
@pytest.mark.parametrize("size", [12345, 1 << 18, (1 << 18) + 999, 5_000_000, 1 << 32])
def test_rows_of_a_bijection_are_its_images(size):
    perm = bijection.parameters(size, 5)
    par = as_array(perm)
    count = 64
    for first in (0, size // 3 // count * count, (size - 1) // count * count - count):
        row = np.empty(count, np.int64)
        if not _row(par, first, count, row):
            # Refused where the row does not lie in one line of the grid.
            assert (first & ((1 << perm.right_bits) - 1)) + count > 1 << perm.right_bits
            continue
        images, expected = row - 7, np.arange(first, first + count)
        assert len(set(images.tolist())) == count
        assert images.min() >= 0 and images.max() < size
        assert np.array_equal(numpy_shuffle(perm, expected), images)
        assert np.array_equal(numpy_shuffle(perm, images, -1), expected)
        words = images.astype(np.uint32)
        _back(par, words, count)
        assert np.array_equal(words, expected)
