"""A cell of each era's policy beside the same one under `tracked`, in one run.

At full size: `pytest benchmarks/test_eras.py --benchmark-only`; what is to hold is the ratio to
`tracked` in each group. At 512 GiB: a tree within 2, a linear p2m within 4. Small: within 1.3, but
for two levels and 3.19, whose bytes are in `extra_info`. As a smoke test, which CI runs: one policy
of each kind of p2m on a small guest.
"""

from __future__ import annotations

import pytest

from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.model import policies

ERAS = [name for name in policies.names() if policies.find(name).is_era]
SMOKED = ("tracked", "two-level-none", "mid-identity", "linear-4.4")
"""Those that the tests compile anyway."""


@pytest.mark.parametrize("policy", ["tracked", *ERAS])
@pytest.mark.parametrize("layout", ["tail", "extents"])
@pytest.mark.parametrize("size", ["small", "large"])
def test_cell(benchmark, request, size, layout, policy):
    """The life of a cell of 1 GiB or of 512 GiB: boot, two migrations, its rows.

    With extents half of the memory arrives after boot, which kernels of two levels lose: each leaf
    that was lost is made, to be counted.
    """
    smoke = request.config.getoption("--benchmark-disable")
    if smoke and policy not in SMOKED:
        pytest.skip("compiled for benchmarks alone")
    memory = "64MiB" if smoke else {"small": "1GiB", "large": "512GiB"}[size]
    # Two levels that hold such a guest; the kernels of 3.19 report the whole area.
    most = {"max_domain_pages": 1 << 27} if size == "large" and policy.startswith("two") else {}
    scenario = Scenario.make(
        memory_bytes=memory, sparsity=0.5, layout=layout, policy=policy, migrations=2, **most
    )
    benchmark.group = f"cell of {memory}, {layout}"
    rows = benchmark(run_scenario, scenario)
    stuck = policy == "two-level-none"
    assert [row["outcome"] for row in rows] == ["ok", "ok", "save-failed" if stuck else "ok"]
    word_bytes = scenario.word_bytes
    benchmark.extra_info["bytes_written"] = word_bytes * sum(row["entries_written"] for row in rows)
