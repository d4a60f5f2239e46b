"""Signals at random moments of a command's first seconds: one line, the right code, nothing left.

The command says by a byte on a pipe that its first instruction is done; the signal is sent at a
random moment after that. A command that was done before is none of the tries.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

LINES = {
    signal.SIGINT: "p2mbatch: interrupted",
    signal.SIGTERM: "p2mbatch: terminated",
    signal.SIGHUP: "p2mbatch: hung up",
}

OWN_ENDS = {"report": 2}
"""How a command ends that has nothing to do."""

COLD = 0.2
"""The part of the commands that has to compile its kernels."""

LATE_S = 1.0
"""A signal that comes as a command ends by itself may be too late to be heard."""

START = """
import os, sys
from p2mbatch.base import signals
signals.install()
os.write(int(sys.argv.pop(1)), b"!")
sys.argv[0] = "p2mbatch"
from p2mbatch.__main__ import main
main()
"""

ROOT = Path(__file__).resolve().parents[2]


class Try(NamedTuple):
    """One signal to one command."""

    command: str
    number: int
    after_s: float
    fault: str
    """What was not as promised; empty where all was, "done" where the command was done before."""
    took_s: float


def commands(folder: Path) -> dict[str, list[str]]:
    """Return commands that take some seconds each, working in `folder`."""
    trace = str(ROOT / "data/traces/balloon-64-300.json.gz")
    return {
        "help": ["--help"],
        "sweep": [
            "sweep",
            *("--memory", "1GiB", "--seeds", "100000", "--migrations", "20", "--no-report"),
            *("--out", str(folder / "store")),
        ],
        "replay": ["replay", *[trace] * 400, "--json"],
        "import": [
            *("import", str(folder / "listing"), "-o", str(folder / "out.json.gz")),
            *("--policy", "stale"),
        ],
        "audit": ["audit", str(folder / "listing"), "--html", str(folder / "page.html")],
        "race": ["race", "--help"],
        "bench": ["bench", "--out", str(folder / "perf")],
        "report": ["report", str(folder / "none")],
    }


def prepare(folder: Path) -> None:
    """Write the files that the commands read."""
    (folder / "tmp").mkdir(exist_ok=True)
    (folder / "listing").write_text(" [0x0->0x1000000] pfn\n")


def start(
    arguments: list[str],
    folder: Path,
    code: str = "from p2mbatch.__main__ import main\nmain()",
    pass_fds: tuple[int, ...] = (),
    environment: dict[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start a command by `code` in `folder`, with a group of processes to itself."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        pass_fds=pass_fds,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=os.environ | {"TMPDIR": str(folder / "tmp")} | (environment or {}),
        start_new_session=True,
    )


def one(
    name: str, arguments: list[str], number: int, after_s: float, folder: Path, cold: bool = False
) -> Try:
    """Start a command, send it a signal `after_s` its first instruction, look what it does.

    `cold`: it finds no compiled kernels, so the compiler is at work.
    """
    empty = {"P2MBATCH_CACHE_DIR": str(folder / "cold")} if cold else {}
    shutil.rmtree(folder / "cold", ignore_errors=True)
    reading, writing = os.pipe()
    process = start([str(writing), *arguments], folder, START, (writing,), empty)
    os.close(writing)
    ready = select.select([reading], [], [], 60)[0]
    os.close(reading)
    if not ready:
        process.kill()
        return Try(name, number, after_s, "did not start in 60 s", 0.0)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after_s)
        process.communicate()
        return Try(name, number, after_s, "done", 0.0)
    sent = time.monotonic()
    process.send_signal(number)
    try:
        _, errors = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Try(name, number, after_s, "still there after 60 s", 60.0)
    took_s = time.monotonic() - sent
    if process.returncode == OWN_ENDS.get(name, 0) and took_s < LATE_S and "error:" in errors:
        return Try(name, number, after_s, "done", took_s)
    fault = _fault(process.returncode, errors, number, folder)
    if not alone(process.pid):
        fault = f"{fault} left processes behind"
    return Try(name, number, after_s, fault, took_s)


def _fault(code: int, errors: str, number: int, folder: Path) -> str:
    line = LINES[signal.Signals(number)]
    said = [text for text in errors.splitlines() if text.startswith("p2mbatch: ")]
    # A notice that the kernels are compiled, or how to go on with a sweep, is no error of ours.
    others = [
        text
        for text in errors.replace("\r", "\n").splitlines()
        if text and text != line and "kernels for this machine" not in text
    ]
    if code == 0 and not said:
        return "done"  # it was, between the look and the signal
    if code != 128 + number:
        return f"exit code {code}: {errors[-300:]!r}"
    if said.count(line) != 1 or any("Traceback" in text or "rror" in text for text in others):
        return f"said {errors[-600:]!r}"
    left = [path.name for path in folder.rglob(".*.part")]
    left += [path.name for path in (folder / "tmp").glob("p2mbatch*")]
    return f"left {left}" if left else ""


def alone(group: int) -> bool:
    """Return whether no process of `group` is left soon after its first one's end."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)
    return False


def run(folder: Path, seed: int, seconds: float, most: int, within_s: float = 3.0) -> list[Try]:
    """Send signals for `seconds`, `most` at most; return what came of each try."""
    dice, tries, end = random.Random(seed), list[Try](), time.monotonic() + seconds
    prepare(folder)
    known = commands(folder)
    while time.monotonic() < end and sum(t.fault != "done" for t in tries) < most:
        name = dice.choice(list(known))
        number = dice.choice(list(LINES))
        # Half of them early: that is where imports are.
        after_s = dice.random() * (within_s if dice.random() < 0.5 else 0.6)
        cold = dice.random() < COLD
        tries.append(one(name, known[name], number, after_s, folder, cold))
        # What one has left behind is no fault of the next.
        shutil.rmtree(folder / "tmp")
        (folder / "tmp").mkdir()
    return tries
