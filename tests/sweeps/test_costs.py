"""First guesses of what cells cost: those that were seen to differ by much are told apart."""

from __future__ import annotations

from typing import Any

import pytest

from batch_support import columns
from p2mbatch.guests.scenario import Scenario
from p2mbatch.sweeps.costs import cost_ns_each


def guess(**fields: Any) -> float:
    usual: dict[str, Any] = {"memory_bytes": "1GiB", "migrations": 4}
    return float(cost_ns_each(columns([Scenario.make(**(usual | fields))]))[0])


LIVE: dict[str, Any] = {"live": "yes", "rounds": 100, "balloon": "64MiB"}
GROWING: dict[str, Any] = {"grow": "64MiB", "layout": "scattered", "sparsity": 0.5}
EXTENTS: dict[str, Any] = {"layout": "extents", "sparsity": 0.5}


@pytest.mark.parametrize(
    ("fields", "took_ns"),
    [
        ({"policy": "linear-4.4"}, 49e3),
        ({"policy": "linear-4.4"} | LIVE, 324e6),
        ({"policy": "tracked", "sparsity": 0.3} | LIVE, 336e6),
        ({"policy": "tracked"} | GROWING, 27e6),
        ({"policy": "tracked", "grow": "1MiB"} | EXTENTS, 299e3),
        ({"policy": "two-level-none"} | EXTENTS, 2.9e6),
        ({"policy": "two-level-none", "memory_bytes": "8GiB"} | EXTENTS, 22e6),
        ({"policy": "mid-identity", "layout": "identity"}, 4.4e6),
        ({"policy": "linear-3.19", "migrations": 2, "sparsity": 0.5}, 245e3),
        ({"grow": "32MiB", "cpus": 8, "sparsity": 0.5, "migrations": 1}, 181e6),
    ],
)
def test_a_guess_is_near_what_was_measured(fields: dict[str, Any], took_ns: float) -> None:
    """Processor time on README's machine; a batch is made of so many cells as make 20 ms."""
    assert took_ns / 4 < guess(**fields) < 4 * took_ns


def test_what_an_axis_adds_is_in_the_guess() -> None:
    few = guess(policy="tracked", **LIVE)
    assert guess(policy="tracked", **LIVE | {"rounds": 10}) < few / 5
    assert guess(policy="tracked", **LIVE, migrations=1) < few / 3
    assert guess(policy="tracked", **LIVE | {"balloon": "6MiB"}) < few / 5
    assert guess(policy="tracked", **LIVE, layout="scattered", sparsity=0.5) > 4 * few
