"""Both models against what the kernel's own functions left behind."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from oracle import models, reference
from oracle.recordings import NUM_RECORDED, Recording, recordings

# Guests of hundreds of thousands of pages: the naive model takes seconds over some of them.
LARGE = {
    "crafted-modulus",
    "edge-far",
    "edge-over",
    "edge-under",
    "extra-memory-large",
    "multi-mid",
    "stale-extra-memory",
    "stale-foreign-large",
    "stale-mids",
    "too-large",
}
THOROUGH = os.environ.get("P2MBATCH_HYPOTHESIS") == "thorough"


def params(*, naive: bool) -> list[object]:
    """Every recording; the naive model replays one of each family, width and format at each run."""
    found, seen = [], set()
    for recording in recordings():
        kind = (recording.format, recording.family, recording.bits)
        marks = []
        if naive and (recording.family in LARGE or kind in seen):
            reason = "replayed by the reference in a thorough run only"
            marks = [pytest.mark.slow, pytest.mark.skipif(not THOROUGH, reason=reason)]
        seen.add(kind)
        found.append(pytest.param(recording, id=recording.name, marks=marks))
    return found


@pytest.mark.parametrize("recording", params(naive=True))
def test_reference_matches_recorded_trace(recording: Recording) -> None:
    trace = recording.load()
    assert reference.replay(trace) == trace["expected"]


@pytest.mark.parametrize("recording", params(naive=False))
def test_compiled_model_matches_recorded_trace(recording: Recording) -> None:
    trace = recording.load()
    assert models.REPLAYS[models.Compiled](trace) == trace["expected"]


def test_recorded_traces_are_all_there() -> None:
    assert Counter(recording.format for recording in recordings()) == NUM_RECORDED


def test_every_family_is_replayed_at_every_run() -> None:
    """Of each family but the large ones, at least one trace is not left to the thorough runs."""
    families = {recording.family for recording in recordings()}
    always = {
        param.values[0].family  # type: ignore[attr-defined]
        for param in params(naive=True)
        if not param.marks  # type: ignore[attr-defined]
    }
    assert families - always == LARGE
