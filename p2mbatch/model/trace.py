"""Trace files, formats `p2mbatch-trace/1` to `/3`: read, check, write (model section 11).

A trace is a guest, its hosts and its life, with or without what is expected of each event. Nothing
of a trace is run before all of it has been checked; what is wrong is named by its JSON path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.markup import card
from p2mbatch.compiled.tables import MACHINE_1, MACHINE_2

FORMAT = "p2mbatch-trace/1"

FORMAT_2 = "p2mbatch-trace/2"

FORMAT_3 = "p2mbatch-trace/3"

MACHINES = {FORMAT: MACHINE_1, FORMAT_2: MACHINE_2, FORMAT_3: MACHINE_2}
"""The machine that each format's traces run on."""


@dataclass(frozen=True)
class GuestLayout:
    """Where a guest keeps its pages (model section 3). Counts and PFNs in pages."""

    word_bytes: int
    nr_pages: int
    max_p2m_pfn: int
    mfn_list_pfn: int
    brk_pfn: int
    brk_pages: int
    page_pool: Int64Array
    """int64[k, 2]: runs [first PFN, count] that `alloc_p2m_page` hands out in order."""
    directmap_pages: int

    @property
    def mfn_list_pages(self) -> int:
        """Pages that `mfn_list` fills: one for each leaf below `nr_pages`."""
        return -(-self.nr_pages * self.word_bytes // 4096)

    @property
    def boot_pages(self) -> int:
        """Pages that boot may take for structures."""
        return self.brk_pages


@dataclass(frozen=True)
class HostRuns:
    """One host, as runs in which both columns count up together (model section 7)."""

    frames: int
    """Machine frames, numbered from 0."""
    domain: Int64Array
    """int64[k, 3]: [pfn, mfn, count], the frames that the guest gets; ascending by PFN."""
    foreign: Int64Array
    """int64[k, 3]: [mfn, pfn, count], what m2p holds for other domains' frames."""
    m2p_order: int | None = None
    """log2 of the m2p's size as a kernel that boots here has it; None: as by default."""
    m2p_entries: int | None = None
    """How many entries of m2p are mapped for guests; None: as the frames have it."""


LOSS_FIELDS = {
    "migrate": ("lost_pages", "ghost_pages", "lost_identity_pages"),
    "set": ("placeholder_writes",),
    "cpus": ("placeholder_writes",),
}
"""What format 3 expects of an event beside the other formats' fields, by its op."""

SETS = ("set", "cpus")
"""Events in which the kernel sets entries, and nothing else."""

UNOBSERVED = ("fail_alloc", "tweak", "poke")
"""Events of which nothing but their `op` is expected."""

REFUSED = ("save-failed", "restore-failed")
"""Outcomes of a migration that the toolstack gave up before the guest had gone."""


def goes_on(event: dict[str, Any], outcome: str) -> bool:
    """Return whether a life goes on after `event`: after ok, and where a refused guest stays."""
    return outcome == "ok" or (outcome in REFUSED and event.get("on_refused") == "stay")


def rounds_of(event: dict[str, Any]) -> list[Int64Array] | None:
    """Return what a guest does in each round of a live migration; None of one that is paused.

    `during` is a single round, and so is nothing at all.
    """
    if not event.get("live"):
        return None
    rounds: list[Int64Array] = event.get("rounds", [event.get("during", NO_RUNS)])
    return rounds


def runs_of(event: dict[str, Any]) -> list[Int64Array]:
    """Return all runs of entries that an event has: a set's, several CPUs', a live migration's."""
    if "sets" in event:
        sets: list[Int64Array] = event["sets"]
        return sets
    return [event["runs"]] if "runs" in event else rounds_of(event) or []


NO_RUNS = np.zeros((0, 3), np.int64)

_MAX_OPS = 12
"""Events that a notebook names."""


@dataclass(frozen=True)
class Trace:
    """A whole trace. `events` are the JSON's objects, with a set's runs as int64[k, 3]."""

    name: str
    policy: str
    guest: GuestLayout
    hosts: list[HostRuns]
    events: list[dict[str, Any]]
    expected: list[dict[str, Any]] | None = None
    format: str = FORMAT_2

    def _repr_html_(self) -> str:
        """Return what it is of as a table, for notebooks."""
        named = ", ".join(str(event["op"]) for event in self.events[:_MAX_OPS])
        if len(self.events) > _MAX_OPS:
            named += f" and {len(self.events) - _MAX_OPS:,} more"
        facts = [
            ("policy", self.policy),
            ("guest", f"{8 * self.guest.word_bytes}-bit, {self.guest.nr_pages:,} pages at boot"),
            ("hosts", len(self.hosts)),
            ("events", named),
            ("format", self.format),
        ]
        return card(f"trace {self.name}", facts)
