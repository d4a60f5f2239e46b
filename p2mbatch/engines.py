"""Engines: where a sweep's cells run, this process's threads or a Dask cluster.

Both are `concurrent.futures` executors that are handed batches of cells; what differs is how long
a batch should be, how many may be on their way, and what may go wrong with one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, NamedTuple

from p2mbatch import costs, provenance
from p2mbatch._version import MODEL_VERSION, __version__
from p2mbatch.errors import InputError, P2MBatchError, ResourceError
from p2mbatch.journal import CellResult
from p2mbatch.scenario import FIELDS, Scenario
from p2mbatch.schema import ROW_COLUMNS
from p2mbatch.spec import Values

THREADS, DASK = "threads", "dask"
ENGINES = (THREADS, DASK)

_ADDRESS = re.compile(r"inproc://.+|(tcp|tls|wss?|ucx)://.+:\d+/?")
"""What Dask schedulers can be reached at."""
_NO_SCHEME = re.compile(r"[^/]+:\d+")
_CONNECT_S = 10
"""What a scheduler has to write its file, and again to answer."""
_ANSWER_S = 5
"""A scheduler that takes longer to say what workers it has is in trouble."""
_MEMORY_SHARE = 0.8
"""Of what the machine, its cgroup or a cluster's workers have, the part that cells may use."""
_CONVERT = tuple(
    (column.name, {"int64": int, "float64": float, "str": str}[column.dtype], column.nullable)
    for column in ROW_COLUMNS
)


_PYTHON_TURN = threading.Lock()
"""Held while cells run that are mostly Python: one thread at a time is faster than two that pass
the interpreter's lock to and fro at every one of their short kernel calls. Cells with long calls
run beside it. (`thread_engine` has one thread for them; a cluster's workers may have many.)"""


class Batch(NamedTuple):
    """Cells that run one after the other as one piece of work."""

    cells: list[tuple[str, Values]]
    """(id, canonical values) of each."""
    memory_bytes: int
    """What the largest of them needs while it runs."""
    cost_ns: int
    """About how long they take together."""
    is_short: bool
    """Whether they are mostly Python, all of them or none."""


class Engine(NamedTuple):
    """An executor and how to feed it."""

    name: str
    executor: Executor
    short_executor: Executor
    """Where batches that are mostly Python go."""
    slots: threading.Semaphore | None
    """How many batches may run at once in this process; None where they run in others."""
    memory_budget_bytes: int
    """What the cells in flight may need together."""
    max_cell_bytes: int
    """What one cell may need."""
    batch_ns: int
    """How long a batch should take: the longer, the smaller the share of handing it over."""
    max_batches: int
    """Batches on their way at once: enough to keep all busy while the journal is flushed."""
    details: dict[str, Any]
    """For the provenance."""
    trouble: Callable[[], str | None]
    """Says in one line why nothing moves, None where nothing is known to be wrong."""


