"""The result store: what is acknowledged is on the disk, whatever happens, and messages help."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from p2mbatch.base.errors import InputError, P2MBatchError, ResourceError
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store import journal as journal_module
from p2mbatch.store.blocks import block_of
from p2mbatch.store.columns import COLUMNS
from p2mbatch.store.journal import JOURNAL_NAME, Journal
from p2mbatch.store.ledger import read_ledger, write_meta
from p2mbatch.store.lock import LOCK_NAME, holder_pid
from p2mbatch.store.messages import STORE_VERSION
from p2mbatch.store.results import SweepResult
from sweep_support import STORE_SPEC as SPEC
from sweep_support import commit, fill, one_line, p2mbatch, result, start


def test_what_was_committed_is_read_back_in_the_schemas_order_and_types(store: Path) -> None:
    frame = SweepResult.open(store).frame
    assert list(frame.columns) == [column.name for column in COLUMNS]
    assert len(frame) == 20
    assert [str(frame[c.name].dtype) for c in COLUMNS if c.dtype != "str"] == [
        c.dtype for c in COLUMNS if c.dtype != "str"
    ]
    assert frame["detail"].isna().all()
    assert frame["seed"].tolist() == sorted(list(range(10)) * 2)
    assert frame["migration"].tolist() == [0, 1] * 10


def test_a_number_that_all_rows_have_takes_no_room_in_the_compact_table(store: Path) -> None:
    opened = SweepResult.open(store)
    for name in ("memory_bytes", "rounds", "stray_writes"):
        values = opened.compact[name].to_numpy()
        assert values.strides == (0,), name
        assert values.tolist() == opened.frame[name].tolist()
    assert opened.compact["seed"].to_numpy().strides != (0,)


def test_rows_are_sorted_by_scenario_not_by_when_they_finished(tmp_path: Path) -> None:
    fill(tmp_path / "up", range(10))
    with Journal.open(tmp_path / "down") as journal:
        journal.admit(SPEC, resident="auto", extend=False)
        for seed in reversed(range(10)):
            commit(journal, [result(seed)], 1)
    up, down = (SweepResult.open(tmp_path / name).frame for name in ("up", "down"))
    pd.testing.assert_frame_equal(up, down)


def test_an_empty_store_is_an_empty_table_of_the_right_columns(tmp_path: Path) -> None:
    Journal.open(tmp_path / "s").close()
    opened = SweepResult.open(tmp_path / "s")
    assert list(opened.frame.columns) == [column.name for column in COLUMNS]
    assert len(opened.frame) == len(opened.failures) == 0
    assert opened.progress.state == "empty"


def test_a_failure_is_kept_with_its_message_until_the_cell_succeeds(store: Path) -> None:
    with Journal.open(store) as journal:
        journal.admit(SPEC, resident="auto", extend=False)
        commit(journal, [result(77, error="MemoryError", message="no room")], 11)
        opened = SweepResult.open(store)
        assert opened.failures[["seed", "error", "message"]].values.tolist() == [
            [77, "MemoryError", "no room"]
        ]
        commit(journal, [result(77)], 11)
        opened.refresh()
        assert opened.num_failed == 0
        assert 77 in set(opened.frame["seed"])


def test_known_cells_are_those_that_were_there_and_those_that_are_noted(store: Path) -> None:
    with Journal.open(store) as journal:
        journal.admit(SPEC, resident="auto", extend=False)
        commit(journal, [result(77, error="MemoryError", message="no room")], 11)
    cells = block_of([result(seed) for seed in (9, 77, 500)])
    with Journal.open(store) as journal:
        assert journal.known(cells.cells.ids, failed_too=True).tolist() == [True, True, False]
        assert journal.known(cells.cells.ids, failed_too=False).tolist() == [True, False, False]
        journal.note(cells)
        assert journal.known(cells.cells.ids, failed_too=False).all()


def test_a_store_is_readable_while_it_is_written(store: Path) -> None:
    opened = SweepResult.open(store)
    assert opened.progress.state == "interrupted"
    with Journal.open(store) as journal:
        opened.refresh()
        assert opened.progress[:2] == ("running", os.getpid())
        assert len(opened.frame) == 20
        journal.admit(SPEC, resident="auto", extend=False)
        commit(journal, [result(50)], 11)
        assert len(opened.frame) == 20
        opened.refresh()
        assert len(opened.frame) == 22


def test_reading_leaves_nothing_behind_and_changes_nothing(store: Path) -> None:
    before = (store / JOURNAL_NAME).read_bytes()
    opened = SweepResult.open(store)
    assert len(opened.frame) == 20
    assert sorted(path.name for path in store.iterdir()) == [JOURNAL_NAME, LOCK_NAME]
    assert (store / JOURNAL_NAME).read_bytes() == before


def test_a_transaction_is_a_block_or_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal.open(store) as journal:
        journal.admit(SPEC, resident="auto", extend=False)

        def full(*_: object) -> None:
            raise sqlite3.OperationalError("made up")

        with monkeypatch.context() as patch:
            patch.setattr(journal_module, "write_meta", full)
            with pytest.raises(P2MBatchError):
                commit(journal, [result(50), result(51)], 12)
        assert len(SweepResult.open(store).frame) == 20
        commit(journal, [result(52)], 12)
    assert len(SweepResult.open(store).frame) == 22


def test_another_spec_is_refused_and_added_with_extend(store: Path) -> None:
    other = SweepSpec.from_options(memory="2GiB", seeds="3")
    with Journal.open(store) as journal:
        with pytest.raises(InputError, match=r"made for another spec .* --extend"):
            journal.admit(other, resident="auto", extend=False)
        journal.admit(other, resident="auto", extend=True)
        journal.admit(other, resident="auto", extend=False)
        journal.admit(SPEC, resident="auto", extend=False)
    opened = SweepResult.open(store)
    assert [spec.digest for spec in opened.specs] == [SPEC.digest, other.digest]
    assert opened.spec.num_cells == SPEC.num_cells + 3
    assert opened.progress.num_cells == SPEC.num_cells + 3


def test_rows_that_would_not_compare_are_not_mixed(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal.open(store) as journal:
        with pytest.raises(InputError, match="made with --resident auto, not all"):
            journal.admit(SPEC, resident="all", extend=True)
        monkeypatch.setattr(journal_module, "MODEL_VERSION", 999)
        says = r"of model \d+, not 999 .* can be read, but no rows can be added"
        with pytest.raises(InputError, match=says):
            journal.admit(SPEC, resident="auto", extend=True)


def test_a_store_of_older_ids_is_only_read(store: Path) -> None:
    with Journal.open(store) as journal:
        journal.admit(SPEC, resident="auto", extend=False)
    with sqlite3.connect(store / JOURNAL_NAME) as connection:
        ledger = read_ledger(connection, None)
        del ledger.meta["cell_ids"]
        write_meta(connection, ledger.meta, ledger.tally)
    connection.close()
    with Journal.open(store) as journal, pytest.raises(InputError, match="no rows can be added"):
        journal.admit(SPEC, resident="auto", extend=True)


def test_a_second_writer_is_refused_with_the_firsts_pid(store: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from p2mbatch.store.journal import Journal
        journal = Journal.open(Path(sys.argv[1]))
        print("open", flush=True)
        sys.stdin.read()
    """
    process = start(code, str(store), stdin=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        assert holder_pid(store) == process.pid
        with pytest.raises(ResourceError, match=f"process {process.pid} is sweeping into"):
            Journal.open(store)
    finally:
        process.communicate("")
    assert holder_pid(store) is None
    Journal.open(store).close()


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A process commits and says so; it is killed at whatever it is doing at that moment."""
    code = """
        import itertools, sys
        from pathlib import Path
        from sweep_support import commit, result
        from test_store import SPEC
        from p2mbatch.store.journal import Journal
        journal = Journal.open(Path(sys.argv[1]))
        journal.admit(SPEC, resident="auto", extend=False)
        first = journal.num_finished()
        for number in itertools.count():
            seeds = range(first + 7 * number, first + 7 * number + 7)
            commit(journal, [result(seed) for seed in seeds], 0)
            print(seeds[-1], flush=True)
    """
    store = tmp_path / "s"
    acknowledged = -1
    for round_number in range(3):
        process = start(code, str(store))
        assert process.stdout is not None
        for _ in range(20 + 17 * round_number):
            acknowledged = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        acknowledged = max([acknowledged, *map(int, rest.split())])
        frame = SweepResult.open(store).frame
        assert set(range(acknowledged + 1)) <= set(frame["seed"])
        assert (frame.groupby("cell").size() == 2).all()
        Journal.open(store).close()


FILL = """
    import sys, resource
    from pathlib import Path
    from sweep_support import commit, result
    from test_store import SPEC
    from p2mbatch.base.errors import P2MBatchError
    from p2mbatch.store.journal import Journal
    limit = int(sys.argv[2])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        with Journal.open(Path(sys.argv[1])) as journal:
            journal.admit(SPEC, resident="auto", extend=False)
            for seed in range(0, 5000, 10):
                commit(journal, [result(s) for s in range(seed, seed + 10)], 0)
                print(seed + 9, flush=True)
    except P2MBatchError as error:
        print(type(error).__name__, error, file=sys.stderr)
        sys.exit(error.exit_code)
"""


def check_full(store: Path, limit: int) -> None:
    """Fill the disk (or the limit), then make room: all that was acknowledged must be there."""
    process = start(FILL, str(store), str(limit))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert "Traceback" not in err
    assert "the disk is full or can't be written" in err
    assert "give the same command again" in err
    acknowledged = int(out.split()[-1])
    assert acknowledged > 10
    assert set(range(acknowledged + 1)) <= set(SweepResult.open(store).frame["seed"])


def test_a_file_size_limit_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    check_full(tmp_path / "s", 300_000)
    with Journal.open(tmp_path / "s") as journal:
        assert journal.num_finished() > 10


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "mnt"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(mount)], capture_output=True
    )
    if done.returncode:
        pytest.skip(f"a tmpfs can't be mounted here: {done.stderr.decode().strip()}")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_a_full_disk_loses_nothing_that_was_acknowledged(small_disk: Path) -> None:
    check_full(small_disk / "s", 0)
    with pytest.raises(P2MBatchError) as caught, Journal.open(small_disk / "s") as journal:
        journal.admit(SPEC, resident="auto", extend=False)
        commit(journal, [result(s) for s in range(10_000, 12_000)], 0)
    assert "make room" in str(caught.value)
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    with Journal.open(small_disk / "s") as journal:
        journal.admit(SPEC, resident="auto", extend=False)
        commit(journal, [result(s) for s in range(10_000, 12_000)], 0)
    assert 11_999 in set(SweepResult.open(small_disk / "s").frame["seed"])


def test_a_read_only_directory_is_refused_for_writing_and_read(small_disk: Path) -> None:
    fill(small_disk / "s", range(5))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(InputError, match=r"can't be written .*use another --out"):
        Journal.open(small_disk / "s")
    with pytest.raises(InputError, match=r"can't be written .*use another --out"):
        Journal.open(small_disk / "new")
    assert len(SweepResult.open(small_disk / "s").frame) == 10
    one_line(p2mbatch("export", str(small_disk / "s"), "-o", str(small_disk / "x.csv")), 2, "x.csv")


def test_a_store_of_a_newer_version_is_refused_by_reader_and_writer(store: Path) -> None:
    with sqlite3.connect(store / JOURNAL_NAME) as connection:
        connection.execute(f"PRAGMA user_version = {STORE_VERSION + 1}")
    connection.close()
    for use in (Journal.open, SweepResult.open):
        with pytest.raises(InputError, match=r"written by a newer p2mbatch .*update p2mbatch"):
            use(store)
    one_line(p2mbatch("status", str(store)), 2, "newer p2mbatch")


@pytest.mark.parametrize("position", ["header", "middle", "truncated"])
def test_a_damaged_store_says_so_and_what_to_do(tmp_path: Path, position: str) -> None:
    store = tmp_path / "s"
    fill(store, range(500))
    path = store / JOURNAL_NAME
    raw = bytearray(path.read_bytes())
    if position == "header":
        raw[:64] = os.urandom(64)
    elif position == "middle":
        raw[4096 : len(raw) - 4096] = b"\xa5" * (len(raw) - 8192)
    else:
        del raw[len(raw) // 2 :]
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"the store is damaged .*move it away"):
        Journal.open(store)
    with pytest.raises(InputError, match=r"the store is damaged"):
        SweepResult.open(store).frame  # noqa: B018
    assert path.read_bytes() == bytes(raw)


def test_what_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    other = tmp_path / "other"
    other.mkdir()
    with sqlite3.connect(other / JOURNAL_NAME) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    for name, message in (
        ("file", "is a file"),
        ("full", "holds other files and no store"),
        ("other", "not a p2mbatch result store"),
    ):
        with pytest.raises(InputError, match=message):
            Journal.open(tmp_path / name)
    assert (tmp_path / "full" / "thesis.tex").read_text() == "mine"
    assert sorted(p.name for p in (tmp_path / "full").iterdir()) == ["thesis.tex"]
    with pytest.raises(InputError, match="no sweep's results are here"):
        SweepResult.open(tmp_path / "full")


def test_the_lock_file_may_stay_behind(store: Path) -> None:
    (store / LOCK_NAME).write_text("999999\n")
    assert holder_pid(store) is None
    Journal.open(store).close()


def test_a_store_that_was_made_for_a_sweep_that_could_not_start_is_taken_away(
    tmp_path: Path,
) -> None:
    (tmp_path / "there").mkdir()
    for name in ("new", "there"):
        with pytest.raises(ResourceError), Journal.open(tmp_path / name) as journal:
            journal.admit(SPEC, resident="auto", extend=False)
            raise ResourceError("no engine")
    assert not (tmp_path / "new").exists()
    assert list((tmp_path / "there").iterdir()) == []
    fill(tmp_path / "kept", range(2))
    with pytest.raises(ResourceError), Journal.open(tmp_path / "kept") as journal:
        raise ResourceError("no engine")
    assert len(SweepResult.open(tmp_path / "kept").frame) == 4


def test_a_lock_that_was_taken_away_meanwhile_holds_nobody_off(store: Path) -> None:
    # The first process waits for a lock whose file another one removes before it lets go.
    held = (store / LOCK_NAME).open("a+")
    fcntl.flock(held, fcntl.LOCK_EX)
    (store / LOCK_NAME).unlink()
    with Journal.open(store):
        assert holder_pid(store) == os.getpid()
        with pytest.raises(ResourceError, match=f"process {os.getpid()} is sweeping"):
            Journal.open(store)
    held.close()


def without(store: Path, good: bytes, bad: bytes) -> None:
    """Put `bad` in place of `good` in the journal of `store`."""
    path = store / JOURNAL_NAME
    data = path.read_bytes()
    assert good in data
    assert len(good) == len(bad)
    path.write_bytes(data.replace(good, bad))


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (b"checks BLOB NOT NULL", b"checks BLOB NOT N\xffLL"),
        (b'{"question": ', b'{"question"; '),
        (b'{"p2mbatch": ', b'{"p2mbatch"\xff '),
    ],
)
def test_a_store_whose_text_is_damaged_says_so(store: Path, good: bytes, bad: bytes) -> None:
    without(store, good, bad)
    one_line(p2mbatch("status", str(store)), 2, "the store is damaged", "give the same")
    target = store.parent / "x.parquet"
    one_line(p2mbatch("export", str(store), "-o", str(target)), 2, "the store is damaged")
    assert not target.exists()
