"""The whole graph of a race: every state and every edge, found by the compiled explorer.

Source: docs/races.md, "Counting".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from p2mbatch.base.arrays import Float64Array
from p2mbatch.base.errors import ResourceError
from p2mbatch.base.sizes import MIB, format_size
from p2mbatch.compiled.race import count, explore, table
from p2mbatch.compiled.race import layout as at
from p2mbatch.race.plan import Plan

Array = npt.NDArray[Any]
Progress = Callable[[str, int], None]
"""Called now and then with what is being done and how far it is."""

DEFAULT_MAX_BYTES = 8 << 30
_STATES_A_CALL = 50_000
"""About 20 ms: how long a signal waits."""
_SMALLEST = 1 << 10


@dataclass
class Graph:
    """A graph of states, numbered in the order in which they are found; state 0 is the first.

    Attributes:
        rows: uint64, (states, words a state).
        parents: uint32 per state, the state that it was first found from.
        first_edges: int64 per state and one more, where its edges begin.
        edges: uint32, each edge's successor.
        ends, labels: int64, the states without an edge and their labels as bits.
    """

    plan: Plan
    rows: Array
    parents: Array
    first_edges: Array
    edges: Array
    ends: Array = field(default_factory=lambda: np.empty(0, np.int64))
    labels: Array = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def num_states(self) -> int:
        """How many states can be reached, first and last included."""
        return len(self.parents)

    @property
    def num_edges(self) -> int:
        """How many transitions there are."""
        return len(self.edges)

    def path_to(self, state: int) -> list[int]:
        """Return the states from the first to `state` along first-found parents."""
        path = [state]
        while path[-1]:
            path.append(int(self.parents[path[-1]]))
        return path[::-1]


class Limit:
    """What an exploration may use."""

    def __init__(self, name: str, max_bytes: int) -> None:
        self.name = name
        self.max_bytes = max_bytes

    def check(self, num_bytes: int, num_states: int) -> None:
        """Raise `ResourceError` where arrays of `num_bytes` would be too much."""
        if num_bytes > self.max_bytes:
            needed = format_size(-(-num_bytes // MIB) * MIB)
            raise ResourceError(
                f"{self.name}: {num_states:,} states found so far, and going on takes "
                f"{needed} where {format_size(self.max_bytes)} are allowed"
            )


def grown(array: Array, size: int) -> Array:
    """Return `array` with room for `size` entries."""
    longer = np.empty(size, array.dtype)
    longer[: array.size] = array
    return longer


def as_bytes(rows: Array, num_words: int) -> Array:
    """Return the bytes of flat rows, a line a row, as a view."""
    return rows.view(np.uint8).reshape(-1, 8 * num_words)


def table_for(rows: Array, num_states: int, num_words: int, room: int) -> Array:
    """Return a hash table for `room` states that holds the first `num_states`."""
    slots = np.zeros(1 << max(2 * room - 1, 1).bit_length(), np.uint64)
    table.fill_table(slots, rows, num_states, num_words)
    return slots


def check_status(status: int) -> None:
    """Raise where the compiled explorer met what no plan of a configuration can lead to."""
    if status < 0:
        raise AssertionError(f"the plan is wrong: status {status}")


def build_graph(plan: Plan, limit: Limit, progress: Progress | None = None) -> Graph:
    """Return the whole graph of `plan`.

    Raises `ResourceError` where it needs more memory than `limit` allows.
    """
    words, moves = plan.row_words, plan.max_moves
    room = max(_SMALLEST, explore.BLOCK * moves * 2)
    rows = np.empty(room * words, np.uint64)
    rows[:words] = plan.first
    parents, first_edges = np.zeros(room, np.uint32), np.zeros(room + 1, np.int64)
    edges = np.empty(2 * room, np.uint32)
    out = np.empty((explore.BLOCK * moves + 1) * words, np.uint64)
    made = np.empty(explore.BLOCK * moves, np.int64)
    notes = np.empty(explore.BLOCK * moves, np.uint64)
    slots = table_for(rows, 1, words, room)
    state = np.array([1, 0, 0], np.int64)
    while True:
        status = explore.explore(
            plan.fields, rows, slots, parents, first_edges, edges,
            out, as_bytes(out, words), made, notes, state, _STATES_A_CALL,
        )  # fmt: skip
        check_status(status)
        num_states = int(state[explore.G_STATES])
        if progress:
            progress("states", num_states)
        if status == explore.FINISHED:
            break
        if status == explore.MORE_STATES:
            room = 2 * len(parents)
            limit.check(room * (8 * words + 16 + 12) + 4 * edges.size, num_states)
            rows = grown(rows, room * words)
            parents, first_edges = grown(parents, room), grown(first_edges, room + 1)
            del slots
            slots = table_for(rows, num_states, words, room)
        elif status == explore.MORE_EDGES:
            limit.check(room * (8 * words + 16 + 12) + 8 * edges.size, num_states)
            edges = grown(edges, 2 * edges.size)
    graph = Graph(
        plan,
        rows[: num_states * words].reshape(num_states, words),
        parents[:num_states],
        first_edges[: num_states + 1],
        edges[: state[explore.G_EDGES]],
    )
    _judge(graph)
    return graph


def _judge(graph: Graph) -> None:
    """Find the graph's ends and their labels."""
    row_bytes = graph.rows.view(np.uint8)
    num_ends = int(np.count_nonzero(np.diff(graph.first_edges) == 0))
    graph.ends, graph.labels = np.empty(num_ends, np.int64), np.empty(num_ends, np.int64)
    explore.judge_ends(graph.plan.fields, row_bytes, graph.first_edges, graph.ends, graph.labels)


