"""The naive reference against what the kernel's own functions left behind."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from oracle import reference

TRACES = Path(__file__).parent.parent / "data" / "traces"
# Whole files, by family: the naive model takes seconds over the largest of them.
LARGE = ("multi-mid", "extra-memory-large", "stale-foreign-large", "stale-extra-memory")
THOROUGH = os.environ.get("P2MBATCH_HYPOTHESIS") == "thorough"


def recorded() -> list[object]:
    """One 64-bit and one 32-bit trace of each family, and all others for a thorough run."""
    params = []
    for path in sorted(TRACES.glob("*.json.gz")):
        name = path.name.removesuffix(".json.gz")
        marks = []
        if name.startswith(LARGE) or not name.endswith(("-64-0", "-32-1")):
            reason = "replayed by the reference in a thorough run only"
            marks = [pytest.mark.slow, pytest.mark.skipif(not THOROUGH, reason=reason)]
        params.append(pytest.param(path, id=name, marks=marks))
    return params


@pytest.mark.parametrize("path", recorded())
def test_reference_matches_recorded_trace(path: Path) -> None:
    trace = json.loads(gzip.decompress(path.read_bytes()))
    assert reference.replay(trace) == trace["expected"]


def test_every_family_is_replayed_at_every_run() -> None:
    """Of each family but the large ones, at least one trace is not left to the thorough runs."""
    families = {path.name.rsplit("-", 2)[0] for path in TRACES.glob("*.json.gz")}
    always = {
        param.id.rsplit("-", 2)[0]  # type: ignore[attr-defined]
        for param in recorded()
        if not param.marks  # type: ignore[attr-defined]
    }
    assert families - always == set(LARGE)
