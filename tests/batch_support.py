"""What the tests of batches share: random scenarios, and rows held against those of steps."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.sizes import GIB, MIB
from p2mbatch.base.words import Columns
from p2mbatch.guests.batch.cells import columns_of
from p2mbatch.guests.batch.columns import Lived
from p2mbatch.guests.fields import FIELDS
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.stepped import step_scenario
from p2mbatch.model.policies import find

MEASURED = ("rebuild_ns", "save_walk_ns", "restore_ns")


def columns(scenarios: Sequence[Scenario]) -> Columns:
    """Return scenarios as the columns that a batch is handed."""
    return columns_of([tuple(getattr(one, name) for name in FIELDS) for one in scenarios])


def random_scenario(
    draw: random.Random, policies: Sequence[str], largest: int = 8 * GIB
) -> Scenario:
    """Return any scenario that a batch covers, some of guests that can't be placed among them."""
    policy = draw.choice(policies)
    memory = int(2 ** draw.uniform(14, largest.bit_length() - 1)) // PAGE_BYTES * PAGE_BYTES
    # Around a mid page's reach, where the lives of old kernels change.
    memory = draw.choice([memory, memory, memory, min(GIB + draw.randrange(33) * MIB, largest)])
    fields: dict[str, Any] = {
        "memory_bytes": memory,
        "sparsity": draw.choice([0, 0, 0.1, 0.5, 0.9, draw.random() * 0.99]),
        "layout": draw.choice(["tail", "scattered", "extents", "identity"]),
        "migrations": draw.choice([0, 1, 2, 3, 5]),
        "policy": policy,
        "neighbours": draw.choice([0, 0.5, 1, draw.random()]),
        "build_order": draw.choice([0, 9, 9, 18, 3]),
        "restore_order": draw.choice([0, 0, 9, 4, 12]),
        "word_bytes": 8 if find(policy).is_linear else draw.choice([8, 8, 4]),
        "seed": draw.choice([0, draw.randrange(1 << 63), draw.randrange(1000)]),
        "stuck": draw.choice(["end", "end", "stay"]),
        "xen": draw.choice(["", "", "4.0", "4.1.2", "4.2"]),
    }
    if draw.random() < 0.4:
        fields["toolstack"] = draw.choice(["4.7", "4.6", "legacy"])
    if draw.random() < 0.3:
        mib = max(memory // MIB, 64)
        few = memory + 9000 * PAGE_BYTES
        sizes = [f"{2 * mib}MiB", f"{mib}MiB..{4 * mib}MiB", f"{few}..{few + 30 * PAGE_BYTES}"]
        fields["hosts"] = [draw.choice(sizes) for _ in range(draw.randrange(1, 4))]
    elif draw.random() < 0.3:
        pages = int(memory * draw.uniform(0.9, 3)) // PAGE_BYTES + 600
        fields["host_memory_bytes"] = pages * PAGE_BYTES
    _add_of_its_p2m(draw, fields)
    _add_more_pages(draw, fields)
    if draw.random() < 0.3:
        fields["neighbour_memory_bytes"] = draw.choice([PAGE_BYTES, MIB, 256 * MIB])
    return Scenario.make(**fields)


def _add_of_its_p2m(draw: random.Random, fields: dict[str, Any]) -> None:
    """Add what the p2m of a scenario is like, and which of its pages are 1:1."""
    memory, policy = fields["memory_bytes"], find(fields["policy"])
    if fields["layout"] == "identity" and draw.random() < 0.7:
        pages = memory // PAGE_BYTES
        fields["hole_bytes"] = draw.randrange(pages + 1) * PAGE_BYTES
        fields["hole_at_bytes"] = draw.choice([draw.randrange(pages + 1), pages // 2 // 512 * 512])
        fields["hole_at_bytes"] *= PAGE_BYTES
    step = (PAGE_BYTES // fields["word_bytes"]) ** 2
    if draw.random() < 0.3:
        fields["max_domain_pages"] = step * draw.choice([1, 1, 2, 3, 8])
    if not policy.is_linear:
        return
    if draw.random() < 0.5:
        fields["hotplug_gib"] = draw.choice([0, 1, 2, 8, 513])
        fields["p2m_vaddr"] = draw.choice([0xFFFFC90000000000, 0xFFFFC90000200000, 0x40000000])
    if draw.random() < 0.4:
        fields["told"] = draw.choice(["yes", "no"])


def _add_more_pages(draw: random.Random, fields: dict[str, Any]) -> None:
    """Add what a guest gets, and gives back, once it has booted: of each, nothing more often."""
    most = min(fields["memory_bytes"], 256 * MIB) // PAGE_BYTES

    def some() -> int:
        return draw.choice([1, 300, draw.randrange(most + 1), draw.randrange(most // 8 + 1)])

    if draw.random() < 0.3:
        fields["grow_bytes"] = some() * PAGE_BYTES
    if draw.random() < 0.3:
        fields["live"] = "yes"
        fields["rounds"] = draw.choice([0, 1, 2, 5, 5])
        fields["churn_bytes"] = draw.choice([0, some()]) * PAGE_BYTES
        fields["balloon_bytes"] = draw.choice([0, some()]) * PAGE_BYTES
    where = ["within", "beyond", "identity"]
    fields["grow_where"] = draw.choice(where[: 3 if fields["layout"] == "identity" else 2])


def assert_as_stepped(scenarios: Sequence[Scenario], lived: Lived, resident: str = "auto") -> None:
    """Check that every exact column is what the cell has when it is lived step by step."""
    rows = iter(lived.as_rows())
    failures = {failure.cell: failure.message for failure in lived.failures}
    for place, scenario in enumerate(scenarios):
        try:
            expected = step_scenario(scenario, resident)
        except InputError as error:
            assert failures[place] == str(error).removeprefix("scenario: ")
            expected = []
        else:
            assert place not in failures, scenario
        got = [next(rows) for _ in range(lived.num_rows[place])]
        assert list(map(exact, got)) == list(map(exact, expected)), scenario
    assert next(rows, None) is None


def exact(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row's columns that are the same in every run."""
    return {name: value for name, value in row.items() if name not in MEASURED}
