"""Flipped bits in a store's write-ahead log: its end may be lost, no number may change."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from p2mbatch.base.errors import P2MBatchError
from p2mbatch.store.journal import JOURNAL_NAME, Journal
from p2mbatch.store.results import SweepResult
from sweep_support import STORE_SPEC, result

CELLS, PER_COMMIT = 40, 4


class Try(NamedTuple):
    """One log with flipped bits."""

    num_flips: int
    num_cells: int
    """Cells that were still there."""
    fault: str


def torn_store(folder: Path) -> Path:
    """Return a store whose commits are all in the log, as a kill leaves it."""
    with Journal.open(folder / "whole") as journal:
        journal.admit(STORE_SPEC, resident="auto", extend=False)
        for first in range(0, CELLS, PER_COMMIT):
            cells = [result(seed) for seed in range(first, first + PER_COMMIT)]
            journal.commit(cells, first + PER_COMMIT)
        shutil.copytree(folder / "whole", folder / "torn")
    return folder / "torn"


def run(folder: Path, seed: int, seconds: float, most: int) -> list[Try]:
    """Flip bits for `seconds`, in `most` logs at most; return what came of each."""
    dice, tries, end = random.Random(seed), list[Try](), time.monotonic() + seconds
    torn = torn_store(folder)
    whole = SweepResult.open(folder / "whole").frame
    log = (torn / f"{JOURNAL_NAME}-wal").read_bytes()
    while time.monotonic() < end and len(tries) < most:
        copy = folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(torn, copy)
        (copy / f"{JOURNAL_NAME}-shm").unlink(missing_ok=True)
        data, num = bytearray(log), dice.choice((1, 1, 2, 8, 100))
        for _ in range(num):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        (copy / f"{JOURNAL_NAME}-wal").write_bytes(data)
        tries.append(_look(copy, whole, num))
    return tries


def _look(copy: Path, whole: object, num: int) -> Try:
    try:
        kept = SweepResult.open(copy).frame
    except P2MBatchError as error:
        # All of the log may be lost: then nothing was ever written.
        return Try(num, 0, "" if "\n" not in str(error) else f"several lines: {error}")
    except Exception as error:
        return Try(num, 0, f"{type(error).__name__}: {error}")
    num_cells = int(kept["cell"].nunique())
    expected = whole[whole["seed"] < num_cells].reset_index(drop=True)  # type: ignore[index]
    same = num_cells % PER_COMMIT == 0 and kept.equals(expected)
    return Try(num, num_cells, "" if same else f"{num_cells} cells, and not those written")
