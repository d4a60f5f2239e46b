"""Exploring a configuration: classes of ends, how many schedules lead there, shortest witnesses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from p2mbatch.base.errors import InputError
from p2mbatch.compiled.race import layout as at
from p2mbatch.race.config import Config
from p2mbatch.race.graph import (
    DEFAULT_MAX_BYTES,
    Counts,
    Graph,
    Limit,
    Progress,
    build_graph,
    count_schedules,
    is_over,
    moves_from,
    open_classes,
)
from p2mbatch.race.plan import Plan, make_plan


@dataclass(frozen=True)
class Step:
    """One step of a schedule.

    Attributes:
        process: the CPU's number; the toolstack's is the number of CPUs.
        name: the step (docs/races.md), or "flush".
        page: the page that A2, A8 or A14 takes, else None.
        ends_run: whether it is the bug or the fault that ends the run.
    """

    process: int
    name: str
    page: int | None = None
    ends_run: bool = False

    def __str__(self) -> str:
        page = "" if self.page is None else f"={self.page}"
        return f"{self.process}:{self.name}{page}{'!' if self.ends_run else ''}"


@dataclass(frozen=True)
class EndClass:
    """One class of ends.

    Attributes:
        name: its labels joined by +, or "ok".
        witness: a schedule that ends so: the shortest where `counted`.
        schedules, probability: None where a reduced exploration did not count them.
        num_states: the distinct end states; None likewise.
        still_open: for the state before the witness's first step and after each of its steps, the
            classes that can still be reached; None likewise.
    """

    name: str
    witness: tuple[Step, ...]
    schedules: int | None = None
    probability: float | None = None
    num_states: int | None = None
    still_open: tuple[frozenset[str], ...] | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels; none for ok."""
        return () if self.name == "ok" else tuple(self.name.split("+"))

    def to_json(self) -> dict[str, Any]:
        """Return it with the keys of the results' files; null is "not counted"."""
        counted = self.schedules is not None
        return {
            "schedules": self.schedules,
            "states": self.num_states,
            "witness_len": len(self.witness) if counted else None,
            "probability": None if self.probability is None else round(self.probability, 6),
            "witness": " ".join(map(str, self.witness)),
        }


@dataclass(frozen=True)
class Exploration:
    """What a configuration can end in.

    Attributes:
        num_states, num_transitions, num_ends: of the graph that was explored.
        schedules: the number of all schedules; None where a reduced exploration did not count.
        classes: by name.
        reduced: whether only classes are sure to be those of the whole graph.
    """

    config: Config
    num_states: int
    num_transitions: int | None
    num_ends: int
    schedules: int | None
    classes: dict[str, EndClass]
    reduced: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return it with the keys of the results' files; null is "not counted"."""
        return {
            "states": None if self.reduced else self.num_states,
            "transitions": None if self.reduced else self.num_transitions,
            "terminal_states": None if self.reduced else self.num_ends,
            "schedules": self.schedules,
            "classes": {name: found.to_json() for name, found in self.classes.items()},
            "config": self.config.to_json(),
        }


def explore(
    config: Config,
    *,
    name: str = "race",
    max_bytes: int = DEFAULT_MAX_BYTES,
    progress: Progress | None = None,
) -> Exploration:
    """Visit every interleaving of `config` and return what it can end in, counted.

    Args:
        name: what the configuration is called in complaints.
        max_bytes: memory for the states' arrays.
        progress: called now and then with what is being done and how far it is.

    Raises `ResourceError` where the graph does not fit into `max_bytes`.
    """
    limit = Limit(name, max_bytes)
    graph = build_graph(make_plan(config), limit, progress)
    counts = count_schedules(graph, limit, progress)
    groups = [(int(bits), np.flatnonzero(graph.labels == bits)) for bits in np.unique(graph.labels)]
    paths = [graph.path_to(int(graph.ends[members[0]])) for _, members in groups]
    still_open = _still_open(graph, counts, [bits for bits, _ in groups], paths)
    classes = {}
    for (labels, members), path, sets in zip(groups, paths, still_open, strict=True):
        end_name = class_name(labels)
        classes[end_name] = EndClass(
            name=end_name,
            witness=witness_of(graph, path),
            schedules=sum(counts.schedules[k] for k in members),
            probability=float(counts.chances[members].sum()),
            num_states=len(members),
            still_open=sets,
        )
    return Exploration(
        config=config,
        num_states=graph.num_states,
        num_transitions=graph.num_edges,
        num_ends=len(graph.ends),
        schedules=sum(counts.schedules),
        classes=dict(sorted(classes.items())),
    )


