"""The workers of a Dask cluster: which of them answer, with which versions, and which are gone.

A process that is stopped, or a machine that is cut off, stays connected for minutes. Whatever is
asked of workers is asked of each on its own and for a limited time.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

from p2mbatch._version import MODEL_VERSION, __version__
from p2mbatch.base.errors import ResourceError

CHECK_S = 10.0
"""What a worker has to say its versions: it imports p2mbatch for that."""

PING_S = 5.0
"""What a worker has to say that it is there, once it has worked."""

_NO_ANSWER = object()


def worker_versions() -> dict[str, Any]:
    """Return what must be the same on a worker and on the client; runs on the worker."""
    import numba
    import numpy

    return {
        "p2mbatch": __version__,
        "model_version": MODEL_VERSION,
        "numba": numba.__version__,
        "numpy": numpy.__version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "distributed": version("distributed"),
        "cloudpickle": version("cloudpickle"),
    }


def _ping() -> bool:
    return True


def ask(
    client: Any, addresses: Iterable[str], question: Callable[[], Any], limit_s: float
) -> dict[str, Any]:
    """Return what `question` returns on each worker, or raised; `_NO_ANSWER` after `limit_s`."""
    # Sockets and TLS come with it, which threads don't need.
    import asyncio

    async def one(address: str) -> tuple[str, Any]:
        asked = client._run(question, workers=[address], on_error="return")
        try:
            found = await asyncio.wait_for(asked, limit_s)
        except (TimeoutError, OSError):
            return address, _NO_ANSWER
        return address, found.get(address, _NO_ANSWER)

    async def every() -> list[tuple[str, Any]]:
        return list(await asyncio.gather(*map(one, addresses)))

    return dict(client.sync(every))


def workers_of(client: Any) -> dict[str, Any]:
    """Return what the scheduler says of its workers, by address."""
    workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return workers


def answering(client: Any, address: str) -> tuple[dict[str, Any], list[str]]:
    """Return the workers of the scheduler at `address` that can work, and those that are silent.

    Raises `ResourceError` naming the first whose versions are not the client's, or where none
    answers within `CHECK_S`.
    """
    workers, own = workers_of(client), worker_versions()
    found = ask(client, workers, worker_versions, CHECK_S)
    silent = [worker for worker, theirs in found.items() if theirs is _NO_ANSWER]
    for worker, theirs in found.items():
        if theirs is _NO_ANSWER:
            continue
        if not isinstance(theirs, dict):
            raise ResourceError(
                f"{address}: worker {worker} can't import p2mbatch ({theirs}): install it there"
            )
        for name, mine in own.items():
            if theirs.get(name) != mine:
                raise ResourceError(
                    f"{address}: worker {worker} has {name} {theirs.get(name)}, the client "
                    f"{mine}: install the same version on all workers"
                )
    if len(silent) == len(workers):
        raise ResourceError(
            f"{address}: {listed(silent)}: no answer in {CHECK_S:.0f} s: look whether it is stopped"
        )
    return {w: told for w, told in workers.items() if w not in silent}, silent


def let_go(client: Any) -> list[str]:
    """Have the scheduler forget the workers that don't answer and have work; return which.

    What they had is given to others. The scheduler does so by itself too, after minutes.
    """
    processing = client.sync(client.scheduler.processing, workers=None)
    busy = [worker for worker, tasks in processing.items() if tasks]
    found = ask(client, busy, _ping, PING_S)
    gone = [worker for worker, told in found.items() if told is _NO_ANSWER]
    for worker in gone:
        client.sync(client.scheduler.unregister, address=worker, callback_timeout=PING_S)
    return gone


def listed(workers: list[str]) -> str:
    """Return workers' addresses as a line begins with them."""
    return f"worker{'s'[: len(workers) != 1]} {', '.join(workers)}"
