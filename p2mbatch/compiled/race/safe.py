"""Which steps need not be interleaved: nobody else can do anything that matters to them.

A step is *safe* in a state when it commutes with every step that the other processes can still
take from there. Running it at once, and nothing else, then leaves out no class of ends: every other
order can be sorted into one that begins with it. (A run that a bug ends before it would also have
been ended after it.) The rules are about words that can change no more, and about what the other
CPUs' operations can still touch; they are cautious, never clever.

Where a freed page can be handed out while a CPU still uses it (a kernel that is not repaired, with
an allocator that reuses pages) a page has no one role, and only the rules about p2m_top,
p2m_top_mfn and p2m_top_mfn_p hold.

Source: docs/races.md, "Reduced exploration".
"""

from __future__ import annotations

from typing import Any

from p2mbatch.compiled.jit import as_int, inner_kernel
from p2mbatch.compiled.race.layout import (
    A1,
    A3,
    A4,
    A5,
    A5R,
    A6,
    A7,
    A9,
    A10,
    A11,
    A11F,
    A12,
    A13,
    A15,
    A16,
    A17,
    A18,
    ANY,
    B_CPU_AT,
    B_FIFO_AT,
    C_A,
    C_B,
    C_MID,
    C_OP,
    C_Q,
    C_STEP,
    C_X,
    DEAD_MID,
    DEAD_X,
    DONE,
    FIRST_FRESH,
    G1,
    G2,
    G3,
    J1,
    J2,
    J3,
    J4,
    J5,
    J6,
    J7,
    J8,
    K1,
    K2,
    K3,
    K4,
    K5,
    K6,
    K8,
    LIST,
    MACHINE,
    MID_MISSING,
    MID_MISSING_MFN,
    MISSING,
    NEW,
    NO_TOOLSTACK,
    O1,
    O2,
    OP_LATER,
    OP_OWN,
    OP_PFN,
    ORIG,
    P_ALLOCATOR,
    P_CPUS,
    P_KERNEL,
    P_LAST,
    P_NAMED,
    P_PAGE_PFN,
    P_TOOL_AT,
    P_TOOLSTACK,
    P_TSO,
    PFNS,
    POINTER,
    R_GENERATION,
    R_LAST,
    R_LOCK,
    R_PAGES,
    R_SHARED_MAX,
    R_TOP,
    R_TOP_MFN,
    R_TOP_MFN_P,
    S1,
    S2,
    S3,
    T1,
    T2,
    T3,
    TREE,
    W0,
    W1,
    W_DONE,
    W_FLL,
    W_NUM_FL,
    W_NUM_FLL,
    W_STEP,
    WG,
    X_ANY_ENTRY,
    X_ANY_PFN,
    X_ANY_TOP,
    X_GROW,
    X_GROW_ENTRY,
    X_GROW_TOP,
    X_SET_PFN,
    Z1,
    Z2,
    Z3,
)
from p2mbatch.compiled.race.memory import block_of, num_buffered, operation_at, place
from p2mbatch.compiled.race.steps import is_take, waits_for_stores

NOBODY = -1


@inner_kernel
def others_may(row: Any, plan: Any, who: int, bit: int, last: int) -> bool:
    """Return whether a CPU other than `who` can still come to what `bit` (layout) stands for.

    `last` is the last step of an operation at which it can. A CPU with stores on their way counts
    with all its operations.
    """
    for other in range(plan[P_CPUS]):
        if other == who:
            continue
        cpu = plan[block_of(other) + B_CPU_AT]
        step = as_int(row[cpu + C_STEP])
        if num_buffered(row, plan, other):
            operation = operation_at(plan, other, 0)
            bits = plan[operation + OP_LATER] | plan[operation + OP_OWN]
        elif step == DONE:
            continue
        else:
            operation = operation_at(plan, other, as_int(row[cpu + C_OP]) >> 2)
            bits = plan[operation + OP_LATER]
            if step <= last:
                bits |= plan[operation + OP_OWN]
        if (bits >> bit) & 1:
            return True
    return False


