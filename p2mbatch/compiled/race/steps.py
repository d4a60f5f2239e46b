"""Compiled steps of one CPU: get, set, and the growth of the tree in each kernel of the race.

Every function runs one atomic step of CPU `who` on `row`, in place, and returns what it came to:
MOVED, BLOCKED (nothing was changed), or a negative status that no right plan can give.

Source: docs/races.md, "Atomic steps"; the kernels' functions are `set_phys_to_machine` and
`alloc_p2m` (mmu.c, then p2m.c), from 3.19 on `xen_alloc_p2m_entry` with `alloc_p2m_pmd`.
"""

from __future__ import annotations

from typing import Any

from p2mbatch.compiled.jit import as_int, inner_kernel
from p2mbatch.compiled.race.layout import (
    A1,
    A2,
    A3,
    A4,
    A5,
    A5R,
    A6,
    A7,
    A8,
    A9,
    A10,
    A11,
    A11F,
    A12,
    A13,
    A14,
    A15,
    A16,
    A17,
    A18,
    B_CPU_AT,
    BLOCKED,
    BUG,
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
    FAULT,
    G1,
    G2,
    G3,
    INVALID,
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
    LEAF_SHIFT,
    MID_MISSING,
    MID_MISSING_MFN,
    MISSING,
    MOVED,
    NEW,
    O1,
    O2,
    OLD,
    OP_PFN,
    OP_VALUE,
    ORIG,
    P_KERNEL,
    P_TAKES_WAIT,
    PAGE_MASK,
    POINTER,
    R_FLAGS,
    R_GENERATION,
    R_LAST,
    R_LOCK,
    R_SHARED_MAX,
    R_TOP,
    R_TOP_MFN,
    R_TOP_MFN_P,
    RELAX,
    RESULT_FALSE,
    RESULT_TRUE,
    S1,
    S2,
    S3,
    T1,
    T2,
    T3,
    UAF_READ,
    UAF_WRITE,
    Z1,
    Z2,
    Z3,
)
from p2mbatch.compiled.race.memory import (
    block_of,
    fill,
    finish,
    index_of,
    is_pointer,
    load,
    mfn_to_virt,
    middle_of,
    num_buffered,
    operation_at,
    place,
    put,
    release,
    store,
    take,
    top_of,
    virt_to_mfn,
)


@inner_kernel
def fault(row: Any) -> int:
    """End the run: a word that is no pointer was gone through. Nothing else changes."""
    row[R_FLAGS] |= FAULT
    return MOVED


@inner_kernel
def load_top(row: Any, plan: Any, who: int, cpu: int, top: int, after: int) -> int:
    """Load p2m_top[top] into the local a."""
    row[cpu + C_A] = load(row, plan, who, R_TOP + top)
    row[cpu + C_STEP] = after
    return MOVED


@inner_kernel
def step_get(row: Any, plan: Any, who: int, cpu: int, step: int, pfn: int) -> int:
    """Run G1, G2 or G3."""
    if step == G1:
        return load_top(row, plan, who, cpu, top_of(pfn), G2)
    reached = as_int(row[cpu + (C_A if step == G2 else C_B)])
    if not is_pointer(reached):
        return fault(row)
    if step == G2:
        row[cpu + C_B] = load(row, plan, who, place(reached, middle_of(pfn)))
        row[cpu + C_STEP] = G3
        return MOVED
    return finish(row, plan, who, load(row, plan, who, place(reached, index_of(pfn))))


