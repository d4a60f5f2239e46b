"""Compiled accesses of a state of a race: loads, stores, pages taken and freed.

Every function changes `row`, one state's bytes, in place.
"""

from __future__ import annotations

from typing import Any

from p2mbatch.compiled.jit import as_int, inner_kernel
from p2mbatch.compiled.race.layout import (
    A2,
    A8,
    ANY,
    B_CPU_AT,
    B_FIFO_AT,
    B_FIFO_ROOM,
    B_NUM_OPS,
    B_OPS,
    B_STACK_AT,
    BLOCK_FIELDS,
    C_A,
    C_B,
    C_MID,
    C_OP,
    C_Q,
    C_RESULTS,
    C_STEP,
    C_X,
    DONE,
    ENTRIES,
    FIRST_FRESH,
    G1,
    LEAF_SHIFT,
    MACHINE,
    MOVED,
    NO_ROOM,
    OP_FIELDS,
    OP_KIND,
    OP_PAGE,
    OWN,
    P_ALLOCATOR,
    P_BLOCKS,
    P_FREE_AT,
    P_NAMED,
    P_TAKEN_AT,
    P_TSO,
    PAGE_MASK,
    PLACEHOLDER_WRITE,
    POINTER,
    R_NEXT,
    R_PAGES,
    S1,
    SET,
    TOP_SHIFT,
    WORD_SHIFT,
)


@inner_kernel
def block_of(who: int) -> int:
    """Return where CPU `who`'s block begins in the plan."""
    return P_BLOCKS + who * BLOCK_FIELDS


@inner_kernel
def operation_at(plan: Any, who: int, number: int) -> int:
    """Return where the `number`-th operation of CPU `who` begins in the plan."""
    return block_of(who) + B_OPS + number * OP_FIELDS


@inner_kernel
def is_pointer(word: int) -> bool:
    """Return whether `word` is the address of a page."""
    return (word >> WORD_SHIFT) == 1


@inner_kernel
def is_machine(word: int) -> bool:
    """Return whether `word` is the MFN of a page."""
    return (word >> WORD_SHIFT) == 2


@inner_kernel
def virt_to_mfn(row: Any, page_word: int) -> int:
    """Return the MFN of the page that `page_word` is the address of. Looking it up is no step."""
    return MACHINE + (page_word & PAGE_MASK)


@inner_kernel
def mfn_to_virt(row: Any, word: int) -> int:
    """Return the address of the page that `word` is the MFN of. Looking it up is no step."""
    return POINTER + (word & PAGE_MASK)


@inner_kernel
def place(page_word: int, index: int) -> int:
    """Return where word `index` of the page that `page_word` points to (or is the MFN of) is."""
    return R_PAGES + ENTRIES * (page_word & PAGE_MASK) + index


@inner_kernel
def top_of(pfn: int) -> int:
    """Return the top index of a PFN."""
    return pfn >> TOP_SHIFT


@inner_kernel
def middle_of(pfn: int) -> int:
    """Return the index of a PFN's leaf in its mid page."""
    return (pfn >> LEAF_SHIFT) & (ENTRIES - 1)


@inner_kernel
def index_of(pfn: int) -> int:
    """Return the index of a PFN in its leaf."""
    return pfn & (ENTRIES - 1)


@inner_kernel
def load(row: Any, plan: Any, who: int, at: int) -> int:
    """Return the word at `at` as CPU `who` sees it: its own newest store to it, or memory's."""
    if plan[P_TSO]:
        fifo = plan[block_of(who) + B_FIFO_AT]
        for k in range(as_int(row[fifo]) - 1, -1, -1):
            if row[fifo + 1 + 2 * k] == at:
                return as_int(row[fifo + 2 + 2 * k])
    return as_int(row[at])


@inner_kernel
def put(row: Any, at: int, word: int) -> int:
    """Store `word` in memory at once; PLACEHOLDER_WRITE where that is one of the shared pages."""
    if R_PAGES <= at < R_PAGES + ENTRIES * FIRST_FRESH:
        return PLACEHOLDER_WRITE
    row[at] = word
    return MOVED


@inner_kernel
def store(row: Any, plan: Any, who: int, at: int, word: int) -> int:
    """Store `word` as CPU `who`: at once, or into its store buffer under TSO."""
    if not plan[P_TSO]:
        return put(row, at, word)
    block = block_of(who)
    fifo = plan[block + B_FIFO_AT]
    used = as_int(row[fifo])
    if used >= plan[block + B_FIFO_ROOM]:
        return NO_ROOM
    row[fifo + 1 + 2 * used] = at
    row[fifo + 2 + 2 * used] = word
    row[fifo] = used + 1
    return MOVED


