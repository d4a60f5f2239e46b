"""Cells whose guests are grown by several CPUs at once: rows, written-out traces, `Guest`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from p2mbatch.base.errors import InputError, StoppedError
from p2mbatch.guests.dealt import deal, schedule_key
from p2mbatch.guests.explained import explain_scenario
from p2mbatch.guests.guest import Guest
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.stage import StagedGuest, check_scenario
from p2mbatch.guests.stepped import step_scenario
from p2mbatch.guests.written_out import scenario_trace
from p2mbatch.model.explain.trace import explain_trace
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.policies import find, names
from p2mbatch.model.replay import new_life, run_event
from p2mbatch.model.trace import Trace
from p2mbatch.model.trace_file import parse_trace, trace_to_json

RACING = [name for name in names() if find(name).races]

MEASURED = {"rebuild_ns", "save_walk_ns", "restore_ns", "resident_leaves"}

FRESH: dict[str, Any] = {"memory": "2GiB", "sparsity": 0.5, "grow": "64KiB"}
"""At a top index that has no mid page yet."""

BEYOND: dict[str, Any] = {"memory": "1GiB", "grow": "40KiB", "grow_where": "beyond"}

SMALL: dict[str, Any] = {
    "memory": "32MiB",
    "sparsity": 0.5,
    "grow": "1MiB",
    "host_memory": "256MiB",
}
"""In leaves that are not there, below a mid page that is."""


def cell(policy: str, **more: Any) -> Scenario:
    usual: dict[str, Any] = {"host_memory": "8GiB", "cpus": 2, "migrations": 2}
    if find(policy).is_linear:
        usual |= {"told": "no", "hotplug_gib": 2}
    return Scenario(**(usual | {"policy": policy} | more))


def exact(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in MEASURED} for row in rows]


COUNTED = ("stray_writes", "stray_pages", "lost_pages", "ghost_pages", "placeholder_writes")


def moves_of(trace: Trace) -> Iterator[list[tuple[dict[str, Any], EventResult]]]:
    """Each migration of a replay, with what came before it since the last one."""
    life, moves = new_life(trace), list[tuple[dict[str, Any], EventResult]]()
    for event in trace.events:
        result = run_event(life, trace, event)
        if event["op"] in ("cpus", "migrate"):
            moves.append((event, result))
        if event["op"] == "migrate" or not result.ok:
            yield moves
            moves = []
        if not result.ok:
            return


@pytest.mark.parametrize("policy", RACING)
def test_a_cells_rows_are_those_of_its_trace_and_of_resident_leaves(policy: str) -> None:
    for seed in range(2):
        # A host of gigabytes takes a second to write out.
        wide = [BEYOND] if seed == 0 and policy in ("tracked", "late-list", "linear") else []
        for fields in (SMALL, *wide):
            check_written_out(cell(policy, seed=seed, **fields))


def check_written_out(scenario: Scenario) -> list[dict[str, Any]]:
    """Hold a cell's rows against its trace; return them."""
    rows = run_scenario(scenario)
    assert exact(run_scenario(scenario, "all")) == exact(rows)
    moves = list(moves_of(parse_trace(trace_to_json(scenario_trace(scenario)))))
    assert len(moves) == len(rows) - 1
    for number, (row, done) in enumerate(zip(rows[1:], moves, strict=True), 1):
        raced, last = done[0][0], done[-1][1]
        assert raced["op"] == "cpus" and len(raced["sets"]) == scenario.cpus
        assert raced["schedule"] == schedule_key(scenario, number)
        assert (row["outcome"], row["detail"]) == (last.outcome, last.detail)
        sums = {name: sum(getattr(result, name) for _, result in done) for name in COUNTED}
        if not last.ok:
            # Who did not come through has lost itself.
            sums["lost_pages"] = 0
        assert {name: row[name] for name in COUNTED} == sums
    return rows


@pytest.mark.parametrize("policy", ["identity", "late-list"])
def test_what_a_race_lost_is_the_same_wherever_it_is_told(policy: str) -> None:
    """In rows, in the replay of the cell written out, in its story and in its trace's."""
    seen = False
    for seed in range(60):
        scenario = cell(policy, seed=seed, **(FRESH | {"cpus": 4, "host_memory": "3GiB"}))
        rows = run_scenario(scenario)
        sums = [sum(row[name] for row in rows) for name in ("lost_pages", "stray_writes")]
        if rows[-1]["outcome"] != "ok" or not sums[0]:
            continue
        seen = True
        check_written_out(scenario)
        trace = parse_trace(trace_to_json(scenario_trace(scenario)))
        for told in (explain_scenario(scenario), explain_trace(trace)):
            lost = sum(event.damage["lost_pages"] for event in told.events)
            stray = sum(event.damage["stray_writes"] for event in told.events)
            assert [lost, stray] == sums
            assert told.fate == "silently corrupted"
            assert told.advice.startswith("Let one CPU at a time change a guest's memory")
            assert "that a CPU had set" in told.conclusion
            assert ("a CPU had given back" in told.conclusion) == (stray > 0)
            assert "its own any more" not in told.conclusion
        break
    assert seen


