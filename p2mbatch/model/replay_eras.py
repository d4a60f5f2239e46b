"""Replay of the eras' traces: their guests, their events, and what they record (spec P0)."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int32Array, Int64Array
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.inspect import frame_list
from p2mbatch.model.era_life import NO_RANGES, EraLife
from p2mbatch.model.life import EventResult
from p2mbatch.model.policies import Policy
from p2mbatch.model.trace_eras import EraLayout

_CHUNK_LEAVES = 1 << 11
"""Leaves hashed at a time: 8 MiB of words."""


def new_life(
    tables: tb.P2MTables, host: tb.HostTables, policy: Policy, guest: EraLayout
) -> EraLife:
    """Return the guest on the host it boots on, not booted yet."""
    state = tables.state[0]
    if guest.bootmem is not None:
        state.bootmem_pfn, state.bootmem_pages = guest.bootmem
    return EraLife(tables, host, policy)


def boot(life: EraLife, event: dict[str, Any]) -> EventResult:
    """Run a trace's boot event."""
    return life.boot_marking(event.get("identity", NO_RANGES))


def observe(life: EraLife, op: str, result: EventResult) -> dict[str, Any]:
    """Return what a trace records of a guest's state after an event."""
    policy = life.policy
    counters = {
        "op": op,
        "outcome": result.outcome,
        "detail": result.detail,
        "brk_pages_used": life.scalar("brk_used"),
        "pool_pages_used": life.scalar("pool_used"),
        "frame_list_list_mfn": life.scalar("shared_fll") % (1 << 64),
        "stray_writes": 0,
        "stray_pages": 0,
    }
    if policy.marks and op == "boot":
        counters["identity_pages"] = life.scalar("identity_pages")
        counters["warnings"] = life.scalar("warnings")
    if policy.bootmem:
        counters["bootmem_pages_used"] = life.scalar("bootmem_used")
    if policy.name == "late-list":
        counters["late_bootmem_pages"] = life.scalar("late_pages")
    names = ("frame_list_list", "frame_list", "p2m", "leaf_words")
    if life.scalar("brk_closed") == 0:
        return counters | {f"{name}_sha256": None for name in names}
    return counters | {
        "frame_list_list_sha256": _page_sha256(life, life.scalar("top_mfn")),
        "frame_list_sha256": _frame_list_sha256(life),
        "p2m_sha256": _p2m_sha256(life),
        "leaf_words_sha256": _leaf_words_sha256(life),
    }


def _page_sha256(life: EraLife, page: int) -> str:
    slot = int(np.flatnonzero(life.tables.slots[:, tb.P_PAGE] == page)[0])
    return hashlib.sha256(life.tables.words[slot].data).hexdigest()


def _frame_list_sha256(life: EraLife) -> str:
    """Return the digest of every leaf's entry in the page of the list that its top index has."""
    entries: Int64Array = np.empty(len(life.tables.leaf_page), np.int64)
    frame_list(life.tables, entries)
    return hashlib.sha256(entries.data).hexdigest()


def _p2m_sha256(life: EraLife) -> str:
    """Return the digest of the entries of every PFN below `max_p2m_pfn`, no bit masked."""
    digest = hashlib.sha256()
    end = life.scalar("max_p2m_pfn")
    step = _CHUNK_LEAVES * life.tables.words.shape[1]
    chunk = np.empty(min(step, end), np.int64)
    for first in range(0, end, step):
        part = chunk[: min(step, end - first)]
        life.policy.operations.get_row(life.tables, life.host, first, part)
        digest.update(part.data)
    return digest.hexdigest()


def _leaf_words_sha256(life: EraLife) -> str:
    """Return the digest of all words of the page that each leaf is, a placeholder page's too."""
    digest = hashlib.sha256()
    slots: Int32Array = life.tables.leaf_slot
    for first in range(0, len(slots), _CHUNK_LEAVES):
        digest.update(life.tables.words[slots[first : first + _CHUNK_LEAVES]].data)
    return digest.hexdigest()
