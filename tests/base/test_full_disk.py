"""A disk that is full at each single write of each command: one line, exit 2, nothing left."""

import errno
import os
import resource
import shutil
from pathlib import Path

import pytest

import p2mbatch.cli as command_line
from p2mbatch.base.errors import InputError
from p2mbatch.base.files import write_whole
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.written_out import scenario_trace
from p2mbatch.model.trace_file import write_trace
from sweep_support import fill


class Full:
    """A shim below `Path.open`: the `fails_at`-th step of a file that is written finds no room.

    Steps are opening, each write, closing, and taking the old file's place.
    """

    def __init__(self, monkeypatch):
        self.fails_at, self.steps = -1, 0
        real_open, real_replace = Path.open, Path.replace

        def opened(path, mode="r", *rest, **options):
            if "w" not in mode:
                return real_open(path, mode, *rest, **options)
            self.step()
            return Shim(self, real_open(path, mode, *rest, **options))

        def replace(path, target):
            self.step()
            return real_replace(path, target)

        monkeypatch.setattr(Path, "open", opened)
        monkeypatch.setattr(Path, "replace", replace)

    def step(self):
        self.steps += 1
        if self.steps - 1 == self.fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def start(self, fails_at):
        self.fails_at, self.steps = fails_at, 0


class Shim:
    """A file that asks its disk before each write, and when it is closed."""

    def __init__(self, disk, file):
        self._disk, self._file = disk, file

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, data):
        self._disk.step()
        return self._file.write(data)

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest):
        self._file.close()
        if kind is None:
            self._disk.step()


COMMANDS = {
    "make-stream": ["trace.json", "-o", "out"],
    "make-core": ["trace.json", "-o", "out"],
    "anonymise": ["trace.json", "-o", "out.json.gz"],
    "import": ["listing", "-o", "out.json", "--policy", "stale", "--no-check"],
    "audit": ["listing", "--html", "out.html"],
    "report": ["store", "-o", "out.html"],
    "plot": ["store", "survival", "-o", "out.svg"],
    "race": ["--cpu", "set 0 1", "--draw", "out.svg"],
    "notebooks": ["out"],
    "export parquet": ["store", "-o", "out.parquet"],
    "export csv": ["store", "-o", "out.csv"],
    "export json": ["store", "-o", "out.json"],
}
"""Every command that writes a file, but for `sweep`, whose store has tests of its own, and
`bench`, which takes longer and writes as `report` does."""

MANY_STEPS = 6
"""A guest's pages are written one like the other: of more steps the first and last ones fail."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """What the commands read."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "listing").write_text(" [0x0->0x10000] pfn\n")
    write_trace(scenario_trace(Scenario(memory_bytes=4 << 20)), folder / "trace.json")
    fill(folder / "store", range(3))
    return folder


def files_below(folder):
    """Return each file's bytes by its name, `folder` itself where it is one."""
    found = [folder] if folder.is_file() else sorted(folder.rglob("*"))
    return {path.name: path.read_bytes() for path in found if path.is_file()}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_write_of_a_command(name, inputs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(inputs)
    # What is drawn is not what is written here, and drawing takes seconds.
    monkeypatch.setattr("p2mbatch.report.sweep._figures", lambda *_: [])
    out = tmp_path / next(a for a in COMMANDS[name] if a.startswith("out"))
    arguments = [str(out) if a == out.name else a for a in COMMANDS[name]]
    disk = Full(monkeypatch)

    def run(fails_at):
        for path in tmp_path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if name != "notebooks":
            out.write_bytes(b"as before")
        disk.start(fails_at)
        with pytest.raises(SystemExit) as stop:
            command_line.main([name.split()[0], *arguments])
        return stop.value.code, capsys.readouterr().err

    # The first run may write kernels into their cache, too.
    assert run(-1)[0] in (0, 1)
    assert run(-1)[0] in (0, 1)
    num, whole = disk.steps, files_below(tmp_path)
    assert num >= 4 and whole.get(out.name) != b"as before"
    allowed = {file: {data} for file, data in whole.items()}
    allowed.setdefault(out.name, set()).add(b"as before")
    half = MANY_STEPS // 2
    steps = range(num) if num <= MANY_STEPS else [*range(half), num // 2, *range(num - half, num)]
    for step in steps:
        code, errors = run(step)
        assert (code, errors.count("\n")) == (2, 1), (step, errors)
        assert "No space left" in errors and "Traceback" not in errors
        # Each file whole or as before, and nothing else: what says so comes last.
        found = files_below(tmp_path)
        assert all(found[file] in allowed[file] for file in found), (step, list(found))
        assert found != whole


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_file_that_may_not_grow_beyond_each_size(ending, tmp_path):
    target = tmp_path / f"x{ending}"
    target.write_bytes(b"as before")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    pieces = [os.urandom(2000) for _ in range(10)]

    def write(file):
        for piece in pieces:
            file.write(piece)

    for size in range(0, 20_000, 997):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            with pytest.raises(InputError, match="File too large"):
                write_whole(target, write)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert target.read_bytes() == b"as before"
        assert list(tmp_path.iterdir()) == [target]
    write_whole(target, write)
    assert target.read_bytes() != b"as before"
