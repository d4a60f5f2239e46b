"""The eras' naive references against the recordings of each version's own functions.

`eras/` was recorded on the machine of the model's page (format 1). `eras-3/` holds the same lives
on the corrected machine with the loss columns (format 3): computed by two independent models.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from oracle import eras

TRACES = Path(__file__).parents[2] / "data" / "traces"
FOLDERS = ("eras", "eras-3")
THOROUGH = os.environ.get("P2MBATCH_HYPOTHESIS") == "thorough"
ONE_IN = 1 if THOROUGH else 6
"""The compiled model replays all of them at every run, the naive one each so many."""
# Guests of gigabytes, page by page: a second and more each.
LARGE = (
    "multi-block",
    "identity-tail",
    "unaligned-",
    "crossing",
    "holes",
    "sif-edge",
    "id-hole-32",
)


def recordings() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (TRACES / folder).glob("*.json.gz"))


def params() -> list[object]:
    """Some small recordings; of those of large guests two policies'; all in a thorough run."""
    out = []
    for path in recordings()[::ONE_IN]:
        marks = []
        large = any(name in path.name for name in LARGE)
        if large and not path.name.startswith(("linear-list", "late-list")):
            reason = "replayed by the reference in a thorough run only"
            marks = [pytest.mark.slow, pytest.mark.skipif(not THOROUGH, reason=reason)]
        name = f"{path.parent.name}-{path.name.removesuffix('.json.gz')}"
        out.append(pytest.param(path, id=name, marks=marks))
    return out


@pytest.mark.parametrize("path", params())
def test_era_reference_matches_recording(path: Path) -> None:
    trace = json.loads(gzip.decompress(path.read_bytes()))
    assert eras.replay(trace) == trace["expected"]


def test_era_recordings_are_all_there() -> None:
    """Each machine has its 277 lives, and every policy has some."""
    first, second = (
        {path.name for path in recordings() if path.parent.name == name} for name in FOLDERS
    )
    assert len(first) == 277
    assert len(second) == 277
    for policy in eras.POLICIES:
        assert any(name.startswith(f"{policy}-") for name in first)
