"""The hunt around a hunter: generations, finds, resuming, exit codes, what is written."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hunt.slow import SlowHunter, draw
from p2mbatch.base.errors import InputError
from p2mbatch.cli import hunt as command
from p2mbatch.cli import main
from p2mbatch.hunt.herd import Herd
from p2mbatch.hunt.hunting import hunt
from p2mbatch.hunt.judge import in_world
from p2mbatch.hunt.state import STATE, Find, Folder, Progress
from p2mbatch.model.trace_file import parse_trace

QUESTION = {"policy": "tracked", "seed": 1}


class Quiet:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.counts: list[int] = []

    def begin(self, progress: Progress) -> None:
        self.begun = progress.all_lives

    def looking(self) -> None:
        pass

    def found(self, find: Find) -> None:
        self.kinds.append(find.kind)

    def lived(self, progress: Progress) -> None:
        self.counts.append(progress.all_lives)


def maker(policy: str = "tracked", seed: int = 1, **options: Any) -> Callable[[Any], SlowHunter]:
    return lambda state: SlowHunter(policy, seed=seed, state=state, **options)


def run(path: Path, lives: int | None, seconds: float | None = None) -> tuple[Progress, Quiet]:
    folder, watcher = Folder(path, dict(QUESTION)), Quiet()
    with folder.held():
        return hunt(maker(), folder, lives, seconds, watcher), watcher


def written(path: Path) -> dict[str, bytes]:
    """What a hunt wrote, but for times."""
    kept = {file.name: file.read_bytes() for file in path.glob("*.trace.json.gz")}
    summary = json.loads((path / "summary.json").read_text())
    for name in ("seconds", "lives_per_second"):
        summary.pop(name)
    return kept | {"summary": json.dumps(summary).encode()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hunt of 28 lives in one piece: three generations of 8 and a part of one."""
    path = tmp_path_factory.mktemp("hunt") / "whole"
    run(path, 28)
    return path


@pytest.mark.parametrize("policy", ["tracked", "mid-identity", "two-level", "linear"])
def test_drawn_lives_are_of_the_world(policy: str) -> None:
    import random

    for i in range(5):
        assert in_world(parse_trace(draw(policy, random.Random(f"world/{i}")))) is None


def test_the_lives_are_counted_exactly(whole: Path) -> None:
    summary = json.loads((whole / "summary.json").read_text())
    assert (summary["lives"], summary["generations"]) == (28, 3)
    assert summary["unconfirmed_lives"] == 0
    assert summary["broken_lives"] > 0
    kinds = [find["kind"] for find in summary["finds"]]
    assert "unset-entry-in-the-tail" in kinds
    assert all((whole / find["trace"]).exists() for find in summary["finds"])
    assert all(find["life"] < 28 and find["events"] <= 6 for find in summary["finds"])


