"""What a sweep's rows say was lost: the same whatever is resident, and as frame by frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_cell import trace_rows

from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.sizes import MIB
from p2mbatch.guests.guest import Guest
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario

COUNTS = ("lost_pages", "ghost_pages", "lost_identity_pages", "placeholder_writes")


def counts(rows: list[dict[str, Any]]) -> list[tuple[int, ...]]:
    return [tuple(row[name] for name in COUNTS) for row in rows]


def scenario(seed: int, layout: str) -> Scenario:
    """A small guest of before the change among neighbours that end where its leaves lie."""
    return Scenario.make(
        memory_bytes=6 * MIB,
        sparsity=0.3,
        layout=layout,
        migrations=3,
        policy="stale",
        neighbours=1.0,
        build_order=0,
        restore_order=0,
        host_memory_bytes=16 * MIB,
        neighbour_memory_bytes={"tail": 150, "scattered": 210, "extents": 85}[layout] * PAGE_BYTES,
        seed=seed,
    )


@pytest.mark.parametrize("layout", ["tail", "scattered", "extents"])
def test_losses_are_found_and_do_not_depend_on_what_is_resident(layout: str) -> None:
    lost = 0
    for seed in range(200):
        try:
            rows = run_scenario(scenario(seed, layout))
        except InputError:
            continue
        now = sum(row["lost_pages"] for row in rows)
        lost += now
        assert counts(rows) == counts(run_scenario(scenario(seed, layout), "all"))
        if seed < 15 or now:
            assert counts(rows) == counts(trace_rows(scenario(seed, layout)))
        # A guest that did not get through is not said to have lost pages.
        assert all(not any(c) for c, row in zip(counts(rows), rows, strict=True) if row["detail"])
    assert lost > 0


@pytest.mark.parametrize("layout", ["tail", "scattered", "extents"])
@pytest.mark.parametrize("resident", ["auto", "all"])
def test_nothing_is_lost_by_a_guest_whose_list_is_right(layout: str, resident: str) -> None:
    """Also one that populates holes and gives pages back between its moves."""
    guest = Guest.boot("64MiB", sparsity=0.4, layout=layout, resident=resident, seed=2)
    assert guest.migrate().ok
    everything = np.arange(guest.max_p2m_pfn)
    holes = everything[guest.lookup(everything) == -1]
    assert guest.populate(holes[::3]).ok
    assert guest.balloon_out(everything[6000:9000:7]).ok
    for _ in range(2):
        event = guest.migrate()
        assert (event.outcome, event.lost_pages, event.ghost_pages) == ("ok", 0, 0)


def test_pages_past_what_is_saved_are_lost() -> None:
    """The toolstack goes by the shared info page: a guest that reports less loses the rest."""
    guest = Guest.boot("64MiB", seed=1)
    guest.life.tables.state[0].shared_max = guest.max_p2m_pfn - 1000
    event = guest.migrate()
    assert (event.outcome, event.lost_pages, event.ghost_pages) == ("ok", 1000, 0)
    assert guest.migrate().lost_pages == 0
