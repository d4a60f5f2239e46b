"""A directory of real guests against the hosts that they are to move to: who gets there.

Each guest is imported and put through one migration to each planned host, in one sweep, with some
seeds: a frame's number decides what a stale list hits, and nobody knows the next host's.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from p2mbatch.base.errors import InputError, P2MBatchError
from p2mbatch.base.json_text import read_text
from p2mbatch.base.paths import is_file
from p2mbatch.base.sizes import MIB, format_size, parse_size
from p2mbatch.dumps.audit.recover import recover
from p2mbatch.dumps.importing.to_trace import import_trace, is_trace_file
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.dumps.readers.read import read_dump
from p2mbatch.guests.fields import cell_id_of, default_host_memory_bytes
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.stage import check_scenario
from p2mbatch.model.fates import CORRUPTED, FATES, FOR_OPERATORS, SURVIVED
from p2mbatch.model.fates import STUCK as STUCK
from p2mbatch.model.trace import Trace
from p2mbatch.model.trace_file import load_trace, write_trace
from p2mbatch.model.xen import parse_xen
from p2mbatch.spec.sweep_spec import SweepSpec
from p2mbatch.store.fates import fates, last_rows

if TYPE_CHECKING:
    from p2mbatch.store.results import SweepResult

SURVIVES, SHUTDOWN, NOT_JUDGED = "survives", "shutdown first", "not judged"
"""Verdicts beside `STUCK`: intact on every planned host; damaged or lost on one of them at least;
a file that could not become a guest of a sweep."""

NO_ROOM = "no room"
"""In place of a fate, where the host can't hold the guest."""

VERDICTS = (SURVIVES, SHUTDOWN, STUCK, NOT_JUDGED)

_MAX_TABLE_BYTES = 1 << 20

_MAX_NAME_BYTES = 200
"""Of a guest's file, behind which an ending still fits into what a file's name may have."""

_HOST = re.compile(r"(?:(?P<name>[^=/,]+)=)?(?P<memory>[^=/,]+)(?:/(?P<xen>[^=/,]+))?")


class PlannedHost(NamedTuple):
    """A host that guests are to move to."""

    name: str
    memory_bytes: int
    xen: str
    """The hypervisor's version, empty for one of today."""


class FleetGuest(NamedTuple):
    """One file of the directory."""

    file: str
    trace: str | None
    """Where its trace was written; None where it is not judged."""
    policy: str
    why_not: str
    """Why it is not judged by a sweep, "" where it is."""
    refused: str = ""
    """The save check that fails by its file, where it is not judged: no host can get it."""


