"""What is compiled and loaded before the first cell is timed."""

from __future__ import annotations

import time
from collections.abc import Iterable

from p2mbatch.base.sizes import MIB
from p2mbatch.guests.references import GUEST
from p2mbatch.guests.scenario import Scenario
from p2mbatch.model.policies import Policy, find
from p2mbatch.store.columns import LAYOUTS
from p2mbatch.sweeps.progress import ProgressReport


def warm_up(
    report: ProgressReport, layouts: Iterable[str] = LAYOUTS, policies: Iterable[str] = ()
) -> None:
    """Load the kernels that cells of `layouts` call, or compile all, before there are threads.

    Of `policies` those of files of the user's too: raises `PolicyError` for what can't be compiled.

    Otherwise all threads would wait for the first one, and the first cells' times would hold it.
    """
    from p2mbatch.compiled import jit as _jit
    from p2mbatch.guests.guest import Guest
    from p2mbatch.guests.rows import run_scenario

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
    for name in policies:
        policy = find(name)
        if policy.own is not None:
            _compile_own(policy, report)


def _compile_own(policy: Policy, report: ProgressReport) -> None:
    start = time.monotonic()
    policy.operations  # noqa: B018  (compiled, or loaded, when it is first asked for)
    took = time.monotonic() - start
    if took > 1:
        report.notice(f"compiled {policy.short} in {took:.0f} s")
