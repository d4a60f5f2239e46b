"""Engines: where a sweep's cells run, this process's threads or a Dask cluster.

Both are `concurrent.futures` executors that are handed batches of cells; what differs is how long
a batch should be, how many may be on their way, and what may go wrong with one.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from p2mbatch._version import MODEL_VERSION, __version__
from p2mbatch.base import provenance
from p2mbatch.base.errors import P2MBatchError, PolicyError, ResourceError
from p2mbatch.guests.fields import FIELDS
from p2mbatch.guests.scenario import Scenario
from p2mbatch.model.own.policy import Carried, carried, registered
from p2mbatch.spec.sections import Values
from p2mbatch.store.blocks import CellResult
from p2mbatch.store.columns import ROW_COLUMNS
from p2mbatch.sweeps import costs

THREADS, DASK = "threads", "dask"

ENGINES = (THREADS, DASK)

MEMORY_SHARE = 0.8
"""Of what the machine, its cgroup or a cluster's workers have, the part that cells may use."""

_POLICY = FIELDS.index("policy")

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
    notice: str = ""
    """What a person should know before the first cell."""


def _row(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return a row in the order of the schema, as plain Python values."""
    return tuple(
        None if nullable and row[name] is None else convert(row[name])
        for name, convert, nullable in _CONVERT
    )


def run_cell(cell: str, values: Values, resident: str) -> CellResult:
    """Run one cell; what it raises becomes a failure with its message."""
    from p2mbatch.guests.rows import run_scenario

    start = time.perf_counter_ns()
    rows: list[tuple[Any, ...]] = []
    error = message = ""
    try:
        scenario = Scenario.make(**dict(zip(FIELDS, values, strict=True)))
        rows = [_row(row) for row in run_scenario(scenario, resident)]
    except PolicyError:
        # It is the same for every cell: its file is to be mended first.
        raise
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
    cells: Sequence[tuple[str, Values]],
    resident: str,
    versions: tuple[str, int],
    policies: Sequence[Carried] = (),
) -> list[CellResult]:
    """Run `cells` one after the other; raises `ResourceError` where this is another p2mbatch.

    `versions` are the client's own (package, model): a worker that joined later may differ.
    `policies` are those of the user's own that the cells name: another process has not read them.
    """
    if versions != (__version__, MODEL_VERSION):
        raise ResourceError(
            f"a worker has p2mbatch {__version__} (model {MODEL_VERSION}), the client "
            f"{versions[0]} (model {versions[1]}): install the same version on all workers"
        )
    for policy in policies:
        registered(policy)
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
        return executor.submit(run_batch, *arguments, carried({c[1][_POLICY] for c in batch.cells}))
    return executor.submit(_run_in_slot, engine.slots, *arguments)


@contextlib.contextmanager
def thread_engine(num_workers: int, memory_budget_bytes: int | None) -> Iterator[Engine]:
    """Yield an engine of `num_workers` threads in this process; the kernels run without the GIL."""
    budget = memory_budget_bytes or int(MEMORY_SHARE * provenance.memory_bytes())
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
