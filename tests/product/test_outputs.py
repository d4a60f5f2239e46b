"""Outputs: every command writes whole files or none, and says in one line where it can't.

One writer does it, `p2mbatch/base/files.py`; what else opens a file for writing keeps a lock or
the cache, and is named here.
"""

from __future__ import annotations

import ast
import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from p2mbatch.cli import COMMANDS, main
from p2mbatch.guests.scenario import Scenario
from p2mbatch.model.trace_file import write_trace
from p2mbatch.spec.sweep_spec import SweepSpec
from sweep_support import run

ROOT = Path(__file__).resolve().parents[2]

OUTPUTS = {
    # command, option -> the command with OUT where the output goes, and how the file's name ends
    ("report", "output"): (["report", "RUN", "--markdown", "-o", "OUT"], ".md"),
    ("plot", "output"): (["plot", "RUN", "survival", "-o", "OUT"], ".svg"),
    ("export", "output"): (["export", "RUN", "--format", "csv", "-o", "OUT"], ".csv"),
    ("race", "draw"): (["race", "--cpu", "set 0 1", "--draw", "OUT"], ".svg"),
    ("import", "out"): (["import", "STREAM", "--policy", "tracked", "-o", "OUT"], ".json"),
    ("anonymise", "out"): (["anonymise", "TRACE", "-o", "OUT"], ".json"),
    ("make-stream", "out"): (["make-stream", "TRACE", "-o", "OUT"], ".sav"),
    ("make-core", "out"): (["make-core", "TRACE", "-o", "OUT"], ".core"),
    ("audit", "html"): (["audit", "STREAM", "--html", "OUT"], ".html"),
    ("explain", "html"): (["explain", "TRACE", "--html", "OUT"], ".html"),
    ("kernel build", "out"): (["kernel", "build", "KERNEL", "-o", "OUT"], ".p2mk"),
}  # fmt: skip

