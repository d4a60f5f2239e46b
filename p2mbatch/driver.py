"""Sweeps: cells through an engine into the journal, so that they can be stopped and continued.

(Not called `sweep`, so that `p2mbatch.sweep` is always the function.)
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from p2mbatch import engines, provenance
from p2mbatch.costs import cost_ns, is_mostly_python, memory_bytes
from p2mbatch.engines import Batch, Engine, open_engine
from p2mbatch.errors import InputError, ResourceError
from p2mbatch.geometry import MIB, parse_size
from p2mbatch.journal import CellResult, Journal
from p2mbatch.presets import find_spec
from p2mbatch.progress import Mode, ProgressReport
from p2mbatch.results import SweepResult
from p2mbatch.scenario import FIELDS, GUEST, Scenario, cell_id_of
from p2mbatch.schema import LAYOUTS
from p2mbatch.spec import SweepSpec, Values

_LOOKUP_CELLS = 256
"""Cells whose ids are looked up in the journal at once."""
_MAX_BATCH_CELLS = 512
_COMMIT_INTERVAL_S = 0.25
"""Finished cells wait at most this long, so that one flush of the disk serves many."""
_WAIT_S = 0.2
"""How long a stop takes to be noticed."""
_TROUBLE_INTERVAL_S = 30.0

_LAYOUT = FIELDS.index("layout")


class Estimate(NamedTuple):
    """What a sweep will take, from its spec alone."""

    num_cells: int
    peak_memory_bytes: int
    """Of the cells in flight, on top of the process itself."""
    seconds: float
    """On this machine's number of workers; a rough figure."""


def estimate(
    spec: SweepSpec,
    *,
    jobs: int | None = None,
    resident: str = "auto",
    memory_budget: int | str | None = None,
) -> Estimate:
    """Return what `spec` will take, at once however many cells it has.

    Raises `InputError` for combinations that no guest can have.
    """
    engines.check_choice(engines.THREADS, jobs, None)
    spec.check()
    num_workers = provenance.num_cores() if jobs is None else jobs
    budget = _budget_bytes(memory_budget) or int(0.8 * provenance.memory_bytes())
    total_ns, in_turn_ns, largest, counted = 0.0, 0.0, [0], 0
    for values, count in spec.structural_cells():
        cost = cost_ns(values, resident) * count
        total_ns += cost
        in_turn_ns += cost * is_mostly_python(values, resident)
        counted += count
        largest = sorted([*largest, *[memory_bytes(values, resident)] * min(count, num_workers)])
        largest = largest[-num_workers:]
    in_parallel_ns = total_ns / min(num_workers, max(spec.num_cells, 1))
    # On threads the short cells take turns, beside the others.
    seconds = max(in_turn_ns, in_parallel_ns) / 1e9
    seconds *= spec.num_cells / max(counted, 1)
    return Estimate(spec.num_cells, min(sum(largest), budget), seconds)


def _budget_bytes(memory_budget: int | str | None) -> int | None:
    if memory_budget is None:
        return None
    num_bytes = parse_size(memory_budget, "--memory-budget")
    if num_bytes < 1 << 20:
        raise InputError(f"--memory-budget: {memory_budget} is under 1MiB, too little for any cell")
    return num_bytes


def warm_up(report: ProgressReport, layouts: Iterable[str] = LAYOUTS) -> None:
    """Load the kernels that cells of `layouts` call, or compile all, before there are threads.

    Otherwise all threads would wait for the first one, and the first cells' times would hold it.
    """
    from p2mbatch import _jit
    from p2mbatch.cell import run_scenario
    from p2mbatch.guest import Guest

    if not _jit.has_compiled_kernels():
        report.notice("compiling the kernels for this machine (once, about half a minute) ...")
        layouts = LAYOUTS
    start = time.monotonic()
    with _jit.compile_lock() as compiled:
        for layout in layouts:
            if layout != GUEST:
                run_scenario(Scenario(memory_bytes=256 * MIB, sparsity=0.5, layout=layout))
                continue
            # What a guest from a file calls, with the pages that its sets populate.
            guest = Guest.boot("256MiB", sparsity=0.5, resident="all")
            guest.populate(range(40000, 41000))
            guest.migrate()
            guest.life.count_stale()
    if compiled:
        report.notice(f"compiled in {time.monotonic() - start:.0f} s")


