"""Stray writes into every kind of page, one by one (model section 6): where the damage spreads.

The boot frame of a structure is, on host 1, that of the page to be hit. What comes of it is stated
where it is plain to say, and compared between the two models everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from oracle import build, models
from oracle.build import Json

Replay = Callable[[Json], list[Json]]

LEAVES = 3
ORDINARY = "ordinary"
"""A page of the guest that is no structure."""
TARGETS = (
    *("missing", "mid_missing", "top", "mid0", "mid_missing_mfn", "top_mfn", "mid_mfn0"),
    *("leaf0", "leaf1", "leaf2", "pool0", "pool1", "pool2", ORDINARY),
)
STRAY = "mid_mfn store"


@pytest.fixture(params=[8, 4], ids=["64", "32"])
def w(request: pytest.FixtureRequest) -> int:
    width: int = request.param
    return width


def trace_of(w: int, hit: str, through: str, *events: Json, **layout: int) -> Json:
    """A `stale` guest whose frames on host 1 are those of host 0, but for one exchange.

    The boot frame of the structure `through` is that of the page `hit` there. Host 2 is elsewhere.
    """
    n = build.entries(w)
    num_pages = LEAVES * n
    guest = build.guest(w, num_pages, **layout)
    pages = build.structures("stale", guest) | {ORDINARY: n + 7}
    domain = build.frames_from(100, num_pages)
    hosts = [
        build.host(20_000, domain),
        build.host(20_000, build.swapped(domain, (pages[hit], pages[through]))),
        build.host(20_000, build.frames_from(9000, num_pages)),
    ]
    return build.trace("stale", guest, hosts, [build.boot(), build.migrate(1), *events])


def ends(results: list[Json]) -> list[tuple[str, str | None]]:
    return [(r["outcome"], r["detail"]) for r in results]


def both(trace: Json) -> list[Json]:
    """Replay on both models, which must agree; return what they say."""
    expected = models.REPLAYS[models.Reference](trace)
    assert models.REPLAYS[models.Compiled](trace) == expected
    return expected


OK = ("ok", None)

# A rebuild that writes leaf x's MFN to entry x of this page, x = 0 to 2, and its end.
REBUILDS = {
    "missing": OK,
    "mid_missing": OK,
    "top": ("fault", "p2m_top entry"),
    "mid0": ("fault", "p2m_mid entry"),
    # As at boot: the page found is p2m_mid_missing_mfn, so it takes a fresh one from brk.
    "mid_missing_mfn": ("bug", "_brk_start == 0"),
    "top_mfn": OK,
    "mid_mfn0": OK,
    "leaf0": OK,
    "leaf1": OK,
    "leaf2": OK,
    "pool0": OK,
    "pool1": OK,
    "pool2": OK,
    ORDINARY: OK,
}


@pytest.mark.lane
@pytest.mark.parametrize("hit", TARGETS)
def test_rebuild_through_a_frame_that_is_another_page_now(hit: str, w: int) -> None:
    results = both(trace_of(w, hit, "mid_mfn0", build.migrate(2), build.migrate(0)))
    assert ends(results)[:2] == [OK, REBUILDS[hit]]
    assert (results[1]["stray_writes"] == 0) == (hit in ("mid_mfn0", "mid_missing_mfn"))


@pytest.mark.parametrize("hit", TARGETS)
@pytest.mark.parametrize(("top_index", "mid_index"), [(0, 5), (1, 0), (1, 1), (1, 2), (1, 5)])
def test_growth_through_a_frame_that_is_another_page_now(
    hit: str, top_index: int, mid_index: int, w: int
) -> None:
    """Entry `mid_index` of the page is hit by `alloc_p2m`, past xen_max_p2m_pfn but for top 0."""
    n = build.entries(w)
    pfn = top_index * n * n + mid_index * n + 3
    through = "mid_missing_mfn" if top_index else "mid_mfn0"
    grow = build.assign((pfn, 15_000, 2))
    results = both(trace_of(w, hit, through, grow, grow, build.migrate(2), build.migrate(0)))
    rebuilt = REBUILDS[hit]
    if through == "mid_missing_mfn":
        # mid_mfn0's own frame leads to p2m_mid_missing_mfn only where these two were exchanged.
        rebuilt = REBUILDS["mid_missing_mfn"] if hit == "mid_mfn0" else OK
    assert ends(results)[1] == rebuilt


@pytest.mark.lane
def test_growth_that_hits_its_own_top_entry(replay: Replay, w: int) -> None:
    n = build.entries(w)
    grow = build.assign((n * n + n, 15_000, 1))
    results = replay(trace_of(w, "top", "mid_missing_mfn", grow))
    assert ends(results) == [OK, OK, ("fault", "p2m_top entry")]
    assert (results[-1]["stray_writes"], results[-1]["entries_set"]) == (1, 0)


@pytest.mark.lane
def test_growth_that_hits_its_own_mid_entry(replay: Replay, w: int) -> None:
    """The mid page that alloc_p2m takes first is the one that its leaf's MFN is stored in."""
    n = build.entries(w)
    grow = build.assign((n * n, 15_000, 1))
    results = replay(trace_of(w, "pool0", "mid_missing_mfn", grow))
    assert ends(results) == [OK, OK, ("fault", "p2m_mid entry")]
    assert (results[-1]["stray_writes"], results[-1]["pool_pages_used"]) == (1, 2)


