"""What is still wrong after the change (model section 9), and what the change was for (section 8).

9.4, two CPUs growing the tree at once, is not modelled.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

import pytest

from oracle import build, models
from oracle.build import Json

Replay = Callable[[Json], list[Json]]

FRAMES = 20_000


@pytest.fixture(params=[8, 4], ids=["64", "32"])
def w(request: pytest.FixtureRequest) -> int:
    width: int = request.param
    return width


def hosts(num_pages: int, count: int = 3) -> list[Json]:
    """Hosts that keep the guest's pages in frames of their own, none in common."""
    return [
        build.host(FRAMES, build.frames_from(100 + i * (num_pages + 100), num_pages))
        for i in range(count)
    ]


def outcomes(results: list[Json]) -> list[tuple[str, str | None]]:
    return [(r.get("outcome", "ok"), r.get("detail")) for r in results]


OK = ("ok", None)


def digest(words: list[int]) -> str:
    return hashlib.sha256(struct.pack(f"<{len(words)}Q", *words)).hexdigest()


# --- section 9 ---------------------------------------------------------------------------------


@pytest.mark.lane
def test_hazard_1_populating_beyond_xen_max_after_a_migration(replay: Replay, w: int) -> None:
    """The top_mfn entry there still holds the old MFN of p2m_mid_missing_mfn."""
    n = build.entries(w)
    guest = build.guest(w, 2 * n)
    beyond = build.assign((n * n, 7, 1))
    life = [build.boot(), build.migrate(1), beyond]
    results = replay(build.trace("tracked", guest, hosts(2 * n), life))
    assert outcomes(results) == [OK, OK, ("bug", "virt_to_mfn(mid_mfn) != *top_mfn_p")]
    assert results[-1]["entries_set"] == 0
    assert results[-1]["pool_pages_used"] == 1, "the mid page was installed before the BUG"


@pytest.mark.lane
def test_hazard_1_not_before_a_migration_nor_below_xen_max(replay: Replay, w: int) -> None:
    n = build.entries(w)
    beyond = build.assign((n * n, 7, 1))
    guest = build.guest(w, 2 * n)
    results = replay(build.trace("tracked", guest, hosts(2 * n), [build.boot(), beyond]))
    assert outcomes(results) == [OK, OK]
    guest = build.guest(w, 2 * n, max_p2m_pfn=n * n + 1)
    life = [build.boot(), build.migrate(1), beyond, build.migrate(2)]
    assert outcomes(replay(build.trace("tracked", guest, hosts(2 * n), life))) == [OK] * 4


def test_hazard_1_a_mid_that_was_populated_before(replay: Replay, w: int) -> None:
    """Not only empty top entries: one beyond xen_max that has its pages goes stale as well."""
    n = build.entries(w)
    guest = build.guest(w, 2 * n)
    life = [
        build.boot(),
        build.assign((n * n, 7, 1)),
        build.migrate(1),
        build.assign((n * n + 1, 8, 1)),
        build.assign((n * n + n, 9, 1)),
    ]
    results = replay(build.trace("tracked", guest, hosts(2 * n), life))
    assert outcomes(results)[:4] == [OK] * 4, "a leaf that is there takes entries"
    assert outcomes(results)[4:] == [("bug", "virt_to_mfn(mid_mfn) != *top_mfn_p")]


@pytest.mark.lane
@pytest.mark.parametrize("how", ["injected", "pool empty"])
def test_hazard_2_a_mid_page_without_its_mid_mfn_page(replay: Replay, w: int, how: str) -> None:
    n = build.entries(w)
    pool = [[64, 16]] if how == "injected" else [[64, 1]]
    guest = build.guest(w, 2 * n, max_p2m_pfn=n * n + n, page_pool=pool)
    fail = [build.fail_alloc(1)] if how == "injected" else []
    life = [build.boot(), *fail, build.assign((n * n, 7, 1)), build.migrate(1)]
    results = replay(build.trace("tracked", guest, hosts(2 * n), life))
    assert outcomes(results) == [OK] * (len(life) - 1) + [("bug", "_brk_start == 0")]
    grown = results[-2]
    assert (grown["ok"], grown["entries_set"], grown["pool_pages_used"]) == (False, 0, 1)


