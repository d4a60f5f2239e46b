"""A scenario written out as a trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.compiled import tables as tb
from p2mbatch.compiled.hosts import write_out_host
from p2mbatch.guests.file_placement import GuestPlacement
from p2mbatch.guests.stage import StagedGuest, check_scenario, nth_host, nth_host_frames
from p2mbatch.model import toolstacks
from p2mbatch.model.cpus.limits import MAX_TRACE_ENTRIES
from p2mbatch.model.cpus.race import Raced
from p2mbatch.model.life import Rounds
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.placement import Placement
from p2mbatch.model.runs import frame_runs
from p2mbatch.model.trace import FORMAT_2, FORMAT_3, GuestLayout, HostRuns, Trace
from p2mbatch.model.trace_cpus import num_entries
from p2mbatch.model.trace_eras import EraLayout
from p2mbatch.model.trace_linear import LinearLayout

if TYPE_CHECKING:
    from p2mbatch.guests.fields import ScenarioFields


MAX_WRITTEN_FRAMES = 1 << 26
"""Frames of the largest host that `scenario_trace` writes out: 256 GiB."""

# --- the same scenario as a trace --------------------------------------------------------------


def scenario_trace(scenario: ScenarioFields) -> Trace:
    """Return the scenario written out: replaying the trace is living the scenario.

    It is of format 2, or of 3 where the scenario says the hypervisor's version, lets the guest stay
    or has an era's policy.

    The boot's row is the state after the events before the first migration. Raises `InputError`
    where a host is too large to write out.
    """
    placement = check_scenario(scenario)
    largest = scenario.host_memory_bytes // PAGE_BYTES
    if largest > MAX_WRITTEN_FRAMES:
        raise InputError(
            f"host_memory_bytes: a host of {largest} frames is too large to write out: "
            f"{MAX_WRITTEN_FRAMES} is the limit"
        )
    xen = {"xen": scenario.xen} if scenario.xen else {}
    tool = {"toolstack": scenario.toolstack} if scenario.toolstack != toolstacks.USUAL else {}
    stays = {"on_refused": scenario.stuck} if scenario.stuck != "end" else {}
    hosts: list[HostRuns] = []
    events: list[dict[str, Any]] = [{"op": "boot", "host": 0, **xen}]
    if placement.marks_hole and not placement.policy.is_linear:
        events[0]["identity"] = placement.boot_arguments[0]
    moves = _moves(scenario)
    for index in range(len(moves) + 1):
        frames = nth_host_frames(scenario, index)
        mfns = np.empty(max(placement.span, placement.reach), np.int64)
        others = np.empty(frames, np.int64)
        host = nth_host(scenario, placement, index)
        write_out_host(host.par, host.m2p, mfns, others)
        if index == 0:
            events += (
                placement.events(host)
                if isinstance(placement, GuestPlacement)
                else _layout_events(placement, mfns)
            )
            _boot_frames(scenario, placement, mfns, others)
        else:
            for event in moves[index - 1]:
                to = {"host": index, **xen, **tool, **stays}
                events.append(event | to if event["op"] == "migrate" else event)
        pfns = np.flatnonzero(mfns >= 0)
        owned = np.flatnonzero(others >= 0)
        hosts.append(
            HostRuns(frames, frame_runs(pfns, mfns[pfns]), frame_runs(owned, others[owned]))
        )
    pokes = any(event["op"] == "poke" for event in events)
    added = scenario.grow_bytes or scenario.live == "yes"
    new = xen or tool or stays or added or pokes or placement.policy.is_era
    form = FORMAT_3 if new else FORMAT_2
    guest = _guest(placement)
    return Trace(f"cell-{scenario.cell_id}", scenario.policy, guest, hosts, events, format=form)


def _guest(placement: Placement) -> GuestLayout:
    """Return where a guest keeps its pages, with what its kernel has beside."""
    policy, shape = placement.policy, placement.linear
    if isinstance(placement, GuestPlacement):
        return placement.guest.layout
    if shape is not None:
        pages, identity, extra = placement.boot_arguments
        return LinearLayout(
            word_bytes=8,
            nr_pages=placement.nr_pages,
            max_p2m_pfn=shape.area_pfns,
            mfn_list_pfn=placement.mfn_list_pfn,
            brk_pfn=0,
            brk_pages=0,
            page_pool=placement.page_pool,
            directmap_pages=placement.directmap_pages,
            pgd_pfn=placement.brk_pfn,
            boot_pool=pages,
            p2m_vaddr=shape.signed_vaddr,
            virt_p2m_4tools=shape.no_list,
            identity=identity,
            extra=extra,
        )
    common: dict[str, Any] = {
        "word_bytes": placement.geo.word_bytes,
        "nr_pages": placement.nr_pages,
        "max_p2m_pfn": placement.span,
        "mfn_list_pfn": placement.mfn_list_pfn,
        "brk_pfn": placement.brk_pfn,
        "brk_pages": 0 if policy.is_two_level else placement.brk_pages,
        "page_pool": placement.page_pool,
        "directmap_pages": placement.directmap_pages,
    }
    if not policy.is_era:
        return GuestLayout(**common)
    if policy.is_two_level:
        most = placement.max_domain_pages
        return EraLayout(**common, static=placement.static, max_domain_pages=most)
    bootmem = (placement.bootmem_pfn, placement.bootmem_pages)
    return EraLayout(**common, bootmem=bootmem if policy.bootmem else None)


def _moves(scenario: ScenarioFields) -> list[list[dict[str, Any]]]:
    """Return for each migration the set in which the guest gets more first, and the move itself.

    What a guest that gets more, or lives on while it is sent, does there depends on where it is by
    then: it is lived, and a life that ends has no more moves.
    """
    if not (scenario.grow_bytes or scenario.live == "yes"):
        return [[{"op": "migrate"}] for _ in range(scenario.migrations)]
    guest, rounds, died = StagedGuest(scenario), list[Rounds](), False
    num_raced = 0
    moves: list[list[dict[str, Any]]] = []

    def grew(runs: Int64Array, result: EventResult) -> None:
        nonlocal died
        died = not result.ok
        if len(runs):
            moves[-1].append({"op": "set", "runs": runs})

    def raced(sets: list[Int64Array], key: int, result: EventResult, done: Raced) -> None:
        nonlocal died, num_raced
        died = not result.ok
        num_raced += num_entries(sets)
        if num_raced > MAX_TRACE_ENTRIES:
            raise InputError(
                f"cpus: {num_raced} entries or more are set by several CPUs: a trace has "
                f"{MAX_TRACE_ENTRIES} at most"
            )
        moves[-1].append({"op": "cpus", "sets": sets, "schedule": key})

    guest.on_growth, guest.on_race, guest.on_rounds = grew, raced, rounds.append
    result = guest.boot()
    while guest.goes_on(result) and len(moves) < scenario.migrations:
        moves.append([])
        result = guest.migrate()
        if not died:
            live = {"live": True, "rounds": list(rounds.pop())} if rounds else {}
            moves[-1].append({"op": "migrate", **live})
    return moves


def _boot_frames(
    scenario: ScenarioFields, placement: Placement, mfns: Int64Array, others: Int64Array
) -> None:
    """Make `mfns` what the guest boots with: the scattered layout's holes are still populated."""
    if placement.layout == tb.SCATTERED:
        whole = check_scenario(scenario.model_copy(update={"layout": "tail", "sparsity": 0.0}))
        host = nth_host(scenario, whole, 0)
        write_out_host(host.par, host.m2p, mfns, np.empty_like(others))
    mfns[placement.nr_pages :] = -1
    if isinstance(placement, GuestPlacement):
        mfns[placement.guest.absent] = -1


def _layout_events(placement: Placement, mfns: Int64Array) -> list[dict[str, Any]]:
    """Return the set events that bring the layout about, from the frames on the first host."""
    if placement.layout == tb.SCATTERED and placement.num_holes:
        pfns = np.sort(placement.hole_pages(0, placement.num_holes))
        return [{"op": "set", "runs": frame_runs(pfns, np.full(len(pfns), -1))}]
    if placement.num_grown:
        n = placement.geo.entries
        pfns = (placement.grown_leaves()[:, None] * n + np.arange(n)).ravel()
        return [{"op": "set", "runs": frame_runs(pfns, mfns[pfns])}]
    return []