class Judged(NamedTuple):
    """What is said of one guest."""

    guest: FleetGuest
    verdict: str
    by_host: dict[str, str]
    """Planned host's name -> the worst fate that a seed came to there."""
    follows: str
    """What follows for whoever runs the hosts."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "file": self.guest.file,
            "policy": self.guest.policy or None,
            "verdict": self.verdict,
            "fate_by_host": self.by_host,
            "follows": self.follows or None,
        }


def planned_hosts(text: str) -> list[PlannedHost]:
    """Return the hosts of `text`: the name of a CSV file, or "[NAME=]SIZE[/XEN],...".

    The file has a header with `memory`, and `name` and `xen` if wanted. Raises `InputError` naming
    what is wrong.
    """
    rows = _table(Path(text)) if is_file(text) else _listed(text)
    found: list[PlannedHost] = []
    for place, row in rows:
        memory = parse_size((row.get("memory") or "").strip(), f"{place}: memory")
        if memory < MIB:
            raise InputError(f"{place}: memory: {memory} bytes are no host: say the unit, as 64GiB")
        xen = (row.get("xen") or "").strip()
        if xen:
            parse_xen(xen, f"{place}: xen")
        name = (row.get("name") or "").strip() or format_size(memory) + (xen and f"/{xen}")
        if any(host.name == name for host in found):
            raise InputError(f"{place}: there are two hosts {name!r}")
        found.append(PlannedHost(name, memory, xen))
    if not found:
        raise InputError(f"--to: {text!r} names no host: use SIZE[/XEN],… or a table")
    return found


def _listed(text: str) -> Iterator[tuple[str, dict[str, str | None]]]:
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _HOST.fullmatch(part)
        if match is None:
            raise InputError(f"--to: {part!r} is no host: use [NAME=]SIZE[/XEN], as 64GiB/4.17")
        yield f"--to: {part!r}", match.groupdict()


def _table(path: Path) -> Iterator[tuple[str, dict[str, str | None]]]:
    reader = csv.DictReader(read_text(path, _MAX_TABLE_BYTES).splitlines())
    try:
        yield from _rows(path, reader)
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num + 1}: {error}") from None


def _rows(path: Path, reader: csv.DictReader[str]) -> Iterator[tuple[str, dict[str, str | None]]]:
    known = {"name", "memory", "xen"}
    names = {name.strip() for name in reader.fieldnames or ()}
    if "memory" not in names or names - known:
        raise InputError(f"{path}: line 1: has the columns {', '.join(sorted(names))}: use memory, "
                         "and name and xen if wanted")  # fmt: skip
    for row in reader:
        plain = {str(k).strip(): v for k, v in row.items() if k is not None}
        yield f"{path}: line {reader.line_num}", plain


def gather(directory: str, out: Path, policy: str | None) -> list[FleetGuest]:
    """Import each file of `directory` into `out`; `policy` is that of guests that show none.

    What can't be imported stays with the reason. Raises `InputError` where there is no such
    directory or no file in it, and where `out` can't be made.
    """
    try:
        files = sorted(path for path in Path(directory).iterdir() if is_file(path))
    except OSError as error:
        raise InputError(f"{directory}: can't be read: {error.strerror}") from None
    if not files:
        raise InputError(f"{directory}: holds no file")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{out.parent}: can't be written ({error.strerror}): use another --out"
        ) from None
    return [_gathered(path, out, policy) for path in files]


def _gathered(path: Path, out: Path, policy: str | None) -> FleetGuest:
    guest = None
    try:
        if is_trace_file(str(path)):
            trace = load_trace(path)
        else:
            guest = read_dump(path)
            trace = _trace_of(guest, path.name, policy)
    except P2MBatchError as error:
        return FleetGuest(path.name, None, "", str(error), _refused(guest))
    target = out / f"{_short(path.name)}.trace.json.gz"
    write_trace(trace, target)
    return FleetGuest(path.name, str(target), trace.policy, "")


def _short(name: str) -> str:
    """Return a file's name as one that still takes an ending; where it is cut, a digest says so."""
    raw = os.fsencode(name)
    if len(raw) <= _MAX_NAME_BYTES:
        return name
    mark = hashlib.blake2b(raw, digest_size=8).hexdigest()
    return f"{raw[: _MAX_NAME_BYTES - 20].decode('utf-8', 'ignore')}-{mark}"


def _trace_of(guest: DumpGuest, name: str, policy: str | None) -> Trace:
    try:
        return import_trace(guest, name)
    except InputError:
        # The tree may just not tell which kernel it is.
        if policy is None:
            raise
        return import_trace(guest, name, policy)


def _refused(guest: DumpGuest | None) -> str:
    """Return the save check that `guest`'s file fails, "" where none does or it is not made."""
    result = recover(guest).walk.result if guest is not None else None
    return "" if result in (None, "ok", "misdirected") else str(result)


