"""A spec's cells as columns: those of the walk, to the bit, from any position on."""

from __future__ import annotations

from typing import Any

import pytest

from p2mbatch.base.errors import InputError
from p2mbatch.guests.cell_ids import cell_ids
from p2mbatch.guests.fields import cell_id_of
from p2mbatch.spec.columns import values_of
from p2mbatch.spec.sweep_spec import SweepSpec

GRID = {"memory": ["1GiB", "2GiB"], "sparsity": "0..0.9 +0.3", "policy": ["tracked", "stale"]}
SAMPLE = {
    "memory": "512MiB..32GiB", "sparsity": "0..0.9", "neighbours": "0.2..0.3", "layout": ["tail",
    "scattered", "extents"], "hosts": [["256GiB"], ["512GiB", "64GiB..128GiB"]], "n": 3000,
}  # fmt: skip

SPECS: dict[str, dict[str, Any]] = {
    "grid": {"grid": GRID | {"seeds": 7, "host_memory": ["64GiB", "128GiB"]}},
    "grids": {"grid": [GRID | {"seeds": 3}, GRID | {"seeds": "2..5", "layout": ["tail"]}]},
    "sample": {"sample": SAMPLE},
    "narrow": {"sample": {"memory": "1GiB..1025MiB", "sparsity": "0..0.001", "n": 500, "key": 9}},
    "all": {
        "grid": GRID | {"seeds": [5, 3, 3, 9]},
        "cells": [{"memory": "1GiB", "seed": 3}, {"memory": "3GiB"}, {"memory": "3GiB"}],
        "sample": [
            {"memory": ["1GiB", "3GiB"], "seeds": 10, "n": 200},
            {"memory": "1GiB", "xen": ["", "4.0"], "word_bytes": [8, 4], "n": 50},
        ],
    },
}


@pytest.mark.parametrize("name", list(SPECS))
def test_columns_are_the_cells_of_the_walk_and_have_their_ids(name: str) -> None:
    spec = SweepSpec.from_dict(SPECS[name])
    walked = list(spec.expand())
    found: list[Any] = []
    ids: list[str] = []
    positions: list[int] = []
    step = 117
    for first in range(0, spec.num_cells, step):
        columns, at = spec.columns(first, first + step)
        values = values_of(columns)
        assert len(at) == len(values) and all(first <= place < first + step for place in at)
        found += values
        positions += at.tolist()
        ids += [one.tobytes().hex() for one in cell_ids(columns)]
    assert found == walked
    assert [list(map(type, values)) for values in found] == [list(map(type, v)) for v in walked]
    assert ids == list(map(cell_id_of, walked))
    assert positions == sorted(set(positions))
    some, _ = spec.columns(positions[-1], spec.num_cells + 5)
    assert values_of(some) == walked[-1:]


def test_many_cells_written_out_are_read_as_one_is() -> None:
    """Those that are right are read at once, the others are told as ever."""
    many: list[dict[str, Any]] = [
        {"memory": f"{1 + i % 5}GiB", "seed": i, "sparsity": (0, 0.5, "0.25", 1 / 3)[i % 4]}
        for i in range(200)
    ]
    many += [{"memory_bytes": 1 << 30, "policy": "stale"}, {"memory": ["2GiB"], "seed": True}]
    with pytest.raises(InputError, match=r"cells.*seed: true is not a value of seed"):
        SweepSpec.from_dict({"cells": many})
    many[-1]["seed"] = 7
    spec = SweepSpec.from_dict({"cells": many})
    alone = [SweepSpec.from_dict({"cells": [cell]}) for cell in many]
    assert [cell.values for cell in spec.cells] == [one.cells[0].values for one in alone]
    assert [repr(cell.to_dict()) for cell in spec.cells] == [
        repr(one.cells[0].to_dict()) for one in alone
    ]
    assert SweepSpec.from_dict(spec.to_dict()).digest == spec.digest
    for bad, says in (
        ({"memory": "1GiB", "layout": "guest"}, "layout: guest is what a guest's file has"),
        ({"memory": "1GiB", "sparsity": "0..0.5"}, "a range in cells needs a step|a cell has one"),
        ({"memory": "1GiB", "memory_bytes": 1 << 30}, "memory: is the same field as memory_bytes"),
        ({"seed": 3}, "memory is required"),
    ):
        with pytest.raises(InputError, match=says):
            SweepSpec.from_dict({"cells": [*many, bad]})
