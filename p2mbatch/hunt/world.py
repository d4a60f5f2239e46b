"""The world that a hunt may use: which lives count, and why one does not (design section 7).

Whatever is not ruled out here a kernel has to bear. What none has to bear is a set that its own
bounds forbid, a page of its tables given away, a host too small, too little memory to boot.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import FOREIGN_FRAME_BIT, INVALID, geometry
from p2mbatch.model.life import Life
from p2mbatch.model.policies import Policy, find
from p2mbatch.model.structures import structures_of
from p2mbatch.model.trace import FORMAT, GuestLayout, Trace
from p2mbatch.model.trace_eras import EraLayout
from p2mbatch.model.trace_linear import LinearLayout

NO_BOOT = ("brk overflow", "bootmem overflow", "panic")
"""BUGs of a guest that has not memory enough to boot."""

_OPS = ("boot", "set", "fail_alloc", "migrate")

_NOT_HERE = ("live", "during", "rounds", "toolstack")


def outside(trace: Trace) -> str | None:
    """Return why `trace` is not within the hunt's world; None where all that it says is.

    What a set may write depends on whose frames are whose by then: `outside_now`.
    """
    policy = find(trace.policy)
    return (
        _format(trace)
        or _guest(trace, policy)
        or next(filter(None, (_event(trace, policy, i) for i in range(len(trace.events)))), None)
        or _hosts(trace)
    )


def _format(trace: Trace) -> str | None:
    if trace.format == FORMAT:
        return f"format: {trace.format} is of the first recordings' machine"
    return None


def _guest(trace: Trace, policy: Policy) -> str | None:
    guest = trace.guest
    ends = [int(first + count) for first, count in structures_of(guest)]
    if max(ends, default=0) > guest.nr_pages:
        return "guest: a page of its tables or its pool lies past the memory that it boots with"
    if policy.is_two_level and guest.nr_pages > bound_of(guest, policy):
        return "guest.nr_pages: more than max_domain_pages"
    if guest.max_p2m_pfn > geometry(guest.word_bytes).max_p2m_pfn and not policy.is_linear:
        return "guest.max_p2m_pfn: more than the tree holds"
    if isinstance(guest, LinearLayout):
        if _touches(guest, guest.identity):
            return "guest.identity: marks a page of the guest's tables"
        if guest.extra.size and int(guest.extra.sum(axis=1).max()) > guest.max_p2m_pfn:
            return "guest.extra: goes past the area"
    return None


def _touches(guest: GuestLayout, runs: Int64Array) -> bool:
    """Return whether runs [first, …, count] hold a page of the tables or of the pool."""
    first, end = runs[:, :1], runs[:, :1] + runs[:, -1:]
    pages = structures_of(guest)
    return bool(((first < pages[:, 0] + pages[:, 1]) & (pages[:, 0] < end)).any())


def most_tops(policy: Policy) -> int:
    """Return how many pages each array of tops of a drawn guest has at most; 0 without such.

    A user's kernel is compiled for one length of its arrays.
    """
    return (1 if policy.own is not None else 2) * policy.is_two_level


def bound_of(guest: GuestLayout, policy: Policy) -> int:
    """Return how many PFNs the kernel's p2m holds."""
    if isinstance(guest, LinearLayout):
        return guest.max_p2m_pfn
    if isinstance(guest, EraLayout) and policy.is_two_level:
        return guest.max_domain_pages
    return geometry(guest.word_bytes).max_p2m_pfn


def _event(trace: Trace, policy: Policy, index: int) -> str | None:
    event, at = trace.events[index], f"events[{index}]"
    if event["op"] not in _OPS:
        return f"{at}: {event['op']} is not of this world"
    for name in _NOT_HERE:
        if name in event:
            return f"{at}.{name}: is not of this world"
    if event["op"] == "set":
        return _runs(trace, policy, event["runs"], at)
    if "identity" in event:
        ranges = event["identity"]
        counts = np.maximum(ranges[:, 1] - ranges[:, 0], 0)
        if _touches(trace.guest, np.column_stack([ranges[:, 0], counts])):
            return f"{at}.identity: marks a page of the guest's tables"
    return None


