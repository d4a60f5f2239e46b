"""The event `cpus` of trace format 3: what several CPUs set at once, under a keyed schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from p2mbatch.base.arrays import Int64Array
from p2mbatch.model.checks import Checker
from p2mbatch.model.cpus.limits import (
    MAX_CPUS,
    MAX_ENTRIES,
    MAX_KEY,
    MAX_TRACE_ENTRIES,
    check_races,
)
from p2mbatch.model.policies import Policy


def check_event(check: Checker, event: dict[str, Any], path: str, policy: Policy) -> None:
    """Check an event but for its runs: the policy, how many CPUs there are, the schedule's key."""
    check_races(policy, f"{check.source}: {path}.op")
    check.integer(event["schedule"], f"{path}.schedule", 0, MAX_KEY)
    sets = check.array(event["sets"], f"{path}.sets")
    if not 1 <= len(sets) <= MAX_CPUS:
        raise check.fail(
            f"{path}.sets", f"has {len(sets)}: it must have 1 to {MAX_CPUS} CPUs' runs"
        )
    for who, runs in enumerate(sets):
        if not check.array(runs, f"{path}.sets[{who}]"):
            raise check.fail(f"{path}.sets[{who}]", "is empty: a CPU must set an entry at least")


def check_entries(check: Checker, sets: list[Int64Array], path: str) -> None:
    """Refuse more entries than one event may have; each count is below 2^52."""
    total = num_entries(sets)
    if total > MAX_ENTRIES:
        raise check.fail(f"{path}.sets", f"name {total} entries: at most {MAX_ENTRIES}")


def check_all(check: Checker, events: list[dict[str, Any]]) -> None:
    """Refuse more entries than the events `cpus` of one trace may have together."""
    total = sum(num_entries(event["sets"]) for event in events if event["op"] == "cpus")
    if total > MAX_TRACE_ENTRIES:
        raise check.fail(
            "events", f"name {total} entries in cpus events: at most {MAX_TRACE_ENTRIES}"
        )


def num_entries(sets: Sequence[Int64Array]) -> int:
    """Return how many entries all CPUs' runs name."""
    return sum(int(count) for runs in sets for count in runs[:, 2])
