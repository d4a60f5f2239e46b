"""SweepResult: a sweep's store, open for reading, also while the sweep still runs.

The table has the columns of `store.columns` in that order, one row per cell and migration, sorted
by what the cells are, never by when they were finished: an interrupted sweep, another engine or
another number of threads gives the same table.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from p2mbatch.base.arrays import Int64Array, UInt8Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.filenames import JOURNAL_NAME
from p2mbatch.base.markup import card
from p2mbatch.base.memory import give_back_memory
from p2mbatch.base.paths import is_file
from p2mbatch.base.say import counted
from p2mbatch.base.words import Columns, taken, values_in
from p2mbatch.guests.fields import FIELDS
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.arrow import arrow_schema, lives_batch, lives_schema, plain_array, record_batch
from p2mbatch.store.blocks import Cells, some_cells
from p2mbatch.store.columns import SCENARIO_COLUMNS
from p2mbatch.store.failures import num_failures, read_failures
from p2mbatch.store.fate_counts import FateCounts, count_fates
from p2mbatch.store.fates import FATE_COLUMNS
from p2mbatch.store.ledger import Ledger
from p2mbatch.store.lock import holder_pid
from p2mbatch.store.order import Piece, Shelf, blocks, hex_names, pieces, read_shelf, sort_cells
from p2mbatch.store.packing import ROW_NAMES
from p2mbatch.store.reading import Reading

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from p2mbatch.guests.scenario import Scenario
    from p2mbatch.model.explain.story import Explanation


_MAX_SHOWN = 60
"""Rows of a summary that a notebook shows, as pandas has it."""

_CHUNK_ROWS = 1 << 18
"""Rows that are held at once while a table is read."""

_FAILURE_COLUMNS = [*(c.name for c in SCENARIO_COLUMNS), "error", "message", "failed_at"]


class Progress(NamedTuple):
    """How far the work on a store has come."""

    state: str
    """ "running", "complete", "interrupted" (stopped or killed) or "empty"."""
    pid: int | None
    """The process at work, None where there is none."""
    num_cells: int
    """Cells of all specs of the store, at most: those that two specs share count in each."""
    num_settled: int
    """Of those, the ones that are finished or failed."""
    num_finished: int
    """Distinct finished cells in the store."""
    num_failed: int
    num_rows: int


class SweepResult:
    """The results under `path`, read-only; `SweepResult.open` makes it.

    Every property reads the store when it is first used and then keeps what it read; `refresh`
    forgets it, so that more of a sweep that still runs is seen.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        """The store's directory."""
        self.journal_path = path / JOURNAL_NAME
        self._reading = Reading(path, self.journal_path)

    @classmethod
    def open(cls, path: str | Path) -> SweepResult:
        """Return the results of the sweep whose `--out` was `path`.

        Raises `InputError` where there is no store, or one that this version can't read.
        """
        result = cls(Path(path))
        if not is_file(result.journal_path):
            raise InputError(f"{path}: no sweep's results are here ({JOURNAL_NAME} is missing)")
        with result._reading.connected():
            return result

    def __repr__(self) -> str:
        progress = self.progress
        return (
            f"SweepResult({str(self.path)!r}: {progress.state}, "
            f"{counted(progress.num_finished, 'cell')}, {progress.num_failed:,} failed)"
        )

    def _repr_html_(self) -> str:
        """Return how far the sweep has come and what became of its guests, for notebooks."""
        progress = self.progress
        facts = [
            ("state", progress.state),
            ("cells", f"{progress.num_finished:,} finished, {progress.num_failed:,} failed"),
            ("rows", f"{progress.num_rows:,}"),
        ]
        return card(str(self.path), facts) + str(
            self.summary().to_html(index=False, max_rows=_MAX_SHOWN)
        )

    def summary(self) -> pd.DataFrame:
        """Return what became of the guests: a row per policy and migration (0 is the boot).

        Columns: `policy`, `migration`, `guests`, and a number of guests for each fate.
        """
        from p2mbatch.store.survivors import summary_frame

        return summary_frame(self.fate_counts)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The finished cells: a row each, its scenario, its last row's outcome, and its fate.

        Of the rows only what tells fates is read, a part at a time.
        """
        import pyarrow as pa

        names = ["migration", *FATE_COLUMNS]
        parts = [lives_batch(piece) for piece in self.pieces(names=names)]
        frame: pd.DataFrame = pa.Table.from_batches(parts, schema=lives_schema()).to_pandas()
        return frame

    def refresh(self) -> None:
        """Forget what was read, so that the next use reads the store as it is then."""
        for name in _CACHED:
            self.__dict__.pop(name, None)

    @cached_property
    def _seen(self) -> tuple[int | None, Ledger]:
        """Who was at work, asked before what there was: one who ends in between has ended well."""
        pid = holder_pid(self.path)
        with self._reading.checked() as (_, ledger):
            return pid, ledger

    @cached_property
    def _ledger(self) -> Ledger:
        return self._seen[1]

    @cached_property
    def shelf(self) -> tuple[Shelf, Int64Array]:
        """All finished cells as columns, in no order, and the indices that put them in order."""
        with self._reading.checked(self._ledger) as (connection, ledger):
            found = read_shelf(connection, ledger.heads)
        return found, sort_cells(found.cells)

    def pieces(
        self, max_rows: int = _CHUNK_ROWS, names: Collection[str] = ROW_NAMES
    ) -> Iterator[Piece]:
        """Yield the cells in order with their rows' columns `names`, some `max_rows` at a time."""
        shelf, order = self.shelf
        with self._reading.checked(self._ledger) as (connection, ledger):
            yield from pieces(connection, ledger.heads, shelf, order, max_rows, names)

    def blocks(
        self, names: Collection[str] = ROW_NAMES, known: Collection[bytes] = ()
    ) -> Iterator[Piece]:
        """Yield all finished cells with their rows' columns `names`, in the order of finishing.

        Blocks whose marks are `known` are left out (`marks`).
        """
        with self._reading.checked(self._ledger) as (connection, ledger):
            heads = [head for head in ledger.heads if head.mark not in known]
            yield from blocks(connection, heads, names)

    @property
    def marks(self) -> set[bytes]:
        """What tells each block of the store from all others."""
        return {head.mark for head in self._ledger.heads}

    def batches(self, max_rows: int = _CHUNK_ROWS) -> Iterator[pa.RecordBatch]:
        """Yield the table in order as Arrow record batches, in bounded memory."""
        return map(record_batch, self.pieces(max_rows))

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The table: one row per cell and migration, the columns of `store.columns`."""
        import pyarrow as pa

        table = pa.Table.from_batches(self.batches(1 << 62), schema=arrow_schema())
        frame: pd.DataFrame = table.to_pandas(self_destruct=True, split_blocks=True)
        return frame

    @cached_property
    def compact(self) -> pd.DataFrame:
        """The table in narrow columns, for figures and reports of many cells (`compact.py`)."""
        from p2mbatch.store.compact import OF_RELEASES, ROWS, compact_frame, compares_releases

        shelf, order = self.shelf
        names: tuple[str, ...] = ROWS
        if compares_releases(shelf.cells.values["linux"]):
            names = (*ROWS, *OF_RELEASES)
        self.__dict__["_ids"] = shelf.cells.ids[order]
        # What the cells are is read once more with their rows, and needs no room twice.
        del self.shelf, shelf
        found = compact_frame(self.blocks(names), order, names)
        give_back_memory()
        return found

    @cached_property
    def fate_counts(self) -> FateCounts:
        """How many rows came to each fate (`fate_counts`)."""
        return count_fates(self.blocks(["migration", *FATE_COLUMNS]))

    @cached_property
    def _ids(self) -> UInt8Array:
        """The cells' ids in order."""
        shelf, order = self.shelf
        return shelf.cells.ids[order]

    def cells_beginning(self, prefix: str) -> list[int]:
        """Return the numbers in `compact` of the cells whose ids begin with `prefix`."""
        names = Cells(self._ids, {}).names()
        return [number for number, name in enumerate(names) if name.startswith(prefix)]

    def cell_names(self, numbers: Sequence[int]) -> list[str]:
        """Return the ids of cells of `compact` by their numbers."""
        return Cells(self._ids[np.array(numbers, np.int64)], {}).names()

    @cached_property
    def failures(self) -> pd.DataFrame:
        """The cells that failed: their scenario, `error`, `message` and `failed_at`."""
        import pyarrow as pa

        with self._reading.checked(self._ledger) as (connection, ledger):
            failed, when = read_failures(connection, ledger.heads)
        order = sort_cells(failed.cells)
        columns: Columns = {
            **failed.cells.values,
            "error": failed.error,
            "message": failed.message,
            "failed_at": when,
        }
        arrays = [
            hex_names(failed.cells.ids[order])
            if name == "cell"
            else plain_array(taken(columns[name], order))
            for name in _FAILURE_COLUMNS
        ]
        frame: pd.DataFrame = pa.table(arrays, names=_FAILURE_COLUMNS).to_pandas()
        return frame

    def explain(self, cell: str, *, digests: bool = False, pictures: bool = False) -> Explanation:
        """Return the life of the cell whose id begins with `cell`, told step by step.

        It is simulated again, event for event. `digests` and `pictures` are as for
        `guests.explained.explain_scenario`. Raises `InputError` where not one cell begins so.
        """
        from p2mbatch.guests.explained import explain_scenario

        return explain_scenario(self.scenario(cell), digests, pictures)

    def scenario(self, cell: str) -> Scenario:
        """Return the scenario of the finished cell whose id begins with `cell`.

        Raises `InputError` where not one cell begins so.
        """
        from p2mbatch.guests.scenario import Scenario

        cells = self.shelf[0].cells
        found = [i for i, name in enumerate(cells.names()) if name.startswith(cell.lower())]
        if len(found) != 1:
            raise InputError(
                f"{self.path}: {len(found):,} finished cells begin with {cell!r}: name one"
            )
        one = some_cells(cells, np.array(found)).values
        return Scenario.make(**{name: values_in(one[name])[0] for name in FIELDS})

    def failure_counts(self) -> list[tuple[str, str, int]]:
        """Return (error, message, number of cells) of the failures, the most frequent first."""
        failures = self.failures
        found = Counter(zip(failures["error"], failures["message"], strict=True))
        counts = [(error, message, number) for (error, message), number in found.items()]
        return sorted(counts, key=lambda one: (-one[2], one[0], one[1]))

    @cached_property
    def specs(self) -> list[SweepSpec]:
        """The specs whose cells the store is for, the first first; more than one by --extend."""
        return [SweepSpec.from_dict(json.loads(r.spec), r.source) for r in self._ledger.specs]

    @cached_property
    def spec(self) -> SweepSpec:
        """The store's spec; where it was extended, all sections of all its specs as one."""
        specs = self.specs
        if not specs:
            raise InputError(f"{self.path}: no spec was entered into this store yet")
        if len(specs) == 1:
            return specs[0]
        parts = [spec.to_dict() for spec in specs]
        merged: dict[str, list[Any]] = {
            key: [entry for part in parts for entry in part[key]]
            for key in ("grid", "cells", "sample")
        }
        questions = dict.fromkeys(part["question"] for part in parts if part["question"])
        asked = next((part["answer"] for part in parts if part.get("answer")), "")
        return SweepSpec.from_dict(
            {"question": " ".join(questions), "answer": asked, **merged}, str(self.path)
        )

    @cached_property
    def policies(self) -> dict[str, str]:
        """The text of each policy of the user's own that wrote rows, by its name in the tables."""
        found: dict[str, str] = {}
        for run in self._ledger.runs:
            found |= json.loads(run.provenance).get("policies", {})
        return found

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Where the rows come from: the last run's provenance, and "specs" and "runs" of all.

        Keys as in `p2mbatch.base.provenance.collect`, and "started_at" of the first run,
        "ended_at" of the last (None while it runs). JSON values only.
        """
        ledger = self._ledger
        details = [
            {
                "started_at": run.started_at,
                "ended_at": run.ended_at,
                "state": run.state,
                "spec": run.spec,
                **json.loads(run.provenance),
            }
            for run in ledger.runs
        ]
        plain = [json.loads(row.spec) for row in ledger.specs]
        return {
            **(details[-1] if details else {}),
            "started_at": details[0]["started_at"] if details else None,
            "resident": ledger.meta.get("resident"),
            "spec": plain[-1] if plain else None,
            "specs": [
                {
                    "digest": row.digest,
                    "source": row.source,
                    "added_at": row.added_at,
                    "num_cells": row.num_cells,
                    "spec": spec,
                }
                for row, spec in zip(ledger.specs, plain, strict=True)
            ],
            "runs": details,
        }

    @cached_property
    def progress(self) -> Progress:
        """How far the sweep has come."""
        with self._reading.checked(self._ledger) as (connection, ledger):
            num_failed = num_failures(connection, ledger.heads)
        num_cells = sum(row.num_cells for row in ledger.specs)
        pid = self._seen[0]
        if pid is not None:
            state = "running"
        elif num_cells == 0:
            state = "empty"
        else:
            is_complete = all(row.complete for row in ledger.specs)
            state = "complete" if is_complete else "interrupted"
        return Progress(
            state,
            pid,
            num_cells,
            sum(row.num_done for row in ledger.specs),
            sum(head.num_cells for head in ledger.heads),
            num_failed,
            sum(head.num_rows for head in ledger.heads),
        )

    @property
    def num_failed(self) -> int:
        """How many cells failed."""
        return self.progress.num_failed


_CACHED = tuple(
    name for name, value in vars(SweepResult).items() if isinstance(value, cached_property)
)
