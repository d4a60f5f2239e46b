"""The eras' compiled policies against the recordings and against the naive reference's lives."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from oracle import eras
from oracle.eras import unpinned
from oracle.eras.lives import life
from p2mbatch.model import policies
from p2mbatch.model.replay import replay
from p2mbatch.model.trace_file import load_trace, parse_trace, trace_to_json

ERAS = Path(__file__).parents[2] / "data" / "traces" / "eras"
THOROUGH = os.environ.get("P2MBATCH_HYPOTHESIS") == "thorough"
NUM_LIVES = int(os.environ.get("P2MBATCH_ERA_LIVES", "10000" if THOROUGH else "12"))
COMPILED = tuple(name for name in policies.trace_names() if policies.find(name).is_era)


def recordings(policy: str) -> list[Path]:
    """The recordings of a policy, by the policy that each of them names."""
    return [path for path in sorted(ERAS.glob("*.json.gz")) if read(path)["policy"] == policy]


def read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return value


def test_what_is_compiled_has_a_reference() -> None:
    assert set(COMPILED) <= set(eras.POLICIES)


@pytest.mark.parametrize("policy", COMPILED)
def test_recordings_are_exact(policy: str) -> None:
    paths = recordings(policy)
    assert len(paths) >= 10
    for path in paths:
        trace = load_trace(path)
        assert replay(trace) == trace.expected, path.name


@pytest.mark.parametrize("policy", COMPILED)
def test_random_lives_are_those_of_the_reference(policy: str) -> None:
    for seed in range(NUM_LIVES):
        drawn = life(policy, seed, second_machine=False)
        trace = parse_trace(drawn, f"{policy} {seed}")
        assert replay(trace) == drawn["expected"], (policy, seed)


@pytest.mark.parametrize("policy", COMPILED)
def test_what_is_written_is_what_was_read(policy: str) -> None:
    for path in recordings(policy):
        value = read(path)
        for host in value["hosts"]:
            host["domain"].sort()
        assert trace_to_json(load_trace(path)) == value, path.name


@pytest.mark.parametrize("name", unpinned.TRACES)
def test_clauses_that_no_recording_pins(name: str) -> None:
    value = unpinned.TRACES[name]() | {"format": "p2mbatch-trace/1"}
    if value["policy"] not in COMPILED:
        pytest.skip(f"{value['policy']} is not compiled")
    assert replay(parse_trace(value, name)) == eras.replay(value)
