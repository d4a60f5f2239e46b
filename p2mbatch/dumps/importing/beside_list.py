"""What a guest whose list is whole has wrong beside it, carried over into its trace, or told.

The save check passes; what comes later does not. A top with a mid page and no frame list kills the
guest at the next resume (model section 9, item 2): the trace has it. An entry of the list beyond
max_pfn that names an old frame waits for the PFN that is populated there (item 1): no PFN of the
trace is, and every restored guest has such entries, so they are told of and left behind.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.dumps.audit.hazards import num_stale_entries
from p2mbatch.dumps.audit.recover import recover
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.model.trace import Trace


def half_grown(tops: list[int], entries: Int64Array, entries_per_top: int) -> list[int]:
    """Return those of `tops`, which have no frame list, that hold no entry of `entries` at all.

    An entry there would have had `alloc_p2m` try again. `entries` is int64[span].
    """
    n = entries_per_top
    return [top for top in tops if np.all(entries[top * n : (top + 1) * n] == INVALID)]


def without_tops(ranges: Int64Array, tops: list[int], entries_per_top: int) -> Int64Array:
    """Return 1:1 `ranges` (int64[k, 2]: start, end) without the PFNs under `tops`.

    What boot marks gets a list; these got their 1:1 words while the guest ran.
    """
    for top in tops:
        low, high = top * entries_per_top, (top + 1) * entries_per_top
        before, behind = ranges.copy(), ranges.copy()
        before[:, 1] = np.minimum(before[:, 1], low)
        behind[:, 0] = np.maximum(behind[:, 0], high)
        ranges = np.concatenate([before, behind])
        ranges = ranges[ranges[:, 0] < ranges[:, 1]]
        ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    return ranges


def half_grown_events(tops: list[int], entries_per_top: int, mfn: int) -> list[dict[str, Any]]:
    """Return events that leave each of `tops` with a mid page alone: no page for the list.

    A frame `mfn` of the guest's is set there and is not; the set of INVALID says so once more.
    """
    events: list[dict[str, Any]] = []
    for top in tops:
        pfn = top * entries_per_top
        events.append({"op": "fail_alloc", "at": 1})
        events += [
            {"op": "set", "runs": np.array([[pfn, word, 1]], np.int64)} for word in (mfn, INVALID)
        ]
    return events


def left_behind(guest: DumpGuest, trace: Trace) -> str:
    """Return in a sentence what of `guest` its `trace` does not begin with; "" for nothing.

    A poke has the list's pages as they are; any other trace has a list as a boot leaves it.
    """
    if any(event["op"] == "poke" for event in trace.events):
        return ""
    guest, walk, *_ = recover(guest)
    num = num_stale_entries(guest, walk)
    if not num:
        return ""
    return (
        f"not carried over: {num} old entries of the list beyond max_pfn (audit: stale-list-tail); "
        "the trace has sound ones there until its first migration"
    )
