"""A batch's workspace: what one guest left in it is nothing to the next, and it is large enough."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from batch_support import assert_as_stepped, columns
from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import geometry
from p2mbatch.compiled.batch.room import Room, make_room, put_marks
from p2mbatch.compiled.jit import kernel
from p2mbatch.guests.batch import lives
from p2mbatch.guests.batch.cells import cell_records, wanted
from p2mbatch.guests.batch.lives import live, needed_bytes
from p2mbatch.guests.batch.needs import Needs, needs_of
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.stage import StagedGuest
from p2mbatch.model.placing import place_each
from p2mbatch.model.policies import find


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Room]]:
    """Begin without a workspace; list those that are made."""
    real, rooms = lives.make_room, list[Room]()

    def noted(*arguments: Any) -> Room:
        rooms.append(real(*arguments))
        return rooms[-1]

    monkeypatch.setattr(lives, "make_room", noted)
    lives._ROOMS.__dict__.clear()
    yield rooms
    lives._ROOMS.__dict__.clear()


def needs(scenario: Scenario) -> Needs:
    """Return what one cell needs."""
    policy, word_bytes, one = find(scenario.policy), scenario.word_bytes, columns([scenario])
    placed = place_each(wanted(one, policy), policy, word_bytes)
    return needs_of(placed, cell_records(one, placed, policy)[0], policy, word_bytes)


OLD: dict[str, Any] = {"memory_bytes": "3GiB", "word_bytes": 4, "xen": "4.1.2"}
OLD |= {"host_memory_bytes": "3400MiB"}
FREES = Scenario.make(
    **OLD, policy="tracked", live="yes", balloon="900MiB", rounds=9, migrations=4, seed=0
)
KEEPS = [
    Scenario.make(**OLD, policy="stale", sparsity=0.4, layout="scattered", migrations=3, seed=seed)
    for seed in (14, 28)
]
"""Old hosts keep the words of freed frames, which stale entries then lead to."""


def test_a_guest_knows_nothing_of_what_another_freed(made: list[Room]) -> None:
    live(columns([FREES]))
    # Such guests have a workspace of another type; its hosts' notes are what others are handed.
    notes = made[-1]
    assert notes.first_owned.any() or notes.second_owned.any()
    live(columns(KEEPS))
    for name in ("first_owned", "second_owned"):
        getattr(made[-1], name)[:] = getattr(notes, name)
    made[-1].now[:] = notes.now
    assert_as_stepped(KEEPS, live(columns(KEEPS)))


def test_cells_that_free_and_cells_that_do_not_share_a_workspace(made: list[Room]) -> None:
    holes = Scenario.make(
        memory_bytes="256MiB",
        policy="mid-identity",
        layout="identity",
        xen="4.1.2",
        word_bytes=4,
        migrations=2,
    )
    grows = Scenario.make(**OLD, policy="stale", grow="1MiB", sparsity=0.3, migrations=2)
    for scenario in (KEEPS[0], holes, KEEPS[1], grows, FREES, grows, KEEPS[1]):
        assert_as_stepped([scenario], live(columns([scenario])))


@pytest.mark.parametrize(
    "fields",
    [
        {"memory_bytes": "512GiB", "hotplug_gib": 513},
        {"memory_bytes": "511GiB", "grow": "600MiB", "grow_where": "beyond", "hotplug_gib": 513},
    ],
)
def test_a_linear_area_of_more_leaves_than_a_tree_has_finds_its_places(
    fields: dict[str, Any], made: list[Room]
) -> None:
    scenario = Scenario.make(**fields, policy="linear-4.4", migrations=1)
    assert_as_stepped([scenario], live(columns([scenario])))
    room = made[-1]
    assert len(room.leaf_slot) == len(room.leaf_page) >= room.state[0].num_leaves > 512 * 512


def test_a_room_has_places_for_all_leaves() -> None:
    for hotplug_gib in (0, 512, 513, 16384):
        scenario = Scenario.make(
            memory_bytes="512GiB", policy="linear-4.4", hotplug_gib=hotplug_gib
        )
        size = needs(scenario).largest(np.ones(1, np.bool_))
        room = make_room(geometry(8), size)
        assert min(len(room.leaf_slot), len(room.leaf_page)) >= size.leaves
        assert size.leaves >= StagedGuest(scenario).life.tables.state[0].num_leaves


@pytest.mark.parametrize(
    ("fewer", "fields"),
    [
        ("slots", {}),
        ("runs", {"live": "yes", "churn": "4MiB", "balloon": "4MiB", "layout": "scattered"}),
        ("found", {"live": "yes", "churn": "4MiB", "balloon": "4MiB"}),
    ],
)
def test_a_cell_that_needs_more_room_is_lived_anew_in_more_of_that(
    monkeypatch: pytest.MonkeyPatch, fewer: str, fields: dict[str, Any]
) -> None:
    real, sizes = lives.make_room, []
    largest = Needs.largest

    def small(each: Needs, good: Any) -> Any:
        size = largest(each, good)
        # A boot takes what it is known to take without asking.
        return size._replace(**{fewer: size.slots - 14 if fewer == "slots" else 2})

    def counting(geo: Any, size: Any) -> Any:
        sizes.append(size)
        return real(geo, size)

    monkeypatch.setattr(Needs, "largest", small)
    monkeypatch.setattr(lives, "make_room", counting)
    lives._ROOMS.__dict__.clear()
    scenarios = [
        Scenario.make(memory_bytes="256MiB", migrations=2, seed=k, sparsity=0.5, **fields)
        for k in range(3)
    ]
    assert_as_stepped(scenarios, live(columns(scenarios)))
    assert getattr(sizes[-1], fewer) > getattr(sizes[0], fewer)
    others = {name for name in sizes[0]._fields if name != fewer}
    assert all(getattr(sizes[-1], name) == getattr(sizes[0], name) for name in others)


def test_what_a_live_guest_touches_needs_no_second_room(made: list[Room]) -> None:
    scenario = Scenario.make(
        memory_bytes="8GiB", policy="tracked", live="yes", balloon="1GiB", migrations=2
    )
    assert_as_stepped([scenario], live(columns([scenario])))
    assert len(made) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"memory_bytes": "512GiB", "xen": "4.1.2", "balloon": "1GiB"},
        {"memory_bytes": "128GiB", "balloon": "40GiB"},
        {"memory_bytes": "128GiB", "churn": "40GiB", "sparsity": 0.5},
    ],
)
def test_memory_that_is_admitted_holds_what_a_life_touches(fields: dict[str, Any]) -> None:
    scenario = Scenario.make(**fields, policy="tracked", live="yes", migrations=2)
    each = needs(scenario)
    size = each.largest(np.ones(1, np.bool_))
    room = make_room(geometry(8), size)
    arrays = (room.first_owned, room.second_owned, room.more.kept, room.more.pfns, room.words)
    (found,), _ = needed_bytes(columns([scenario]))
    assert sum(array.nbytes for array in arrays) <= found < 4 << 30


def test_a_linear_boots_runs_are_those_of_steps() -> None:
    @kernel
    def marks(cells: Int64Array, marked: Int64Array) -> int:
        return put_marks(cells[0], marked)

    for fields in ({}, {"sparsity": 0.3}, {"layout": "identity"}, {"layout": "extents"}):
        scenario = Scenario.make(memory_bytes="1GiB", policy="linear-4.4", **fields)
        one, policy = columns([scenario]), find(scenario.policy)
        placed = place_each(wanted(one, policy), policy, 8)
        cells, _ = cell_records(one, placed, policy)
        marked = np.zeros((4, 2), np.int64)
        found = marked[: marks(cells, marked)]
        assert found.tolist() == StagedGuest(scenario).life.marked.tolist()
