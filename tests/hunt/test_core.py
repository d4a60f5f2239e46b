"""The compiled lives of a hunt: each is what its trace's replay comes to; on any number of threads.

A life is written out as a trace, and every event of that must come to the same by the ordinary
model: outcome, detail, stray writes, what was lost, what a set did.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from p2mbatch.base.errors import StoppedError
from p2mbatch.compiled.status import MORE_ROOM, NO_MEMORY
from p2mbatch.hunt.batch import Hunter
from p2mbatch.model import policies, replay
from p2mbatch.model.life import meaning_of
from p2mbatch.model.trace import goes_on
from p2mbatch.model.trace_file import parse_trace

QUICK = [("tracked", 8), ("stale", 4)]

EVERY = [(name, word_bytes) for name in ("tracked", "stale", "none") for word_bytes in (8, 4)]


def replayed(hunter: Hunter, number: int, index: int) -> int:
    """Compare one life with its trace's replay, event by event; return how many events it had."""
    value, told = hunter.told(number, index)
    trace = parse_trace(value)
    if any(told["status"] == MORE_ROOM):
        return 0
    life = replay.new_life(trace)
    for k, event in enumerate(trace.events):
        result = replay.run_event(life, trace, event)
        if event["op"] == "fail_alloc":
            continue
        number_told = int(told["detail"][k]) % (1 << 8 * hunter.word_bytes)
        status = int(told["status"][k])
        found: dict[str, Any] = {
            name: int(told[name][k])
            for name in ("stray_writes", "stray_pages", "placeholder_writes")
        }
        said = meaning_of(status, number_told, hunter.policy, life.tables.statics)
        found["outcome"], found["detail"] = said
        if event["op"] == "set":
            found["set_returned"] = status != NO_MEMORY
            found["entries_set"] = int(told["entries_set"][k])
        if event["op"] == "migrate" and result.ok:
            for name in ("lost_pages", "ghost_pages", "lost_identity_pages"):
                found[name] = int(told[name][k])
        assert found == {name: getattr(result, name) for name in found}, (index, k, event)
        last = k == len(trace.events) - 1
        assert last or goes_on(event, result.outcome)
    return len(trace.events)


@pytest.mark.parametrize(("policy", "word_bytes"), QUICK)
def test_lives_are_what_their_traces_replay_to(policy: str, word_bytes: int) -> None:
    hunter = Hunter(policies.find(policy), seed=1, threads=1, word_bytes=word_bytes)
    events = [replayed(hunter, 0, index) for index in range(80)]
    assert sum(events) > 200


@pytest.mark.thorough
@pytest.mark.parametrize(("policy", "word_bytes"), EVERY)
def test_many_lives_are_what_their_traces_replay_to(policy: str, word_bytes: int) -> None:
    hunter = Hunter(policies.find(policy), seed=2, threads=1, word_bytes=word_bytes)
    assert sum(replayed(hunter, 3, index) for index in range(3000)) > 9000


def test_threads_make_no_difference() -> None:
    one, two = (
        Hunter(policies.find("stale"), seed=5, threads=threads, word_bytes=4) for threads in (1, 2)
    )
    first, second = one.generation(0, 1300), two.generation(0, 1300)
    for column, other in zip(first.failures, second.failures, strict=True):
        np.testing.assert_array_equal(column, other)
    assert set(first.failures.rule.tolist()) >= {1, 2, 3, 4, 5, 7}
    assert first.trace(777) == second.trace(777)
    assert one.generation(1, 100).trace(5) != one.generation(0, 100).trace(5)


def test_a_stopped_generation_counts_nothing() -> None:
    hunter = Hunter(policies.find("stale"), seed=5, threads=1, word_bytes=4)
    hunter.stop()
    with pytest.raises(StoppedError):
        hunter.generation(0, 100)
