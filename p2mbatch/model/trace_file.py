"""Reading, checking and writing trace files (model section 11)."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.files import read_whole, write_whole
from p2mbatch.base.geometry import IMAGE_MAP_PAGES, geometry
from p2mbatch.base.json_text import unread
from p2mbatch.base.limits import check_json_values
from p2mbatch.model import policies, toolstacks, trace_cpus, trace_eras, trace_linear, trace_poke
from p2mbatch.model.checks import Checker, kind
from p2mbatch.model.trace import (
    FORMAT,
    FORMAT_2,
    FORMAT_3,
    LOSS_FIELDS,
    MACHINES,
    GuestLayout,
    HostRuns,
    Trace,
)
from p2mbatch.model.xen import parse_xen

_MAX_BYTES = 1 << 30
"""Of a trace's JSON, unpacked: as values it takes some ten times that."""

_MAX_FRAMES = 1 << 40

MAX_EVENTS = 1 << 16

MAX_ROUNDS = 1 << 10
"""Rounds of one live migration: Xen's toolstacks stop after 5, older ones after 29."""

MAX_EVENT_PFNS = 1 << 34
"""Events times PFNs of the guest: after each the whole p2m is hashed, 128 GiB of it in all."""

_MAX_FOREIGN_PFN = 1 << 62

_EVENT_KEYS = {
    "boot": {"op", "host"},
    "migrate": {"op", "host"},
    "set": {"op", "runs"},
    "fail_alloc": {"op", "at"},
    "tweak": {"op"},
    "poke": {"op", "words"},
    "cpus": {"op", "sets", "schedule"},
}

_OPTIONAL_KEYS_3 = {
    "boot": frozenset({"xen"}),
    "migrate": frozenset({"xen", "on_refused", "toolstack", "live", "during", "rounds"}),
}
"""What format 3 adds."""


def parse_trace(value: Any, source: str = "trace") -> Trace:
    """Check the JSON object `value` and return it as a Trace.

    Raises `InputError` naming `source`, the JSON path and what would be right: unknown format or
    key, wrong types, runs that are negative, overlap or go past `frames`, PFNs past the guest,
    hosts out of range, structures that collide.
    """
    check = Checker(source)
    if not isinstance(value, dict):
        raise check.fail("", f"is {kind(value)}: a trace is an object")
    form = value.get("format")
    if not isinstance(form, str) or form not in MACHINES:
        raise check.fail("format", f"is {form!r}: it must be {' or '.join(map(repr, MACHINES))}")
    check.keys(
        value,
        "",
        {"format", "name", "policy", "guest", "hosts", "events"},
        frozenset({"expected"}),
    )
    if not isinstance(value["name"], str):
        raise check.fail("name", f"is {kind(value['name'])}: it must be a string")
    known = policies.names()
    if not policies.is_known(value["policy"]):
        raise check.fail("policy", f"is {value['policy']!r}: use {', '.join(known)}")
    policy = policies.find(value["policy"])
    if policy.is_era and form == FORMAT_2:
        raise check.fail("format", f"is {form!r}: {policy.name} has no traces of this format")
    if policy.is_linear:
        guest: GuestLayout = trace_linear.parse_linear(check, value["guest"], policy)
    elif policy.is_era:
        guest = trace_eras.parse_guest(check, value["guest"], policy)
    else:
        guest = _parse_guest(check, value["guest"], form)
    hosts = [
        _parse_host(check, host, f"hosts[{i}]", guest, form)
        for i, host in enumerate(check.array(value["hosts"], "hosts"))
    ]
    events = _parse_events(check, value["events"], guest, len(hosts), policy, form)
    if form == FORMAT and not policy.is_linear:
        _check_boot_host(check, guest, hosts[events[0]["host"]], events[0]["host"])
    expected = value.get("expected")
    if expected is not None:
        for i, event in enumerate(check.array(expected, "expected")):
            if not isinstance(event, dict):
                raise check.fail(f"expected[{i}]", f"is {kind(event)}: it must be an object")
        if len(expected) > len(events):
            raise check.fail("expected", f"has {len(expected)} entries for {len(events)} events")
    return Trace(value["name"], value["policy"], guest, hosts, events, expected, form)