def test_who_does_not_come_through_lost_no_pages() -> None:
    ends: Counter[str] = Counter()
    for seed in range(90, 120):
        guest = StagedGuest(cell("late-list", seed=seed, migrations=1, **(FRESH | {"cpus": 4})))
        guest.boot()
        lost: list[int] = []
        guest.on_race = lambda sets, key, result, done, lost=lost: lost.append(result.lost_pages)
        result = guest.migrate()
        assert result.ok or not result.lost_pages
        ends[result.outcome] += bool(lost[0])
    assert ends["misdirected"] and ends["ok"] and not ends["bug"]


def test_cells_that_differ_have_schedules_of_their_own_and_kernels_share_them() -> None:
    plain = cell("tracked", **FRESH)
    key = schedule_key(plain, 1)
    others = [
        {"seed": 1}, {"memory": "4GiB"}, {"sparsity": 0.25}, {"grow": "128KiB"}, {"cpus": 4},
        {"layout": "extents"}, {"migrations": 3}, {"neighbours": 0.5},
    ]  # fmt: skip
    keys = {schedule_key(cell("tracked", **(FRESH | fields)), 1) for fields in others}
    assert len(keys | {key, schedule_key(plain, 2)}) == len(others) + 2
    for fields in (
        {"policy": "late-list"},
        {"linux": "3.18"},
        {"linux": "6.1"},
        {"toolstack": "4.6"},
    ):
        given = {"host_memory": "8GiB", "cpus": 2, "migrations": 2} | FRESH | fields
        assert schedule_key(Scenario(**given), 1) == key


def test_the_pool_is_no_larger_than_what_there_is_room_for() -> None:
    """A long life grows no more than its holes, by however many CPUs."""
    long = {"memory": "1GiB", "sparsity": 0.5, "grow": "1MiB", "migrations": 10_000}
    for cpus in (2, 64):
        pages = {
            check_scenario(Scenario(cpus=many, **long)).struct_pages for many in (1, cpus)
        }  # fmt: skip
        # 256 leaves of holes, the mid and the list's page of a top index, some to spare.
        assert max(pages) - min(pages) <= (cpus - 1) * (256 + 4)
    two = [
        check_scenario(Scenario(cpus=n, memory="1GiB", sparsity=0.5, grow="8KiB")) for n in (2, 64)
    ]
    assert two[0].struct_pages == two[1].struct_pages


def test_a_race_stops_when_it_is_told_to_and_so_does_a_life_between_migrations() -> None:
    asked: list[int] = []

    def third() -> bool:
        asked.append(1)
        return len(asked) == 3

    long = cell("linear", memory="32MiB", sparsity=0.5, grow="8MiB", host_memory="256MiB")
    with pytest.raises(StoppedError):
        step_scenario(long, is_stopped=third)
    assert len(asked) == 3
    asked.clear()
    with pytest.raises(StoppedError):
        step_scenario(Scenario(memory="32MiB", migrations=5), is_stopped=third)
    assert len(asked) == 3


@pytest.mark.parametrize("policy", ["tracked", "identity", "late-list", "linear"])
def test_races_hurt_guests(policy: str) -> None:
    ends: Counter[str] = Counter()
    for seed in range(60):
        fields = BEYOND if find(policy).is_linear else FRESH
        rows = run_scenario(cell(policy, seed=seed, **fields))
        ends[rows[-1]["outcome"]] += 1
        ends["stray"] += any(row["stray_writes"] for row in rows)
        ends["lost"] += any(row["lost_pages"] for row in rows)
    assert ends["bug"] and ends["ok"] > 9
    assert bool(ends["misdirected"]) == bool(ends["stray"]) == (policy != "linear")
    # The second read of the mid page's entry lets a leaf take another one's place.
    assert bool(ends["lost"]) == (policy in ("identity", "late-list"))


def test_what_a_race_lost_is_in_its_row() -> None:
    """A leaf took another one's place: what was set there is in no entry, and in the row."""
    seen = 0
    for seed in range(60):
        guest = StagedGuest(cell("late-list", seed=seed, **FRESH))
        guest.boot()
        pfns = guest.placement.added_pages(0, 16)
        result = guest.migrate()
        if not result.ok or not result.lost_pages:
            continue
        seen += 1
        found = np.empty(len(pfns), np.int64)
        guest.life.policy.operations.get(guest.life.tables, guest.life.host, pfns, found)
        assert np.count_nonzero(found == -1) >= result.lost_pages
    assert seen


def test_pages_are_dealt_in_turn() -> None:
    pfns, mfns = np.arange(10, 15), np.array([70, 71, 72, 73, 74])
    [first, second] = deal(pfns, mfns, 2)
    assert first.tolist() == [[10, 70, 1], [12, 72, 1], [14, 74, 1]]
    assert second.tolist() == [[11, 71, 1], [13, 73, 1]]
    assert len(deal(pfns[:1], mfns[:1], 4)) == 1


