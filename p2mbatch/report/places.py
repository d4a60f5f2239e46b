"""The scenarios of a table: axes by their values, or in ranges where there are too many."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from p2mbatch.base.arrays import Int64Array
from p2mbatch.store.bins import binned

MAX_SCENARIOS = 1_500
"""Rows of a page's table by scenario; of more, axes of many values are cut into ranges."""

_MAX_VALUES = 12
"""Values of an axis that are kept apart where ranges are needed."""

_RANGES = (8, 6, 5, 4, 3, 2)
"""Into how many ranges, the first that gives few enough rows."""


class Place(NamedTuple):
    """One axis of a table by scenario."""

    name: str
    codes: Int64Array
    """Which of `shown` each cell is at."""
    shown: list[Any]
    """The values, or where each range begins."""
    edges: list[float]
    """The ends of the ranges, one more than there are; empty where places are values."""


def in_places(cells: pd.DataFrame, axes: list[str]) -> tuple[list[Place], str]:
    """Return the axes of `cells`, a row each, by scenario, and a note on what was cut or left out.

    Axes are left out last first, where even few ranges are too many scenarios.
    """
    if all(cells[name].nunique() <= MAX_SCENARIOS for name in axes):
        plain = [_place(cells, name, len(cells), 0) for name in axes]
        if _number(plain) <= MAX_SCENARIOS:
            return plain, ""
    for ranges in _RANGES:
        places = [_place(cells, name, _MAX_VALUES, ranges) for name in axes]
        if _number(places) <= MAX_SCENARIOS:
            break
    left_out = []
    while _number(places) > MAX_SCENARIOS and len(places) > 1:
        # The last axes tell least: how hosts are made, who else is there.
        left_out.append(places.pop().name)
    cut = [place.name for place in places if place.edges]
    note = (
        "Of axes with many values each row is a range; its upper end is the next row's"
        if cut
        else ""
    )
    if left_out:
        said = ", ".join(sorted(left_out))
        note += f"{'; ' if note else ''}guests of all values of {said} are together"
    return places, f"{note[0].upper()}{note[1:]}." if note else ""


def _place(cells: pd.DataFrame, name: str, max_values: int, ranges: int) -> Place:
    found = binned(cells[name], name, max_values, ranges)
    if found.edges is None:
        return Place(name, found.codes, found.values, [])
    edges = [int(edge) if edge.is_integer() else edge for edge in found.edges.tolist()]
    return Place(name, found.codes, edges[:-1], edges)


def numbered(places: list[Place]) -> tuple[Int64Array, Int64Array]:
    """Return each cell's scenario as a number, and int64[scenarios, axes]: where each is.

    Scenarios are numbered as they come first.
    """
    flat, size = np.zeros(len(places[0].codes), np.int64), 1
    for place in places:
        if size * len(place.shown) >= 1 << 62:
            flat, size = pd.factorize(flat)[0], len(flat)
        flat, size = flat * len(place.shown) + place.codes, size * len(place.shown)
    number = pd.factorize(flat)[0]
    # From behind, so that the first one stays.
    first = np.empty(int(number.max()) + 1, np.int64)
    first[number[::-1]] = np.arange(len(number))[::-1]
    return number, np.stack([place.codes[first] for place in places], axis=1)


def _number(places: list[Place]) -> int:
    return int(numbered(places)[0].max()) + 1


def representatives(cells: pd.DataFrame, places: list[Place]) -> pd.DataFrame:
    """Return the first cell of each scenario and fate, with `like_it`: how many there are of it."""
    number, _ = numbered(places)
    fate = pd.factorize(cells["fate"])[0]
    key = number * (int(fate.max()) + 1) + fate
    _, first, counts = np.unique(key, return_index=True, return_counts=True)
    order = np.argsort(first)
    found: pd.DataFrame = cells.iloc[first[order]].assign(like_it=counts[order])
    return found
