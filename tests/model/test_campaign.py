"""The campaign of random lives: it agrees; where models differ it finds, shrinks and says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from campaign import ends
from campaign.__main__ import Work, run, write_smallest
from campaign.compare import compare
from campaign.tally import Tally
from oracle import clauses, models, reference, toolstack
from oracle.build import Json
from oracle.lives import POLICIES, Wanted, lives
from oracle.machines import FORMATS
from oracle.reference import Machine

ROOT = Path(__file__).resolve().parents[2]
ONE = "p2mbatch-trace/1"
NUM_LIVES = 50


@pytest.mark.parametrize("format_name", sorted(FORMATS))
@pytest.mark.parametrize("policy", POLICIES)
def test_models_agree_on_random_lives(format_name: str, policy: str) -> None:
    wanted = Wanted(format_name, policy)
    done = run(Work("tests", 0, NUM_LIVES, wanted, naive_only=False))
    assert done.difference is None, f"life {done.index}: {done.difference}"
    assert not done.refused
    assert done.tally.lives == NUM_LIVES


@pytest.mark.lane
@pytest.mark.parametrize("format_name", sorted(FORMATS))
def test_models_agree_on_a_few_random_lives(format_name: str) -> None:
    done = run(Work("lane", 0, 12, Wanted(format_name, one_in_wide=0), naive_only=False))
    assert done.difference is None, f"life {done.index}: {done.difference}"


@pytest.mark.parametrize("format_name", sorted(FORMATS))
def test_watching_a_life_changes_nothing_of_it(format_name: str) -> None:
    for trace in lives("watched", 0, 60, Wanted(format_name, one_in_wide=0)):
        results, reached = clauses.watch(trace)
        assert results == reference.replay(trace)
        assert reached <= set(clauses.CLAUSES)


def test_a_life_is_the_same_whatever_others_are_made() -> None:
    wanted = Wanted("p2mbatch-trace/2")
    assert lives("s", 0, 12, wanted)[7:9] == lives("s", 7, 2, wanted)
    assert lives("s", 0, 3, wanted) != lives("t", 0, 3, wanted)


@pytest.mark.parametrize("format_name", sorted(FORMATS))
def test_lives_are_what_is_wanted(format_name: str) -> None:
    """No frame and no PFN twice, all below the host's end, and the structures apart."""
    for trace in lives("valid", 0, 200, Wanted(format_name, one_in_wide=0)):
        assert trace["format"] == format_name
        for host in trace["hosts"]:
            domain = dict(pairs(host["domain"]))
            foreign = dict(pairs(host["foreign"]))
            assert len(domain) == len(set(domain.values())) == sum(run[2] for run in host["domain"])
            assert len(foreign) == sum(run[2] for run in host["foreign"])
            assert max([*domain.values(), *foreign], default=0) < host["frames"]
        guest = trace["guest"]
        pages = [guest["brk_pfn"] + i for i in range(guest["brk_pages"])]
        leaves = -(-guest["nr_pages"] * guest["word_bytes"] // 4096)
        pages += [guest["mfn_list_pfn"] + i for i in range(leaves)]
        pages += [pfn + i for pfn, count in guest["page_pool"] for i in range(count)]
        assert len(pages) == len(set(pages))
        assert max(pages) < min(guest["nr_pages"], guest["directmap_pages"])


def pairs(runs: list[list[int]]) -> list[tuple[int, int]]:
    return [(first + i, second + i) for first, second, count in runs for i in range(count)]


@pytest.mark.parametrize("format_name", sorted(FORMATS))
def test_most_ends_and_clauses_are_reached_in_a_few_lives(format_name: str) -> None:
    """The weights aim: what a run of this size never reaches is a small part."""
    tally = Tally(format_name)
    for trace in lives("reach", 0, 600, Wanted(format_name, one_in_wide=100)):
        tally.add(trace, *clauses.watch(trace))
    expected = len(clauses.expected_of(format_name)) + len(ends.never(set(), format_name))
    missing = tally.never()
    assert len(missing) < expected / 3, missing
    report = "\n".join(tally.lines())
    assert all(name in report for name in missing)
    # What no policy or format can come to is not missed, and would be seen as unnamed.
    assert {end for _, end in tally.ends} <= set(ends.ENDS)


# --- a model that differs ---------------------------------------------------------------------


def altered(trace: Json) -> list[Json]:
    """A model with a fault: it maps a frame list that is not the guest's."""

    def save(guest: Machine) -> tuple[int, list[int]]:
        guest.host.owned.add(guest.page(guest.pfn_at(guest.top_mfn))[0])
        return right(guest)

    right = toolstack.save
    try:
        toolstack.save = save
        return reference.replay(trace)
    except KeyError:
        return []
    finally:
        toolstack.save = right


def test_a_difference_is_found_shrunk_and_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(models.REPLAYS, models.Compiled, altered)
    wanted = Wanted(ONE, "stale")
    done = run(Work("mutant", 0, 400, wanted, naive_only=False))
    assert done.difference is not None
    [trace] = lives("mutant", done.index, 1, wanted)
    path = tmp_path / "out" / "smallest.json"
    difference = write_smallest(trace, path)
    small = json.loads(path.read_text(encoding="utf-8"))
    assert str(difference) == str(compare(small).difference)
    assert small["expected"] == reference.replay(small)
    size = len(json.dumps(trace)) + len(trace["events"])
    assert len(json.dumps(small | {"expected": []})) < size
    assert len(small["events"]) <= 3
    # With the right model it is a trace like any other.
    monkeypatch.undo()
    assert compare(small).difference is None


def test_what_the_compiled_model_raises_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(trace: Json) -> list[Json]:
        raise IndexError("page 7")

    monkeypatch.setitem(models.REPLAYS, models.Compiled, fails)
    done = run(Work("raise", 0, 3, Wanted(ONE), naive_only=False))
    assert done.index == 0
    assert "IndexError: page 7" in str(done.difference)


def test_the_command_reports_and_is_repeatable(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "campaign", "--lives", "40", "--format", ONE, "--out"]
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    outputs = [
        subprocess.run(
            [*command, str(tmp_path), "--processes", processes],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for processes in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert f"{ONE}: no difference in 40 lives" in outputs[0]
    assert "never reached:" in outputs[0]
    assert not list(tmp_path.iterdir())