class _Stop:
    """Whether the work should stop: asked for by a signal, or by a failure with --fail-fast.

    The first SIGINT or SIGTERM asks; a second one interrupts at once, and so does the first where
    there is nothing to lose.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._at_once = False

    def __bool__(self) -> bool:
        return bool(self.reason)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.reason == "signal"
        self.reason = "signal"
        if again or self._at_once:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let the first signal interrupt what is inside."""
        before = sys.unraisablehook
        timers: list[threading.Timer] = []

        def pass_on(unraisable: sys.UnraisableHookArgs) -> None:
            # What the compiler calls back from C can't be left by an exception: the signal is sent
            # once more when it has returned.
            if isinstance(unraisable.exc_value, KeyboardInterrupt):
                timers.append(threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)))
                timers[-1].start()
            else:
                before(unraisable)

        sys.unraisablehook = pass_on
        self._at_once = True
        try:
            yield
        except Exception:
            if self.reason == "signal":
                # A callback that was left half done is trouble for what had called it.
                raise KeyboardInterrupt from None
            raise
        finally:
            self._at_once = False
            sys.unraisablehook = before
            for timer in timers:
                timer.cancel()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals inside; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self._handle) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


class _Driver:
    """One run of a sweep: feeds the engine, gathers what it gives, writes it down."""

    def __init__(
        self,
        spec: SweepSpec,
        engine: Engine,
        journal: Journal,
        report: ProgressReport,
        stop: _Stop,
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
        known = self._journal.known(ids, failed_too=not self._retry_failed)
        skipped = 0
        for cell, values in zip(ids, chunk, strict=True):
            if cell in known or cell in self._open:
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
        except ResourceError as error:
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
        self._journal.commit(results, self._num_settled + len(results), prefix)
        self._finished = []
        self._num_settled += len(results)
        failed = sum(bool(result.error) for result in results)
        self._report.add(len(results), failed)


def sweep(
    spec: SweepSpec | str | Path,
    out: str | Path,
    *,
    jobs: int | None = None,
    engine: str = engines.THREADS,
    scheduler: str | None = None,
    resident: str = "auto",
    memory_budget: int | str | None = None,
    extend: bool = False,
    retry_failed: bool = False,
    fail_fast: bool = False,
    progress: Mode = "auto",
    command: Sequence[str] | None = None,
) -> SweepResult:
    """Run the cells of `spec` that the store `out` does not have yet; return the store's results.

    `spec` is a `SweepSpec`, a spec file or a preset's name; `out` a directory, made if need be.
    `engine` is "threads" (`jobs` of them, None for one on each core) or "dask" (`scheduler` an
    address or a scheduler file, None for `jobs` processes here). `memory_budget` (bytes or text
    such as "8GiB"; None for 80 % of what there is) bounds what the cells in flight need together.
    `resident` "all" holds every leaf as memory. `extend` adds another spec to the store's,
    `retry_failed` tries failed cells again, `fail_fast` stops at the first failure. `progress` is
    "auto", "bar", "lines" or "quiet"; `command` goes into the provenance.

    A cell that fails is recorded and no reason to stop: see `SweepResult.failures`. Raises
    `InputError` or `ResourceError` where the work can't start or go on, and `KeyboardInterrupt`
    after a clean stop at a batch on SIGINT or SIGTERM.
    """
    if not isinstance(spec, SweepSpec):
        spec = SweepSpec.from_file(find_spec(str(spec)))
    if resident not in ("auto", "all"):
        raise InputError(f"--resident {resident}: use auto or all")
    engines.check_choice(engine, jobs, scheduler)
    budget = _budget_bytes(memory_budget)
    spec.check()
    stop = _Stop()
    with (
        Journal.open(Path(out)) as journal,
        ProgressReport(spec.num_cells, progress) as report,
        stop.listening(),
    ):
        journal.admit(spec, resident=resident, extend=extend)
        with stop.at_once():
            warm_up(report, sorted({values[_LAYOUT] for values, _ in spec.structural_cells()}))
        with contextlib.ExitStack() as stack:
            # Processes of this machine that are half started can't be cleared away without a noise.
            with stop.at_once() if scheduler else contextlib.nullcontext():
                running = stack.enter_context(open_engine(engine, jobs, budget, scheduler))
            journal.begin_run({**provenance.collect(command), **running.details})
            report.begin()
            driver = _Driver(
                spec,
                running,
                journal,
                report,
                stop,
                resident=resident,
                retry_failed=retry_failed,
                fail_fast=fail_fast,
            )
            state = "failed"
            complete = False
            try:
                complete = driver.run()
                state = "done" if complete else "interrupted"
            finally:
                with contextlib.suppress(ResourceError, InputError):
                    journal.end_run(state, complete=complete)
        if stop.reason == "signal":
            report.notice(
                f"stopped; {journal.counts()[0]:,} cells are in {journal.directory}: "
                "give the same command again to continue"
            )
            raise KeyboardInterrupt
    return SweepResult.open(out)
