"""Each clause of the toolstack's checks on save (model section 7), hit with its exact detail.

The guests are small: brk from PFN 8, mfn_list from 32, the pool from 64, all in leaf 0, in the
frames from 100 of a host; see build.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from oracle import build, models
from oracle.build import Json

Replay = Callable[[Json], list[Json]]

FIRST_FRAME = 100


@pytest.fixture(params=[8, 4], ids=["64", "32"])
def w(request: pytest.FixtureRequest) -> int:
    width: int = request.param
    return width


class Small:
    """A guest of three leaves, two hosts of the same size, and the names of its structures."""

    def __init__(self, word_bytes: int, policy: str = "tracked", extra: int = 0) -> None:
        self.n = build.entries(word_bytes)
        self.policy = policy
        nr_pages = 3 * self.n
        self.guest = build.guest(word_bytes, nr_pages, max_p2m_pfn=nr_pages + extra)
        self.frames = nr_pages + 1000
        self.domain = build.frames_from(FIRST_FRAME, nr_pages)
        self.elsewhere = build.frames_from(FIRST_FRAME + 500, nr_pages)
        self.pfn = build.structures(policy, self.guest)
        self.invalid = (1 << 8 * word_bytes) - 1

    def mfn(self, name: str) -> int:
        """The frame of a structure on the host that the guest boots on."""
        return self.domain[self.pfn[name]]

    def trace(self, *events: Json, boot: Any = None, second: Any = None) -> Json:
        """Boot on host 0, live through `events`; host 1 has the guest elsewhere."""
        hosts = [
            build.host(self.frames, boot or self.domain),
            second or build.host(self.frames, self.elsewhere),
        ]
        return build.trace(self.policy, self.guest, hosts, [build.boot(), *events])


def last(results: list[Json], outcome: str) -> str | None:
    """The last event's detail, if it ended like this and all before went well."""
    assert [r.get("outcome", "ok") for r in results[:-1]] == ["ok"] * (len(results) - 1)
    assert results[-1]["outcome"] == outcome
    detail: str | None = results[-1]["detail"]
    return detail


def save_failure(results: list[Json]) -> str | None:
    return last(results, "save-failed")


@pytest.mark.lane
def test_a_sound_guest_passes(replay: Replay, w: int) -> None:
    results = replay(Small(w).trace(build.migrate(1), build.migrate(0), build.migrate(1)))
    assert last(results, "ok") is None


def test_max_pfn_too_large(replay: Replay) -> None:
    """64-bit only: the digest of a 32-bit guest of this size is one of 8 GiB."""
    w = 8
    n = build.entries(w)
    small = Small(w, extra=n**3 - 3 * n + 1)
    assert save_failure(replay(small.trace(build.migrate(1)))) == f"max_pfn-too-large {n**3}"


@pytest.mark.lane
def test_bad_fll_mfn_zero(replay: Replay, w: int) -> None:
    small = Small(w)
    domain = {**small.domain, small.pfn["top_mfn"]: 0}
    results = replay(small.trace(build.migrate(1), boot=domain))
    assert results[0]["frame_list_list_mfn"] == 0
    assert save_failure(results) == "bad-fll-mfn 0"


def test_bad_fll_mfn_above_max_mfn(replay: Replay, w: int) -> None:
    """A host that gives no frame to the page of `p2m_top_mfn`: its MFN is INVALID from then on."""
    small = Small(w)
    domain = dict(small.elsewhere)
    del domain[small.pfn["top_mfn"]]
    second = build.host(small.frames, domain)
    results = replay(small.trace(build.migrate(1), build.migrate(0), second=second))
    assert save_failure(results) == f"bad-fll-mfn {small.invalid}"


@pytest.mark.lane
def test_map_fll_failed(replay: Replay, w: int) -> None:
    small = Small(w)
    released = build.assign((small.pfn["top_mfn"], None, 1))
    results = replay(small.trace(released, build.migrate(1)))
    assert save_failure(results) == f"map-fll-failed {small.mfn('top_mfn')}"


def grown_at(small: Small, index: str, mfn: int | None) -> list[Json]:
    """Give pool page `index` the frame `mfn`, then grow at n*n: pool 0 to 2, mid, mid_mfn, leaf."""
    return [
        build.assign((small.pfn[index], mfn, 1)),
        build.assign((small.n**2, FIRST_FRAME - 1, 1)),
    ]


@pytest.mark.parametrize("past", [False, True], ids=["zero", "above max_mfn"])
def test_bad_mfn_in_fll(replay: Replay, w: int, past: bool) -> None:
    small = Small(w, extra=build.entries(w) ** 2)
    mfn = small.frames + 1 if past else 0
    events = grown_at(small, "pool1", mfn)
    assert save_failure(replay(small.trace(*events, build.migrate(1)))) == "bad-mfn-in-fll 1"