def _runs(trace: Trace, policy: Policy, runs: Int64Array, at: str) -> str | None:
    """Return what is wrong with a set, whoever owns which frames."""
    if len(runs) and int((runs[:, 0] + runs[:, 2]).max()) > bound_of(trace.guest, policy):
        return f"{at}.runs: goes past what the kernel's p2m holds"
    if _touches(trace.guest, runs):
        return f"{at}.runs: sets a page of the guest's tables or of its pool"
    n = geometry(trace.guest.word_bytes).entries
    for i, (pfn, word, count) in enumerate(runs.tolist()):
        kind = kind_of(policy, trace.guest.word_bytes, pfn, word, count)
        if kind == "odd":
            return f"{at}.runs[{i}]: {word} is neither INVALID, a frame, a foreign one nor 1:1"
        if kind == "identity" and (pfn % n or count % n):
            return f"{at}.runs[{i}]: 1:1 entries are set a whole leaf at a time"
    return None


def flags_of(policy: Policy, word_bytes: int) -> tuple[int, int]:
    """Return the FOREIGN and the IDENTITY bit of a policy's entries; 0 where it has none."""
    if not (policy.marks or policy.is_linear):
        return FOREIGN_FRAME_BIT, 0
    return 1 << (8 * word_bytes - 1), 1 << (8 * word_bytes - 2)


def kind_of(policy: Policy, word_bytes: int, pfn: int, word: int, count: int) -> str:
    """Return what a set's run writes: "hole", "frames", "foreign", "identity", or "odd"."""
    if word == INVALID:
        return "hole"
    foreign, identity = flags_of(policy, word_bytes)
    word %= 1 << 64
    if identity and word == pfn | identity:
        return "identity"
    last = word + count - 1
    if word & foreign:
        inside = last < 2 * foreign and not (identity and (word | last) & identity)
        return "foreign" if inside and word >> 1 < foreign else "odd"
    return "frames" if word > 0 and last < (identity or foreign) else "odd"


def _hosts(trace: Trace) -> str | None:
    """Return whether a host that is lived on leaves a PFN below the guest's end without a frame."""
    end = guest_end(trace)
    for i in sorted({event["host"] for event in trace.events if "host" in event}):
        covered = 0
        for pfn, _, count in trace.hosts[i].domain.tolist():
            if pfn > covered:
                break
            covered = max(covered, pfn + count)
        if covered < end:
            return f"hosts[{i}].domain: names no frame for PFN {covered}, below the guest's end"
        if (trace.hosts[i].domain[:, 1] == 0).any():
            # Xen keeps it, and a toolstack takes 0 for no frame: no kernel could bear it.
            return f"hosts[{i}].domain: frame 0 is nobody's"
    return None


def guest_end(trace: Trace) -> int:
    """Return the highest PFN that is booted, extra or set, plus 1."""
    ends = [trace.guest.nr_pages]
    if isinstance(trace.guest, LinearLayout):
        ends += trace.guest.extra.sum(axis=1).tolist()
    for event in trace.events:
        if event["op"] == "set":
            ends += (event["runs"][:, 0] + event["runs"][:, 2]).tolist()
    return int(max(ends))


def outside_now(trace: Trace, life: Life, event: dict[str, Any], on: int) -> str | None:
    """Return why a set is not within the world as frames are owned on host `on` now."""
    foreign = trace.hosts[on].foreign
    taken: list[tuple[int, int]] = []
    for i, (pfn, word, count) in enumerate(event["runs"].tolist()):
        if kind_of(life.policy, trace.guest.word_bytes, pfn, word, count) != "frames":
            continue
        end = word + count
        if end > trace.hosts[on].frames:
            return f"runs[{i}]: frame {end - 1} is past host {on}'s"
        if life.host.owned[word:end].any():
            return f"runs[{i}]: a frame from {word} on is the guest's own"
        if len(foreign) and ((foreign[:, 0] < end) & (word < foreign[:, 0] + foreign[:, 2])).any():
            return f"runs[{i}]: a frame from {word} on is another domain's"
        if any(word < other_end and other < end for other, other_end in taken):
            return f"runs[{i}]: a frame from {word} on is set twice"
        taken.append((word, end))
    return None
