"""Environment variables that numba can't start with, and two processes that fill one cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2mbatch.base.errors import InputError
from p2mbatch.compiled import environment

TRACE = Path(__file__).parents[2] / "data/traces/balloon-64-0.json.gz"

BAD = [
    *[("NUMBA_NUM_THREADS", value) for value in ("0", "-3", "abc", "1.5", "1e3", "\x1b[2J")],
    *[(name, "x") for name in environment._WHOLE],
    ("NUMBA_OPT", "9"),
    ("NUMBA_THREADING_LAYER", "foo"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_each_is_named(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"environment: {name} is"):
        environment.check()


def test_what_numba_takes_is_taken(monkeypatch):
    for name, value in (("NUMBA_NUM_THREADS", " 1 "), ("NUMBA_OPT", "0"), ("NUMBA_DEBUG", "")):
        monkeypatch.setenv(name, value)
    environment.check()


@pytest.mark.parametrize(
    ("name", "value"), [("NUMBA_NUM_THREADS", "0"), ("NUMBA_THREADING_LAYER", "foo")]
)
def test_a_command_says_it_in_one_line(name, value):
    done = subprocess.run(
        [sys.executable, "-m", "p2mbatch", "replay", str(TRACE)],
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"p2mbatch: error: environment: {name} is '{value}'")
    assert done.stderr.count("\n") == 1
