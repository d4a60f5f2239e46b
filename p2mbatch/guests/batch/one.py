"""A cell of a batch that is lived step by step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from p2mbatch.base.errors import IsStopped, P2MBatchError, PolicyError, StoppedError
from p2mbatch.base.words import Column, words_of
from p2mbatch.guests.batch.cells import Values
from p2mbatch.guests.batch.columns import Failure, Part
from p2mbatch.guests.fields import FIELDS
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.stepped import step_scenario


def live_one(
    place: int, values: Values, resident: str, is_stopped: IsStopped
) -> tuple[Part, Failure | None]:
    """Live through one cell step by step; what it raises is a failure with its message.

    Raises `PolicyError` where a policy of the user's own does not work, and `StoppedError`.
    """
    start = time.perf_counter_ns()
    rows: list[dict[str, Any]] = []
    failure = None
    try:
        scenario = Scenario.make(**dict(zip(FIELDS, values, strict=True)))
        rows = step_scenario(scenario, resident, is_stopped)
    except (PolicyError, StoppedError):
        # It is the same for every cell: a file is to be mended first, or all of them stop.
        raise
    except P2MBatchError as problem:
        message = str(problem).removeprefix("scenario: ")
        failure = Failure(place, type(problem).__name__, message)
    except MemoryError as problem:
        message = str(problem) or "the machine has no memory left for it"
        failure = Failure(place, "MemoryError", message)
    except Exception as problem:
        # A cell is one of thousands: its failure is a result, and the others go on.
        text = str(problem).strip().splitlines()
        failure = Failure(place, type(problem).__name__, text[0] if text else repr(problem))
    took = np.array([time.perf_counter_ns() - start], np.int64)
    part = Part(np.array([place]), np.array([len(rows)]), took, dict(_as_columns(rows)))
    return part, failure


def _as_columns(rows: list[dict[str, Any]]) -> Iterator[tuple[str, Column]]:
    """Yield the columns of rows that were made one by one, by name."""
    for name in rows[0] if rows else ():
        found = [row[name] for row in rows]
        is_text = name in ("outcome", "detail")
        yield name, words_of(found) if is_text else np.array(found)
