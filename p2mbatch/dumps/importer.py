"""Turn a dump into a trace that replays to the same p2m, and take all names out of a trace."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace
from typing import Any

import numpy as np
import psutil

from p2mbatch.dumps import formats
from p2mbatch.dumps.layout import find_layout
from p2mbatch.dumps.model import (
    DumpGuest,
    Int64Array,
    ShapeP2M,
    is_foreign,
    is_identity,
)
from p2mbatch.dumps.sources import file_bytes, open_source
from p2mbatch.errors import InputError, ResourceError
from p2mbatch.geometry import FOREIGN_FRAME_BIT, INVALID, format_size
from p2mbatch.replay import replay_events
from p2mbatch.trace import HostRuns, Trace

_MAX_FRAMES = 1 << 40
_BYTES_PER_PFN = 48
"""What an import holds for each PFN at its peak: entries, masks, runs."""
_ALIGN = 512
"""Extents keep their place within 2 MiB when frames are renumbered."""


def import_trace(guest: DumpGuest, name: str) -> Trace:
    """Return `guest` as a trace named `name`: a boot, and the sets that make its p2m the dump's.

    Foreign frames marked by the top bit (later kernels) become the model's, marked by bit 31.
    Where the file names no frames, PFNs get frames in ascending order. Raises `InputError` where
    the guest can't be one of the model's, `ResourceError` where it is too large to hold.
    """
    limit = guest.geometry.max_p2m_pfn
    if guest.max_p2m_pfn > limit:
        raise InputError(
            f"{guest.name}: the guest has {guest.max_p2m_pfn} PFNs in a linear list; a tree, and "
            f"so the model, has {limit} at most"
        )
    needed, available = _BYTES_PER_PFN * guest.max_p2m_pfn, psutil.virtual_memory().available
    if needed > available:
        raise ResourceError(
            f"{guest.name}: importing {guest.max_p2m_pfn} PFNs takes "
            f"{format_size(needed >> 20 << 20)} of memory: this machine has "
            f"{format_size(available >> 20 << 20)} available"
        )
    entries = model_entries(guest)
    width = guest.word_bytes
    own = (entries != INVALID) & ~is_foreign(entries, width) & ~is_identity(entries, width)
    beyond = np.flatnonzero(own & (entries >= _MAX_FRAMES // 2))
    if beyond.size:
        raise InputError(
            f"{guest.name}: PFN {int(beyond[0])} names frame {int(entries[beyond[0]]):#x}, "
            "which no host can have"
        )
    found = find_layout(guest, own)
    booted, frames = _boot_frames(entries, own, found.layout.nr_pages)
    n = guest.geometry.entries
    state = np.full(entries.size, INVALID, np.int64)
    # The tail of the last mfn_list page reads as MFN 0 until something is set there.
    state[: -(-booted.size // n) * n] = 0
    state[: booted.size] = booted
    change = np.flatnonzero(state != entries)
    gone = entries[change] == INVALID
    domain = frame_runs(np.arange(booted.size), booted)
    events: list[dict[str, Any]] = [{"op": "boot", "host": 0}]
    for pfns in (change[gone], change[~gone]):
        if pfns.size:
            events.append({"op": "set", "runs": frame_runs(pfns, entries[pfns])})
    host = HostRuns(frames, domain, np.zeros((0, 3), np.int64))
    return Trace(name, found.policy, found.layout, [host], events, None)


def check_import(guest: DumpGuest, trace: Trace) -> None:
    """Replay `trace` and raise `InputError` unless its p2m ends as `guest`'s (see import_trace)."""
    *_, last = replay_events(trace)
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
        entries[page] = np.arange(np.count_nonzero(page)) + 1
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
    first = np.zeros(nr_pages, np.bool_)
    candidates = np.flatnonzero(own[:nr_pages])
    first[candidates[np.unique(booted[candidates], return_index=True)[1]]] = True
    others = np.flatnonzero(~first)
    top = int(entries.max(where=own, initial=0)) + 1
    booted[others] = top + np.arange(others.size)
    return booted, top + others.size


def frame_runs(pfns: Int64Array, mfns: Int64Array) -> Int64Array:
    """Return int64[k, 3]: runs [pfn, mfn, count] in which both count up; INVALID stays INVALID.

    `pfns` ascend; both are int64[m].
    """
    if not pfns.size:
        return np.zeros((0, 3), np.int64)
    keys = np.where(mfns == INVALID, np.iinfo(np.int64).min, mfns - pfns)
    breaks = (np.diff(keys) != 0) | (np.diff(pfns) != 1)
    firsts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    return np.stack([pfns[firsts], mfns[firsts], np.diff(firsts, append=pfns.size)], axis=1)