def _still_open(
    graph: Graph, counts: Counts, labels: list[int], paths: list[list[int]]
) -> list[tuple[frozenset[str], ...]]:
    """Return for every state of every path the classes that can still be reached from it."""
    names = [class_name(bits) for bits in labels]
    flat = [state for path in paths for state in path]
    masks = iter(open_classes(graph, counts.order, labels, flat))
    return [
        tuple(
            frozenset(name for k, name in enumerate(names) if mask >> k & 1)
            for _, mask in zip(path, masks, strict=False)
        )
        for path in paths
    ]


def class_name(labels: int) -> str:
    """Return the name of the class of ends with these label bits."""
    names = [name for bit, name in enumerate(at.LABEL_NAMES) if labels >> bit & 1]
    return "+".join(sorted(names)) or "ok"


def step_of(plan: Plan, move: int, row: Any) -> Step:
    """Return the step that `move` (layout, "A move") is, `row` being the state that it leads to."""
    process, code, page = move >> 16, move >> 8 & 255, move & 255
    if process == len(plan.config.cpus):
        return Step(process, at.WALK_NAMES[code])
    if code == at.FLUSH:
        return Step(process, "flush")
    name = at.STEP_NAMES[code]
    taken = page if name in ("A2", "A8", "A14") else None
    return Step(process, name, taken, is_over(row))


def witness_of(graph: Graph, path: list[int]) -> tuple[Step, ...]:
    """Return the steps along a path of states."""
    return tuple(_step_between(graph, a, b) for a, b in pairwise(path))


def _step_between(graph: Graph, source: int, target: int) -> Step:
    moves, rows = moves_from(graph.plan, graph.rows[source])
    for move, row in zip(moves.tolist(), rows, strict=True):
        if np.array_equal(row, graph.rows[target]):
            return step_of(graph.plan, move, row)
    raise AssertionError("a state is no successor of its parent")


def follow(plan: Plan, steps: Iterable[Step]) -> list[Any]:
    """Return the states' words along `steps`, the first state included.

    Raises `InputError` where a step can not be taken there.
    """
    rows = [plan.first]
    for number, wanted in enumerate(steps):
        moves, after = moves_from(plan, rows[-1])
        for move, row in zip(moves.tolist(), after, strict=True):
            if step_of(plan, move, row) == wanted:
                rows.append(row)
                break
        else:
            raise InputError(f"step {number + 1} of the schedule, {wanted}, can't be taken there")
    return rows


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> Sequence[str]:
    """Return a line for each result in `wanted` that `found` has otherwise.

    What was not counted (null in `found`) is not compared, nor is the wording of "config".
    """
    lines = []
    for key in ("states", "transitions", "terminal_states", "schedules"):
        if key in wanted and found[key] is not None and found[key] != wanted[key]:
            lines.append(f"{key}: {wanted[key]} is expected, here it is {found[key]}")
    expected = wanted.get("classes", found["classes"])
    for name in sorted({*found["classes"], *expected}):
        if name not in found["classes"] or name not in expected:
            here = name in found["classes"]
            lines.append(
                f"class {name}: {'not expected, but it' if here else 'expected, but it can not'}"
                f"{' can' if here else ''} be reached"
            )
            continue
        for key, value in expected[name].items():
            got = found["classes"][name].get(key)
            if got is not None and got != value and found["states"] is not None:
                lines.append(f"class {name}: {key}: {value} is expected, here it is {got}")
    return lines
