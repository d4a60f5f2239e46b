"""Compiled counting of schedules and probabilities over a finished graph, in topological order.

Schedules pass 2^64 soon, so a number of them is several 64-bit limbs, the lowest first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from p2mbatch.compiled.jit import inner_kernel, kernel

Q_READ, Q_WRITTEN = range(2)
COUNTED, COUNT_AGAIN, MORE_LIMBS = range(3)


@kernel
def count_incoming(edges: Any, incoming: Any) -> None:
    """Add to `incoming` (uint32 per state, zeros) the edges that lead to each state."""
    for k in range(edges.size):
        incoming[edges[k]] += np.uint32(1)


@inner_kernel
def add_limbs(paths: Any, target: int, source: int, num_limbs: int) -> bool:
    """Add number `source` of `paths` to number `target`; return whether it still fits."""
    carry = np.uint64(0)
    for k in range(num_limbs):
        before = paths[target * num_limbs + k]
        total = before + paths[source * num_limbs + k]
        over = np.uint64(1) if total < before else np.uint64(0)
        total += carry
        if total < carry:
            over = np.uint64(1)
        paths[target * num_limbs + k] = total
        carry = over
    return carry == np.uint64(0)


@kernel
def count_paths(
    first_edges: Any,
    edges: Any,
    incoming: Any,
    paths: Any,
    chances: Any,
    queue: Any,
    progress: Any,
    num_limbs: int,
    num_states_to_do: int,
) -> int:
    """Pass on paths and chances of about `num_states_to_do` states more, sources first.

    Args:
        first_edges: int64 per state and one more.
        edges: uint32, each edge's successor.
        incoming: uint32 per state, the edges not passed on yet; counted down in place.
        paths: uint64, `num_limbs` a state, the number of paths from the first state; in place.
        chances: float64 per state, the probability of coming by it; in place.
        queue: uint32 per state: the states in topological order; in place.
        progress: int64, Q_READ and Q_WRITTEN in the queue; in place.

    Returns COUNTED, COUNT_AGAIN, or MORE_LIMBS where a number of paths does not fit.
    """
    end_of_call = progress[Q_READ] + num_states_to_do
    while progress[Q_READ] < progress[Q_WRITTEN]:
        if progress[Q_READ] >= end_of_call:
            return COUNT_AGAIN
        here = np.int64(queue[progress[Q_READ]])
        progress[Q_READ] += 1
        first = first_edges[here]
        end = first_edges[here + 1]
        for k in range(first, end):
            there = np.int64(edges[k])
            if not add_limbs(paths, there, here, num_limbs):
                return MORE_LIMBS
            chances[there] += chances[here] / (end - first)
            incoming[there] -= np.uint32(1)
            if incoming[there] == 0:
                queue[progress[Q_WRITTEN]] = there
                progress[Q_WRITTEN] += 1
    return COUNTED


@kernel
def spread_classes(first_edges: Any, edges: Any, queue: Any, masks: Any) -> None:
    """Add to every state's mask those of its successors: which classes can still be reached.

    Args:
        first_edges, edges: as `count_paths` takes them.
        queue: uint32, the states in topological order, as `count_paths` left it.
        masks: uint64 per state, the ends' own class set; in place.
    """
    for k in range(queue.size - 1, -1, -1):
        here = np.int64(queue[k])
        mask = masks[here]
        for edge in range(first_edges[here], first_edges[here + 1]):
            mask |= masks[edges[edge]]
        masks[here] = mask
