"""Stores that were torn: a log with flipped bits, a disk that is full at each page, first pages."""

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from p2mbatch.base.errors import InputError, P2MBatchError, ResourceError
from p2mbatch.store.blocks import block_of
from p2mbatch.store.journal import JOURNAL_NAME, Journal
from p2mbatch.store.results import SweepResult
from sweep_support import STORE_SPEC as SPEC
from sweep_support import commit, fill, result
from torture import flips


def test_no_flipped_bit_in_a_store_or_its_log_is_silent(tmp_path):
    tries = flips.run(tmp_path, seed=1, seconds=60, most=60, mended_of=6)
    assert len(tries) == 60
    assert [t for t in tries if t.fault] == []
    told = {t.where for t in tries if t.was_told}
    assert told >= {JOURNAL_NAME, f"{JOURNAL_NAME}-wal", "table.json", "table.csv"}


def write_all(directory):
    """Write those of 24 cells that are not there, in 6 transactions."""
    with Journal.open(directory) as journal:
        journal.admit(SPEC, resident="auto", extend=False)
        for first in range(0, 24, 4):
            cells = [result(seed) for seed in range(first, first + 4)]
            known = journal.known(block_of(cells).cells.ids, failed_too=True)
            if not known.any():
                commit(journal, cells, first + 4)


def test_a_disk_that_is_full_at_each_page(tmp_path):
    """No file may grow beyond each size once: what was acknowledged is there, the rest comes."""
    write_all(tmp_path / "whole")
    whole = SweepResult.open(tmp_path / "whole").frame
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    num_full = 0
    for pages in range(0, 120, 3):
        directory = tmp_path / f"s{pages}"
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096 * pages, hard))
        try:
            write_all(directory)
        except (ResourceError, InputError) as error:
            num_full += 1
            assert "\n" not in str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        if (directory / JOURNAL_NAME).exists():
            try:
                kept = SweepResult.open(directory).frame
            except InputError as error:
                assert "holds nothing yet" in str(error) or "damaged" in str(error), error
            else:
                assert len(kept) % 8 == 0
                assert kept.equals(whole[whole["seed"] < len(kept) // 2].reset_index(drop=True))
        write_all(directory)
        assert SweepResult.open(directory).frame.equals(whole)
    assert num_full > 10


@pytest.mark.parametrize("size", [0, 4096])
def test_a_store_that_was_only_begun_says_so(size, tmp_path):
    """A kill right after the first page left what was called no store at all."""
    fill(tmp_path / "s", range(2))
    path = tmp_path / "begun" / JOURNAL_NAME
    path.parent.mkdir()
    if size:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
        assert path.stat().st_size == size
    else:
        path.touch()
    with pytest.raises(InputError, match=r"holds nothing yet.*give the same command again"):
        SweepResult.open(path.parent)
    fill(path.parent, range(2))
    assert SweepResult.open(path.parent).progress.num_finished == 2


def test_another_programs_database_is_still_no_store(tmp_path):
    directory = tmp_path / "other"
    directory.mkdir()
    connection = sqlite3.connect(directory / JOURNAL_NAME)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(InputError, match="not a p2mbatch result store"):
        SweepResult.open(directory)


def test_stores_behind_links(tmp_path):
    fill(tmp_path / "real", range(4))
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "again").symlink_to(tmp_path / "link")
    assert SweepResult.open(tmp_path / "again").progress.num_finished == 4
    fill(tmp_path / "again", range(4, 8))
    assert SweepResult.open(tmp_path / "real").progress.num_finished == 8
    with Journal.open(tmp_path / "link"), pytest.raises(ResourceError, match="is sweeping into"):
        Journal.open(tmp_path / "real")
    (tmp_path / "loop").symlink_to("loop")
    for use in (SweepResult.open, Journal.open):
        with pytest.raises(P2MBatchError):
            use(tmp_path / "loop")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("open_log", [False, True])
def test_a_directory_that_can_only_be_read(open_log):
    """Another user reads a store in a directory that takes nothing of theirs."""
    # Not below pytest's own directory: each run that begins closes that to other users.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        _read_by_another(open_log, Path(folder))


def _read_by_another(open_log, folder):
    shared = folder / "shared"
    with Journal.open(shared) as journal:
        journal.admit(SPEC, resident="auto", extend=False)
        commit(journal, [result(seed) for seed in range(4)], 4)
        if open_log:
            copy = folder / "copy"
            shutil.copytree(shared, copy)
            shared = copy
        else:
            journal.close()
        shared.chmod(0o755)
        for path in shared.iterdir():
            path.chmod(0o644)
        code = (
            "import os, sys\n"
            "from p2mbatch.store.results import SweepResult\n"
            "import pandas\n"
            "os.setgid(65534); os.setuid(65534)\n"
            "print(SweepResult.open(sys.argv[1]).progress.num_finished)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(shared)], capture_output=True, text=True, timeout=120
        )
    assert (done.stdout, done.returncode) == ("4\n", 0), done.stderr
