"""`Scenario`: the fields of one cell, with what can be done with them."""

from __future__ import annotations

from p2mbatch.guests.fields import ScenarioFields
from p2mbatch.guests.written_out import scenario_trace
from p2mbatch.model.trace import Trace


class Scenario(ScenarioFields):
    """One cell: a guest, its hosts and how often it migrates (the fields of docs/sweeps.md)."""

    def to_trace(self) -> Trace:
        """Return the scenario written out as a trace, for one small enough to write out.

        Raises `InputError` where a host is too large. Source: `written_out.scenario_trace`.
        """
        return scenario_trace(self)
