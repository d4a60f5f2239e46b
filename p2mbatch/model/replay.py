"""Replay of trace files: each event run on the model, with what a trace expects of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil

from p2mbatch.base.errors import ResourceError
from p2mbatch.base.geometry import geometry
from p2mbatch.base.sizes import format_size
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.inspect import frame_list
from p2mbatch.model import replay_eras
from p2mbatch.model.cpus.events import set_by_cpus
from p2mbatch.model.digests import p2m_sha256
from p2mbatch.model.era_life import EraLife
from p2mbatch.model.hosts import m2p_entries, m2p_order, table_host
from p2mbatch.model.life import Life
from p2mbatch.model.linear_life import LinearLife
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.policies import find
from p2mbatch.model.toolstacks import code_of
from p2mbatch.model.trace import (
    FORMAT_3,
    LOSS_FIELDS,
    MACHINES,
    SETS,
    UNOBSERVED,
    Trace,
    goes_on,
    rounds_of,
    runs_of,
)
from p2mbatch.model.trace_eras import EraLayout
from p2mbatch.model.trace_linear import LinearLayout
from p2mbatch.model.xen import keeps_freed_frames, parse_xen


def needed_bytes(trace: Trace) -> int:
    """Return the memory that replaying `trace` takes at its peak, to within a few MiB."""
    n = geometry(trace.guest.word_bytes).entries
    frames = sorted((host.frames for host in trace.hosts), reverse=True)[:2]
    return 9 * sum(frames) + num_slots(trace) * (n * 8 + n // 8 + 26)


def num_slots(trace: Trace) -> int:
    """Return how many pages of the guest may come to hold anything, stray writes not counted."""
    guest = trace.guest
    grown = _pages_set_beyond(trace)
    # A linear p2m's list may be built from the pool, a page for each block and three more.
    pool = min(int(guest.page_pool[:, 1].sum()), 3 * grown + 3 + (guest.max_p2m_pfn >> 18))
    return guest.mfn_list_pages + guest.boot_pages + pool + 64


def _pages_set_beyond(trace: Trace) -> int:
    """Return an upper bound of the leaves that the set events can make the tree grow by."""
    n = geometry(trace.guest.word_bytes).entries
    total = 0
    for event in trace.events:
        for runs in runs_of(event):
            total += int((runs[:, 2] // n + 2).sum())
    return total


def new_life(trace: Trace) -> Life:
    """Return the guest of `trace` on the host it boots on, not booted yet.

    Raises `ResourceError` with both numbers where it needs more memory than the machine has.
    """
    needed = needed_bytes(trace)
    available = psutil.virtual_memory().available
    if needed > available:
        raise ResourceError(
            f"trace {trace.name!r} needs {format_size(needed >> 20 << 20)} of memory: "
            f"this machine has {format_size(available >> 20 << 20)} available"
        )
    guest = trace.guest
    slots = num_slots(trace)
    tables = tb.allocate(
        geometry(guest.word_bytes),
        nr_pages=guest.nr_pages,
        max_p2m_pfn=guest.max_p2m_pfn,
        mfn_list_pfn=guest.mfn_list_pfn,
        brk_pfn=guest.brk_pfn,
        brk_pages=guest.brk_pages,
        pool=guest.page_pool,
        directmap_pages=guest.directmap_pages,
        num_slots=slots,
        machine=MACHINES[trace.format],
        table_presence=True,
        num_blocks=min(slots, (guest.directmap_pages >> tb.BLOCK_SHIFT) + 1) + 8,
    )
    host, policy = _host(trace, trace.events[0]), find(trace.policy)
    if isinstance(guest, (EraLayout, LinearLayout)):
        return replay_eras.new_life(tables, host, policy, guest)
    return Life(tables, host, policy)


def _host(trace: Trace, event: dict[str, Any]) -> tb.HostTables:
    """Return the host that a boot or a migration names, as it is before the guest is there."""
    host = trace.hosts[event["host"]]
    if not MACHINES[trace.format].bounded_m2p:
        return table_host(host.frames, host.domain, host.foreign)
    order, entries = host.m2p_order, host.m2p_entries
    width = trace.guest.word_bytes
    xen = parse_xen(event["xen"]) if "xen" in event else None
    return table_host(
        host.frames,
        host.domain,
        host.foreign,
        m2p_order=m2p_order(width, host.frames, xen) if order is None else order,
        m2p_entries=m2p_entries(width, host.frames) if entries is None else entries,
        keeps_freed=keeps_freed_frames(xen),
    )


def run_event(life: Life, trace: Trace, event: dict[str, Any]) -> EventResult:
    """Run one event of `trace` on `life`."""
    op = event["op"]
    if op == "boot" and isinstance(life, EraLife):
        return replay_eras.boot(life, event)
    if op == "boot":
        return life.boot()
    if op == "set":
        return life.set_runs(event["runs"])
    if op == "cpus":
        return set_by_cpus(life, event["sets"], event["schedule"])
    if op == "migrate":
        life.toolstack = code_of(event.get("toolstack"))
    if op == "migrate" and isinstance(life, EraLife):
        return replay_eras.migrate(life, _host(trace, event), event)
    if op == "tweak" and isinstance(life, LinearLife):
        life.tweak(event)
        return EventResult()
    if op == "migrate":
        return life.migrate(_host(trace, event), rounds=rounds_of(event))
    if op == "poke":
        return life.poke(event["words"])
    life.fail_alloc(event["at"])
    return EventResult()


def replay_events(trace: Trace) -> Iterator[dict[str, Any]]:
    """Run `trace` and yield, for each event that ran, the object that `expected` holds for it.

    Under a policy of the user's own there is also "where" (`EventResult.where`).
    Raises `ResourceError` before anything is run where memory would not do.
    """
    life = new_life(trace)
    for event in trace.events:
        result = run_event(life, trace, event)
        yield observed(life, trace, event, result)
        if not goes_on(event, result.outcome):
            return


def observed(
    life: Life, trace: Trace, event: dict[str, Any], result: EventResult
) -> dict[str, Any]:
    """Return the object that `expected` holds for an event that has just run."""
    if event["op"] in UNOBSERVED:
        return {"op": event["op"]}
    found = observe(life, event["op"], result)
    if event["op"] in SETS:
        found["entries_set"] = result.entries_set
        found["ok"] = result.set_returned
    if life.policy.own is not None:
        found["where"] = result.where
    if trace.format == FORMAT_3:
        names = LOSS_FIELDS.get(event["op"], ())
        found |= {name: getattr(result, name) for name in names}
    return found


def replay(trace: Trace) -> list[dict[str, Any]]:
    """Run `trace` and return one object for each event that ran, just as in `expected`."""
    return list(replay_events(trace))


def observe(life: Life, op: str, result: EventResult) -> dict[str, Any]:
    """Return what a trace records of a guest's state after an event (model section 11)."""
    if isinstance(life, EraLife):
        return replay_eras.observe(life, op, result)
    return replay_eras.went_on(life, op, result) | {
        "op": op,
        "outcome": result.outcome,
        "detail": result.detail,
        "brk_pages_used": life.scalar("brk_used"),
        "pool_pages_used": life.scalar("pool_used"),
        "frame_list_list_mfn": life.scalar("shared_fll") % (1 << 64),
        "stray_writes": result.stray_writes,
        "stray_pages": result.stray_pages,
        "frame_list_list_sha256": frame_list_list_sha256(life),
        "frame_list_sha256": frame_list_sha256(life),
        "p2m_sha256": _p2m_sha256(life),
    }


