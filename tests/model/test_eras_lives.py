"""The eras' random lives: every hazard is reached, and plain lives are equal on both machines."""

from __future__ import annotations

import os
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from oracle import eras
from oracle.eras.lives import life

THOROUGH = os.environ.get("P2MBATCH_HYPOTHESIS") == "thorough"
NUM_LIVES, NUM_PLAIN = (1000, 1000) if THOROUGH else (60, 20)

TREE = {"map-fl-failed", "map-leaves-failed", "bad-mfn-in-fl", "populate-failed"}
BUG_BEYOND = "virt_to_mfn(mid_mfn) != *top_mfn_p"
BUG_SET = "mfn != INVALID_P2M_ENTRY"
THREE = TREE | {BUG_BEYOND, BUG_SET, "brk overflow"}
LINEAR = {"panic", "bad-mfn-in-walk", "bad-fll-mfn", "map-fll-failed", "populate-failed"}
LINEAR |= {"bad-mfn-in-page-table"}
LIST = LINEAR | {"null list page", "p2m-generation-changed", "bad-p2m-range", "bad-p2m-cr3"}
# What the lives of each policy must end in, some of them, and which counts must be more than 0.
REACHED: dict[str, tuple[set[str], set[str]]] = {
    "two-level": (TREE - {"bad-mfn-in-fl"} | {BUG_SET, "p == NULL"}, {"lost_pages"}),
    "two-level-none": (TREE | {"bad-mfn-in-p2m-frame-list", "misdirected"}, {"lost_pages"}),
    "tail": (THREE | {"_brk_start == 0"}, {"lost_pages", "refused"}),
    "identity": (THREE, {"placeholder_writes", "warnings", "lost_identity_pages", "ghost_pages"}),
    "moved": (THREE | {"bootmem overflow"}, {"placeholder_writes", "warnings", "ghost_pages"}),
    "mid-identity": (THREE | {"_brk_start == 0"}, {"placeholder_writes", "warnings"}),
    "late-list": (THREE | {"bootmem overflow"}, {"placeholder_writes", "late_bootmem_pages"}),
    "linear-3.19": (LINEAR | {BUG_SET, "map-fl-failed"}, {"lost_identity_pages", "refused"}),
    "linear-4.4": (LIST | {BUG_SET}, {"lost_pages", "lost_identity_pages", "refused"}),
    "linear": (LIST | {"!ptep || level != PG_LEVEL_4K"}, {"lost_identity_pages", "refused"}),
}
# Looked for where there are lives enough.
RARE = {"populate-failed", "map-fl-failed", "map-leaves-failed", "bad-mfn-in-fl", "misdirected"}
LOSSES = {"lost_pages", "ghost_pages", "lost_identity_pages", "placeholder_writes"}


def told(results: list[dict[str, Any]]) -> Counter[str]:
    """Details without their numbers, and the counts that are more than 0."""
    out: Counter[str] = Counter()
    for result in results:
        detail = result.get("detail")
        if detail is not None:
            head, _, tail = detail.partition(" ")
            out[head if tail.replace(" ", "").isdigit() and head != "_brk_start" else detail] += 1
        out[result.get("outcome", "ok")] += 1
        out["refused"] += result.get("ok") is False
        for name in (*LOSSES, "warnings", "late_bootmem_pages"):
            out[name] += bool(result.get(name))
    return +out


# Before a life of this one has come to all of them half a minute is gone.
LATE = [pytest.param("linear-3.19", marks=pytest.mark.thorough)]


@pytest.mark.parametrize("policy", [*(p for p in eras.POLICIES if p != "linear-3.19"), *LATE])
def test_random_lives_reach_what_they_aim_at(policy: str) -> None:
    details, counts = REACHED[policy]
    missing = (details | counts | {"ok", "save-failed"}) - (set() if THOROUGH else RARE)
    for seed in range(NUM_LIVES):
        for second_machine in (False, True):
            missing -= set(told(life(policy, seed, second_machine)["expected"]))
        if not missing:
            break
    assert missing == set()


@pytest.mark.parametrize("policy", eras.POLICIES)
def test_a_life_is_its_seed(policy: str) -> None:
    for seed in (3, 4):
        trace = life(policy, seed, True)
        assert trace == life(policy, seed, True)
        assert trace["expected"] == eras.replay(trace)
    drawn = [life(policy, seed, True)["guest"] for seed in range(6)]
    assert all(a != b for a, b in pairwise(drawn))


@pytest.mark.parametrize("policy", eras.POLICIES)
def test_plain_lives_are_equal_on_both_machines(policy: str) -> None:
    """Own frames, each in one entry, in leaves of their own; hosts that name those and no others.

    Only a resume that failed may differ, in the frame list list's MFN, which restore cleared.
    """
    num_migrations = 0
    for seed in range(NUM_PLAIN):
        trace = life(policy, seed, second_machine=True, plain=True)
        first = eras.replay(trace | {"format": "p2mbatch-trace/1"})
        assert len(first) == len(trace["expected"])
        for one, two in zip(first, trace["expected"], strict=True):
            wanted = {name: value for name, value in two.items() if name not in LOSSES}
            if two["op"] == "migrate" and two["outcome"] in ("bug", "fault"):
                assert two["frame_list_list_mfn"] == 0
                wanted["frame_list_list_mfn"] = one["frame_list_list_mfn"]
            assert one == wanted, (policy, seed)
            num_migrations += two["op"] == "migrate" and two["outcome"] == "ok"
    assert num_migrations > NUM_PLAIN // 2
