"""One way from a scenario to a living guest: rows, `Guest`, pictures and traces tell one life."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from test_cell import scenarios

import p2mbatch as p2m
from p2mbatch.base.geometry import INVALID
from p2mbatch.base.sizes import MIB
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.snapshots import live_through
from p2mbatch.guests.written_out import scenario_trace
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.replay import observe, replay
from p2mbatch.model.trace import FORMAT_3, LOSS_FIELDS

TOLD = ("outcome", "detail", "stray_writes", "stray_pages")

OF_SETS = ("entries_set", "ok", *LOSS_FIELDS["set"])
"""What is told of a set and not of a boot."""


def told(event: Any) -> tuple[Any, ...]:
    """Return what rows, events and expected objects have in common."""
    get = event.get if isinstance(event, dict) else lambda name: getattr(event, name)
    return tuple(get(name) for name in TOLD)


def state_of(guest: p2m.Guest, op: str, event: EventResult, form: str) -> dict[str, Any]:
    """Return what a trace of format `form` expects of `event`: /3 tells what was lost."""
    fields = LOSS_FIELDS.get(op, ()) if form == FORMAT_3 else ()
    return observe(guest.life, op, event) | {name: getattr(event, name) for name in fields}


def counted(guest: p2m.Guest) -> tuple[int, int]:
    """Return how many entries are stale: what a rebuild stored is passed over, and counted here."""
    found = guest.life.count_stale()
    guest.life.tables.state["listed_event"] = -2
    assert guest.life.count_stale() == found
    return found


def by_migration(observed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one object for the boot and each migration: the layout's sets belong to the boot."""
    found: list[dict[str, Any]] = []
    for event in observed:
        if event["op"] != "set":
            found.append(event)
            continue
        strays = {k: found[0][k] + event[k] for k in ("stray_writes", "stray_pages")}
        plain = {k: v for k, v in event.items() if k not in OF_SETS}
        found[0] = plain | strays | {"op": "boot"}
    return found


@settings(deadline=None, max_examples=60)
@given(scenarios())
def test_rows_guest_pictures_and_trace_are_one_life(scenario: Scenario) -> None:
    try:
        rows = run_scenario(scenario)
    except p2m.InputError:
        with pytest.raises(p2m.InputError):
            p2m.Guest.from_scenario(scenario)
        return
    guest = p2m.Guest.from_scenario(scenario, "all")
    trace = scenario_trace(scenario)
    events, states = [guest.booted], [state_of(guest, "boot", guest.booted, trace.format)]
    stale = [counted(guest)]
    while guest.ended is None and guest.num_migrations < scenario.migrations:
        events.append(guest.migrate())
        states.append(state_of(guest, "migrate", events[-1], trace.format))
        stale.append(counted(guest))
    assert [told(event) for event in events] == [told(row) for row in rows]
    assert stale == [(row["stale_top_entries"], row["stale_mid_entries"]) for row in rows]

    assert states == by_migration(replay(trace))

    cell = scenario.canonical()
    for migration in range(1, len(rows)):
        before, after = live_through(cell, migration)
        for shot, row in ((before, rows[migration - 1]), (after, rows[migration])):
            assert (shot.outcome, shot.detail) == (row["outcome"], row["detail"])
            assert shot.stray_writes == row["stray_writes"]
        if rows[migration]["outcome"] == "ok":
            assert len(after.view.hit_pages) == rows[migration]["stray_pages"]


@pytest.mark.parametrize("layout", ["tail", "scattered", "extents"])
def test_populating_holes_moves_no_frame_and_ends_nothing(layout: str) -> None:
    """What a guest may do beyond its scenario begins with the first hole that it populates."""
    scenario = Scenario.make(memory_bytes=64 * MIB, sparsity=0.5, layout=layout, seed=5)
    guest = p2m.Guest.from_scenario(scenario)
    everything = np.arange(guest.max_p2m_pfn)
    before = guest.lookup(everything)
    holes = everything[before == INVALID]
    assert guest.populate(holes).set_returned
    after = guest.lookup(everything)
    kept = before != INVALID
    assert np.array_equal(after[kept], before[kept])
    assert len(np.unique(after)) == guest.max_p2m_pfn
    assert guest.migrate().ok
    assert (guest.lookup(everything) != INVALID).all()


def test_a_host_without_frames_for_holes_says_so() -> None:
    scenario = Scenario.make(
        memory_bytes=64 * MIB, sparsity=0.5, host_memory_bytes=40 * MIB, seed=5
    )
    guest = p2m.Guest.from_scenario(scenario)
    assert guest.populate([0]).ok
    with pytest.raises(p2m.InputError, match="host_memory_bytes"):
        guest.populate([guest.max_p2m_pfn - 1])
    assert guest.migrate().ok


def test_a_lost_guest_is_not_ok() -> None:
    guest = p2m.Guest.boot("1GiB", "stale", seed=2)
    assert guest.migrate().ok
    event = guest.migrate()
    assert event.outcome == "save-failed"
    assert not event.ok
