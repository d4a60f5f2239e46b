"""What a sweep will cost, before it starts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from p2mbatch.base import provenance
from p2mbatch.base.arrays import BoolArray
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.sizes import parse_size
from p2mbatch.base.words import Columns, Words, plain
from p2mbatch.model.policies import find
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.sweeps import engine as engines
from p2mbatch.sweeps.costs import cost_ns_each, memory_bytes_each
from p2mbatch.sweeps.engines import check_choice


class Estimate(NamedTuple):
    """What a sweep will take, from its spec alone."""

    num_cells: int
    peak_memory_bytes: int
    """Of the cells in flight, on top of the process itself."""
    seconds: float
    """On this machine's number of workers; a rough figure."""
    share_cut: float = 0.0
    """Of the cells, those of guests with more memory than their kernel takes
    (CONFIG_XEN_MAX_DOMAIN_MEMORY)."""


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
    from p2mbatch.guests.batch.cells import columns_of

    check_choice(engines.THREADS, jobs, None)
    spec.check()
    num_workers = provenance.num_cores() if jobs is None else jobs
    budget = budget_bytes(memory_budget) or int(engines.MEMORY_SHARE * provenance.memory_bytes())
    cells, counts = zip(*spec.structural_cells(), strict=True)
    columns, times = columns_of(list(cells)), np.array(counts, np.float64)
    total_ns = float(cost_ns_each(columns, resident) @ times)
    most = np.minimum(times, num_workers).astype(np.int64)
    needed = np.repeat(memory_bytes_each(columns, resident), most)
    largest = int(np.sort(needed)[-num_workers:].sum())
    seconds = total_ns / min(num_workers, max(spec.num_cells, 1)) / 1e9
    seconds *= spec.num_cells / max(float(times.sum()), 1)
    share_cut = float(_are_cut(columns) @ times) / max(float(times.sum()), 1)
    return Estimate(spec.num_cells, min(largest, budget), seconds, share_cut)


def _are_cut(columns: Columns) -> BoolArray:
    """Return of which cells the guest has more memory than its kernel takes.

    Kernels of two levels take it all, and can't name it (policies-spec P1).
    """
    most, policy = plain(columns["max_domain_pages"]), columns["policy"]
    assert isinstance(policy, Words)
    cuts = np.array([not find(name).is_two_level for name in policy.words], bool)[policy.codes]
    cut: BoolArray = cuts & (most > 0) & (most < plain(columns["memory_bytes"]) // PAGE_BYTES)
    return cut


def budget_bytes(memory_budget: int | str | None) -> int | None:
    """Return a memory budget in bytes, from bytes or text; None for none."""
    if memory_budget is None:
        return None
    num_bytes = parse_size(memory_budget, "--memory-budget")
    if num_bytes < 1 << 20:
        raise InputError(f"--memory-budget: {memory_budget} is under 1MiB, too little for any cell")
    return num_bytes
