"""Specs: what they expand to, in which order, and what they refuse with which words."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2mbatch.base import shipped as presets
from p2mbatch.base.errors import InputError
from p2mbatch.base.sizes import GIB
from p2mbatch.guests.fields import FIELDS, cell_id_of
from p2mbatch.guests.scenario import Scenario
from p2mbatch.spec.axes import Span, draw, parse_axis, parse_seeds
from p2mbatch.spec.sections import resolve
from p2mbatch.spec.sweep_spec import SweepSpec, json_schema


def test_ranges_double_add_and_count() -> None:
    assert parse_axis("memory_bytes", "1GiB..8GiB x2") == [GIB, 2 * GIB, 4 * GIB, 8 * GIB]
    assert parse_axis("memory_bytes", "1GiB..2GiB +512MiB") == [GIB, 3 * GIB // 2, 2 * GIB]
    assert parse_axis("sparsity", "0..0.9 +0.1") == [i / 10 for i in range(10)]
    assert list(parse_axis("migrations", "1..4")) == [1, 2, 3, 4]
    assert parse_axis("build_order", "0..9 +3") == [0, 3, 6, 9]
    assert parse_axis("memory_bytes", "1GiB..500GiB x2")[-1] == 256 * GIB
    assert parse_axis("sparsity", "0..0.9") == Span(0.0, 0.9)


def test_lists_may_hold_ranges_and_keep_a_value_once() -> None:
    got = parse_axis("memory_bytes", ["2GiB", "1GiB..4GiB x2", 2 * GIB])
    assert got == [2 * GIB, GIB, 4 * GIB]


def test_a_range_gives_the_same_cells_as_its_values_written_out() -> None:
    by_range = SweepSpec.from_options(memory="1GiB", sparsity="0..0.9 +0.1")
    by_list = SweepSpec.from_options(
        memory="1024MiB", sparsity=",".join(f"0.{i}" for i in range(10))
    )
    assert list(by_range.cell_ids()) == list(by_list.cell_ids())
    assert by_range.digest == by_list.digest


def test_a_number_of_seeds_counts_from_zero_and_a_list_is_a_list() -> None:
    assert list(parse_seeds(3)) == list(parse_seeds("3")) == [0, 1, 2]
    assert parse_seeds("1e3") == range(1000)
    with pytest.raises(ValueError, match="not a whole number"):
        parse_seeds("2.5")
    assert list(parse_seeds([3])) == [3]
    assert list(parse_seeds("7..9")) == [7, 8, 9]


@pytest.mark.parametrize(
    ("name", "raw", "complaint"),
    [
        ("memory_bytes", "8GiB..1GiB x2", "runs backwards"),
        ("memory_bytes", "1GiB..8GiB x1", "a factor above 1"),
        ("sparsity", "0..0.9 x2", "a first value above 0"),
        ("sparsity", "0..0.9 +0", "does not go up"),
        ("sparsity", "0..0.9 0.1", "is not a range"),
        ("sparsity", "0..1 +0.5", "below 1, not 1.0"),
        ("migrations", "1.5", "is not a whole number"),
        ("policy", "tracked..stale", "is no value: policy has no ranges"),
        ("memory_bytes", ["1GiB", "2GiB..3GiB"], "no step"),
        ("memory_bytes", [], "an empty list"),
        ("memory_bytes", [["1GiB"]], "is not one value"),
        ("memory_bytes", True, "true is not a value"),
        ("sparsity", "0..0.9 +1e-9", "more than 1000000 values"),
    ],
)
def test_axes_that_make_no_sense_are_refused(name: str, raw: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_axis(name, raw)


def test_a_grid_is_every_combination_with_the_seeds_outermost() -> None:
    spec = SweepSpec.from_options(memory="1GiB,2GiB", policy="tracked,stale", seeds="2")
    cells = [(c.seed, c.memory_bytes, c.policy) for c in spec.scenarios()]
    assert cells == list(itertools.product([0, 1], [GIB, 2 * GIB], ["tracked", "stale"]))
    assert spec.num_cells == 8


def test_sections_share_no_cell() -> None:
    spec = SweepSpec.from_dict(
        {
            "grid": [
                {"memory": "1GiB", "sparsity": [0, 0.5]},
                {"memory": "1GiB", "sparsity": [0.5, 0.9], "host_memory": ["4GiB", "8GiB"]},
            ],
            "cells": [{"memory": "1GiB"}, {"memory": "3GiB"}, {"memory": "3GiB", "seed": 0}],
        }
    )
    ids = list(spec.cell_ids())
    assert len(ids) == len(set(ids)) == 2 + 3 + 1
    assert spec.num_cells == 9


def test_a_sample_is_the_same_every_time_and_stays_in_its_ranges() -> None:
    sample = {
        "n": 200,
        "memory": "1GiB..64GiB",
        "sparsity": "0..0.9",
        "policy": ["tracked", "stale"],
    }
    spec = SweepSpec.from_dict({"sample": sample})
    cells = list(spec.scenarios())
    assert cells == list(spec.scenarios())
    assert len({cell.cell_id for cell in cells}) == 200
    assert all(GIB <= cell.memory_bytes <= 64 * GIB for cell in cells)
    assert all(0 <= cell.sparsity <= 0.9 for cell in cells)
    assert {cell.policy for cell in cells} == {"tracked", "stale"}
    assert [cell.seed for cell in cells] == list(range(200))
    # Uniform in the logarithm: about half lie below the geometric mean.
    assert 60 < sum(cell.memory_bytes < 8 * GIB for cell in cells) < 140
    other = SweepSpec.from_dict({"sample": {**sample, "key": 1}})
    assert list(other.scenarios()) != cells
    assert other.digest != spec.digest


def test_a_longer_sample_begins_with_the_shorter_one() -> None:
    def cells(n: int) -> list[Scenario]:
        return list(SweepSpec.from_dict({"sample": {"n": n, "memory": "1GiB..2GiB"}}).scenarios())

    assert cells(20)[:10] == cells(10)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_draws_from_a_list_are_of_the_list(key: int, index: int) -> None:
    assert draw(["a", "b", "c"], "layout", key, index) in {"a", "b", "c"}
    assert 5 <= draw(range(5, 8), "migrations", key, index) < 8


def test_a_million_cells_are_counted_at_once_and_expanded_lazily() -> None:
    spec = SweepSpec.from_options(memory="1GiB..512GiB x2", seeds="1000000000")
    assert spec.num_cells == 10**10
    assert len(list(itertools.islice(spec.expand(), 5))) == 5
    assert sum(count for _, count in spec.structural_cells()) == 10**10


def test_the_digest_knows_neither_order_nor_comments_nor_the_question(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        'question = "why"\n[grid] # c\nmemory = ["2GiB", "1GiB"]\nseeds = 3\n'
    )
    (tmp_path / "b.json").write_text('{"grid": {"memory_bytes": "1GiB..2GiB x2", "seed": [2,1,0]}}')
    one, other = SweepSpec.from_toml(tmp_path / "a.toml"), SweepSpec.from_file(tmp_path / "b.json")
    assert one.digest == other.digest
    assert one.question == "why"
    assert set(one.cell_ids()) == set(other.cell_ids())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[grid]\nmemroy = "1GiB"', "line 2: unknown key 'memroy' in grid: did you mean 'memory'?"),
        ('[gird]\nmemory = "1GiB"', "line 1: unknown key 'gird': did you mean 'grid'?"),
        ('[grid]\nmemory = "1GiB"\n\npolicy = "trackd"', "line 4: grid.policy: should be"),
        ('[grid]\nmemory = ["1GiB",\n "x"]', "line 2: grid.memory: 'x' is not a size"),
        ("[grid]\nsparsity = 0.5", "line 1: grid: memory is required"),
        (
            '[grid]\nmemory = "1GiB"\nmemory_bytes = 4096',
            "line 2: grid.memory: is the same field",
        ),
        (
            '[grid]\nmemory = "1GiB"\nseed = 1\nseeds = 2',
            "line 4: grid.seeds: is the same field",
        ),
        ('[grid]\nmemory = "1GiB..2GiB"', "line 2: grid.memory: a range in a grid needs"),
        ('[[cells]]\nmemory = "1GiB"\n[[cells]]\nmemory = "1GiB"\nsparsity = 3', "line 5: "),
        ('[[cells]]\nmemory = "1GiB"\nsparsity = [0, 0.5]', "a cell has one value, not 2"),
        ('[sample]\nmemory = "1GiB"', "line 1: sample.n: is required"),
        ('[sample]\nmemory = "1GiB"\nn = 0', "line 3: sample.n: should be at least 1, not 0"),
        ("question = 3", "line 1: question: should be text, not 3"),
        ("", "there is no cell in it"),
        ("x =", "not TOML"),
        ("[grid]\nmemory = 1GiB", "line 2: not TOML: Expected newline"),
        ('[grid]\nmemory = "1GiB"\n[grid]\nmemory = "1GiB"', "line 3: [grid] is there twice"),
        ('[grid]\nmemory = "1GiB"\nmemory = "2GiB"\n', "line 3: memory is there twice"),
        ('memory = "1GiB"', "line 1: unknown key 'memory': axes stand in a section"),
        ("grid = 3", "line 1: grid: is a table of axes, [grid], or a list of them, not 3"),
        ('[cells]\nmemory = "1GiB"', "line 1: cells: is a list of tables, [[cells]], not"),
        ('[grid]\nmemory = "1GiB"\nmigrations = 2.5', "should be a whole number, not 2.5"),
        ('[grid]\nmemory = "1GiB"\nlayout = "guest"', "line 3: grid.layout: guest is what"),
    ],
)
def test_complaints_name_the_file_the_line_and_the_key(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        SweepSpec.from_file(path)
    assert str(path) in str(caught.value)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"grid": {"memory": "1GiB",\n"polcy": "stale"}}', "line 2: unknown key 'polcy'"),
        ('{"grid": [{"memory": "1GiB"},\n {"memory": "1GiB",\n "seeds": -1}]}', "line 3: "),
        ('{"grid": {"memory": "1GiB"\n', "line 2: not JSON"),
        (
            '{"grid": {"memory": "1GiB"},\n"sample": {"n": 2,\n"memory": "1GiB", "n": 3}}',
            "line 3: the key 'n' is there twice",
        ),
        ("[1]", "not [1]"),
        ("", "is empty"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_complaints_about_json_name_the_line_too(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        SweepSpec.from_file(path)
    assert complaint in str(caught.value)


def test_files_that_are_no_specs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="line 1: not UTF-8 text at byte 0"):
        SweepSpec.from_file(tmp_path / "b.toml")
    with pytest.raises(InputError, match="No such file"):
        SweepSpec.from_file(tmp_path / "none.toml")


def test_a_byte_order_mark_is_no_part_of_a_spec(tmp_path: Path) -> None:
    for name, text in (
        ("a.toml", '[grid]\nmemory = "1GiB"'),
        ("a.json", '{"cells": [{"memory": 1}]}'),
    ):
        (tmp_path / name).write_text("\ufeff" + text.replace(": 1}", ": 4096}"), encoding="utf-8")
        assert SweepSpec.from_file(tmp_path / name).num_cells == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            '[[grid]]\nmemory = "1GiB"\n[[grid]]\nseeds = 9\nmemory = ["1GiB", "513GiB"]',
            "line 5: grid.memory: 513GiB is over MAX_P2M_PFN",
        ),
        (
            '[grid]\nmemory = "8GiB"\nhost_memory = "8GiB"',
            "line 3: grid.host_memory: 8GiB can't hold a guest of 8GiB",
        ),
        ("[[cells]]\nmemory_bytes = 4096", "line 2: cells.memory_bytes: a span of 4KiB"),
    ],
)
def test_combinations_that_no_guest_can_have_are_refused_where_they_stand(
    tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(InputError) as caught:
        SweepSpec.from_file(tmp_path / "s.toml").check()
    assert str(caught.value).startswith(f"{tmp_path / 's.toml'}, {complaint}")
    with pytest.raises(InputError, match=r"^--host-memory: 1GiB can't hold"):
        SweepSpec.from_options(memory="1GiB", host_memory="1GiB").check()


def test_options_are_named_as_options() -> None:
    with pytest.raises(InputError, match="--host-memory: '1Gi' is not a size"):
        SweepSpec.from_options(memory="1GiB", host_memory="1Gi")
    with pytest.raises(InputError, match="--memory is required"):
        SweepSpec.from_options(policy="stale")


def test_a_spec_reads_back_from_its_own_dictionary() -> None:
    spec = SweepSpec.from_dict(
        {
            "question": "q",
            "grid": {"memory": "1GiB..4GiB x2", "seeds": 10**9, "sparsity": 0.1},
            "cells": [{"memory": "5GiB", "policy": "none"}],
            "sample": {
                "n": 7,
                "memory": "1GiB..64GiB",
                "sparsity": "0.1..0.9",
                "migrations": "1..4",
            },
        }
    )
    again = SweepSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again.digest == spec.digest
    assert again.question == "q"


def test_the_json_schema_agrees_with_the_reader() -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    good = [
        {"grid": {"memory": "1GiB", "seeds": 3}},
        {
            "grid": [{"memory_bytes": 4096, "policy": ["stale"]}],
            "sample": {"n": 1, "memory": "1GiB"},
        },
        {"cells": [{"memory": "1GiB"}], "question": "q"},
    ]
    bad = [
        {"grid": {"memroy": "1GiB"}},
        {"grid": {"memory": "1GiB", "memory_bytes": 4096}},
        {"grid": {"policy": "stale"}},
        {"sample": {"memory": "1GiB"}},
        {"cells": {"memory": "1GiB"}},
        {"gird": {"memory": "1GiB"}},
    ]
    for spec in good:
        validator.validate(spec)
        SweepSpec.from_dict(spec)
    for spec in bad:
        assert not validator.is_valid(spec), spec
        with pytest.raises(InputError):
            SweepSpec.from_dict(spec)


def test_resolve_fills_in_what_follows_from_the_memory() -> None:
    fixed = {"memory_bytes": GIB, "guest": ""}
    values = tuple(fixed.get(name) for name in FIELDS)
    named = dict(zip(FIELDS, resolve(values), strict=True))
    assert named["host_memory_bytes"] == 4 * GIB
    assert named["neighbour_memory_bytes"] == GIB


@pytest.mark.parametrize(
    "name", ["headline", "ec2", "sparsity", "thousand-migrations", "limits", "million"]
)
def test_presets_read_and_ask_a_question(name: str) -> None:
    spec = SweepSpec.from_file(presets.find_spec(name))
    assert spec.question.endswith("?")
    ids = [cell_id_of(values) for values in itertools.islice(spec.expand(), 20_000)]
    assert len(ids) == len(set(ids)) > 30
    jsonschema.Draft202012Validator(json_schema()).validate(spec.to_dict())


def test_a_name_that_is_nearly_a_preset_is_corrected() -> None:
    with pytest.raises(InputError, match="did you mean the preset 'headline'"):
        presets.find_spec("headlin")


def test_the_documented_spec_reads(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text()
    (tmp_path / "doc.toml").write_text(text.split("```toml\n")[1].split("```")[0])
    spec = SweepSpec.from_toml(tmp_path / "doc.toml")
    assert (len(spec.grid), len(spec.cells), len(spec.sample)) == (2, 1, 1)


def test_the_documented_fields_are_those_of_a_scenario() -> None:
    text = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text()
    table = text.split("## The fields of a scenario")[1].split("\n\n")[1]
    named = [
        part for line in table.splitlines()[2:] for part in line.split("|")[1].split("`")[1::2]
    ]
    assert named == list(FIELDS)


def test_what_is_wrong_with_a_policys_file_is_told_by_its_own_place(monkeypatch):
    """Found when the cells are checked, it is no value of an option."""
    from p2mbatch.base.errors import PolicyError

    def wrong(values):
        raise PolicyError("mmu.c, line 228: something is neither here nor there")

    monkeypatch.setattr("p2mbatch.spec.sweep_spec._check_one", wrong)
    spec = SweepSpec.from_options(memory="64MiB", seeds="1")
    with pytest.raises(InputError) as error:
        spec.check()
    assert str(error.value) == "mmu.c, line 228: something is neither here nor there"