@inner_kernel
def walk_at(row: Any, plan: Any) -> int:
    """Return the toolstack's step, W_DONE where there is no toolstack."""
    if plan[P_TOOLSTACK] == NO_TOOLSTACK:
        return W_DONE
    return as_int(row[plan[P_TOOL_AT] + W_STEP])


@inner_kernel
def walk_reads_tops(row: Any, plan: Any, toolstack: int) -> bool:
    """Return whether the walk of this kind may still read the words of the highest level."""
    walk = walk_at(row, plan)
    return plan[P_TOOLSTACK] == toolstack and walk != W_DONE and walk <= W1


@inner_kernel
def walk_reads_entries(row: Any, plan: Any, toolstack: int) -> bool:
    """Return whether the walk of this kind may still read the words of the level below."""
    return plan[P_TOOLSTACK] == toolstack and walk_at(row, plan) != W_DONE


@inner_kernel
def walk_reads_generation(row: Any, plan: Any) -> bool:
    """Return whether the toolstack has yet to remember p2m_generation."""
    walk = walk_at(row, plan)
    return plan[P_TOOLSTACK] == LIST and (walk == W0 or walk == WG)


@inner_kernel
def top_is_settled(row: Any, plan: Any, who: int, top: int) -> bool:
    """Return whether p2m_top[top] changes no more, but by `who`: it changes once."""
    if row[R_TOP + top] != POINTER + MID_MISSING:
        return True
    return not others_may(row, plan, who, X_GROW_TOP + top, A4)


@inner_kernel
def entry_is_settled(row: Any, plan: Any, who: int, page_word: int, entry: int) -> bool:
    """Return whether the word of leaf `entry` in a mid page changes no more, but by `who`.

    `orig` can replace a leaf that is there.
    """
    if page_word & 63 < FIRST_FRESH:
        return True
    if not plan[P_NAMED]:
        return False
    if row[place(page_word, entry & 1)] != POINTER + MISSING and plan[P_KERNEL] != ORIG:
        return True
    return not others_may(row, plan, who, X_GROW_ENTRY + entry, A16)


@inner_kernel
def may_hang_in_mid(row: Any, plan: Any, who: int, top: int) -> bool:
    """Return whether nobody minds when p2m_top[top] gets its mid page."""
    if walk_reads_tops(row, plan, LIST):
        return False
    return not others_may(row, plan, who, X_ANY_TOP + top, T1)


@inner_kernel
def may_hang_in_leaf(row: Any, plan: Any, who: int, entry: int) -> bool:
    """Return whether nobody minds when a mid page's entry gets its leaf."""
    if not plan[P_NAMED] or walk_reads_entries(row, plan, LIST):
        return False
    return not others_may(row, plan, who, X_ANY_ENTRY + entry, T2)


@inner_kernel
def may_write_list(row: Any, plan: Any, who: int, entry: int) -> bool:
    """Return whether nobody minds a store of a leaf's MFN into the list's page."""
    if not plan[P_NAMED] or walk_reads_entries(row, plan, TREE):
        return False
    return not others_may(row, plan, who, X_GROW_ENTRY + entry, A17)


@inner_kernel
def may_write_value(row: Any, plan: Any, who: int, pfn: int) -> bool:
    """Return whether nobody minds a store of `pfn`'s value into its leaf."""
    return plan[P_NAMED] and not others_may(row, plan, who, X_ANY_PFN + pfn, S3)


@inner_kernel
def may_raise_shared_max(row: Any, plan: Any, who: int) -> bool:
    """Return whether nobody minds a store to the shared max_pfn."""
    return walk_at(row, plan) != W0 and not others_may(row, plan, who, X_GROW, Z3)


