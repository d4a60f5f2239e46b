"""Turn a dump into a trace that replays to the same p2m, and take all names out of a trace."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import psutil

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.entries import is_own
from p2mbatch.base.errors import InputError, ResourceError
from p2mbatch.base.geometry import FOREIGN_FRAME_BIT, INVALID, MAX_DOMAIN_PAGES
from p2mbatch.base.sizes import format_size
from p2mbatch.base.sources import file_bytes, open_source
from p2mbatch.dumps.audit.recover import recover
from p2mbatch.dumps.audit.structures import find_structures
from p2mbatch.dumps.importing.damage import with_damage
from p2mbatch.dumps.importing.layout import find_layout, laid_out
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.dumps.p2m import ShapeP2M
from p2mbatch.model.replay import replay_events
from p2mbatch.model.runs import frame_runs
from p2mbatch.model.trace import HostRuns, Trace

_MAX_FRAMES = 1 << 40

_BYTES_PER_PFN = 48
"""What an import holds for each PFN at its peak: entries, masks, runs."""

_PFNS_PER_SHOWN = 16
"""PFNs of a guest beyond `MAX_DOMAIN_PAGES` for each entry that its file holds: one of a few lines
or one page can claim any number."""


def import_trace(
    guest: DumpGuest, name: str, policy: str | None = None, *, heal: bool = False
) -> Trace:
    """Return `guest` as a trace named `name`: a boot, and the sets that make its p2m the dump's.

    `policy` is the kernel's where the file does not show it. Foreign frames marked by the top bit
    (later kernels) become the model's, marked by bit 31. Where the file names no frames, PFNs get
    frames in ascending order. Pages that a dump lost are the guest's, as its leaves say.

    A damaged list is carried over: the trace ends with a `poke` of its words; with `heal` a sound
    one takes its place. Raises `InputError` where the damage is not in the list's own pages, where
    the policy can't be told and none is given, and where the guest can't be one of the model's;
    `ResourceError` where it is too large to hold.
    """
    if policy is not None and policy not in laid_out():
        raise InputError(f"policy: {policy!r} can't be imported: use {', '.join(laid_out())}")
    limit = guest.geometry.max_p2m_pfn
    if guest.max_p2m_pfn > limit:
        raise InputError(
            f"{guest.name}: the guest has {guest.max_p2m_pfn} PFNs in a linear list; a tree, and "
            f"so the model, has {limit} at most"
        )
    if guest.p2m.unlisted.size:
        first, stop = guest.p2m.unlisted[0].tolist()
        raise InputError(
            f"{guest.name}: the listing is a part: it says nothing of PFNs {first} to {stop - 1}; "
            "a trace needs the whole guest"
        )
    shown = guest.p2m.num_shown()
    limit = max(MAX_DOMAIN_PAGES, _PFNS_PER_SHOWN * shown)
    if guest.max_p2m_pfn > limit:
        raise InputError(
            f"{guest.name}: the guest has {guest.max_p2m_pfn} PFNs and the file holds {shown} "
            f"entries of them: at most {limit} PFNs are imported from so few"
        )
    needed, available = _BYTES_PER_PFN * guest.max_p2m_pfn, psutil.virtual_memory().available
    if needed > available:
        raise ResourceError(
            f"{guest.name}: importing {guest.max_p2m_pfn} PFNs takes "
            f"{format_size(needed >> 20 << 20)} of memory: this machine has "
            f"{format_size(available >> 20 << 20)} available"
        )
    recovered = recover(guest)
    guest, walk = recovered.guest, recovered.walk
    entries = model_entries(guest)
    width = guest.word_bytes
    own = is_own(entries, width)
    beyond = np.flatnonzero(own & (entries >= _MAX_FRAMES // 2))
    if beyond.size:
        raise InputError(
            f"{guest.name}: PFN {int(beyond[0])} names frame {int(entries[beyond[0]]):#x}, "
            "which no host can have"
        )
    found = find_layout(guest, own, walk, find_structures(guest, walk))
    policy = policy or found.policy
    if policy is None:
        raise InputError(
            f"{guest.name}: which policy this guest's kernel has can't be told: {found.why_not}; "
            f"say it with --policy ({', '.join(laid_out())})"
        )
    booted, frames = _boot_frames(entries, own, found.layout.nr_pages)
    change = _changes(entries, booted, guest.geometry.entries)
    gone = entries[change] == INVALID
    domain = frame_runs(range(booted.size), booted)
    events: list[dict[str, Any]] = [{"op": "boot", "host": 0}]
    for pfns in (change[gone], change[~gone]):
        if pfns.size:
            events.append({"op": "set", "runs": frame_runs(pfns, entries[pfns])})
    host = HostRuns(frames, domain, np.zeros((0, 3), np.int64))
    trace = Trace(name, policy, found.layout, [host], events, None)
    if walk.result in (None, "ok") or heal:
        return trace
    return with_damage(guest, walk, trace, exact=found.exact)


def _changes(entries: Int64Array, booted: Int64Array, n: int) -> Int64Array:
    """Return the PFNs, int64[k], at which `entries` are not what a guest has after its boot.

    The tail of the last mfn_list page reads as MFN 0 until something is set there.
    """
    nr_pages, end = booted.size, -(-booted.size // n) * n
    return np.concatenate(
        [
            np.flatnonzero(booted != entries[:nr_pages]),
            np.flatnonzero(entries[nr_pages:end] != 0) + nr_pages,
            np.flatnonzero(entries[end:] != INVALID) + end,
        ]
    )


def check_import(guest: DumpGuest, trace: Trace) -> None:
    """Replay `trace` and raise `InputError` unless its p2m ends as `guest`'s (see import_trace)."""
    *_, last = (event for event in replay_events(trace) if "outcome" in event)
    guest = recover(guest).guest
    digest = hashlib.sha256(model_entries(guest).astype("<i8").data).hexdigest()
    if last["outcome"] != "ok" or last["p2m_sha256"] != digest:
        raise InputError(
            f"{guest.name}: the model can't rebuild this guest: the replay ended in "
            f"{last['outcome']} {last['detail'] or ''} with p2m {last['p2m_sha256']}, "
            f"expected {digest}"
        )