@inner_kernel
def step_set(row: Any, plan: Any, who: int, cpu: int, step: int, pfn: int, value: int) -> int:
    """Run S1, S2, S3 or, after growing, T1, T2, T3."""
    if step == S1:
        return load_top(row, plan, who, cpu, top_of(pfn), S2)
    if step == T1:
        return load_top(row, plan, who, cpu, top_of(pfn), T2)
    if step == S2 or step == T2:
        middle = as_int(row[cpu + C_A])
        if not is_pointer(middle):
            return fault(row)
        leaf = load(row, plan, who, place(middle, middle_of(pfn)))
        row[cpu + C_B] = leaf
        row[cpu + C_STEP] = S3 if step == S2 else T3
        if leaf == POINTER + MISSING:
            if step == T2:
                return finish(row, plan, who, RESULT_FALSE)
            if value == INVALID:
                return finish(row, plan, who, RESULT_TRUE)
            row[cpu + C_STEP] = A1
        return MOVED
    leaf = as_int(row[cpu + C_B])
    if not is_pointer(leaf):
        return fault(row)
    status = store(row, plan, who, place(leaf, index_of(pfn)), value)
    if status != MOVED:
        return status
    return finish(row, plan, who, RESULT_TRUE)


@inner_kernel
def step_mid(row: Any, plan: Any, who: int, cpu: int, step: int, top: int, page: int) -> int:
    """Run A1 to A5r: the mid page."""
    kernel = plan[P_KERNEL]
    if step == A1 or step == A5R:
        middle = load(row, plan, who, R_TOP + top)
        row[cpu + C_MID] = middle
        row[cpu + C_A] = middle
        row[cpu + C_STEP] = A2 if step == A1 and middle == POINTER + MID_MISSING else A6
        return MOVED
    if step == A2:
        row[cpu + C_MID] = take(row, plan, who, step, page)
        row[cpu + C_STEP] = A3
        return MOVED
    middle = as_int(row[cpu + C_MID])
    if step == A3:
        row[cpu + C_STEP] = K1 if kernel == NEW else A4
        return fill(row, plan, who, middle, POINTER + MISSING)
    if step == A4:
        if row[R_TOP + top] == POINTER + MID_MISSING:
            row[R_TOP + top] = middle
            row[cpu + C_STEP] = A6
        else:
            row[cpu + C_STEP] = A5
        return MOVED
    # A5: the loser of the cmpxchg frees its page. The kernel as it was goes on using it.
    if kernel == OLD or kernel == ORIG:
        row[cpu + C_OP] |= DEAD_MID
        row[cpu + C_STEP] = A6
    else:
        row[cpu + C_STEP] = A5R
    return release(row, plan, who, middle & PAGE_MASK)


@inner_kernel
def step_list(row: Any, plan: Any, who: int, cpu: int, step: int, top: int, page: int) -> int:
    """Run A6 to A11f: the page of the mfn list."""
    if step == A6:
        row[cpu + C_X] = load(row, plan, who, R_TOP_MFN_P + top)
        row[cpu + C_STEP] = A7
        return MOVED
    tracked = as_int(row[cpu + C_X])
    if step == A7:
        shared = tracked == POINTER + MID_MISSING_MFN
        same = load(row, plan, who, R_TOP_MFN + top) == virt_to_mfn(row, tracked)
        if not same and not (shared and plan[P_KERNEL] == RELAX):
            row[R_FLAGS] |= BUG
        else:
            row[cpu + C_STEP] = A8 if shared else A12
        return MOVED
    if step == A8:
        row[cpu + C_X] = take(row, plan, who, step, page)
        row[cpu + C_STEP] = A9
        return MOVED
    if step == A9:
        row[cpu + C_STEP] = A10
        return fill(row, plan, who, tracked, virt_to_mfn(row, POINTER + MISSING))
    if step == A10:
        found = as_int(row[R_TOP_MFN + top])
        if found == virt_to_mfn(row, POINTER + MID_MISSING_MFN):
            row[R_TOP_MFN + top] = virt_to_mfn(row, tracked)
            row[cpu + C_STEP] = A11
        else:
            row[cpu + C_B] = found
            row[cpu + C_STEP] = A11F
        return MOVED
    row[cpu + C_STEP] = A12
    if step == A11:
        return store(row, plan, who, R_TOP_MFN_P + top, tracked)
    # A11f: as A5.
    if plan[P_KERNEL] == OLD or plan[P_KERNEL] == ORIG:
        row[cpu + C_OP] |= DEAD_X
    else:
        row[cpu + C_X] = mfn_to_virt(row, as_int(row[cpu + C_B]))
    return release(row, plan, who, tracked & PAGE_MASK)


