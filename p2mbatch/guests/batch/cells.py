"""Which cells a batch lives itself, and how their scenarios become its records."""

from __future__ import annotations

from typing import Any

import numpy as np

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.base.geometry import PAGE_BYTES, geometry, signed_word
from p2mbatch.base.words import Column, Columns, Words, plain, told, words_of
from p2mbatch.compiled.batch.cells import BEYOND, CELL, INSIDE, WITHIN
from p2mbatch.compiled.tables import LAYOUTS, TAIL
from p2mbatch.guests.fields import CHURN, FIELDS, HOLE, IDENTITY, ScenarioFields
from p2mbatch.guests.host_sizes import host_ranges
from p2mbatch.model import toolstacks
from p2mbatch.model.era_tables import may_share_anywhere
from p2mbatch.model.placing import Placements, Wanted, holds
from p2mbatch.model.policies import Policy, is_known
from p2mbatch.model.xen import Version, has_small_m2p_order, keeps_freed_frames, parse_xen

Values = tuple[Any, ...]
"""A cell's canonical values, in the order of `FIELDS`."""

_COVERED = {
    "memory_bytes", "sparsity", "layout", "migrations", "policy", "host_memory_bytes", "hosts",
    "neighbours", "neighbour_memory_bytes", "build_order", "restore_order", "word_bytes", "xen",
    "stuck", "seed", "linux", "toolstack", "max_domain_pages", "hotplug_gib", "p2m_vaddr", "told",
    "hole_bytes", "hole_at_bytes", "grow_bytes", "grow_where", "live", "rounds", "churn_bytes",
    "balloon_bytes", "neighbour_map",
}  # fmt: skip
"""The fields that a batch knows; a cell with another one set is lived step by step."""

_SIZES = (
    "memory_bytes", "host_memory_bytes", "neighbour_memory_bytes", *HOLE, "grow_bytes", *CHURN,
)  # fmt: skip

_WHERE = {"within": WITHIN, "beyond": BEYOND, IDENTITY: INSIDE}

_VERY_MANY, _VERY_MUCH = 1 << 32, 1 << 48
"""Pages, and bytes, of more than any guest has."""

_PLACED = tuple(name for name in CELL.names or () if name in Placements._fields)

_BY_TOOLSTACK = 2
_TOLD = {"no": 0, "yes": 1, "auto": _BY_TOOLSTACK}

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
    good = told(columns["policy"], is_known).astype(np.bool_)
    for name, default in _OTHERS:
        column = columns[name]
        if isinstance(column, Words):
            good &= told(column, lambda word, plain=default: word == plain).astype(np.bool_)
        else:
            good &= column == default
    return good


def wanted(columns: Columns, policy: Policy) -> Wanted:
    """Return what placing guests of one policy and one width asks of their scenarios."""
    none = np.zeros(len(columns["seed"]), np.int64)
    grow_pages = _most_added(columns)
    return Wanted(
        memory_bytes=plain(columns["memory_bytes"]),
        sparsity=plain(columns["sparsity"]),
        # Words that only others of the cells have stand in the column too.
        layout=told(columns["layout"], lambda layout: LAYOUTS.get(layout, TAIL)),
        hole_pfn=plain(columns["hole_at_bytes"]) // PAGE_BYTES,
        hole_pages=plain(columns["hole_bytes"]) // PAGE_BYTES,
        max_domain_pages=plain(columns["max_domain_pages"]),
        grow_pages=grow_pages,
        beyond=_grow_where(columns) == BEYOND if grow_pages.any() else none,
        hotplug_gib=plain(columns["hotplug_gib"]),
        p2m_vaddr=_vaddrs(columns) if policy.is_linear else none,
        told=_are_told(columns) if policy.is_linear else none,
    )


def _grow_where(columns: Columns) -> Int64Array:
    return told(columns["grow_where"], _WHERE.__getitem__)


def _vaddrs(columns: Columns) -> Int64Array:
    return told(columns["p2m_vaddr"], lambda text: signed_word(int(text, 16)))


def _are_told(columns: Columns) -> Int64Array:
    """Return whether guests are told that their table can be read: `stage.is_told`."""
    told_so = told(columns["told"], _TOLD.__getitem__)
    reads = told(columns["toolstack"], lambda name: toolstacks.find(name).reads_table)
    found: Int64Array = np.where(told_so == _BY_TOOLSTACK, reads, told_so)
    return found


def _most_added(columns: Columns) -> Int64Array:
    """Return how many pages each guest may get more in all: `churn.most_added`, or very many."""
    churn = np.minimum(plain(columns["churn_bytes"]), _VERY_MUCH)
    each = np.minimum(plain(columns["grow_bytes"]), _VERY_MUCH)
    each = (each + 2 * churn * plain(columns["rounds"])) // PAGE_BYTES
    found: Int64Array = np.minimum(each, _VERY_MANY) * plain(columns["migrations"])
    return found


