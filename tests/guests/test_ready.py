"""What is timed is ready: no kernel is compiled or loaded between two looks at the clock.

A sweep's cells look at it in compiled code, which loads nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numba
import pytest

SCRIPT = """
import gc, json, sys, time
from types import SimpleNamespace
from p2mbatch.guests.guest import Guest
from p2mbatch.guests.scenario import Scenario
from p2mbatch.model import life
from p2mbatch.model.replay import replay

from numba.core.dispatcher import Dispatcher
kernels = [k for k in gc.get_objects() if isinstance(k, Dispatcher)]
reads, spans = [], []

def clock():
    reads.append(sum(len(k.overloads) for k in kernels))
    return time.perf_counter_ns()

life.time = SimpleNamespace(perf_counter_ns=clock)

def whole(method):
    def call(*args, **options):
        reads.clear()
        result = method(*args, **options)
        spans.append(list(reads))
        return result
    return call

life.Life.boot = whole(life.Life.boot)
life.Life.migrate = whole(life.Life.migrate)
entry = sys.argv[1]
scenario = Scenario.make(memory_bytes="64MiB", sparsity=0.25, layout="extents", migrations=1)
if entry == "guest":
    Guest.from_scenario(scenario).migrate()
elif entry == "threads":
    Guest.boot("64MiB", resident="all").migrate(threads=2)
else:
    replay(scenario.to_trace())
print(json.dumps(spans))
"""


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
@pytest.mark.parametrize("entry", ["guest", "threads", "replay"])
def test_nothing_is_loaded_while_the_clock_runs(entry: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, entry], capture_output=True, text=True, check=True
    )
    spans = json.loads(done.stdout)
    assert [len(reads) for reads in spans] == [2, 5]
    for reads in spans:
        assert reads[0] > 0
        assert len(set(reads)) == 1, "a kernel was loaded between two looks at the clock"
