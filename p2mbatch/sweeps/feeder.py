"""The feeder: batches to the engine, results to the journal, until all is done."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait

import numpy as np

from p2mbatch.base.errors import PolicyError, ResourceError
from p2mbatch.guests.fields import cell_id_of
from p2mbatch.spec.sections import Values
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.blocks import CellResult, block_of
from p2mbatch.store.journal import Journal
from p2mbatch.sweeps import engine as engines
from p2mbatch.sweeps.costs import cost_ns, is_mostly_python, memory_bytes
from p2mbatch.sweeps.engine import Batch, Engine
from p2mbatch.sweeps.progress import ProgressReport
from p2mbatch.sweeps.stop import Stop

_LOOKUP_CELLS = 256
"""Cells whose ids are looked up in the journal at once."""

_MAX_BATCH_CELLS = 512

_COMMIT_INTERVAL_S = 0.25
"""Finished cells wait at most this long, so that one flush of the disk serves many."""

_WAIT_S = 0.2
"""How long a stop takes to be noticed."""

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
        self._in_flight: dict[Future[list[CellResult]], Batch] = {}
        # The position in the spec of each cell that is on its way, in the order of the spec, and
        # the position of the first cell that was not looked at yet.
        self._open: dict[str, int] = {}
        self._position = 0
        self._again: list[Batch] = []
        self._finished: list[CellResult] = []
        self._num_settled = 0
        self._cost_scale = 1.0
        self._last_commit = time.monotonic()
        self._last_move = time.monotonic()

    def run(self) -> bool:
        """Do the work; return whether every cell is settled."""
        batches = self._batches()
        waiting: Batch | None = None
        exhausted = False
        while True:
            while not (exhausted or self._stop):
                if waiting is None:
                    waiting = self._again.pop() if self._again else next(batches, None)
                if waiting is None:
                    exhausted = True
                elif self._fits(waiting):
                    self._submit(waiting)
                    waiting = None
                else:
                    break
            if self._stop:
                self._cancel()
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

    def _cancel(self) -> None:
        """Give up the batches that have not begun; those that have are waited for."""
        for future in list(self._in_flight):
            # Not every engine goes on to tell those who wait that it took note of this.
            if future.cancel():
                del self._in_flight[future]

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
        expanded = itertools.islice(self._spec.expand(), self._position, None)
        gathered = {is_short: Batch([], 0, 0, is_short) for is_short in (True, False)}
        while chunk := list(itertools.islice(expanded, _LOOKUP_CELLS)):
            if self._stop:
                return
            for cell, values in self._unsettled(chunk):
                needed = memory_bytes(values, self._resident)
                if needed > self._engine.max_cell_bytes:
                    self._refuse(cell, values, needed)
                    continue
                is_short = is_mostly_python(values, self._resident)
                batch = gathered[is_short]
                batch.cells.append((cell, values))
                batch = batch._replace(
                    memory_bytes=max(batch.memory_bytes, needed),
                    cost_ns=batch.cost_ns + cost_ns(values, self._resident),
                )
                if (
                    batch.cost_ns * self._cost_scale >= self._engine.batch_ns
                    or len(batch.cells) >= _MAX_BATCH_CELLS
                ):
                    yield batch
                    batch = Batch([], 0, 0, is_short)
                gathered[is_short] = batch
        yield from (batch for batch in gathered.values() if batch.cells)

    def _unsettled(self, chunk: Sequence[Values]) -> Iterator[tuple[str, Values]]:
        ids = [cell_id_of(values) for values in chunk]
        packed = np.frombuffer(bytes.fromhex("".join(ids)), np.uint8).reshape(-1, 16)
        known = self._journal.known(packed, failed_too=not self._retry_failed)
        skipped = 0
        for cell, values, is_known in zip(ids, chunk, known.tolist(), strict=True):
            if is_known or cell in self._open:
                skipped += 1
                self._position += 1
            else:
                self._open[cell] = self._position
                self._position += 1
                yield cell, values
        if skipped:
            self._num_settled += skipped
            self._report.skip(skipped)

    def _refuse(self, cell: str, values: Values, needed: int) -> None:
        """Record as failed a cell that no admission can ever let in."""
        message = (
            f"needs about {needed / 2**20:.0f} MiB, over the memory budget of "
            f"{self._engine.max_cell_bytes / 2**20:.0f} MiB for one cell: raise --memory-budget"
        )
        self._finished.append(CellResult(cell, values, [], "MemoryBudget", message, 0))
        self._note_failure()
        if len(self._finished) >= _MAX_BATCH_CELLS:
            self._commit()

    def _note_failure(self) -> None:
        if self._fail_fast and not self._stop:
            self._stop.reason = "failure"

    def _collect(self, future: Future[list[CellResult]]) -> None:
        batch = self._in_flight.pop(future)
        try:
            results = future.result()
        except CancelledError:
            raise self._lost(self._engine.trouble() or "the engine dropped a batch") from None
        except (ResourceError, PolicyError) as error:
            raise self._lost(str(error)) from None
        except Exception as error:
            if type(error).__name__ != "KilledWorker":
                raise self._lost(f"{type(error).__name__}: {error}") from None
            self._after_killed_workers(batch, str(error))
            return
        self._finished += results
        took = sum(result.duration_ns for result in results)
        if took and batch.cost_ns:
            # Two threads share a processor's caches and the interpreter, so this follows slowly.
            ratio = min(max(took / batch.cost_ns, 0.01), 100.0)
            self._cost_scale = math.exp(0.8 * math.log(self._cost_scale) + 0.2 * math.log(ratio))
        if any(result.error for result in results):
            self._note_failure()

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
            cell, values = batch.cells[0]
            text = message.splitlines()[0]
            self._finished.append(CellResult(cell, values, [], "KilledWorker", text, 0))
            self._note_failure()
            return
        cost = batch.cost_ns // len(batch.cells)
        self._again += [batch._replace(cells=[cell], cost_ns=cost) for cell in batch.cells]

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
        results = self._finished
        for result in results:
            del self._open[result.cell]
        prefix = next(iter(self._open.values()), self._position)
        block = block_of(results)
        self._journal.commit(block, self._num_settled + len(results), prefix)
        if self._spec.may_repeat:
            self._journal.note(block)
        self._finished = []
        self._num_settled += len(results)
        failed = sum(bool(result.error) for result in results)
        self._report.add(len(results), failed)