@pytest.mark.lane
def test_growth_through_a_frame_that_nobody_has(replay: Replay, w: int) -> None:
    n = build.entries(w)
    trace = trace_of(w, ORDINARY, "mid_missing_mfn", build.assign((n * n, 15_000, 1)))
    pages = build.structures("stale", trace["guest"])
    trace["hosts"][1] = build.host(
        20_000, build.frames_from(100, LEAVES * n) | {pages["mid_missing_mfn"]: 19_000}
    )
    results = replay(trace)
    assert ends(results) == [OK, OK, ("fault", STRAY)]
    assert (results[-1]["stray_writes"], results[-1]["pool_pages_used"]) == (0, 2)


@pytest.mark.lane
@pytest.mark.parametrize(("hit", "mid_index"), [("mid0", 2), ("top", 0)])
def test_wild_pointer_in_the_way_of_a_true_leaf_is_misdirected(
    replay: Replay, w: int, hit: str, mid_index: int
) -> None:
    """The list that the toolstack reads is right, but the guest's own tree no longer is."""
    n = build.entries(w)
    grow = build.assign((n * n + mid_index * n, 15_000, 1))
    results = replay(trace_of(w, hit, "mid_missing_mfn", grow, build.migrate(0)))
    assert ends(results) == [OK, OK, OK, ("misdirected", "-")]
    assert results[2]["stray_writes"] == 1


def test_wild_leaf_pointer_is_looked_up_as_an_address(model: type[models.Model], w: int) -> None:
    """The rebuild of top 0 makes the second mid's pointers wild before their own turn comes.

    What virt_to_mfn makes of one is no PFN on 64-bit; on 32-bit it is one that may be populated.
    """
    n = build.entries(w)
    grow = build.assign((n * n, 15_000, 1))
    trace = trace_of(w, "pool0", "mid_mfn0", max_p2m_pfn=n * n + n)
    trace["events"].insert(1, grow)
    domain = {pfn + i: mfn + i for pfn, mfn, k in trace["hosts"][1]["domain"] for i in range(k)}
    trace["hosts"][1] = build.host(20_000, {**domain, n * n: 15_000})
    left = model(trace)
    assert ends(list(left.run())) == [OK] * 3
    assert left.page(left.true_mid_mfn(1))[0] == left.invalid

    if w == 4:
        looked_up = 0x4000_0000 // 4096
        trace["events"].insert(2, build.assign((looked_up, 15_001, 1)))
        trace["hosts"][1] = build.host(20_000, {**domain, n * n: 15_000, looked_up: 15_001})
        left = model(trace)
        assert ends(list(left.run())) == [OK] * 4
        assert left.page(left.true_mid_mfn(1))[0] == 15_001


def test_leafs_mfn_is_looked_up_before_the_stores_address(replay: Replay, w: int) -> None:
    """Both would fault for the second mid; leaf 2, with mfn_list's entries, lasts till then."""
    n = build.entries(w)
    layout = {"mfn_list_pfn": 2 * n + 32, "max_p2m_pfn": n * n + n}
    trace = trace_of(w, "mid0", "mid_mfn0", **layout)
    trace["events"].insert(1, build.assign((n * n, 15_000, 1)))
    pages = build.structures("stale", trace["guest"])
    domain = {pfn + i: mfn + i for pfn, mfn, k in trace["hosts"][1]["domain"] for i in range(k)}
    trace["hosts"][1] = build.host(20_000, {**domain, pages["pool1"]: 19_000})
    results = replay(trace)
    assert ends(results) == [OK, OK, ("fault", "p2m_mid entry")]
    assert results[-1]["stray_writes"] == LEAVES


