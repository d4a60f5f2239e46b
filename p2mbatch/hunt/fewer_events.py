"""Simpler lives: fewer events, shorter sets at lower PFNs, fewer and plainer hosts."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from p2mbatch.hunt.layouts import STYLES, Json, packed, plain_hosts, tables_end
from p2mbatch.hunt.least import Least

_NEAR = 4096
"""How far below a PFN every lower one is thought of."""


def cut(least: Least) -> None:
    """Leave out what comes after the break, then events, the longest stretches first."""
    least.attempt(least.put(("events",), least.life["events"][: least.broken.event + 1]))
    least.fewer(("events",), 1)
    for i in range(least.num_events):
        for name in ("xen", "on_refused"):
            if i < least.num_events and name in least.life["events"][i]:
                least.attempt(least.put(("events", i, name), None))
    for i, event in enumerate(least.life["events"]):
        if event["op"] == "fail_alloc":
            least.any_of([least.put(("events", i, "at"), at) for at in range(event["at"])])


# --- hosts and tables --------------------------------------------------------------------------


def make_plain(least: Least) -> None:
    """Make tables and hosts plain, for good where that keeps the failure."""
    if not any(settle is packed for settle in least.settled):
        plain = packed(least.life)
        if plain == least.life or least.attempt(plain):
            least.settled.insert(0, packed)
    if any(settle is not packed for settle in least.settled):
        return
    for style in STYLES:
        plain = plain_hosts(least.life, style)
        if plain == least.life or least.attempt(plain):
            least.settled.append(_hosts_of(style))
            return
    for i in range(len(least.life["hosts"])):
        for name in ("m2p_order", "m2p_entries"):
            if name in least.life["hosts"][i]:
                least.attempt(least.put(("hosts", i, name), None))
        least.fewer(("hosts", i, "foreign"))


def _hosts_of(style: str) -> Any:
    return lambda life: plain_hosts(life, style)


def take_fewer_hosts(least: Least) -> None:
    """Take two hosts by turns, else others in place of the highest; drop those not named."""
    moves = [i for i, event in enumerate(least.life["events"]) if event["op"] == "migrate"]
    if len(least.life["hosts"]) > 1:
        by_turns = copy.deepcopy(least.life)
        for number, i in enumerate(moves, 1):
            by_turns["events"][i]["host"] = number % 2
        least.attempt(by_turns)
    for i in reversed(moves):
        if i < least.num_events:
            lower = range(least.life["events"][i]["host"])
            least.any_of([least.put(("events", i, "host"), host) for host in lower])
    least.attempt(_without_idle_hosts(least.life))


def _without_idle_hosts(life: Json) -> Json:
    """Return `life` without the hosts that no event names."""
    used = sorted({event["host"] for event in life["events"] if "host" in event})
    number = {host: i for i, host in enumerate(used)}
    out = copy.deepcopy(life)
    out["hosts"] = [out["hosts"][host] for host in used]
    for event in out["events"]:
        if "host" in event:
            event["host"] = number[event["host"]]
    return out


# --- sets --------------------------------------------------------------------------------------


def _sets(least: Least) -> Iterator[int]:
    """Yield the index of each set that the life still has when its turn comes."""
    for i in range(least.num_events):
        if i < least.num_events and least.life["events"][i]["op"] == "set":
            yield i


def shorten_sets(least: Least) -> None:
    """Leave out runs of sets and shorten those that stay."""
    for i in _sets(least):
        least.fewer(("events", i, "runs"))
        for k in range(len(least.life["events"][i]["runs"])):
            least.repeat(lambda i=i, k=k: _shorter(least, i, k))  # type: ignore[misc]


def _shorter(least: Least, i: int, k: int) -> Iterator[Json]:
    """Keep one end of a run: one entry, one leaf, half of it."""
    pfn, word, count = least.life["events"][i]["runs"][k]
    for left in sorted({1, least.entries, count // 2}):
        if 0 < left < count:
            skip = count - left
            moved = word + skip if isinstance(word, int) else word
            yield _with_run(least, i, k, [pfn, word, left])
            yield _with_run(least, i, k, [pfn + skip, moved, left])


def _with_run(least: Least, i: int, k: int, run: list[Any]) -> Json:
    bit = 1 << (8 * least.guest["word_bytes"] - 2)
    pfn, word, _ = least.life["events"][i]["runs"][k]
    if word == pfn | bit:
        # A 1:1 entry goes with its PFN.
        run = [run[0], run[0] | bit, run[2]]
    return least.put(("events", i, "runs", k), run)


def lower_pfns(least: Least) -> None:
    """Take lower PFNs in sets: the lowest free ones, a leaf's or a mid's first, near ones."""
    for i in _sets(least):
        for k in range(len(least.life["events"][i]["runs"])):
            least.repeat(lambda i=i, k=k: _lower(least, i, k))  # type: ignore[misc]
            pfn, word, count = least.life["events"][i]["runs"][k]
            least.lowest(
                max(1, pfn - _NEAR),
                pfn,
                lambda lower, i=i, k=k, w=word, c=count: _with_run(least, i, k, [lower, w, c]),  # type: ignore[misc]
            )


def _lower(least: Least, i: int, k: int) -> Iterator[Json]:
    guest, n = least.guest, least.entries
    nr_pages: int = guest["nr_pages"]
    span: int = guest.get("max_p2m_pfn", nr_pages)
    pfn, word, count = least.life["events"][i]["runs"][k]
    wanted = {tables_end(guest), nr_pages - count, nr_pages, span, pfn // n**2 * n**2, pfn // n * n}
    wanted |= {-(-nr_pages // n) * n, -(-span // n) * n, -(-span // n**2) * n**2}
    for lower in sorted(wanted):
        if 0 < lower < pfn:
            yield _with_run(least, i, k, [lower, word, count])
