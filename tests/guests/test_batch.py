"""Batches: rows equal to those of the same cells lived step by step, whatever is beside them."""

from __future__ import annotations

import itertools
import os
import random
import threading
from typing import Any

import numpy as np
import pytest

from batch_support import assert_as_stepped, columns, random_scenario
from p2mbatch.base.errors import InputError, StoppedError
from p2mbatch.base.shipped import find_spec, preset_names
from p2mbatch.base.sizes import GIB, MIB
from p2mbatch.base.words import words_of
from p2mbatch.compiled.tables import LAYOUTS
from p2mbatch.guests.batch import lives
from p2mbatch.guests.batch.cells import covered
from p2mbatch.guests.batch.lives import live, live_covered, new_control
from p2mbatch.guests.fields import FIELDS
from p2mbatch.guests.scenario import Scenario
from p2mbatch.model.placement import place
from p2mbatch.model.placing import place_each
from p2mbatch.model.policies import find
from p2mbatch.spec.sweep_spec import SweepSpec

# Each is compiled; the others are lived in a thorough run.
TREES = ("tracked", "stale", "none", "mid-identity")
if os.environ.get("P2MBATCH_HYPOTHESIS") == "thorough":
    TREES += ("tail", "identity", "moved", "late-list")

_MEMORY = FIELDS.index("memory_bytes")

RANDOM = int(os.environ.get("P2MBATCH_RANDOM_CELLS", "120"))


@pytest.mark.lane
def test_small_guests_have_the_rows_of_steps() -> None:
    some: tuple[dict[str, Any], ...] = (
        {},
        {"policy": "stale"},
        {"sparsity": 0.3, "layout": "scattered", "hosts": "64MiB,70MiB..90MiB"},
    )
    scenarios = [
        Scenario.make(**{"memory_bytes": 16 * MIB, "migrations": 1, "seed": 3} | one)
        for one in some
    ]
    lived, left = live_covered(columns(scenarios))
    assert not len(left)
    assert_as_stepped(scenarios, lived)


def test_random_cells_have_the_rows_of_steps() -> None:
    """`make cells CELLS=N` takes more."""
    draw = random.Random(24)
    for begin in range(0, RANDOM, 120):
        scenarios = [random_scenario(draw, TREES) for _ in range(min(RANDOM - begin, 120))]
        lived = live(columns(scenarios))
        assert_as_stepped(scenarios, lived)
        outcomes = {row["outcome"] for row in lived.as_rows()}
        assert {"ok", "save-failed", "fault"} <= outcomes


def test_a_batch_lives_all_that_can_be_placed() -> None:
    """What is covered and left to be lived step by step can't be lived at all."""
    draw = random.Random(7)
    scenarios = [random_scenario(draw, TREES[:2], GIB) for _ in range(60)]
    cells = columns(scenarios)
    is_covered = covered(cells)
    assert np.count_nonzero(is_covered) > 20
    _, left = live_covered(cells)
    failed = [failure.cell for failure in live(cells).failures]
    assert [k for k in left.tolist() if is_covered[k]] == [k for k in failed if is_covered[k]]


def test_releases_with_a_tree_of_three_levels_are_lived_in_batches() -> None:
    """But for guests that are larger than their kernel takes, and for those of other trees."""
    scenarios = [
        Scenario.make(memory_bytes="64MiB", linux=linux, migrations=2, layout=layout)
        for linux, layout in itertools.product(("2.6.37", "2.6.37-rc", "3.16"), ("tail", "extents"))
    ]
    lived, left = live_covered(columns(scenarios))
    assert not len(left)
    assert_as_stepped(scenarios, lived)
    # Beside what only steps know, of the same policies.
    beside = Scenario.make(memory_bytes="64MiB", linux="3.16", layout="identity")
    assert_as_stepped([beside, *scenarios[-1:]], live(columns([beside, *scenarios[-1:]])))
    others = {"2.6.37": "200GiB", "2.6.32": "64MiB", "5.10": "64MiB"}
    cells = [Scenario.make(memory_bytes=size, linux=linux) for linux, size in others.items()]
    assert not covered(columns(cells)).any()


