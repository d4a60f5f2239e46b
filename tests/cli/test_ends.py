"""How a command's process ends: not taken apart, and yet with all that belongs to an end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_CODE = """
import atexit, sys, threading, time
atexit.register(lambda: print("at exit"))
def late():
    time.sleep(0.5)
    print("a thread")
threading.Thread(target=late).start()
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
pool.submit(print, "a pool's thread")
from p2mbatch.__main__ import main
main()
"""


def _run(*arguments: str, code: str = _CODE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120
    )


def test_what_is_to_be_done_at_the_end_is_done() -> None:
    done = _run("--version")
    assert done.returncode == 0 and done.stderr == ""
    said = done.stdout.splitlines()
    assert said[-1] == "at exit" and {"a thread", "a pool's thread"} < set(said)


def test_the_code_is_the_commands(tmp_path: Path) -> None:
    assert _run("show", str(tmp_path / "none")).returncode == 2
    assert _run("no-command").returncode == 2
    assert _run("policies").returncode == 0


def test_all_that_was_printed_is_out() -> None:
    done = _run("policies", "--json")
    assert done.stdout.rstrip().splitlines()[-1] == "at exit" and len(done.stdout) > 1000


def test_a_profile_of_a_command_is_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cProfile", "-m", "p2mbatch", "--version"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "function calls" in done.stdout
