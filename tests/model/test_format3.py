"""What format 3 adds to the machine: losses, refusals that a guest outlives, Xen's version."""

from __future__ import annotations

from typing import Any

import pytest

from oracle import build, models, reference
from oracle.build import Json
from oracle.lives import Wanted, lives
from oracle.unpinned import (
    FIRST,
    MID_MISSING_MFN,
    NO_STORE,
    NR_PAGES,
    STRAY,
    boot_host,
    frame,
    number_into_list,
)

FORMAT = "p2mbatch-trace/3"
FRAMES = 4000
OK = {"outcome": "ok", "detail": None}


@pytest.fixture(params=[models.Reference, models.Compiled], ids=["reference", "compiled"])
def run(request: pytest.FixtureRequest) -> Any:
    """Run a life's JSON object."""
    return models.REPLAYS[request.param]


def life(policy: str, events: list[Json], *hosts: Json, bits: int = 64, **layout: Any) -> Json:
    guest = build.guest(bits // 8, NR_PAGES, **layout)
    return build.trace(policy, guest, list(hosts), events, format_number=3)


def there(extra: dict[int, int] | None = None, foreign: dict[int, int] | None = None) -> Json:
    """A host to move to, with the guest's pages in other frames."""
    return build.host(FRAMES, build.frames_from(2000, NR_PAGES) | (extra or {}), foreign)


def home() -> Json:
    return boot_host(FRAMES)


def losses(result: Json) -> tuple[int, int, int]:
    return result["lost_pages"], result["ghost_pages"], result["lost_identity_pages"]


def test_a_plain_move_loses_nothing(run: Any) -> None:
    for policy in ("tracked", "stale", "none"):
        events = [build.boot(), build.assign((7, None, 2)), build.migrate(1)]
        home = boot_host(FRAMES)
        # The same frames, or `stale` and `none` would not get through.
        results = run(life(policy, events, home, home))
        assert results[2] | OK == results[2], policy
        assert losses(results[2]) == (0, 0, 0)
        assert results[1]["placeholder_writes"] == 0
        assert "lost_pages" not in results[1]
        assert "placeholder_writes" not in results[2]


def test_pages_past_the_shared_max_pfn_are_lost(run: Any) -> None:
    past = NR_PAGES + 512
    events = [build.boot(), build.assign((past, 5, 3)), build.migrate(1)]
    results = run(life("tracked", events, boot_host(FRAMES), there({past: 1990})))
    assert losses(results[2]) == (3, 0, 0)


def test_an_entry_that_a_stray_write_hits_is_a_lost_page(run: Any) -> None:
    """The old frame of the shared list page is a neighbour's whose PFN is that of the last leaf."""
    leaf2, home = 34, boot_host(FRAMES)
    away = there(None, {frame(MID_MISSING_MFN): leaf2})
    results = run(life("stale", [build.boot(), build.migrate(1)], home, away))
    assert results[1] | {"outcome": "ok", "stray_writes": 3, "stray_pages": 1} == results[1]
    # The MFNs of three leaves are now the entries of PFNs 1024, 1025 and 1026.
    assert losses(results[1]) == (3, 0, 0)


def test_a_frame_in_two_entries_comes_out_as_a_ghost(run: Any) -> None:
    """The older entry's page was not populated, as m2p named the newer; both get a frame."""
    events = [build.boot(), build.assign((700, frame(900), 1)), build.migrate(1)]
    results = run(life("tracked", events, boot_host(FRAMES), there()))
    assert losses(results[2]) == (0, 1, 0)


def test_the_tail_over_an_own_frame_0_comes_out_as_ghosts(run: Any) -> None:
    nr_pages = NR_PAGES - 5
    guest = build.guest(8, nr_pages, max_p2m_pfn=NR_PAGES)
    home = build.host(FRAMES, build.frames_from(0, nr_pages))
    away = build.host(FRAMES, build.frames_from(2000, NR_PAGES))
    events = [build.boot(), build.migrate(1)]
    results = run(build.trace("tracked", guest, [home, away], events, format_number=3))
    assert losses(results[1]) == (0, 5, 0)


def test_what_is_not_the_guests_is_not_lost(run: Any) -> None:
    """Foreign entries and numbers past the host arrive as INVALID, and were not populated."""
    rows: list[tuple[int, int | None, int]] = [
        (600, (1 << 31) + 3000, 2),
        (610, FRAMES + 7, 1),
    ]
    results = run(
        life("tracked", [build.boot(), build.assign(*rows), build.migrate(1)], home(), there())
    )
    assert losses(results[2]) == (0, 0, 0)


def test_a_guest_that_does_not_get_through_has_no_losses(run: Any) -> None:
    past = NR_PAGES + 512
    events = [build.boot(), build.assign((past, 5, 3)), build.migrate(1)]
    nowhere = build.host(FRAMES, build.frames_from(2000, NR_PAGES - 1))
    results = run(life("tracked", events, home(), nowhere))
    assert (
        results[2] | {"outcome": "restore-failed", "detail": f"populate-failed {NR_PAGES - 1}"}
        == results[2]
    )
    assert losses(results[2]) == (0, 0, 0)


def test_a_refused_guest_that_stays_lives_on_as_it_was(run: Any) -> None:
    nowhere = build.host(FRAMES, build.frames_from(2000, NR_PAGES - 1))
    refused = build.migrate(1) | {"on_refused": "stay"}
    events = [build.boot(), refused, build.assign((1, None, 1)), build.migrate(2), build.migrate(2)]
    results = run(life("tracked", events, home(), nowhere, there()))
    assert [result["outcome"] for result in results] == ["ok", "restore-failed", "ok", "ok", "ok"]
    kept = ("frame_list_list_mfn", "frame_list_list_sha256", "frame_list_sha256", "p2m_sha256")
    assert [results[1][key] for key in kept] == [results[0][key] for key in kept]
    # The same without the refusal.
    del events[1]
    assert run(life("tracked", events, home(), nowhere, there()))[1:] == results[2:]


def test_a_guest_that_can_not_be_saved_may_try_again(run: Any) -> None:
    """A list page loses its frame, and is given it back: the save fails only in between."""
    entry = (MID_MISSING_MFN, None, 1)
    stay = build.migrate(1) | {"on_refused": "stay"}
    back = build.assign((MID_MISSING_MFN, frame(MID_MISSING_MFN), 1))
    events = [build.boot(), build.assign(entry), stay, back, build.migrate(1)]
    foreign = {frame(MID_MISSING_MFN): 100}
    results = run(life("stale", events, home(), there(None, foreign)))
    outcomes = [result["outcome"] for result in results]
    assert outcomes == ["ok", "ok", "save-failed", "ok", "ok"]
    assert results[2]["detail"] == "map-fl-failed 0"


def test_a_refusal_that_is_not_outlived_ends_the_life(run: Any) -> None:
    nowhere = build.host(FRAMES, build.frames_from(2000, NR_PAGES - 1))
    events = [build.boot(), build.migrate(1), build.migrate(2)]
    results = run(life("tracked", events, home(), nowhere, there()))
    assert [result["outcome"] for result in results] == ["ok", "restore-failed"]


# A number past the m2p of an early Xen, and past the mapped entries of any.
PAST_EVERY_TABLE = 300_000


@pytest.mark.parametrize(
    ("xen", "order", "expected"),
    [
        (None, None, STRAY),
        ("4.0", None, NO_STORE),
        ("4.0.0", None, NO_STORE),
        ("4.1.1", None, NO_STORE),
        ("4.1.2", None, STRAY),
        ("4.17", None, STRAY),
        ("4.0", 32, STRAY),
        ("4.17", 12, NO_STORE),
    ],
)
def test_an_early_xen_tells_a_64_bit_kernel_a_small_order(
    run: Any, xen: str | None, order: int | None, expected: Json
) -> None:
    host = boot_host(3000) | ({} if order is None else {"m2p_order": order})
    boot = build.boot() | ({} if xen is None else {"xen": xen})
    n = 512
    events = [boot, *number_into_list(PAST_EVERY_TABLE, n), build.assign((2 * n * n, 6, 1))]
    results = run(life("stale", events, host))
    assert results[2] | expected == results[2]


@pytest.mark.parametrize(("xen", "expected"), [("4.0", STRAY), ("4.17", STRAY)])
def test_a_32_bit_kernel_has_its_order_from_any_xen(run: Any, xen: str, expected: Json) -> None:
    n, past = 1024, 600_000
    events = [build.boot() | {"xen": xen}, *number_into_list(past, n)]
    events += [build.assign((2 * n * n, 6, 1))]
    results = run(life("stale", events, boot_host(3000), bits=32))
    assert results[2] | expected == results[2]


@pytest.mark.parametrize(
    ("frames", "number", "expected"),
    # 2^12 is the smallest power of two that holds 4,096 frames, 2^13 that which holds one more.
    [(4096, 4096, NO_STORE), (4097, 4097, STRAY), (4097, 8192, NO_STORE)],
)
def test_the_small_order_is_the_smallest_that_holds_all_frames(
    run: Any, frames: int, number: int, expected: Json
) -> None:
    # No more is mapped than the guest has, so that a number within the order reads as 0.
    host = boot_host(frames) | {"m2p_entries": FIRST + NR_PAGES}
    events = [build.boot() | {"xen": "4.1"}, *number_into_list(number, 512)]
    events += [build.assign((2 * 512 * 512, 6, 1))]
    results = run(life("stale", events, host))
    assert results[2] | expected == results[2]


def test_only_the_host_booted_on_tells_the_order(run: Any) -> None:
    """The same frames on both hosts, so that the guest gets through; the number is read on 1."""
    host, n = boot_host(3000), 512
    for first, second, expected in (("4.0", "4.17", NO_STORE), ("4.17", "4.0", STRAY)):
        events = [
            build.boot() | {"xen": first},
            *number_into_list(PAST_EVERY_TABLE, n),
            # The entries that led the number into the list are as they were.
            build.assign((MID_MISSING_MFN, frame(MID_MISSING_MFN), 1), (13, frame(13), 1)),
            build.migrate(1) | {"xen": second},
            build.assign((2 * n * n, 6, 1)),
        ]
        results = run(life("stale", events, host, host))
        assert [result["outcome"] for result in results[:4]] == ["ok"] * 4
        assert results[4] | expected == results[4]


@pytest.mark.parametrize(("xen", "outcome"), [("4.1.9", "ok"), ("4.2", "fault"), (None, "fault")])
def test_before_4_2_a_freed_frame_keeps_its_m2p_word(
    run: Any, xen: str | None, outcome: str
) -> None:
    """The list page's first frame is freed, and the list still names it."""
    events = [
        build.boot() | ({} if xen is None else {"xen": xen}),
        build.assign((MID_MISSING_MFN, 2500, 1)),
        build.assign((512 * 512, 5, 1)),
    ]
    results = run(life("stale", events, boot_host(3000)))
    assert results[2]["outcome"] == outcome
    assert results[2]["stray_writes"] == 0


def test_format_3_adds_fields_and_changes_none() -> None:
    """The naive model on one life in both formats."""
    for seed in range(30):
        trace = seeded(seed)
        two, three = reference.replay(trace), reference.replay(trace | {"format": FORMAT})
        added = {"lost_pages", "ghost_pages", "lost_identity_pages", "placeholder_writes"}
        assert [{k: v for k, v in r.items() if k not in added} for r in three] == two


def seeded(seed: int) -> Json:
    return lives("format", seed, 1, Wanted("p2mbatch-trace/2"))[0]
