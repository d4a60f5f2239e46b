"""Sweeps on a cluster whose network, scheduler or client goes away for a while: nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from dask_support import Cluster, networks
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.results import SweepResult
from sweep_support import KILL_SPEC, exact, finished, run, sweep_process, wait_for

pytestmark = [pytest.mark.thorough, pytest.mark.slow]


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "long.toml"
    path.write_text(KILL_SPEC.replace("seeds = 4000", "seeds = 16_000"))
    return path


@pytest.fixture(scope="module")
def undisturbed(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return exact(run(SweepSpec.from_file(spec), tmp_path_factory.mktemp("ref") / "s"))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    pytest.importorskip("distributed")
    made = Cluster(tmp_path)
    try:
        yield made
    finally:
        made.close()


def _on_dask(spec: Path, out: Path, cluster: Cluster) -> subprocess.Popen[str]:
    return sweep_process(spec, out, "--engine", "dask", "--scheduler", str(cluster.file))


def _ends_well(process: subprocess.Popen[str], out: Path, undisturbed: pd.DataFrame) -> str:
    """Check that a sweep ended with the undisturbed table; return what it said."""
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    pd.testing.assert_frame_equal(exact(SweepResult.open(out)), undisturbed)
    return said


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip"), reason="networks are made by root, with ip"
)
def test_a_network_that_is_cut_for_ten_seconds_loses_nothing(
    spec: Path, undisturbed: pd.DataFrame, tmp_path: Path
) -> None:
    pytest.importorskip("distributed")
    with networks() as made:
        cluster = Cluster(tmp_path, made.HOST)
        try:
            cluster.start_scheduler()
            for number in range(2):
                cluster.start_worker(f"w{number}", *made.add())
            out = tmp_path / "s"
            process = _on_dask(spec, out, cluster)
            wait_for(out, 60, process)
            made.set_cut(0, True)
            at_cut = finished(out)
            time.sleep(10)
            assert at_cut < len(undisturbed) and process.poll() is None
            made.set_cut(0, False)
            _ends_well(process, out, undisturbed)
            result = SweepResult.open(out)
            assert result.provenance["workers"] == 2
        finally:
            cluster.close()


def test_a_scheduler_that_is_lost_and_comes_back_is_gone_on_with(
    cluster: Cluster, spec: Path, undisturbed: pd.DataFrame, tmp_path: Path
) -> None:
    scheduler = cluster.start_scheduler()
    workers = [cluster.start_worker(f"w{k}") for k in range(2)]
    out = tmp_path / "s"
    process = _on_dask(spec, out, cluster)
    wait_for(out, 60, process)
    scheduler.kill()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2 and "the connection to the scheduler is lost" in said
    for worker in workers:
        worker.kill()
    kept = finished(out)
    assert kept >= 60
    cluster.start_scheduler()
    cluster.start_worker("w2")
    _ends_well(_on_dask(spec, out, cluster), out, undisturbed)


def test_a_client_that_is_killed_and_started_again_goes_on(
    cluster: Cluster, spec: Path, undisturbed: pd.DataFrame, tmp_path: Path
) -> None:
    cluster.start_scheduler()
    for k in range(2):
        cluster.start_worker(f"w{k}")
    out = tmp_path / "s"
    for _ in range(2):
        process = _on_dask(spec, out, cluster)
        wait_for(out, finished(out) + 60, process)
        process.kill()
        process.communicate()
    assert SweepResult.open(out).progress.state == "interrupted"
    _ends_well(_on_dask(spec, out, cluster), out, undisturbed)


def test_a_worker_that_stops_in_the_middle_and_goes_on_loses_nothing(
    cluster: Cluster, spec: Path, undisturbed: pd.DataFrame, tmp_path: Path
) -> None:
    cluster.start_scheduler()
    first, _ = [cluster.start_worker(f"w{k}") for k in range(2)]
    out = tmp_path / "s"
    process = _on_dask(spec, out, cluster)
    wait_for(out, 60, process)
    first.send_signal(signal.SIGSTOP)
    time.sleep(5)
    first.send_signal(signal.SIGCONT)
    _ends_well(process, out, undisturbed)
