"""Engines: where a sweep's cells run, this process's threads or a Dask cluster.

Both are `concurrent.futures` executors that are handed batches of cells; what differs is how long
a batch should be, how many may be on their way, and what may go wrong with one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from p2mbatch._version import MODEL_VERSION, __version__
from p2mbatch.base import provenance
from p2mbatch.base.errors import ResourceError
from p2mbatch.base.words import Words, words_of
from p2mbatch.model.owned import Carried
from p2mbatch.model.policies import carried
from p2mbatch.store.blocks import NO_ROWS, Block, Cells, Failed, some_cells

if TYPE_CHECKING:
    from p2mbatch.guests.batch.columns import Lived

THREADS, DASK = "threads", "dask"

ENGINES = (THREADS, DASK)

Stopper = Any
"""OneRecord[Control]: what stops a batch (`guests.batch.lives.new_control`)."""

MEMORY_SHARE = 0.8
"""Of what the machine, its cgroup or a cluster's workers have, the part that cells may use."""


class Batch(NamedTuple):
    """Cells that run one after the other as one piece of work."""

    cells: Cells
    first: int
    """The position in the spec of the first of them."""
    memory_bytes: int
    """What the largest of them needs while it runs."""
    cost_ns: int
    """About how long they take together."""


class Engine(NamedTuple):
    """An executor and how to feed it."""

    name: str
    executor: Executor
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
    controls: list[Stopper] | None = None
    """What stops the batches that run in this process; None where they run in others."""


def run_batch(
    cells: Cells,
    resident: str,
    versions: tuple[str, int],
    policies: Sequence[Carried] = (),
    control: Stopper | None = None,
) -> Block:
    """Run `cells` one after the other; raises `ResourceError` where this is another p2mbatch.

    `versions` are the client's own (package, model): a worker that joined later may differ.
    `policies` are those of the user's own that the cells name: another process has not read them.
    """
    if versions != (__version__, MODEL_VERSION):
        raise ResourceError(
            f"a worker has p2mbatch {__version__} (model {MODEL_VERSION}), the client "
            f"{versions[0]} (model {versions[1]}): install the same version on all workers"
        )
    from p2mbatch.guests.batch.lives import live

    for policy in policies:
        policy.enter()
    return block_of_lives(cells, live(cells.values, resident, control))


def block_of_lives(cells: Cells, lived: Lived) -> Block:
    """Return what a batch came to as a block of the store."""
    failed = np.array([failure.cell for failure in lived.failures], np.int64)
    good = np.ones(len(cells), np.bool_)
    good[failed] = False
    return Block(
        some_cells(cells, good),
        lived.duration_ns[good],
        lived.num_rows[good],
        {name: lived.rows.get(name, none) for name, none in NO_ROWS.items()},
        Failed(
            some_cells(cells, failed),
            words_of([failure.error for failure in lived.failures]),
            words_of([failure.message for failure in lived.failures]),
        ),
    )


def _run_here(
    controls: list[Stopper],
    cells: Cells,
    resident: str,
    versions: tuple[str, int],
) -> Block:
    """Do `run_batch`, with what stops it among `controls` meanwhile."""
    from p2mbatch.guests.batch.lives import new_control

    control = new_control()
    controls.append(control)
    try:
        return run_batch(cells, resident, versions, control=control)
    finally:
        # Equal records are not the same one.
        controls[:] = [other for other in controls if other is not control]


def submit(engine: Engine, batch: Batch, resident: str) -> Future[Block]:
    """Hand `batch` to the engine."""
    arguments = (batch.cells, resident, (__version__, MODEL_VERSION))
    if engine.controls is not None:
        return engine.executor.submit(_run_here, engine.controls, *arguments)
    policies = batch.cells.values["policy"]
    names = set(policies.words) if isinstance(policies, Words) else set()
    return engine.executor.submit(run_batch, *arguments, carried(names))


def stop_running(engine: Engine) -> None:
    """Have the batches that run in this process give up before their next event."""
    for control in list(engine.controls or ()):
        control["stop"] = 1


@contextlib.contextmanager
def thread_engine(num_workers: int, memory_budget_bytes: int | None) -> Iterator[Engine]:
    """Yield an engine of `num_workers` threads in this process; the kernels run without the GIL."""
    budget = memory_budget_bytes or int(MEMORY_SHARE * provenance.memory_bytes())
    executor = ThreadPoolExecutor(num_workers, thread_name_prefix="p2mbatch-cell")
    engine = Engine(
        THREADS,
        executor,
        budget,
        budget,
        batch_ns=20_000_000,
        max_batches=4 * num_workers + 2,
        details={"engine": THREADS, "jobs": num_workers, "memory_budget_bytes": budget},
        trouble=lambda: None,
        controls=[],
    )
    try:
        yield engine
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        stop_running(engine)
        executor.shutdown(wait=True)