def test_one_cpu_is_what_there_was() -> None:
    plain = Scenario(memory="64MiB", sparsity=0.3, grow="1MiB")
    assert Scenario(memory="64MiB", sparsity=0.3, grow="1MiB", cpus=1) == plain
    assert plain.cell_id == Scenario(memory="64MiB", sparsity=0.3, grow="1MiB", cpus=1).cell_id
    two = Scenario(memory="64MiB", sparsity=0.3, grow="1MiB", cpus=2)
    assert two.cell_id != plain.cell_id


@pytest.mark.parametrize("policy", ["identity", "late-list"])
def test_a_leaf_that_took_anothers_place_is_told_of_a_guest(policy: str) -> None:
    guest = Guest.boot("2GiB", policy, 39, sparsity=0.5, host_memory="8GiB")
    pfns = np.arange(guest.max_p2m_pfn // 2, guest.max_p2m_pfn // 2 + 16)
    result = guest.populate(pfns, cpus=np.int64(2), schedule=np.int64(39))
    assert (result.outcome, result.entries_set, result.lost_pages) == ("ok", 16, 1)
    assert np.count_nonzero(guest.lookup(pfns) == -1) == 1
    assert guest.explain().conclusion.startswith("The guest runs, but 1 page that a CPU had set is")
    moved = guest.migrate()
    assert (moved.outcome, moved.lost_pages) == ("ok", 0)
    told = guest.explain()
    assert told.fate == "silently corrupted"
    assert "1 page that a CPU had set is gone" in told.conclusion
    assert told.advice.startswith("Let one CPU at a time")


def test_leaves_that_both_named_are_why_a_guest_was_moved_wrong() -> None:
    """No page that was given back is used: the list names the leaf that lost its place."""
    guest = Guest.boot("3GiB", "late-list", 1, sparsity=0.6, host_memory="12GiB")
    base = guest.max_p2m_pfn - (1 << 18)
    guest.populate([base + 5])
    for key in range(1, 200):
        at = base + 512 * key
        assert not guest.populate([at, at + 1], cpus=2, schedule=key).stray_writes
        if not guest.save().ok:
            break
    assert guest.migrate().outcome == "misdirected"
    told = guest.explain()
    assert "the leaf of one had taken the place of the other's" in told.conclusion
    assert "Let one CPU at a time change a guest's memory" in told.advice


@pytest.mark.parametrize("policy", ["tracked", "linear"])
def test_the_guest_and_its_story(policy: str) -> None:
    for seed in range(4):
        guest = Guest.boot("2GiB", policy, seed, sparsity=0.5, host_memory="8GiB")
        pfns = np.arange(guest.max_p2m_pfn // 2, guest.max_p2m_pfn // 2 + 12)
        result = guest.populate(pfns, cpus=3, schedule=seed)
        if result.ok:
            there = guest.lookup(pfns) != -1
            assert np.count_nonzero(there) == result.entries_set - result.lost_pages
        told = guest.explain()
        assert told.events[1].op == "cpus" and told.events[1].outcome == result.outcome
        assert "3 CPUs set 12 entries" in told.events[1].steps[0].text
        scenario = cell(policy, seed=seed, **BEYOND)
        rows = run_scenario(scenario)
        story = explain_scenario(scenario)
        assert [e.outcome for e in story.events] == [row["outcome"] for row in rows]
        moved = story.events[1]
        assert "2 CPUs set 10 entries" in moved.steps[0].text
        assert sum(step.stray_writes for step in moved.steps) == rows[1]["stray_writes"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cpus": 2}, "cpus: several CPUs grow a guest: say by how much in grow_bytes"),
        ({"cpus": 0, "grow": "1MiB"}, "cpus"),
        ({"cpus": 65, "grow": "1MiB"}, "cpus"),
        ({"cpus": 2, "grow": "1MiB", "policy": "stale"}, "policy stale at once is not modelled"),
        (
            {"cpus": 2, "grow": "8GiB"},
            "grow_bytes: is 8GiB, and several CPUs grow a guest by 4GiB at most",
        ),
    ],
)
def test_what_no_cpus_do_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        Scenario(memory="64MiB", **fields)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"cpus": 0}, "cpus: 0: use 1 to 64"),
        ({"cpus": 2.0}, "cpus: 2.0: use a whole number, 1 to 64"),
        ({"cpus": 2, "schedule": -1}, "schedule: -1: use 0 to 18446744073709551615"),
        ({"cpus": 2, "schedule": "5"}, "schedule: '5': use a whole number"),
    ],
)
def test_what_a_guest_can_not_do_is_refused(asked: dict[str, Any], said: str) -> None:
    guest = Guest.boot("64MiB", sparsity=0.5)
    with pytest.raises(InputError, match=said):
        guest.populate([9000], **asked)
    with pytest.raises(InputError, match="policy stale at once"):
        Guest.boot("64MiB", "stale", sparsity=0.5).populate([9000], cpus=2)
