"""A user's own Dask cluster on this machine: a scheduler and workers, in networks of their own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweep_support import SOURCE

_CLI = (sys.executable, "-m", "distributed.cli")


class Cluster:
    """A scheduler and its workers, without nannies; `close` ends them."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", **environment: str) -> None:
        """`folder` gets the scheduler's file and the workers' own."""
        self._folder, self._host = folder, host
        self.file = folder / "scheduler.json"
        self.processes: list[subprocess.Popen[Any]] = []
        self._env = {**os.environ, "PYTHONPATH": str(SOURCE), **environment}

    def start_scheduler(self, port: int = 0) -> subprocess.Popen[Any]:
        """Start the scheduler; port 0 is any."""
        self.file.unlink(missing_ok=True)
        return self._start(
            "scheduler", "--port", str(port), "--no-dashboard", "--host", self._host,
            "--scheduler-file", str(self.file),
        )  # fmt: skip

    def start_worker(self, name: str, *within: str) -> subprocess.Popen[Any]:
        """Start a worker of one thread; `within` is a command that runs it elsewhere."""
        return self._start(
            "worker", "--nthreads", "1", "--no-nanny", "--no-dashboard",
            "--scheduler-file", str(self.file), "--name", name, within=within,
        )  # fmt: skip

    def _start(self, what: str, *options: str, within: tuple[str, ...] = ()) -> Any:
        process = subprocess.Popen(
            [*within, *_CLI[:-1], f"{_CLI[-1]}.dask_{what}", *options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=self._env, cwd=self._folder,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def close(self) -> None:
        """End all of it."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Networks:
    """Network namespaces of this machine on one bridge; the machine itself is `HOST`."""

    HOST = "10.213.7.1"
    _BRIDGE = "p2mb-br"

    def __init__(self) -> None:
        """Make the bridge; needs root. Raises `CalledProcessError` where it can't be made."""
        self._num = 0
        _ip("link", "add", self._BRIDGE, "type", "bridge")
        _ip("addr", "add", f"{self.HOST}/24", "dev", self._BRIDGE)
        _ip("link", "set", self._BRIDGE, "up")

    def add(self) -> tuple[str, ...]:
        """Add a namespace; return the command that runs another in it."""
        number = self._num
        self._num += 1
        name, outer = f"p2mb-{number}", f"p2mb-v{number}"
        _ip("netns", "add", name)
        _ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", outer, "master", self._BRIDGE)
        _ip("link", "set", outer, "up")
        _ip("-n", name, "addr", "add", f"10.213.7.{10 + number}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        return ("ip", "netns", "exec", name)

    def set_cut(self, number: int, is_cut: bool) -> None:
        """Take the namespace's cable out, or put it back in."""
        _ip("link", "set", f"p2mb-v{number}", "down" if is_cut else "up")

    def close(self) -> None:
        """Remove all of it."""
        for number in range(self._num):
            _ip("netns", "del", f"p2mb-{number}")
        _ip("link", "del", self._BRIDGE)


@contextlib.contextmanager
def networks() -> Iterator[Networks]:
    """Yield networks, removed at the end."""
    made = Networks()
    try:
        yield made
    finally:
        made.close()