def test_hazard_2_healed_by_populating_again_in_time(replay: Replay, w: int) -> None:
    n = build.entries(w)
    guest = build.guest(w, 2 * n, max_p2m_pfn=n * n + n)
    again = build.assign((n * n, 7, 1))
    life = [build.boot(), build.fail_alloc(1), again, again, build.migrate(1)]
    results = replay(build.trace("tracked", guest, hosts(2 * n), life))
    assert outcomes(results) == [OK] * 5
    assert [results[2]["ok"], results[3]["ok"]] == [False, True]


@pytest.mark.parametrize("at", [0, 2])
def test_an_allocation_that_fails_elsewhere_is_no_hazard(replay: Replay, w: int, at: int) -> None:
    """Without a mid page nothing was installed; without a leaf both mids hang in as they should."""
    n = build.entries(w)
    guest = build.guest(w, 2 * n, max_p2m_pfn=n * n + n)
    life = [build.boot(), build.fail_alloc(at), build.assign((n * n, 7, 1)), build.migrate(1)]
    results = replay(build.trace("tracked", guest, hosts(2 * n), life))
    assert outcomes(results) == [OK] * 4
    assert results[2]["ok"] is False
    assert results[2]["pool_pages_used"] == at


def test_fail_alloc_counts_from_itself_and_fails_once(replay: Replay, w: int) -> None:
    """Armed again it counts anew; what it made fail goes through the next time."""
    n = build.entries(w)
    guest = build.guest(w, 2 * n, max_p2m_pfn=9 * n)
    life = [build.boot()]
    for leaf in (2, 3, 4):
        grow = build.assign((leaf * n, 7 + leaf, 1))
        life += [build.fail_alloc(0), grow, grow]
    life += [build.fail_alloc(2), *(build.assign((leaf * n, 7 + leaf, 1)) for leaf in (5, 6, 7))]
    results = replay(build.trace("tracked", guest, hosts(2 * n), life))
    sets = [r["ok"] for r in results if r["op"] == "set"]
    assert sets == [False, True] * 3 + [True, True, False]
    assert results[-1]["pool_pages_used"] == 5


@pytest.mark.lane
def test_hazard_3_tail_of_the_last_leaf_reads_as_mfn_0(model: type[models.Model], w: int) -> None:
    n = build.entries(w)
    nr_pages, max_p2m_pfn = n + 5, 2 * n
    guest = build.guest(w, nr_pages, max_p2m_pfn=max_p2m_pfn)
    machines = hosts(nr_pages)
    tail = max_p2m_pfn - nr_pages
    life = [build.boot(), build.migrate(1)]
    trace = build.trace("tracked", guest, machines, life)
    left = model(trace)
    results = list(left.run())
    assert outcomes(results) == [OK, OK]
    before = [100 + pfn for pfn in range(nr_pages)] + [0] * tail
    after = [machines[1]["domain"][0][1] + pfn for pfn in range(nr_pages)] + [(1 << 64) - 1] * tail
    assert [r["p2m_sha256"] for r in results] == [digest(before), digest(after)]
    assert left.lookup(nr_pages) == left.invalid


def test_hazard_3_the_tail_counts_as_populated_on_restore(
    model: type[models.Model], w: int
) -> None:
    """A host that names frames for the tail gives them: the entries there were not INVALID."""
    n = build.entries(w)
    nr_pages = n + 5
    guest = build.guest(w, nr_pages, max_p2m_pfn=2 * n)
    domain = {**build.frames_from(100, nr_pages), nr_pages: 5000, 2 * n - 1: 5001}
    machines = [*hosts(nr_pages, 1), build.host(FRAMES, domain)]
    left = model(build.trace("tracked", guest, machines, [build.boot(), build.migrate(1)]))
    assert outcomes(list(left.run())) == [OK, OK]
    assert [left.lookup(nr_pages), left.lookup(2 * n - 1)] == [5000, 5001]
    assert left.owns(5000)
    assert left.lookup(nr_pages + 1) == left.invalid


def test_hazard_3_beyond_max_pfn_the_zeros_stay(model: type[models.Model], w: int) -> None:
    """The tail past xen_max_p2m_pfn is not the toolstack's to overwrite."""
    n = build.entries(w)
    guest = build.guest(w, n + 5, max_p2m_pfn=n + 9)
    left = model(build.trace("tracked", guest, hosts(n + 5), [build.boot(), build.migrate(1)]))
    assert outcomes(list(left.run())) == [OK, OK]
    assert [left.lookup(n + 8), left.lookup(n + 9)] == [left.invalid, 0]