def fleet_spec(
    guests: Sequence[FleetGuest], hosts: Sequence[PlannedHost], num_seeds: int
) -> tuple[SweepSpec | None, dict[str, list[tuple[str, str]]]]:
    """Return the sweep of all guests and hosts, and cell's id -> the (file, host) that it is of.

    None where no guest can be judged. A host that can't hold a guest has no cells of it.
    """
    cells: list[dict[str, Any]] = []
    places: list[tuple[str, str]] = []
    for guest in guests:
        for host in hosts if guest.trace is not None else ():
            if not _fits(guest, host):
                continue
            for seed in range(num_seeds):
                cells.append(_cell(guest, host, seed))
                places.append((guest.file, host.name))
    if not cells:
        return None, {}
    spec = SweepSpec.from_dict({"cells": cells})
    at: dict[str, list[tuple[str, str]]] = {}
    for cell, place in zip(spec.cells, places, strict=True):
        at.setdefault(cell_id_of(cell.values), []).append(place)
    return spec, at


def _fits(guest: FleetGuest, host: PlannedHost) -> bool:
    """Return whether the host can hold the guest."""
    try:
        check_scenario(Scenario.make(**_cell(guest, host, 0)))
    except InputError:
        return False
    return True


def _cell(guest: FleetGuest, host: PlannedHost, seed: int) -> dict[str, Any]:
    from p2mbatch.guests.file import guest_of

    assert guest.trace is not None
    here = default_host_memory_bytes(guest_of(guest.trace).memory_bytes)
    return {
        "guest": guest.trace,
        "policy": guest.policy,
        "hosts": [here, host.memory_bytes],
        "xen": host.xen,
        "migrations": 1,
        "seed": seed,
    }


def judge(
    guests: Sequence[FleetGuest],
    hosts: Sequence[PlannedHost],
    result: SweepResult | None,
    at: dict[str, list[tuple[str, str]]],
) -> list[Judged]:
    """Return what the sweep's rows say of each guest, in the order of `guests`."""
    worst: dict[str, dict[str, str]] = {}
    failed: dict[str, str] = {}
    if result is not None:
        frame = result.frame
        last = last_rows(frame.assign(fate=fates(frame)))
        for cell, fate in zip(last["cell"], last["fate"], strict=True):
            for file, host in at.get(str(cell), ()):
                by_host = worst.setdefault(file, {})
                before = by_host.get(host, SURVIVED)
                by_host[host] = max(before, str(fate), key=FATES.index)
        told = result.failures
        for cell, message in zip(told["cell"], told["message"], strict=True):
            failed |= {file: str(message) for file, _ in at.get(str(cell), ())}
    judged = []
    for guest in guests:
        by_host = worst.get(guest.file, {})
        if guest.refused:
            by_host = {host.name: STUCK for host in hosts}
            why = f"its file fails the save check ({guest.refused}): {FOR_OPERATORS[STUCK]}"
            judged.append(Judged(guest, STUCK, by_host, why))
            continue
        if guest.trace is not None and not failed.get(guest.file):
            by_host = {host.name: by_host.get(host.name, NO_ROOM) for host in hosts}
        judged.append(_judged(guest, by_host, failed.get(guest.file, "")))
    return judged


def _judged(guest: FleetGuest, by_host: dict[str, str], failed: str) -> Judged:
    why_not = guest.why_not or failed or ("" if by_host else "no cell of it ran")
    if why_not:
        return Judged(guest, NOT_JUDGED, {}, why_not)
    found = set(by_host.values()) - {NO_ROOM}
    if not found:
        return Judged(guest, NOT_JUDGED, by_host, "no planned host can hold it")
    if found == {SURVIVED}:
        return Judged(guest, SURVIVES, by_host, "")
    if found == {STUCK}:
        return Judged(guest, STUCK, by_host, FOR_OPERATORS[STUCK])
    bad = max(found, key=FATES.index)
    good = [host for host, fate in by_host.items() if fate == SURVIVED]
    there = f"; it survives on {', '.join(good)}" if good else ""
    if bad == CORRUPTED:
        what = "a migration is reported ok and damages it"
    elif bad == STUCK:
        what = "some host or seed leaves it where it is"
    else:
        what = f"a migration ends with it {bad}"
    return Judged(guest, SHUTDOWN, by_host, f"{what}: shut it down and boot it there{there}")
