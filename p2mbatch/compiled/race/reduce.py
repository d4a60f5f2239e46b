"""The compiled explorer that keeps classes only: safe steps are run at once, dead locals forgotten.

A state here is one in which nobody has a safe step. Its successors are those of the plain explorer,
each followed by all safe steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from p2mbatch.compiled.jit import as_int, inner_kernel, kernel, prefetch
from p2mbatch.compiled.race.explore import copy_row, expand
from p2mbatch.compiled.race.judge import judge
from p2mbatch.compiled.race.layout import (
    A3,
    A5,
    A6,
    A7,
    A8,
    A11F,
    A13,
    A14,
    A15,
    A16,
    A17,
    A18,
    B_CPU_AT,
    C_A,
    C_B,
    C_MID,
    C_OP,
    C_Q,
    C_STEP,
    C_X,
    DEAD_MID,
    DEAD_X,
    FLUSH,
    G2,
    G3,
    J3,
    J4,
    J5,
    J6,
    J8,
    K5,
    K6,
    O2,
    OVER,
    P_CPUS,
    P_ROW_WORDS,
    R_FLAGS,
    R_NEXT,
    S2,
    S3,
    T2,
    T3,
    Z2,
    Z3,
)
from p2mbatch.compiled.race.memory import block_of, flush
from p2mbatch.compiled.race.safe import is_safe_flush, is_safe_step, is_safe_walk
from p2mbatch.compiled.race.steps import run_step
from p2mbatch.compiled.race.table import fill_slot, find, first_slot, hash_words
from p2mbatch.compiled.race.walk import walk_step

# Progress of a reduced exploration.
D_STATES, D_NEXT, D_EDGES, D_ENDS, D_CLASSES = range(5)
REDUCED, REDUCE_AGAIN, REDUCE_MORE_STATES, REDUCE_MORE_CLASSES = range(4)
REDUCE_BLOCK = 64


@inner_kernel
def live_locals(step: int) -> int:
    """Return which locals are still read from `step` on: bits 1 mid, 2 x, 4 q, 8 a, 16 b."""
    if step == S2 or step == G2 or step == T2:
        return 8
    if step == S3 or step == G3 or step == T3 or step == Z2 or step == Z3:
        return 16
    if A3 <= step <= A5 and step != K5 and step != K6:
        return 1
    if step == A6 or step == A8:
        return 1
    if step == A13 or step == O2:
        return 1 | 2 | 8
    if step == A11F:
        return 1 | 2 | 16
    if A7 <= step <= O2:
        return 1 | 2
    if step == A14:
        return 1 | 2 | 16
    if A15 <= step <= A16 and step != J3 and step != J4:
        return 1 | 2 | 4 | 16
    if step == J3 or step == J4:
        return 1 | 2 | 4
    if step == J5 or step == J6 or step == A17:
        return 2 | 4
    if step == J8 or step == A18:
        return 4
    return 0


@inner_kernel
def forget_locals(row: Any, plan: Any, who: int) -> None:
    """Clear what CPU `who` reads no more: states that differ in it only go on alike."""
    cpu = plan[block_of(who) + B_CPU_AT]
    live = live_locals(as_int(row[cpu + C_STEP]))
    if not live & 1:
        row[cpu + C_MID] = 0
        row[cpu + C_OP] &= 255 - DEAD_MID
    if not live & 2:
        row[cpu + C_X] = 0
        row[cpu + C_OP] &= 255 - DEAD_X
    if not live & 4:
        row[cpu + C_Q] = 0
    if not live & 8:
        row[cpu + C_A] = 0
    if not live & 16:
        row[cpu + C_B] = 0


@inner_kernel
def note_move(log: Any, used: int, move: int) -> int:
    """Write a move to `log` as far as there is room; return how many there are."""
    if used < log.size:
        log[used] = move
    return used + 1


@inner_kernel
def settle(row: Any, plan: Any, log: Any) -> int:
    """Run every safe step, in place, until nobody has one or the run is over.

    `log` (int64) gets the moves as far as there is room. Returns how many there were, or a negative
    status.
    """
    used = 0
    going = True
    while going and not as_int(row[R_FLAGS]) & OVER:
        going = False
        for who in range(plan[P_CPUS]):
            while not as_int(row[R_FLAGS]) & OVER:
                if is_safe_flush(row, plan, who):
                    status = flush(row, plan, who)
                    used = note_move(log, used, (who << 16) + (FLUSH << 8))
                elif is_safe_step(row, plan, who):
                    status = run_step(row, plan, who, as_int(row[R_NEXT]))
                    used = note_move(log, used, who << 16)
                else:
                    break
                if status < 0:
                    return status
                forget_locals(row, plan, who)
                going = True
        while not as_int(row[R_FLAGS]) & OVER and is_safe_walk(row, plan):
            walk_step(row, plan)
            used = note_move(log, used, plan[P_CPUS] << 16)
            going = True
    return used


@inner_kernel
def finish_moves(plan: Any, out_bytes: Any, moves: Any, first: int, count: int, log: Any) -> int:
    """Run the safe steps after each of `count` successors; return 0 or a negative status."""
    for k in range(first, first + count):
        who = moves[k] >> 16
        if who < plan[P_CPUS]:
            forget_locals(out_bytes[k], plan, who)
        used = settle(out_bytes[k], plan, log)
        if used < 0:
            return used
    return 0


@kernel
def settle_first(row: Any, plan: Any, log: Any) -> int:
    """Run the safe steps of the first state, in place; see `settle`."""
    for who in range(plan[P_CPUS]):
        forget_locals(row, plan, who)
    return settle(row, plan, log)


@kernel
def explore_classes(
    plan: Any,
    rows: Any,
    table: Any,
    parents: Any,
    out: Any,
    out_bytes: Any,
    moves: Any,
    notes: Any,
    log: Any,
    classes: Any,
    progress: Any,
    num_states_to_expand: int,
) -> int:
    """Expand about `num_states_to_expand` states more; return REDUCED or why to call again.

    Args:
        log: int64, empty: the moves of safe steps are not needed here.
        classes: int64, (classes, 2): the labels of each class met and its first end; in place.
        progress: int64, D_STATES, D_NEXT, D_EDGES, D_ENDS, D_CLASSES; in place.

    The others are `explore`'s.
    """
    words = plan[P_ROW_WORDS]
    room = notes.size // REDUCE_BLOCK
    end_of_call = progress[D_NEXT] + num_states_to_expand
    while progress[D_NEXT] < progress[D_STATES]:
        first = progress[D_NEXT]
        if first >= end_of_call:
            return REDUCE_AGAIN
        end = min(first + REDUCE_BLOCK, progress[D_STATES])
        if progress[D_STATES] + (end - first) * room > parents.size:
            return REDUCE_MORE_STATES
        if progress[D_CLASSES] + (end - first) > classes.shape[0]:
            return REDUCE_MORE_CLASSES
        made = 0
        for number in range(first, end):
            count = expand(rows, number * words, plan, out, out_bytes, moves, made)
            if count < 0:
                return count
            if count == 0:
                copy_row(rows, number * words, out, made * words, words)
                note_end(plan, out_bytes[made], number, classes, progress)
            status = finish_moves(plan, out_bytes, moves, made, count, log)
            if status < 0:
                return status
            for k in range(made, made + count):
                moves[k] = number
                notes[k] = hash_words(out, k * words, words)
                prefetch(table, np.uint64(first_slot(table, notes[k])))
            made += count
        for k in range(made):
            found = find(table, notes[k], rows, out, k * words, words)
            if found < 0:
                number = progress[D_STATES]
                copy_row(out, k * words, rows, number * words, words)
                fill_slot(table, -1 - found, notes[k], number)
                parents[number] = moves[k]
                progress[D_STATES] = number + 1
        progress[D_EDGES] += made
        progress[D_NEXT] = end
    return REDUCED


@inner_kernel
def note_end(plan: Any, row: Any, number: int, classes: Any, progress: Any) -> None:
    """Judge the end `number` and remember it where it is its class's first."""
    progress[D_ENDS] += 1
    labels = judge(row, plan)
    for k in range(progress[D_CLASSES]):
        if classes[k, 0] == labels:
            return
    classes[progress[D_CLASSES], 0] = labels
    classes[progress[D_CLASSES], 1] = number
    progress[D_CLASSES] += 1


@kernel
def settled_successors(
    source: Any, plan: Any, out: Any, out_bytes: Any, moves: Any, logs: Any, num_logged: Any
) -> int:
    """Write the successors of one state, each followed by its safe steps; return how many.

    Args:
        moves: int64, the first move to each.
        logs: int64, (successors, moves): the safe steps after it, in order.
        num_logged: int64: how many of them.
    """
    count = expand(source, 0, plan, out, out_bytes, moves, 0)
    for k in range(count):
        who = moves[k] >> 16
        if who < plan[P_CPUS]:
            forget_locals(out_bytes[k], plan, who)
        num_logged[k] = settle(out_bytes[k], plan, logs[k])
    return count
