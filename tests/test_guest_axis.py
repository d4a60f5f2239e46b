"""Guests from trace files as an axis of sweeps: their rows are their traces', their ids content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import build
from p2mbatch.cell import check_scenario, run_scenario
from p2mbatch.errors import InputError
from p2mbatch.geometry import GIB, PAGE_BYTES
from p2mbatch.scenario import Scenario
from strategies import guests
from test_cell import exact, trace_rows

DUMPS = Path(__file__).parents[1] / "data" / "dumps"
FOREIGN_BIT = 1 << 31
IDENTITY_BIT = 1 << 30


@st.composite
def guest_traces(draw: Any) -> build.Json:
    """A guest with holes, foreign and identity entries, replaced pages and grown leaves."""
    word_bytes = draw(st.sampled_from([8, 4]))
    layout = draw(guests(word_bytes))
    nr_pages, span = layout["nr_pages"], layout["max_p2m_pfn"]
    frames = span + 64
    events = [build.boot(0)]
    policy = draw(st.sampled_from(["tracked", "stale"]))
    aims = sorted({p for p in build.structures(policy, layout).values() if p < nr_pages})
    pfns = st.integers(0, nr_pages - 1) | st.sampled_from(aims)
    if span > nr_pages:
        pfns |= st.integers(nr_pages, span - 1)
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.integers(0, 5)) == 0:
            events.append(build.fail_alloc(draw(st.integers(0, 3))))
        rows: list[tuple[int, int | None, int]] = []
        for _ in range(draw(st.integers(1, 4))):
            pfn = draw(pfns)
            # Structures are seldom taken away: such a guest does not get far.
            kinds = ["own", "own", "hole", "foreign", "identity"]
            kind = draw(st.sampled_from(["own"] * 9 + kinds if pfn in aims else kinds))
            count = min(draw(st.sampled_from([1, 3, 90])), span - pfn)
            mfn = {
                "own": draw(st.integers(0, frames - count)),
                "hole": None,
                "foreign": FOREIGN_BIT | draw(st.integers(0, 1000)),
                "identity": IDENTITY_BIT | pfn,
            }[kind]
            rows.append((pfn, mfn, count))
        events.append(build.assign(*rows))
    host = build.host(frames, {pfn: frames - 1 - pfn for pfn in range(nr_pages)}, {})
    return build.trace(policy, layout, [host, host], [*events, build.migrate(1)])


@settings(deadline=None, max_examples=50)
@given(trace=guest_traces(), data=st.data())
def test_rows_are_those_of_the_replayed_trace(
    trace: build.Json, data: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("guest") / "guest.trace.json"
    path.write_text(json.dumps(trace))
    span_bytes = trace["guest"]["max_p2m_pfn"] * PAGE_BYTES
    room = data.draw(st.sampled_from([4 << 20, 64 << 20, span_bytes]))
    fields = {
        "guest": str(path),
        "policy": data.draw(st.sampled_from(["tracked", "stale", "stale", "none"])),
        "migrations": data.draw(st.integers(0, 3)),
        "seed": data.draw(st.integers(0, 1 << 20)),
        "neighbours": data.draw(st.sampled_from([0.0, 0.4, 1.0])),
        "host_memory_bytes": min(span_bytes, 1 << 30) + room if span_bytes < GIB else None,
        "neighbour_memory_bytes": data.draw(st.sampled_from([50 * PAGE_BYTES, span_bytes])),
        "build_order": data.draw(st.sampled_from([0, 9])),
        "restore_order": data.draw(st.sampled_from([0, 9])),
    }
    try:
        scenario = Scenario.make(**fields)
        check_scenario(scenario)
    except InputError as error:
        assert any(word in str(error) for word in ("brk", "no page left")), error
        return
    if scenario.host_memory_bytes > 3 * GIB:
        return
    rows = exact(run_scenario(scenario))
    assert rows == exact(run_scenario(scenario, "all"))
    assert rows == exact(trace_rows(scenario))
