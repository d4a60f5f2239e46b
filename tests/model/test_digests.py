"""Digests by run are those over all words, one after the other."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.written_out import scenario_trace
from p2mbatch.model.digests import hash_leaves, p2m_sha256
from p2mbatch.model.life import Life
from p2mbatch.model.replay import new_life, run_event

PAGES = 40
RUN = st.tuples(st.sampled_from(["again", "row", "any"]), st.integers(0, PAGES - 1))


@settings(max_examples=40)
@given(st.lists(st.tuples(RUN, st.integers(1, 90)), max_size=6))
def test_pages_in_any_order_are_hashed_as_one_after_the_other(runs):
    words = np.arange(PAGES * 8, dtype=np.int64).reshape(PAGES, 8)
    slots: list[int] = []
    for (kind, first), length in runs:
        step = {"again": 0, "row": 1, "any": 7}[kind]
        # A row ends with the pages there are.
        length = min(length, PAGES - first) if kind == "row" else length
        slots += [(first + step * k) % PAGES for k in range(length)]
    digest = hashlib.sha256()
    hash_leaves(digest, words, np.array(slots, np.int32))
    assert digest.hexdigest() == hashlib.sha256(words[slots].tobytes()).hexdigest()


@pytest.fixture(scope="module")
def life() -> Life:
    """A guest of 40 MiB whose last quarter is holes, and whose end is within a leaf."""
    trace = scenario_trace(Scenario.make(memory_bytes="40MiB", sparsity=0.25, layout="extents"))
    life = new_life(trace)
    run_event(life, trace, trace.events[0])
    return life


@pytest.mark.lane
@pytest.mark.parametrize("wild", [0, 1])
@pytest.mark.parametrize("end", [0, 1, 511, 512, 513, 9000, -1, 1 << 15])
def test_every_end_of_a_p2m(life, wild, end):
    end = life.scalar("xen_max") if end < 0 else end
    pfns = np.arange(end)
    entries = np.empty(end, np.int64)
    life.policy.operations.get(life.tables, life.host, pfns, entries)
    # Where a pointer may be wild, all leaves are found by the pointers' own words.
    expected = hashlib.sha256(entries.tobytes()).hexdigest()
    life.tables.state[0].wild = wild
    try:
        assert p2m_sha256(life, end) == expected
    finally:
        life.tables.state[0].wild = 0