def _row(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return a row in the order of the schema, as plain Python values."""
    return tuple(
        None if nullable and row[name] is None else convert(row[name])
        for name, convert, nullable in _CONVERT
    )


def run_cell(cell: str, values: Values, resident: str) -> CellResult:
    """Run one cell; what it raises becomes a failure with its message."""
    from p2mbatch.cell import run_scenario

    start = time.perf_counter_ns()
    rows: list[tuple[Any, ...]] = []
    error = message = ""
    try:
        scenario = Scenario.make(**dict(zip(FIELDS, values, strict=True)))
        rows = [_row(row) for row in run_scenario(scenario, resident)]
    except P2MBatchError as problem:
        error, message = type(problem).__name__, str(problem).removeprefix("scenario: ")
    except MemoryError as problem:
        error, message = "MemoryError", str(problem) or "the machine has no memory left for it"
    except Exception as problem:
        # A cell is one of thousands: its failure is a result, and the others go on.
        text = str(problem).strip().splitlines()
        error, message = type(problem).__name__, text[0] if text else repr(problem)
    return CellResult(cell, values, rows, error, message, time.perf_counter_ns() - start)


def run_batch(
    cells: Sequence[tuple[str, Values]], resident: str, versions: tuple[str, int]
) -> list[CellResult]:
    """Run `cells` one after the other; raises `ResourceError` where this is another p2mbatch.

    `versions` are the client's own (package, model): a worker that joined later may differ.
    """
    if versions != (__version__, MODEL_VERSION):
        raise ResourceError(
            f"a worker has p2mbatch {__version__} (model {MODEL_VERSION}), the client "
            f"{versions[0]} (model {versions[1]}): install the same version on all workers"
        )
    with (
        _PYTHON_TURN if costs.is_mostly_python(cells[0][1], resident) else contextlib.nullcontext()
    ):
        return [run_cell(cell, values, resident) for cell, values in cells]


def _run_in_slot(
    slots: threading.Semaphore,
    cells: list[tuple[str, Values]],
    resident: str,
    versions: tuple[str, int],
) -> list[CellResult]:
    """Do `run_batch` when one of `slots` is free."""
    with slots:
        return run_batch(cells, resident, versions)


def submit(engine: Engine, batch: Batch, resident: str) -> Future[list[CellResult]]:
    """Hand `batch` to the engine."""
    executor = engine.short_executor if batch.is_short else engine.executor
    arguments = (batch.cells, resident, (__version__, MODEL_VERSION))
    if engine.slots is None:
        return executor.submit(run_batch, *arguments)
    return executor.submit(_run_in_slot, engine.slots, *arguments)


@contextlib.contextmanager
def thread_engine(num_workers: int, memory_budget_bytes: int | None) -> Iterator[Engine]:
    """Yield an engine of `num_workers` threads in this process; the kernels run without the GIL."""
    budget = memory_budget_bytes or int(_MEMORY_SHARE * provenance.memory_bytes())
    executor = ThreadPoolExecutor(num_workers, thread_name_prefix="p2mbatch-cell")
    # Were short work to go from thread to thread, each would find its tables in another core's
    # cache.
    short_executor = ThreadPoolExecutor(1, thread_name_prefix="p2mbatch-short")
    try:
        yield Engine(
            THREADS,
            executor,
            short_executor,
            threading.Semaphore(num_workers),
            budget,
            budget,
            batch_ns=20_000_000,
            max_batches=4 * num_workers + 2,
            details={"engine": THREADS, "jobs": num_workers, "memory_budget_bytes": budget},
            trouble=lambda: None,
        )
    finally:
        for threads in (executor, short_executor):
            threads.shutdown(wait=False, cancel_futures=True)
        for threads in (executor, short_executor):
            threads.shutdown(wait=True)


def _worker_versions() -> dict[str, Any]:
    """Return what must be the same on a worker and on the client; runs on the worker."""
    import numba
    import numpy

    return {
        "p2mbatch": __version__,
        "model_version": MODEL_VERSION,
        "numba": numba.__version__,
        "numpy": numpy.__version__,
    }


def _check_workers(client: Any, address: str) -> None:
    """Raise `ResourceError` naming the first worker whose versions are not the client's."""
    own = _worker_versions()
    try:
        found = client.run(_worker_versions, on_error="return")
        client.get_versions(check=True)
    except ValueError as error:
        lines = " ".join(str(error).split())
        raise ResourceError(f"{address}: client and workers differ: {lines[:400]}") from None
    for worker, theirs in found.items():
        if not isinstance(theirs, dict):
            raise ResourceError(
                f"{address}: worker {worker} can't import p2mbatch ({theirs}): install it there"
            )
        for name, version in own.items():
            if theirs.get(name) != version:
                raise ResourceError(
                    f"{address}: worker {worker} has {name} {theirs.get(name)}, the client "
                    f"{version}: install the same version on all workers"
                )


def _workers_of(client: Any) -> dict[str, Any]:
    workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return workers


_WANTED = "give tcp://host:port, or the file that `dask scheduler --scheduler-file` writes"


def _check_scheduler(scheduler: str) -> None:
    """Raise `InputError` for what is neither an address nor can be a scheduler file."""
    if _ADDRESS.fullmatch(scheduler):
        return
    is_file = Path(scheduler).is_file()
    if "://" in scheduler or (_NO_SCHEME.fullmatch(scheduler) and not is_file):
        raise InputError(f"--scheduler {scheduler}: not a scheduler's address: {_WANTED}")
    if is_file:
        _address_in(Path(scheduler))


def _address_in(path: Path) -> str:
    """Return the address that the scheduler file `path` holds; empty where it is still empty."""
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if text else {"address": ""}
    except OSError as error:
        raise InputError(f"--scheduler {path}: {error.strerror or error}: {_WANTED}") from None
    except ValueError:
        raise InputError(f"--scheduler {path}: not a scheduler file: {_WANTED}") from None
    address = found.get("address") if isinstance(found, dict) else None
    if not isinstance(address, str):
        raise InputError(f"--scheduler {path}: no address in it: {_WANTED}")
    return address


def _scheduler_address(scheduler: str) -> str:
    """Return the address that `scheduler` is, or that the scheduler file of this name holds.

    A scheduler that is just starting has some seconds to write its file. (Dask's client would wait
    for ever.) Raises `InputError` where there is no address then.
    """
    if _ADDRESS.fullmatch(scheduler):
        return scheduler
    path = Path(scheduler)
    deadline = time.monotonic() + _CONNECT_S
    while not (path.exists() and _address_in(path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    address = _address_in(path)
    if not address:
        raise InputError(f"--scheduler {path}: no address in it: {_WANTED}")
    return address


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold SIGINT back from this thread for a while, and for good from what is started inside.

    A terminal's Ctrl-C reaches a local cluster's workers too, but is the client's to act on: it is
    handled here afterwards. Threads and processes inherit what is held back.
    """
    # This one, which every start of a process looks for, lets go of SIGINT when it is begun.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Dask logs and warns of off the terminal: what matters is said in one line here."""
    names = ("asyncio", "distributed", "tornado")
    present = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    loggers = [found for found in present if found.name.partition(".")[0] in names]
    before = [found.disabled for found in loggers]
    try:
        for found in loggers:
            found.disabled = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for found, disabled in zip(loggers, before, strict=True):
            found.disabled = disabled


@contextlib.contextmanager
def dask_engine(
    num_workers: int, memory_budget_bytes: int | None, scheduler: str | None
) -> Iterator[Engine]:
    """Yield an engine on the Dask cluster at `scheduler`, or on processes of this machine.

    `scheduler` is an address (tcp://host:port) or a scheduler file. Raises `InputError` where
    dask.distributed is not installed, `ResourceError` where the cluster can't be used.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise InputError(
            "--engine dask: dask.distributed is not installed: pip install 'p2mbatch[dask]'"
        ) from None
    # dask.distributed has no types.
    make_cluster: Any = LocalCluster
    make_client: Any = Client
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        if scheduler is None:
            budget = memory_budget_bytes or int(_MEMORY_SHARE * provenance.memory_bytes())
            with _interrupts_held():
                cluster = make_cluster(
                    n_workers=num_workers,
                    threads_per_worker=1,
                    memory_limit=None,
                    dashboard_address=None,
                    silence_logs=50,
                )
            stack.callback(cluster.close, 30)
            target: dict[str, Any] = {"address": cluster}
            address = str(cluster.scheduler_address)
        else:
            address = _scheduler_address(scheduler)
            target = {"address": address}
        try:
            client: Any = make_client(**target, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise ResourceError(
                f"--scheduler {scheduler}: no Dask scheduler answers there ({error}): start one "
                "with `dask scheduler`, or leave --scheduler out for workers on this machine"
            ) from None
        stack.callback(client.close)
        try:
            client.wait_for_workers(1, timeout=60)
        except TimeoutError:
            raise ResourceError(
                f"{address}: the scheduler has no worker: start some with `dask worker {address}`"
            ) from None
        _check_workers(client, address)
        workers = _workers_of(client).values()
        threads = sum(int(worker["nthreads"]) for worker in workers)
        limits = [int(worker["memory_limit"]) for worker in workers if worker["memory_limit"]]
        if scheduler is not None:
            budget = memory_budget_bytes or int(_MEMORY_SHARE * sum(limits)) or 1 << 62
        largest = min(limits, default=budget)

        def trouble() -> str | None:
            if client.status != "running":
                return f"{address}: the connection to the scheduler is lost"
            try:
                cores = client.sync(client.scheduler.ncores, callback_timeout=_ANSWER_S)
            except (OSError, TimeoutError):
                return f"{address}: the scheduler does not answer; waiting"
            return None if cores else f"{address}: no worker is connected; waiting"

        executor = client.get_executor(pure=False)
        yield Engine(
            DASK,
            executor,
            executor,
            None,
            budget,
            min(largest, budget),
            batch_ns=200_000_000,
            max_batches=2 * threads + 1,
            details={
                "engine": DASK,
                "scheduler": address,
                "workers": len(workers),
                "jobs": threads,
                "memory_budget_bytes": budget,
            },
            trouble=trouble,
        )


def check_choice(name: str, num_workers: int | None, scheduler: str | None) -> None:
    """Raise `InputError` for an engine, or a combination, that there is not."""
    if name not in ENGINES:
        raise InputError(f"--engine {name}: not an engine: use {' or '.join(ENGINES)}")
    if num_workers is not None and num_workers < 1:
        raise InputError(f"--jobs {num_workers}: at least one is needed")
    if scheduler is not None and name != DASK:
        raise InputError("--scheduler is for --engine dask: give both or neither")
    if scheduler is not None and num_workers is not None:
        raise InputError("--jobs: the scheduler's workers are what there is; leave --jobs out")
    if scheduler is not None:
        _check_scheduler(scheduler)


@contextlib.contextmanager
def open_engine(
    name: str, num_workers: int | None, memory_budget_bytes: int | None, scheduler: str | None
) -> Iterator[Engine]:
    """Yield the engine called `name`; `num_workers` None is one for each core.

    Raises `InputError` or `ResourceError` where it can't be had.
    """
    check_choice(name, num_workers, scheduler)
    jobs = provenance.num_cores() if num_workers is None else num_workers
    if name == THREADS:
        with thread_engine(jobs, memory_budget_bytes) as engine:
            yield engine
    else:
        with dask_engine(jobs, memory_budget_bytes, scheduler) as engine:
            yield engine
