"""A spec's cells as columns, from any position on: what a sweep is fed from, without a walk.

The cell at a position is decided by arithmetic: a grid's by the lengths of its axes, a draw's by
its number. Values are those of `SweepSpec.expand`, to the bit.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from p2mbatch.base.arrays import BoolArray, Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import PAGE_BYTES
from p2mbatch.base.sizes import MIB
from p2mbatch.base.words import Column, Columns, Words, joined_columns, taken, values_in, words_of
from p2mbatch.guests.fields import (
    FIELDS,
    FOLLOWING,
    HOST_PER_GUEST,
    IDENTITY,
    LEAST_HOST_BYTES,
    ScenarioFields,
    follow,
)
from p2mbatch.guests.host_sizes import largest_host
from p2mbatch.guests.references import guest_fields, map_memory_bytes
from p2mbatch.spec.axes import FRACTION_FIELDS, Axis, Span, draw
from p2mbatch.spec.sections import Cell, Grid, Sample, Values

_ABSENT = -1
"""In a column of sizes: to be told by the guest's memory or by its file."""

_TEXT = frozenset(
    name for name, field in ScenarioFields.model_fields.items() if isinstance(field.default, str)
)


def grid_columns(grid: Grid, at: Int64Array) -> Columns:
    """Return the cells of `grid` at the positions `at`, the seeds outermost."""
    left, chosen = at, dict[str, Column]()
    by_name = dict(zip(FIELDS, grid.axes, strict=True))
    for name in [name for name in reversed(FIELDS) if name != "seed"]:
        axis = by_name[name]
        chosen[name] = picked(name, axis, left % len(axis))
        left = left // len(axis)
    chosen["seed"] = picked("seed", by_name["seed"], left)
    return resolved({name: chosen[name] for name in FIELDS})


def sample_columns(sample: Sample, first: int, last: int) -> Columns:
    """Return the draws `first` to `last` - 1 of `sample`."""
    at, found = np.arange(first, last), dict[str, Column]()
    for name, axis in zip(FIELDS, sample.axes, strict=True):
        if name == "seed" and sample.axis("seed") is None:
            found[name] = at
        elif isinstance(axis, Span) or len(axis) > 1:
            found[name] = _drawn(axis, name, sample.key, at)
        else:
            found[name] = picked(name, axis, np.zeros(len(at), np.int64))
    return resolved(found)


def picked(name: str, axis: Sequence[Any], at: Int64Array) -> Column:
    """Return the values `at` of an axis as a column."""
    if isinstance(axis, range):
        return axis.start + at * axis.step
    if name in _TEXT:
        words = words_of(None if value is None else str(value) for value in axis)
        return Words(words.codes[at], words.words)
    values = [_ABSENT if value is None else value for value in axis]
    return np.array(values, np.float64 if name in FRACTION_FIELDS else np.int64)[at]


def _drawn(axis: Axis, name: str, key: int, at: Int64Array) -> Column:
    """Return `axes.draw` of each number in `at`."""
    prefix = f"p2mbatch-sample:{key}:{name}:".encode()
    blake2b = hashlib.blake2b
    digests = [blake2b(prefix + b"%d" % i, digest_size=8).digest() for i in at.tolist()]
    word = np.frombuffer(b"".join(digests), "<u8")
    if not isinstance(axis, Span):
        if len(axis) >= 1 << 32:
            return np.array([draw(axis, name, key, i) for i in at.tolist()], np.int64)
        high, low = word >> np.uint64(32), word & np.uint64(0xFFFFFFFF)
        count = np.uint64(len(axis))
        index = (high * count + (low * count >> np.uint64(32))) >> np.uint64(32)
        return picked(name, axis, index.astype(np.int64))
    unit = word / 2.0**64
    values, is_unsure = (_fractions if name in FRACTION_FIELDS else _sizes)(axis, unit)
    for i in np.flatnonzero(is_unsure).tolist():
        # So near to where it is rounded that another way to reckon may round the other way.
        values[i] = draw(axis, name, key, int(at[i]))
    return values


def _fractions(axis: Span, unit: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], BoolArray]:
    steps = (axis.low + unit * (axis.high - axis.low)) * 1e4
    values = np.clip(np.rint(steps) / 1e4, axis.low, axis.high)
    is_unsure: BoolArray = np.abs(steps - np.floor(steps) - 0.5) < 1e-6
    return values, is_unsure


def _sizes(axis: Span, unit: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], BoolArray]:
    low, high = int(axis.low), int(axis.high)
    grain = MIB if high - low >= 16 * MIB else PAGE_BYTES
    start = math.log(low)
    sizes = np.exp(start + unit * (math.log(high) - start))
    least, most = (np.floor(sizes * factor / grain) for factor in (1 - 1e-12, 1 + 1e-12))
    values = np.clip(least.astype(np.int64) * grain, low, high)
    is_unsure: BoolArray = least != most
    return values, is_unsure


def resolved(columns: Columns) -> Columns:
    """Return columns with what guests' files say, and sizes that follow from the memory."""
    guest = columns["guest"]
    assert isinstance(guest, Words)
    if any(guest.words):
        columns = _with_guests(columns, guest)
    memory, host, neighbour = (
        columns[name] for name in ("memory_bytes", "host_memory_bytes", "neighbour_memory_bytes")
    )
    hosts = columns["hosts"]
    assert isinstance(hosts, Words)
    assert isinstance(memory, np.ndarray) and isinstance(host, np.ndarray)
    assert isinstance(neighbour, np.ndarray)
    largest = np.array([largest_host(word) if word else 0 for word in hosts.words], np.int64)
    own = largest[hosts.codes]
    maps = columns["neighbour_map"]
    assert isinstance(maps, Words)
    known = np.array([map_memory_bytes(word) if word else 0 for word in maps.words], np.int64)
    mapped = known[maps.codes]
    plain = np.where(mapped > 0, mapped, np.maximum(HOST_PER_GUEST * memory, LEAST_HOST_BYTES))
    plain = np.where(own > 0, own, plain)
    return _followed(
        {
            **columns,
            "host_memory_bytes": np.where(host == _ABSENT, plain, host),
            "neighbour_memory_bytes": np.where(neighbour == _ABSENT, memory, neighbour),
        }
    )


