"""Batches: rows equal to those of the same cells lived step by step, whatever is beside them."""

from __future__ import annotations

import itertools
import os
import random
import threading
from typing import Any

import numpy as np
import pytest
from tqdm import tqdm

from batch_support import assert_as_stepped, columns, random_scenario
from p2mbatch.base.errors import InputError, StoppedError
from p2mbatch.base.shipped import find_spec, preset_names
from p2mbatch.base.sizes import GIB, MIB
from p2mbatch.base.words import words_of
from p2mbatch.guests.batch.cells import covered, wanted
from p2mbatch.guests.batch.lives import live, live_covered, new_control
from p2mbatch.guests.fields import FIELDS
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.stage import _place
from p2mbatch.model.placing import place_each, table_bytes
from p2mbatch.model.policies import Policy, find, names
from p2mbatch.spec.sweep_spec import SweepSpec

# Each is compiled; the others are lived in a thorough run.
POLICIES: tuple[str, ...] = ("tracked", "stale", "none", "mid-identity")
POLICIES += ("two-level-none", "linear-4.4")
if os.environ.get("P2MBATCH_HYPOTHESIS") == "thorough":
    POLICIES = names()

_MEMORY = FIELDS.index("memory_bytes")

PLACED = (
    *("span", "nr_pages", "num_holes", "num_grown", "brk_pfn", "brk_pages", "num_boot_leaves"),
    *("bootmem_pages", "pool_pages", "populated_pages", "reach", "max_domain_pages", "marks_hole"),
)

RANDOM = int(os.environ.get("P2MBATCH_RANDOM_CELLS", "120"))


@pytest.mark.lane
def test_small_guests_have_the_rows_of_steps() -> None:
    some: tuple[dict[str, Any], ...] = (
        {},
        {"policy": "stale"},
        {"sparsity": 0.3, "layout": "scattered", "hosts": "64MiB,70MiB..90MiB"},
        {"grow": "1MiB", "live": "yes", "churn": "1MiB", "balloon": "1MiB", "sparsity": 0.5},
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
    draw, outcomes = random.Random(24), set[str]()
    for begin in tqdm(range(0, RANDOM, 120), unit=" batches", disable=RANDOM == 120):
        scenarios = [random_scenario(draw, POLICIES) for _ in range(min(RANDOM - begin, 120))]
        lived = live(columns(scenarios))
        assert_as_stepped(scenarios, lived)
        outcomes |= {row["outcome"] for row in lived.as_rows()}
    assert {"ok", "save-failed", "fault"} <= outcomes


def test_a_batch_lives_all_that_can_be_placed() -> None:
    """What is covered and left to be lived step by step can't be lived at all."""
    draw = random.Random(7)
    scenarios = [random_scenario(draw, POLICIES[:2], GIB) for _ in range(60)]
    cells = columns(scenarios)
    is_covered = covered(cells)
    assert np.count_nonzero(is_covered) > 20
    _, left = live_covered(cells)
    failed = [failure.cell for failure in live(cells).failures]
    assert [k for k in left.tolist() if is_covered[k]] == [k for k in failed if is_covered[k]]


def test_releases_are_lived_in_batches() -> None:
    """Of guests that are larger than their kernel takes too; their own toolstacks save them."""
    releases = ("2.6.32", "2.6.37", "2.6.37-rc", "3.16", "5.10")
    scenarios = [
        Scenario.make(memory_bytes="64MiB", linux=linux, migrations=2, layout=layout)
        for linux, layout in itertools.product(releases, ("tail", "extents", "identity"))
    ]
    scenarios.append(Scenario.make(memory_bytes="200GiB", linux="2.6.37", migrations=1))
    lived, left = live_covered(columns(scenarios))
    assert not len(left)
    assert_as_stepped(scenarios, lived)


def test_a_scattered_linear_guest_may_grow_past_its_end() -> None:
    """The PFNs past the end, which hosts know, are none of the layout's bijection."""
    more = {"layout": "scattered", "sparsity": 0.1, "grow_where": "beyond", "seed": 994}
    scenario = Scenario.make(
        memory_bytes=43 * 4096,
        policy="linear-4.4",
        live="yes",
        churn="1200KiB",
        migrations=2,
        **more,
    )
    assert_as_stepped([scenario], live(columns([scenario])))


def test_resident_leaves_are_those_of_steps() -> None:
    draw = random.Random(3)
    scenarios = [random_scenario(draw, POLICIES[:2], 64 * MIB) for _ in range(24)]
    assert_as_stepped(scenarios, live(columns(scenarios), "all"), "all")


@pytest.mark.parametrize("name", preset_names())
def test_presets_have_the_rows_of_steps(name: str) -> None:
    spec = SweepSpec.from_file(find_spec(name))
    cells = [v for v in itertools.islice(spec.expand(), 0, 4000) if v[_MEMORY] <= 8 * GIB]
    fields = [dict(zip(FIELDS, v, strict=True)) for v in cells[:: max(len(cells) // 8, 1)][:8]]
    scenarios = [Scenario.make(**f | {"migrations": min(f["migrations"], 12)}) for f in fields]
    assert_as_stepped(scenarios, live(columns(scenarios)))


@pytest.mark.parametrize("resident", [False, True])
def test_shapes_are_those_of_one_guest_at_a_time(resident: bool) -> None:
    draw = random.Random(5)
    for policy in names():
        scenarios = [random_scenario(draw, [policy], 600 * GIB) for _ in range(80)]
        for word_bytes in (8, 4):
            some = [one for one in scenarios if one.word_bytes == word_bytes]
            if some:
                assert_placed_alike(some, find(policy), word_bytes, resident)


def assert_placed_alike(
    scenarios: list[Scenario], policy: Policy, word_bytes: int, resident: bool
) -> None:
    """Check that columns say of each guest what placing it by itself does."""
    placed = place_each(wanted(columns(scenarios), policy), policy, word_bytes, resident=resident)
    memory = table_bytes(placed, word_bytes)
    for k, scenario in enumerate(scenarios):
        try:
            one = _place(scenario)
        except InputError:
            assert not placed.fits[k], scenario
            continue
        assert placed.fits[k], scenario
        expected = {name: getattr(one, name) for name in PLACED} | {
            "num_slots": one.num_slots(resident=resident),
            "num_blocks": one.num_blocks(),
            "guest_frames": one.population.guest_frames,
        }
        assert {name: getattr(placed, name)[k] for name in expected} == expected, scenario
        assert memory[k] == one.table_bytes(resident=resident)


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
    assert not covered(plain | {"policy": words_of(["of-nobody"])}).any()