def _parse_guest(check: Checker, value: Any, form: str) -> GuestLayout:
    """Check the guest: its numbers, and that its structures lie in its memory and apart."""
    check.keys(value, "guest", {f.name for f in fields(GuestLayout)}, frozenset())
    if value["word_bytes"] not in (4, 8) or type(value["word_bytes"]) is not int:
        raise check.fail("guest.word_bytes", f"is {value['word_bytes']!r}: use 8 or 4")
    geo = geometry(value["word_bytes"])
    nr_pages = check.integer(value["nr_pages"], "guest.nr_pages", 1, geo.max_p2m_pfn)
    # A guest may claim more than the tree can hold: the toolstack's first check is there for it.
    max_p2m_pfn = check.integer(
        value["max_p2m_pfn"], "guest.max_p2m_pfn", nr_pages, 2 * geo.max_p2m_pfn
    )
    # The direct map ends below the last page of the address space, where INVALID would point.
    limit = geo.max_p2m_pfn if geo.word_bytes == 8 else ((1 << 32) - geo.va_base >> 12) - 1
    if form != FORMAT:
        limit = min(limit, geo.direct_map_limit_pages)
    directmap = check.integer(value["directmap_pages"], "guest.directmap_pages", 1, limit)
    layout = GuestLayout(
        geo.word_bytes,
        nr_pages,
        max_p2m_pfn,
        check.integer(value["mfn_list_pfn"], "guest.mfn_list_pfn", 0, nr_pages),
        check.integer(value["brk_pfn"], "guest.brk_pfn", 0, nr_pages),
        check.integer(value["brk_pages"], "guest.brk_pages", 1, nr_pages),
        check.runs(value["page_pool"], "guest.page_pool", ("pfn", "count")),
        directmap,
    )
    end = min(nr_pages, directmap)
    parts = []
    for path, first, count in (
        ("guest.brk_pfn", layout.brk_pfn, layout.brk_pages),
        ("guest.mfn_list_pfn", layout.mfn_list_pfn, layout.mfn_list_pages),
    ):
        if first + count > end:
            raise check.fail(
                path, f"{first} + {count} pages goes past {end}, where the guest's mapped pages end"
            )
        parts.append((path, np.array([[first, count]], np.int64), 0))
    if form != FORMAT and geo.word_bytes == 8:
        for path, first, count in (
            ("guest.brk_pfn", layout.brk_pfn, layout.brk_pages),
            ("guest.mfn_list_pfn", layout.mfn_list_pfn, layout.mfn_list_pages),
        ):
            if first + count > IMAGE_MAP_PAGES:
                raise check.fail(
                    path,
                    f"{first} + {count} pages goes past {IMAGE_MAP_PAGES}, "
                    "where the kernel image map ends",
                )
    check.within(layout.page_pool, 0, end, "guest.page_pool", "page")
    check.disjoint([*parts, ("guest.page_pool", layout.page_pool, 0)], "page")
    return layout


def _parse_host(check: Checker, value: Any, path: str, guest: GuestLayout, form: str) -> HostRuns:
    """Check one host: every frame has one owner, every PFN one frame."""
    optional = frozenset({"m2p_order", "m2p_entries"} if form != FORMAT else ())
    check.keys(value, path, {"frames", "domain", "foreign"}, optional)
    frames = check.integer(value["frames"], f"{path}.frames", 1, _MAX_FRAMES)
    domain = check.runs(value["domain"], f"{path}.domain", ("pfn", "mfn", "count"))
    foreign = check.runs(value["foreign"], f"{path}.foreign", ("mfn", "pfn", "count"))
    end = max(guest.max_p2m_pfn, geometry(guest.word_bytes).max_p2m_pfn)
    if isinstance(guest, (trace_eras.EraLayout, trace_linear.LinearLayout)):
        # A 1:1 range may go on past the tree, and a host name a frame for any of it.
        end = 1 << 52
    check.within(domain, 0, end, f"{path}.domain", "PFN")
    check.within(domain, 1, frames, f"{path}.domain", "MFN")
    check.within(foreign, 0, frames, f"{path}.foreign", "MFN")
    check.within(foreign, 1, _MAX_FOREIGN_PFN, f"{path}.foreign", "PFN")
    check.disjoint([(f"{path}.domain", domain, 0)], "PFN")
    if form != FORMAT:
        # A frame in both is the guest's.
        check.disjoint([(f"{path}.domain", domain, 1)], "MFN")
        check.disjoint([(f"{path}.foreign", foreign, 0)], "MFN")
    else:
        check.disjoint([(f"{path}.domain", domain, 1), (f"{path}.foreign", foreign, 0)], "MFN")
    order = entries = None
    if "m2p_order" in value:
        order = check.integer(value["m2p_order"], f"{path}.m2p_order", 0, 63)
    if "m2p_entries" in value:
        entries = check.integer(value["m2p_entries"], f"{path}.m2p_entries", 0, (1 << 63) - 1)
    runs = domain[np.argsort(domain[:, 0], kind="stable")]
    return HostRuns(frames, runs, foreign, order, entries)


def _check_boot_host(check: Checker, guest: GuestLayout, host: HostRuns, index: int) -> None:
    """Refuse a host to boot on that does not give a frame to every page the guest boots with."""
    covered = 0
    for pfn, _, count in host.domain.tolist():
        if pfn > covered:
            break
        covered = pfn + count
    if covered < guest.nr_pages:
        raise check.fail(
            f"hosts[{index}].domain",
            f"names no frame for PFN {covered}: the guest boots with {guest.nr_pages} pages",
        )


