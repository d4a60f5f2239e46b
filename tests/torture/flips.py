"""Single flipped bits in a store, its write-ahead log and its exports: none may be silent.

A flip is told in one line, or nothing that a reader is shown has changed. Told ones of a store are
mended by the same sweep: it runs what is damaged anew and nothing else.
"""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

from p2mbatch.base import provenance
from p2mbatch.base.errors import P2MBatchError
from p2mbatch.store.blocks import CellResult, block_of
from p2mbatch.store.export import FORMATS, export
from p2mbatch.store.exported import read_export
from p2mbatch.store.journal import JOURNAL_NAME, Journal
from p2mbatch.store.results import SweepResult
from sweep_support import STORE_SPEC, commit, result, row, rows_of

CELLS, PER_COMMIT = 120, 12

EXPORTS = "exports"


class Try(NamedTuple):
    """One flipped bit."""

    where: str
    """The file's name."""
    was_told: bool
    fault: str


def cell(seed: int) -> CellResult:
    """Return a made-up cell; some failed, some of two rows, some of four."""
    if seed % 17 == 0:
        return result(seed, "Error", f"number {seed % 3}")
    lost = {"outcome": "fault", "detail": f"page {seed}", "lost_pages": seed}
    rows = [row(0), row(1, rebuild_ns=900 + seed), row(2, stray_writes=seed), row(3, **lost)]
    return result(seed)._replace(rows=rows_of(*rows[: 2 + 2 * (seed % 2)]))


def fill(folder: Path) -> dict[str, Path]:
    """Return a finished store and one whose commits are all in the log, as a kill leaves it."""
    with Journal.open(folder / "whole") as journal:
        journal.admit(STORE_SPEC, resident="auto", extend=False)
        journal.begin_run(provenance.collect(["p2mbatch", "sweep"]))
        for first in range(0, CELLS, PER_COMMIT):
            cells = [cell(seed) for seed in range(first, first + PER_COMMIT)]
            commit(journal, cells, first + PER_COMMIT)
        journal.end_run("interrupted", complete=False)
        shutil.copytree(folder / "whole", folder / "torn")
    (folder / "torn" / f"{JOURNAL_NAME}-shm").unlink()
    (folder / EXPORTS).mkdir()
    for kind in FORMATS:
        export(SweepResult.open(folder / "whole"), folder / EXPORTS / f"table.{kind}", kind)
    return {name: folder / name for name in ("whole", "torn", EXPORTS)}


def shown(store: Path) -> Any:
    """Return all that a reader is shown of a store, or of the exports that stand in its place."""
    if (store / "table.csv").exists():
        read = [read_export(store / f"table.{kind}") for kind in FORMATS]
        return [(one.frame.to_csv(), one.provenance) for one in read]
    opened = SweepResult.open(store)
    return (
        opened.frame.to_csv(),
        opened.failures.to_csv(),
        opened.progress._replace(pid=None),
        opened.provenance,
        [spec.to_dict() for spec in opened.specs],
        opened.policies,
    )


def run(folder: Path, seed: int, seconds: float, most: int, mended_of: int = 20) -> list[Try]:
    """Flip bits for `seconds`, `most` at most; return what came of each.

    One in `mended_of` of those that were told is mended.
    """
    dice, tries, end = random.Random(seed), list[Try](), time.monotonic() + seconds
    stores = fill(folder)
    files = [
        (name, path.name, path.read_bytes())
        for name, store in stores.items()
        for path in sorted(store.iterdir())
        if path.stat().st_size
    ]
    # A copy of each: whoever reads a log last folds it into the journal.
    expected = {n: shown(Path(shutil.copytree(s, folder / f"{n}2"))) for n, s in stores.items()}
    sizes = [len(data) for _, _, data in files]
    while time.monotonic() < end and len(tries) < most:
        name, where, data = dice.choices(files, sizes)[0]
        flipped = bytearray(data)
        flipped[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        copy = folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(stores[name], copy)
        (copy / where).write_bytes(flipped)
        tries.append(_look(copy, where, expected[name], mend=dice.randrange(mended_of) == 0))
    return tries


def _look(copy: Path, where: str, expected: Any, *, mend: bool) -> Try:
    try:
        fault = "" if shown(copy) == expected else "another table, and not a word"
        return Try(where, False, fault)
    except P2MBatchError as error:
        said = str(error)
    except Exception as error:
        return Try(where, True, f"{type(error).__name__}: {error}")
    if "\n" in said:
        return Try(where, True, f"several lines: {said}")
    if not mend or "which runs just those anew" not in said:
        return Try(where, True, "")
    return Try(where, True, _mended(copy, expected, may_be_all=where.endswith("-wal")))


def _mended(copy: Path, expected: Any, *, may_be_all: bool) -> str:
    """Do what the same sweep does; return what is wrong then."""
    cells = [cell(seed) for seed in range(CELLS)]
    with Journal.open(copy) as journal:
        named = journal.damage.text()
        journal.admit(STORE_SPEC, resident="auto", extend=False)
        ids = block_of([one._replace(error="") for one in cells]).cells.ids
        known = journal.known(ids, failed_too=True)
        again = [one for one, there in zip(cells, known.tolist(), strict=True) if not there]
        commit(journal, again, CELLS)
    table, failures = shown(copy)[:2]
    if table != expected[0] or len(failures.splitlines()) != len(expected[1].splitlines()):
        return f"mended to another table: {named}"
    may_be_all |= "provenance" in named
    return "" if len(again) < CELLS or may_be_all else f"all run anew: {named}"
