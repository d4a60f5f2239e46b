"""What tests of kernels in C that are lived share: each beside what was recorded, and our own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from p2mbatch.guests.guest import Guest
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario
from p2mbatch.kernels.named import named_policy
from p2mbatch.model.replay import replay
from p2mbatch.model.trace_file import load_trace

Events = list[dict[str, Any]]


def without_places(events: Events) -> Events:
    """Return events without the places in the file that no recording knows."""
    return [{key: value for key, value in event.items() if key != "where"} for event in events]


def lived(path: Path, kernel: str) -> tuple[Events, Any]:
    """Return what a recording's life comes to under a kernel, and what it should."""
    trace = load_trace(path)
    return without_places(replay(dataclasses.replace(trace, policy=kernel))), trace.expected


def without_times(rows: Events) -> Events:
    """Return rows without what is measured."""
    return [{k: v for k, v in row.items() if not k.endswith("_ns")} for row in rows]


def exact_rows(policy: str, shape: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a cell of `shape` without what is measured."""
    fields = {"migrations": 3, "neighbours": 1.0, "seed": 3, **shape}
    return without_times(run_scenario(Scenario.make(policy=policy, **fields)))


def set_and_read_alike(policy: str, kernel: str) -> Guest:
    """Assert that guests of both are set and read alike; return the kernel's."""
    guests = [
        Guest.boot("256MiB", policy=name, sparsity=0.5, layout="extents")
        for name in (policy, kernel)
    ]
    for guest in guests:
        guest.balloon_out(range(100, 164))
        guest.migrate()
        guest.populate(range(100, 132))
    pfns = range(0, guests[0].max_p2m_pfn, 7)
    assert list(guests[0].lookup(pfns)) == list(guests[1].lookup(pfns))
    return guests[1]


def own_lookup_is_asked(text: str, path: Path) -> None:
    """Assert that a guest is read by the file's own lookup; writes `text`, changed, to `path`."""
    lookup = "unsigned long get_phys_to_machine(unsigned long pfn)\n{\n"
    assert text.count(lookup) == 1
    path.write_text(text.replace(lookup, f"{lookup}\tif (pfn == 3000)\n\t\treturn 77;\n"), "utf-8")
    guest = Guest.boot("64MiB", policy=named_policy(f"kernel:{path}"), resident="all")
    assert guest.lookup([3000]).tolist() == [77]
    assert 77 not in guest.lookup([2999, 3001]).tolist()
