"""Sweeps: cells through an engine into the journal, so that they can be stopped and continued.

(Not called `sweep`, so that `p2mbatch.sweep` is always the function.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from p2mbatch.base import provenance
from p2mbatch.base.errors import InputError, ResourceError
from p2mbatch.base.say import say
from p2mbatch.base.shipped import find_spec
from p2mbatch.base.signals import Interrupted, done_at_end
from p2mbatch.guests.fields import FIELDS
from p2mbatch.model.policies import carried
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.journal import Journal
from p2mbatch.store.results import SweepResult
from p2mbatch.sweeps import engine as engines
from p2mbatch.sweeps.dry_run import budget_bytes
from p2mbatch.sweeps.engines import check_choice, open_engine
from p2mbatch.sweeps.feeder import Feeder
from p2mbatch.sweeps.progress import Mode, ProgressReport
from p2mbatch.sweeps.ready import Kind, warm_up
from p2mbatch.sweeps.stop import Stop

_POLICY = FIELDS.index("policy")

_KIND = tuple(map(FIELDS.index, Kind._fields))


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
    (`Interrupted`, with the number) after a clean stop at a batch on SIGINT, SIGTERM or SIGHUP.
    """
    if not isinstance(spec, SweepSpec):
        spec = SweepSpec.from_file(find_spec(str(spec)))
    if resident not in ("auto", "all"):
        raise InputError(f"--resident {resident}: use auto or all")
    check_choice(engine, jobs, scheduler)
    budget = budget_bytes(memory_budget)
    spec.check()
    stop = Stop()
    with (
        Journal.open(Path(out)) as journal,
        done_at_end(journal.discard_unused),
        ProgressReport(spec.num_cells, progress) as report,
        stop.listening(),
    ):
        journal.admit(spec, resident=resident, extend=extend)
        if journal.damage:
            # Not even a quiet sweep keeps that to itself.
            say(f"{journal.path}: {journal.damage.text()} not as written: run anew", err=True)
        with stop.at_once():
            cells = [values for values, _ in spec.structural_cells()]
            warm_up(report, {Kind(*(values[at] for at in _KIND)) for values in cells})
        with contextlib.ExitStack() as stack:
            # Processes of this machine that are half started can't be cleared away without a noise.
            with stop.at_once() if scheduler else contextlib.nullcontext():
                running = stack.enter_context(open_engine(engine, jobs, budget, scheduler))
            own = {one.reference: one.text for one in carried({v[_POLICY] for v in cells})}
            journal.begin_run({**provenance.collect(command), **running.details, "policies": own})
            if running.notice:
                report.notice(running.notice)
            report.begin()
            driver = Feeder(
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
                f"stopped; {journal.num_finished():,} cells are in {journal.directory}: "
                "give the same command again to continue"
            )
            raise Interrupted(stop.number)
    return SweepResult.open(out)