@pytest.mark.lane
def test_holes_share_what_was_written_to_p2m_missing(model: type[models.Model], w: int) -> None:
    """Restored for each hole in turn, the one page keeps what the last was given."""
    n = build.entries(w)
    grow = build.assign((n * n + 5 * n, 15_000, 1))
    trace = trace_of(w, ORDINARY, ORDINARY, grow, build.migrate(2), max_p2m_pfn=5 * n)
    pages = build.structures("stale", trace["guest"])
    domain = build.frames_from(100, LEAVES * n)
    there = domain | {pages["mid_missing_mfn"]: 19_000}
    trace["hosts"][1] = build.host(
        20_000, there, {100 + pages["mid_missing_mfn"]: pages["missing"]}
    )
    trace["hosts"][2] = build.host(20_000, domain | {3 * n + 5: 16_000, 4 * n + 5: 16_001})
    left = model(trace)
    results = list(left.run())
    assert ends(results) == [OK] * 4
    assert results[2]["stray_writes"] == 1
    assert [left.lookup(3 * n + 5), left.lookup(4 * n + 5)] == [16_001, 16_001]
    assert [left.owns(16_000), left.owns(16_001)] == [True, True]


@pytest.mark.lane
def test_addresses_wrap_at_the_end_of_the_word(replay: Replay, w: int) -> None:
    """A neighbour's PFN past the address space reaches the guest's page of the same remainder."""
    n = build.entries(w)
    trace = trace_of(w, ORDINARY, ORDINARY)
    pages = build.structures("stale", trace["guest"])
    domain = build.frames_from(100, LEAVES * n) | {pages["mid_mfn0"]: 19_000}
    space = 1 << (8 * w - 12)
    for pfn, end in (
        (space + 5, ("ok", None)),
        (space + LEAVES * n, ("fault", STRAY)),
        (space + pages["mid_missing_mfn"], ("bug", "_brk_start == 0")),
    ):
        trace["hosts"][1] = build.host(20_000, domain, {100 + pages["mid_mfn0"]: pfn})
        assert ends(replay(trace)) == [OK, end]


@pytest.mark.lane
def test_loser_of_the_cmpxchg_is_used_all_the_same(replay: Replay, w: int) -> None:
    """The top_mfn entry leads to p2m_mid_missing_mfn but is not its MFN: a fresh page is lost.

    The leaf's MFN goes into that page, which is not installed; the next growth takes another.
    """
    n = build.entries(w)
    trace = trace_of(w, ORDINARY, ORDINARY)
    pages = build.structures("stale", trace["guest"])
    boot_frame = 100 + pages["mid_missing_mfn"]
    domain = build.frames_from(100, LEAVES * n) | {pages["mid_missing_mfn"]: 19_000}
    domain |= {pages["pool15"]: 19_001}
    trace["hosts"][1] = build.host(20_000, domain, {boot_frame: pages["mid_missing_mfn"]})
    trace["events"] += [build.assign((n * n, 15_000, 1)), build.assign((n * n + n, 15_001, 1))]
    results = replay(trace)
    assert ends(results) == [OK] * 4
    assert [r["pool_pages_used"] for r in results] == [0, 0, 3, 5]
    assert [r["stray_writes"] for r in results] == [0, 0, 1, 1]
    assert results[2]["frame_list_list_sha256"] == results[1]["frame_list_list_sha256"]


@pytest.mark.lane
@pytest.mark.parametrize("beyond", [False, True])
def test_p2m_missing_right_after_the_last_leaf_is_no_leaf(w: int, beyond: bool) -> None:
    """brk follows mfn_list, so p2m_missing looks like its next page: `stale` still skips holes."""
    trace = trace_of(w, ORDINARY, "mid_mfn0", build.migrate(2), brk_pfn=32 + LEAVES)
    trace["guest"]["max_p2m_pfn"] += 3 + beyond * build.entries(w)
    results = both(trace)
    assert results[1]["stray_writes"] == LEAVES


@pytest.mark.parametrize("policy", ["tracked", "stale", "none"])
def test_state_left_by_a_boot_that_overflows_brk(policy: str, w: int) -> None:
    """The digests show the structures that there were, and none that were not."""
    n = build.entries(w)
    hosts = [build.host(20_000, build.frames_from(100, 2 * n))]
    for brk_pages in range(1, 9):
        guest = build.guest(w, 2 * n, brk_pages=brk_pages)
        both(build.trace(policy, guest, hosts, [build.boot()]))
