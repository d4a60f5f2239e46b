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
from collections.abc import Iterator

_WARM_UP = """
import json, sys, time
begin = time.perf_counter()
from p2mbatch import bench_warmup
imported = time.perf_counter()
print(json.dumps({"import": imported - begin, **bench_warmup.warm_up()}))
"""


@contextlib.contextmanager
def fresh_cache() -> Iterator[dict[str, float]]:
    """Compile every kernel of the report in a new process and a new cache, then load it in another.

    Yields the seconds (import, and each group of kernels, once compiled and once loaded). Inside
    the context the environment points at that cache, so that what is measured next is neither
    compiled again nor taken from a cache that says nothing about this build.
    """
    with tempfile.TemporaryDirectory(prefix="p2mbatch-bench-cache-") as folder:
        environment = {**os.environ, "P2MBATCH_CACHE_DIR": folder}
        times: dict[str, float] = {}
        for what in ("compile", "load"):
            done = subprocess.run(
                [sys.executable, "-c", _WARM_UP],
                env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise RuntimeError(f"the kernels could not be {what}ed:\n{done.stderr}")
            for name, seconds in json.loads(done.stdout).items():
                times[f"{what}_{name}_s"] = seconds
        before = os.environ.get("P2MBATCH_CACHE_DIR")
        os.environ["P2MBATCH_CACHE_DIR"] = folder
        try:
            yield times
        finally:
            if before is None:
                del os.environ["P2MBATCH_CACHE_DIR"]
            else:
                os.environ["P2MBATCH_CACHE_DIR"] = before
