"""Sweeps that are killed, interrupted or left alone by their cluster, and what they end with."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dask_support import Cluster
from p2mbatch.base.errors import InputError
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.results import SweepResult
from p2mbatch.sweeps import dask, dask_workers, driver
from p2mbatch.sweeps import engine as engines
from p2mbatch.sweeps.dask import _scheduler_address
from p2mbatch.sweeps.stop import Stop
from sweep_support import (
    KILL_SPEC,
    command,
    exact,
    finished,
    one_line,
    p2mbatch,
    run,
    sweep_process,
    wait_for,
)


@pytest.fixture(scope="module")
def kill_spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "kill.toml"
    path.write_text(KILL_SPEC)
    return path


@pytest.fixture(scope="module")
def long_spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a spec that no machine is done with before it is disturbed."""
    path = tmp_path_factory.mktemp("spec") / "long.toml"
    path.write_text(KILL_SPEC.replace("seeds = 4000", "seeds = 50_000"))
    return path


@pytest.fixture(scope="module")
def undisturbed(kill_spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the store of a sweep that nothing disturbed."""
    out = tmp_path_factory.mktemp("ref") / "s"
    run(SweepSpec.from_file(kill_spec), out)
    return out


@pytest.fixture(scope="module")
def kill_reference(undisturbed: Path) -> pd.DataFrame:
    return exact(SweepResult.open(undisturbed))


def test_a_sweep_killed_twice_ends_with_the_undisturbed_table(
    kill_spec: Path, kill_reference: pd.DataFrame, tmp_path: Path
) -> None:
    out = tmp_path / "s"
    for _ in range(2):
        before = finished(out)
        process = sweep_process(kill_spec, out)
        wait_for(out, before + 100, process)
        process.kill()
        process.communicate()
    assert SweepResult.open(out).progress.state == "interrupted"
    last = p2mbatch("sweep", str(kill_spec), "--out", str(out), "--no-report")
    assert last.returncode == 0, last.stderr
    result = SweepResult.open(out)
    pd.testing.assert_frame_equal(exact(result), kill_reference)
    assert result.progress.state == "complete"
    assert [r["state"] for r in result.provenance["runs"]] == ["running", "running", "done"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_stops_cleanly_and_says_how_to_continue(
    kill_spec: Path, kill_reference: pd.DataFrame, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "s"
    process = sweep_process(kill_spec, out)
    wait_for(out, 50, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "give the same command again to continue" in err
    assert "Traceback" not in err
    result = SweepResult.open(out)
    assert result.progress.state == "interrupted"
    assert result.provenance["runs"][0]["state"] == "interrupted"
    assert p2mbatch("sweep", str(kill_spec), "--out", str(out), "-q", "--no-report").returncode == 0
    pd.testing.assert_frame_equal(exact(SweepResult.open(out)), kill_reference)


def test_a_second_sweep_into_the_store_is_refused(tmp_path: Path) -> None:
    spec = tmp_path / "long.toml"
    spec.write_text('[grid]\nmemory = "1GiB"\nseeds = 1000000\n')
    out = tmp_path / "s"
    process = sweep_process(spec, out)
    try:
        wait_for(out, 1, process)
        second = p2mbatch("sweep", str(spec), "--out", str(out), "--no-report")
        one_line(second, 2, f"process {process.pid} is sweeping into this store")
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def test_a_sweep_on_a_full_disk_continues_when_there_is_room(
    kill_spec: Path, undisturbed: Path, kill_reference: pd.DataFrame, tmp_path: Path
) -> None:
    out = tmp_path / "s"
    # Room for some transactions and not for all, however fast the machine is.
    size = max(file.stat().st_size for file in undisturbed.rglob("*") if file.is_file()) // 2
    limit = f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({size},) * 2); "
    code = limit + "from p2mbatch.cli import main; main(sys.argv[1:])"
    full = subprocess.run(
        [sys.executable, "-c", code, "sweep", str(kill_spec), "--out", str(out), "--no-report"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    one_line(full, 2, "the disk is full or can't be written", "give the same command again")
    kept = finished(out)
    assert kept > 0
    assert p2mbatch("sweep", str(kill_spec), "--out", str(out), "-q", "--no-report").returncode == 0
    pd.testing.assert_frame_equal(exact(SweepResult.open(out)), kill_reference)


def test_an_interruption_while_kernels_are_compiled_does_not_wait_for_them(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("sweep", "--memory", "256MiB", "--out", str(tmp_path / "s")),
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "P2MBATCH_CACHE_DIR": str(tmp_path / "cache")},
    )
    assert process.stderr is not None
    assert "compiling" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "compiled in" not in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "s").exists()
    assert not [*(tmp_path / "cache").rglob("complete"), *(tmp_path / "cache").rglob("has-*")]


def test_what_an_interruption_breaks_is_no_error_of_its_own() -> None:
    stop = Stop()
    with stop.listening(), pytest.raises(KeyboardInterrupt), stop.at_once():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("no compiled object yet") from None
    with pytest.raises(RuntimeError, match="of its own"), Stop().at_once():
        raise RuntimeError("of its own")


def test_an_interruption_that_a_callback_swallows_comes_again() -> None:
    stop = Stop()
    with stop.listening(), pytest.raises(KeyboardInterrupt), stop.at_once():
        # A finaliser can't be left by an exception either.
        class Swallowing:
            def __del__(self) -> None:
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(1000):
                    pass

        Swallowing()
        time.sleep(30)
    assert stop.reason == "signal"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[Path, list[subprocess.Popen[Any]]]]:
    """A scheduler and two worker processes, without nannies, as a user's own cluster."""
    pytest.importorskip("distributed")
    # Workers that die are noticed at once.
    made = Cluster(tmp_path, DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="10s")
    try:
        made.start_scheduler()
        for k in range(2):
            made.start_worker(f"w{k}")
        yield made.file, made.processes
    finally:
        made.close()


@pytest.mark.thorough
def test_dask_with_a_worker_killed_gives_the_table_of_the_threads(
    cluster: tuple[Path, list[subprocess.Popen[Any]]],
    kill_spec: Path,
    kill_reference: pd.DataFrame,
    tmp_path: Path,
) -> None:
    scheduler_file, (_, first, _) = cluster
    out = tmp_path / "s"
    process = sweep_process(kill_spec, out, "--engine", "dask", "--scheduler", str(scheduler_file))
    wait_for(out, 60, process)
    first.send_signal(signal.SIGKILL)
    assert finished(out) < 3 * 2 * 2 * 4000
    _, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    result = SweepResult.open(out)
    pd.testing.assert_frame_equal(exact(result), kill_reference)
    assert result.provenance["engine"] == "dask"
    assert result.provenance["workers"] == 2


@pytest.mark.thorough
def test_a_scheduler_that_vanishes_is_said_in_one_line_and_nothing_is_lost(
    cluster: tuple[Path, list[subprocess.Popen[Any]]], long_spec: Path, tmp_path: Path
) -> None:
    scheduler_file, (scheduler, *_) = cluster
    out = tmp_path / "s"
    process = sweep_process(long_spec, out, "--engine", "dask", "--scheduler", str(scheduler_file))
    wait_for(out, 60, process)
    scheduler.kill()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    (line,) = err.strip().splitlines()
    assert "the connection to the scheduler is lost" in line
    assert "give the same command again" in line
    assert finished(out) >= 60


@pytest.mark.thorough
@pytest.mark.slow
def test_an_interruption_is_heard_where_every_worker_has_died(
    cluster: tuple[Path, list[subprocess.Popen[Any]]], long_spec: Path, tmp_path: Path
) -> None:
    scheduler_file, (_, *workers) = cluster
    out = tmp_path / "s"
    process = sweep_process(long_spec, out, "--engine", "dask", "--scheduler", str(scheduler_file))
    wait_for(out, 60, process)
    for worker in workers:
        worker.kill()
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "give the same command again" in err


def test_a_future_that_is_cancelled_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As Dask's are: cancelled, but whoever waits for them is never told.
    held: list[Future[Any]] = []

    class Deaf(Executor):
        def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
            held.append(Future())
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            return held[-1]

    @contextlib.contextmanager
    def opened(*args: Any) -> Iterator[engines.Engine]:
        with engines.thread_engine(1, None) as engine:
            yield engine._replace(executor=Deaf(), max_batches=1)

    monkeypatch.setattr(driver, "open_engine", opened)
    monkeypatch.setattr(driver, "warm_up", lambda report, kinds: None)
    with pytest.raises(KeyboardInterrupt):
        run(SweepSpec.from_options(memory="256MiB", seeds="10"), tmp_path / "s")
    assert [future.cancelled() for future in held] == [True]


@pytest.mark.thorough
@pytest.mark.slow
def test_dask_on_this_machine_continues_what_threads_began(
    kill_spec: Path, kill_reference: pd.DataFrame, tmp_path: Path
) -> None:
    pytest.importorskip("distributed")
    out = tmp_path / "s"
    process = sweep_process(kill_spec, out)
    wait_for(out, 100, process)
    process.kill()
    process.communicate()
    done = p2mbatch(
        *("sweep", str(kill_spec), "--out", str(out), "--engine", "dask", "--jobs", "2", "-q"),
        "--no-report",
    )
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(exact(SweepResult.open(out)), kill_reference)


def test_a_scheduler_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    done = p2mbatch(
        *("sweep", "--memory", "256MiB", "--engine", "dask", "--out", "s"),
        *("--scheduler", "tcp://127.0.0.1:9"),
        cwd=tmp_path,
    )
    one_line(done, 2, "no Dask scheduler answers there")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("hello", "not a scheduler file"),
        ('{"id": 3}', "no address in it"),
    ],
)
def test_a_scheduler_file_that_is_none_is_refused_at_once(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "scheduler.json"
    path.write_text(text)
    spec = SweepSpec.from_options(memory="256MiB")
    with pytest.raises(InputError, match=f"--scheduler .*{complaint}.*tcp://host:port"):
        run(spec, tmp_path / "s", engine="dask", scheduler=str(path))
    for address in ("http://127.0.0.1:8787", "tcp://", "tcp://host", "host:8786"):
        with pytest.raises(InputError, match="tcp://host:port"):
            run(spec, tmp_path / "s", engine="dask", scheduler=address)
    assert not (tmp_path / "s").exists()


def test_a_scheduler_file_may_come_a_little_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scheduler.json"
    threading.Timer(0.5, path.write_text, ('{"address": "tcp://127.0.0.1:9"}',)).start()
    assert _scheduler_address(str(path)) == "tcp://127.0.0.1:9"
    path.unlink()
    monkeypatch.setattr(dask, "_CONNECT_S", 0.3)
    spec = SweepSpec.from_options(memory="256MiB")
    monkeypatch.setattr(driver, "warm_up", lambda report, kinds: None)
    with pytest.raises(InputError, match="No such file or directory"):
        run(spec, tmp_path / "s", engine="dask", scheduler=str(path))
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_a_worker_that_is_stopped_before_the_first_cell_is_named_and_left_out(
    cluster: tuple[Path, list[subprocess.Popen[Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scheduler_file, (_, first, _) = cluster
    address = _scheduler_address(str(scheduler_file))
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        pids = client.run(os.getpid)
    (stopped,) = (worker for worker, pid in pids.items() if pid == first.pid)
    first.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(dask_workers, "CHECK_S", 3.0)
    spec = SweepSpec.from_options(memory="1GiB", seeds="300")
    result = driver.sweep(spec, tmp_path / "s", engine="dask", scheduler=address, progress="lines")
    assert f"worker {stopped}: no answer" in capsys.readouterr().err
    assert result.progress.num_finished == 300
    assert result.provenance["workers"] == 1
    pd.testing.assert_frame_equal(exact(result), exact(run(spec, tmp_path / "threads")))


def test_a_stopped_worker_with_cells_is_let_go_and_they_go_to_others() -> None:
    forgotten: list[str] = []

    class Scheduler:
        async def processing(self, workers: None) -> dict[str, list[str]]:
            return {"tcp://a": ["one"], "tcp://b": ["two"], "tcp://idle": []}

        async def unregister(self, address: str) -> None:
            forgotten.append(address)

    class Client:
        scheduler = Scheduler()

        def sync(self, function: Any, *args: Any, callback_timeout: float = 9, **more: Any) -> Any:
            return asyncio.run(function(*args, **more))

        async def _run(self, question: Any, workers: list[str], on_error: str) -> Any:
            assert workers != ["tcp://idle"]
            if workers == ["tcp://b"]:
                await asyncio.sleep(30)
            return {workers[0]: question()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dask_workers, "PING_S", 0.05)
        assert dask_workers.let_go(Client()) == forgotten == ["tcp://b"]
