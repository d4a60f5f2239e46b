"""Growth by several CPUs: whose page each is, and the schedule that a seed decides."""

from __future__ import annotations

import hashlib

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.model.cpus.events import raced
from p2mbatch.model.cpus.race import Raced
from p2mbatch.model.cpus.schedule import Schedule
from p2mbatch.model.life import Life
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.runs import frame_runs


def schedule_key(seed: int, migration: int) -> int:
    """Return the key of the schedule of what comes before the `migration`-th move."""
    text = f"p2mbatch:cpus:{seed}:{migration}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def deal(pfns: Int64Array, mfns: Int64Array, num_cpus: int) -> list[Int64Array]:
    """Return each CPU's runs, int64[k, 3], of `pfns` and their frames (int64[k]): one in turn.

    CPUs that get none are left out.
    """
    sets = [frame_runs(pfns[who::num_cpus], mfns[who::num_cpus]) for who in range(num_cpus)]
    return [runs for runs in sets if len(runs)]


def grow_on_cpus(life: Life, sets: list[Int64Array], key: int) -> tuple[EventResult, Raced]:
    """Let each CPU set its runs; pages whose set returned true and that no entry names are lost.

    The runs name no PFN twice.
    """
    result, done = raced(life, sets, Schedule(key))
    if result.ok:
        result.lost_pages = result.entries_set - _num_there(life, np.concatenate(sets))
    return result, done


def _num_there(life: Life, runs: Int64Array) -> int:
    """Return how many entries of `runs` (int64[k, 3]) the guest has."""
    pfn, mfn, count = runs.T
    at = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    pfns, wanted = np.repeat(pfn, count) + at, np.repeat(mfn, count) + at
    found = np.empty(len(pfns), np.int64)
    life.policy.operations.get(life.tables, life.host, pfns, found)
    return int(np.count_nonzero((found == wanted) & (found != INVALID)))


def spare_pages(span: int, num_pages: int, num_cpus: int, n: int) -> int:
    """Return the pages that CPUs may take for nothing while the guest gets `num_pages` in all.

    It spans `span` pages at first and has `n` entries a page.
    """
    tops = -(-(span + num_pages) // n**2)
    return (num_cpus - 1) * (-(-num_pages // n) + 2 + 2 * tops)
