"""A random race lived by a guest of the model's size: its PFNs, and the kernels that race so.

The guest has 512 words a page; its memory has the explorer's eight PFNs at top indexes 1 and 2. A
tree has them in its memory; extra memory has leaves from boot on in a linear p2m, so there they are
hot-added.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled.hosts import given_frames
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.stage import StagedGuest
from p2mbatch.model.policies import find
from p2mbatch.model.runs import frame_runs
from p2mbatch.race.config import Config, Operation

KERNELS = {
    "tracked": "old", "tail": "old", "identity": "orig", "moved": "orig", "mid-identity": "orig",
    "late-list": "orig", "linear": "new",
}  # fmt: skip
"""Each policy's kernel; one CPU alone loses no page that 3.17 mended."""

TREE: dict[str, Any] = {"memory": "3GiB", "sparsity": 0.998, "grow": "64KiB"}
FLAT: dict[str, Any] = {"memory": "16MiB", "grow": "3GiB", "grow_where": "beyond"}


@cache
def scenario(policy: str, live: bool, **more: Any) -> Scenario:
    """The guest's, with room for the PFNs."""
    size = FLAT if find(policy).is_linear else TREE
    return Scenario(policy=policy, host_memory="16GiB", migrations=1, live=live, **size, **more)


class Lived:
    """A guest that has booted, with what a race populates first."""

    def __init__(self, cell: Scenario, config: Config) -> None:
        self.guest = StagedGuest(cell, spare_pool=True)
        assert self.guest.boot().ok
        if config.populated_first:
            first = list(config.populated_first)
            assert self.guest.life.set_runs(self.runs(first, [9] * len(first))).ok

    def runs(self, pfns: list[int], values: list[int | None]) -> Int64Array:
        """A set's runs: INVALID for -1 and None, else the frame that the host has for the PFN."""
        wide = np.array([(pfn // 4 + 1) << 18 | (pfn // 2 % 2) << 9 | pfn % 2 for pfn in pfns])
        mfns = np.empty(len(pfns), np.int64)
        given_frames(self.guest.life.host.par, wide, mfns)
        mfns[[value in (-1, None) for value in values]] = -1
        return frame_runs(wide, mfns)

    def calls(self, program: tuple[Operation, ...]) -> Int64Array:
        """The runs of one CPU's operations, all of them sets."""
        return self.runs([call.pfn for call in program], [call.value for call in program])