@pytest.mark.lane
def test_hazard_5_populated_beyond_xen_max_is_never_saved(
    model: type[models.Model], w: int
) -> None:
    """Its entry is the old host's frame after a migration, though the new host names one for it."""
    n = build.entries(w)
    beyond = 3 * n + 7
    guest = build.guest(w, 2 * n)
    domain = {**build.frames_from(9000, 2 * n), beyond: 5000}
    machines = [*hosts(2 * n, 1), build.host(FRAMES, domain)]
    life = [build.boot(), build.assign((beyond, 7, 1)), build.migrate(1)]
    left = model(build.trace("tracked", guest, machines, life))
    assert outcomes(list(left.run())) == [OK] * 3
    assert left.lookup(beyond) == 7
    assert not left.owns(5000)
    assert not left.owns(7)
    assert left.lookup(0) == 9000


@pytest.mark.lane
def test_frames_of_pages_that_are_not_populated_are_not_the_guests(
    model: type[models.Model], w: int
) -> None:
    """The host may name a frame for a page that was ballooned out: the guest does not get it."""
    n = build.entries(w)
    life = [build.boot(), build.assign((n + 5, None, 2)), build.migrate(1)]
    left = model(build.trace("tracked", build.guest(w, 2 * n), hosts(2 * n), life))
    assert outcomes(list(left.run())) == [OK] * 3
    frame = hosts(2 * n)[1]["domain"][0][1] + n + 5
    assert left.lookup(n + 5) == left.invalid
    assert (left.owns(frame), left.m2p(frame)) == (False, None)
    assert left.owns(frame + 2)


# --- section 8 ---------------------------------------------------------------------------------


def neighbours(num_pages: int, old_first: int, first_pfn: int) -> dict[int, int]:
    """A neighbour in the frames that the guest had, with PFNs from `first_pfn` on."""
    return {old_first + i: first_pfn + i for i in range(num_pages)}


@pytest.mark.lane
def test_stale_survives_one_migration_and_dies_of_the_second(replay: Replay, w: int) -> None:
    """With neighbours in the old frames: stray writes first, then the save finds no list."""
    n = build.entries(w)
    guest = build.guest(w, 3 * n)
    machines = hosts(3 * n)
    # The neighbour's PFNs are such that the guest's own page there is an ordinary one.
    foreign = neighbours(3 * n, machines[0]["domain"][0][1], n)
    machines[1]["foreign"] = build.runs(foreign)
    life = [build.boot(), build.migrate(1), build.migrate(2)]
    results = replay(build.trace("stale", guest, machines, life))
    assert outcomes(results) == [OK, OK, ("save-failed", "map-fl-failed 0")]
    assert [r["stray_writes"] for r in results] == [0, 3, 0]
    assert [r["stray_pages"] for r in results] == [0, 1, 0]


@pytest.mark.lane
def test_stale_faults_where_its_old_frames_are_free(replay: Replay, w: int) -> None:
    n = build.entries(w)
    life = [build.boot(), build.migrate(1)]
    results = replay(build.trace("stale", build.guest(w, 3 * n), hosts(3 * n), life))
    assert outcomes(results) == [OK, ("fault", "mid_mfn store")]
    assert results[-1]["stray_writes"] == 0


@pytest.mark.parametrize("neighbour", [False, True])
def test_tracked_passes_any_number_of_migrations(replay: Replay, w: int, neighbour: bool) -> None:
    n = build.entries(w)
    machines = hosts(3 * n)
    if neighbour:
        for here, there in ((1, 0), (2, 1), (0, 2)):
            old = machines[there]["domain"][0][1]
            machines[here]["foreign"] = build.runs(neighbours(3 * n, old, n))
    life = [build.boot(), *(build.migrate(i % 3) for i in range(1, 13))]
    results = replay(build.trace("tracked", build.guest(w, 3 * n), machines, life))
    assert outcomes(results) == [OK] * 13
    assert sum(r["stray_writes"] for r in results) == 0


