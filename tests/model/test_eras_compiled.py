"""The eras' compiled policies against the recordings and against the naive reference's lives."""

from __future__ import annotations

import gzip
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from campaign import eras as campaign
from oracle import eras
from oracle.eras import unpinned
from oracle.eras.lives import life
from p2mbatch.model import policies
from p2mbatch.model.replay import replay
from p2mbatch.model.trace_file import load_trace, parse_trace, trace_to_json

TRACES = Path(__file__).parents[2] / "data" / "traces"
FOLDERS = ("eras", "eras-3")
THOROUGH = os.environ.get("P2MBATCH_HYPOTHESIS") == "thorough"
NUM_LIVES = int(os.environ.get("P2MBATCH_ERA_LIVES", "10000" if THOROUGH else "8"))
COMPILED = tuple(name for name in policies.names() if policies.find(name).is_era)


def recordings(policy: str, folder: str) -> list[Path]:
    """The recordings of a policy, by the policy that each of them names."""
    paths = sorted((TRACES / folder).glob(f"{policy}-*.json.gz"))
    return [path for path in paths if read(path)["policy"] == policy]


def read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return value


def test_what_is_compiled_is_what_has_a_reference() -> None:
    assert set(COMPILED) == set(eras.POLICIES)
    for folder in FOLDERS:
        assert sum(len(recordings(policy, folder)) for policy in COMPILED) == 277


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("policy", COMPILED)
def test_recordings_are_exact(policy: str, folder: str) -> None:
    # The lives of both folders are the same: at every run all of machine 2, and some of machine 1.
    one_in = 3 if folder == "eras" and not THOROUGH else 1
    for path in recordings(policy, folder)[::one_in]:
        trace = load_trace(path)
        assert replay(trace) == trace.expected, path.name


@pytest.mark.parametrize("second_machine", [False, True], ids=["machine-1", "machine-2"])
@pytest.mark.parametrize("policy", COMPILED)
def test_random_lives_are_those_of_the_reference(policy: str, second_machine: bool) -> None:
    assert campaign.first_difference((policy, second_machine, 0, NUM_LIVES)) is None


def test_a_life_that_differs_is_said_and_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(campaign, "replay", lambda trace: [{"op": "boot"}])
    with ThreadPoolExecutor(1) as pool:
        assert not campaign.campaign("tail", 3, 2, pool, tmp_path)
    [path] = tmp_path.iterdir()
    assert path.name == "tail-random-3-1.json"
    assert f"tail: event 0 differs: {path}" in capsys.readouterr().out
    trace = json.loads(path.read_text(encoding="utf-8"))
    assert eras.replay(trace) == trace["expected"] == life("tail", 3, False)["expected"]


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("policy", COMPILED)
def test_what_is_written_is_what_was_read(policy: str, folder: str) -> None:
    for path in recordings(policy, folder):
        value = read(path)
        for host in value["hosts"]:
            host["domain"].sort()
        assert trace_to_json(load_trace(path)) == value, path.name


@pytest.mark.parametrize("form", ["p2mbatch-trace/1", "p2mbatch-trace/3"])
@pytest.mark.parametrize("name", unpinned.TRACES)
def test_clauses_that_no_recording_pins(name: str, form: str) -> None:
    value = unpinned.TRACES[name]() | {"format": form}
    assert replay(parse_trace(value, name)) == eras.replay(value)