def is_trace_file(path: str) -> bool:
    """Return whether the file at `path` is JSON, plain or gzipped, and so no dump.

    A pipe is never one: what is read of it to look is gone.
    """
    if file_bytes(path) is None:
        return False
    with open_source(path) as cursor:
        return cursor.peek(64).lstrip()[:1] == b"{"


def model_entries(guest: DumpGuest) -> Int64Array:
    """Return int64[max_p2m_pfn]: the guest's entries as the model has them."""
    entries = guest.p2m.to_array()
    if isinstance(guest.p2m, ShapeP2M):
        page = entries == ShapeP2M.PAGE
        entries[page] = np.arange(1, np.count_nonzero(page) + 1)
        identity = entries == ShapeP2M.IDENTITY
        entries[identity] |= np.flatnonzero(identity)
    foreign = entries < INVALID
    entries[foreign] = entries[foreign] & (FOREIGN_FRAME_BIT - 1) | FOREIGN_FRAME_BIT
    return entries


def _boot_frames(
    entries: Int64Array, own: np.ndarray[tuple[int], np.dtype[np.bool_]], nr_pages: int
) -> tuple[Int64Array, int]:
    """Return (int64[nr_pages], frames of the host): what each PFN boots with.

    A PFN boots with its own frame, if it is the first to name it, or else with one of the frames
    above all others, which a set takes away again.
    """
    booted = entries[:nr_pages].copy()
    first = own[:nr_pages].copy()
    named = booted[first]
    if np.any(named[1:] <= named[:-1]):
        candidates = np.flatnonzero(first)
        first[:] = False
        first[candidates[np.unique(named, return_index=True)[1]]] = True
    del named
    others = np.flatnonzero(~first)
    top = int(entries.max(where=own, initial=0)) + 1
    booted[others] = top + np.arange(others.size)
    return booted, top + others.size
