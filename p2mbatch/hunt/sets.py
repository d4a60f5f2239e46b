"""Rule 6: a set that had memory succeeds, and get gives back what was set."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.hunt.look import entries_of, page_of_leaf
from p2mbatch.model.life import Life
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.runs import last_written
from p2mbatch.model.trace import Trace


def check_set(
    life: Life, trace: Trace, runs: Int64Array, result: EventResult, asked: int, was_hit: bool
) -> Iterator[tuple[int, str, str, str]]:
    """Yield (6, what, where, detail) of what is wrong after a set that ended ok.

    `runs` (int64[k, 3]) is what was to be set, `asked` how many pages had been asked for since the
    last `fail_alloc` before it, `was_hit` whether stray writes have hit the guest.
    """
    if not result.set_returned and _had_memory(life, trace, asked):
        yield 6, "set-fails", "with memory left", f"after {result.entries_set} entries"
    pfns, words = last_written(runs, result.entries_set)
    found = entries_of(life, pfns)
    wrong = np.flatnonzero(found != words)
    if len(wrong):
        i = int(wrong[0])
        told = f"PFN {pfns[i]}: {_shown(words[i])} was set, {_shown(found[i])} is read"
        where = "hit by strays" if was_hit else _where(life, int(pfns[i]))
        yield 6, "not-read-back", where, told


def _had_memory(life: Life, trace: Trace, asked: int) -> bool:
    """Return whether no allocation of the event found the pool empty or was made to fail."""
    fail_at, now = life.scalar("fail_at"), life.scalar("allocs")
    was_injected = fail_at >= 0 and asked <= fail_at < now
    return not was_injected and life.scalar("pool_used") < int(trace.guest.page_pool[:, 1].sum())


def _where(life: Life, pfn: int) -> str:
    """Return the kind of the leaf that a PFN lies in."""
    page = page_of_leaf(life, pfn // life.tables.words.shape[1])
    if page == life.scalar("identity") and page >= 0:
        return "in an identity leaf"
    return "in a hole" if page == life.scalar("missing") else "in a leaf of its own"


def _shown(word: int) -> str:
    return "INVALID" if word == INVALID else f"{int(word) % (1 << 64):#x}"