@dataclass
class Counts:
    """What was counted over a graph.

    Attributes:
        schedules: for each of the graph's ends how many schedules end in it: Python integers,
            exact however large.
        chances: float64, beside it: the probability where every step picks evenly.
        order: uint32, the states in topological order.
    """

    schedules: list[int]
    chances: Float64Array
    order: Array


def count_schedules(graph: Graph, limit: Limit, progress: Progress | None = None) -> Counts:
    """Count schedules and probabilities over `graph`."""
    num_limbs = 2
    incoming = np.zeros(graph.num_states, np.uint32)
    count.count_incoming(graph.edges, incoming)
    while True:
        held = graph.rows.nbytes + graph.num_states * (16 + 8 + 8 * num_limbs)
        limit.check(held + 4 * graph.num_edges, graph.num_states)
        found = _count(graph, incoming.copy(), num_limbs, progress)
        if found:
            return found
        num_limbs *= 2


def _count(
    graph: Graph, incoming: Array, num_limbs: int, progress: Progress | None
) -> Counts | None:
    """Count with numbers of `num_limbs` limbs; None where one does not fit."""
    paths = np.zeros(graph.num_states * num_limbs, np.uint64)
    chances = np.zeros(graph.num_states, np.float64)
    queue = np.zeros(graph.num_states, np.uint32)
    paths[0], chances[0] = 1, 1.0
    state = np.array([0, 1], np.int64)
    status = count.COUNT_AGAIN
    while status == count.COUNT_AGAIN:
        status = count.count_paths(
            graph.first_edges, graph.edges, incoming, paths, chances, queue, state,
            num_limbs, _STATES_A_CALL,
        )  # fmt: skip
        if progress:
            progress("counted", int(state[count.Q_READ]))
    if status == count.MORE_LIMBS:
        return None
    if state[count.Q_READ] != graph.num_states:
        raise AssertionError("a race's graph has a cycle")
    limbs = paths.reshape(-1, num_limbs)[graph.ends]
    numbers = [
        sum(int(limb) << 64 * k for k, limb in enumerate(number)) for number in limbs.tolist()
    ]
    return Counts(numbers, chances[graph.ends], queue)


def open_classes(graph: Graph, order: Array, labels: list[int], states: list[int]) -> list[int]:
    """Return for each of `states` which of the classes `labels` can still be reached, as bits.

    Args:
        order: the states in topological order.
        labels: the classes' label bits; bit k of a result stands for labels[k].
        states: state numbers.
    """
    found = [0] * len(states)
    for chunk in range(0, len(labels), 64):
        masks = np.zeros(graph.num_states, np.uint64)
        for k, bits in enumerate(labels[chunk : chunk + 64]):
            masks[graph.ends[graph.labels == bits]] = np.uint64(1 << k)
        count.spread_classes(graph.first_edges, graph.edges, order, masks)
        for place, state in enumerate(states):
            found[place] |= int(masks[state]) << chunk
    return found


def moves_from(plan: Plan, row: Array) -> tuple[Array, Array]:
    """Return the moves that leave a state and the rows that they lead to.

    Returns:
        int64 moves (layout, "A move") and a (moves, words) uint64 array, in the explorer's order.
    """
    words = plan.row_words
    out = np.empty((plan.max_moves + 1) * words, np.uint64)
    moves = np.empty(plan.max_moves, np.int64)
    num = explore.successors(
        np.ascontiguousarray(row), plan.fields, out, as_bytes(out, words), moves
    )
    check_status(num)
    return moves[:num], out[: num * words].reshape(num, words)


def is_over(row: Array) -> bool:
    """Return whether a bug or a fault has ended the run in this state."""
    return bool(row.view(np.uint8)[at.R_FLAGS] & at.OVER)
