"""The library's Guest: lookups, populating, ballooning, migrating, and its view of the tree."""

from __future__ import annotations

import numpy as np
import pytest

import p2mbatch as p2m
from p2mbatch.base.geometry import INVALID


@pytest.mark.parametrize("layout", ["tail", "scattered", "extents"])
@pytest.mark.parametrize("resident", ["auto", "all"])
def test_life_of_a_guest(layout: str, resident: str) -> None:
    guest = p2m.Guest.boot("64MiB", seed=7, sparsity=0.5, layout=layout, resident=resident)
    everything = np.arange(guest.max_p2m_pfn)
    mfns = guest.lookup(everything)
    assert np.count_nonzero(mfns != INVALID) == guest.max_p2m_pfn // 2
    assert len(np.unique(mfns[mfns != INVALID])) == guest.max_p2m_pfn // 2

    holes = everything[mfns == INVALID][:3000]
    assert guest.populate(holes).outcome == "ok"
    assert (guest.lookup(holes) != INVALID).all()
    free = np.setdiff1d(holes, holes[::2])
    assert guest.balloon_out(free).outcome == "ok"
    assert (guest.lookup(free) == INVALID).all()

    before = guest.lookup(everything)
    for _ in range(3):
        assert guest.migrate().outcome == "ok"
    after = guest.lookup(everything)
    assert np.array_equal(before == INVALID, after == INVALID)
    present = after[after != INVALID]
    assert len(np.unique(present)) == len(present)
    view = guest.tree()
    assert not view.stale_top.any()
    assert not view.stale_list.any()


def test_residency_changes_no_lookup() -> None:
    pfns = np.arange(40000)
    lazy, whole = (
        p2m.Guest.boot("128MiB", seed=2, sparsity=0.3, layout="scattered", resident=r)
        for r in ("auto", "all")
    )
    for _ in range(2):
        assert np.array_equal(lazy.lookup(pfns), whole.lookup(pfns))
        lazy.migrate()
        whole.migrate()


def test_lookup_keeps_shape_and_answers_out_of_range() -> None:
    guest = p2m.Guest.boot("64MiB")
    got = guest.lookup([[0, 1], [-5, 1 << 40]])
    assert got.shape == (2, 2)
    assert (got[0] != INVALID).all()
    assert (got[1] == INVALID).all()
    assert guest.lookup([]).shape == (0,)


def test_stale_guest_is_stuck_and_says_so() -> None:
    guest = p2m.Guest.boot("1GiB", "stale", seed=2)
    first = guest.migrate()
    assert first.stray_writes > 0
    view = guest.tree()
    assert view.stale_top.all()
    assert len(view.hit_pages) == first.stray_pages
    second = guest.migrate()
    assert second.outcome == "save-failed"
    assert guest.refused is guest.ended is second
    assert guest.lost is None, "it runs on where it was"
    with pytest.raises(p2m.InputError, match=r'stuck, .*"stay": save-failed map-fl-failed 0'):
        guest.migrate()


def test_a_guest_that_may_stay_is_refused_and_goes_on() -> None:
    guest = p2m.Guest.boot("1GiB", "stale", seed=2, stuck="stay")
    guest.migrate()
    tries = [guest.migrate() for _ in range(2)]
    assert [t.outcome for t in tries] == ["save-failed"] * 2
    assert guest.refused is tries[1] and guest.ended is guest.lost is None
    assert guest.balloon_out([5]).ok
    assert guest.refused is tries[1], "and still can't be moved"


def test_a_guest_that_crashes_is_lost() -> None:
    guest = p2m.Guest.boot(
        "256MiB", "stale", seed=4, host_memory="512MiB", neighbours=0.2, stuck="stay"
    )
    crash = guest.migrate()
    assert (crash.outcome, crash.detail) == ("fault", "mid_mfn store")
    assert guest.lost is guest.ended is crash and guest.refused is None
    with pytest.raises(p2m.InputError, match="lost: fault mid_mfn store"):
        guest.balloon_out([5])


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"memory": "12 parsecs"}, "memory"),
        ({"memory": "1TiB"}, "512GiB"),
        ({"memory": "1GiB", "policy": "new"}, "policy"),
        ({"memory": "1GiB", "layout": "new"}, "layout"),
        ({"memory": "1GiB", "resident": "none"}, "resident"),
        ({"memory": "1GiB", "host_memory": "512MiB"}, "host_memory"),
        ({"memory": "1GiB", "word_bytes": 16}, "word_bytes"),
    ],
)
def test_bad_boot_is_refused(fields: dict[str, object], names: str) -> None:
    with pytest.raises(p2m.InputError, match=names):
        p2m.Guest.boot(**fields)  # type: ignore[arg-type]


def test_pages_outside_the_guest_are_refused() -> None:
    guest = p2m.Guest.boot("64MiB")
    with pytest.raises(p2m.InputError, match="16384 is outside"):
        guest.populate([16384])
    with pytest.raises(p2m.InputError, match="-1 is outside"):
        guest.balloon_out([-1])


@pytest.mark.parametrize("resident", ["auto", "all"])
@pytest.mark.parametrize("policy", ["tracked", "stale"])
def test_threads_change_nothing(policy: str, resident: str) -> None:
    one, many = (p2m.Guest.boot("256MiB", policy, seed=4, resident=resident) for _ in range(2))
    pfns = np.random.default_rng(0).integers(0, one.max_p2m_pfn, 40000)
    for _ in range(2):
        mfns = one.lookup(pfns)
        assert np.array_equal(mfns, many.lookup(pfns, threads=2))
        back = one.m2p(mfns)
        assert np.array_equal(back, many.m2p(mfns, threads=2))
        assert one.save().outcome == many.save(threads=2).outcome
        if one.ended is not None:
            break
        assert np.array_equal(back, pfns)
        first, second = one.migrate(), many.migrate(threads=2)
        assert (first.outcome, first.stray_writes) == (second.outcome, second.stray_writes)
    assert one.life.count_stale() == many.life.count_stale()


def test_no_threads_are_refused() -> None:
    guest = p2m.Guest.boot("64MiB")
    with pytest.raises(p2m.InputError, match="threads: 0"):
        guest.lookup([0], threads=0)
