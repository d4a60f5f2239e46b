"""One life through both models: where they differ, if they do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from oracle import clauses, models
from oracle.build import Json
from p2mbatch.base.errors import InputError


class BadLife(Exception):
    """The package refuses the life as input: the generator's fault, or the package's."""


@dataclass(frozen=True)
class Difference:
    """The first field in which the models differ."""

    event: int
    field: str
    naive: Any
    compiled: Any

    def __str__(self) -> str:
        return f"event {self.event}, {self.field}: naive {self.naive!r}, compiled {self.compiled!r}"


@dataclass(frozen=True)
class Compared:
    """What one life came to."""

    results: list[Json]
    clauses: set[str]
    difference: Difference | None


def compare(trace: Json) -> Compared:
    """Run a life through both models; raises `BadLife` where the package refuses it."""
    expected, reached = clauses.watch(trace)
    try:
        got = models.REPLAYS[models.Compiled](trace)
    except InputError as error:
        raise BadLife(str(error)) from None
    except Exception as error:  # Whatever it raises is a difference, to be shrunk like others.
        raised = f"{type(error).__name__}: {error}"
        return Compared(expected, reached, Difference(0, "exception", None, raised))
    return Compared(expected, reached, _first_difference(expected, got))


def _first_difference(expected: list[Json], got: list[Json]) -> Difference | None:
    for i, (naive, compiled) in enumerate(zip(expected, got, strict=False)):
        for field in [*naive, *(set(compiled) - set(naive))]:
            if naive.get(field) != compiled.get(field):
                return Difference(i, field, naive.get(field), compiled.get(field))
    if len(expected) != len(got):
        return Difference(min(len(expected), len(got)), "events", len(expected), len(got))
    return None
