"""The kernels under pytest-benchmark, each beside its peers.

At full size: `pytest benchmarks --benchmark-only`. As a smoke test, which CI runs:
`pytest benchmarks --benchmark-disable` does each once on a small guest and checks what it did.
"""

from __future__ import annotations

import numpy as np
import pytest

from p2mbatch.base.sizes import GIB, MIB
from p2mbatch.bench.cases import BenchGuest, cases

KERNELS = (
    "lookup_random", "lookup_sorted", "lookup_sequential", "lookup_m2p", "rebuild", "save_walk",
    "populate", "restore_order9", "restore_order0",
)  # fmt: skip
"""In the order in which they must be run: the last ones change the guest."""
WHO = ("p2mbatch", "parallel", "numpy")
# Setting runs of pages has no form for several threads.
PAIRS = [(k, w) for k in KERNELS for w in WHO if (k, w) != ("populate", "parallel")]


@pytest.fixture(scope="module")
def guest(request):
    # Disabled benchmarks are smoke tests: a small guest will do.
    return BenchGuest(64 * MIB if request.config.getoption("--benchmark-disable") else 16 * GIB)


@pytest.mark.parametrize(("kernel", "who"), PAIRS)
def test_kernel(benchmark, guest, kernel, who):
    case = {c.kernel: c for c in cases(guest, heavy=True)}[kernel]
    benchmark.group = kernel
    benchmark.extra_info["items"] = case.items
    benchmark(case.calls[who])
    # Whatever was measured, the guest must be sound after it: every page has its own frame.
    words = guest.t.words[guest.t.leaf_slot[: guest.num_leaves]]
    assert (words > 0).all()
    assert len(np.unique(words)) == words.size
