"""Policies that a second process compiles: its share, and that it ends with whoever wants them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from p2mbatch.model import beside


def _started(*names: str) -> tuple[subprocess.Popen[bytes], int]:
    """Return the other process, interpreting instead of compiling, and the pipe that holds it."""
    ends, held = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "p2mbatch.model.beside", str(ends), *names],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, pass_fds=(ends,), stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(ends)
    return process, held


def test_it_is_done_with_the_policies_that_it_is_named() -> None:
    process, held = _started("none", "tail")
    assert process.communicate(timeout=60) == (None, b"") and process.returncode == 0
    os.close(held)
    process, held = _started("nonesuch")
    assert b"nonesuch" in process.communicate(timeout=60)[1] and process.returncode == 1
    os.close(held)


def test_it_ends_where_the_process_does_that_started_it() -> None:
    process, held = _started(*["none"] * 10_000)
    os.close(held)
    process.communicate(timeout=60)
    assert process.returncode == 1


@pytest.mark.parametrize("num", [1, 2, 3, 7])
def test_each_process_has_half_of_what_there_is_to_compile(num: int) -> None:
    names = [f"policy {k}" for k in range(num)]
    theirs, ours = beside._shares(names)
    assert [*theirs, *ours] == names
    spare = len(theirs) - (len(ours) + beside._TOOLSTACKS_SHARE)
    assert spare in (0, 1) or (spare < 0 and not ours)
