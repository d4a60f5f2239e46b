"""The engine that hands cells to Dask workers."""

from __future__ import annotations

import contextlib
import logging
import re
import signal
import time
import warnings
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from p2mbatch.base import provenance
from p2mbatch.base.errors import InputError, ResourceError
from p2mbatch.base.json_text import parse_json, read_text
from p2mbatch.base.paths import is_file, is_there
from p2mbatch.sweeps.dask_workers import answering, let_go, listed
from p2mbatch.sweeps.engine import DASK, MEMORY_SHARE, Engine

_ADDRESS = re.compile(r"inproc://.+|(tcp|tls|wss?|ucx)://.+:\d+/?")
"""What Dask schedulers can be reached at."""

_NO_SCHEME = re.compile(r"[^/]+:\d+")

_CONNECT_S = 10
"""What a scheduler has to write its file, and again to answer."""

_ANSWER_S = 5
"""A scheduler that takes longer to say what workers it has is in trouble."""


_MAX_FILE_BYTES = 1 << 20
"""Of a scheduler file, which has a few hundred for each of its services."""

_WANTED = "give tcp://host:port, or the file that `dask scheduler --scheduler-file` writes"


def check_scheduler(scheduler: str) -> None:
    """Raise `InputError` for what is neither an address nor can be a scheduler file."""
    if _ADDRESS.fullmatch(scheduler):
        return
    has_file = is_file(scheduler)
    if "://" in scheduler or (_NO_SCHEME.fullmatch(scheduler) and not has_file):
        raise InputError(f"--scheduler {scheduler}: not a scheduler's address: {_WANTED}")
    if has_file:
        _address_in(Path(scheduler))


def _address_in(path: Path) -> str:
    """Return the address that the scheduler file `path` holds; empty where it is still empty."""
    name = f"--scheduler {path}"
    try:
        text = read_text(path, _MAX_FILE_BYTES, name=name)
        found = parse_json(text, name) if text else {"address": ""}
    except InputError as error:
        raise InputError(f"{error}: not a scheduler file: {_WANTED}") from None
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
    while not (is_there(path) and _address_in(path)) and time.monotonic() < deadline:
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
            budget = memory_budget_bytes or int(MEMORY_SHARE * provenance.memory_bytes())
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
        workers, silent = answering(client, address)
        threads = sum(int(worker["nthreads"]) for worker in workers.values())
        limits = [
            int(worker["memory_limit"]) for worker in workers.values() if worker["memory_limit"]
        ]
        if scheduler is not None:
            budget = memory_budget_bytes or int(MEMORY_SHARE * sum(limits)) or 1 << 62
        largest = min(limits, default=budget)

        def trouble() -> str | None:
            if client.status != "running":
                return f"{address}: the connection to the scheduler is lost"
            try:
                cores = client.sync(client.scheduler.ncores, callback_timeout=_ANSWER_S)
                gone = let_go(client) if cores else []
            except (OSError, TimeoutError):
                return f"{address}: the scheduler does not answer; waiting"
            if gone:
                return f"{listed(gone)}: no answer; what it had is given to others"
            return None if cores else f"{address}: no worker is connected; waiting"

        # Those that don't answer get cells again only where no other is left.
        chosen: dict[str, Any] = (
            {"workers": list(workers), "allow_other_workers": True} if silent else {}
        )
        executor = client.get_executor(pure=False, **chosen)
        yield Engine(
            DASK,
            executor,
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
            notice=f"{listed(silent)}: no answer; the sweep goes on without" if silent else "",
        )
