"""What a campaign reached: counts of ends and of clauses, and the report of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from campaign import ends
from oracle import clauses
from oracle.build import Json


@dataclass
class Tally:
    """Counts over the lives of one format."""

    format: str
    lives: int = 0
    events: int = 0
    ends: Counter[tuple[str, tuple[str, str, str]]] = field(default_factory=Counter)
    """Events by (policy, end)."""
    clauses: Counter[str] = field(default_factory=Counter)
    """Lives by the clauses that they came across."""

    def add(self, trace: Json, results: list[Json], reached: set[str]) -> None:
        self.lives += 1
        self.events += len(results)
        self.clauses.update(reached)
        for result in results:
            if result["op"] != "fail_alloc":
                self.ends[trace["policy"], ends.end_of(result)] += 1

    def merge(self, other: Tally) -> None:
        self.lives += other.lives
        self.events += other.events
        self.ends.update(other.ends)
        self.clauses.update(other.clauses)

    def never(self) -> list[str]:
        """Ends and clauses that no life came to."""
        expected = clauses.expected_of(self.format)
        return [
            *ends.never(set(self.ends), self.format),
            *(name for name in clauses.CLAUSES if name in expected and name not in self.clauses),
        ]

    def lines(self) -> Iterator[str]:
        """The report: a table of ends by policy, the clauses with their lives, what is missing."""
        yield f"{self.format}: {self.lives:,} lives, {self.events:,} events"
        yield f"  {'event ended':56}" + "".join(f"{policy:>10}" for policy in ends.ALL)
        for end in sorted({end for _, end in self.ends}):
            counts = "".join(f"{self.ends[policy, end]:10,}" for policy in ends.ALL)
            yield f"  {' '.join(part for part in end if part):56}{counts}"
        yield f"  {'clause':76}{'lives':>10}"
        for name in [*clauses.CLAUSES, *sorted(set(self.clauses) - set(clauses.CLAUSES))]:
            if self.clauses[name]:
                yield f"  {name:76}{self.clauses[name]:10,}"
        missing = self.never()
        yield f"  never reached: {len(missing)}"
        yield from (f"    {name}" for name in missing)
