"""`p2mbatch explain` of a sweep's cell, from a real store: its rows' life, told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from campaign.explained import wrong
from p2mbatch.cli import main
from p2mbatch.model.replay import replay_events
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.results import SweepResult
from sweep_support import run

LOSSES = ("stray_writes", "lost_pages", "ghost_pages", "placeholder_writes")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    path = tmp_path_factory.mktemp("explain") / "run"
    run(SweepSpec.from_options(memory="64MiB", policy="tracked,stale,none", migrations=2), path)
    return SweepResult.open(path)


def say(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> str:
    """Run `explain` and return what it printed; where it failed, its one line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(["explain", *args])
    found = capsys.readouterr()
    assert end.value.code == code, found.err
    return found.out if code == 0 else found.err


def test_each_cell_of_a_store_is_told_as_its_rows_are(result: SweepResult) -> None:
    outcomes = set()
    for cell, frame in result.frame.groupby("cell"):
        rows: list[dict[str, Any]] = (
            frame.astype(object).where(frame.notna(), None).to_dict("records")
        )
        told = result.explain(str(cell))
        assert (told.cell, told.scenario) == (cell, result.scenario(str(cell)).canonical())
        assert wrong(told, rows) == ""
        for row, story in zip(rows, told.events, strict=True):
            assert {name: story.damage[name] for name in LOSSES} == {n: row[n] for n in LOSSES}
            outcomes.add(row["outcome"])
    assert {"ok", "save-failed"} <= outcomes


def test_a_cell_is_named_by_the_beginning_of_its_id(
    result: SweepResult, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = next(str(c) for c in result.frame.query("policy == 'none'")["cell"])
    run_path = str(result.path)
    text = say(capsys, run_path, cell[:12])
    assert text.startswith(f"cell {cell}: none (")
    assert '"Failed to map p2m frame list' in text and "fate: stuck" in text
    told = json.loads(say(capsys, run_path, cell[:12], "--json"))
    assert (told["cell"], told["scenario"]["policy"]) == (cell, "none")
    events = list(replay_events(result.scenario(cell).to_trace()))
    assert len(told["events"]) == len(events)
    for event, replayed in zip(told["events"], events, strict=True):
        assert {name: event[name] for name in replayed} == replayed
        assert event["steps"]
    one = say(capsys, run_path, cell[:12], "--event", "1")
    assert "xen_setup_mfn_list_list(): The shared" in one and "the domain builder" not in one


def test_what_names_no_cell_is_one_line(
    result: SweepResult, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run_path = str(result.path)
    for args, message in (
        ([run_path], "say which cell"),
        ([run_path, "zzz"], "zzz"),
        ([run_path, ""], ""),
        ([run_path, "0", "--memory", "1GiB"], "--memory"),
        ([str(tmp_path), "0"], str(tmp_path)),
    ):
        line = say(capsys, *args, code=2)
        assert line.count("\n") == 1 and line.startswith("p2mbatch: error: ") and message in line
