"""Files that change or are none while they are read, and what the commands do with files."""

import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest

from dump_guests import build, core, stream
from p2mbatch.base.errors import InputError
from p2mbatch.base.sources import FileBytes
from p2mbatch.dumps.audit.findings import audit
from p2mbatch.dumps.importing.to_trace import is_trace_file
from p2mbatch.dumps.readers.read import read_bytes, read_dump


@pytest.mark.parametrize("change", ["cut", "write", "grow"])
@pytest.mark.parametrize("kind", ["stream", "core"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, change, kind):
    image = build(1, 8, 3000)
    path = tmp_path / "guest"
    data = stream(image) if kind == "stream" else core(image)
    path.write_bytes(data)
    os.utime(path, ns=(0, 0))
    guest = read_dump(path)
    if change == "cut":
        os.truncate(path, 5000)
    else:
        with path.open("r+b") as file:
            file.seek(0 if change == "write" else len(data))
            file.write(b"other")
    with pytest.raises(InputError, match="changed while it was read"):
        audit(guest)


def test_a_file_that_another_takes_the_place_of_is_read_to_its_end(tmp_path):
    image, other = build(1, 8, 3000), build(2, 8, 900)
    path, second = tmp_path / "guest", tmp_path / "second"
    path.write_bytes(stream(image))
    second.write_bytes(stream(other))
    guest = read_dump(path)
    second.replace(path)
    assert np.array_equal(guest.p2m.to_array(), image.p2m)


def test_bytes_of_a_file_are_its_own_however_they_are_asked_for(tmp_path):
    path = tmp_path / "x"
    data = np.random.default_rng(1).bytes(100_000)
    path.write_bytes(data)
    with path.open("rb") as file:
        held = FileBytes(file.fileno(), "x", 10)
    assert len(held) == len(data) - 10
    for at, size in ((0, 8), (8, 8), (50_000, 4096), (0, 99_990), (49_000, 3000), (99_980, 10)):
        assert bytes(held.read(at, size)) == data[10 + at : 10 + at + size]


def test_a_file_that_says_it_is_empty_is_read_all_the_same():
    # As debugfs has it; this one is there on every Linux.
    with pytest.raises(InputError, match="expected a save file"):
        read_dump("/proc/self/maps")


def test_standard_input_that_is_closed_is_said():
    code = "import sys; from p2mbatch.cli import main; main(['audit', '-'])"
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -c "{code}" <&-'], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == "p2mbatch: error: standard input: is closed, or not a file or pipe\n"


def test_a_pipe_is_never_taken_for_a_trace(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    # Opened to look, it would wait here for ever, or lose what was read.
    assert not is_trace_file(str(fifo))
    assert not is_trace_file("-")


# --- commands ----------------------------------------------------------------------------------


def p2mbatch(*arguments):
    """Run the command in a process of its own; return (exit code, stdout, stderr)."""
    done = subprocess.run(
        [sys.executable, "-m", "p2mbatch", *map(str, arguments)], capture_output=True, timeout=120
    )
    return done.returncode, done.stdout, done.stderr.decode()


def test_the_file_that_is_read_is_never_written_over(tmp_path):
    path = tmp_path / "guest.save"
    data = stream(build(1, 8, 2000, populated=1.0))
    path.write_bytes(data)
    for command in (["import", path, "-o", path], ["anonymise", path, "-o", path]):
        code, _, error = p2mbatch(*command)
        assert code == 2 and error.count("\n") == 1 and "is the file that is read" in error
    code, _, error = p2mbatch("audit", path, "--html", path)
    assert code == 2 and "is the file that is read" in error
    assert path.read_bytes() == data and [p.name for p in tmp_path.iterdir()] == ["guest.save"]


def test_places_that_can_not_be_written_are_one_line(tmp_path):
    path = tmp_path / "guest.save"
    path.write_bytes(stream(build(1, 8, 2000, populated=1.0)))
    for out, words in (
        ("/dev/full", "No space left"),
        (tmp_path / "none" / "x", "not a directory"),
    ):
        code, _, error = p2mbatch("import", path, "--policy", "tracked", "-o", out)
        assert code == 2 and error.count("\n") == 1
        assert f"{out}: can't be written there" in error and words in error


def test_a_trace_goes_to_standard_output_alone(tmp_path):
    path = tmp_path / "guest.save"
    path.write_bytes(stream(build(1, 8, 2000, populated=1.0)))
    code, out, error = p2mbatch(
        "import", path, "-o", "/dev/stdout", "--name", "guest", "--policy", "tracked"
    )
    assert code == 0 and "boots with" in error
    assert json.loads(out)["name"] == "guest"


def test_a_host_too_small_for_the_guest_is_noted():
    guest = read_bytes(stream(build(1, 8, 700)))
    assert not audit(guest).to_json()["notes"]
    found = audit(guest, max_mfn=1000).to_json()
    assert "a host of 1000 frames was named" in found["notes"][0]


def test_a_listing_without_frames_shows_no_zero_frames():
    found = audit(read_bytes(b" [0x0->0x100] pfn\n [0x100->0x800] missing\n [0x800->0x900] pfn\n"))
    assert found.to_json()["hazards"] == []


def test_the_page_draws_no_tree_where_there_is_none(tmp_path):
    image = build(1, 8, 2000, populated=1.0)
    data = bytearray(core(image))
    struct.pack_into("<QQQ", data, data.index(image.shared_info()) + 3096, 2**64 - 1, 0, 0x1000)
    for name, content in (("tree", core(image)), ("linear", bytes(data))):
        (tmp_path / name).write_bytes(content)
        page = tmp_path / f"{name}.html"
        assert p2mbatch("audit", tmp_path / name, "--html", page)[0] == (name == "linear")
        assert ('id="figure-tree"' in page.read_text()) == (name == "tree")
