"""A cell's life as a few pictures: its tree before and after what tells."""

from __future__ import annotations

from typing import Any

from p2mbatch.guests.fields import FIELDS
from p2mbatch.guests.guest import Guest
from p2mbatch.guests.scenario import Scenario
from p2mbatch.guests.tree_view import Snapshot


def live_through(row: Any, migration: int, policy: str | None = None) -> list[Snapshot]:
    """Return the snapshots before and after `migration` of the guest that a table's row names.

    `policy` replaces the row's own. The cell is simulated again, event for event.
    """
    fields = {name: getattr(row[name], "item", lambda name=name: row[name])() for name in FIELDS}
    guest = Guest.from_scenario(Scenario.make(**fields | ({"policy": policy} if policy else {})))
    shots = [guest.snapshot(event=guest.booted)]
    for _ in range(migration):
        if guest.ended is not None:
            break
        event = guest.migrate()
        shots.append(guest.snapshot(event=event))
    return shots[-2:]
