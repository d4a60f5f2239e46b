"""`Scenario`: the fields of one cell, with what can be done with them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from p2mbatch.base.markup import card
from p2mbatch.base.sizes import format_size
from p2mbatch.guests.fields import FIELDS, ScenarioFields, default_host_memory_bytes
from p2mbatch.guests.written_out import scenario_trace
from p2mbatch.model.trace import Trace


class Scenario(ScenarioFields):
    """One cell: a guest, its hosts and how often it migrates (the fields of docs/sweeps.md)."""

    def __repr_args__(self) -> Generator[tuple[str | None, Any]]:
        """Yield the fields that are not at their defaults."""
        yield from self.unusual()

    def unusual(self) -> Iterator[tuple[str, Any]]:
        """Yield (name, value) of each field that is not at its default."""
        usual = {
            "memory_bytes": None,
            "host_memory_bytes": default_host_memory_bytes(self.memory_bytes),
            "neighbour_memory_bytes": self.memory_bytes,
        }
        for name in FIELDS:
            value = getattr(self, name)
            if value != usual.get(name, type(self).model_fields[name].default):
                yield name, value

    def _repr_html_(self) -> str:
        """Return the fields that are not at their defaults as a table, for notebooks."""
        facts = [
            (
                name,
                format_size(value) if name.endswith("_bytes") and name != "word_bytes" else value,
            )
            for name, value in self.unusual()
        ]
        return card(f"cell {self.cell_id[:12]}", facts)

    def to_trace(self) -> Trace:
        """Return the scenario written out as a trace, for one small enough to write out.

        Raises `InputError` where a host is too large. Source: `written_out.scenario_trace`.
        """
        return scenario_trace(self)
