"""Which guests of the kernel before the change can be moved once (machine-v2 section 8)."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from p2mbatch.base.sizes import GIB, MIB, parse_size
from p2mbatch.guests.rows import run_scenario
from p2mbatch.guests.scenario import Scenario

HEADLINE = Path(__file__).parents[2] / "data" / "sweeps" / "headline.toml"


def first(**fields: Any) -> tuple[str, str]:
    """Return the outcome of a `stale` guest's first migration, and its detail's first word."""
    row = run_scenario(Scenario.make(policy="stale", **fields))[-1]
    return row["outcome"], (row["detail"] or "-").split(" ")[0]


def headline_sizes() -> list[int]:
    grids = tomllib.loads(HEADLINE.read_text(encoding="utf-8"))["grid"]
    found = {parse_size(m) for g in grids if g.get("word_bytes", 8) == 8 for m in g["memory"]}
    return sorted(size for size in found if size > GIB + 16 * MIB)


@pytest.mark.parametrize("memory", headline_sizes())
def test_a_dense_64_bit_guest_well_over_1_gib_can_never_be_saved(memory: int) -> None:
    """All of them, whatever the hosts give: every mid's part of the list is in one page."""
    for seed in range(3):
        assert first(memory_bytes=memory, seed=seed) == ("save-failed", "bad-mfn-in-p2m-frame-list")


@pytest.mark.parametrize("leaves", range(1, 12))
def test_a_64_bit_guest_a_little_over_1_gib_is_moved_wrong(leaves: int) -> None:
    """Up to 16 MiB more: its second mid's leaves are taken for the first ones of the first mid."""
    # mfn_list lies behind brk, 10 pages from 16 MiB on: k <= (L + k) // 512 up to k = 8.
    wrong = leaves <= (4106 + leaves) // 512
    assert wrong == (leaves <= 8)
    expected = ("misdirected", "-") if wrong else ("save-failed", "bad-mfn-in-p2m-frame-list")
    assert first(memory_bytes=GIB + leaves * 2 * MIB) == expected


@pytest.mark.parametrize(("memory", "word_bytes"), [(512 * MIB, 8), (GIB, 8), (640 * MIB, 4)])
def test_small_and_32_bit_guests_get_through_with_damage(memory: int, word_bytes: int) -> None:
    rows = run_scenario(
        Scenario.make(memory_bytes=memory, word_bytes=word_bytes, policy="stale", seed=2)
    )
    assert rows[-1]["outcome"] == "ok"
    assert rows[-1]["stray_pages"] == 1
    assert rows[-1]["stray_writes"] == memory // 4096 * word_bytes // 4096


def test_after_the_change_each_of_them_can_be_moved() -> None:
    for memory in (512 * MIB, GIB, GIB + 8 * MIB, 4 * GIB):
        rows = run_scenario(Scenario.make(memory_bytes=memory, migrations=3))
        assert [row["outcome"] for row in rows] == ["ok"] * 4
        assert not any(row["stray_writes"] or row["lost_pages"] for row in rows)
