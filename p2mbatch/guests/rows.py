"""One cell of a sweep: a scenario lived through, and its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p2mbatch.guests.batch.cells import columns_of
from p2mbatch.guests.batch.lives import live_covered
from p2mbatch.guests.fields import FIELDS
from p2mbatch.guests.stepped import step_scenario

if TYPE_CHECKING:
    from p2mbatch.guests.fields import ScenarioFields


def run_scenario(scenario: ScenarioFields, resident: str = "auto") -> list[dict[str, Any]]:
    """Live the scenario through and return one row for the boot and each migration that ran.

    The rows' exact columns do not depend on `resident` (docs/data-dictionary.md names them all).
    The life ends at the first outcome that is not `ok`, whose row is the last; where the scenario
    lets a refused guest stay, each further try has its row. Raises `InputError` where the guest
    can't be placed.
    """
    one = columns_of([tuple(getattr(scenario, name) for name in FIELDS)])
    lived, left = live_covered(one, resident)
    return step_scenario(scenario, resident) if len(left) else lived.as_rows()
