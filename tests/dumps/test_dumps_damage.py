"""A damaged list is carried over: replay, make-stream and sweeps begin where the file ends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dump_guests import core, stream
from oracle import build, reference
from p2mbatch.base.errors import InputError
from p2mbatch.cli import cli
from p2mbatch.dumps.audit.recover import recover
from p2mbatch.dumps.audit.walk import save_check
from p2mbatch.dumps.importing.to_trace import check_import, import_trace
from p2mbatch.dumps.readers.read import read_bytes, read_dump
from p2mbatch.dumps.writers.image import image_at
from p2mbatch.guests.file import find_guest
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.written_out import scenario_trace
from p2mbatch.model.anonymise import anonymise
from p2mbatch.model.replay import replay
from p2mbatch.model.trace import FORMAT_3
from p2mbatch.model.trace_file import parse_trace, trace_to_json, write_trace

STALE = Path(__file__).parents[2] / "data" / "dumps" / "stale-64.core.gz"


@pytest.fixture(scope="module")
def guest():
    return read_dump(STALE)


@pytest.fixture(scope="module")
def trace(guest):
    return parse_trace(json.loads(json.dumps(trace_to_json(import_trace(guest, "x")))))


def test_the_trace_ends_as_sick_as_the_file(guest, trace):
    check_import(guest, trace)
    assert trace.format == FORMAT_3
    assert [event["op"] for event in trace.events] == ["boot", "poke"]
    walk = recover(guest).walk
    image = image_at(trace)
    for again in (read_bytes(core(image)), read_bytes(stream(image))):
        assert again.p2m.sha256() == guest.p2m.sha256()
        found = save_check(again)
        assert (found.result, found.failing) == (walk.result, walk.failing)


def test_the_naive_model_says_the_same_and_what_comes_next(trace):
    plain = trace_to_json(trace)
    away = build.host(12000, build.frames_from(4000, trace.guest.nr_pages))
    events = [*plain["events"], build.assign((9, None, 1)), build.migrate(1)]
    plain |= {"hosts": [*plain["hosts"], away], "events": events}
    results = replay(parse_trace(plain))
    assert results == reference.replay(plain)
    assert (results[-1]["outcome"], results[-1]["detail"]) == ("save-failed", "map-fl-failed 0")


def test_a_sweep_begins_where_the_file_ends(trace, tmp_path):
    path = tmp_path / "x.json.gz"
    write_trace(trace, path)
    cell = Scenario.make(guest=str(path), policy="stale", migrations=2, seed=3)
    rows = run_scenario(cell)
    assert [(row["outcome"], row["detail"]) for row in rows][1] == (
        "save-failed",
        "map-fl-failed 0",
    )
    written = scenario_trace(cell)
    assert written.format == FORMAT_3
    assert replay(written) == reference.replay(trace_to_json(written))
    with pytest.raises(InputError, match="begins with a damaged list of policy stale, and tracked"):
        run_scenario(Scenario.make(guest=str(path), policy="tracked"))
    # Own frames are no part of the guest, the numbers of nobody's are.
    words = trace.events[1]["words"]
    changed = words.copy()
    changed[np.flatnonzero(find_guest(str(path)).events[0]["pfns"] == -1)[0], 2] += 1
    trace.events[1]["words"] = changed
    write_trace(trace, tmp_path / "y.json.gz")
    trace.events[1]["words"] = words
    assert find_guest(str(tmp_path / "y.json.gz")).digest != find_guest(str(path)).digest


def test_other_numbers_are_as_sick(guest, trace):
    for key in range(3):
        again = read_bytes(core(image_at(anonymise(trace, key))))
        walk = recover(guest).walk
        assert save_check(again).result == walk.result
        assert again.p2m.sha256() != guest.p2m.sha256()
    old = {walk.failing.mfn, *trace.events[1]["words"][:, 2].tolist()} - {-1}
    assert not old & set(anonymise(trace, 5).events[1]["words"][:, 2].tolist())


def test_a_sound_list_takes_its_place_when_asked(guest):
    healed = import_trace(guest, "x", heal=True)
    assert [event["op"] for event in healed.events] == ["boot"]
    assert save_check(read_bytes(core(image_at(healed)))).result == "ok"


def test_what_can_not_be_carried_over_is_said(guest):
    with pytest.raises(InputError, match=r"not laid out as this policy's boot does it; use --heal"):
        import_trace(guest, "x", "tracked")


def test_a_replay_tells_of_the_words(trace, tmp_path):
    path = tmp_path / "x.json.gz"
    write_trace(trace, path)
    result = CliRunner().invoke(cli, ["replay", str(path)])
    assert "poke         " in result.output and "words in 2 pages" in result.output
