"""Provenance: which versions, machine, source and command a result came from."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from p2mbatch._version import MODEL_VERSION, __version__
from p2mbatch.base.paths import is_there

_PACKAGES = ("numba", "llvmlite", "numpy", "pandas", "pyarrow", "pydantic")


def now() -> str:
    """Return the present time, UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def cpu_name() -> str:
    """Return the processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cache_sizes() -> dict[str, int]:
    """Return the sizes in bytes of the processor's data caches as Linux tells them, by level."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        with suppress(OSError, ValueError, KeyError):
            if (index / "type").read_text().strip() == "Instruction":
                continue
            text = (index / "size").read_text().strip()
            size = int(text[:-1]) * {"K": 1 << 10, "M": 1 << 20}[text[-1]]
            found["L" + (index / "level").read_text().strip()] = size
    return found


def num_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cgroup_limit_bytes() -> int | None:
    """Return the memory limit of this process's cgroup or of one around it, if there is any."""
    limits = []
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers == "":
            root, name = Path("/sys/fs/cgroup"), "memory.max"
        elif "memory" in controllers.split(","):
            root, name = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
        else:
            continue
        here = root / group.lstrip("/")
        for directory in (here, *here.parents):
            if not directory.is_relative_to(root):
                break
            try:
                text = (directory / name).read_text(encoding="utf-8").strip()
            except OSError:
                continue
            if text.isdecimal():
                limits.append(int(text))
    return min(limits, default=None)


def memory_bytes() -> int:
    """Return the memory that this process may use: the machine's, or its cgroup's if less."""
    machine = int(psutil.virtual_memory().total)
    limit = _cgroup_limit_bytes()
    return machine if limit is None else min(machine, limit)


@functools.cache
def git_commit() -> str | None:
    """Return the commit of the source tree that p2mbatch runs from, "+" where files differ.

    None where it runs from anything else: a wheel inside somebody's repository is not of it.
    """
    package = Path(__file__).resolve().parents[1]
    if not is_there(package.parent / ".git"):
        return None

    def git(*args: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(package.parent), *args],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("+" if git("status", "--porcelain", "-uno", "--", "p2mbatch") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str | int]:
    """Return the versions that decide what rows a cell gives and how fast."""
    found: dict[str, str | int] = {
        "p2mbatch": __version__,
        "model_version": MODEL_VERSION,
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def collect(command: Sequence[str] | None = None) -> dict[str, Any]:
    """Return this process's provenance: versions, machine, source, command; JSON values only."""
    argv = list(sys.argv if command is None else command)
    if argv:
        argv[0] = Path(argv[0]).name
    return {
        **versions(),
        "git_commit": git_commit(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": num_cores(),
        "memory_bytes": memory_bytes(),
        "command": argv,
    }
