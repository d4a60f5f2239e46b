"""Cells of guests that live on while they move: what they do, their traces, their ids."""

from __future__ import annotations

from typing import Any

import pytest

from oracle import eras, reference
from p2mbatch.base.errors import InputError
from p2mbatch.guests.explained import explain_scenario
from p2mbatch.guests.guest import Guest
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.stage import StagedGuest
from p2mbatch.model import policies
from p2mbatch.model.replay import replay
from p2mbatch.model.trace_file import parse_trace, trace_to_json

Json = dict[str, Any]

POLICIES = ("tracked", "stale", "none", "two-level", "mid-identity", "linear-4.4", "linear")
LOSSES = ("lost_pages", "ghost_pages", "lost_identity_pages")
COMPARED = ("outcome", "detail", "stray_writes", *LOSSES)
CHURNS: tuple[Json, ...] = (
    {"churn_bytes": "64KiB"},
    {"churn_bytes": "1MiB", "grow_where": "beyond", "balloon_bytes": "256KiB"},
    {"balloon_bytes": "512KiB", "layout": "scattered"},
    {"churn_bytes": "256KiB", "grow_bytes": "1MiB", "layout": "extents", "rounds": 2},
    {"churn_bytes": "64KiB", "balloon_bytes": "64KiB", "toolstack": "4.6", "migrations": 3},
    {"churn_bytes": "256KiB", "grow_where": "beyond", "toolstack": "legacy"},
)


def cell(policy: str, **fields: Any) -> Scenario:
    usual: Json = {"memory_bytes": "16MiB", "host_memory_bytes": "64MiB", "migrations": 4}
    usual |= {"sparsity": 0.4, "hotplug_gib": 0, "live": True, "stuck": "stay"}
    return Scenario.make(policy=policy, **usual | fields)


def moves_of(value: Json, results: list[Json]) -> list[Json]:
    """What is expected of each migration, with what the growth before it did."""
    ops = [event["op"] for event in value["events"]]
    first = ops.index("migrate")
    first -= first > 1 and ops[first - 1] == "set" and "grows first" in value["name"]
    moves, before = [], {"stray_writes": 0, "placeholder_writes": 0}
    for result in results[first:]:
        before = {name: count + result.get(name, 0) for name, count in before.items()}
        if result["op"] == "migrate" or result["outcome"] != "ok":
            moves.append(result | before)
            before = dict.fromkeys(before, 0)
    return moves


def check(scenario: Scenario) -> list[Json]:
    """Assert that a cell's rows are its trace's events, here and by the reference; return them."""
    value = trace_to_json(scenario.to_trace())
    results = replay(parse_trace(value, "cell"))
    naive = eras if scenario.policy in eras.POLICIES else reference
    assert results == naive.replay(value)
    rows = run_scenario(scenario)
    told = value | {"name": "grows first" if scenario.grow_bytes else ""}
    moves = moves_of(told, results)
    assert [row["migration"] for row in rows] == list(range(len(moves) + 1))
    for row, result in zip(rows[1:], moves, strict=True):
        names = (*COMPARED, "placeholder_writes")
        assert {name: row[name] for name in names} == {name: result.get(name, 0) for name in names}
    return rows


@pytest.mark.parametrize("fields", CHURNS, ids=str)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_live_cell_is_its_trace(policy: str, fields: Json) -> None:
    for seed in range(2):
        check(cell(policy, seed=seed, **fields))


@pytest.mark.parametrize("policy", ["tracked", "mid-identity", "linear"])
def test_resident_leaves_change_no_row_of_a_live_cell(policy: str) -> None:
    measured = {"rebuild_ns", "save_walk_ns", "restore_ns", "resident_leaves"}
    for fields in CHURNS:
        large = {"memory_bytes": "1200MiB", "host_memory_bytes": "4GiB", "hotplug_gib": 2}
        few, every = (
            run_scenario(cell(policy, **large | fields), kept) for kept in ("auto", "all")
        )
        for a, b in zip(few, every, strict=True):
            assert {k: v for k, v in a.items() if k not in measured} == {
                k: v for k, v in b.items() if k not in measured
            }


def outcomes(policy: str, **fields: Any) -> list[tuple[str, str | None]]:
    rows = run_scenario(cell(policy, host_memory_bytes="1GiB", **fields))
    return [(row["outcome"], row["detail"]) for row in rows[1:]]


ABORTED = ("save-failed", "p2m-generation-changed")


def test_a_tree_that_grows_behind_the_walk_is_moved_wrong() -> None:
    for policy in ("tracked", "moved"):
        assert outcomes(policy, churn_bytes="8MiB") == [("misdirected", "-")], policy
        # What comes back into a leaf that is there was found.
        assert outcomes(policy, balloon_bytes="1MiB") == [("ok", None)] * 4