def frame_list_list_sha256(life: Life) -> str:
    """Return the digest of all n words of the `p2m_top_mfn` page (of none before it exists)."""
    page = life.scalar("top_mfn")
    if page == tb.NO_PAGE:
        return hashlib.sha256().hexdigest()
    slot = int(np.flatnonzero(life.tables.slots[:, tb.P_PAGE] == page)[0])
    return hashlib.sha256(life.tables.words[slot].data).hexdigest()


def frame_list_sha256(life: Life) -> str:
    """Return the digest of every leaf's entry in the true mid_mfn page of its top index.

    It exists from `p2m_mid_missing_mfn` on, the first page of the list: a boot may end right after.
    """
    n = life.tables.words.shape[1]
    if life.scalar("mid_missing_mfn") == tb.NO_PAGE:
        return hashlib.sha256().hexdigest()
    entries = np.empty(min(-(-life.scalar("xen_max") // n), n * n), np.int64)
    frame_list(life.tables, entries)
    return hashlib.sha256(entries.data).hexdigest()


def _p2m_sha256(life: Life) -> str:
    """Return the digest of the entries of every PFN below `xen_max_p2m_pfn`, no bit masked."""
    end = life.scalar("xen_max") if life.scalar("top") != tb.NO_PAGE else 0
    return p2m_sha256(life, end)
