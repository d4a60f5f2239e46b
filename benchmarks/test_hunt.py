"""Random lives a second: all of a hunt's core (draw, live, judge), beside the bare kernels'.

At full size: `pytest benchmarks/test_hunt.py --benchmark-only`; `extra_info` has the lives a second
on two threads, of lives that are drawn and of lives that are bred, those a second of processor time
(which a busy machine leaves much the same), and what it would be if nothing but boot, sets, saves,
restores and rebuilds took time: the same lives' own calls, by the clock. 20,000 a second on two
threads is what is to hold for built-in policies.
"""

from __future__ import annotations

import time

import pytest

from p2mbatch.hunt.batch import Hunter
from p2mbatch.model import policies

SMOKED = ("stale",)
"""Those that the tests compile anyway."""

THREADS = 2


@pytest.mark.parametrize("policy", policies.names())
@pytest.mark.parametrize("bred", [False, True], ids=["drawn", "bred"])
def test_lives(benchmark, request, bred, policy):
    """A generation of lives, drawn from nothing or, two in three of them, bred."""
    smoke = request.config.getoption("--benchmark-disable")
    if smoke and policy not in SMOKED:
        pytest.skip("compiled for benchmarks alone")
    num_lives = 256 if smoke else 1 << 14
    hunter = Hunter(policies.find(policy), seed=1, threads=THREADS)
    first = hunter.generation(0, num_lives)
    if bred:
        for number in range(1 if smoke else 4):
            hunter.keep(hunter.generation(number, num_lives))
    before_ns = hunter.kernel_ns
    start, used = time.perf_counter(), time.process_time()
    rounds = 1 if smoke else 3
    for number in range(5, 5 + rounds):
        hunter.generation(number, num_lives)
    took, used = time.perf_counter() - start, time.process_time() - used
    kernels = (hunter.kernel_ns - before_ns) / 1e9 / THREADS
    benchmark.group = "lives that are bred" if bred else "lives that are drawn"
    benchmark.extra_info["lives_per_second"] = round(rounds * num_lives / took)
    benchmark.extra_info["lives_per_cpu_second"] = round(rounds * num_lives / used)
    benchmark.extra_info["kernels_alone_per_second"] = round(rounds * num_lives / kernels)
    assert 0 < kernels < took
    again = benchmark.pedantic(hunter.generation, (0, num_lives), rounds=rounds)
    assert bred or (again.failures.signature == first.failures.signature).all()
