"""Scenarios: defaults, refusals, canonical form and id."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from p2mbatch.base.errors import InputError
from p2mbatch.base.sizes import GIB, MIB
from p2mbatch.guests import fields as fields_module
from p2mbatch.guests.fields import FIELDS, cell_id_of
from p2mbatch.guests.scenario import Scenario
from p2mbatch.model import policies
from p2mbatch.store.columns import (
    COLUMNS,
    LAYOUTS,
    ROW_COLUMNS,
    SCENARIO_COLUMNS,
    to_markdown,
)


def test_defaults_are_those_of_the_documented_table() -> None:
    scenario = Scenario(memory_bytes="128GiB")
    assert scenario.canonical() == {
        "memory_bytes": 128 * GIB,
        "sparsity": 0.0,
        "layout": "tail",
        "migrations": 1,
        "policy": "tracked",
        "host_memory_bytes": 512 * GIB,
        "neighbours": 1.0,
        "neighbour_memory_bytes": 128 * GIB,
        "build_order": 9,
        "restore_order": 0,
        "word_bytes": 8,
        "guest": "",
        "hosts": "",
        "xen": "",
        "stuck": "end",
        "max_domain_pages": 0,
        "linux": "",
        "toolstack": "4.7",
        "hotplug_gib": 512,
        "p2m_vaddr": "0xffffc90000000000",
        "told": "auto",
        "hole_bytes": 0,
        "hole_at_bytes": 0,
        "grow_bytes": 0,
        "grow_where": "within",
        "cpus": 1,
        "live": "no",
        "rounds": 5,
        "churn_bytes": 0,
        "balloon_bytes": 0,
        "neighbour_map": "",
        "seed": 0,
    }


def test_a_small_guests_host_has_a_gibibyte() -> None:
    assert Scenario(memory_bytes=64 * MIB).host_memory_bytes == GIB
    assert Scenario(memory_bytes=256 * MIB + 4096).host_memory_bytes == GIB + 4 * 4096


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "memory_bytes: is required"),
        ({"memory_bytes": "128Gigs"}, "memory_bytes: '128Gigs' is not a size"),
        ({"memory_bytes": 4097}, "memory_bytes: 4097 bytes are not whole pages of 4096: 4096"),
        ({"memory_bytes": "513GiB"}, "memory_bytes: 513GiB is over MAX_P2M_PFN, 512GiB"),
        ({"memory_bytes": "1GiB", "sparsity": 1.0}, "sparsity: should be below 1, not 1.0"),
        ({"memory_bytes": "1GiB", "sparsity": float("nan")}, "sparsity: "),
        ({"memory_bytes": "1GiB", "neighbours": 1.1}, "neighbours: should be at most 1"),
        ({"memory_bytes": "1GiB", "migrations": -1}, "migrations: should be at least 0, not -1"),
        (
            {"memory_bytes": "1GiB", "policy": "magic"},
            "policy: should be 'tracked', 'stale', 'none'",
        ),
        ({"memory_bytes": "1GiB", "word_bytes": 16}, "word_bytes: should be 8 or 4, not 16"),
        ({"memory_bytes": "1GiB", "seed": 1 << 63}, "seed: "),
        ({"memory_bytes": "1GiB", "polcy": "tracked"}, "polcy: is not a field of a scenario"),
    ],
)
def test_what_is_wrong_is_said_with_its_field(fields: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError) as caught:
        Scenario.make(**fields)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_32_bit_tree_reaches_further() -> None:
    assert Scenario(memory_bytes="1TiB", word_bytes=4).memory_bytes == 1 << 40


def test_scenarios_are_frozen() -> None:
    scenario = Scenario(memory_bytes="1GiB")
    with pytest.raises(ValidationError):
        scenario.seed = 3  # type: ignore[misc]


def test_the_id_does_not_depend_on_how_the_scenario_was_written() -> None:
    short = Scenario(memory_bytes="1GiB", sparsity=-0.0, neighbours=1)
    long = Scenario(
        memory_bytes=GIB, sparsity=0, host_memory_bytes="4GiB", neighbour_memory_bytes=1024 * MIB
    )
    assert short == long
    assert short.cell_id == long.cell_id
    assert len(short.cell_id) == 32


@pytest.mark.parametrize(
    ("fields", "cell"),
    [
        ({"memory_bytes": "128GiB"}, "f92fe45d686882ca36137da8084b66b1"),
        (
            {"memory_bytes": "1GiB", "sparsity": 0.5, "layout": "extents", "seed": 3},
            "d705ddef73f201691f39895742ec043b",
        ),
        (
            {
                "memory_bytes": "1GiB",
                "host_memory_bytes": "8GiB",
                "neighbours": 0.25,
                "word_bytes": 4,
                "migrations": 0,
                "policy": "stale",
            },
            "e26c65d716768cb644ddc7f6b45145d0",
        ),
        (
            {
                "memory_bytes": "64MiB",
                "neighbour_memory_bytes": "1GiB",
                "build_order": 0,
                "restore_order": 9,
            },
            "db55b6949ed41841615aa22cc30d572b",
        ),
    ],
)
def test_ids_are_those_of_earlier_versions(
    fields: dict[str, Any], cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store's cells are found again by these; a change here orphans every store there is.

    Another model gives other rows, and so every cell another id.
    """
    ours = Scenario.make(**fields).cell_id
    monkeypatch.setattr(fields_module, "MODEL_VERSION", 1)
    assert Scenario.make(**fields).cell_id == cell != ours


