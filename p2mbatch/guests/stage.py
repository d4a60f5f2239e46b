"""From a scenario to a living guest: placement and hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.compiled import tables as tb
from p2mbatch.guests.file import guest_of
from p2mbatch.guests.file_placement import place_guest
from p2mbatch.model.hosts import function_host
from p2mbatch.model.placement import Placement, place

if TYPE_CHECKING:
    from p2mbatch.guests.fields import ScenarioFields


RESIDENT = ("auto", "all")
"""Which leaves are memory: those that hold structure pages, or all (model section 10)."""


def check_scenario(scenario: ScenarioFields) -> Placement:
    """Return where the guest's pages go, or raise `InputError` with the numbers that do not fit."""
    placement = _place(scenario)
    frames = scenario.host_memory_bytes // PAGE_BYTES
    kept = placement.span if scenario.guest else placement.population.guest_frames
    for order in (scenario.build_order, scenario.restore_order):
        placement.check_host(frames, order, guest_frames=kept)
    return placement


def estimate_memory_bytes(scenario: ScenarioFields, resident: str = "auto") -> int:
    """Return the bytes that running the scenario touches at its peak, for admission."""
    return _place(scenario).table_bytes(resident=resident == "all") + (1 << 18)


def _place(scenario: ScenarioFields) -> Placement:
    if scenario.guest:
        return place_guest(guest_of(scenario.guest), scenario.policy)
    return place(
        memory_bytes=scenario.memory_bytes,
        sparsity=scenario.sparsity,
        layout=scenario.layout,
        policy=scenario.policy,
        word_bytes=scenario.word_bytes,
        seed=scenario.seed,
    )


def nth_host(scenario: ScenarioFields, placement: Placement, index: int) -> tb.HostTables:
    """Return the `index`-th host of the guest's life: 0 is where it boots."""
    return function_host(
        placement.population,
        frames=scenario.host_memory_bytes // PAGE_BYTES,
        order=scenario.restore_order if index else scenario.build_order,
        neighbours=scenario.neighbours,
        neighbour_pages=scenario.neighbour_memory_bytes // PAGE_BYTES,
        key=(scenario.seed, "host", index),
        first=index == 0,
        names_all=bool(scenario.guest),
    )
