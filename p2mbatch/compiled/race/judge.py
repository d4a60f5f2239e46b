"""Compiled judging of an end of a race: which of the labels hold.

Source: docs/races.md, "How an end is judged".
"""

from __future__ import annotations

from typing import Any

from p2mbatch.compiled.jit import as_int, inner_kernel
from p2mbatch.compiled.race.layout import (
    B_CPU_AT,
    B_NUM_OPS,
    BUG,
    C_RESULTS,
    C_STEP,
    DONE,
    ENTRIES,
    FAULT,
    FIRST_FRESH,
    INVALID,
    L_ABORT,
    L_ALIAS,
    L_BUG,
    L_DEADLOCK,
    L_FAIL,
    L_FALSE,
    L_FAULT,
    L_FREED,
    L_GHOST,
    L_LEAK,
    L_LIST,
    L_LOST,
    L_MAX,
    L_MIRROR,
    L_MISDIRECTED,
    L_READ,
    L_STRAY,
    L_T_LOST,
    L_UAF,
    L_WILD,
    LIST,
    MACHINE,
    NEW,
    NO_TOOLSTACK,
    OP_KIND,
    OP_PFN,
    OP_VALUE,
    P_CPUS,
    P_FIRST,
    P_KERNEL,
    P_PAGES,
    P_TOOL_AT,
    P_TOOLSTACK,
    PFNS,
    POINTER,
    R_FLAGS,
    R_GENERATION,
    R_SHARED_MAX,
    R_TOP,
    R_TOP_MFN,
    R_TOP_MFN_P,
    RESULT_FALSE,
    RESULT_TRUE,
    SET,
    UAF_READ,
    UAF_WRITE,
    W_DONE,
    W_FAILED,
    W_FL,
    W_GENERATION,
    W_MAX,
    W_NUM_FL,
    W_STEP,
)
from p2mbatch.compiled.race.memory import (
    block_of,
    is_free,
    is_handed_out,
    is_machine,
    is_pointer,
    num_buffered,
    operation_at,
    place,
)

NO_LEAF = -1


@inner_kernel
def leaf_word(row: Any, entry: int) -> int:
    """Return the word that leads to leaf `entry` (0 to 3); 0, no pointer, behind a wild one."""
    middle = as_int(row[R_TOP + (entry >> 1)])
    return as_int(row[place(middle, entry & 1)]) if is_pointer(middle) else 0


@inner_kernel
def value_of(row: Any, pfn: int) -> int:
    """Return the word of `pfn`, or NO_LEAF where a word on the way is no pointer."""
    leaf = leaf_word(row, pfn >> 1)
    return as_int(row[place(leaf, pfn & 1)]) if is_pointer(leaf) else NO_LEAF


@inner_kernel
def is_done(row: Any, plan: Any) -> bool:
    """Return whether every CPU is done, every buffer empty and the toolstack's walk over."""
    for who in range(plan[P_CPUS]):
        if row[plan[block_of(who) + B_CPU_AT] + C_STEP] != DONE or num_buffered(row, plan, who):
            return False
    return plan[P_TOOLSTACK] == NO_TOOLSTACK or row[plan[P_TOOL_AT] + W_STEP] == W_DONE


@inner_kernel
def result_of(row: Any, plan: Any, who: int, number: int) -> int:
    """Return the result of CPU `who`'s operation `number`."""
    return as_int(row[plan[block_of(who) + B_CPU_AT] + C_RESULTS + number])


@inner_kernel
def last_true_value(row: Any, plan: Any, who: int, pfn: int, before: int) -> int:
    """Return what CPU `who`'s last true set of `pfn` before `before` wrote, or NO_LEAF."""
    value = NO_LEAF
    for number in range(before):
        operation = operation_at(plan, who, number)
        if plan[operation + OP_KIND] == SET and plan[operation + OP_PFN] == pfn:
            if result_of(row, plan, who, number) == RESULT_TRUE:
                value = plan[operation + OP_VALUE]
    return value


@inner_kernel
def judge_values(row: Any, plan: Any) -> int:
    """Return the labels about PFNs' values: lost, stray, wild, max."""
    labels = 0
    highest = -1
    for pfn in range(PFNS):
        value = value_of(row, pfn)
        if value == NO_LEAF:
            labels |= L_WILD
            continue
        if value != INVALID:
            highest = pfn
        was_set = False
        held = False
        for who in range(plan[P_CPUS]):
            last = last_true_value(row, plan, who, pfn, plan[block_of(who) + B_NUM_OPS])
            was_set = was_set or last != NO_LEAF
            held = held or last == value
        if was_set:
            if not held:
                labels |= L_LOST
        elif value != plan[P_FIRST + pfn]:
            labels |= L_STRAY
    if plan[P_KERNEL] == NEW and row[R_SHARED_MAX] <= highest:
        labels |= L_MAX
    return labels


