"""Guests from trace files, as a sweep takes them: the layout and what happened before it migrated.

A cell names its guest as "PATH#DIGEST". The digest is of what decides the rows, so the cell is the
same wherever the file lies, whatever frames it names and whatever it did after its first migration.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import INVALID, PAGE_BYTES, geometry
from p2mbatch.base.references import DIGEST_DIGITS, find_referred, split_reference
from p2mbatch.model.runs import OWN, frame_runs, merged_runs, page_runs
from p2mbatch.model.trace import GuestLayout, Trace
from p2mbatch.model.trace_eras import guest_to_json as era_to_json
from p2mbatch.model.trace_file import load_trace
from p2mbatch.model.trace_linear import LinearLayout
from p2mbatch.model.trace_linear import guest_to_json as linear_to_json


@dataclass(frozen=True)
class GuestFile:
    """One guest as a trace file has it, without its frames."""

    path: str
    layout: GuestLayout
    events: tuple[dict[str, Any], ...]
    """The events between boot and the first migration. A set's "runs" are int64[k, 3] of
    [pfn, value, count]; the value is INVALID, OWN (the page's own frame, whichever that is on a
    host), or what counts up along the run: the entry of a page that is another domain's or no
    memory (foreign, identity). A poke has, beside its "words",
    "pfns": int64[k], the PFN whose own frame a word is, INVALID where it is none's."""
    populated_pages: int
    """Pages whose entry is not INVALID after `events`."""
    num_grown: int
    """Leaves that the sets add to those of the boot, if no allocation fails."""
    num_new_tops: int
    """Top entries that these leaves need mid pages for."""
    lowest_kept: int | None
    """The lowest entry that is neither INVALID nor OWN."""
    digest: str
    span: int
    """PFNs of the guest, a count: of a linear p2m those that boot or are ever populated."""
    policy: str
    """The trace's, which says where its pages are."""
    absent: Int64Array
    """int64[k]: PFNs below `nr_pages` that boot without a frame."""
    ranges: Int64Array
    """int64[k, 2]: the 1:1 PFNs (start, end) that its boot event names."""
    damaged_policy: str | None = None
    """The policy whose list a poke of `events` writes into, None where there is no poke."""

    @property
    def reference(self) -> str:
        """Return what a cell names the guest by."""
        return f"{self.path}#{self.digest}"

    @property
    def memory_bytes(self) -> int:
        """Return the guest's span in bytes."""
        return self.span * PAGE_BYTES

    @property
    def sparsity(self) -> float:
        """Return the part of the span that is not populated."""
        return (self.span - self.populated_pages) / self.span

    @property
    def num_own(self) -> int:
        """Return how many entries the sets give their own frames."""
        runs = [event["runs"] for event in self.events if event["op"] == "set"]
        return sum(int(r[r[:, 1] == OWN, 2].sum()) for r in runs)


def find_guest(text: str, directories: Sequence[Path] = ()) -> GuestFile:
    """Return the guest of the trace file that `text` names: a path, or a cell's "PATH#DIGEST".

    A relative path is looked for in `directories`, then in the working directory. Raises
    `InputError` where there is no such file, where it is no trace, where its sets can't be lived
    through on a sweep's hosts, and where it is not the guest of the digest any more.
    """
    return find_referred(text, directories, _load, what="a trace file", kind="guest")


@functools.lru_cache(maxsize=64)
def _known(reference: str) -> GuestFile:
    return find_guest(reference)


def guest_of(reference: str) -> GuestFile:
    """Return the guest of a cell's "PATH#DIGEST", which is read once; or of a path, as it is now.

    Raises `InputError` as `find_guest`.
    """
    return _known(reference) if split_reference(reference)[1] else find_guest(reference)


