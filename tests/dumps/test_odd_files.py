"""Files that are not simply there: gzip of many members, pipes that stall, files that grow."""

import gzip
import os
import threading
import time
from pathlib import Path

import pytest

from dump_guests import build, stream
from p2mbatch.base import sources
from p2mbatch.base.errors import InputError
from p2mbatch.dumps.readers.read import read_bytes, read_dump
from p2mbatch.model.trace_file import load_trace, trace_to_json

TRACE = Path(__file__).parents[2] / "data/traces/balloon-64-0.json.gz"


def members(data, size):
    """Return `data` as gzip of many members, empty ones among them."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(gzip.compress(piece, 1) + gzip.compress(b"") for piece in pieces)


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_gzip_of_many_members_is_one_file(size, tmp_path):
    data = stream(build(11, 8, 24, populated=0.1))
    data = data if size > 1 else b" [0x0->0x9] pfn\n [0x9->0xa] missing\n"
    path = tmp_path / "x.gz"
    path.write_bytes(members(data, size))
    assert (read_dump(path).p2m.to_array() == read_bytes(data).p2m.to_array()).all()
    text = gzip.decompress(TRACE.read_bytes())
    path.write_bytes(members(text, max(size, 100)))
    assert repr(trace_to_json(load_trace(path))) == repr(trace_to_json(load_trace(TRACE)))
    path.write_bytes(members(text, 4096) + b"\0" * 1000)
    load_trace(path)
    path.write_bytes(members(text, 4096)[:-9])
    with pytest.raises(InputError, match="not a whole gzip file"):
        load_trace(path)


def test_members_of_nothing_are_bounded(tmp_path):
    """A member that holds nothing takes 20 bytes and some microseconds: 20,000 of them."""
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"") * 20_000 + gzip.compress(b"nothing of ours"))
    with pytest.raises(InputError, match="found bytes"):
        read_dump(path)


def test_a_pipe_that_stalls_is_waited_for_and_read_whole(tmp_path):
    data, path = stream(build(11, 8, 700, populated=0.1)), tmp_path / "pipe"
    os.mkfifo(path)

    def feed():
        with path.open("wb", buffering=0) as pipe:
            for at in range(0, len(data), len(data) // 5):
                pipe.write(data[at : at + len(data) // 5])
                time.sleep(0.05)

    feeder = threading.Thread(target=feed)
    feeder.start()
    guest = read_dump(path)
    feeder.join()
    assert (guest.p2m.to_array() == read_bytes(data).p2m.to_array()).all()


def test_a_pipe_that_ends_early_says_so(tmp_path):
    data, path = stream(build(11, 8, 700, populated=0.1)), tmp_path / "pipe"
    os.mkfifo(path)
    feeder = threading.Thread(target=lambda: path.write_bytes(data[:3000]))
    feeder.start()
    with pytest.raises(InputError, match="the file ends after"):
        read_dump(path)
    feeder.join()


@pytest.mark.parametrize("change", ["grow", "cut", "rewrite"])
def test_a_file_that_changes_while_it_is_read(change, tmp_path, monkeypatch):
    data, path = stream(build(11, 8, 700, populated=0.1)), tmp_path / "x"
    path.write_bytes(data)
    real, calls = sources.FileBytes._pread, []

    def pread(self, offset, most, least):
        calls.append(offset)
        if len(calls) == 2:
            with path.open("r+b") as file:
                if change == "grow":
                    file.seek(0, 2)
                    file.write(data)
                elif change == "cut":
                    file.truncate(5000)
                else:
                    file.write(data)
            os.utime(path, ns=(1, time.time_ns() + 10**9))
        return real(self, offset, most, least)

    monkeypatch.setattr(sources.FileBytes, "_pread", pread)
    with pytest.raises(InputError, match="changed while it was read"):
        read_dump(path)
