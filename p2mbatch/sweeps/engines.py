"""The choice of an engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from p2mbatch.base import provenance
from p2mbatch.base.errors import InputError
from p2mbatch.sweeps.dask import check_scheduler, dask_engine
from p2mbatch.sweeps.engine import DASK, ENGINES, THREADS, Engine, thread_engine


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
        check_scheduler(scheduler)


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