@inner_kernel
def is_safe_list_step(row: Any, plan: Any, who: int, step: int, top: int) -> bool:
    """Return whether A6, A7, A10 or A11 is safe: steps on p2m_top_mfn_p and p2m_top_mfn."""
    if step == A6 and row[R_TOP_MFN_P + top] != POINTER + MID_MISSING_MFN:
        return True
    if step == A6:
        return not others_may(row, plan, who, X_GROW_TOP + top, A11)
    if step == A11:
        return plan[P_TSO] or not others_may(row, plan, who, X_GROW_TOP + top, A6)
    if row[R_TOP_MFN + top] != MACHINE + MID_MISSING_MFN:
        return True
    if step == A10 and walk_reads_tops(row, plan, TREE):
        return False
    return not others_may(row, plan, who, X_GROW_TOP + top, A10)


@inner_kernel
def is_safe_leaf_step(row: Any, plan: Any, who: int, cpu: int, step: int, entry: int) -> bool:
    """Return whether A16, A17, J4 or J6 is safe: the leaf's word and its MFN in the list."""
    dead = as_int(row[cpu + C_OP])
    if step == J4:
        return may_hang_in_leaf(row, plan, who, entry)
    if step == A16:
        if not plan[P_NAMED]:
            return False
        if dead & DEAD_MID:
            return True
        middle = as_int(row[cpu + C_MID])
        if row[place(middle, entry & 1)] != row[cpu + C_B]:
            return entry_is_settled(row, plan, who, middle, entry)
        return may_hang_in_leaf(row, plan, who, entry)
    if plan[P_TSO] or (dead & DEAD_X and plan[P_NAMED]):
        return True
    return may_write_list(row, plan, who, entry)


@inner_kernel
def is_safe_end_step(row: Any, plan: Any, who: int, step: int) -> bool:
    """Return whether Z1, Z2 or Z3 is safe: steps on LAST and the shared max_pfn."""
    if step == Z1:
        # Where LAST begins at the end of all PFNs nobody ever raises it.
        return plan[P_LAST] == PFNS or not others_may(row, plan, who, X_GROW, Z2)
    if plan[P_TSO]:
        return True
    if step == Z2:
        return not others_may(row, plan, who, X_GROW, Z2)
    return may_raise_shared_max(row, plan, who)


@inner_kernel
def is_safe_private_step(row: Any, plan: Any, step: int) -> bool:
    """Return whether a step that is taking, filling, freeing, or done under the lock is safe."""
    if is_take(step) or step == A5 or step == A11F or step == A18:
        return plan[P_ALLOCATOR] != ANY
    if step == A3 or step == A9 or step == A15:
        return plan[P_TSO] or plan[P_ALLOCATOR] != ANY
    if step == K3 or step == K5 or step == J3 or step == J5:
        return plan[P_TSO] or not walk_reads_generation(row, plan)
    return step == K2 or step == J2 or step == K6 or step == K8 or step == J7 or step == J8


@inner_kernel
def is_safe_step(row: Any, plan: Any, who: int) -> bool:
    """Return whether CPU `who`'s next step can run and is safe."""
    cpu = plan[block_of(who) + B_CPU_AT]
    step = as_int(row[cpu + C_STEP])
    if step == DONE or (num_buffered(row, plan, who) and waits_for_stores(plan, step)):
        return False
    pfn = plan[operation_at(plan, who, as_int(row[cpu + C_OP]) >> 2) + OP_PFN]
    top, entry = pfn >> 2, pfn >> 1
    if step == K1 or step == J1:
        return row[R_LOCK] == 0 and not others_may(row, plan, who, X_GROW, J1)
    if step == G1 or step == S1 or step == A1 or step == A5R or step == T1 or step == O1:
        return top_is_settled(row, plan, who, top)
    if step == A12 and plan[P_KERNEL] != NEW:
        return top_is_settled(row, plan, who, top)
    if step == A12:
        return entry_is_settled(row, plan, who, as_int(row[cpu + C_MID]), entry)
    if step == S2 or step == T2 or step == G2 or step == A13 or step == O2:
        return entry_is_settled(row, plan, who, as_int(row[cpu + C_A]), entry)
    if step == G3:
        return plan[P_NAMED] and not others_may(row, plan, who, X_SET_PFN + pfn, S3)
    if step == S3 or step == T3:
        return plan[P_TSO] or may_write_value(row, plan, who, pfn)
    if step == A4:
        if row[R_TOP + top] != POINTER + MID_MISSING:
            return True
        return may_hang_in_mid(row, plan, who, top)
    if step == K4:
        return may_hang_in_mid(row, plan, who, top)
    if step == A6 or step == A7 or step == A10 or step == A11:
        return is_safe_list_step(row, plan, who, step, top)
    if step == A16 or step == A17 or step == J4 or step == J6:
        return is_safe_leaf_step(row, plan, who, cpu, step, entry)
    if Z1 <= step <= Z3:
        return is_safe_end_step(row, plan, who, step)
    return is_safe_private_step(row, plan, step)


