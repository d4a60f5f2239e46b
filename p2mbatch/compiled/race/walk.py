"""Compiled steps of the toolstack: it maps the guest's p2m while the guest's CPUs run.

Source: docs/races.md, "The toolstack"; Xen's `map_p2m_tree` and `map_p2m_list`.
"""

from __future__ import annotations

from typing import Any

from p2mbatch.compiled.jit import as_int, inner_kernel
from p2mbatch.compiled.race.layout import (
    BLOCKED,
    ENTRIES,
    LEAF_SHIFT,
    MOVED,
    NO_TOOLSTACK,
    P_TOOL_AT,
    P_TOOLSTACK,
    R_GENERATION,
    R_SHARED_MAX,
    R_TOP,
    R_TOP_MFN,
    TOP_SHIFT,
    TREE,
    W0,
    W1,
    W2,
    W_DONE,
    W_FAILED,
    W_FL,
    W_FLL,
    W_GENERATION,
    W_MAX,
    W_NUM_FL,
    W_NUM_FLL,
    W_STEP,
    WG,
)
from p2mbatch.compiled.race.memory import index_of, is_machine, is_pointer, place


@inner_kernel
def is_right_kind(plan: Any, word: int) -> bool:
    """Return whether `word` is what this walk follows: MFNs in the tree, tables in the list."""
    return is_machine(word) if plan[P_TOOLSTACK] == TREE else is_pointer(word)


@inner_kernel
def trimmed_max(row: Any, plan: Any, tool: int) -> int:
    """Return max_pfn after the toolstack's trim of equal words at the end of what it has read."""
    top = as_int(row[tool + W_MAX])
    last = as_int(row[tool + W_NUM_FLL]) - 1
    start = last
    while start > 0 and row[tool + W_FLL + start - 1] == row[tool + W_FLL + last]:
        start -= 1
    if plan[P_TOOLSTACK] == TREE or start == last:
        start += 1
    end = start * ENTRIES * ENTRIES - 1
    return end if 0 < end < top else top


@inner_kernel
def read_entry(row: Any, plan: Any, tool: int) -> int:
    """Run W2: read one entry of the frame list through the page found for it."""
    number = as_int(row[tool + W_NUM_FL])
    page = as_int(row[tool + W_FLL + (number >> LEAF_SHIFT)])
    word = 0
    if is_right_kind(plan, page):
        word = as_int(row[place(page, index_of(number))])
    if not is_right_kind(plan, word):
        row[tool + W_FAILED] = 1
        row[tool + W_STEP] = W_DONE
        return MOVED
    row[tool + W_FL + number] = word
    row[tool + W_NUM_FL] = number + 1
    if number == as_int(row[tool + W_MAX]) >> LEAF_SHIFT:
        row[tool + W_STEP] = W_DONE
    return MOVED


@inner_kernel
def walk_step(row: Any, plan: Any) -> int:
    """Run the toolstack's next step on `row`; BLOCKED when its walk is over."""
    if plan[P_TOOLSTACK] == NO_TOOLSTACK:
        return BLOCKED
    tool = plan[P_TOOL_AT]
    step = as_int(row[tool + W_STEP])
    if step == W_DONE:
        return BLOCKED
    if step == W0:
        row[tool + W_MAX] = as_int(row[R_SHARED_MAX]) - 1
        row[tool + W_STEP] = W1 if plan[P_TOOLSTACK] == TREE else WG
        return MOVED
    if step == WG:
        row[tool + W_GENERATION] = row[R_GENERATION]
        row[tool + W_STEP] = W1
        return MOVED
    if step == W2:
        return read_entry(row, plan, tool)
    number = as_int(row[tool + W_NUM_FLL])
    source = R_TOP_MFN if plan[P_TOOLSTACK] == TREE else R_TOP
    row[tool + W_FLL + number] = row[source + number]
    row[tool + W_NUM_FLL] = number + 1
    if number == as_int(row[tool + W_MAX]) >> TOP_SHIFT:
        row[tool + W_MAX] = trimmed_max(row, plan, tool)
        row[tool + W_STEP] = W2
    return MOVED
