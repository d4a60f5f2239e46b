"""What would be left of a race if growing the tree were done under one lock.

Source: docs/races.md, "What was found".
"""

from __future__ import annotations

import numpy as np

from p2mbatch.base.errors import InputError
from p2mbatch.compiled.race import layout as at
from p2mbatch.race.config import Config
from p2mbatch.race.explorer import class_name
from p2mbatch.race.graph import DEFAULT_MAX_BYTES, Array, Graph, Limit, build_graph
from p2mbatch.race.plan import make_plan


def classes_under_one_lock(
    config: Config, *, name: str = "race", max_bytes: int = DEFAULT_MAX_BYTES
) -> frozenset[str]:
    """Return the classes of ends that schedules come to in which growing excludes growing.

    These are the schedules of `config` in which no CPU begins to grow (A1) while another is between
    its A1 and its last step of growing (A18 or sooner): what a lock around that part, whose holder
    is never stopped by the others, would leave. `set_phys_to_machine` and `get_phys_to_machine`
    themselves stay without it.

    Raises `InputError` under TSO, where a lock would also order stores, and `ResourceError` as
    `explore` does.
    """
    if config.memory != "sc":
        raise InputError(f"{name}: memory: {config.memory}: one lock is looked at under sc only")
    graph = build_graph(make_plan(config), Limit(name, max_bytes))
    reached = _reached(graph, _num_growing(graph) <= 1)
    labels = np.unique(graph.labels[reached[graph.ends]])
    return frozenset(class_name(int(bits)) for bits in labels)


def _num_growing(graph: Graph) -> Array:
    """Return for every state how many CPUs are in the midst of growing."""
    row_bytes = graph.rows.view(np.uint8)
    found = np.zeros(graph.num_states, np.int64)
    for who in range(len(graph.plan.config.cpus)):
        block = at.P_BLOCKS + who * at.BLOCK_FIELDS
        steps = row_bytes[:, int(graph.plan.fields[block + at.B_CPU_AT]) + at.C_STEP]
        found += (steps > at.A1) & (steps <= at.A18)
    return found


def _reached(graph: Graph, allowed: Array) -> Array:
    """Return which states are reached from the first through allowed ones only."""
    reached = np.zeros(graph.num_states, np.bool_)
    reached[0] = allowed[0]
    waiting = [0] if reached[0] else []
    while waiting:
        here = waiting.pop()
        for there in graph.edges[graph.first_edges[here] : graph.first_edges[here + 1]].tolist():
            if allowed[there] and not reached[there]:
                reached[there] = True
                waiting.append(there)
    return reached
