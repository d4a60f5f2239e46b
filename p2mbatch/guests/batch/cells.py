"""Which cells a batch lives itself, and how their scenarios become its records."""

from __future__ import annotations

from typing import Any

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.compiled.batch.cells import CELL
from p2mbatch.compiled.tables import LAYOUTS
from p2mbatch.guests.fields import FIELDS, ScenarioFields
from p2mbatch.guests.host_sizes import host_ranges
from p2mbatch.model.placing import Placements, holds
from p2mbatch.model.policies import Policy, find, is_simulated
from p2mbatch.model.xen import has_small_m2p_order, keeps_freed_frames, parse_xen

Values = tuple[Any, ...]
"""A cell's canonical values, in the order of `FIELDS`."""

AT = {name: FIELDS.index(name) for name in FIELDS}

_COVERED = {
    "memory_bytes", "sparsity", "layout", "migrations", "policy", "host_memory_bytes", "hosts",
    "neighbours", "neighbour_memory_bytes", "build_order", "restore_order", "word_bytes", "xen",
    "stuck", "seed",
}  # fmt: skip
"""The fields that a batch knows; a cell with another one set is lived step by step."""

_OTHERS = tuple(
    (at, ScenarioFields.model_fields[name].default)
    for at, name in enumerate(FIELDS)
    if name not in _COVERED
)


def is_covered(values: Values) -> bool:
    """Return whether a batch lives the cell of these canonical values itself.

    What is not covered is lived step by step, with the same columns.
    """
    if any(values[at] != default for at, default in _OTHERS):
        return False
    policy = values[AT["policy"]]
    return values[AT["layout"]] in LAYOUTS and is_simulated(policy) and _is_batched(find(policy))


def _is_batched(policy: Policy) -> bool:
    """Return whether the batch has the policy's tree: one of three levels over `mfn_list`."""
    return not (policy.is_two_level or policy.is_linear)


def cell_records(
    columns: dict[str, Any], placed: Placements, policy: Policy, word_bytes: int
) -> tuple[np.ndarray[Any, Any], Int64Array]:
    """Return CELL[cells], and int64[k, 2] of all their hosts' least and largest bytes."""
    made = np.zeros(len(placed.span), CELL)
    for name in set(CELL.names or ()) & set(Placements._fields):
        made[name] = getattr(placed, name)
    for name in ("build_order", "restore_order", "neighbours", "migrations", "seed"):
        made[name] = columns[name]
    made["neighbour_pages"] = np.array(columns["neighbour_memory_bytes"], np.int64) // PAGE_BYTES
    made["frees_list"] = policy.moves_leaves(word_bytes)
    made["stays"] = [stuck == "stay" for stuck in columns["stuck"]]
    for xen in set(columns["xen"]) - {""}:
        version = parse_xen(xen)
        these = np.array([one == xen for one in columns["xen"]])
        made["small_order"][these] = has_small_m2p_order(version)
        made["keeps_freed"][these] = keeps_freed_frames(version)
    sizes = [np.repeat(np.array(columns["host_memory_bytes"], np.int64), 2).reshape(-1, 2)]
    made["first_host"] = np.arange(len(made))
    made["num_hosts"] = 1
    known: dict[str, tuple[int, int]] = {}
    num = len(made)
    for hosts in set(columns["hosts"]) - {""}:
        ranges = host_ranges(hosts)
        known[hosts] = num, len(ranges)
        num += len(ranges)
        sizes.append(np.array(ranges, np.int64))
    for k, hosts in enumerate(columns["hosts"]):
        if hosts:
            made[k].first_host, made[k].num_hosts = known[hosts]
    return made, np.concatenate(sizes)


def are_held(placed: Placements, made: np.ndarray[Any, Any], sizes: Int64Array) -> BoolArray:
    """Return whether every host of each cell can hold its guest: `stage._check_hosts`."""
    first = sizes[made["first_host"]] // PAGE_BYTES
    build, restore = made["build_order"], made["restore_order"]
    good = np.ones(len(made), np.bool_)
    for end in (0, 1):
        good &= holds(placed.guest_frames, first[:, end], build)
        plain = made["num_hosts"] == 1
        good &= ~plain | holds(placed.guest_frames, first[:, end], restore)
    for k in np.flatnonzero(~plain).tolist():
        begin = int(made[k].first_host)
        used = min(int(made[k].num_hosts), int(made[k].migrations) + 1)
        # One host alone is restored on as well; the last of several is for all that follow.
        later = sizes[begin : begin + used][min(1, used - 1) :].ravel() // PAGE_BYTES
        good[k] &= bool(holds(placed.guest_frames[k : k + 1], later, restore[k : k + 1]).all())
    return good


def are_whole(columns: dict[str, Any]) -> BoolArray:
    """Return whether the sizes of each cell are whole pages, as `ScenarioFields` asks."""
    parts = np.zeros(len(columns["seed"]), np.int64)
    for name in ("memory_bytes", "host_memory_bytes", "neighbour_memory_bytes"):
        parts |= np.array(columns[name], np.int64) % PAGE_BYTES
    whole: BoolArray = parts == 0
    return whole
