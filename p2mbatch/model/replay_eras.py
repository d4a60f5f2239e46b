"""Replay of the eras' traces: their guests, their events, and what they record (spec P0)."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.inspect import frame_list
from p2mbatch.compiled.policies.three_lookup import mfns_of
from p2mbatch.model.digests import hash_leaves, p2m_sha256
from p2mbatch.model.era_life import NO_RANGES, EraLife
from p2mbatch.model.era_tables import with_area, with_static
from p2mbatch.model.life import Life
from p2mbatch.model.linear_life import LinearLife
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.policies import Policy
from p2mbatch.model.trace import rounds_of
from p2mbatch.model.trace_eras import EraLayout
from p2mbatch.model.trace_linear import LinearLayout


def new_life(
    tables: tb.P2MTables, host: tb.HostTables, policy: Policy, guest: EraLayout | LinearLayout
) -> EraLife:
    """Return the guest on the host it boots on, not booted yet."""
    state = tables.state[0]
    if isinstance(guest, LinearLayout):
        state.pgd, state.p2m_vaddr = guest.pgd_pfn, guest.p2m_vaddr
        state.no_list = guest.virt_p2m_4tools and not policy.whole_area
        tables = with_area(tables, guest.max_p2m_pfn >> state.entries_shift)
        return LinearLife(tables, host, policy, guest)
    if guest.static is not None:
        tables = with_static(tables, guest.static, guest.max_domain_pages)
    if guest.bootmem is not None:
        state.bootmem_pfn, state.bootmem_pages = guest.bootmem
    return EraLife(tables, host, policy)


def boot(life: EraLife, event: dict[str, Any]) -> EventResult:
    """Run a trace's boot event."""
    if isinstance(life, LinearLife):
        return life.boot_flat()
    return life.boot_marking(event.get("identity", NO_RANGES))


def migrate(life: EraLife, host: tb.HostTables, event: dict[str, Any]) -> EventResult:
    """Run a trace's migrate event."""
    tree = event.get("toolstack") == "tree" or life.toolstack != tb.TRIMS
    return life.migrate(host, rounds=rounds_of(event), tree=tree)


def went_on(life: Life, op: str, result: EventResult) -> dict[str, Any]:
    """Return what a trace records of what a guest set while a live migration copied it."""
    if op != "migrate" or not life.went_on:
        return {}
    went: dict[str, Any] = {"entries_set": result.entries_set, "ok": result.set_returned}
    if life.scalar("only_own_sent") and life.came_through and not life.policy.is_linear:
        went["placeholder_writes"] = result.placeholder_writes
    return went


def observe(life: EraLife, op: str, result: EventResult) -> dict[str, Any]:
    """Return what a trace records of a guest's state after an event."""
    went = went_on(life, op, result)
    if isinstance(life, LinearLife):
        return went | _observe_linear(life, op, result)
    policy = life.policy
    counters = went | {
        "op": op,
        "outcome": result.outcome,
        "detail": result.detail,
        "brk_pages_used": life.scalar("brk_used"),
        "pool_pages_used": life.scalar("pool_used"),
        "frame_list_list_mfn": _list_list_mfn(life),
        "stray_writes": result.stray_writes,
        "stray_pages": result.stray_pages,
    }
    if policy.marks and op == "boot":
        counters["identity_pages"] = life.scalar("identity_pages")
        counters["warnings"] = life.scalar("warnings")
    if policy.bootmem:
        counters["bootmem_pages_used"] = life.scalar("bootmem_used")
    if policy.late_list:
        counters["late_bootmem_pages"] = life.scalar("late_pages")
    names = ("frame_list_list", "frame_list", "p2m", "leaf_words")
    if life.scalar("brk_closed") == 0:
        return counters | {f"{name}_sha256": None for name in names}
    if policy.is_two_level:
        return counters | _two_level_digests(life)
    return counters | {
        "frame_list_list_sha256": _page_sha256(life, life.scalar("top_mfn")),
        "frame_list_sha256": _frame_list_sha256(life),
        "p2m_sha256": _p2m_sha256(life),
        "leaf_words_sha256": _leaf_words_sha256(life),
    }


