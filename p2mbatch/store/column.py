"""What one column of a sweep's result is."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["scenario", "exact", "measured"]

Dtype = Literal["int64", "float64", "str"]


class Column(NamedTuple):
    """One column of the results."""

    name: str
    dtype: Dtype
    """The pandas dtype's name; in Arrow `int64`, `float64` and `string`."""
    unit: str
    """"bytes", "pages", "ns", "fraction", "entries" and so on; empty for names."""
    kind: Kind
    meaning: str
    """One sentence."""
    nullable: bool = False
    earlier: int | str = 0
    """What a store has in it that was made before there was the column."""
