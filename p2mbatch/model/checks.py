"""Checks on the JSON of a trace: what is wrong is named by its path, with what would be right."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.errors import InputError
from p2mbatch.base.geometry import INVALID


class Checker:
    """Says where in which input something is wrong, and what would be right."""

    def __init__(self, source: str) -> None:
        self.source = source

    def fail(self, path: str, problem: str) -> InputError:
        """Return the error that says what is wrong at `path`."""
        return InputError(f"{self.source}: {path or '$'}: {problem}")

    def keys(self, value: Any, path: str, required: set[str], optional: frozenset[str]) -> None:
        """Refuse what is no object, an unknown key, and one that is missing."""
        if not isinstance(value, dict):
            raise self.fail(path, f"is {kind(value)}: it must be an object")
        for key in value:
            if key not in required and key not in optional:
                known = ", ".join(sorted(required | optional))
                raise self.fail(f"{path}.{key}".lstrip("."), f"unknown key: use {known}")
        for key in sorted(required):
            if key not in value:
                raise self.fail(f"{path}.{key}".lstrip("."), "is missing")

    def integer(self, value: Any, path: str, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`; refuse anything else."""
        if type(value) is not int:
            raise self.fail(path, f"is {kind(value)}: it must be a whole number")
        if not low <= value <= high:
            raise self.fail(path, f"is {value}: it must be {low} to {high}")
        return value

    def array(self, value: Any, path: str) -> list[Any]:
        """Return an array; refuse anything else."""
        if not isinstance(value, list):
            raise self.fail(path, f"is {kind(value)}: it must be an array")
        return value

    def runs(self, value: Any, path: str, names: tuple[str, ...], null: int = -1) -> Int64Array:
        """Return runs as int64[k, len(names)]; column `null` may hold null, read as INVALID."""
        rows = self.array(value, path)
        width = len(names)
        plain = self._plain_runs(rows, width)
        if plain is not None:
            return plain
        for i, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != width:
                raise self.fail(f"{path}[{i}]", f"must be [{', '.join(names)}]")
            for j, cell in enumerate(row):
                if type(cell) is int:
                    if not 0 <= cell < 1 << 63:
                        raise self.fail(f"{path}[{i}][{j}]", f"{names[j]} {cell} is out of range")
                elif cell is not None or j != null:
                    raise self.fail(
                        f"{path}[{i}][{j}]",
                        f"{names[j]} is {kind(cell)}: it must be a whole number",
                    )
            if row[-1] == 0:
                raise self.fail(f"{path}[{i}][{width - 1}]", "count is 0: it must be 1 or more")
        if null >= 0:
            rows = [[INVALID if c is None else c for c in row] for row in rows]
        return np.array(rows, np.int64).reshape(-1, width)

    @staticmethod
    def _plain_runs(rows: list[Any], width: int) -> Int64Array | None:
        """Return `rows` as int64[k, width] where all are right and none is null, else None.

        Looked at as a whole: a million rows one by one take seconds.
        """
        if set(map(type, rows)) != {list} or set(map(len, rows)) != {width}:
            return None
        cells = list(itertools.chain.from_iterable(rows))
        if set(map(type, cells)) != {int} or min(cells) < 0 or max(cells) >= 1 << 63:
            return None
        runs = np.array(cells, np.int64).reshape(-1, width)
        return runs if runs[:, -1].all() else None

    def within(self, runs: Int64Array, column: int, end: int, path: str, what: str) -> None:
        """Refuse runs that go past `end` in `column`, written so that nothing can overflow."""
        first, count = runs[:, column], runs[:, -1]
        bad = np.flatnonzero(
            (first >= 0) & ((first > end) | (count > end - np.minimum(first, end)))
        )
        if len(bad):
            i = int(bad[0])
            raise self.fail(
                f"{path}[{i}]",
                f"{what} {int(first[i])} + {int(count[i])} goes past {end}",
            )

    def disjoint(self, parts: Iterable[tuple[str, Int64Array, int]], what: str) -> None:
        """Refuse runs that share a number; each part is its path, its runs and their column."""
        parts = list(parts)
        first = np.concatenate([runs[:, column] for _, runs, column in parts])
        count = np.concatenate([runs[:, -1] for _, runs, _ in parts])
        order = np.argsort(first, kind="stable")
        bad = np.flatnonzero(first[order][:-1] + count[order][:-1] > first[order][1:])
        if not len(bad):
            return
        names = [
            f"{path}[{i}]"
            if len(runs) != 1 or path.endswith(("domain", "foreign", "page_pool"))
            else path
            for path, runs, _ in parts
            for i in range(len(runs))
        ]
        a, b = int(order[bad[0]]), int(order[bad[0] + 1])
        raise self.fail(names[max(a, b)], f"{what} {int(first[b])} is in {names[min(a, b)]} too")


def kind(value: Any) -> str:
    """Return a JSON value's type as a person says it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"
