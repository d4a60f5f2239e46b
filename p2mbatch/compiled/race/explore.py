"""The compiled explorer that keeps every state: breadth first, all edges noted.

Successors are made for a block of states at a time and only then looked up, so that the lookups'
cache misses overlap; the order in which states are found stays that of a plain queue.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from p2mbatch.compiled.jit import as_int, inner_kernel, kernel, prefetch
from p2mbatch.compiled.race.judge import judge
from p2mbatch.compiled.race.layout import (
    A2,
    A8,
    ANY,
    B_CPU_AT,
    BLOCKED,
    C_MID,
    C_Q,
    C_STEP,
    C_X,
    FIRST_FRESH,
    FLUSH,
    MOVED,
    NO_TOOLSTACK,
    OVER,
    P_ALLOCATOR,
    P_CPUS,
    P_ROW_WORDS,
    P_TOOL_AT,
    P_TOOLSTACK,
    R_FLAGS,
    R_NEXT,
    W_STEP,
)
from p2mbatch.compiled.race.memory import block_of, flush, is_free, num_buffered
from p2mbatch.compiled.race.steps import is_take, run_step
from p2mbatch.compiled.race.table import fill_slot, find, first_slot, hash_words
from p2mbatch.compiled.race.walk import walk_step

# Progress of an exploration, kept between calls.
G_STATES, G_NEXT, G_EDGES = range(3)
# What a call of `explore` ended with; negative ones are faults of the plan (layout).
FINISHED, AGAIN, MORE_STATES, MORE_EDGES = range(4)
BLOCK = 64


@inner_kernel
def copy_row(source: Any, source_at: int, target: Any, target_at: int, num_words: int) -> None:
    """Copy one state's 64-bit words."""
    for k in range(num_words):
        target[target_at + k] = source[source_at + k]


@inner_kernel
def taken_page(row: Any, cpu: int, step: int) -> int:
    """Return the page that a step just run has taken; 0 where it takes none."""
    if not is_take(step):
        return 0
    return as_int(row[cpu + (C_MID if step == A2 else (C_X if step == A8 else C_Q))]) & 63


@inner_kernel
def expand(
    source: Any, at: int, plan: Any, out: Any, out_bytes: Any, moves: Any, first: int
) -> int:
    """Write every successor of the state at `source[at:]` to the rows of `out` from `first` on.

    `moves[first:]` gets what led to each (layout, "A move").

    The order is the witness's: CPU by CPU, its flush before its own step, pages that a step may
    take ascending with the fresh one last; then the toolstack. Returns how many there are, or a
    negative status.
    """
    words = plan[P_ROW_WORDS]
    count = 0
    copy_row(source, at, out, first * words, words)
    row = out_bytes[first]
    if as_int(row[R_FLAGS]) & OVER:
        return 0
    for who in range(plan[P_CPUS]):
        if num_buffered(row, plan, who):
            status = flush(row, plan, who)
            if status < 0:
                return status
            moves[first + count] = (who << 16) + (FLUSH << 8)
            count += 1
            copy_row(source, at, out, (first + count) * words, words)
            row = out_bytes[first + count]
        cpu = plan[block_of(who) + B_CPU_AT]
        step = as_int(row[cpu + C_STEP])
        fresh = as_int(row[R_NEXT])
        page = FIRST_FRESH if plan[P_ALLOCATOR] == ANY and is_take(step) else fresh
        while page <= fresh:
            if page == fresh or is_free(row, plan, page):
                status = run_step(row, plan, who, page)
                if status < 0:
                    return status
                if status == MOVED:
                    moves[first + count] = (who << 16) + (step << 8) + taken_page(row, cpu, step)
                    count += 1
                    copy_row(source, at, out, (first + count) * words, words)
                    row = out_bytes[first + count]
            page += 1
    if plan[P_TOOLSTACK] != NO_TOOLSTACK:
        step = as_int(row[plan[P_TOOL_AT] + W_STEP])
        if walk_step(row, plan) == MOVED:
            moves[first + count] = (plan[P_CPUS] << 16) + (step << 8)
            count += 1
    return count