def test_map_fl_failed(replay: Replay, w: int) -> None:
    """max_mfn itself passes for a frame number, but is no frame of the guest's."""
    small = Small(w, extra=build.entries(w) ** 2)
    events = grown_at(small, "pool1", small.frames)
    assert save_failure(replay(small.trace(*events, build.migrate(1)))) == "map-fl-failed 1"


@pytest.mark.lane
def test_map_fl_failed_without_rebuild(replay: Replay, w: int) -> None:
    results = replay(Small(w, "none").trace(build.migrate(1), build.migrate(0)))
    assert save_failure(results) == "map-fl-failed 0"


def test_fll_entries_are_all_looked_at_before_any_is_mapped(replay: Replay, w: int) -> None:
    small = Small(w, extra=build.entries(w) ** 2)
    lost = build.assign((small.pfn["mid_mfn0"], None, 1))
    events = [lost, *grown_at(small, "pool1", 0)]
    assert save_failure(replay(small.trace(*events, build.migrate(1)))) == "bad-mfn-in-fll 1"


def leaf_grown(small: Small, mfn: int | None) -> list[Json]:
    """Give pool page 0 the frame `mfn`, then grow the tree by leaf 3, which is that page."""
    return [
        build.assign((small.pfn["pool0"], mfn, 1)),
        build.assign((3 * small.n, FIRST_FRAME - 1, 1)),
    ]


@pytest.mark.lane
@pytest.mark.parametrize("past", [False, True], ids=["zero", "above max_mfn"])
def test_bad_mfn_in_fl(replay: Replay, w: int, past: bool) -> None:
    small = Small(w, extra=build.entries(w))
    mfn = small.frames + 1 if past else 0
    events = leaf_grown(small, mfn)
    assert save_failure(replay(small.trace(*events, build.migrate(1)))) == "bad-mfn-in-fl 3"


def test_map_leaves_failed(replay: Replay, w: int) -> None:
    small = Small(w, extra=build.entries(w))
    events = leaf_grown(small, small.frames)
    assert save_failure(replay(small.trace(*events, build.migrate(1)))) == "map-leaves-failed 3"


@pytest.mark.lane
def test_map_leaves_failed_of_a_released_leaf(replay: Replay, w: int) -> None:
    small = Small(w)
    lost = build.assign((small.pfn["leaf1"], None, 1))
    assert save_failure(replay(small.trace(lost, build.migrate(1)))) == "map-leaves-failed 1"


def test_fl_entries_are_all_looked_at_before_any_is_mapped(replay: Replay, w: int) -> None:
    small = Small(w, extra=build.entries(w))
    lost = build.assign((small.pfn["leaf1"], None, 1))
    events = [lost, *leaf_grown(small, 0)]
    assert save_failure(replay(small.trace(*events, build.migrate(1)))) == "bad-mfn-in-fl 3"


@pytest.mark.lane
def test_bad_mfn_in_p2m_frame_list_beyond_max_pfn(replay: Replay, w: int) -> None:
    """The frame of leaf 1 is now that of a PFN past max_pfn, says m2p."""
    small = Small(w)
    beyond = small.guest["max_p2m_pfn"]
    stolen = build.assign((beyond, small.mfn("leaf1"), 1))
    results = replay(small.trace(stolen, build.migrate(1)))
    assert save_failure(results) == "bad-mfn-in-p2m-frame-list 1"


def test_bad_mfn_in_p2m_frame_list_beyond_max_pfn_in_the_last_leaf(replay: Replay, w: int) -> None:
    """That PFN's entry can be read, and is the frame: it is past max_pfn all the same."""
    small = Small(w, extra=5)
    stolen = build.assign((small.guest["max_p2m_pfn"], small.mfn("leaf1"), 1))
    results = replay(small.trace(stolen, build.migrate(1)))
    assert save_failure(results) == "bad-mfn-in-p2m-frame-list 1"


def test_last_pfn_is_not_beyond_max_pfn(replay: Replay, w: int) -> None:
    """With max_pfn one higher, the same frame is found in the p2m: but the page is not leaf 1."""
    small = Small(w, extra=1)
    stolen = build.assign((3 * small.n, small.mfn("leaf1"), 1))
    assert last(replay(small.trace(stolen, build.migrate(1))), "misdirected") == "-"