FOLDERS = {
    ("sweep", "out"): ["sweep", "--memory", "64MiB", "--seeds", "1", "--quiet", "--out", "OUT"],
    ("fleet", "out"): ["fleet", "DUMPS", "--to", "4GiB", "--seeds", "1", "--out", "OUT"],
    ("notebooks", "copy_to"): ["notebooks", "OUT"],
    ("hunt", "out"): ["hunt", "--policy", "tracked", "--lives", "1", "--out", "OUT"],
    ("bench", "out"): ["bench", "--smoke", "--sizes", "64MiB", "--out", "OUT"],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A run, a trace and a stream, by the names that stand for them above."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "dumps").mkdir()
    run(SweepSpec.from_options(memory="64MiB", seeds="2"), folder / "run")
    write_trace(Scenario(memory_bytes="4MiB", migrations=1).to_trace(), folder / "t.json")
    with pytest.raises(SystemExit) as end:
        main(["make-stream", str(folder / "t.json"), "-o", str(folder / "dumps" / "g.sav")])
    assert end.value.code == 0
    named = {"RUN": "run", "TRACE": "t.json", "STREAM": "dumps/g.sav", "DUMPS": "dumps"}
    kernel = str(ROOT / "tests/kernels/tracked.c")
    return {"KERNEL": kernel, **{name: str(folder / file) for name, file in named.items()}}


def refused(args: list[str], out: str, made: dict[str, str], capsys: pytest.CaptureFixture) -> str:
    """Run a command whose output can't be written; return its one line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([out if part == "OUT" else made.get(part, part) for part in args])
    lines = capsys.readouterr().err.splitlines()
    assert end.value.code == 2, lines
    # Click's own, of a directory where a file is named, begins as its lines do.
    assert lines[-1].startswith(("p2mbatch: error: ", "Error: Invalid value for"))
    assert out.split("/")[-1] in lines[-1]
    return lines[-1]


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Yield each command and its name, those of groups with the group's before it."""
    for name, (module, attribute, _) in COMMANDS.items():
        command = getattr(importlib.import_module(f"p2mbatch.cli.{module}"), attribute)
        yield name, command
        for inner in getattr(command, "commands", {}).values():
            yield f"{name} {inner.name}", inner


def test_every_output_of_every_command_is_named_here() -> None:
    found = set()
    for name, command in every_command():
        for option in command.params:
            told = getattr(option, "help", None) or ""
            if option.name in ("out", "output", "html", "draw", "copy_to") or "write" in told:
                found.add((name, option.name))
    assert found == OUTPUTS.keys() | FOLDERS.keys()


@pytest.mark.parametrize("which", OUTPUTS, ids="-".join)
def test_a_place_that_takes_no_file_is_one_line(
    which: tuple[str, str], made: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    args, ending = OUTPUTS[which]
    refused(args, f"/nowhere/x{ending}", made, capsys)
    # A directory that takes no files, even from root, and one that does but is no file itself.
    refused(args, f"/proc/x{ending}", made, capsys)
    (tmp_path / f"folder{ending}").mkdir()
    refused(args, str(tmp_path / f"folder{ending}"), made, capsys)
    # Full: by a link, since some commands want an ending.
    (tmp_path / f"full{ending}").symlink_to("/dev/full")
    assert "No space left" in refused(args, str(tmp_path / f"full{ending}"), made, capsys)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"folder{ending}", f"full{ending}"]


@pytest.mark.parametrize("which", FOLDERS, ids="-".join)
def test_a_folder_that_can_not_be_made_is_one_line(
    which: tuple[str, str], made: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    refused(FOLDERS[which], "/proc/x", made, capsys)
    (tmp_path / "file").touch()
    refused(FOLDERS[which], str(tmp_path / "file"), made, capsys)


@pytest.mark.parametrize("which", OUTPUTS, ids="-".join)
def test_what_was_there_stays_until_the_new_is_whole(
    which: tuple[str, str],
    made: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    args, ending = OUTPUTS[which]
    target = tmp_path / f"x{ending}"
    target.write_text("old")

    def interrupted(path: Path, other: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "replace", interrupted)
    assert "No space left" in refused(args, str(target), made, capsys)
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == [target.name]


MAY_OPEN = {
    "base/files.py": "the writer",
    "compiled/cache.py": "compiled code, with its digest",
    "hunt/state.py": "the lock, which has no words in it",
    "kernels/build.py": "a kernel's program, in the cache",
    "kernels/compiler.py": "the compiler's room, which goes with it",
}

_WRITES = {"write_text", "write_bytes", "copyfile", "copy2", "copytree", "savefig", "to_csv",
           "to_parquet", "tofile", "savez", "mkstemp", "NamedTemporaryFile"}  # fmt: skip

# Of a figure, into a file that is open or in memory.
_INTO_FILES = {
    "figure.savefig(drawn, format=kind, metadata=metadata)",
    "figure.savefig(buffer, format='svg', metadata={'Date': None, 'Creator': None})",
    "figure.savefig(raw, format='png', dpi=130)",
}


def _writers(path: Path) -> set[str]:
    """Return the calls in a file that write a file by its name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        words = [a.value for a in [*node.args, *(k.value for k in node.keywords)]
                 if isinstance(a, ast.Constant) and isinstance(a.value, str)]  # fmt: skip
        writes = any(set(word) <= set("wxabt+") and set(word) & set("wxa+") for word in words)
        if name in ("open", "fdopen", "TemporaryFile") and writes:
            found.add(ast.unparse(node))
        if name in _WRITES and isinstance(node.func, ast.Attribute):
            found.add(ast.unparse(node))
    return found


def test_nothing_else_writes_a_file_by_its_name() -> None:
    found = {}
    for path in (ROOT / "p2mbatch").rglob("*.py"):
        name = str(path.relative_to(ROOT / "p2mbatch"))
        if name not in MAY_OPEN:
            calls = _writers(path) - _INTO_FILES
            if calls:
                found[name] = calls
    assert found == {}
    for name in MAY_OPEN:
        assert _writers(ROOT / "p2mbatch" / name), name