@pytest.mark.lane
def test_stale_works_by_accident(model: type[models.Model], w: int) -> None:
    """The old frame is the guest's own again: an innocent page becomes the list, and is read."""
    n = build.entries(w)
    guest = build.guest(w, 3 * n)
    machines = hosts(3 * n)
    old = 100 + build.structures("stale", guest)["mid_mfn0"]
    innocent = 2 * n + 5
    domain = build.frames_from(machines[1]["domain"][0][1], 3 * n) | {innocent: old}
    machines[1] = build.host(FRAMES, domain)
    left = model(build.trace("stale", guest, machines, [build.boot(), build.migrate(1)]))
    results = list(left.run())
    assert outcomes(results) == [OK, OK]
    assert (results[-1]["stray_writes"], results[-1]["stray_pages"]) == (3, 1)
    leaves = [left.lookup(guest["mfn_list_pfn"] + x) for x in range(3)]
    assert left.page(innocent) == leaves + [0] * (n - 3)
    # On host 2 the frame is nobody's: the save from host 1 went well, the resume there does not.
    life = [build.boot(), build.migrate(1), build.migrate(2)]
    results = list(model(build.trace("stale", guest, machines, life)).run())
    assert outcomes(results) == [OK, OK, ("fault", "mid_mfn store")]


def test_without_a_rebuild_the_second_migration_fails(replay: Replay, w: int) -> None:
    n = build.entries(w)
    life = [build.boot(), build.migrate(1), build.migrate(2)]
    results = replay(build.trace("none", build.guest(w, 3 * n), hosts(3 * n), life))
    assert outcomes(results) == [OK, OK, ("save-failed", "map-fl-failed 0")]


# --- other ends of a guest ---------------------------------------------------------------------


@pytest.mark.lane
@pytest.mark.parametrize("policy", ["tracked", "stale", "none"])
def test_boot_that_overflows_brk(replay: Replay, w: int, policy: str) -> None:
    """Every length of brk that is too short is a BUG; the first that is not boots."""
    n = build.entries(w)
    needed = 7 if policy == "stale" else 8
    for brk_pages in range(1, needed + 1):
        guest = build.guest(w, 2 * n, brk_pages=brk_pages)
        results = replay(build.trace(policy, guest, hosts(2 * n), [build.boot()]))
        assert results[0]["brk_pages_used"] == brk_pages
        enough = brk_pages == needed
        assert outcomes(results) == [OK if enough else ("bug", "brk overflow")]


@pytest.mark.lane
def test_populating_past_max_p2m_pfn(replay: Replay, w: int) -> None:
    n = build.entries(w)
    guest = build.guest(w, 2 * n)
    nothing = build.assign((n**3 - 1, None, 3))
    something = build.assign((n**3, 5, 1))
    life = [build.boot(), nothing, something]
    results = replay(build.trace("tracked", guest, hosts(2 * n), life))
    assert outcomes(results) == [OK, OK, ("bug", "mfn != INVALID_P2M_ENTRY")]
    assert (results[1]["ok"], results[1]["entries_set"]) == (True, 3)
    assert (results[2]["ok"], results[2]["entries_set"]) == (True, 0)


def test_foreign_bit_is_lost_by_a_migration(model: type[models.Model], w: int) -> None:
    n = build.entries(w)
    guest = build.guest(w, 2 * n)
    marked = build.assign((n + 5, 7 | 1 << 31, 1))
    left = model(build.trace("tracked", guest, hosts(2 * n), [build.boot(), marked]))
    assert outcomes(list(left.run())) == [OK, OK]
    assert (left.lookup(n + 5), left.mfn_of_page(n + 5)) == (7 | 1 << 31, 7)
    assert not left.owns(7)
    assert left.m2p(100 + n + 5) is None, "the frame that the entry held is released"
    life = [build.boot(), marked, build.migrate(1)]
    left = model(build.trace("tracked", guest, hosts(2 * n), life))
    assert outcomes(list(left.run())) == [OK] * 3
    assert left.lookup(n + 5) == hosts(2 * n)[1]["domain"][0][1] + n + 5


def test_a_frame_moves_with_the_entry_written_last(model: type[models.Model], w: int) -> None:
    """Two entries with one frame: m2p names the later, and only its overwriting releases it."""
    n = build.entries(w)
    guest = build.guest(w, 2 * n)
    sets = [build.assign((n + 1, 100 + n, 1)), build.assign((n, 5, 1))]
    left = model(build.trace("tracked", guest, hosts(2 * n), [build.boot(), *sets]))
    assert outcomes(list(left.run())) == [OK] * 3
    assert (left.m2p(100 + n), left.owns(100 + n)) == (n + 1, True)
    assert (left.m2p(100 + n + 1), left.owns(100 + n + 1)) == (None, False)
    sets.append(build.assign((n + 1, None, 1)))
    left = model(build.trace("tracked", guest, hosts(2 * n), [build.boot(), *sets]))
    assert outcomes(list(left.run())) == [OK] * 4
    assert (left.m2p(100 + n), left.owns(100 + n)) == (None, False)
