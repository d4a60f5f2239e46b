"""Names that lead to nothing that can be read: one line from every command that takes a path."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from p2mbatch.base import paths
from p2mbatch.base.errors import InputError
from p2mbatch.base.say import in_short
from p2mbatch.cli import main
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.sweeps.driver import sweep
from sweep_support import command, one_line, p2mbatch

ROOT = Path(__file__).parents[2]
TRACE = str(ROOT / "data" / "traces" / "dense-64-0.json.gz")
READS = [
    "show AT", "status AT", "report AT", "export AT -o y.csv", "compare AT AT", "spec check AT",
    "sweep AT --dry-run", "sweep --memory 4MiB --guest AT --dry-run",
    "sweep --memory 4MiB --neighbour-map AT --dry-run", "replay AT", "explain AT",
    "lookup AT --pfn 1", "audit AT", "import AT -o y", "race AT.json", "kernel check AT",
    f"replay --policy AT.py {TRACE}", "bench --smoke --sizes 4MiB --against AT",
    "fleet here --to AT",
]  # fmt: skip
WRITES = ["export run -o AT", "sweep --memory 4MiB -o AT", "plot run tree -o AT.svg"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a run, a directory of one guest, and one that nobody may search."""
    folder = tmp_path_factory.mktemp("unreachable")
    sweep(SweepSpec.from_options(memory="4MiB"), folder / "run", progress="quiet")
    (folder / "here").mkdir()
    (folder / "here" / "guest").write_bytes(b"none")
    (folder / "shut" / "in").mkdir(parents=True)
    return folder


def _failed(line: str, folder: Path, prefix: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, *command(*line.split())], cwd=folder, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("line", ["show AT", "sweep AT --dry-run", "replay AT", *WRITES])
def test_a_directory_that_may_not_be_searched(line: str, place: Path) -> None:
    prefix: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may search everything, and no setpriv takes that away")
        prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"]
    (place / "shut").chmod(0)
    try:
        failed = _failed(line.replace("AT", "shut/in/x"), place, prefix)
    finally:
        (place / "shut").chmod(0o755)
    one_line(failed, 2, "shut/in", "Permission denied")
    assert len(failed.stderr.splitlines()) == 1


