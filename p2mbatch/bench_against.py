"""Reading a performance report, and what moved between two of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2mbatch.errors import InputError

FORMAT = "p2mbatch-bench/1"


def load(path: str | Path) -> dict[str, Any]:
    """Read a report's JSON; raises `InputError` where it is not one."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read: {error}") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: line {error.lineno}: not JSON: {error.msg}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InputError(f"{path}: not a bench report: its format should be {FORMAT!r}")
    return found


@dataclass(frozen=True, slots=True)
class Change:
    """How one row moved between two reports."""

    kernel: str
    memory_bytes: int
    who: str
    ratio: float
    """New median over old."""
    noise: float
    """How far, as a factor, it would have to move to mean something."""

    @property
    def beyond_noise(self) -> bool:
        """Return whether it moved further than that."""
        return max(self.ratio, 1 / self.ratio) > self.noise


def changes(new: dict[str, Any], old: dict[str, Any]) -> list[Change]:
    """Return how each of p2mbatch's own rows moved, in the new report's order.

    What did not change between the runs (the C program, NumPy, the ceilings) says how far the
    machine alone moves a median; a row has moved where it goes beyond that and its own spread.
    """

    def keyed(report: dict[str, Any]) -> dict[tuple[str, int, str], dict[str, Any]]:
        return {(r["kernel"], r["memory_bytes"], r["who"]): r for r in report["rows"]}

    def ceilings(report: dict[str, Any]) -> dict[tuple[str, int, int], float]:
        return {
            (c["name"], c["footprint_bytes"], c["threads"]): c["ns_per_word"]
            for c in report["ceilings"]
        }

    before, after = keyed(old), keyed(new)
    common = [key for key in after if key in before]
    controls = [
        after[key]["median_ns"] / before[key]["median_ns"]
        for key in common
        if key[2] not in ("p2mbatch", "parallel")
    ]
    old_ceilings = ceilings(old)
    controls += [ns / old_ceilings[key] for key, ns in ceilings(new).items() if key in old_ceilings]
    drift = float(np.exp(np.quantile(np.abs(np.log(controls)), 0.95))) if controls else 1.0
    found = []
    for key in common:
        if key[2] not in ("p2mbatch", "parallel"):
            continue
        a, b = before[key], after[key]
        spread = 1 + 2 * float(np.hypot(a["spread"], b["spread"]))
        ratio = b["median_ns"] / a["median_ns"]
        found.append(Change(*key, ratio, max(drift * spread, 1.1)))
    return found