@inner_kernel
def look_for_leaf(row: Any, plan: Any, who: int, cpu: int, step: int, pfn: int) -> int:
    """Run A12, A13, O1 or O2: is there a leaf by now?"""
    kernel = plan[P_KERNEL]
    if kernel != NEW and (step == A12 or step == O1):
        return load_top(row, plan, who, cpu, top_of(pfn), A13 if step == A12 else O2)
    middle = as_int(row[cpu + (C_MID if kernel == NEW else C_A)])
    if not is_pointer(middle):
        return fault(row)
    leaf = load(row, plan, who, place(middle, middle_of(pfn)))
    row[cpu + C_B] = leaf
    if step != O2 and leaf != POINTER + MISSING:
        row[cpu + C_STEP] = Z1 if kernel == NEW else T1
    else:
        row[cpu + C_STEP] = O1 if step == A13 and kernel == ORIG else A14
    return MOVED


@inner_kernel
def step_leaf(row: Any, plan: Any, who: int, cpu: int, step: int, pfn: int, page: int) -> int:
    """Run A14 to A18: the leaf, and its MFN in the list."""
    kernel = plan[P_KERNEL]
    if step == A14:
        row[cpu + C_Q] = take(row, plan, who, step, page)
        row[cpu + C_STEP] = A15
        return MOVED
    leaf = as_int(row[cpu + C_Q])
    if step == A15:
        row[cpu + C_STEP] = J1 if kernel == NEW else A16
        return fill(row, plan, who, leaf, INVALID)
    if step == A18:
        row[cpu + C_STEP] = Z1 if kernel == NEW else T1
        return release(row, plan, who, leaf & PAGE_MASK)
    dead = as_int(row[cpu + C_OP])
    if step == A16:
        middle = as_int(row[cpu + C_MID])
        if not is_pointer(middle):
            return fault(row)
        at = place(middle, middle_of(pfn))
        won = row[at] == row[cpu + C_B]
        if dead & DEAD_MID:
            row[R_FLAGS] |= UAF_WRITE if won else UAF_READ
        row[cpu + C_STEP] = A17 if won else A18
        return put(row, at, leaf) if won else MOVED
    tracked = as_int(row[cpu + C_X])
    if not is_pointer(tracked):
        return fault(row)
    if dead & DEAD_X:
        row[R_FLAGS] |= UAF_WRITE
    row[cpu + C_STEP] = T1
    return store(row, plan, who, place(tracked, middle_of(pfn)), virt_to_mfn(row, leaf))


@inner_kernel
def count_generation(row: Any, plan: Any, who: int, cpu: int, after: int) -> int:
    """Add one to p2m_generation; only the lock's owner does."""
    row[cpu + C_STEP] = after
    return store(row, plan, who, R_GENERATION, load(row, plan, who, R_GENERATION) + 1)


@inner_kernel
def unlock(row: Any, plan: Any, who: int, cpu: int, after: int) -> int:
    """Release p2m_update_lock, a plain store."""
    row[cpu + C_STEP] = after
    return store(row, plan, who, R_LOCK, 0)


@inner_kernel
def step_locked_mid(row: Any, plan: Any, who: int, cpu: int, step: int, top: int) -> int:
    """Run K1 to K8: hang the mid page in under p2m_update_lock."""
    if step == K1:
        if row[R_LOCK]:
            return BLOCKED
        row[R_LOCK] = 1
        row[cpu + C_STEP] = K2
        return MOVED
    if step == K2:
        found = load(row, plan, who, R_TOP + top)
        row[cpu + C_STEP] = K3 if found == POINTER + MID_MISSING else K8
        return MOVED
    if step == K3:
        return count_generation(row, plan, who, cpu, K4)
    if step == K4:
        row[R_TOP + top] = row[cpu + C_MID]
        row[cpu + C_STEP] = K5
        return MOVED
    if step == K5:
        return count_generation(row, plan, who, cpu, K6)
    return unlock(row, plan, who, cpu, A5R if step == K6 else A5)


