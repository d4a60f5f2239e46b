"""Cells whose guests are grown by several CPUs at once: rows, written-out traces, `Guest`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from p2mbatch.base.errors import InputError
from p2mbatch.guests.dealt import deal, schedule_key
from p2mbatch.guests.explained import explain_scenario
from p2mbatch.guests.guest import Guest
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.stage import StagedGuest
from p2mbatch.guests.written_out import scenario_trace
from p2mbatch.model.policies import find, names
from p2mbatch.model.replay import replay
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


@pytest.mark.parametrize("policy", RACING)
def test_a_cells_rows_are_those_of_its_trace_and_of_resident_leaves(policy: str) -> None:
    for seed in range(2):
        # A host of gigabytes takes a second to write out.
        wide = [BEYOND] if seed == 0 and policy in ("tracked", "late-list", "linear") else []
        for fields in (SMALL, *wide):
            scenario = cell(policy, seed=seed, **fields)
            rows = run_scenario(scenario)
            assert exact(run_scenario(scenario, "all")) == exact(rows)
            trace = parse_trace(trace_to_json(scenario_trace(scenario)))
            told = replay(trace)
            moves = [r for r in told if r["op"] == "migrate" or r["outcome"] != "ok"]
            assert len(moves) == len(rows) - 1
            races = [event for event in trace.events if event["op"] == "cpus"]
            assert races and all(len(event["sets"]) == 2 for event in races)
            for number, (row, result) in enumerate(zip(rows[1:], moves, strict=True), 1):
                assert (row["outcome"], row["detail"]) == (result["outcome"], result["detail"])
                assert races[number - 1]["schedule"] == schedule_key(seed, number)
                assert row["lost_pages"] >= result.get("lost_pages", 0)


@pytest.mark.parametrize("policy", ["tracked", "identity", "late-list", "linear"])
def test_races_hurt_guests(policy: str) -> None:
    ends: Counter[str] = Counter()
    for seed in range(30):
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
    assert schedule_key(0, 1) != schedule_key(0, 2) != schedule_key(1, 1)


def test_one_cpu_is_what_there_was() -> None:
    plain = Scenario(memory="64MiB", sparsity=0.3, grow="1MiB")
    assert Scenario(memory="64MiB", sparsity=0.3, grow="1MiB", cpus=1) == plain
    assert plain.cell_id == Scenario(memory="64MiB", sparsity=0.3, grow="1MiB", cpus=1).cell_id
    two = Scenario(memory="64MiB", sparsity=0.3, grow="1MiB", cpus=2)
    assert two.cell_id != plain.cell_id


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
        ({"cpus": 2, "schedule": -1}, "schedule: -1: use 0 to 18446744073709551615"),
    ],
)
def test_what_a_guest_can_not_do_is_refused(asked: dict[str, int], said: str) -> None:
    guest = Guest.boot("64MiB", sparsity=0.5)
    with pytest.raises(InputError, match=said):
        guest.populate([9000], **asked)
    with pytest.raises(InputError, match="policy stale at once"):
        Guest.boot("64MiB", "stale", sparsity=0.5).populate([9000], cpus=2)
