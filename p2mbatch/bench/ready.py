"""How long the kernels take to compile, and to load from their cache.

This file loads no kernel itself: where they are cached is settled when they are loaded.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

GROUPS = ("serial", "parallel")
"""`bench.warmup.GROUPS`, named here so that no kernel is loaded."""


def _run(groups: tuple[str, ...], folder: str) -> dict[str, float]:
    """Get the kernels of `groups` ready at once, a process each; return their seconds."""
    environment = {**os.environ, "P2MBATCH_CACHE_DIR": folder}
    begin = time.perf_counter()
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "p2mbatch.bench.warmup", group],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for group in groups
    ]  # fmt: skip
    times: dict[str, float] = {}
    for process in running:
        text, error = process.communicate()
        if process.returncode:
            raise RuntimeError(f"the kernels could not be compiled:\n{error}")
        times.update(json.loads(text))
    return {**times, "all": time.perf_counter() - begin}


@contextlib.contextmanager
def fresh_cache() -> Iterator[dict[str, float]]:
    """Compile every kernel of the report into a new cache, then load it in other processes.

    Yields the seconds that each took, once compiled (`compile_..._s`) and once loaded
    (`load_..._s`); `all` is by the clock, interpreter and imports included. Inside the context the
    environment points at that cache, so that what is measured next is neither compiled again nor
    taken from a cache that says nothing about this build.
    """
    with tempfile.TemporaryDirectory(prefix="p2mbatch-bench-cache-") as folder:
        times = {f"compile_{name}_s": s for name, s in _run(GROUPS, folder).items()}
        for group in GROUPS:
            loaded = _run((group,), folder)
            whole = times.get("load_all_s", 0.0) + loaded.pop("all")
            times |= {f"load_{name}_s": seconds for name, seconds in loaded.items()}
            times["load_all_s"] = whole
        before = os.environ.get("P2MBATCH_CACHE_DIR")
        os.environ["P2MBATCH_CACHE_DIR"] = folder
        try:
            yield times
        finally:
            if before is None:
                del os.environ["P2MBATCH_CACHE_DIR"]
            else:
                os.environ["P2MBATCH_CACHE_DIR"] = before
