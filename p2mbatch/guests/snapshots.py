"""A cell's life as a few pictures: its tree before and after what tells."""

from __future__ import annotations

from typing import Any

from p2mbatch.guests.fields import FIELDS
from p2mbatch.guests.guest import Guest
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.tree_view import Snapshot


def scenario_of(row: Any, **changed: Any) -> Scenario:
    """Return the scenario that a table's row names, with the fields `changed`.

    Raises `InputError` where there is none such any more, as for a file that is gone.
    """
    fields = {name: getattr(row[name], "item", lambda name=name: row[name])() for name in FIELDS}
    return Scenario.make(**fields | changed)


def live_through(row: Any, migration: int, policy: str | None = None) -> list[Snapshot]:
    """Return the snapshots before and after `migration` of the guest that a table's row names.

    `policy` replaces the row's own. The cell is simulated again, event for event.
    """
    guest = Guest.from_scenario(scenario_of(row, **({"policy": policy} if policy else {})))
    shots = [guest.snapshot(event=guest.booted)]
    for _ in range(migration):
        if guest.ended is not None:
            break
        event = guest.migrate()
        shots.append(guest.snapshot(event=event))
    return shots[-2:]