@inner_kernel
def step_locked_leaf(row: Any, plan: Any, who: int, cpu: int, step: int, entry: int) -> int:
    """Run J1 to J8: hang the leaf in under p2m_update_lock."""
    if step == J1:
        if row[R_LOCK]:
            return BLOCKED
        row[R_LOCK] = 1
        row[cpu + C_STEP] = J2
        return MOVED
    if step == J3:
        return count_generation(row, plan, who, cpu, J4)
    if step == J5:
        return count_generation(row, plan, who, cpu, J6)
    if step == J7 or step == J8:
        return unlock(row, plan, who, cpu, Z1 if step == J7 else A18)
    reached = as_int(row[cpu + (C_X if step == J6 else C_MID)])
    if not is_pointer(reached):
        return fault(row)
    at = place(reached, entry)
    if step == J2:
        row[cpu + C_STEP] = J3 if load(row, plan, who, at) == row[cpu + C_B] else J8
        return MOVED
    if step == J4:
        row[cpu + C_STEP] = J5
        return put(row, at, as_int(row[cpu + C_Q]))
    row[cpu + C_STEP] = J7
    return store(row, plan, who, at, virt_to_mfn(row, as_int(row[cpu + C_Q])))


@inner_kernel
def step_end(row: Any, plan: Any, who: int, cpu: int, step: int, pfn: int) -> int:
    """Run Z1 to Z3: tell the toolstack of a higher end, max_pfn."""
    if step == Z1:
        if pfn >= load(row, plan, who, R_LAST):
            row[cpu + C_B] = ((pfn >> LEAF_SHIFT) + 1) << LEAF_SHIFT
            row[cpu + C_STEP] = Z2
        else:
            row[cpu + C_STEP] = T1
        return MOVED
    row[cpu + C_STEP] = Z3 if step == Z2 else T1
    at = R_LAST if step == Z2 else R_SHARED_MAX
    return store(row, plan, who, at, as_int(row[cpu + C_B]))


@inner_kernel
def is_take(step: int) -> bool:
    """Return whether `step` takes a page."""
    return step == A2 or step == A8 or step == A14


@inner_kernel
def waits_for_stores(plan: Any, step: int) -> bool:
    """Return whether `step` may not run while the CPU's own stores are on their way."""
    if step == A4 or step == A10 or step == A16 or step == K1 or step == J1:
        return True
    if step == K4 or step == J4:
        return True
    if not plan[P_TAKES_WAIT]:
        return False
    return is_take(step) or step == A5 or step == A11F or step == A18


@inner_kernel
def run_step(row: Any, plan: Any, who: int, page: int) -> int:
    """Run the next step of CPU `who` on `row`; `page` is what a step that takes a page takes.

    Returns MOVED, BLOCKED or a negative status. A bug or a fault sets its flag and nothing else.
    """
    cpu = plan[block_of(who) + B_CPU_AT]
    step = as_int(row[cpu + C_STEP])
    if step == DONE:
        return BLOCKED
    if num_buffered(row, plan, who) and waits_for_stores(plan, step):
        return BLOCKED
    operation = operation_at(plan, who, as_int(row[cpu + C_OP]) >> 2)
    pfn = plan[operation + OP_PFN]
    if step <= G3:
        return step_get(row, plan, who, cpu, step, pfn)
    if step <= S2 or step >= T1:
        return step_set(row, plan, who, cpu, step, pfn, plan[operation + OP_VALUE])
    if K1 <= step <= K8:
        return step_locked_mid(row, plan, who, cpu, step, top_of(pfn))
    if step <= A5R:
        return step_mid(row, plan, who, cpu, step, top_of(pfn), page)
    if step <= A11F:
        return step_list(row, plan, who, cpu, step, top_of(pfn), page)
    if step <= O2:
        return look_for_leaf(row, plan, who, cpu, step, pfn)
    if step >= Z1:
        return step_end(row, plan, who, cpu, step, pfn)
    if step == A16 or step == A17 or step == A18 or step <= A15:
        return step_leaf(row, plan, who, cpu, step, pfn, page)
    return step_locked_leaf(row, plan, who, cpu, step, middle_of(pfn))