@inner_kernel
def fill(row: Any, plan: Any, who: int, page_word: int, word: int) -> int:
    """Fill a page with `word`, in ascending order where the stores are buffered."""
    for index in range(ENTRIES):
        status = store(row, plan, who, place(page_word, index), word)
        if status != MOVED:
            return status
    return MOVED


@inner_kernel
def num_buffered(row: Any, plan: Any, who: int) -> int:
    """Return how many stores of CPU `who` are still on their way."""
    return as_int(row[plan[block_of(who) + B_FIFO_AT]]) if plan[P_TSO] else 0


@inner_kernel
def flush(row: Any, plan: Any, who: int) -> int:
    """Move the oldest buffered store of CPU `who` to memory."""
    fifo = plan[block_of(who) + B_FIFO_AT]
    used = as_int(row[fifo])
    status = put(row, as_int(row[fifo + 1]), as_int(row[fifo + 2]))
    for k in range(fifo + 1, fifo + 2 * used - 1):
        row[k] = row[k + 2]
    row[fifo + 2 * used - 1] = 0
    row[fifo + 2 * used] = 0
    row[fifo] = used - 1
    return status


@inner_kernel
def is_free(row: Any, plan: Any, page: int) -> bool:
    """Return whether `page` has been freed and not handed out again."""
    if plan[P_ALLOCATOR] == OWN:
        for who in range(plan[0]):
            stack = plan[block_of(who) + B_STACK_AT]
            for k in range(as_int(row[stack])):
                if row[stack + 1 + k] == page:
                    return True
        return False
    return (as_int(row[plan[P_FREE_AT] + (page >> 3)]) >> (page & 7)) & 1 == 1


@inner_kernel
def is_handed_out(row: Any, plan: Any, page: int) -> bool:
    """Return whether `page` was ever taken."""
    if plan[P_NAMED]:
        return (as_int(row[plan[P_TAKEN_AT] + (page >> 3)]) >> (page & 7)) & 1 == 1
    return page < row[R_NEXT]


@inner_kernel
def release(row: Any, plan: Any, who: int, page: int) -> int:
    """Free `page` as CPU `who`."""
    if plan[P_ALLOCATOR] == OWN:
        stack = plan[block_of(who) + B_STACK_AT]
        row[stack] += 1
        row[stack + as_int(row[stack])] = page
    else:
        row[plan[P_FREE_AT] + (page >> 3)] |= 1 << (page & 7)
    return MOVED


@inner_kernel
def take(row: Any, plan: Any, who: int, step: int, page: int) -> int:
    """Take a page as CPU `who` at `step`; return its address.

    `page` is the one to take under the allocator that may hand out any free page.
    """
    if plan[P_NAMED]:
        number = as_int(row[plan[block_of(who) + B_CPU_AT] + C_OP]) >> 2
        role = 0 if step == A2 else (1 if step == A8 else 2)
        page = plan[operation_at(plan, who, number) + OP_PAGE] + role
        row[plan[P_TAKEN_AT] + (page >> 3)] |= 1 << (page & 7)
        return POINTER + page
    if plan[P_ALLOCATOR] == OWN:
        stack = plan[block_of(who) + B_STACK_AT]
        depth = as_int(row[stack])
        if depth:
            page = as_int(row[stack + depth])
            row[stack + depth] = 0
            row[stack] = depth - 1
            return POINTER + page
    if plan[P_ALLOCATOR] == ANY and page != row[R_NEXT]:
        row[plan[P_FREE_AT] + (page >> 3)] &= 255 - (1 << (page & 7))
        return POINTER + page
    page = as_int(row[R_NEXT])
    row[R_NEXT] += 1
    return POINTER + page


@inner_kernel
def finish(row: Any, plan: Any, who: int, result: int) -> int:
    """End CPU `who`'s operation with `result`, clear its locals, and stand before the next one."""
    block = block_of(who)
    cpu = plan[block + B_CPU_AT]
    number = as_int(row[cpu + C_OP]) >> 2
    row[cpu + C_RESULTS + number] = result
    row[cpu + C_MID] = 0
    row[cpu + C_X] = 0
    row[cpu + C_Q] = 0
    row[cpu + C_A] = 0
    row[cpu + C_B] = 0
    number += 1
    row[cpu + C_OP] = number << 2
    if number == plan[block + B_NUM_OPS]:
        row[cpu + C_STEP] = DONE
    else:
        kind = plan[operation_at(plan, who, number) + OP_KIND]
        row[cpu + C_STEP] = S1 if kind == SET else G1
    return MOVED
