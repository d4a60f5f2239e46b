"""Reading a performance report, and what moved between two of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2mbatch.base.errors import InputError
from p2mbatch.base.json_text import read_json

FORMAT = "p2mbatch-bench/1"
OWN = ("p2mbatch", "parallel")  # who p2mbatch itself is: on one thread, and on all

_MAX_BYTES = 16 << 20


def load(path: str | Path) -> dict[str, Any]:
    """Read a report's JSON; raises `InputError` where it is not one."""
    found = read_json(path, _MAX_BYTES)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InputError(f"{path}: not a bench report: its format should be {FORMAT!r}")
    return found


@dataclass(frozen=True, slots=True)
class Change:
    """How one row moved between two reports."""

    kernel: str
    memory_bytes: int
    who: str
    ratio: float  # new time over old
    noise: float  # how far, as a factor, it would have to move to mean something

    @property
    def beyond_noise(self) -> bool:
        """Return whether it moved further than that."""
        return max(self.ratio, 1 / self.ratio) > self.noise


def _moved(new: dict[str, Any], old: dict[str, Any]) -> float:
    """Return how far a timing moved, as new over old.

    What happens to run beside a measurement makes some of its samples slower; a change of the code
    moves all of them. So the median, the lower quartile and the least sample must all have moved
    one way, and the one that moved least counts.
    """
    ratios = [new[name] / old[name] for name in ("median_ns", "low_ns")]
    ratios.append(min(new["samples_ns"]) / min(old["samples_ns"]))
    if min(ratios) > 1:
        return float(min(ratios))
    return float(max(ratios)) if max(ratios) < 1 else 1.0


def rows_by_key(report: dict[str, Any]) -> dict[tuple[str, int, str], dict[str, Any]]:
    """Return the report's rows by kernel, memory and who."""
    return {(r["kernel"], r["memory_bytes"], r["who"]): r for r in report["rows"]}


def changes(new: dict[str, Any], old: dict[str, Any]) -> list[Change]:
    """Return how each of p2mbatch's own rows moved, in the new report's order.

    What did not change between the runs (the C program, NumPy, the floors and ceilings) says how
    far the machine alone moves a timing; a row has moved where it goes beyond all of those on as
    many threads, and beyond its own spread.
    """

    def timings(report: dict[str, Any]) -> dict[tuple[str, int, str], dict[str, Any]]:
        ceilings = report["ceilings"]
        limits = {(c["name"], c["footprint_bytes"], str(c["threads"])): c for c in ceilings}
        return rows_by_key(report) | limits

    before, after = timings(old), timings(new)
    # Several threads on a busy machine are another matter than one.
    drift: dict[bool, float] = {False: 1.1, True: 1.1}
    for key in after.keys() & before.keys():
        if key[2] not in OWN:
            ratio, several = _moved(after[key], before[key]), after[key]["threads"] > 1
            drift[several] = max(drift[several], ratio, 1 / ratio)
    found = []
    for key, a in after.items():
        if key in before and key[2] in OWN:
            b = before[key]
            spread = 1 + float(np.hypot(a["spread"], b["spread"]))
            found.append(Change(*key, _moved(a, b), drift[a["threads"] > 1] * spread))
    return found