def _list_list_mfn(life: EraLife) -> int:
    """Return the shared info's MFN; INVALID is widened by the first machine's recordings alone."""
    narrow = life.scalar("only_own_sent") != 0
    return life.scalar("shared_fll") % (1 << (life.scalar("word_bits") if narrow else 64))


def _two_level_digests(life: EraLife) -> dict[str, str]:
    """Return the digests of a p2m of two levels: its arrays as far as they go."""
    shift, num_leaves = life.scalar("entries_shift"), life.scalar("num_leaves")
    num_told = min(num_leaves, -(-life.scalar("max_p2m_pfn") >> shift))
    lists = [
        _page_words(life, life.scalar("static_top_mfn") + page)
        for page in range(num_leaves >> shift)
    ]
    tops = _page_words(life, life.scalar("static_list"))[: num_leaves >> shift]
    return {
        "frame_list_list_sha256": hashlib.sha256(tops.data).hexdigest(),
        "frame_list_sha256": hashlib.sha256(np.concatenate(lists)[:num_told].data).hexdigest(),
        "p2m_sha256": _p2m_sha256(life),
        "leaf_words_sha256": _leaf_words_sha256(life, num_told),
    }


def _observe_linear(life: LinearLife, op: str, result: EventResult) -> dict[str, Any]:
    """Return what a trace of a linear p2m records (linear-spec L10)."""
    out = {
        "op": op,
        "outcome": result.outcome,
        "detail": result.detail,
        "boot_pages_used": life.scalar("boot_used"),
        "pool_pages_used": life.scalar("pool_used"),
        "frame_list_list_mfn": life.scalar("shared_fll") % (1 << 64),
        "max_pfn": life.scalar("shared_max") % (1 << 64),
        "p2m_cr3_mfn": life.scalar("shared_cr3") % (1 << 64),
        "p2m_vaddr": life.scalar("shared_vaddr") % (1 << 64),
        "p2m_generation": life.scalar("generation"),
    }
    top_mfn, booted = life.scalar("top_mfn"), life.scalar("brk_closed") != 0
    listed = top_mfn != tb.NO_PAGE
    return out | {
        "frame_list_list_sha256": _page_sha256(life, top_mfn) if listed else None,
        "frame_list_sha256": _frame_list_sha256(life) if listed else None,
        "leaf_frames_sha256": _leaf_frames_sha256(life) if booted else None,
        "p2m_sha256": _p2m_sha256(life) if booted else None,
    }


def _leaf_frames_sha256(life: LinearLife) -> str:
    """Return the digest of the frame in each slot's level-1 entry."""
    frames = np.empty(len(life.tables.leaf_page), np.int64)
    mfns_of(life.tables, life.host, life.tables.leaf_page, frames)
    return hashlib.sha256(frames.data).hexdigest()


def _page_words(life: EraLife, page: int) -> Int64Array:
    """Return the words of a page that has a slot."""
    slot = int(np.flatnonzero(life.tables.slots[:, tb.P_PAGE] == page)[0])
    words: Int64Array = life.tables.words[slot]
    return words


def _page_sha256(life: EraLife, page: int) -> str:
    return hashlib.sha256(_page_words(life, page).data).hexdigest()


def _frame_list_sha256(life: EraLife) -> str:
    """Return the digest of every leaf's entry in the page of the list that its top index has."""
    n = life.tables.words.shape[1]
    entries: Int64Array = np.empty(min(len(life.tables.leaf_page), n * n), np.int64)
    frame_list(life.tables, entries)
    return hashlib.sha256(entries.data).hexdigest()


def _p2m_sha256(life: EraLife) -> str:
    """Return the digest of the entries of every PFN below `max_p2m_pfn`, no bit masked."""
    return p2m_sha256(life, life.scalar("max_p2m_pfn"))


def _leaf_words_sha256(life: EraLife, num_leaves: int | None = None) -> str:
    """Return the digest of all words of the page that each leaf is, a placeholder page's too."""
    digest = hashlib.sha256()
    hash_leaves(digest, life.tables.words, life.tables.leaf_slot[:num_leaves])
    return digest.hexdigest()
