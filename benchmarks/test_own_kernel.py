"""The headline under kernels' files in C: lives a second, beside the same functions in Python.

At full size: `pytest benchmarks/test_own_kernel.py --benchmark-only`; `extra_info` has the lives a
second of three that say the same: the C file in its child, a policy of the user's own in Python
(compiled, exact, word by word: what C is held to), and ours with its short ways. One thread lives a
batch of each.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from p2mbatch.base.cc import find_compiler
from p2mbatch.base.shipped import find_spec
from p2mbatch.guests.batch.cells import columns_of
from p2mbatch.guests.batch.lives import live
from p2mbatch.guests.fields import FIELDS
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.kernels.named import named_policy
from p2mbatch.spec.sweep_spec import SweepSpec

ROOT = Path(__file__).resolve().parents[1]
TREES = ROOT / "p2mbatch" / "linux" / "trees.py"
KERNELS = ROOT / "tests" / "kernels"

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


def headline(name, policy, one_in):
    """The cells of the headline under a policy of ours, with another in its place."""
    at = FIELDS.index("policy")
    cells = [c for c in SweepSpec.from_file(find_spec("headline")).expand() if c[at] == name]
    return columns_of([(*c[:at], policy, *c[at + 1 :]) for c in cells[::one_in]])


def lives_a_second(cells):
    start = time.perf_counter()
    lived = live(cells)
    assert not lived.failures
    return len(lived.num_rows) / (time.perf_counter() - start)


@pytest.mark.parametrize("name", ["tracked", "stale"])
def test_headline(benchmark, request, name):
    smoke = request.config.getoption("--benchmark-disable")
    one_in = 40 if smoke else 1
    policies = {
        "in_c": named_policy(f"kernel:{KERNELS / name}.c"),
        "exact": named_policy(f"{TREES}:{name.title()}") if not smoke else name,
        "ours": name,
    }
    found = {}
    for kind, policy in policies.items():
        cells = headline(name, policy, one_in)
        live(cells)
        found[kind] = lives_a_second(cells)
        benchmark.extra_info[f"{kind}_per_second"] = round(found[kind])
    benchmark.group = "the headline in C"
    benchmark.extra_info["of_exact"] = round(found["in_c"] / found["exact"], 2)
    benchmark.extra_info["of_ours"] = round(found["in_c"] / found["ours"], 3)
    cells = headline(name, policies["in_c"], one_in)
    benchmark.pedantic(live, (cells,), rounds=1 if smoke else 3)


TWO_LEVELS = {
    "256 MiB": {"memory_bytes": "256MiB"},
    "1 GiB in extents": {"memory_bytes": "1GiB", "sparsity": 0.4, "layout": "extents"},
    "4 GiB": {"memory_bytes": "4GiB"},
    "1 GiB, 32-bit": {"memory_bytes": "1GiB", "word_bytes": 4},
}


@pytest.mark.parametrize("shape", TWO_LEVELS)
def test_two_levels(benchmark, request, shape):
    """Lives of two levels, which are lived one by one: the best of each, beside ours."""
    smoke = request.config.getoption("--benchmark-disable")
    fields = {"migrations": 3, "neighbours": 1.0, **TWO_LEVELS[shape]}
    best = {}
    for kind, policy in (
        ("in_c", named_policy(f"kernel:{KERNELS / 'two_level.c'}")), ("ours", "two-level"),
    ):  # fmt: skip
        cells = [Scenario.make(policy=policy, seed=s, **fields) for s in range(2 if smoke else 40)]
        times = []
        for cell in cells:
            start = time.perf_counter()
            run_scenario(cell)
            times.append(time.perf_counter() - start)
        best[kind] = min(times)
        benchmark.extra_info[f"{kind}_us"] = round(best[kind] * 1e6)
    benchmark.group = "two levels in C"
    benchmark.extra_info["of_ours"] = round(best["ours"] / best["in_c"], 3)
    benchmark.pedantic(run_scenario, (cells[0],), rounds=1 if smoke else 3)