def cell_records(
    columns: Columns, placed: Placements, policy: Policy
) -> tuple[np.ndarray[Any, Any], Int64Array]:
    """Return CELL[cells], and int64[k, 2] of all their hosts' least and largest bytes."""
    made = np.zeros(len(placed.span), CELL)
    for name in _PLACED:
        made[name] = getattr(placed, name)
    for name in ("build_order", "restore_order", "neighbours", "migrations", "seed"):
        made[name] = columns[name]
    made["neighbour_pages"] = plain(columns["neighbour_memory_bytes"]) // PAGE_BYTES
    made["is_linear"] = policy.is_linear
    made["toolstack"] = told(columns["toolstack"], lambda name: toolstacks.find(name).code)
    made["live"] = _are_live(columns)
    made["names_all"] = (plain(columns["grow_bytes"]) | plain(columns["churn_bytes"])) != 0
    made["stays"] = told(columns["stuck"], lambda stuck: stuck == "stay")
    made["small_order"] = told(columns["xen"], lambda xen: has_small_m2p_order(_version(xen)))
    made["keeps_freed"] = told(columns["xen"], lambda xen: keeps_freed_frames(_version(xen)))
    # A kernel in C may store where no built-in one does.
    anywhere = may_share_anywhere(policy)
    made["notes_owned"] = made["keeps_freed"] | int(anywhere)
    made["may_share"] = int(anywhere)
    gets_more = gets_more_pages(made)
    if gets_more.any():
        for name in ("grow", "churn", "balloon"):
            made[f"{name}_pages"] = plain(columns[f"{name}_bytes"]) // PAGE_BYTES
        made["grow_where"] = _grow_where(columns)
        made["rounds"] = columns["rounds"]
        made["notes_owned"] |= gets_more & (placed.marks_hole & int(policy.marks))
        made["may_share"] |= made["notes_owned"] & int(policy.marks)
        made["has_identity"] |= gets_more & policy.is_linear
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
    guest_frames = np.where(made["names_all"] != 0, placed.reach, placed.guest_frames)
    build, restore = made["build_order"], made["restore_order"]
    plain = made["num_hosts"] == 1
    good = np.ones(len(made), np.bool_)
    for end in (0, 1):
        good &= holds(guest_frames, first[:, end], build)
        # One host alone is restored on as well; the last of several is for all that follow.
        good &= ~plain | holds(guest_frames, first[:, end], restore)
    for k in np.flatnonzero(~plain).tolist():
        begin = int(made[k].first_host)
        used = min(int(made[k].num_hosts), int(made[k].migrations) + 1)
        later = sizes[begin : begin + used][min(1, used - 1) :].ravel() // PAGE_BYTES
        good[k] &= bool(holds(guest_frames[k : k + 1], later, restore[k : k + 1]).all())
    return good


def are_consistent(columns: Columns, policy: Policy, word_bytes: int) -> BoolArray:
    """Return whether the fields of each cell agree, as `ScenarioFields` asks of them."""
    parts = np.zeros(len(columns["seed"]), np.int64)
    for name in _SIZES:
        parts |= plain(columns[name])
    good: BoolArray = parts % PAGE_BYTES == 0
    if policy.is_linear and word_bytes == 4:
        good[:] = False
    most = plain(columns["max_domain_pages"])
    if most.any():
        geo = geometry(word_bytes)
        good &= (most % geo.entries**2 == 0) & (most <= geo.max_p2m_pfn)
    holes = plain(columns["hole_bytes"]) | plain(columns["hole_at_bytes"])
    if holes.any() or _has_word(columns["grow_where"], IDENTITY):
        is_identity = told(columns["layout"], lambda layout: layout == IDENTITY)
        good &= (is_identity != 0) | ((holes == 0) & (_grow_where(columns) != INSIDE))
    has_map = told(columns["neighbour_map"], bool)
    if any(has_map):
        alone = plain(columns["neighbours"]) == 1.0
        alone &= plain(columns["neighbour_memory_bytes"]) == plain(columns["memory_bytes"])
        good &= alone | (has_map == 0)
    moved = plain(columns["churn_bytes"]) | plain(columns["balloon_bytes"])
    if moved.any():
        good &= (moved == 0) | (_are_live(columns) != 0)
    return good


def _has_word(column: Column, word: str) -> bool:
    assert isinstance(column, Words)
    return word in column.words


def _are_live(columns: Columns) -> Int64Array:
    return told(columns["live"], lambda live: live == "yes")


def gets_more_pages(made: np.ndarray[Any, Any]) -> BoolArray:
    """Return which cells' guests may get pages, or give any back, once they have booted."""
    found: BoolArray = (made["names_all"] | made["live"]) != 0
    return found
