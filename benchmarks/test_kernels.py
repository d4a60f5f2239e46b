"""The kernels under pytest-benchmark, each beside its peers.

At full size: `pytest benchmarks --benchmark-only`. As a smoke test, which CI runs:
`pytest benchmarks --benchmark-disable` does each once on a small guest and checks what it did.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from p2mbatch.base.sizes import GIB, MIB
from p2mbatch.bench.cases import BenchGuest, cases
from p2mbatch.dumps.p2m import SparseP2M
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.written_out import scenario_trace
from p2mbatch.model.digests import p2m_sha256
from p2mbatch.model.replay import new_life, run_event

KERNELS = (
    "lookup_random", "lookup_sorted", "lookup_sequential", "lookup_m2p", "rebuild", "save_walk",
    "populate", "restore_order9", "restore_order0",
)  # fmt: skip
"""In the order in which they must be run: the last ones change the guest."""
PAIRS = [(kernel, who) for kernel in KERNELS for who in ("p2mbatch", "parallel", "numpy")]
PAIRS.remove(("populate", "parallel"))  # has no form for several threads


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


def hash_alone(num_bytes: int) -> str:
    """Return the digest of as many bytes, of which there is one block of 1 MiB."""
    digest, block = hashlib.sha256(), b"\xff" * MIB
    for _ in range(num_bytes // MIB):
        digest.update(block)
    return digest.hexdigest()


@pytest.mark.parametrize("who", ["p2mbatch", "hashlib"])
@pytest.mark.parametrize("gap", [1 << 13, 1 << 20, 1 << 26])
def test_hash_of_holes(benchmark, request, who, gap):
    """The digest of a p2m of single pages `gap` PFNs apart, beside hashlib over as many bytes.

    The peer hashes one block of 1 MiB again and again; ours is to have 0.9 of its rate or more.
    """
    span = 1 << (20 if request.config.getoption("--benchmark-disable") else 26)
    pfns = np.arange(0, span, gap)
    p2m = SparseP2M(pfns, pfns + 7, span)
    benchmark.group = f"hash of holes, a page in {gap}"
    benchmark.extra_info["items"] = span
    assert len(benchmark(p2m.sha256 if who == "p2mbatch" else lambda: hash_alone(8 * span))) == 64


@pytest.mark.parametrize("who", ["p2mbatch", "hashlib"])
@pytest.mark.parametrize("kind", ["dense", "extents", "scattered", "wild"])
def test_hash_of_replay(benchmark, request, who, kind):
    """The digest of a p2m after each event of a trace, beside hashlib over as many bytes.

    Half of the guest is holes, but for a dense one; "wild" looks every leaf up by its pointers.
    """
    memory = "64MiB" if request.config.getoption("--benchmark-disable") else "16GiB"
    layout = {"wild": "scattered", "dense": "tail"}.get(kind, kind)
    sparsity = 0 if kind == "dense" else 0.5
    made = Scenario.make(memory_bytes=memory, layout=layout, sparsity=sparsity)
    trace = scenario_trace(made)
    life = new_life(trace)
    run_event(life, trace, trace.events[0])
    life.tables.state[0].wild = kind == "wild"
    end = life.scalar("xen_max")
    benchmark.group = f"hash of a replayed guest, {kind}"
    benchmark.extra_info["items"] = end
    ours = who == "p2mbatch"
    assert len(benchmark((lambda: p2m_sha256(life, end)) if ours else lambda: hash_alone(8 * end)))
