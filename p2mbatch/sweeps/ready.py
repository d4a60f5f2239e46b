"""What is compiled and loaded before the first cell is timed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from typing import NamedTuple

from p2mbatch.base.errors import InputError
from p2mbatch.base.sizes import MIB
from p2mbatch.guests.references import GUEST
from p2mbatch.guests.scenario import Scenario
from p2mbatch.model.policies import MENDED, Policy, find
from p2mbatch.sweeps.progress import ProgressReport


class Kind(NamedTuple):
    """What decides which kernels a cell calls."""

    layout: str
    policy: str
    toolstack: str
    live: str = "no"
    grow_bytes: int = 0
    cpus: int = 1


def warm_up(report: ProgressReport, kinds: Iterable[Kind]) -> None:
    """Load or compile what cells of these kinds call, before there are threads.

    Otherwise all threads would wait for the first one, and the first cells' times would hold it.
    What no cell calls is left alone: to compile it takes longer than most sweeps.

    Raises `PolicyError` for a policy of the user's own that can't be compiled.
    """
    from p2mbatch.compiled import jit as _jit
    from p2mbatch.model.beside import compile_policies

    kinds = sorted({_small(kind) for kind in kinds})
    # A policy of the user's own is told by itself, and runs on the same kernels.
    built_in = [
        kind if find(kind.policy).own is None else kind._replace(policy=MENDED) for kind in kinds
    ]
    notes = sorted({_note(kind) for kind in built_in})
    with _jit.compile_lock(names=notes) as is_first:
        start = time.monotonic()
        if is_first:
            report.notice("compiling the kernels for this machine (once, up to a minute) ...")
            batched = dict.fromkeys(kind.policy for kind in built_in if kind.layout != GUEST)
            compile_policies(list(batched))
        for kind in dict.fromkeys(built_in):
            with contextlib.suppress(InputError):  # the cells' own checks say what is wrong
                _live_one(kind)
        if is_first:
            report.notice(f"compiled in {time.monotonic() - start:.0f} s")
    for name in dict.fromkeys(kind.policy for kind in kinds):
        policy = find(name)
        if policy.own is not None:
            _compile_own(policy, report)


def _note(kind: Kind) -> str:
    """Return the name of the note that what cells of a kind call is in the cache."""
    more = "-more" if kind.live == "yes" or kind.grow_bytes else ""
    cpus = "-cpus" if kind.cpus > 1 else ""
    return f"has-{kind.policy}{more}{cpus}"


def _small(kind: Kind) -> Kind:
    """Return a kind that calls the same, of guests that grow little."""
    return kind._replace(grow_bytes=min(kind.grow_bytes, MIB), cpus=min(kind.cpus, 2))


def _live_one(kind: Kind) -> None:
    """Live through a small guest of a kind."""
    from p2mbatch.guests.guest import Guest
    from p2mbatch.guests.rows import run_scenario

    if kind.layout != GUEST:
        fields: dict[str, object] = kind._asdict()
        if kind.live == "yes":
            fields |= {"churn_bytes": MIB, "balloon_bytes": MIB}
        run_scenario(Scenario.make(memory_bytes=256 * MIB, sparsity=0.5, **fields))
        return
    # What a guest from a file calls, with the pages that its sets populate.
    guest = Guest.boot("256MiB", policy=kind.policy, sparsity=0.5, resident="all")
    guest.populate(range(40000, 41000))
    guest.migrate()
    guest.life.count_stale()


def _compile_own(policy: Policy, report: ProgressReport) -> None:
    start = time.monotonic()
    policy.operations  # noqa: B018  (compiled, or loaded, when it is first asked for)
    took = time.monotonic() - start
    if took > 1:
        report.notice(f"compiled {policy.short} in {took:.0f} s")
