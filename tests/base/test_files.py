"""Reading and writing files: all or nothing, devices left alone, nothing large from small input."""

import gzip
import os
import threading

import pytest

from p2mbatch.base.errors import InputError
from p2mbatch.base.files import check_target, read_whole, write_whole
from p2mbatch.model.trace_file import load_trace


def names(directory):
    return sorted(p.name for p in directory.iterdir())


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    out = tmp_path / "out"
    out.write_bytes(b"before")

    def broken(file):
        file.write(b"half")
        raise InputError("no more")

    with pytest.raises(InputError, match="no more"):
        write_whole(out, broken)
    assert out.read_bytes() == b"before" and names(tmp_path) == ["out"]
    write_whole(out, lambda file: file.write(b"after"))
    assert out.read_bytes() == b"after" and names(tmp_path) == ["out"]


def test_gzip_by_name_is_the_same_every_time_and_tells_no_name(tmp_path):
    for name in ("a.gz", "b.gz"):
        write_whole(tmp_path / name, lambda file: file.write(b"x" * 1000))
    packed = (tmp_path / "a.gz").read_bytes()
    assert packed == (tmp_path / "b.gz").read_bytes()
    assert gzip.decompress(packed) == b"x" * 1000
    # No flags (so no name), no time.
    assert packed[3] == 0 and packed[4:8] == bytes(4)


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"before")
    link.symlink_to("real")
    write_whole(link, lambda file: file.write(b"after"))
    assert link.is_symlink() and real.read_bytes() == b"after"


def test_a_pipe_is_written_into_and_not_replaced(tmp_path):
    fifo, found = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: found.append(fifo.read_bytes()))
    reader.start()
    write_whole(fifo, lambda file: file.write(b"through"))
    reader.join(10)
    assert found == [b"through"] and fifo.is_fifo()


def test_a_full_disk_and_a_missing_place_are_said(tmp_path):
    link = tmp_path / "full"
    link.symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"full: can't be written there: No space left"):
        write_whole(link, lambda file: file.write(bytes(1 << 16)))
    assert link.is_symlink()
    with pytest.raises(InputError, match="can't be written there: No such file"):
        write_whole(tmp_path / "none" / "x", lambda file: file.write(b""))


def test_a_target_is_checked_before_the_work(tmp_path):
    source, link = tmp_path / "source", tmp_path / "link"
    source.touch()
    link.symlink_to("source")
    for target in (source, link):
        with pytest.raises(InputError, match="is the file that is read"):
            check_target(source, target)
    with pytest.raises(InputError, match="none is not a directory"):
        check_target(source, tmp_path / "none" / "x")
    check_target(source, tmp_path / "other")
    check_target("-", source)


def test_reads_are_bounded_and_begin_with_a_look(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(bytes(50 << 20)))
    seen = []
    with pytest.raises(InputError, match="expected at most 1048576 bytes, found more"):
        read_whole(path, 1 << 20, lambda head: seen.append(len(head)))
    assert 0 < seen[0] <= 1 << 20
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="is not a whole gzip file"):
        read_whole(path, 1 << 30, lambda head: None)


def test_a_trace_of_another_kind_is_refused_at_its_first_bytes(tmp_path):
    # A file that goes on for ever: only the first bytes may be read.
    with pytest.raises(InputError, match=r"a trace begins with '\{'"):
        load_trace("/dev/zero")
    path = tmp_path / "guest.save"
    path.write_bytes(b"Xen saved domain, xl format\n \0 \r" + bytes(64))
    with pytest.raises(InputError, match="p2mbatch import makes a trace"):
        load_trace(path)