@kernel
def successors(source: Any, plan: Any, out: Any, out_bytes: Any, moves: Any) -> int:
    """Write the successors of one state to `out`, in `expand`'s order; return how many.

    `out` (uint64) and `out_bytes` (uint8, a line a row) are views of the same rows, one to
    spare; `moves` (int64) gets what led to each.
    """
    return expand(source, 0, plan, out, out_bytes, moves, 0)


@kernel
def explore(
    plan: Any,
    rows: Any,
    table: Any,
    parents: Any,
    first_edges: Any,
    edges: Any,
    out: Any,
    out_bytes: Any,
    moves: Any,
    notes: Any,
    progress: Any,
    num_states_to_expand: int,
) -> int:
    """Expand about `num_states_to_expand` states more; return FINISHED or why to call again.

    Args:
        plan: int64, the configuration (layout).
        rows: uint64, the states' rows one after the other, in the order of finding.
        table: uint64, the hash table (table).
        parents: uint32 per state, the state it was first found from.
        first_edges: int64 per state and one more: where its edges begin.
        edges: uint32, each edge's successor.
        out, out_bytes: uint64 (flat) and uint8 (rows, bytes) views of the rows for the successors
            of one block of states, with one to spare.
        moves, notes: int64 and uint64, as long as `out` has rows: what led to them, their hashes.
        progress: int64, G_STATES, G_NEXT, G_EDGES; in place.

    Every array is filled in place. MORE_STATES and MORE_EDGES ask for longer arrays; a negative
    status is the plan's fault.
    """
    words = plan[P_ROW_WORDS]
    room = notes.size // BLOCK
    end_of_call = progress[G_NEXT] + num_states_to_expand
    while progress[G_NEXT] < progress[G_STATES]:
        first = progress[G_NEXT]
        if first >= end_of_call:
            return AGAIN
        end = min(first + BLOCK, progress[G_STATES])
        if progress[G_STATES] + (end - first) * room > parents.size:
            return MORE_STATES
        if progress[G_EDGES] + (end - first) * room > edges.size:
            return MORE_EDGES
        made = 0
        for number in range(first, end):
            count = expand(rows, number * words, plan, out, out_bytes, moves, made)
            if count < 0:
                return count
            # Where the edges begin, for now counted from the block's first.
            first_edges[number] = made
            for k in range(made, made + count):
                notes[k] = hash_words(out, k * words, words)
                prefetch(table, np.uint64(first_slot(table, notes[k])))
            made += count
        for k in range(made):
            held = np.int64(table[first_slot(table, notes[k])] & np.uint64(0xFFFF_FFFF))
            prefetch(rows, np.uint64(max(held - 1, 0) * words))
        source = first
        for k in range(made):
            while source + 1 < end and first_edges[source + 1] <= k:
                source += 1
            found = find(table, notes[k], rows, out, k * words, words)
            if found < 0:
                slot = -1 - found
                found = progress[G_STATES]
                copy_row(out, k * words, rows, found * words, words)
                fill_slot(table, slot, notes[k], found)
                parents[found] = source
                progress[G_STATES] = found + 1
            edges[progress[G_EDGES] + k] = found
        for number in range(first, end):
            first_edges[number] += progress[G_EDGES]
        progress[G_EDGES] += made
        first_edges[end] = progress[G_EDGES]
        progress[G_NEXT] = end
    return FINISHED


@kernel
def run_alone(row: Any, plan: Any) -> int:
    """Run CPU 0 alone to its end, taking fresh pages; return MOVED or a negative status."""
    status = MOVED
    while status == MOVED:
        if num_buffered(row, plan, 0):
            status = flush(row, plan, 0)
        else:
            status = run_step(row, plan, 0, as_int(row[R_NEXT]))
    return MOVED if status == BLOCKED else status


@kernel
def judge_ends(plan: Any, rows_bytes: Any, first_edges: Any, ends: Any, labels: Any) -> int:
    """Find the states without an edge and judge them; return how many there are.

    Args:
        rows_bytes: uint8, (states, bytes a row).
        first_edges: int64 per state and one more, as `explore` left them.
        ends: int64, the ends' numbers, ascending; written as far as there is room.
        labels: int64, beside `ends`: their labels as bits.
    """
    count = 0
    for number in range(first_edges.size - 1):
        if first_edges[number] == first_edges[number + 1]:
            if count < ends.size:
                ends[count] = number
                labels[count] = judge(rows_bytes[number], plan)
            count += 1
    return count
