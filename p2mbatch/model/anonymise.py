"""A trace with other frame numbers and the same life, for bug reports."""

from __future__ import annotations

import secrets
from dataclasses import replace

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.entries import IDENTITY_FLAG, is_foreign, is_identity
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import FOREIGN_FRAME_BIT, INVALID, geometry
from p2mbatch.model.replay import replay
from p2mbatch.model.trace import REFUSED, HostRuns, Trace, runs_of

_ALIGN = 512
"""Extents keep their place within 2 MiB when frames are renumbered."""


def anonymise(trace: Trace, key: int | None = None) -> Trace:
    """Return `trace` with every MFN renumbered and nothing but the shape left.

    On each host, every stretch of frames in a row that the trace uses moves to a random place
    (`key` seeds it; from the system's randomness by default). Extents and their place within 2 MiB
    stay; neighbours, gaps between extents, names and expected results go.

    Raises `InputError` for a trace that aims at a check by a `tweak`, which names frames that are
    nobody's.
    """
    if any(event["op"] == "tweak" for event in trace.events):
        raise InputError("anonymise: a trace with a tweak is of one check and its numbers")
    random = np.random.default_rng(secrets.randbits(128) if key is None else key)
    width = trace.guest.word_bytes
    used: list[list[Int64Array]] = [[host.domain] for host in trace.hosts]
    sets: list[list[Int64Array]] = [[np.zeros((0, 3), np.int64)] for _ in trace.hosts]
    hosts_at = _hosts_at(trace)
    for event, host in zip(trace.events, hosts_at, strict=True):
        for runs in runs_of(event):
            mine = _in_host(runs, trace.hosts[host].frames)
            used[host].append(runs[mine])
            sets[host].append(runs[is_foreign(runs[:, 1], width) & ~mine])
        if event["op"] == "poke":
            # Each may be a frame that is nobody's.
            count = len(event["words"])
            sets[host].append(np.array([[0, 0, count]], np.int64))
    maps = [
        _Renumbering(np.concatenate(mine), int(np.concatenate(others)[:, 2].sum()), random)
        for mine, others in zip(used, sets, strict=True)
    ]
    hosts = [
        HostRuns(
            renumber.frames,
            renumber.apply(host.domain),
            np.zeros((0, 3), np.int64),
            _order(host, renumber.frames),
        )
        for host, renumber in zip(trace.hosts, maps, strict=True)
    ]
    events = []
    for event, host in zip(trace.events, hosts_at, strict=True):
        frames = trace.hosts[host].frames
        for name in ("runs", "during"):
            if name in event:
                event = event | {name: maps[host].entries(event[name], frames, width)}
        for name in ("rounds", "sets"):
            if name in event:
                some = [maps[host].entries(runs, frames, width) for runs in event[name]]
                event = event | {name: some}
        if event["op"] == "poke":
            words = event["words"].copy()
            words[:, 2] = maps[host].words(words[:, 2], trace.hosts[host].frames, width)
            event = {"op": "poke", "words": words}
        events.append(event)
    return replace(trace, name="anonymous", hosts=hosts, events=events, expected=None)


def _order(host: HostRuns, frames: int) -> int | None:
    """Return the order of the m2p of `host` once it has `frames`; None where it says none.

    One that covered all frames, as a hypervisor's does, covers them still; what was mapped of the
    m2p follows from the frames.
    """
    if host.m2p_order is None or host.frames > 1 << host.m2p_order:
        return host.m2p_order
    return max(host.m2p_order, (frames - 1).bit_length())


def _hosts_at(trace: Trace) -> list[int]:
    """Return the host that the guest is on during each event."""
    hosts, now = [], 0
    # Where a refused guest stays, only its life tells where it is.
    stays = any("on_refused" in event for event in trace.events)
    refused = [result.get("outcome") in REFUSED for result in replay(trace)] if stays else []
    for i, event in enumerate(trace.events):
        hosts.append(now if event["op"] != "boot" else event["host"])
        now = hosts[-1] if i < len(refused) and refused[i] else event.get("host", hosts[-1])
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
        self._others: dict[int, int] = {}
        self._lengths = ends[np.append(new[1:], ends.size)[: new.size] - 1] - self._starts
        offsets = self._starts % _ALIGN
        self._targets = np.zeros(self._starts.size, np.int64)
        at = 0
        for i in random.permutation(self._starts.size).tolist():
            # Where the place within 2 MiB allows it the next stretch follows closely, but never
            # so that two of them become one.
            at += 1 + (int(offsets[i]) - at - 1) % _ALIGN
            self._targets[i] = at
            at += int(self._lengths[i])
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
        hidden[identity, 1] = runs[identity, 0] | IDENTITY_FLAG[word_bytes]
        for at in np.flatnonzero((runs[:, 1] != INVALID) & ~identity).tolist():
            if foreign[at]:
                # Later kernels mark them by the top bit, which makes them negative here.
                mark = FOREIGN_FRAME_BIT if runs[at, 1] >= 0 else np.iinfo(np.int64).min
                hidden[at, 1] = mark | self._next_foreign
                self._next_foreign += int(runs[at, 2])
            else:
                hidden[at, 1] = self._next_beyond
                self._next_beyond += int(runs[at, 2])
        return hidden

    def entries(self, runs: Int64Array, frames: int, word_bytes: int) -> Int64Array:
        """Return the runs of a set on a host of `frames`, int64[k, 3], renumbered."""
        moved = runs.copy()
        mine = _in_host(runs, frames)
        moved[mine] = self.apply(moved[mine])
        moved[~mine] = self.hide(moved[~mine], word_bytes)
        return moved

    def words(self, words: Int64Array, frames: int, word_bytes: int) -> Int64Array:
        """Return poked `words` (int64[k]) of a host of `frames`, renumbered as the entries are.

        A number that is no used frame gets one that nobody has, the same for the same; INVALID, 0
        and what is an address stay.
        """
        at = np.clip(np.searchsorted(self._starts, words, side="right") - 1, 0, None)
        used = (words >= self._starts[at]) & (words < self._starts[at] + self._lengths[at])
        moved = np.where(used, words + self._targets[at] - self._starts[at], words)
        address = geometry(word_bytes).va_base if word_bytes == 4 else 1 << 62
        # Later kernels mark foreign frames by the top bit; all addresses are above.
        for i in np.flatnonzero(words < -address).tolist():
            moved[i] = np.iinfo(np.int64).min | self._next_foreign
            self._next_foreign += 1
        for i in np.flatnonzero(~used & (words > 0) & (words < address)).tolist():
            word = int(words[i])
            if word not in self._others and word < frames:
                self._others[word] = self._next_foreign
                self._next_foreign += 1
            elif word not in self._others:
                self._others[word] = self._next_beyond
                self._next_beyond += 1
            moved[i] = self._others[word]
        return moved

    def apply(self, runs: Int64Array) -> Int64Array:
        """Return `runs`, int64[k, 3] of [pfn, mfn, count], with their MFNs renumbered."""
        at = np.searchsorted(self._starts, runs[:, 1], side="right") - 1
        moved = runs.copy()
        # MFN 0 alone is no frame but a word that was never written: that stays to be seen.
        is_frame = (runs[:, 1] > 0) | (runs[:, 2] > 1)
        moved[:, 1] += np.where(is_frame, self._targets[at] - self._starts[at], 0)
        return moved
