"""Recordings of the eras as guests of a sweep: their rows are their traces', ours and the naive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2mbatch.base.errors import InputError
from p2mbatch.guests.explained import explain_scenario
from p2mbatch.guests.file import find_guest
from p2mbatch.guests.guest import Guest
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.stage import check_scenario
from p2mbatch.model.replay import replay
from p2mbatch.model.trace_file import load_trace, trace_to_json
from test_eras import ERAS as COMPILED
from test_eras import THOROUGH, compare_with_trace

RECORDED = Path(__file__).parents[2] / "data" / "traces" / "eras"
AIMS = {
    "two-level-none": ["two-level-none-grow-32-*"],
    "mid-identity": ["mid-identity-id-mixed-32-*", "mid-identity-foreign-grow-64-103"],
    "linear-4.4": ["linear-4.4-list-extra-*", "linear-4.4-sif-holes-2", "linear-4.4-list-edge-1"],
    "two-level": ["two-level-foreign-bit-64-*"],
    "tail": ["tail-pool-page-out-64-*"],
    "identity": ["identity-id-real-32-*"],
    "moved": ["moved-id-top-64-*"],
    "late-list": ["late-list-id-low-v1-32-*"],
    "linear": ["linear-list-identity-1"],
    "linear-3.19": ["linear-3.19-list-unaligned-1"],
}


def recorded(pattern: str) -> Path:
    return min(RECORDED.glob(f"{pattern}.json.gz"), key=lambda path: path.stat().st_size)


def cell(path: Path, **fields: Any) -> Scenario:
    trace = load_trace(path)
    pages = find_guest(str(path)).span
    usual = {"migrations": 2, "seed": 5, "host_memory_bytes": (pages + 4096) * 4096}
    return Scenario.make(guest=str(path), **{"policy": trace.policy, **usual, **fields})


KEPT = COMPILED if THOROUGH else ("two-level-none", "mid-identity")


@pytest.mark.parametrize("pattern", [aim for policy in KEPT for aim in AIMS[policy]])
def test_a_recorded_guest_is_its_trace(pattern: str) -> None:
    """What it was before its first migration is what it is on a sweep's hosts, row by row."""
    scenario = cell(recorded(pattern))
    rows = compare_with_trace(scenario)
    booted = replay(scenario.to_trace())[0]
    assert rows[0]["outcome"] == booted["outcome"]


def test_ranges_that_its_file_has_are_told() -> None:
    told = explain_scenario(cell(recorded("mid-identity-id-mixed-32-*"), migrations=1))
    assert "set_phys_range_identity()" in [step.function for step in told.events[0].steps]


def test_a_linear_guest_may_have_another_linear_kernel() -> None:
    path = recorded("linear-4.4-list-extra-*")
    for policy in ("identity", "tracked"):
        with pytest.raises(InputError, match=r"otherwise.*use linear-3\.19, linear-4\.4, linear$"):
            check_scenario(cell(path, policy=policy))
    for policy in ("linear-3.19", "linear") if THOROUGH else ():
        rows = compare_with_trace(cell(path, policy=policy, migrations=1))
        assert rows[-1]["outcome"] == "ok"


def test_pages_that_boot_without_a_frame_have_none(tmp_path: Path) -> None:
    """Not on a sweep's host either, whose frames for them are free; and they are in the digest."""
    path = recorded("linear-4.4-sif-holes-2")
    trace, guest = load_trace(path), find_guest(str(path))
    named = np.zeros(trace.guest.nr_pages, np.bool_)
    for pfn, _, count in trace.hosts[0].domain.tolist():
        named[pfn : pfn + count] = True
    assert guest.absent.tolist() == np.flatnonzero(~named).tolist() != []
    value = trace_to_json(trace)
    full = tmp_path / "full.json"
    first = int(guest.absent[0])
    value["hosts"][0]["frames"] += 1
    value["hosts"][0]["domain"].append([first, value["hosts"][0]["frames"] - 1, 1])
    value["hosts"][0]["domain"].sort()
    del value["expected"]
    full.write_text(json.dumps(value))
    other = find_guest(str(full))
    assert other.digest != guest.digest and first not in other.absent
    assert other.populated_pages == guest.populated_pages + 1


def test_a_tweak_is_nothing_that_a_sweep_can_live() -> None:
    with pytest.raises(InputError, match=r"events\[3\]: a tweak is what one recorded save reads"):
        find_guest(str(recorded("linear-list-tweak-pt-1")))


def test_a_guest_in_a_notebook() -> None:
    path = recorded("linear-4.4-list-extra-*")
    guest = Guest.from_file(str(path), "linear-4.4", seed=2)
    assert guest.booted.ok and guest.migrate().ok