def anonymise(trace: Trace, key: int | None = None) -> Trace:
    """Return `trace` with every MFN renumbered and nothing but the shape left.

    On each host, every stretch of frames in a row that the trace uses moves to a random place
    (`key` seeds it; from the system's randomness by default). Extents and their place within 2 MiB
    stay; neighbours, gaps between extents, names and expected results go.
    """
    random = np.random.default_rng(secrets.randbits(128) if key is None else key)
    width = trace.guest.word_bytes
    used: list[list[Int64Array]] = [[host.domain] for host in trace.hosts]
    sets: list[list[Int64Array]] = [[np.zeros((0, 3), np.int64)] for _ in trace.hosts]
    hosts_at = _hosts_at(trace)
    for event, host in zip(trace.events, hosts_at, strict=True):
        if event["op"] == "set":
            runs = event["runs"]
            mine = _in_host(runs, trace.hosts[host].frames)
            used[host].append(runs[mine])
            sets[host].append(runs[is_foreign(runs[:, 1], width) & ~mine])
    maps = [
        _Renumbering(np.concatenate(mine), int(np.concatenate(others)[:, 2].sum()), random)
        for mine, others in zip(used, sets, strict=True)
    ]
    hosts = [
        HostRuns(renumber.frames, renumber.apply(host.domain), np.zeros((0, 3), np.int64))
        for host, renumber in zip(trace.hosts, maps, strict=True)
    ]
    events = []
    for event, host in zip(trace.events, hosts_at, strict=True):
        if event["op"] == "set":
            runs = event["runs"].copy()
            mine = _in_host(runs, trace.hosts[host].frames)
            runs[mine] = maps[host].apply(runs[mine])
            runs[~mine] = maps[host].hide(runs[~mine], width)
            event = {"op": "set", "runs": runs}
        events.append(event)
    return replace(trace, name="anonymous", hosts=hosts, events=events, expected=None)


def _hosts_at(trace: Trace) -> list[int]:
    """Return the host that the guest is on during each event."""
    hosts, now = [], 0
    for event in trace.events:
        hosts.append(now if event["op"] != "boot" else event["host"])
        now = event.get("host", hosts[-1])
    return hosts


def _in_host(runs: Int64Array, frames: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return which runs name frames of a host that has `frames`."""
    inside: np.ndarray[tuple[int], np.dtype[np.bool_]] = (runs[:, 1] >= 0) & (runs[:, 1] < frames)
    return inside


class _Renumbering:
    """A new place for each stretch of used frames on one host, and for `num_foreign` others."""

    def __init__(self, used: Int64Array, num_foreign: int, random: np.random.Generator) -> None:
        used = used[np.argsort(used[:, 1], kind="stable"), 1:]
        ends = np.maximum.accumulate(used.sum(axis=1))
        # A stretch begins where no run before it reaches.
        new = np.flatnonzero(np.append(True, used[1:, 0] > ends[:-1])[: len(used)])
        self._starts = used[new, 0]
        lengths = ends[np.append(new[1:], ends.size)[: new.size] - 1] - self._starts
        offsets = self._starts % _ALIGN
        self._targets = np.zeros(self._starts.size, np.int64)
        at = 0
        for i in random.permutation(self._starts.size).tolist():
            # Where the place within 2 MiB allows it the next stretch follows closely, but never
            # so that two of them become one.
            at += 1 + (int(offsets[i]) - at - 1) % _ALIGN
            self._targets[i] = at
            at += int(lengths[i])
        self._next_foreign = at + 1
        self.frames = self._next_beyond = at + 1 + num_foreign

    def hide(self, runs: Int64Array, word_bytes: int) -> Int64Array:
        """Return `runs` of entries that are no frames of the guest's, with other numbers.

        Holes stay. Foreign frames get numbers of the host that nobody has, identity entries name
        their own PFN, as they should, and what lies beyond the host's memory lies there still.
        """
        hidden = runs.copy()
        foreign = is_foreign(runs[:, 1], word_bytes)
        identity = is_identity(runs[:, 1], word_bytes)
        hidden[identity, 1] = runs[identity, 0] | formats.IDENTITY_FLAG[word_bytes]
        for at in np.flatnonzero((runs[:, 1] != INVALID) & ~identity).tolist():
            if foreign[at]:
                hidden[at, 1] = FOREIGN_FRAME_BIT | self._next_foreign
                self._next_foreign += int(runs[at, 2])
            else:
                hidden[at, 1] = self._next_beyond
                self._next_beyond += int(runs[at, 2])
        return hidden

    def apply(self, runs: Int64Array) -> Int64Array:
        """Return `runs`, int64[k, 3] of [pfn, mfn, count], with their MFNs renumbered."""
        at = np.searchsorted(self._starts, runs[:, 1], side="right") - 1
        moved = runs.copy()
        # MFN 0 alone is no frame but a word that was never written: that stays to be seen.
        is_frame = (runs[:, 1] > 0) | (runs[:, 2] > 1)
        moved[:, 1] += np.where(is_frame, self._targets[at] - self._starts[at], 0)
        return moved
