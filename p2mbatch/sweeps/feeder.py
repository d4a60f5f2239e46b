"""The feeder: batches to the engine, results to the journal, until all is done."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.base.errors import PolicyError, ResourceError, StoppedError
from p2mbatch.guests.cell_ids import cell_ids
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.blocks import Block, Cells, failed_block, joined, some_cells
from p2mbatch.store.journal import Journal
from p2mbatch.sweeps import engine as engines
from p2mbatch.sweeps.costs import cost_ns_each, memory_bytes_each
from p2mbatch.sweeps.engine import Batch, Engine
from p2mbatch.sweeps.progress import ProgressReport
from p2mbatch.sweeps.stop import Stop

_CHUNK_CELLS = 4096
"""Cells that are looked up in the journal at once; a batch has no more."""

_COMMIT_INTERVAL_S = 0.25
"""Finished cells wait at most this long, so that one flush of the disk serves many."""

_WAIT_S = 0.2
"""How long a stop takes to be noticed."""

_PATIENCE_S = 1.0
"""What batches that run have to finish in, once the work is to stop; then they give up."""

_TROUBLE_INTERVAL_S = 30.0


class Feeder:
    """One run of a sweep: feeds the engine, gathers what it gives, writes it down."""

    def __init__(
        self,
        spec: SweepSpec,
        engine: Engine,
        journal: Journal,
        report: ProgressReport,
        stop: Stop,
        *,
        resident: str,
        retry_failed: bool,
        fail_fast: bool,
    ) -> None:
        self._spec = spec
        self._engine = engine
        self._journal = journal
        self._report = report
        self._stop = stop
        self._resident = resident
        self._retry_failed = retry_failed
        self._fail_fast = fail_fast
        self._in_flight: dict[Future[Block], Batch] = {}
        self._waiting: Batch | None = None
        """What is next, for as long as it does not fit beside those in flight."""
        self._position = 0
        """In the spec: that of the first cell that no batch has had yet."""
        self._again: list[Batch] = []
        self._given_up: list[Batch] = []
        """What was on its way and came to nothing: not settled."""
        self._finished: list[Block] = []
        self._on_way: set[bytes] = set()
        """Ids of cells that are not in the journal yet, where the same cell may come again."""
        self._num_settled = 0
        self._cost_scale = 1.0
        # What is lived first is written down at once: a sweep shows soon that it is at work.
        self._last_commit = time.monotonic() - _COMMIT_INTERVAL_S
        self._last_move = time.monotonic()

    def run(self) -> bool:
        """Do the work; return whether every cell is settled."""
        batches = self._batches()
        exhausted = False
        stopped_at = 0.0
        while True:
            while not (exhausted or self._stop):
                if self._waiting is None:
                    self._waiting = self._again.pop() if self._again else next(batches, None)
                if self._waiting is None:
                    exhausted = True
                elif self._fits(self._waiting):
                    self._submit(self._waiting)
                    self._waiting = None
                else:
                    break
            if self._stop:
                stopped_at = stopped_at or time.monotonic()
                self._cancel(time.monotonic() - stopped_at >= _PATIENCE_S)
            if not self._in_flight:
                break
            done, _ = wait(self._in_flight, timeout=_WAIT_S, return_when=FIRST_COMPLETED)
            for future in done:
                self._collect(future)
            if self._again:
                exhausted = False
            self._watch(bool(done))
            if time.monotonic() - self._last_commit >= _COMMIT_INTERVAL_S:
                self._commit()
        self._commit()
        return not self._stop

    def _cancel(self, running_too: bool) -> None:
        """Give up the batches that have not begun, and those that have if they take too long."""
        if running_too:
            engines.stop_running(self._engine)
        for future in list(self._in_flight):
            # Not every engine goes on to tell those who wait that it took note of this.
            if future.cancel():
                self._given_up.append(self._in_flight.pop(future))

    def _fits(self, batch: Batch) -> bool:
        """Return whether `batch` may join those in flight: a bounded window, within the memory."""
        if not self._in_flight:
            return True
        if len(self._in_flight) >= self._engine.max_batches:
            return False
        used = sum(other.memory_bytes for other in self._in_flight.values())
        return used + batch.memory_bytes <= self._engine.memory_budget_bytes

    def _submit(self, batch: Batch) -> None:
        self._in_flight[engines.submit(self._engine, batch, self._resident)] = batch

    def _batches(self) -> Iterator[Batch]:
        """Yield the cells that are not settled yet, in batches of about the engine's length."""
        # What needs trying again may lie anywhere.
        self._position = 0 if self._retry_failed else self._journal.settled_prefix()
        self._num_settled = self._position
        self._report.skip(self._position)
        while self._position < self._spec.num_cells:
            if self._stop:
                return
            begin, end = self._position, min(self._position + _CHUNK_CELLS, self._spec.num_cells)
            values, positions = self._spec.columns(begin, end)
            cells = Cells(cell_ids(values), values)
            # What an earlier section has is no cell of its own.
            self._skip(end - begin - len(cells))
            new = self._is_new(cells)
            for batch in self._split(some_cells(cells, new), positions[new]):
                # Those in flight say where they begin; nothing from here on has been begun.
                self._position = batch.first
                yield batch
            self._position = end

    def _skip(self, num_cells: int) -> None:
        """Count cells that need not be run."""
        if num_cells:
            self._num_settled += num_cells
            self._report.skip(num_cells)

    def _is_new(self, cells: Cells) -> BoolArray:
        """Return which of `cells` are neither settled nor on their way."""
        new = ~self._journal.known(cells.ids, failed_too=not self._retry_failed)
        if self._spec.may_repeat:
            for k in np.flatnonzero(new).tolist():
                cell = cells.ids[k].tobytes()
                new[k] = cell not in self._on_way
                self._on_way.add(cell)
        self._skip(len(new) - int(np.count_nonzero(new)))
        return new

    def _split(self, cells: Cells, positions: Int64Array) -> Iterator[Batch]:
        """Yield `cells`, which are at these positions in the spec, in batches."""
        needed = memory_bytes_each(cells.values, self._resident)
        fits = needed <= self._engine.max_cell_bytes
        if not fits.all():
            self._refuse(some_cells(cells, ~fits), needed[~fits])
            cells, positions, needed = some_cells(cells, fits), positions[fits], needed[fits]
        costs = cost_ns_each(cells.values, self._resident)
        at = 0
        while at < len(cells):
            spent = np.cumsum(costs[at:]) * self._cost_scale
            end = min(at + int(np.searchsorted(spent, self._engine.batch_ns)) + 1, len(cells))
            yield Batch(
                some_cells(cells, np.arange(at, end)),
                int(positions[at]),
                int(needed[at:end].max()),
                int(costs[at:end].sum()),
            )
            at = end

    def _refuse(self, cells: Cells, needed: Int64Array) -> None:
        """Record as failed cells that no admission can ever let in."""
        messages = [
            f"needs about {size / 2**20:.0f} MiB, over the memory budget of "
            f"{self._engine.max_cell_bytes / 2**20:.0f} MiB for one cell: raise --memory-budget"
            for size in needed.tolist()
        ]
        self._finished.append(failed_block(cells, ["MemoryBudget"] * len(cells), messages))
        self._note_failure()

    def _note_failure(self) -> None:
        if self._fail_fast and not self._stop:
            self._stop.reason = "failure"

    def _collect(self, future: Future[Block]) -> None:
        batch = self._in_flight.pop(future)
        try:
            block = future.result()
        except Exception as error:
            if type(error).__name__ == "KilledWorker":
                self._after_killed_workers(batch, str(error))
                return
            self._given_up.append(batch)
            if isinstance(error, StoppedError):
                return
            raise self._lost(self._trouble_of(error)) from None
        self._finished.append(block)
        took = int(block.duration_ns.sum())
        if took and batch.cost_ns:
            # Two threads share a processor's caches and the interpreter, so this follows slowly.
            ratio = min(max(took / batch.cost_ns, 0.01), 100.0)
            self._cost_scale = math.exp(0.8 * math.log(self._cost_scale) + 0.2 * math.log(ratio))
        if len(block.failed.cells):
            self._note_failure()

    def _trouble_of(self, error: Exception) -> str:
        """Say why a batch came to nothing."""
        if isinstance(error, CancelledError):
            return self._engine.trouble() or "the engine dropped a batch"
        is_told = isinstance(error, ResourceError | PolicyError)
        return str(error) if is_told else f"{type(error).__name__}: {error}"

    def _lost(self, what: str) -> ResourceError:
        """Write down what there is and return the error to give up with."""
        self._commit()
        return ResourceError(
            f"{what.splitlines()[0]}; the finished cells in {self._journal.directory} are safe: "
            "give the same command again to continue"
        )

    def _after_killed_workers(self, batch: Batch, message: str) -> None:
        """Try a batch that took several workers down cell by cell; blame a cell that does it alone.

        (A worker that dies once costs its batch's time only: the scheduler runs that again.)
        """
        if len(batch.cells) == 1:
            text = message.splitlines()[0]
            self._finished.append(failed_block(batch.cells, ["KilledWorker"], [text]))
            self._note_failure()
            return
        cost = batch.cost_ns // len(batch.cells)
        for k in range(len(batch.cells)):
            one = some_cells(batch.cells, np.array([k]))
            self._again.append(batch._replace(cells=one, cost_ns=cost))

    def _watch(self, moved: bool) -> None:
        """Say why nothing moves, where the engine knows."""
        now = time.monotonic()
        if moved:
            self._last_move = now
        elif now - self._last_move >= _TROUBLE_INTERVAL_S:
            self._last_move = now
            trouble = self._engine.trouble()
            if trouble:
                self._report.notice(trouble)

    def _commit(self) -> None:
        self._last_commit = time.monotonic()
        if not self._finished:
            return
        block = joined(self._finished)
        waiting = [] if self._waiting is None else [self._waiting]
        begun = [*self._in_flight.values(), *self._again, *self._given_up, *waiting]
        prefix = min([batch.first for batch in begun], default=self._position)
        num_settled = self._num_settled + block.num_settled
        self._journal.commit(block, num_settled, min(prefix, self._position))
        if self._spec.may_repeat:
            self._journal.note(block)
            for cells in (block.cells, block.failed.cells):
                self._on_way -= {one.tobytes() for one in cells.ids}
        self._finished = []
        self._num_settled = num_settled
        self._report.add(block.num_settled, len(block.failed.cells))
