"""One cell lived step by step: its rows, event by event.

What a batch (`guests/batch`) is held against, and how what it does not cover is lived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from p2mbatch.base.errors import IsStopped, StoppedError
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.compiled import tables as tb
from p2mbatch.guests.stage import StagedGuest
from p2mbatch.model.life import Life
from p2mbatch.model.outcomes import EventResult
from p2mbatch.model.placement import Placement

if TYPE_CHECKING:
    from p2mbatch.guests.fields import ScenarioFields


def step_scenario(
    scenario: ScenarioFields, resident: str = "auto", is_stopped: IsStopped | None = None
) -> list[dict[str, Any]]:
    """Live the scenario through step by step; return its rows as `rows.run_scenario` does.

    Raises `InputError` where the guest can't be placed, and `StoppedError` where `is_stopped` says
    so between two migrations or amid what several CPUs set.
    """
    guest = StagedGuest(scenario, resident)
    guest.is_stopped = is_stopped
    result = guest.boot()
    rows = [_row(guest, result)]
    while guest.goes_on(result) and guest.num_migrations < scenario.migrations:
        if is_stopped is not None and is_stopped():
            raise StoppedError
        result = guest.migrate()
        rows.append(_row(guest, result))
    return rows


def _row(guest: StagedGuest, result: EventResult) -> dict[str, Any]:
    return row_of(guest.life, guest.placement, guest.num_migrations, result, guest.entries_written)


def row_of(
    life: Life, placement: Placement, migration: int, result: EventResult, entries_written: int
) -> dict[str, Any]:
    """Return one row: what happened, what it costs, what was measured."""
    stale_top, stale_mid = life.count_stale()
    leaves = placement.num_boot_leaves + life.scalar("num_grown")
    pages = life.scalar("brk_used") + life.scalar("bootmem_used") + life.scalar("pool_used")
    pages += placement.num_static_pages
    if placement.linear is not None:
        # Beside what it took, the level-4 page, which is part of the kernel's image.
        pages += life.scalar("boot_used") + 1
    elif not placement.policy.moves_leaves(placement.geo.word_bytes):
        # The kernel frees mfn_list where its leaves were moved.
        pages += placement.num_boot_leaves
    num_resident = np.count_nonzero(life.tables.slots[: life.scalar("num_slots"), tb.P_LEAF] >= 0)
    return {
        "migration": migration,
        "outcome": result.outcome,
        "detail": result.detail,
        "stray_writes": result.stray_writes,
        "stray_pages": result.stray_pages,
        "lost_pages": result.lost_pages,
        "ghost_pages": result.ghost_pages,
        "lost_identity_pages": result.lost_identity_pages,
        "placeholder_writes": result.placeholder_writes,
        "stale_top_entries": stale_top,
        "stale_mid_entries": stale_mid,
        "leaves": leaves,
        "mids": life.scalar("num_mids"),
        "mid_mfn_pages": life.scalar("num_mid_mfns"),
        "structure_bytes": pages * PAGE_BYTES,
        "structure_overhead": pages / placement.populated_pages,
        "entries_written": entries_written,
        "resident_leaves": int(num_resident),
        "rebuild_ns": result.rebuild_ns,
        "save_walk_ns": result.save_walk_ns,
        "restore_ns": result.restore_ns,
    }
