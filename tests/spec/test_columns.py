"""A spec's cells as columns: those of the walk, to the bit, from any position on."""

from __future__ import annotations

from typing import Any

import pytest

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