def test_resident_leaves_are_those_of_steps() -> None:
    draw = random.Random(3)
    scenarios = [random_scenario(draw, TREES[:2], 64 * MIB) for _ in range(24)]
    assert_as_stepped(scenarios, live(columns(scenarios), "all"), "all")


@pytest.mark.parametrize("name", preset_names())
def test_presets_have_the_rows_of_steps(name: str) -> None:
    spec = SweepSpec.from_file(find_spec(name))
    cells = [v for v in itertools.islice(spec.expand(), 0, 4000) if v[_MEMORY] <= 8 * GIB]
    fields = [dict(zip(FIELDS, v, strict=True)) for v in cells[:: max(len(cells) // 8, 1)][:8]]
    scenarios = [Scenario.make(**f | {"migrations": min(f["migrations"], 12)}) for f in fields]
    assert_as_stepped(scenarios, live(columns(scenarios)))


def test_shapes_are_those_of_one_guest_at_a_time() -> None:
    draw = random.Random(5)
    for policy, word_bytes, resident in itertools.product(TREES, (8, 4), (False, True)):
        kernel = find(policy)
        memory = [int(2 ** draw.uniform(13, 39)) // 4096 * 4096 for _ in range(40)]
        sparsity = [draw.choice([0, draw.random() * 0.99]) for _ in memory]
        layouts = [draw.choice(list(LAYOUTS)) for _ in memory]
        placed = place_each(
            np.array(memory),
            np.array(sparsity, np.float64),
            np.array([LAYOUTS[layout] for layout in layouts]),
            kernel,
            word_bytes,
            resident=resident,
        )
        for k, size in enumerate(memory):
            try:
                one = place(
                    memory_bytes=size,
                    sparsity=sparsity[k],
                    layout=layouts[k],
                    policy=policy,
                    word_bytes=word_bytes,
                    seed=0,
                )
            except InputError:
                assert not placed.fits[k]
                continue
            assert placed.fits[k]
            assert placed.num_slots[k] == one.num_slots(resident=resident)
            assert placed.num_blocks[k] == one.num_blocks()
            assert placed.guest_frames[k] == one.population.guest_frames


def test_a_cell_that_needs_more_room_is_lived_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    real, made = lives.make_room, []

    def small(*arguments: Any) -> Any:
        size = sized(*arguments)
        return size._replace(slots=size.slots - 14)

    def counting(geo: Any, size: Any) -> Any:
        made.append(size)
        return real(geo, size)

    sized = lives._size_of
    monkeypatch.setattr(lives, "_size_of", small)
    monkeypatch.setattr(lives, "make_room", counting)
    lives._ROOMS.__dict__.clear()
    scenarios = [Scenario.make(memory_bytes="256MiB", migrations=2, seed=k) for k in range(3)]
    assert_as_stepped(scenarios, live(columns(scenarios)))
    assert len(made) == 2
    assert made[1].slots > made[0].slots


def test_a_batch_stops_when_it_is_told() -> None:
    endless = columns([Scenario.make(memory_bytes="1GiB", migrations=1_000_000)])
    control = new_control()
    timer = threading.Timer(0.2, control["stop"].fill, (1,))
    timer.start()
    with pytest.raises(StoppedError):
        live(endless, control=control)
    assert control[0].rows == 0
    timer.join()


def test_what_a_batch_covers_is_said_by_one_predicate() -> None:
    plain = columns([Scenario.make(memory_bytes="1GiB")])
    assert covered(plain).all()
    assert not covered(plain | {"guest": words_of(["guest.json#00"])}).any()
    assert not covered(plain | {"policy": words_of(["linear"])}).any()
