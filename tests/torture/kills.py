"""Sweeps that are killed at random moments: nothing acknowledged is lost, the table is the same."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import NamedTuple

from p2mbatch.base.filenames import JOURNAL_NAME
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.results import SweepResult
from sweep_support import exact, p2mbatch, sweep_process
from sweep_support import run as sweep

SPEC = """
[grid]
memory = ["1GiB", "4GiB"]
sparsity = [0, 0.5]
policy = ["tracked", "stale"]
migrations = 4
seeds = 20
"""

WITHIN_S = 1.5
"""A kill comes so long after the journal is there, at most."""


class Try(NamedTuple):
    """One kill."""

    after_s: float
    num_cells: int
    """Cells that were in the store afterwards."""
    fault: str


def run(folder: Path, seed: int, seconds: float) -> list[Try]:
    """Kill sweeps for `seconds`, then finish the last and compare; return what came of each."""
    dice, tries = random.Random(seed), list[Try]()
    spec, number = folder / "kill.toml", 0
    spec.write_text(SPEC)
    reference = exact(sweep(SweepSpec.from_file(spec), folder / "reference"))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        number += 1
        out, before = folder / f"s{number}", 0
        while time.monotonic() < end:
            process = sweep_process(spec, out)
            # What comes before the journal is Python's start: nothing is lost there.
            while process.poll() is None and not (out / JOURNAL_NAME).exists():
                time.sleep(0.01)
            after_s = dice.random() * WITHIN_S
            time.sleep(after_s)
            done = process.poll() is not None
            process.kill()
            process.communicate()
            if done:
                break
            now = _cells(out)
            lost = "" if now >= before else f"{before} cells before, {now} now"
            tries.append(Try(after_s, now, lost))
            before = now
        last = p2mbatch("sweep", str(spec), "--out", str(out), "--no-report", "-q")
        if last.returncode or not exact(SweepResult.open(out)).equals(reference):
            tries.append(Try(0.0, _cells(out), f"another table, or: {last.stderr[-300:]}"))
    return tries


def _cells(out: Path) -> int:
    try:
        return SweepResult.open(out).progress.num_finished
    except Exception:
        return 0