def test_what_comes_past_the_end_of_a_tree_is_lost() -> None:
    for policy, where in (("tracked", "beyond"), ("two-level", "within")):
        # Two levels end at what booted, whatever the guest may get.
        rows = run_scenario(cell(policy, churn_bytes="1MiB", grow_where=where, migrations=1))
        assert rows[1]["outcome"] == "ok"
        assert rows[1]["lost_pages"] > 0


def test_a_linear_guest_that_grows_is_aborted_and_tried_again() -> None:
    found = outcomes("linear", churn_bytes="256KiB", grow_where="beyond", migrations=12, seed=3)
    assert set(found) == {ABORTED, ("ok", None)}
    # Its extra memory has leaves from boot on: there it gets what it likes.
    assert outcomes("linear", churn_bytes="256KiB") == [("ok", None)] * 4
    assert outcomes("linear", churn_bytes="8MiB", grow_where="beyond") == [ABORTED] * 4
    # A toolstack that walks the tree does not look.
    before = outcomes("linear", churn_bytes="8MiB", grow_where="beyond", toolstack="4.6")
    assert ABORTED not in before


def test_an_aborted_guest_that_may_not_stay_has_ended() -> None:
    ended = outcomes("linear", churn_bytes="8MiB", grow_where="beyond", stuck="end")
    assert ended == [ABORTED]


def test_the_draw_is_the_same_for_every_kernel_and_another_for_each_round() -> None:
    def planned(policy: str, seed: int) -> list[list[list[int]]]:
        guest = StagedGuest(cell(policy, churn_bytes="1MiB", balloon_bytes="1MiB", seed=seed))
        told: list[Any] = []
        guest.on_rounds = told.append
        guest.boot()
        guest.migrate()
        return [[[row[0], row[2]] for row in runs.tolist()] for runs in told[0]]

    one = planned("tracked", 1)
    assert len(one) == 5
    assert len({str(runs) for runs in one}) == 5
    # Frames are the host's, pages the guest's.
    assert [sum(n for _, n in runs) for runs in one] == [
        sum(n for _, n in runs) for runs in planned("none", 1)
    ]
    assert one != planned("tracked", 2)


def test_structures_are_never_ballooned_out() -> None:
    for policy in policies.names():
        scenario = cell(policy, memory_bytes="12MiB", balloon_bytes="2MiB", migrations=2)
        guest = StagedGuest(scenario)
        told: list[Any] = []
        guest.on_rounds = told.append
        guest.boot()
        guest.migrate()
        out = {pfn for runs in told[0] for first, mfn, n in runs.tolist() if mfn == -1
               for pfn in range(first, first + n)}  # fmt: skip
        assert out
        for first, count in guest.placement.structures.tolist():
            assert out.isdisjoint(range(first, first + count)), policy


def test_ids_of_before_stay_what_they_were() -> None:
    plain = Scenario(memory="1GiB")
    assert plain.cell_id == Scenario(memory="1GiB", live=False, rounds=5, churn=0).cell_id
    ids = {
        Scenario(memory="1GiB", **fields).cell_id
        for fields in (
            {"live": True},
            {"live": "yes", "rounds": 4},
            {"live": True, "churn": "4KiB"},
        )
    }
    assert len(ids | {plain.cell_id}) == 4


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"churn": "4KiB"}, "churn_bytes: a guest lives on while it is sent where live is yes"),
        ({"balloon": "4KiB", "live": False}, "balloon_bytes: a guest lives on while"),
        ({"live": "maybe"}, "live: should be 'no' or 'yes', not 'maybe'"),
        ({"live": True, "churn": 100}, "churn_bytes: 100 bytes are not whole pages"),
        ({"live": True, "rounds": 1025}, "rounds: should be at most 1024"),
        ({"live": True, "rounds": -1}, "rounds: should be at least 0"),
    ],
)
def test_what_is_no_live_guest_is_refused(fields: Json, said: str) -> None:
    with pytest.raises(InputError) as caught:
        Scenario(memory="1GiB", **fields)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_live_guest_is_told_and_stepped_as_its_rows() -> None:
    scenario = cell("linear", churn_bytes="256KiB", grow_where="beyond", migrations=6, seed=3)
    rows = run_scenario(scenario)
    told = explain_scenario(scenario)
    assert [(s.outcome, s.detail) for s in told.events] == [
        (row["outcome"], row["detail"]) for row in rows
    ]
    assert any(step.part == "live" for story in told.events for step in story.steps)
    guest = Guest.from_scenario(scenario)
    seen = [guest.migrate() for _ in range(6)]
    assert [(r.outcome, r.detail) for r in seen] == [(r["outcome"], r["detail"]) for r in rows[1:]]