@inner_kernel
def is_own_fill(row: Any, cpu: int, page_word: int) -> bool:
    """Return whether the page is one that this CPU has filled and not yet hung in."""
    step = as_int(row[cpu + C_STEP])
    if A3 <= step <= A4:
        return row[cpu + C_MID] == page_word
    if A9 <= step <= A10:
        return row[cpu + C_X] == page_word
    return A15 <= step <= A16 and row[cpu + C_Q] == page_word


@inner_kernel
def is_safe_page_flush(row: Any, plan: Any, who: int, at: int) -> bool:
    """Return whether a buffered store to a page's word may reach memory at once."""
    if not plan[P_NAMED]:
        return False
    page, index = (at - R_PAGES) >> 1, (at - R_PAGES) & 1
    if is_own_fill(row, plan[block_of(who) + B_CPU_AT], POINTER + page):
        return True
    role = (page - FIRST_FRESH) % 3
    pfn = plan[P_PAGE_PFN + page]
    if role == 1:
        return may_write_list(row, plan, who, ((pfn >> 2) << 1) + index)
    return role == 2 and may_write_value(row, plan, who, ((pfn >> 1) << 1) + index)


@inner_kernel
def is_safe_flush(row: Any, plan: Any, who: int) -> bool:
    """Return whether CPU `who` has a buffered store, and the oldest may reach memory at once."""
    if not num_buffered(row, plan, who):
        return False
    at = as_int(row[plan[block_of(who) + B_FIFO_AT] + 1])
    if at >= R_PAGES:
        return is_safe_page_flush(row, plan, who, at)
    if at == R_LOCK:
        return True
    if at == R_GENERATION:
        return not walk_reads_generation(row, plan)
    if at == R_LAST:
        return not others_may(row, plan, who, X_GROW, Z2)
    if at == R_SHARED_MAX:
        return may_raise_shared_max(row, plan, who)
    return not others_may(row, plan, who, X_GROW_TOP + at - R_TOP_MFN_P, A6)


@inner_kernel
def is_safe_walk(row: Any, plan: Any) -> bool:
    """Return whether the toolstack's walk has a next step, and it is safe."""
    walk = walk_at(row, plan)
    if walk == W_DONE:
        return False
    if walk == W0:
        return plan[P_KERNEL] != NEW or not others_may(row, plan, NOBODY, X_GROW, Z3)
    if walk == WG:
        return plan[P_KERNEL] != NEW or not others_may(row, plan, NOBODY, X_GROW, J5)
    tool = plan[P_TOOL_AT]
    if walk == W1:
        top = as_int(row[tool + W_NUM_FLL])
        if plan[P_TOOLSTACK] == LIST:
            return top_is_settled(row, plan, NOBODY, top)
        if row[R_TOP_MFN + top] != MACHINE + MID_MISSING_MFN:
            return True
        return not others_may(row, plan, NOBODY, X_GROW_TOP + top, A10)
    entry = as_int(row[tool + W_NUM_FL])
    page_word = as_int(row[tool + W_FLL + (entry >> 1)])
    if plan[P_TOOLSTACK] == LIST:
        return entry_is_settled(row, plan, NOBODY, page_word, entry)
    if page_word & 63 < FIRST_FRESH:
        return True
    return plan[P_NAMED] and not others_may(row, plan, NOBODY, X_GROW_ENTRY + entry, A17)