@functools.lru_cache(maxsize=64)
def _load(path: str, stamp: tuple[int, int]) -> GuestFile:
    """Read the trace at `path`; `stamp` says when it was written and how long it is."""
    trace = load_trace(path)
    frames = trace.hosts[trace.events[0]["host"]].frames
    events: list[dict[str, Any]] = []
    for number, event in enumerate(trace.events[1:], 1):
        if event["op"] == "migrate":
            break
        if event["op"] == "tweak":
            raise InputError(
                f"{path}: events[{number}]: a tweak is what one recorded save reads: a guest of a "
                "sweep has none before its first migration"
            )
        if event["op"] == "cpus":
            raise InputError(
                f"{path}: events[{number}]: several CPUs' sets are of one schedule: a guest of a "
                "sweep has none before its first migration (its cells have cpus)"
            )
        if event["op"] == "set":
            _check_span(trace, path, number, event["runs"])
            event = {"op": "set", "runs": _without_frames(event["runs"], frames)}
        elif event["op"] == "poke":
            owners = _owners(trace, trace.events[1:number])
            event = event | {"pfns": _pfns_named(event["words"], owners)}
        events.append(event)
    sets = [event["runs"] for event in events if event["op"] == "set"]
    runs = np.concatenate([np.zeros((0, 3), np.int64), *sets])
    kept = runs[runs[:, 1] >= 0, 1]
    leaves = _grown_leaves(trace.guest, runs)
    n = geometry(trace.guest.word_bytes).entries
    absent, ranges = _absent(trace), trace.events[0].get("identity", np.zeros((0, 2), np.int64))
    span = _span(trace.guest, runs)
    populated = _populated(
        trace.guest, span, np.concatenate([_away(trace.guest, absent, ranges), runs])
    )
    if not populated:
        raise InputError(f"{path}: the guest has no page left before its first migration")
    return GuestFile(
        path,
        trace.guest,
        tuple(events),
        populated,
        len(leaves),
        len(np.setdiff1d(leaves // n, np.arange(-(-trace.guest.nr_pages // n**2)))),
        int(kept.min()) if len(kept) else None,
        _digest(trace, events, absent),
        span,
        trace.policy,
        absent,
        ranges,
        trace.policy if any(event["op"] == "poke" for event in events) else None,
    )


def _without_frames(runs: Int64Array, frames: int) -> Int64Array:
    """Return the same entries with the host's frames as OWN, in as few runs as there can be."""
    pfn, mfn, count = runs.T
    # A run may begin among the host's frames and leave them.
    inside = np.where(mfn >= 0, np.clip(frames - mfn, 0, count), 0)
    parts = np.stack([pfn, np.full(len(runs), OWN), inside], axis=1)
    rest = np.stack([pfn + inside, np.where(mfn >= 0, mfn + inside, mfn), count - inside], 1)
    runs = np.stack([parts, rest], axis=1).reshape(-1, 3)
    return merged_runs(runs[runs[:, 2] > 0])


def _absent(trace: Trace) -> Int64Array:
    """Return int64[k]: PFNs below `nr_pages` for which the host that it boots on names no frame."""
    there = np.zeros(trace.guest.nr_pages, np.bool_)
    for pfn, _, count in trace.hosts[trace.events[0]["host"]].domain.tolist():
        there[pfn : pfn + count] = True
    return np.flatnonzero(~there)


def _away(guest: GuestLayout, absent: Int64Array, ranges: Int64Array) -> Int64Array:
    """Return int64[k, 3]: what boot does not populate below `nr_pages`, as runs of INVALID."""
    runs = [frame_runs(absent, np.full(absent.size, INVALID, np.int64))]
    pairs = [(start, end - start) for start, end in ranges.tolist() if end > start]
    if isinstance(guest, LinearLayout):
        pairs += guest.identity.tolist()
    runs += [np.array([[pfn, INVALID, count]], np.int64) for pfn, count in pairs]
    return np.concatenate(runs)


def _span(guest: GuestLayout, runs: Int64Array) -> int:
    """Return how many PFNs the guest has; its linear p2m may have room for many more."""
    if not isinstance(guest, LinearLayout):
        return guest.max_p2m_pfn
    ends = [guest.nr_pages, *guest.extra.sum(axis=1).tolist()]
    ends += runs[runs[:, 1] != INVALID][:, [0, 2]].sum(axis=1).tolist()
    return int(min(max(ends), guest.max_p2m_pfn))


def _owners(trace: Trace, events: list[dict[str, Any]]) -> Int64Array:
    """Return int64[span]: the guest's entries after its boot and the sets of `events`."""
    layout = trace.guest
    sets = [event["runs"] for event in events if event["op"] == "set"]
    span = _span(layout, np.concatenate([np.zeros((0, 3), np.int64), *sets]))
    entries = np.full(span, INVALID, np.int64)
    boot = trace.hosts[trace.events[0]["host"]].domain
    for runs in (boot, *sets):
        end = layout.nr_pages if runs is boot else span
        for pfn, mfn, count in runs.tolist():
            stop = max(min(pfn + count, end), pfn)
            entries[pfn:stop] = INVALID if mfn == INVALID else np.arange(mfn, mfn + stop - pfn)
    return entries


def _pfns_named(words: Int64Array, entries: Int64Array) -> Int64Array:
    """Return int64[k]: the PFN whose own frame each poked word is, INVALID where it is none's."""
    order = np.argsort(entries, kind="stable")
    at = np.minimum(np.searchsorted(entries, words[:, 2], sorter=order), len(entries) - 1)
    found = order[at]
    named = (words[:, 2] > 0) & (entries[found] == words[:, 2])
    return np.where(named, found, INVALID)


def _check_span(trace: Trace, path: str, number: int, runs: Int64Array) -> None:
    """Refuse entries past the span: a sweep's hosts have no frames for them, and none is saved."""
    span = trace.guest.max_p2m_pfn
    if (runs[:, 1] == OWN).any():
        raise InputError(f"{path}: events[{number}]: sets the word 2^64 - 2, which no kernel has")
    beyond = runs[(runs[:, 1] != INVALID) & (runs[:, 0] + runs[:, 2] > span)]
    if len(beyond):
        raise InputError(
            f"{path}: events[{number}]: populates PFN {int(beyond[0].take((0, 2)).sum()) - 1}: a "
            f"guest of a sweep has pages below max_p2m_pfn, {span}, only"
        )


def _grown_leaves(guest: GuestLayout, runs: Int64Array) -> Int64Array:
    """Return the leaves beyond those of the boot in which the sets put anything: int64[k]."""
    n = geometry(guest.word_bytes).entries
    num_boot = guest.mfn_list_pages
    first = np.maximum(runs[:, 0] // n, num_boot)
    end = np.where(runs[:, 1] == INVALID, 0, (runs[:, 0] + runs[:, 2] - 1) // n + 1)
    chosen = np.flatnonzero(end > first)
    return np.unique(
        np.concatenate(
            [np.zeros(0, np.int64), *(np.arange(first[k], end[k]) for k in chosen.tolist())]
        )
    )


def _populated(guest: GuestLayout, span: int, runs: Int64Array) -> int:
    """Return how many PFNs of the span are not INVALID once the sets are done."""
    ends = np.minimum(runs[:, 0] + runs[:, 2], span)
    starts = np.minimum(runs[:, 0], span)
    edges = np.unique(np.concatenate([[0, guest.nr_pages, span], starts, ends]))
    state = edges[:-1] < guest.nr_pages
    low, high = np.searchsorted(edges, starts), np.searchsorted(edges, ends)
    for a, b, there in zip(low.tolist(), high.tolist(), runs[:, 1] != INVALID, strict=True):
        state[a:b] = there
    return int(np.diff(edges)[state].sum())


def _digest(trace: Trace, events: list[dict[str, Any]], absent: Int64Array) -> str:
    guest = trace.guest
    plain = linear_to_json(guest) if isinstance(guest, LinearLayout) else era_to_json(guest)
    value: dict[str, Any] = {
        "guest": plain,
        "events": [_without_arrays(event) for event in events],
    }
    # Named only where there are any: what has none keeps the digest that it always had.
    if absent.size:
        value["absent"] = page_runs(absent).tolist()
    if "identity" in trace.events[0]:
        value["identity"] = trace.events[0]["identity"].tolist()
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_DIGITS]


def _without_arrays(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event as plain values; of a poked word that is an own frame, the PFN alone."""
    if event["op"] == "set":
        return {**event, "runs": event["runs"].tolist()}
    if event["op"] != "poke":
        return event
    words = [
        [page, index, word if pfn == INVALID else {"pfn": pfn}]
        for (page, index, word), pfn in zip(
            event["words"].tolist(), event["pfns"].tolist(), strict=True
        )
    ]
    return {"op": "poke", "words": words}
