"""The terminal's face: narrow ones, colours, groups, suggestions, completion, directories."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import p2mbatch.cli as command_line
from p2mbatch.base import terminal
from p2mbatch.base.say import counted, say
from p2mbatch.cli import completing
from p2mbatch.model.fates import FATES
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.sweeps.driver import sweep
from report_support import run as small_sweep

TRACES = Path(__file__).resolve().parents[2] / "data" / "traces"
ESCAPE = re.compile("\x1b\\[[0-9]*m")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "small"
    small_sweep(path, policy=["tracked", "stale"])
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        command_line.main([str(argument) for argument in arguments])
    done = capsys.readouterr()
    return int(stop.value.code or 0), done.out, done.err


def test_the_groups_of_help_hold_each_command_once() -> None:
    grouped = [name for names in command_line.GROUPS.values() for name in names]
    assert len(grouped) == len(set(grouped)) and set(command_line.COMMANDS) == set(grouped)


@pytest.mark.parametrize(
    ("typed", "meant"), [("swep", "did you mean sweep?"), ("zzz", "--help lists them")]
)
def test_a_mistyped_command_is_one_line_with_what_was_meant(
    capsys: pytest.CaptureFixture[str], typed: str, meant: str
) -> None:
    code, out, error = run(capsys, typed)
    assert (code, out) == (2, "") and error.count("\n") == 1
    assert error.startswith(f"p2mbatch: error: '{typed}' is no command") and meant in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["sweep", "--foo"],
        ["plot"],
        ["plot", "x", "nothing"],
        ["status"],
    ],
)
def test_usage_errors_are_one_line_and_name_their_help(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    code, out, error = run(capsys, *arguments)
    assert (code, out) == (2, "") and error.count("\n") == 1
    assert error.startswith("p2mbatch: error: ") and f"p2mbatch {arguments[0]} --help" in error


def test_only_names_of_fates_are_coloured_and_nothing_else_gets_through(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(terminal._FATES) == set(FATES)
    monkeypatch.setattr(terminal, "_state", {"mode": "always"})
    say("crashed, silently corrupted, uncrashed, stuck-up \x1b[31mred", fates=True)
    out = capsys.readouterr().out
    assert ESCAPE.findall(out) == ["\x1b[31m", "\x1b[0m", "\x1b[35m", "\x1b[0m"]
    assert "uncrashed, stuck-up \\x1b[31mred" in out
    monkeypatch.setattr(terminal, "_state", {"mode": "auto"})
    monkeypatch.setattr(terminal, "is_terminal", lambda stream: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert terminal.has_color()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not terminal.has_color()


def test_the_table_again_wide_and_narrow_with_colours_and_without(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    code, wide, _ = run(capsys, "show", store)
    assert code == 0 and "policy" in wide and "12 cells, 33 rows in" in wide
    code, colored, _ = run(capsys, "--color", "always", "show", store)
    assert ESCAPE.search(colored) and ESCAPE.sub("", colored) == wide
    monkeypatch.setenv("COLUMNS", "40")
    code, narrow, _ = run(capsys, "--color", "auto", "show", store)
    table = narrow.splitlines()[1:-1]
    assert max(map(len, table)) <= 40 and not ESCAPE.search(narrow)
    # The same numbers, however they are laid out.
    numbers = re.compile(r"(?<![\w–])\d+(?![\w–])")
    found = numbers.findall("\n".join(wide.splitlines()[3:-1]))
    assert sorted(numbers.findall("\n".join(table))) == sorted(found)


def test_a_story_fits_forty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    code, out, _ = run(capsys, "explain", TRACES / "dense-64-0.json.gz")
    # A word of the kernel's may be longer than what is left of a line.
    long = [line for line in out.splitlines() if len(line) > 40 and " " in line.strip()]
    assert code == 0 and not long


@pytest.mark.parametrize("command", [[], *([name] for name in command_line.COMMANDS)], ids="-".join)
def test_help_fits_forty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    code, out, _ = run(capsys, *command, "--help")
    long = [line for line in out.splitlines() if len(line) > 40 and " " in line.strip()]
    assert code == 0 and "--help" in out and not long


def test_a_status_fits_forty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    code, wide, _ = run(capsys, "status", store)
    monkeypatch.setenv("COLUMNS", "40")
    code, narrow, _ = run(capsys, "status", store)
    long = [line for line in narrow.splitlines() if len(line) > 40 and " " in line.strip()]
    assert code == 0 and not long and narrow.split() == wide.split()


def test_a_sweep_that_is_watched_is_read_once(tmp_path: Path) -> None:
    from p2mbatch.cli.watching import Watch
    from p2mbatch.store import results

    result = small_sweep(tmp_path / "run", policy=["tracked"])
    watch = Watch(result)
    assert watch.line(result) == "6 of 6 cells done; 6 survived"
    read: list[int] = []
    blocks = results.blocks

    def counted_blocks(connection: object, heads: list[object], names: object) -> object:
        read.append(len(heads))
        return blocks(connection, heads, names)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "blocks", counted_blocks)
        result.refresh()
        assert watch.line(result) == "6 of 6 cells done; 6 survived"
        assert read == [0]
        more = SweepSpec.from_options(memory="64MiB", seeds="4")
        sweep(more, tmp_path / "run", extend=True, progress="quiet")
        result.refresh()
        assert watch.line(result).endswith("; 10 survived")
        assert read[1:] == [len(result.marks) - 1]
    # What was damaged and is gone is counted no longer.
    watch._known = {*watch._known, b"another"}
    assert watch.line(result).endswith("; 10 survived")


def test_a_sweep_at_its_end_is_watched_no_longer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    code, out, _ = run(capsys, "status", "--watch", store)
    assert code == 0 and out.startswith("state     complete") and "12 cells" in out
    states = iter([4242, 4242, None])
    from p2mbatch.store import results

    monkeypatch.setattr(results, "holder_pid", lambda path: next(states, None))
    monkeypatch.setattr(sys.modules["p2mbatch.cli.status"], "WATCH_S", 0.0)
    code, out, _ = run(capsys, "status", "--watch", store)
    first, second, *rest = out.splitlines()
    assert first == second and first.startswith("12 of 12 cells done; ") and "survived" in first
    assert rest[0].startswith("state     complete")


def test_a_directory_of_traces_is_replayed_and_what_is_not_exact_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import gzip

    (tmp_path / "below").mkdir()
    text = gzip.decompress((TRACES / "dense-32-0.json.gz").read_bytes())
    value = json.loads(text)
    (tmp_path / "below" / "good.json").write_bytes(text)
    value["expected"][0]["brk_pages_used"] += 1
    (tmp_path / "wrong.json").write_text(json.dumps(value))
    (tmp_path / "notes.txt").write_text("no trace")
    code, out, _ = run(capsys, "replay", "--check", tmp_path)
    assert code == 1
    assert out.splitlines()[-2:] == ["1 of 2 traces exact", f"  not exact: {tmp_path}/wrong.json"]
    (tmp_path / "none" / "a.json").mkdir(parents=True)
    code, _, error = run(capsys, "replay", tmp_path / "none")
    assert code == 2 and "no traces are here" in error


def test_all_figures_at_once_and_what_can_not_be_drawn_is_said(
    capsys: pytest.CaptureFixture[str], store: Path, tmp_path: Path
) -> None:
    code, out, _ = run(capsys, "plot", store, "--all", tmp_path / "figures")
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert code == 0 and {"tree", "survival", "outcomes", "overhead", "cost"} <= drawn
    for name in ("tree", "survival", "outcomes", "corruption", "overhead", "cost"):
        assert name in drawn or f"{name}: not drawn: " in out
    locked = tmp_path / "locked"
    locked.mkdir()
    (locked / "tree.svg").mkdir()
    code, out, error = run(capsys, "plot", store, "--all", locked)
    assert (code, error.count("\n")) == (2, 1) and "not drawn" not in out
    code, _, error = run(capsys, "plot", store, "tree", "--all", tmp_path)
    assert code == 2 and "give nothing beside it" in error


def test_the_figures_that_help_lists_are_those_there_are() -> None:
    from p2mbatch.cli.plot import FIGURES
    from p2mbatch.plots import PLOTS

    assert list(FIGURES) == list(PLOTS)


def test_a_shell_is_offered_presets_policies_runs_and_cells(
    monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    def offered(words: str) -> list[str]:
        environment = {
            **os.environ,
            "_P2MBATCH_COMPLETE": "bash_complete",
            "COMP_WORDS": f"p2mbatch {words}",
            "COMP_CWORD": str(len(words.split(" "))),
        }
        done = subprocess.run(
            [sys.executable, "-m", "p2mbatch"], env=environment, capture_output=True, text=True
        )
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert "headline" in offered("sweep head")
    monkeypatch.chdir(store.parent)
    assert "./small" in offered("show ./s") and "small" in offered("show sm")
    assert "tracked,stale" in offered("sweep --policy tracked,st")
    assert str(store) in offered(f"show {store.parent}/")
    cells = offered(f"explain {store} ")
    assert len(cells) == 12 and all(re.fullmatch("[0-9a-f]{12}", cell) for cell in cells)
    assert [item.value for item in completing.run(None, None, str(store.parent / "nothing"))] == []


@pytest.mark.parametrize("arguments", [[], ["spec"]])
def test_a_command_without_arguments_is_its_help(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    code, out, error = run(capsys, *arguments)
    assert (code, out) == (2, "") and error.count("\n") > 8 and "Usage: p2mbatch" in error


def test_a_reader_that_has_gone_is_no_failure_and_a_closed_stdout_is_one_line() -> None:
    command = f"{sys.executable} -m p2mbatch policies"
    read, write = os.pipe()
    os.close(read)
    gone = subprocess.run(command.split(), stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (gone.returncode, gone.stderr) == (0, "")
    closed = subprocess.run(["sh", "-c", f"{command} >&-"], stderr=subprocess.PIPE, text=True)
    assert closed.returncode == 2 and closed.stderr.count("\n") == 1
    assert closed.stderr.startswith("p2mbatch: error: the output can't be written")


@pytest.mark.parametrize(("number", "text"), [(0, "0 cells"), (1, "1 cell"), (2000, "2,000 cells")])
def test_things_are_counted_in_words(number: int, text: str) -> None:
    assert counted(number, "cell") == text
