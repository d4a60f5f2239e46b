"""Compiled sampling of a race's schedules: what the explorer visits whole, drawn one by one."""

from __future__ import annotations

from typing import Any

from p2mbatch.compiled.dice import below, throw
from p2mbatch.compiled.jit import kernel
from p2mbatch.compiled.race.explore import copy_row, expand
from p2mbatch.compiled.race.judge import judge
from p2mbatch.compiled.race.layout import P_ROW_WORDS


@kernel
def sample(
    plan: Any,
    first: Any,
    dice: Any,
    key: Any,
    number: int,
    row: Any,
    row_bytes: Any,
    out: Any,
    out_bytes: Any,
    moves: Any,
    labels: Any,
) -> int:
    """Run schedules `number`, `number` + 1, … under `key` and judge their ends.

    Each step is any of the edges that leave the state, all alike: the explorer's probabilities.

    Args:
        plan: int64, the configuration (layout).
        first: uint64, the first state.
        dice, key: uint64[1] for the drawing, uint64.
        row, row_bytes: uint64 (flat) and uint8 (one line) views of a state.
        out, out_bytes, moves: room for all successors of a state, as `expand` takes it.
        labels: int64, gets each end's labels as bits.

    Returns 0, or a negative status that is the plan's fault.
    """
    words = plan[P_ROW_WORDS]
    for k in range(labels.size):
        throw(dice, key, number + k)
        copy_row(first, 0, row, 0, words)
        count = 1
        while count > 0:
            count = expand(row, 0, plan, out, out_bytes, moves, 0)
            if count < 0:
                return count
            if count > 0:
                copy_row(out, below(dice, count) * words, row, 0, words)
        labels[k] = judge(row_bytes[0], plan)
    return 0