def test_fields_added_later_keep_old_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field more, at its default, changes no id; at another value it does."""
    values = tuple(Scenario(memory_bytes="1GiB", sparsity=0.5).canonical().values())
    before = cell_id_of(values)
    monkeypatch.setattr(fields_module, "FIELDS", (*FIELDS, "later"))
    monkeypatch.setattr(fields_module, "_DEFAULTS", (*fields_module._DEFAULTS, "usual"))
    assert cell_id_of((*values, "usual")) == before
    assert cell_id_of((*values, "new")) != before


def made(policy: str, word_bytes: int, **fields: Any) -> Scenario:
    """Return a scenario; a linear p2m is known on 64 bits alone."""
    linear = policies.find(policy).is_linear
    return Scenario(policy=policy, word_bytes=8 if linear else word_bytes, **fields)


scenarios = st.builds(
    made,
    memory_bytes=st.integers(1, 1 << 20).map(lambda pages: pages * 4096),
    sparsity=st.floats(0, 0.999),
    layout=st.sampled_from([name for name in LAYOUTS if name != "guest"]),
    migrations=st.integers(0, 3),
    policy=st.sampled_from(policies.names()),
    neighbours=st.floats(0, 1),
    build_order=st.integers(0, 18),
    word_bytes=st.sampled_from([8, 4]),
    seed=st.integers(0, (1 << 63) - 1),
)


@given(scenarios, scenarios)
def test_ids_are_equal_exactly_where_scenarios_are(one: Scenario, other: Scenario) -> None:
    assert (one.cell_id == other.cell_id) == (one == other)
    assert Scenario(**one.canonical()) == one
    assert cell_id_of(tuple(one.canonical().values())) == one.cell_id


def test_the_schema_names_every_field_in_canonical_order() -> None:
    assert tuple(column.name for column in SCENARIO_COLUMNS) == ("cell", *FIELDS)
    assert COLUMNS == SCENARIO_COLUMNS + ROW_COLUMNS
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)


def test_every_column_has_a_meaning_of_one_sentence_and_units_end_names() -> None:
    for column in COLUMNS:
        assert column.meaning.endswith(".")
        assert f"| `{column.name}` |" in to_markdown()
        if column.unit in ("bytes", "ns") and column.name != "word_bytes":
            assert column.name.endswith("_" + column.unit)
