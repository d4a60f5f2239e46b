"""Which cells a batch lives itself, and how their scenarios become its records."""

from __future__ import annotations

from typing import Any

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.words import Columns, Words, plain, told, words_of
from p2mbatch.compiled.batch.cells import CELL
from p2mbatch.compiled.tables import LAYOUTS
from p2mbatch.guests.fields import FIELDS, ScenarioFields
from p2mbatch.guests.host_sizes import host_ranges
from p2mbatch.model import toolstacks
from p2mbatch.model.placing import Placements, holds
from p2mbatch.model.policies import Policy, find, is_known
from p2mbatch.model.xen import Version, has_small_m2p_order, keeps_freed_frames, parse_xen

Values = tuple[Any, ...]
"""A cell's canonical values, in the order of `FIELDS`."""

_COVERED = {
    "memory_bytes", "sparsity", "layout", "migrations", "policy", "host_memory_bytes", "hosts",
    "neighbours", "neighbour_memory_bytes", "build_order", "restore_order", "word_bytes", "xen",
    "stuck", "seed", "linux", "toolstack", "max_domain_pages", "hotplug_gib", "p2m_vaddr", "told",
}  # fmt: skip
"""The fields that a batch knows; a cell with another one set is lived step by step. The last three
are a linear p2m's, and nothing to a tree."""

_OTHERS = tuple(
    (name, ScenarioFields.model_fields[name].default) for name in FIELDS if name not in _COVERED
)


def columns_of(cells: list[Values]) -> Columns:
    """Return cells given one by one, at least one, as columns by the names of `FIELDS`."""
    found: Columns = {}
    for name, values in zip(FIELDS, zip(*cells, strict=True), strict=True):
        found[name] = words_of(values) if isinstance(values[0], str) else np.array(values)
    return found


def values_at(columns: Columns, k: int) -> Values:
    """Return the values of the `k`-th cell."""
    return tuple(_value(columns[name], k) for name in FIELDS)


def _value(column: np.ndarray[Any, Any] | Words, k: int) -> Any:
    if not isinstance(column, Words):
        return column[k].item()
    return column.words[column.codes[k]]


def covered(columns: Columns) -> BoolArray:
    """Return which cells a batch lives itself, bool[cells].

    What is not covered is lived step by step, with the same columns.
    """
    good = told(columns["layout"], lambda layout: layout in LAYOUTS).astype(np.bool_)
    good &= told(columns["policy"], is_batched).astype(np.bool_)
    # What a kernel takes of a larger guest is cut when that is placed.
    most = plain(columns["max_domain_pages"])
    good &= (most == 0) | (plain(columns["memory_bytes"]) // PAGE_BYTES <= most)
    for name, default in _OTHERS:
        column = columns[name]
        if isinstance(column, Words):
            good &= told(column, lambda word, plain=default: word == plain).astype(np.bool_)
        else:
            good &= column == default
    return good


def is_batched(name: str) -> bool:
    """Return whether the batch has a policy's tree: one of three levels over `mfn_list`."""
    if not is_known(name):
        return False
    policy = find(name)
    return not (policy.is_two_level or policy.is_linear)


def cell_records(
    columns: Columns, placed: Placements, policy: Policy, word_bytes: int
) -> tuple[np.ndarray[Any, Any], Int64Array]:
    """Return CELL[cells], and int64[k, 2] of all their hosts' least and largest bytes."""
    made = np.zeros(len(placed.span), CELL)
    for name in set(CELL.names or ()) & set(Placements._fields):
        made[name] = getattr(placed, name)
    for name in ("build_order", "restore_order", "neighbours", "migrations", "seed"):
        made[name] = columns[name]
    made["neighbour_pages"] = plain(columns["neighbour_memory_bytes"]) // PAGE_BYTES
    made["frees_list"] = policy.moves_leaves(word_bytes)
    made["toolstack"] = told(columns["toolstack"], lambda name: toolstacks.find(name).code)
    made["stays"] = told(columns["stuck"], lambda stuck: stuck == "stay")
    made["small_order"] = told(columns["xen"], lambda xen: has_small_m2p_order(_version(xen)))
    made["keeps_freed"] = told(columns["xen"], lambda xen: keeps_freed_frames(_version(xen)))
    hosts = columns["hosts"]
    assert isinstance(hosts, Words)
    own = np.repeat(plain(columns["host_memory_bytes"]), 2).reshape(-1, 2)
    named_hosts = [host_ranges(text) if text else [] for text in hosts.words]
    ranges = [np.array(each, np.int64).reshape(-1, 2) for each in named_hosts]
    number = np.array([len(one) for one in ranges], np.int64)
    begin = len(made) + np.cumsum(number) - number
    named = number[hosts.codes] > 0
    made["first_host"] = np.where(named, begin[hosts.codes], np.arange(len(made)))
    made["num_hosts"] = np.where(named, number[hosts.codes], 1)
    return made, np.concatenate([own, *ranges])


def _version(xen: str) -> Version | None:
    return parse_xen(xen) if xen else None


def are_held(placed: Placements, made: np.ndarray[Any, Any], sizes: Int64Array) -> BoolArray:
    """Return whether every host of each cell can hold its guest: `stage._check_hosts`."""
    first = sizes[made["first_host"]] // PAGE_BYTES
    build, restore = made["build_order"], made["restore_order"]
    plain = made["num_hosts"] == 1
    good = np.ones(len(made), np.bool_)
    for end in (0, 1):
        good &= holds(placed.guest_frames, first[:, end], build)
        # One host alone is restored on as well; the last of several is for all that follow.
        good &= ~plain | holds(placed.guest_frames, first[:, end], restore)
    for k in np.flatnonzero(~plain).tolist():
        begin = int(made[k].first_host)
        used = min(int(made[k].num_hosts), int(made[k].migrations) + 1)
        later = sizes[begin : begin + used][min(1, used - 1) :].ravel() // PAGE_BYTES
        good[k] &= bool(holds(placed.guest_frames[k : k + 1], later, restore[k : k + 1]).all())
    return good


def are_whole(columns: Columns) -> BoolArray:
    """Return whether the sizes of each cell are whole pages, as `ScenarioFields` asks."""
    parts = np.zeros(len(columns["seed"]), np.int64)
    for name in ("memory_bytes", "host_memory_bytes", "neighbour_memory_bytes"):
        parts |= plain(columns[name]) % PAGE_BYTES
    whole: BoolArray = parts == 0
    return whole
