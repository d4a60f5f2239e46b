"""Processes of our own modules that end where whoever started them does, by a signal perhaps.

They are handed the end of a pipe to which nothing is written: it ends with its other end.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def held_process(module: str, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Run `python -m module FD arguments`, which calls `end_with(FD)`; it ends with the context.

    `options` are those of `Popen`.
    """
    ends, held = os.pipe()
    try:
        command = [sys.executable, "-m", module, str(ends), *arguments]
        process = subprocess.Popen(command, pass_fds=(ends,), **options)
    except BaseException:
        os.close(held)
        raise
    finally:
        os.close(ends)
    try:
        yield process
    finally:
        os.close(held)
        process.wait()


def end_with(fd: int) -> None:
    """End this process, from a thread of its own, where the pipe `fd` ends."""
    threading.Thread(target=_wait, args=(fd,), daemon=True).start()


def _wait(fd: int) -> None:
    os.read(fd, 1)
    os._exit(1)
