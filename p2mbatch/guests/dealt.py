"""Growth by several CPUs: whose page each is, and the schedule that a seed decides."""

from __future__ import annotations

import hashlib

from p2mbatch.base.arrays import Int64Array
from p2mbatch.guests.fields import ScenarioFields, cell_id_of
from p2mbatch.model.runs import frame_runs

SHARED_FIELDS = ("policy", "linux", "max_domain_pages", "hotplug_gib", "toolstack", "xen")
"""Fields of a cell that its schedules don't depend on, so that kernels meet the same ones: what the
kernel and the toolstack are, and what naming one of them decides."""


def schedule_key(scenario: ScenarioFields, migration: int) -> int:
    """Return the key of the schedule of what comes before the `migration`-th move of a cell."""
    shared = {name: ScenarioFields.model_fields[name].default for name in SHARED_FIELDS}
    cell = cell_id_of(tuple((scenario.canonical() | shared).values()))
    text = f"p2mbatch:cpus:{cell}:{migration}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def deal(pfns: Int64Array, mfns: Int64Array, num_cpus: int) -> list[Int64Array]:
    """Return each CPU's runs, int64[k, 3], of `pfns` and their frames (int64[k]): one in turn.

    CPUs that get none are left out.
    """
    sets = [frame_runs(pfns[who::num_cpus], mfns[who::num_cpus]) for who in range(num_cpus)]
    return [runs for runs in sets if len(runs)]
