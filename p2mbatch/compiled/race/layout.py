"""How a state of a race and the plan of a configuration are laid out in arrays.

A *state* is one row of bytes: the shared words, the pages' words, the allocator's free pages, every
CPU's locals, results and store buffer, the toolstack. Rows are padded to whole 64-bit words, so
that they are hashed and compared a word at a time. Two states are equal when their bytes are.

A *word* of the guest's memory is one byte: a number below 64 as it is, ``POINTER + page`` for the
address of a page, ``MACHINE + page`` for its MFN, ``INVALID`` for INVALID_P2M_ENTRY.

The *plan* is one array of int64 that says where everything is in a row and what the CPUs do.

Source: docs/races.md, "Memory" and "Atomic steps".
"""

from __future__ import annotations

ENTRIES = 2  # words a page, at every level
LEAF_SHIFT, TOP_SHIFT = 1, 2  # PFN to leaf, PFN to top index
PFNS = ENTRIES**3

# Words.
WORD_SHIFT = 6
POINTER = 1 << WORD_SHIFT
MACHINE = 2 << WORD_SHIFT
INVALID = (4 << WORD_SHIFT) - 1
PAGE_MASK = MAX_NUMBER = MAX_PAGES = POINTER - 1

# Pages with names.
MISSING, MID_MISSING, MID_MISSING_MFN = 0, 1, 2
FIRST_FRESH = 3

# Row: flags, the next fresh page, the shared words, the pages' words. The rest is in the plan.
R_FLAGS, R_NEXT, R_TOP, R_TOP_MFN, R_TOP_MFN_P = 0, 1, 2, 4, 6
R_GENERATION, R_LAST, R_SHARED_MAX, R_LOCK, R_PAGES = 8, 9, 10, 11, 12

UAF_READ, UAF_WRITE, BUG, FAULT = 1, 2, 4, 8
OVER = BUG | FAULT

# A CPU's block in the row. The byte C_OP holds 4 * operation + the two marks of dead pages.
C_STEP, C_OP, C_MID, C_X, C_Q, C_A, C_B, C_RESULTS = range(8)
DEAD_MID, DEAD_X = 1, 2
RESULT_TRUE, RESULT_FALSE = 1, 2

# The toolstack's block in the row.
W_STEP, W_MAX, W_GENERATION, W_NUM_FLL, W_NUM_FL, W_FAILED, W_FLL, W_FL = 0, 1, 2, 3, 4, 5, 6, 8
W_BYTES = 12

# Kernels, allocators, toolstacks.
OLD, ORIG, LOSER, RELAX, NEW = range(5)
NEVER, OWN, ANY = range(3)
NO_TOOLSTACK, TREE, LIST = range(3)

# Operations.
GET, SET = 0, 1

# The plan's scalars, then FIRST values of the eight PFNs, then a block a CPU.
(
    P_CPUS,
    P_KERNEL,
    P_ALLOCATOR,
    P_TSO,
    P_TOOLSTACK,
    P_PAGES,
    P_ROW_WORDS,
    P_FREE_AT,
    P_TOOL_AT,
    P_TAKEN_AT,
    P_NAMED,
    P_LAST,
    P_TAKES_WAIT,
    P_FIRST,
) = range(14)
P_BLOCKS = P_FIRST + PFNS
MAX_CPUS = 6
MAX_OPS = 15

# A CPU's block in the plan: where its block, store buffer and stack of freed pages are in the row.
B_CPU_AT, B_FIFO_AT, B_FIFO_ROOM, B_STACK_AT, B_STACK_ROOM, B_NUM_OPS, B_OPS = range(7)
# An operation: kind, PFN, value (a word), the first of its three pages where pages are named by who
# takes them, the conflicts it can make itself and those that later operations can.
OP_KIND, OP_PFN, OP_VALUE, OP_PAGE, OP_OWN, OP_LATER, OP_FIELDS = range(7)
BLOCK_FIELDS = B_OPS + MAX_OPS * OP_FIELDS
# After the blocks: of every page, where pages are named, the PFN of the set that may take it.
P_PAGE_PFN = P_BLOCKS + MAX_CPUS * BLOCK_FIELDS
PLAN_FIELDS = P_PAGE_PFN + MAX_PAGES + 1

# Conflicts: bits of what an operation may still touch, by top index, middle page's entry and PFN.
X_GROW_TOP, X_ANY_TOP, X_GROW_ENTRY, X_ANY_ENTRY = 0, 2, 4, 8
X_SET_PFN, X_ANY_PFN, X_GROW_PFN, X_GROW = 12, 20, 28, 36

# Steps, in the order in which an operation can come by them: no path goes back in this list.
STEP_NAMES = [
    "G1",
    "G2",
    "G3",
    "S1",
    "S2",
    "A1",
    "A2",
    "A3",
    "K1",
    "K2",
    "K3",
    "K4",
    "K5",
    "K6",
    "K8",
    "A4",
    "A5",
    "A5r",
    "A6",
    "A7",
    "A8",
    "A9",
    "A10",
    "A11",
    "A11f",
    "A12",
    "A13",
    "O1",
    "O2",
    "A14",
    "A15",
    "J1",
    "J2",
    "J3",
    "J4",
    "A16",
    "J5",
    "J6",
    "A17",
    "J7",
    "J8",
    "A18",
    "Z1",
    "Z2",
    "Z3",
    "T1",
    "T2",
    "T3",
    "S3",
    "done",
]
(
    G1, G2, G3, S1, S2, A1, A2, A3, K1, K2, K3, K4, K5, K6, K8, A4, A5, A5R, A6, A7, A8, A9, A10,
    A11, A11F, A12, A13, O1, O2, A14, A15, J1, J2, J3, J4, A16, J5, J6, A17, J7, J8, A18, Z1, Z2,
    Z3, T1, T2, T3, S3, DONE,
) = range(50)  # fmt: skip
# A move is who * 2^16 + step * 2^8 + the page taken; the toolstack is the one after the last CPU.
FLUSH = 62
# The toolstack's steps.
WALK_NAMES = ("done", "W0", "WG", "W1", "W2")
W_DONE, W0, WG, W1, W2 = range(5)

# What a step came to.
BLOCKED, MOVED, NO_ROOM, PLACEHOLDER_WRITE = 0, 1, -1, -2

# Labels of an end, as bits; BUG_END, FAULT_END and DEADLOCK stand alone.
LABEL_NAMES = [
    "alias",
    "false",
    "freed-in-tree",
    "leak",
    "list",
    "lost",
    "max",
    "mirror",
    "read",
    "stray",
    "T-abort",
    "T-fail",
    "T-ghost",
    "T-lost",
    "T-misdirected",
    "uaf",
    "wild",
    "bug",
    "fault",
    "deadlock",
]
(
    L_ALIAS, L_FALSE, L_FREED, L_LEAK, L_LIST, L_LOST, L_MAX, L_MIRROR, L_READ, L_STRAY, L_ABORT,
    L_FAIL, L_GHOST, L_T_LOST, L_MISDIRECTED, L_UAF, L_WILD, L_BUG, L_FAULT, L_DEADLOCK,
) = (1 << bit for bit in range(20))  # fmt: skip