def _parse_events(
    check: Checker,
    value: Any,
    guest: GuestLayout,
    num_hosts: int,
    policy: policies.Policy,
    form: str,
) -> list[dict[str, Any]]:
    """Check the events: one boot, first; known operations; hosts that exist; runs that fit."""
    events: list[dict[str, Any]] = []
    most = min(MAX_EVENTS, MAX_EVENT_PFNS // guest.max_p2m_pfn)
    if len(check.array(value, "events")) > most:
        raise check.fail(
            "events", f"has {len(value)}: at most {most} for a guest of {guest.max_p2m_pfn} PFNs"
        )
    rare = {"tweak": policy.is_linear, "poke": form == FORMAT_3, "cpus": form == FORMAT_3}
    known = [op for op in _EVENT_KEYS if rare.get(op, True)]
    for i, event in enumerate(value):
        path = f"events[{i}]"
        op = event.get("op") if isinstance(event, dict) else None
        if not isinstance(op, str) or op not in known:
            raise check.fail(f"{path}.op", f"is {op!r}: use {', '.join(known)}")
        check.keys(event, path, _EVENT_KEYS[op], _options(op, policy, form))
        if (op == "boot") != (i == 0):
            raise check.fail(f"{path}.op", "the first event, and no other, must be boot")
        if "host" in event:
            check.integer(event["host"], f"{path}.host", 0, num_hosts - 1)
        if "xen" in event:
            parse_xen(event["xen"], f"{check.source}: {path}.xen")
        if event.get("on_refused", "stay") != "stay":
            raise check.fail(
                f"{path}.on_refused", f"is {event['on_refused']!r}: it must be 'stay', or left out"
            )
        if op == "fail_alloc":
            check.integer(event["at"], f"{path}.at", 0, (1 << 62))
        events.append(_parse_event(check, event, path, guest, policy, form))
    trace_cpus.check_all(check, events)
    if not events:
        raise check.fail("events", "is empty: the first event must be boot")
    return events


def _options(op: str, policy: policies.Policy, form: str) -> frozenset[str]:
    """Return the keys that an event may have beside those that it must."""
    added = _OPTIONAL_KEYS_3.get(op, frozenset()) if form == FORMAT_3 else frozenset()
    if op == "boot" and policy.marks:
        return added | {"identity"}
    if op == "migrate" and policy.is_linear:
        return added | {"toolstack", "live", "during"}
    return frozenset({"shared", "ptes"}) if op == "tweak" else added


def _parse_event(
    check: Checker,
    event: dict[str, Any],
    path: str,
    guest: GuestLayout,
    policy: policies.Policy,
    form: str,
) -> dict[str, Any]:
    """Return an event whose keys are known with its values checked, runs as arrays."""
    out = dict(event)
    if event["op"] == "tweak":
        return trace_linear.parse_tweak(check, event, path)
    if event["op"] == "poke":
        return out | {"words": trace_poke.parse_words(check, event["words"], path, guest)}
    if event["op"] == "cpus":
        trace_cpus.check_event(check, event, path, policy)
        out["sets"] = [
            _parse_runs(check, runs, f"{path}.sets[{who}]", guest, policy)
            for who, runs in enumerate(event["sets"])
        ]
        trace_cpus.check_entries(check, out["sets"], path)
    if "identity" in event:
        out["identity"] = trace_eras.parse_ranges(check, event["identity"], f"{path}.identity")
    if "toolstack" in event:
        known = [toolstacks.TREE_ONLY] if policy.is_linear else []
        known += toolstacks.names() if form == FORMAT_3 else ()
        if event["toolstack"] not in known:
            said = f"is {event['toolstack']!r}: use {', '.join(map(repr, known))}"
            raise check.fail(f"{path}.toolstack", said)
    if not isinstance(event.get("live", False), bool):
        raise check.fail(f"{path}.live", f"is {kind(event['live'])}: it must be true or false")
    for name in ("during", "rounds"):
        if name in event and not event.get("live"):
            raise check.fail(f"{path}.{name}", "is of a live migration only: live must be true")
    for name in ("runs", "during"):
        if name in event:
            out[name] = _parse_runs(check, event[name], f"{path}.{name}", guest, policy)
    if "rounds" in event:
        if "during" in event:
            raise check.fail(f"{path}.rounds", "and during are both there: during is one round")
        given = check.array(event["rounds"], f"{path}.rounds")
        if len(given) > MAX_ROUNDS:
            raise check.fail(f"{path}.rounds", f"has {len(given)}: at most {MAX_ROUNDS}")
        out["rounds"] = [
            _parse_runs(check, runs, f"{path}.rounds[{i}]", guest, policy)
            for i, runs in enumerate(given)
        ]
    return out


def _parse_runs(
    check: Checker, value: Any, path: str, guest: GuestLayout, policy: policies.Policy
) -> Int64Array:
    """Check the runs of a `set`."""
    if policy.is_era:
        rows = trace_linear.spelled_out(value) if policy.is_linear else value
        return trace_eras.parse_set_runs(check, rows, path, guest.word_bytes)
    largest = (1 << (8 * guest.word_bytes)) - 2 if guest.word_bytes == 4 else (1 << 63) - 1
    runs = check.runs(value, path, ("pfn", "mfn", "count"), null=1)
    check.within(runs, 0, 1 << 52, path, "PFN")
    check.within(runs, 1, largest, path, "MFN")
    return runs


def load_trace(path: str | Path) -> Trace:
    """Read, check and return the trace in `path`, JSON or gzipped JSON by content.

    Raises `InputError` naming the file, the place in it and what would be right.
    """
    source = str(path)

    def check_start(head: bytes) -> None:
        # Before the rest is read: it may be a guest's save file, and as large as the guest.
        if head.lstrip()[:1] not in (b"{", b""):
            raise InputError(
                f"{source}: is not JSON: a trace begins with '{{', found {head[:8]!r} "
                "(p2mbatch import makes a trace of a guest's save file or dump)"
            )

    data = read_whole(path, _MAX_BYTES, check_start)
    check_json_values(data, source)
    try:
        value = json.loads(data)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{source}: line {error.lineno} column {error.colno}: is not JSON: {error.msg}"
        ) from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InputError(f"{source}: {unread(error)}") from None
    return parse_trace(value, source)


