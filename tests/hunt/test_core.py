"""The compiled lives of a hunt: each is what its trace's replay comes to; on any number of threads.

A life is written out as a trace, and every event of that must come to the same by the ordinary
model: outcome, detail, stray writes, what was lost, what a set did.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from p2mbatch.base.errors import StoppedError
from p2mbatch.compiled.hunt.rules import OF_HIT
from p2mbatch.compiled.status import MORE_ROOM, NO_MEMORY
from p2mbatch.hunt.batch import Hunter
from p2mbatch.model import policies, replay
from p2mbatch.model.outcomes import meaning_of
from p2mbatch.model.trace import goes_on
from p2mbatch.model.trace_file import parse_trace

QUICK = [("tracked", 8), ("stale", 4)]

EVERY = [
    (name, word_bytes)
    for name in policies.names()
    for word_bytes in (8, 4)
    if word_bytes == 8 or not policies.find(name).is_linear
]


def replayed(hunter: Hunter, number: int, index: int, parents: int = 0) -> int:
    """Compare one life with its trace's replay, event by event; return how many events it had."""
    value, told = hunter.told(number, index, parents)
    trace = parse_trace(value)
    if any(told["status"] == MORE_ROOM):
        return 0
    life = replay.new_life(trace)
    for k, event in enumerate(trace.events):
        result = replay.run_event(life, trace, event)
        if event["op"] == "fail_alloc":
            continue
        status = int(told["status"][k])
        found: dict[str, Any] = {
            name: int(told[name][k])
            for name in ("stray_writes", "stray_pages", "placeholder_writes")
        }
        number = int(told["detail"][k]) % (1 << 8 * hunter.word_bytes)
        found["outcome"], found["detail"] = meaning_of(
            status, number, hunter.policy, life.tables.statics
        )
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
    assert sum(replayed(hunter, 3, index) for index in range(600)) > 1500
    hunter.keep(hunter.generation(0, 20_000))
    parents = hunter.corpus.count
    assert sum(replayed(hunter, 1, index, parents) for index in range(600)) > 1500


def test_threads_make_no_difference_to_what_is_found_or_bred() -> None:
    one, two = (
        Hunter(policies.find("stale"), seed=5, threads=threads, word_bytes=4) for threads in (1, 2)
    )
    lived = []
    for number in range(2):
        first, second = one.generation(number, 1300), two.generation(number, 1300)
        lived.append(first)
        columns = (*first.failures, first.new_lives, first.seen)
        others = (*second.failures, second.new_lives, second.seen)
        for column, other in zip(columns, others, strict=True):
            np.testing.assert_array_equal(column, other)
        assert first.trace(777) == second.trace(777)
        one.keep(first)
        two.keep(second)
    failures = lived[0].failures
    assert set(failures.rule.tolist()) >= {1, 2, 3, 4, 5, 7}
    # Where a rule is broken is in the signature: pages lost past the end, before strays and after;
    # a top entry that is none, an entry of a hole.
    for rule, places in ((4, {5, 5 + OF_HIT}), (2, {2, 16})):
        assert set((failures.signature[failures.rule == rule] & 0xFFF).tolist()) >= places
    for name, array in one.state().items():
        np.testing.assert_array_equal(array, two.state()[name])


def test_a_hunt_goes_on_from_its_state() -> None:
    hunter = Hunter(policies.find("stale"), seed=5, threads=1, word_bytes=4)
    hunter.keep(hunter.generation(0, 500))
    other = Hunter(policies.find("stale"), seed=5, threads=1, word_bytes=4, state=hunter.state())
    first, second = hunter.generation(1, 400), other.generation(1, 300)
    assert first.num_parents == second.num_parents > 10
    there = first.failures.life < 300
    np.testing.assert_array_equal(first.failures.signature[there], second.failures.signature)
    assert [first.trace(k) for k in range(20)] == [second.trace(k) for k in range(20)]


@pytest.mark.parametrize(("policy", "word_bytes"), QUICK)
def test_children_are_what_their_traces_replay_to(policy: str, word_bytes: int) -> None:
    hunter = Hunter(policies.find(policy), seed=1, threads=1, word_bytes=word_bytes)
    hunter.keep(hunter.generation(0, 2000))
    parents = hunter.corpus.count
    assert sum(replayed(hunter, 1, index, parents) for index in range(60)) > 150


def test_a_stopped_generation_counts_nothing() -> None:
    hunter = Hunter(policies.find("stale"), seed=5, threads=1, word_bytes=4)
    hunter.stop()
    with pytest.raises(StoppedError):
        hunter.generation(0, 100)
