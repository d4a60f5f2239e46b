"""A disk that is full at each single write of each command: one line, exit 2, nothing left."""

import errno
import os
import resource
from pathlib import Path

import pytest

import p2mbatch.cli as command_line
from p2mbatch.base.errors import InputError
from p2mbatch.base.files import write_whole
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.written_out import scenario_trace
from p2mbatch.model.trace_file import write_trace


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
    "make-stream": ["make-stream", "trace.json", "-o", "out"],
    "make-core": ["make-core", "trace.json", "-o", "out"],
    "anonymise": ["anonymise", "trace.json", "-o", "out.json.gz"],
    "import": ["import", "listing", "-o", "out.json", "--policy", "stale", "--no-check"],
    "audit": ["audit", "listing", "--html", "out.html"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_write_of_a_command(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "listing").write_text(" [0x0->0x10000] pfn\n")
    write_trace(scenario_trace(Scenario(memory_bytes=4 << 20)), tmp_path / "trace.json")
    out = tmp_path / next(str(a) for a in COMMANDS[name] if str(a).startswith("out"))
    disk = Full(monkeypatch)

    def run(fails_at):
        out.write_bytes(b"as before")
        disk.start(fails_at)
        with pytest.raises(SystemExit) as stop:
            command_line.main([str(a) for a in COMMANDS[name]])
        return stop.value.code, capsys.readouterr().err

    # The first run may write kernels into their cache, too.
    assert run(-1)[0] in (0, 1)
    assert run(-1)[0] in (0, 1)
    num = disk.steps
    assert num >= 4 and out.read_bytes() != b"as before"
    # Each of the first and the last; a guest's pages in between are one like the other.
    for step in sorted({0, 1, 2, num // 2, num - 2, num - 1}):
        code, errors = run(step)
        assert (code, errors.count("\n")) == (2, 1), (step, errors)
        assert "No space left" in errors and "Traceback" not in errors
        assert out.read_bytes() == b"as before", step
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {"listing", "trace.json", out.name}


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