def test_bad_mfn_in_p2m_frame_list_by_another_entry(replay: Replay, w: int) -> None:
    """The host gives leaf 0's frame to leaf 1's page: read there, the p2m has other frames."""
    small = Small(w, "none")
    leaves = small.pfn["leaf0"], small.pfn["leaf1"]
    second = build.host(small.frames, build.swapped(small.domain, leaves))
    results = replay(small.trace(build.migrate(1), build.migrate(0), second=second))
    assert save_failure(results) == "bad-mfn-in-p2m-frame-list 0"


@pytest.mark.lane
def test_foreign_bit_of_a_leafs_entry_is_masked_off_in_the_list(replay: Replay, w: int) -> None:
    """So the list names a frame of the guest's own, though of another page."""
    small = Small(w, extra=build.entries(w))
    other = small.domain[2 * small.n + 9]
    events = leaf_grown(small, other | 1 << 31)
    assert last(replay(small.trace(*events, build.migrate(1))), "misdirected") == "-"


@pytest.mark.lane
def test_misdirected(replay: Replay, w: int) -> None:
    """Swapped leaves that hold no structure's entry pass every check, and are not the p2m."""
    small = Small(w, "none")
    leaves = small.pfn["leaf1"], small.pfn["leaf2"]
    second = build.host(small.frames, build.swapped(small.domain, leaves))
    results = replay(small.trace(build.migrate(1), build.migrate(0), second=second))
    assert last(results, "misdirected") == "-"


def test_trim_to_the_first_of_equal_fll_entries(model: type[models.Model], w: int) -> None:
    """Both fll entries name one frame, so the toolstack sees one mid's worth of PFNs.

    The second mid's PFN is neither checked nor given a frame of the new host: its entry stays.
    """
    small = Small(w, extra=build.entries(w) ** 2)
    shared, kept = small.mfn("mid_mfn0"), FIRST_FRAME - 1
    events = [
        *grown_at(small, "pool1", shared),
        build.assign((small.pfn["mid_mfn0"], shared, 1)),
        build.migrate(1),
    ]
    domain = {**small.elsewhere, small.n**2: 7}
    guest = model(small.trace(*events, second=build.host(small.frames, domain)))
    assert last(list(guest.run()), "ok") is None
    assert guest.lookup(small.n**2) == kept
    assert not guest.owns(7)
    assert guest.lookup(0) == small.elsewhere[0]


@pytest.mark.lane
def test_trim_does_not_raise_max_pfn(model: type[models.Model], w: int) -> None:
    """A lone last entry is a run of one that starts at itself: max_pfn stays, mid tail and all."""
    small = Small(w, extra=5)
    beyond = small.guest["max_p2m_pfn"]
    grown = build.assign((beyond - 1, 3, 2))
    domain = {**small.elsewhere, beyond - 1: 7, beyond: 8}
    second = build.host(small.frames, domain)
    guest = model(small.trace(grown, build.migrate(1), second=second))
    assert last(list(guest.run()), "ok") is None
    assert [guest.lookup(beyond - 1), guest.lookup(beyond)] == [7, 4]
    assert [guest.owns(7), guest.owns(8)] == [True, False]


def test_checks_come_in_order(replay: Replay, w: int) -> None:
    """One guest with every fault: mended one by one, the next check down refuses it."""
    small = Small(w, extra=build.entries(w) ** 2)
    pfn, mfn = small.pfn, small.mfn
    top_mfn_lost = build.assign((pfn["top_mfn"], None, 1))
    mid_mfn_lost = build.assign((pfn["mid_mfn0"], None, 1))
    leaf_lost = build.assign((pfn["leaf1"], None, 1))
    # Pool pages in the order in which the events below grow the tree: 0 to 2 for a third mid past
    # max_pfn, 3 for leaf 3, 4 to 6 for the second mid.
    leaf_taken = build.assign((2 * small.n**2, mfn("leaf0"), 1))
    bad_leaf = [build.assign((pfn["pool3"], 0, 1)), build.assign((3 * small.n, 3, 1))]
    bad_mid_mfn = [build.assign((pfn["pool5"], 0, 1)), build.assign((small.n**2, 4, 1))]
    ladder: list[tuple[list[Json], str]] = [
        ([top_mfn_lost], f"map-fll-failed {mfn('top_mfn')}"),
        (bad_mid_mfn, "bad-mfn-in-fll 1"),
        ([mid_mfn_lost], "map-fl-failed 0"),
        (bad_leaf, "bad-mfn-in-fl 3"),
        ([leaf_lost], "map-leaves-failed 1"),
        ([leaf_taken], "bad-mfn-in-p2m-frame-list 0"),
    ]
    for rung, (_, detail) in enumerate(ladder):
        # Last rung first, which is the order that the pool pages above are counted in.
        events = [event for faults, _ in reversed(ladder[rung:]) for event in faults]
        assert save_failure(replay(small.trace(*events, build.migrate(1)))) == detail
