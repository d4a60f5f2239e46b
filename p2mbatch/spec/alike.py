"""Cells written out by the hundred thousand: each value is read, each set of keys checked once."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from p2mbatch.guests.fields import FIELDS, MAX_SEED
from p2mbatch.guests.references import GUEST
from p2mbatch.spec.sections import SHORT_NAMES, Cell, parse_field

_NOT_ALONE = frozenset({"guest", "hosts"})
"""Keys that other keys' meaning hangs on: such cells are read one by one."""


def alike(items: list[Any], context: Any) -> list[Any]:
    """Return `items`, with those that are surely right as `Cell`s; the others as they are.

    A cell is read as pydantic would read it where its keys are those of one that pydantic has found
    right and each of its values alone is.
    """
    readers: dict[tuple[Any, ...], _Reader | None] = {}
    found = list[Any]()
    for item in items:
        keys = tuple(item) if type(item) is dict else ()
        if keys not in readers:
            readers[keys] = _reader(item, context) if keys and not _hang_together({*keys}) else None
        reader = readers[keys]
        cell = None if reader is None else reader.read(item)
        found.append(item if cell is None else cell)
    return found


def _hang_together(keys: set[str]) -> bool:
    """Return whether what one of `keys` means, or may be, hangs on the value of another."""
    return bool(_NOT_ALONE & keys or ("linux" in keys and {"policy", "policies"} & keys))


def _reader(item: dict[str, Any], context: Any) -> _Reader | None:
    """Return what reads cells of the keys of `item`, None where they are not right."""
    try:
        first = Cell.model_validate(item, context=context)
    except ValidationError:
        return None
    return _Reader(list(item), first, context)


class _Reader:
    """Reads cells of the same keys."""

    def __init__(self, keys: list[str], first: Cell, context: Any) -> None:
        self._known: list[tuple[str, int, dict[Any, Any]]] = [
            (key, FIELDS.index(SHORT_NAMES.get(key, key)), {}) for key in keys
        ]
        self._axes = list(first.axes)
        self._context = context
        # To copy one costs a tenth of making one, of which the defaults are most.
        self._blank = Cell.model_construct(set())

    def read(self, item: dict[str, Any]) -> Cell | None:
        """Return the cell, None where a value is not surely right."""
        parsed: dict[str, Any] = {}
        axes = self._axes.copy()
        for key, at, known in self._known:
            raw = item[key]
            if type(raw) not in (int, float, str):
                return None
            if key == "seed" and type(raw) is int and 0 <= raw <= MAX_SEED:
                # Each has its own: to know them all would be no help.
                axes[at] = parsed[key] = [raw]
                continue
            # 1 and 1.0 are the same key of a dict, and not the same text.
            axis = known.get((type(raw), raw))
            if axis is None:
                try:
                    axis = parse_field(raw, key, self._context)
                except ValueError:
                    return None
                if type(axis) is not list or len(axis) != 1 or axis[0] == GUEST:
                    return None
                known[type(raw), raw] = axis
            axes[at] = parsed[key] = axis
        cell = self._blank.model_copy(update=parsed)
        # Its checks see by that that all was checked.
        cell.__dict__["axes"] = tuple(axes)
        return cell
