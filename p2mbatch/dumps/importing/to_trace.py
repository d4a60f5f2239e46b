"""Turn a dump into a trace that replays to the same p2m, and take all names out of a trace."""

from __future__ import annotations

from typing import Any

import numpy as np
import psutil

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.entries import IDENTITY_FLAG, is_own
from p2mbatch.base.errors import InputError, ResourceError
from p2mbatch.base.geometry import INVALID, MAX_DOMAIN_PAGES
from p2mbatch.base.sizes import format_size
from p2mbatch.base.sources import file_bytes, open_source
from p2mbatch.dumps.audit.area import AreaTables, area_tables
from p2mbatch.dumps.audit.era import Era, era_of
from p2mbatch.dumps.audit.hazards import tops_without_list
from p2mbatch.dumps.audit.recover import recover
from p2mbatch.dumps.audit.structures import Structures, find_structures
from p2mbatch.dumps.audit.walk_state import Walk
from p2mbatch.dumps.importing.beside_list import (
    half_grown,
    half_grown_events,
    without_tops,
)
from p2mbatch.dumps.importing.boot_state import (
    BootState,
    identity_ranges,
    model_entries,
    tree_boot,
    with_marked_leaves,
)
from p2mbatch.dumps.importing.damage import with_damage
from p2mbatch.dumps.importing.layout import NO_RANGES, find_layout
from p2mbatch.dumps.importing.linear import linear_boot, with_identity
from p2mbatch.dumps.model import DumpGuest
from p2mbatch.model.policies import Policy, find, names
from p2mbatch.model.replay import new_life, run_event
from p2mbatch.model.runs import frame_runs
from p2mbatch.model.trace import FORMAT_2, FORMAT_3, HostRuns, Trace
from p2mbatch.model.trace_linear import MAX_AREA

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

    `policy` is the kernel's where the file does not show it. Where kernels of two policies fit and
    nothing tells them apart, it is the one that `_policy_shown` tells. Foreign frames marked by the
    top bit become the model's where the policy's kernel marks them by bit 31. Where the file names
    no frames, PFNs get frames in ascending order. Pages that a dump lost are the guest's, as its
    leaves say.

    A damaged list is carried over: the trace ends with a `poke` of its words; with `heal` a sound
    one takes its place. Raises `InputError` where the damage is not in the list's own pages, where
    the policy can't be told and none is given, and where the guest can't be one of the model's;
    `ResourceError` where it is too large to hold.
    """
    if policy is not None and policy not in names():
        raise InputError(f"policy: {policy!r} can't be imported: use {', '.join(names())}")
    _check_size(guest)
    recovered = recover(guest)
    guest, walk = recovered.guest, recovered.walk
    structures = find_structures(guest, walk)
    kernel = find(policy or _policy_shown(guest, era_of(guest, walk, structures)))
    _check_kind(guest, walk, kernel)
    tops = [] if heal else tops_without_list(guest, walk, structures)
    told = _entries(guest, walk, structures, kernel)
    entries, num_pfns = told[0], guest.geometry.entries**2
    empty = half_grown(tops, entries, num_pfns)
    boot = _booted(guest, walk, structures, kernel, told, tops, empty)
    pfns = np.flatnonzero(boot.booted != INVALID)
    host = HostRuns(boot.frames, frame_runs(pfns, boot.booted[pfns]), np.zeros((0, 3), np.int64))
    events: list[dict[str, Any]] = [{"op": "boot", "host": 0}]
    if boot.ranges is not None and len(boot.ranges):
        events[0]["identity"] = boot.ranges
    change = np.flatnonzero(entries != boot.after)
    gone = entries[change] == INVALID
    for pfns in (change[gone], change[~gone]):
        if pfns.size:
            events.append({"op": "set", "runs": frame_runs(pfns, entries[pfns])})
    if empty:
        events += half_grown_events(empty, num_pfns, int(boot.booted[boot.booted != INVALID][0]))
    form = FORMAT_3 if kernel.is_era else FORMAT_2
    trace = Trace(name, kernel.name, boot.layout, [host], events, None, form)
    if walk.result in (None, "ok") or heal:
        return trace
    return with_damage(guest, walk, trace, exact=boot.exact)


def _check_size(guest: DumpGuest) -> None:
    """Refuse a guest that the model, or this machine, can't hold, before anything is walked."""
    linear = guest.shared_info is not None and guest.shared_info.p2m_cr3 != 0
    limit = MAX_AREA if linear else guest.geometry.max_p2m_pfn
    if guest.max_p2m_pfn > limit:
        raise InputError(
            f"{guest.name}: the guest has {guest.max_p2m_pfn} PFNs; the model has {limit} at most"
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


def _policy_shown(guest: DumpGuest, era: Era) -> str:
    """Return the policy of the guest's kernel as its file shows it; raises `InputError` where not.

    Of the kernels that report a linear list it is the later one (5.14 and newer, and stable series)
    where the end of the list does not tell; of two that are the same on this width the older one.
    """
    policies = [find(name) for name in era.policies]
    linear = [policy for policy in policies if policy.is_linear]
    if linear:
        return linear[-1].name
    if policies and all(_alike(guest, policies[0], other) for other in policies[1:]):
        return policies[0].name
    why = era.evidence if not policies else f"{era.evidence}: {', '.join(era.policies)} fit"
    said = ", ".join(era.policies or (name for name in names() if _may_be(guest, find(name))))
    raise InputError(
        f"{guest.name}: which policy this guest's kernel has can't be told: {why}; "
        f"say it with --policy ({said})"
    )


def _alike(guest: DumpGuest, one: Policy, other: Policy) -> bool:
    """Return whether two kernels with a tree are the same on this guest's width."""
    looks = [
        (kernel.placeholders, kernel.list_brk_pages, kernel.rebuilds, kernel.late_list)
        for kernel in (one, other)
    ]
    moved = any(kernel.moves_leaves(guest.word_bytes) for kernel in (one, other))
    return looks[0] == looks[1] and not moved and not one.is_two_level


def _check_kind(guest: DumpGuest, walk: Walk, policy: Policy) -> None:
    """Refuse a policy whose kernels keep another kind of p2m than the file shows."""
    if policy.is_linear and guest.word_bytes == 4:
        raise InputError(
            f"{guest.name}: a 32-bit guest, and policy {policy.name} has 64-bit ones only: "
            "32-bit kernels with a linear list are not modelled"
        )
    if walk.linear is not None and (not policy.is_linear or policy.whole_area):
        reports = [name for name in names() if find(name).is_linear and not find(name).whole_area]
        raise InputError(
            f"{guest.name}: the guest reports a linear p2m list, and a kernel of policy "
            f"{policy.name} reports none: use {', '.join(reports)}"
        )
    if not _may_be(guest, policy):
        why = "a kernel of that policy reports one"
        if policy.whole_area:
            why = (
                "kernels of 3.19 to 4.2 keep one and do not report where: no file shows the area "
                "and the page tables that the trace of such a guest begins with"
            )
        raise InputError(
            f"{guest.name}: the guest reports no linear p2m list, and policy {policy.name} can't "
            f"be imported from that: {why}"
        )


def _may_be(guest: DumpGuest, policy: Policy) -> bool:
    """Return whether a guest without a reported linear list can be imported under `policy`.

    Text tells nothing of the list: a linear one is laid out anew.
    """
    shared = guest.shared_info
    reported = shared is None or shared.p2m_cr3 != 0
    return not policy.is_linear or (reported and guest.word_bytes == 8)


_Told = tuple[Int64Array, AreaTables | None, int]


def _entries(guest: DumpGuest, walk: Walk, structures: Structures, policy: Policy) -> _Told:
    """Return what the guest's kernel gets of each PFN, int64[span]; a linear list's tables.

    And where the leaves of a tree that are 1:1 as a whole end, 0 where there are none.
    """
    entries = model_entries(guest, policy)
    area = area_tables(guest, walk.linear) if walk.linear is not None else None
    with_identity(guest, area, entries)
    return entries, area, with_marked_leaves(guest, structures, policy, entries)


def _booted(
    guest: DumpGuest,
    walk: Walk,
    structures: Structures,
    policy: Policy,
    told: _Told,
    tops: list[int],
    empty: list[int],
) -> BootState:
    """Return how the guest boots under `policy`; `told` is what its entries end as (`_entries`).

    `tops` are those that come without a frame list of their own, `empty` those of them with
    nothing under their mid page.
    """
    entries, area, marked_end = told
    width = guest.word_bytes
    own = is_own(entries, width)
    beyond = np.flatnonzero(own & (entries >= _MAX_FRAMES // 2))
    if beyond.size:
        raise InputError(
            f"{guest.name}: PFN {int(beyond[0])} names frame {int(entries[beyond[0]]):#x}, "
            "which no host can have"
        )
    if policy.is_linear:
        return linear_boot(guest, walk, policy, area, entries, own)
    ranges = NO_RANGES
    if policy.marks:
        ranges = identity_ranges(entries, IDENTITY_FLAG[width], marked_end)
        ranges = without_tops(ranges, tops, guest.geometry.entries**2)
    found = find_layout(guest, own, walk, structures, policy, ranges, empty)
    return tree_boot(found.layout, policy, entries, own, ranges, exact=found.exact)


def check_import(guest: DumpGuest, trace: Trace) -> None:
    """Replay `trace` and raise `InputError` unless its p2m ends as `guest`'s (see import_trace)."""
    policy = find(trace.policy)
    guest, walk, *_ = recover(guest)
    wanted, *_ = _entries(guest, walk, find_structures(guest, walk), policy)
    life = new_life(trace)
    for event in trace.events:
        result = run_event(life, trace, event)
        if not result.ok:
            raise InputError(
                f"{guest.name}: the model can't rebuild this guest: the replay ended in "
                f"{result.outcome} {result.detail or ''}"
            )
    found = np.empty(wanted.size, np.int64)
    policy.operations.get_row(life.tables, life.host, 0, found)
    differ = np.flatnonzero(found != wanted)
    if differ.size:
        pfn = int(differ[0])
        raise InputError(
            f"{guest.name}: the model can't rebuild this guest: {differ.size} PFNs differ, the "
            f"first is {pfn}, {int(found[pfn]):#x} where the file has {int(wanted[pfn]):#x}"
        )


def is_trace_file(path: str) -> bool:
    """Return whether the file at `path` is JSON, plain or gzipped, and so no dump.

    A pipe is never one: what is read of it to look is gone.
    """
    if file_bytes(path) is None:
        return False
    with open_source(path) as cursor:
        return cursor.peek(64).lstrip()[:1] == b"{"
