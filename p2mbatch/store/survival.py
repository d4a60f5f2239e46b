"""The table at the end of a sweep: per policy and migration, what became of the guests."""

from __future__ import annotations

from p2mbatch.model.fates import FATES
from p2mbatch.store.results import SweepResult
from p2mbatch.store.survivors import Survival, survivals

__all__ = ["Survival", "ends", "survival"]


def survival(result: SweepResult) -> list[Survival]:
    """Return one entry per policy and migration of `result`, from the store's own tables.

    A guest counts by its row of that migration, or by its last one where its life ended before.
    """
    return survivals(result.fate_counts)


def ends(result: SweepResult) -> dict[str, int]:
    """Return how many guests came to each fate in the end."""
    found = dict.fromkeys(FATES, 0)
    for (*_, fate, is_last), count in result.fate_counts.items():
        found[fate] += count * is_last
    return found