def written_format(trace: Trace) -> str:
    """Return the format that `trace` is written in: /2 where a life of /3 needs nothing of /3.

    What it expects is part of it: losses are told by /3 only.
    """
    if trace.format != FORMAT_3 or policies.find(trace.policy).is_era:
        return trace.format
    added = frozenset().union(*_OPTIONAL_KEYS_3.values())
    told = frozenset().union(*LOSS_FIELDS.values())
    ops = {"poke", "cpus"}
    needs = any(added & event.keys() or event["op"] in ops for event in trace.events) or any(
        told & event.keys() for event in trace.expected or ()
    )
    return FORMAT_3 if needs else FORMAT_2


def trace_to_json(trace: Trace) -> dict[str, Any]:
    """Return `trace` as the JSON object that `parse_trace` takes, in its `written_format`."""
    value: dict[str, Any] = {
        "format": written_format(trace),
        "name": trace.name,
        "policy": trace.policy,
        "guest": _guest_to_json(trace.guest),
        "hosts": [
            {
                "frames": h.frames,
                "domain": h.domain.tolist(),
                "foreign": h.foreign.tolist(),
                **{
                    name: getattr(h, name)
                    for name in ("m2p_order", "m2p_entries")
                    if getattr(h, name) is not None
                },
            }
            for h in trace.hosts
        ],
        "events": [_event_to_json(event, trace.policy) for event in trace.events],
    }
    if trace.expected is not None:
        value["expected"] = trace.expected
    return value


def _guest_to_json(guest: GuestLayout) -> dict[str, Any]:
    if isinstance(guest, trace_linear.LinearLayout):
        return trace_linear.guest_to_json(guest)
    return trace_eras.guest_to_json(guest)


def _event_to_json(event: dict[str, Any], policy: str) -> dict[str, Any]:
    """Return one event as `parse_trace` takes it."""
    out = dict(event)
    for name in ("runs", "during"):
        if name in out:
            out[name] = _runs_to_json(out[name], policy)
    for name in ("rounds", "sets"):
        if name in out:
            out[name] = [_runs_to_json(runs, policy) for runs in out[name]]
    if "identity" in out:
        out["identity"] = out["identity"].tolist()
    if "words" in out:
        out["words"] = trace_poke.words_to_json(out["words"])
    return out


def _runs_to_json(runs: Int64Array, policy: str) -> list[list[Any]]:
    """Return a set's runs as `parse_trace` takes them."""
    rows = [(pfn, trace_eras.unsigned(m), k) for pfn, m, k in runs.tolist()]
    linear = policies.find(policy).is_linear
    return [[pfn, trace_linear.spelled_back(pfn, m) if linear else m, k] for pfn, m, k in rows]


def write_trace(trace: Trace, path: str | Path) -> None:
    """Write `trace` to `path`, gzipped where its name ends in .gz, the same bytes every time.

    All or nothing. Raises `InputError` where the place can't be written to.
    """
    text = json.dumps(trace_to_json(trace), separators=(",", ":")).encode()
    write_whole(path, lambda file: file.write(text))