def _followed(columns: Columns) -> Columns:
    """Return columns with what follows from other fields: as `sections.resolve`."""
    is_usual = ~_says(columns["layout"], lambda layout: layout == IDENTITY)
    for name in ("xen", "toolstack", "linux"):
        is_usual &= ~_says(
            columns[name], bool if name == "linux" else lambda text: text is not None
        )
    filled = dict(columns)
    for name in FOLLOWING:
        filled[name] = _filled(columns[name], ScenarioFields.model_fields[name].default)
    odd = np.flatnonzero(~is_usual)
    if len(odd):
        some = {name: taken(column, odd) for name, column in columns.items()}
        each = [_follow(dict(zip(FIELDS, values, strict=True))) for values in values_of(some)]
        for name in FOLLOWING:
            column, theirs = filled[name], [fields[name] for fields in each]
            if isinstance(column, Words):
                texts = np.array(column.texts(), object)
                texts[odd] = theirs
                filled[name] = words_of(texts.tolist())
            else:
                column[odd] = theirs
    return filled


def _says(column: Column, of_text: Callable[[str | None], bool]) -> BoolArray:
    """Return what `of_text` says of each text of a column, None where there is none."""
    assert isinstance(column, Words)
    return np.array([of_text(text) for text in (*column.words, None)], np.bool_)[column.codes]


def _filled(column: Column, default: Any) -> Column:
    """Return a column with the default where it has nothing."""
    if not isinstance(column, Words):
        return np.where(column == _ABSENT, default, column)
    # The last code stands for nothing.
    words = [*column.words, default]
    known = words_of(words)
    return Words(known.codes[column.codes], known.words)


def _follow(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a cell's fields with what follows from others; raises `InputError` as `resolve`."""
    for name in FOLLOWING:
        if fields[name] == _ABSENT:
            fields[name] = None
    try:
        follow(fields, fields["memory_bytes"])
    except ValueError as error:
        raise InputError(str(error)) from None
    return fields


def _with_guests(columns: Columns, guest: Words) -> Columns:
    found = [guest_fields(word) if word else {} for word in guest.words]
    has = np.array([bool(word) for word in guest.words])[guest.codes]
    changed = dict(columns)
    for name in next(fields for fields in found if fields):
        told = [fields.get(name) for fields in found]
        theirs = picked(name, told, guest.codes.astype(np.int64))
        mine = columns[name]
        if isinstance(mine, Words) and isinstance(theirs, Words):
            each = zip(mine.texts(), theirs.texts(), has.tolist(), strict=True)
            changed[name] = words_of(t if is_theirs else m for m, t, is_theirs in each)
        else:
            changed[name] = np.where(has, theirs, mine)  # type: ignore[arg-type]
    return changed


def values_of(columns: Columns) -> list[Values]:
    """Return the cells one by one: each one's canonical values in the order of `FIELDS`."""
    return list(zip(*(values_in(columns[name]) for name in FIELDS), strict=True))


def columns_between(
    sections: tuple[Sequence[Grid], Sequence[Cell], Sequence[Sample]],
    once: dict[Values, int],
    first: int,
    last: int,
) -> tuple[Columns, Int64Array]:
    """Return the cells at the positions `first` to `last` - 1 of a spec's sections, and where.

    Positions count every cell of every section; one that an earlier section has is left out. `once`
    has each of the cells written out, with the first of its places among them.
    """
    grids, cells, samples = sections
    parts, positions, start = list[Columns](), list[Int64Array](), 0
    sections_in_turn: list[Grid | Sequence[Cell] | Sample] = [*grids, cells, *samples]
    for index, section in enumerate(sections_in_turn):
        if isinstance(section, Grid):
            size = section.num_cells
        else:
            size = section.n if isinstance(section, Sample) else len(section)
        low, high = max(first - start, 0), min(last - start, size)
        if low < high:
            if isinstance(section, Grid):
                found = grid_columns(section, np.arange(low, high))
                keep = _in_none(found, grids[:index])
            elif isinstance(section, Sample):
                found = sample_columns(section, low, high)
                keep = _in_none(found, grids, once)
            else:
                values = [cell.values for cell in cells[low:high]]
                found = _columns_of(values)
                is_first = [once[one] == place for place, one in enumerate(values, low)]
                keep = _in_none(found, grids) & np.array(is_first, np.bool_)
            parts.append({name: taken(column, keep) for name, column in found.items()})
            positions.append((np.arange(low, high) + start)[keep])
        start += size
    return joined_columns(parts), np.concatenate(positions)


def _columns_of(values: Sequence[Values]) -> Columns:
    """Return cells given one by one as columns."""
    at = np.arange(len(values))
    return {n: picked(n, v, at) for n, v in zip(FIELDS, zip(*values, strict=True), strict=True)}


def _in_none(
    columns: Columns, grids: Sequence[Grid], cells: Collection[Values] = frozenset()
) -> BoolArray:
    """Return which cells of `columns` are neither in one of `grids` nor among `cells`."""
    if not grids and not cells:
        return np.ones(len(columns["seed"]), np.bool_)
    return np.array(
        [
            values not in cells and not any(values in grid for grid in grids)
            for values in values_of(columns)
        ],
        np.bool_,
    )