@pytest.mark.parametrize("stops", [(28,), (5, 11, 16, 28)])
def test_a_hunt_that_was_stopped_finds_the_same(
    whole: Path, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    seen = []
    for lives in stops:
        progress, watcher = run(tmp_path / "x", lives)
        assert progress.all_lives == lives
        seen += watcher.kinds
    assert written(tmp_path / "x") == written(whole)
    assert set(seen) == {find.kind for find in progress.finds}


def test_enough_lives_are_not_lived_again(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "x")
    progress, watcher = run(tmp_path / "x", 20)
    assert (progress.all_lives, watcher.counts) == (28, [])


def test_time_cuts_between_generations(tmp_path: Path) -> None:
    progress, watcher = run(tmp_path / "x", None, 0.0)
    assert (progress.all_lives, watcher.counts) == (8, [8])
    progress, watcher = run(tmp_path / "x", None, 0.0)
    assert (watcher.begun, watcher.counts) == (8, [16])


def test_a_hunt_that_was_killed_goes_on_from_its_last_barrier(whole: Path, tmp_path: Path) -> None:
    class Dies(SlowHunter):
        def keep(self, generation: Any) -> None:
            if self.kept == 2:
                raise KeyboardInterrupt
            super().keep(generation)

    folder = Folder(tmp_path / "x", dict(QUESTION))
    with folder.held(), pytest.raises(KeyboardInterrupt):
        hunt(lambda state: Dies("tracked", seed=1, state=state), folder, 28, None, Quiet())
    assert folder.load()[0].all_lives == 16
    run(tmp_path / "x", 28)
    assert written(tmp_path / "x") == written(whole)


def test_another_question_is_refused(whole: Path) -> None:
    folder = Folder(whole, QUESTION | {"seed": 2})
    with folder.held(), pytest.raises(InputError, match="has another hunt, seed 1 and not 2"):
        folder.load()


def test_a_folder_is_one_hunts(tmp_path: Path) -> None:
    folder = Folder(tmp_path, dict(QUESTION))
    with folder.held():
        other = Folder(tmp_path, dict(QUESTION)).held()
        with pytest.raises(InputError, match="another hunt is at work"):
            other.__enter__()
    with folder.held():
        pass


@pytest.mark.parametrize("damage", ["text", "cut", "array", "pickle"])
def test_what_is_no_state_is_said(whole: Path, tmp_path: Path, damage: str) -> None:
    data = (whole / STATE).read_bytes()
    path = tmp_path / STATE
    if damage in ("text", "cut"):
        path.write_bytes(b"{}" if damage == "text" else data[: len(data) // 2])
    else:
        value = np.array([{}], object) if damage == "pickle" else np.zeros(3)
        np.savez(path, hunt=value)
    with pytest.raises(InputError, match="is not a hunt's"):
        Folder(tmp_path, dict(QUESTION)).load()


def test_any_number_of_threads_finds_the_same(tmp_path: Path) -> None:
    for threads in (1, 2):
        folder = Folder(tmp_path / str(threads), dict(QUESTION))
        with folder.held():
            hunt(partial(Herd, "tracked", 1, threads), folder, 600, None, Quiet())
    assert written(tmp_path / "1") == written(tmp_path / "2")
    assert json.loads(written(tmp_path / "1")["summary"])["unconfirmed_lives"] == 0


# --- the command -------------------------------------------------------------------------------


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command with the slow hunter in the compiled one's place."""
    monkeypatch.setattr(command, "_hunter", lambda name, seed, threads: maker(name, seed))


def called(args: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        main(["hunt", *args])
    return int(end.value.code or 0)


@pytest.mark.usefixtures("slow")
def test_what_is_new_exits_1_and_what_is_known_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "x")
    args = ["--policy", "tracked", "--lives", "16", "--seed", "1", "-o", out]
    assert called(args) == 1
    text, said = capsys.readouterr()
    assert "rule 7: an entry that was never set reads INVALID" in text
    assert "new: unset-entry-in-the-tail" in said
    assert "16 lives" in text
    kinds = [
        find["kind"] for find in json.loads((tmp_path / "x/summary.json").read_text())["finds"]
    ]
    known = tmp_path / "known.txt"
    known.write_text("\n".join(kinds[1:]) + "\n# the last of them is not\n")
    assert called([*args, "--known", str(known)]) == 1
    known.write_text("\n".join(kinds))
    capsys.readouterr()
    assert called([*args, "--known", str(known), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["lives"] == 16
    assert all(find["known"] for find in told["finds"])


@pytest.mark.usefixtures("slow")
def test_finds_replay_and_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x"
    assert called(["--linux", "2.6.32", "--lives", "6", "-o", str(out)]) == 1
    files = sorted(map(str, out.glob("*.trace.json.gz")))
    assert files
    capsys.readouterr()
    for command_line in (["replay", "--check", *files], *(["explain", file] for file in files)):
        with pytest.raises(SystemExit) as end:
            main(command_line)
        assert not end.value.code
    assert f"{len(files)} of {len(files)} traces exact" in capsys.readouterr().out


@pytest.mark.usefixtures("slow")
def test_another_hunt_in_the_folder_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--policy", "tracked", "--lives", "3", "-o", str(tmp_path / "x")]
    called([*args, "--seed", "1"])
    capsys.readouterr()
    assert called([*args, "--seed", "2"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "has another hunt, seed 1 and not 2" in said[0]


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ([], "name the kernel to break"),
        (["--policy", "nosuch"], "policy: 'nosuch' is unknown"),
        (["--policy", "tracked", "--linux", "5.10"], "give it or --policy, not both"),
        (["--linux", "9"], "is no release of Linux"),
        (["--policy", "tracked", "--lives", "0"], "--lives"),
        (["--policy", "tracked", "--seconds", "-1"], "--seconds"),
        (["--policy", "tracked", "--known", "/nowhere/known"], "can't be read"),
        (["--policy", "tracked", "-o", "/proc/x"], "can't be written to"),
        (["--policy", "missing.py"], "can't be read"),
    ],
)
def test_bad_input_is_one_line(
    args: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(args) == 2
    assert why in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_in_one_line_and_loses_nothing(tmp_path: Path, number: int) -> None:
    args = ["hunt", "--policy", "tracked", "--seconds", "600", "-o", str(tmp_path / "x")]
    hunting = subprocess.Popen(
        [sys.executable, "-m", "p2mbatch", *args],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = time.monotonic() + 300
    while not (tmp_path / "x" / STATE).exists() and time.monotonic() < end:
        time.sleep(0.1)
    hunting.send_signal(number)
    text, said = hunting.communicate(timeout=60)
    assert hunting.returncode == 128 + number
    lines = [line for line in said.splitlines() if not line.startswith("new: ")]
    assert (text, len(lines)) == ("", 1)
    progress, barrier, arrays = Folder(tmp_path / "x", {"policy": "tracked", "seed": 0}).load()
    assert progress == barrier
    assert progress.lives > 0
    assert arrays is not None
