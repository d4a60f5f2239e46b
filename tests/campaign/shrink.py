"""A smaller life that still tells the two models apart."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from oracle.build import Json

StillFails = Callable[[Json], bool]
Run = list[Any]


def shrink(trace: Json, still_fails: StillFails, most_tries: int = 4000) -> Json:
    """Return `trace` made smaller while `still_fails`, until no step helps or the tries run out."""
    tries = 0
    progress = True
    while progress:
        progress = False
        for candidate in _smaller(trace):
            tries += 1
            if tries > most_tries:
                return trace
            if still_fails(candidate):
                trace, progress = candidate, True
                break
    return trace


def _smaller(trace: Json) -> Iterator[Json]:
    """Smaller lives, the ones that leave most out first."""
    yield from _fewer(trace, ("events",), keep=1)
    yield from _fewer_hosts(trace)
    for i, event in enumerate(trace["events"]):
        if event["op"] == "set":
            yield from _fewer(trace, ("events", i, "runs"))
            yield from _shorter_runs(trace, ("events", i, "runs"))
        for name in ("xen", "on_refused"):
            if name in event:
                yield _without(trace, ("events", i, name))
    for i, host in enumerate(trace["hosts"]):
        yield from _fewer(trace, ("hosts", i, "foreign"))
        yield from _shorter_runs(trace, ("hosts", i, "foreign"))
        for name in ("m2p_order", "m2p_entries"):
            if name in host:
                yield _without(trace, ("hosts", i, name))
    yield from _smaller_guest(trace)
    for i in range(len(trace["hosts"])):
        yield from _fewer(trace, ("hosts", i, "domain"))
        yield from _plainer_domain(trace, i)


def _at(trace: Json, path: tuple[Any, ...]) -> Any:
    for step in path:
        trace = trace[step]
    return trace


def _with(trace: Json, path: tuple[Any, ...], value: Any) -> Json:
    out = copy.deepcopy(trace)
    _at(out, path[:-1])[path[-1]] = value
    return out


def _without(trace: Json, path: tuple[Any, ...]) -> Json:
    out = copy.deepcopy(trace)
    del _at(out, path[:-1])[path[-1]]
    return out


def _fewer(trace: Json, path: tuple[Any, ...], keep: int = 0) -> Iterator[Json]:
    """Leave out stretches of an array: its half, a quarter, …, single elements."""
    items = _at(trace, path)
    size = max(len(items) - keep, 0)
    while size:
        for start in range(len(items) - size, keep - 1, -size):
            yield _with(trace, path, items[:start] + items[start + size :])
        size //= 2


def _fewer_hosts(trace: Json) -> Iterator[Json]:
    """Leave out a host that no event names."""
    named = {event["host"] for event in trace["events"] if "host" in event}
    for i in range(len(trace["hosts"]) - 1, -1, -1):
        if i in named:
            continue
        out = copy.deepcopy(trace)
        del out["hosts"][i]
        for event in out["events"]:
            if event.get("host", -1) > i:
                event["host"] -= 1
        yield out


def _shorter_runs(trace: Json, path: tuple[Any, ...]) -> Iterator[Json]:
    """Keep one end of a run."""
    for i, (first, second, count) in enumerate(_at(trace, path)):
        for left in {1, count // 2}:
            if 0 < left < count:
                skip = count - left
                moved = second if second is None else second + skip
                yield _with(trace, (*path, i), [first, second, left])
                yield _with(trace, (*path, i), [first + skip, moved, left])


def _smaller_guest(trace: Json) -> Iterator[Json]:
    guest = trace["guest"]
    yield from _fewer(trace, ("guest", "page_pool"))
    for name, plain in (
        ("max_p2m_pfn", guest["nr_pages"]),
        ("directmap_pages", guest["nr_pages"]),
        ("max_p2m_pfn", (guest["nr_pages"] + guest["max_p2m_pfn"]) // 2),
    ):
        if guest[name] > plain:
            yield _with(trace, ("guest", name), plain)


def _plainer_domain(trace: Json, host: int) -> Iterator[Json]:
    """Put the frames of the guest in one run, in the order of its pages."""
    runs: list[Run] = trace["hosts"][host]["domain"]
    for first, _, count in runs:
        total = sum(run[2] for run in runs)
        if count < total and first == 0:
            yield _with(trace, ("hosts", host, "domain"), [[0, 1, total]])