@pytest.mark.parametrize("line", [*READS, *WRITES])
def test_what_the_system_says_of_a_name_is_one_line(
    line: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A directory that may not be searched, in this process; and a name that no file can have."""
    monkeypatch.chdir(place)
    asked, opened, open_one = os.stat, Path.open, os.open

    def refuse(path: object, call: object, *arguments: object, **options: object) -> object:
        if "shut/" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return call(path, *arguments, **options)  # type: ignore[operator]

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda path, **more: refuse(path, asked, **more))
        patch.setattr(os, "open", lambda path, *a, **more: refuse(path, open_one, *a, **more))
        patch.setattr(Path, "open", lambda path, *a, **more: refuse(path, opened, *a, **more))
        ends = [_end(line.replace("AT", "shut/x"), capsys)]
    ends.append(_end(line.replace("AT", "n" * 300), capsys))
    for code, said in ends:
        assert code == 2, said
        assert len(said.splitlines()) == 1, said
        assert said.startswith("p2mbatch: error: ")


def _end(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    return stop.value.code, capsys.readouterr().err


def test_nothing_else_asks_what_a_path_is() -> None:
    """`Path.is_file` and its like raise where these have a line."""
    asks = re.compile(r"\.(is_file|is_dir|exists|is_mount|is_socket|is_fifo)\(\)")
    allowed = {"compiled/cache.py", "compiled/jit.py"}
    """They look at the cache's own directories, and every error there means: compile."""
    found = {
        str(file.relative_to(ROOT / "p2mbatch"))
        for file in (ROOT / "p2mbatch").rglob("*.py")
        if asks.search(file.read_text("utf-8"))
    }
    assert found == allowed


def test_what_a_path_is() -> None:
    here = Path(__file__)
    assert paths.is_file(here) and paths.is_there(here) and not paths.is_dir(here)
    assert paths.is_dir(here.parent) and not paths.is_file(here.parent)
    for nothing in ("", "n" * 300, "a\0b", f"{here}/below", here.parent / "none"):
        assert not paths.is_file(nothing)
        assert not paths.is_dir(nothing)
        assert not paths.is_there(nothing)


# --- files that would be read without end -----------------------------------------------------

HOSTILE = {
    "fifo": lambda path: os.mkfifo(path),
    "zero": lambda path: path.symlink_to("/dev/zero"),
    "directory": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", ["lock", "journal.sqlite", "journal.sqlite-wal"])
def test_a_stores_file_that_is_none_is_named(
    name: str, kind: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(place / "run", tmp_path / "run")
    (tmp_path / "run" / name).unlink(missing_ok=True)
    HOSTILE[kind](tmp_path / "run" / name)
    monkeypatch.chdir(tmp_path)
    for line in ("show run", "sweep --memory 4MiB -o run", "export run -o y.csv"):
        code, said = _end(line, capsys)
        assert code == 2, said
        assert len(said.splitlines()) == 1, said
        assert "run" in said and "disk" not in said and "out of memory" not in said


def test_a_lock_of_gigabytes_is_not_read(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    os.truncate(tmp_path / "run" / "lock", 1 << 40)
    assert p2mbatch("show", str(tmp_path / "run")).returncode == 0


DEEP = "[" * 100_000
LONG_NUMBER = '{"a": ' + "9" * 5000 + "}"


@pytest.mark.parametrize("text", [DEEP, LONG_NUMBER, "\udc80", "{"])
@pytest.mark.parametrize(
    "line",
    [
        "sweep --memory 4MiB --engine dask --scheduler f.json -o z",
        "compare f.json f.json", "bench --smoke --sizes 4MiB --against f.json", "race f.json",
        "replay f.json", "sweep f.json --dry-run",
    ],
)  # fmt: skip
def test_json_that_is_none_is_one_line(
    line: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("f.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    code, said = _end(line, capsys)
    assert code == 2, said
    assert len(said.splitlines()) == 1, said
    assert "f.json" in said and "sys.set_int" not in said


@pytest.mark.parametrize("value", [2**63, 2**64, -(2**63) - 1, "7" * 200_000])
def test_an_export_with_a_number_too_large(
    value: object, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    main_ends(["export", str(place / "run"), "-o", "y.json"])
    document = json.loads(Path("y.json").read_text("utf-8"))
    for column in ("leaves", "migration"):
        document["rows"][0][column] = value
        Path("z.json").write_text(json.dumps(document), "utf-8")
        code, said = _end(f"compare {place / 'run'} z.json", capsys)
        assert code == 2, said
        assert len(said.splitlines()) == 1 and len(said) < 3000


def main_ends(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0


@pytest.mark.parametrize("hosts", [10**400, 18446744073709551616, "9" * 400 + "GiB"])
def test_a_host_larger_than_any_is_refused(hosts: object) -> None:
    text = {"sample": [{"n": 3, "memory": "64MiB", "policy": ["tracked"], "hosts": [[hosts]]}]}
    with pytest.raises(InputError, match="larger than any host is taken for") as told:
        SweepSpec.from_dict(text, "spec").check()
    assert "\n" not in str(told.value) and len(str(told.value)) < 300


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("race old.never.sc.same-leaf --sample 99999999999999999999", "--sample"),
        ("bench --smoke --sizes 0", "--sizes"),
        ("bench --smoke --sizes 3B", "--sizes"),
        ("sweep --memory 4MiB -o ", "--out"),
        ("fleet here --to big.csv -o f", "big.csv: line 2"),
        ("fleet here --to header.csv -o f", "header.csv: line 1"),
    ],
)
def test_what_is_too_large_or_nothing_is_refused(
    line: str, wanted: str, place: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    Path("big.csv").write_text(f"name,memory\nx,{'9' * 200_000}\n", "utf-8")
    Path("header.csv").write_text("n" * 200_000 + "\n", "utf-8")
    with pytest.raises(SystemExit) as stop:
        main(line.split(" "))
    said = capsys.readouterr().err
    assert stop.value.code == 2, said
    assert len(said.splitlines()) == 1 and wanted in said, said


def test_a_guest_with_the_longest_name_is_judged(tmp_path: Path) -> None:
    guests, name = tmp_path / "guests", "n" * 245
    guests.mkdir()
    shutil.copy(ROOT / "data" / "field" / "case-01-libvirt.save.gz", guests / name)
    done = p2mbatch("fleet", str(guests), "--to", "64GiB", "-o", str(tmp_path / "f"))
    assert done.returncode in (0, 1), done.stderr
    assert name in done.stdout


def test_a_long_line_keeps_its_beginning_and_its_end() -> None:
    assert in_short("short") == "short"
    line = in_short("f.toml: " + "x" * 100_000 + ": use 4KiB")
    assert len(line) < 2100
    assert line.startswith("f.toml: x") and line.endswith("x: use 4KiB")