@inner_kernel
def num_roles(row: Any, page: int) -> int:
    """Return in how many roles `page` can be reached: mid, leaf, page of the list."""
    roles = 0
    for top in range(ENTRIES):
        if row[R_TOP + top] == POINTER + page:
            roles += 1
        for entry in range(2 * top, 2 * top + 2):
            if leaf_word(row, entry) == POINTER + page:
                roles += 1
        if row[R_TOP_MFN + top] == MACHINE + page or row[R_TOP_MFN_P + top] == POINTER + page:
            roles += 1
    return roles


@inner_kernel
def judge_pages(row: Any, plan: Any) -> int:
    """Return the labels about pages: leak, freed-in-tree, alias."""
    labels = 0
    for page in range(FIRST_FRESH, plan[P_PAGES]):
        roles = num_roles(row, page)
        if roles > 1:
            labels |= L_ALIAS
        if is_handed_out(row, plan, page):
            if is_free(row, plan, page):
                if roles:
                    labels |= L_FREED
            elif not roles:
                labels |= L_LEAK
    return labels


@inner_kernel
def judge_list(row: Any) -> int:
    """Return the labels about the mfn list: list, mirror."""
    labels = 0
    for top in range(ENTRIES):
        found = as_int(row[R_TOP_MFN + top])
        mirror = as_int(row[R_TOP_MFN_P + top])
        if not is_pointer(mirror) or found != MACHINE + (mirror & 63):
            labels |= L_MIRROR
        if not is_machine(found):
            continue
        for entry in range(2 * top, 2 * top + 2):
            leaf = leaf_word(row, entry)
            if is_pointer(leaf) and row[place(found, entry & 1)] != MACHINE + (leaf & 63):
                labels |= L_LIST
    return labels


@inner_kernel
def another_sets(plan: Any, who: int, pfn: int, value: int) -> bool:
    """Return whether a CPU other than `who` sets `pfn` to `value`."""
    for other in range(plan[P_CPUS]):
        if other == who:
            continue
        for number in range(plan[block_of(other) + B_NUM_OPS]):
            operation = operation_at(plan, other, number)
            if plan[operation + OP_KIND] == SET and plan[operation + OP_PFN] == pfn:
                if plan[operation + OP_VALUE] == value:
                    return True
    return False


@inner_kernel
def judge_results(row: Any, plan: Any) -> int:
    """Return the labels about what operations returned: false, read."""
    labels = 0
    for who in range(plan[P_CPUS]):
        for number in range(plan[block_of(who) + B_NUM_OPS]):
            operation = operation_at(plan, who, number)
            result = result_of(row, plan, who, number)
            pfn = plan[operation + OP_PFN]
            if plan[operation + OP_KIND] == SET:
                if result == RESULT_FALSE:
                    labels |= L_FALSE
                continue
            own = last_true_value(row, plan, who, pfn, number)
            if own == NO_LEAF:
                own = plan[P_FIRST + pfn]
            if result != own and not another_sets(plan, who, pfn, result):
                labels |= L_READ
    return labels


@inner_kernel
def judge_walk(row: Any, plan: Any) -> int:
    """Return the labels about what the toolstack found."""
    tool = plan[P_TOOL_AT]
    if row[tool + W_FAILED]:
        return L_FAIL
    if plan[P_TOOLSTACK] == LIST and row[tool + W_GENERATION] != row[R_GENERATION]:
        return L_ABORT
    labels = 0
    for pfn in range(PFNS):
        value = value_of(row, pfn)
        if value == NO_LEAF:
            continue
        seen = INVALID
        if pfn <= row[tool + W_MAX]:
            seen = as_int(row[place(as_int(row[tool + W_FL + (pfn >> 1)]), pfn & 1)])
        if value != INVALID and seen != value:
            labels |= L_T_LOST
        if value == INVALID and seen != INVALID:
            labels |= L_GHOST
    for entry in range(as_int(row[tool + W_NUM_FL])):
        leaf = leaf_word(row, entry)
        if not is_pointer(leaf) or (leaf & 63) != (as_int(row[tool + W_FL + entry]) & 63):
            labels |= L_MISDIRECTED
    return labels


@inner_kernel
def judge(row: Any, plan: Any) -> int:
    """Return the labels of an end as bits; 0 is ok."""
    flags = as_int(row[R_FLAGS])
    if flags & BUG:
        return L_BUG
    if flags & FAULT:
        return L_FAULT
    if not is_done(row, plan):
        return L_DEADLOCK
    labels = judge_values(row, plan) | judge_pages(row, plan) | judge_list(row)
    labels |= judge_results(row, plan)
    if flags & (UAF_READ | UAF_WRITE):
        labels |= L_UAF
    if plan[P_TOOLSTACK] != NO_TOOLSTACK:
        labels |= judge_walk(row, plan)
    return labels
