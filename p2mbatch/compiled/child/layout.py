"""What a parent and a child of its share: the control block, word by word (`kernels/shim`).

The shim's `layout.h` is made of this file (`c_header`), so that both say the same. All words are
64 bits wide in either width of guest. The child may write anywhere in it: what is read from it is
checked before it is used as an index.
"""

from __future__ import annotations

from typing import Final

WORDS: Final = (
    "OP", "ANSWER", "STATUS", "PC", "ADDRESS", "TEXT", "LOG", "CALL", "ASKED", "RESULT", "FROM",
    "COUNT", "PARENT", "TICKS", "FILTERED", "WARNINGS",
    # Of the guest.
    "RANGE", "VA_BASE", "VA_MASK", "IMAGE_MAP", "DIRECTMAP", "NR_PAGES", "MAX_PFN",
    "XEN_MAX", "MFN_LIST", "BRK", "BRK_PAGES", "BRK_USED", "BRK_CLOSED", "POOL_RUNS",
    "POOL_USED", "POOL_CUT", "ALLOCS", "FAIL_AT", "SHARED_FLL", "SHARED_MAX", "LAZY_FIRST",
    "LAZY_COUNT",
    # How much of each area is filled.
    "PAGES", "TOUCHED", "M2P",
    # Of an era's guest. ERA is 1 where its entries have marks, MARKS where boot marks ranges.
    "ERA", "MARKS", "LATE_LIST", "BOOT_RUNS", "BOOT_USED", "MARKED", "MARKED_PAGES", "FLAGS",
    "EXTRA", "PEEKED", "VADDR", "AREA_BYTES", "PGD", "HOTPLUG", "SHARED_CR3", "SHARED_VADDR",
    "GENERATION", "HINT",
    # Where the user's variables are that the model knows too.
    "KNOWN",
)  # fmt: skip
"""The words at the block's beginning. CALL is another number at each call; ASKED and RESULT are a
question of the child's and its answer; LAZY_FIRST and LAZY_COUNT are the pages some of which have
no words yet, MADE which of them have."""

(
    C_OP, C_ANSWER, C_STATUS, C_PC, C_ADDRESS, C_TEXT, C_LOG, C_CALL, C_ASKED, C_RESULT, C_FROM,
    C_COUNT, C_PARENT, C_TICKS, C_FILTERED, C_WARNINGS,
    C_RANGE, C_VA_BASE, C_VA_MASK, C_IMAGE_MAP, C_DIRECTMAP, C_NR_PAGES, C_MAX_PFN,
    C_XEN_MAX, C_MFN_LIST, C_BRK, C_BRK_PAGES, C_BRK_USED, C_BRK_CLOSED, C_POOL_RUNS,
    C_POOL_USED, C_POOL_CUT, C_ALLOCS, C_FAIL_AT, C_SHARED_FLL, C_SHARED_MAX, C_LAZY_FIRST,
    C_LAZY_COUNT,
    C_PAGES, C_TOUCHED, C_M2P,
    C_ERA, C_MARKS, C_LATE_LIST, C_BOOT_RUNS, C_BOOT_USED, C_MARKED, C_MARKED_PAGES, C_FLAGS,
    C_EXTRA, C_PEEKED, C_VADDR, C_AREA_BYTES, C_PGD, C_HOTPLUG, C_SHARED_CR3, C_SHARED_VADDR,
    C_GENERATION, C_HINT,
    C_KNOWN,
) = range(len(WORDS))  # fmt: skip

MAX_SECONDS: Final = 10
"""What one call may take: of the processor's time in the child, and where it fills its log again
and again in all."""

MORE_KNOWN: Final = ("p2m_identity", "p2m_mid_identity", "p2m_missing_pte", "p2m_identity_pte")
"""Pointers of the eras' that the model knows too."""

KNOWN_POINTERS: Final = 6 + len(MORE_KNOWN)
"""Words from C_KNOWN on: addresses of `own.vocabulary.KNOWN`'s pointers, in that order, and of
MORE_KNOWN's."""

KNOWN_TOP_MFN: Final = 5

OPS: Final = ("GO_ON", "BOOT", "RESUME", "REPORT", "SET", "GROW", "GET")

OP_GO_ON, OP_BOOT, OP_RESUME, OP_REPORT, OP_SET, OP_GROW, OP_GET = range(len(OPS))

ANSWERS: Final = ("DONE", "MORE_LOG", "M2P", "PAGE")

ANSWER_DONE, ANSWER_MORE_LOG, ANSWER_M2P, ANSWER_PAGE = range(len(ANSWERS))

STATUSES: Final = (
    "OK", "BUG", "BRK", "FAULT", "DIVIDE", "ILLEGAL", "STACK", "LOOP", "SYSCALL", "POOL", "PAGES",
    "AREA", "BOOTMEM", "MEMORY",
)  # fmt: skip
"""How a call ended. From DIVIDE on there is nothing like it on a real machine, or no guest
that lives on; but BOOTMEM and MEMORY: no page of the boot allocator is left, or none at all."""

(
    S_OK, S_BUG, S_BRK, S_FAULT, S_DIVIDE, S_ILLEGAL, S_STACK, S_LOOP, S_SYSCALL, S_POOL, S_PAGES,
    S_AREA, S_BOOTMEM, S_MEMORY,
) = range(len(STATUSES))  # fmt: skip

ENTRIES: Final = (
    "STORE", "FOUND", "BRK", "ALLOC", "FREE", "STATIC", "BOOT_PAGES", "COPY", "EXTRA",
    "SET", "GROW", "DONE", "PHASE",
)  # fmt: skip
"""What an entry of the log tells, in the lower 8 bits of its first word; above them is where in the
program. STORE: address, word, PFN + 1 whose MFN it is or 0, number of words, what each word is more
than the one before, what each PFN is. FOUND: `mfn_to_virt` of MFN, its answer, the index of
`p2m_top_mfn` that MFN was read from or -1. BRK: page, how many in all or 0. ALLOC: page. FREE:
address. BOOT_PAGES: first page of the boot allocator's, how many; 0: it was a page of the pool's,
after boot. COPY: address of a page, of that which was copied there. EXTRA: first PFN of a leaf that
all became extra memory. STATIC: which known
pointer, its value. SET: PFN, value. GROW: PFN. DONE: what the function answered. PHASE: the next
part of the call begins."""

(
    E_STORE, E_FOUND, E_BRK, E_ALLOC, E_FREE, E_STATIC, E_BOOT_PAGES, E_COPY, E_EXTRA,
    E_SET, E_GROW, E_DONE, E_PHASE,
) = range(len(ENTRIES))  # fmt: skip

ENTRY_WORDS: Final = 7
LOG_ENTRIES: Final = 1 << 14
"""Not more, so that what one turn of the log can hit stays within what a guest has room for."""

MAX_RUNS: Final = 1 << 12
"""Runs of a set, or PFNs of a lookup or a growth times 3, that one call takes."""

MAX_POOL_RUNS: Final = 1 << 10
MAX_M2P: Final = 1 << 10
MAX_BOOT_RUNS: Final = 1 << 10
"""Runs of the boot allocator's pages, of 1:1 ranges, of extra memory, each."""
TOUCHED_PAGES: Final = 1 << 19
"""Pages that a guest may come to have words in."""

MADE_PAGES: Final = 1 << 28
"""Pages of the largest direct map."""

NUM_ARRAYS: Final = 4
"""Static arrays of a p2m of two levels, in the order of `ARRAYS`."""

_AREAS: Final = (
    ("RUNS", 3 * MAX_RUNS),
    ("POOL", 2 * MAX_POOL_RUNS),
    ("M2P", 2 * MAX_M2P),
    ("BOOT", 2 * MAX_BOOT_RUNS),
    ("MARKED", 2 * MAX_BOOT_RUNS),
    ("EXTRA", 2 * MAX_BOOT_RUNS),
    ("LOG", LOG_ENTRIES * ENTRY_WORDS),
    ("PAGES", TOUCHED_PAGES),
    ("TOUCHED", TOUCHED_PAGES),
    ("MADE", MADE_PAGES // 64),
    ("ARRAYS", 4 * NUM_ARRAYS),
)

HEADER: Final = 128
"""Words before the first area."""


def _places() -> dict[str, int]:
    found, at = {}, HEADER
    for name, words in _AREAS:
        found[name] = at
        at += words
    return found | {"end": at}


AREAS: Final = _places()

A_RUNS: Final = AREAS["RUNS"]
A_POOL: Final = AREAS["POOL"]
A_M2P: Final = AREAS["M2P"]
A_BOOT: Final = AREAS["BOOT"]
A_MARKED: Final = AREAS["MARKED"]
A_EXTRA: Final = AREAS["EXTRA"]
A_LOG: Final = AREAS["LOG"]
A_PAGES: Final = AREAS["PAGES"]
A_TOUCHED: Final = AREAS["TOUCHED"]
A_MADE: Final = AREAS["MADE"]
A_ARRAYS: Final = AREAS["ARRAYS"]

CONTROL_WORDS: Final = -(-AREAS["end"] // 512) * 512

DIRECT: Final = 0x100000000000
IMAGE: Final = 0x300000000000
FLAT: Final = 0x400000000000
"""Where a 64-bit child has its direct map, its kernel image map and its flat p2m (`machine.h`)."""

MAX_FLAT_BYTES: Final = 1 << 36

STACK_BYTES: Final = 1 << 18
TICK_MICROSECONDS: Final = 250_000
"""Of the processor's time, after each of which a call is looked at."""

(
    CHILD_REQUEST, CHILD_ANSWER, CHILD_CONTROL, CHILD_MEMORY, CHILD_RANGE, CHILD_ASKS, CHILD_STOP,
    CHILD_LOST, CHILD_FLAVOR, CHILD_NO_MEMORY, CHILD_STATICS, CHILD_ARRAY,
) = range(12)  # fmt: skip
"""Words of what the parent alone has of a child: two descriptors, two addresses, the bytes of the
guest's memory that it can hold, whether its kernel reads m2p, the address of the word that stops a
batch or 0, 1 where nothing can be asked of it any more, what kind of era its kernel is of, where
the program has the text of the BUG that says that there is no memory, where its static arrays
begin, and from CHILD_ARRAY on where each of them is."""

F_MARKS, F_MID_IDENTITY, F_LATE_LIST, F_ROUNDS, F_REPORTS = (1 << k for k in range(5))
"""Bits of CHILD_FLAVOR: boot marks 1:1 ranges; there is a `p2m_mid_identity`; the list comes last;
a linear p2m's hint is rounded up; its table is reported."""

R_CHILD, R_AT, R_LENGTH, R_OPEN, R_NOTED, R_BUILDS, R_BITS, R_DOING, R_SINCE = range(55, 64)
"""Registers of `P2MTables.statics` beside those of `own/registers`: the address of the child's
words above; the next entry of the log and how many there are; the request that is being answered,
0 for none; slots whose pages the child knows; 1 while the p2m itself is built; the guest's width;
the last request, and when it began, in ns."""

R_TABLE, R_LEVEL, R_MAPPED = 35, 36, 37
"""Registers of a linear p2m's: the page table page that was stored to last, and its level; 1 where
what leads to tables has changed and was not looked at since."""

R_ENTRY = 38
"""The first of ENTRY_WORDS registers that hold the entry of the log that is being done: the child
can write to the log itself meanwhile."""

K_IDENTITY, K_MID_IDENTITY, K_MISSING_PTE, K_IDENTITY_PTE = range(30, 34)
"""Registers of MORE_KNOWN's pointers, behind `own.registers`' K_TOP_MFN: no file in C has static
variables there."""

CHILD_WORDS: Final = CHILD_ARRAY + NUM_ARRAYS

NOT_READ: Final = -3
"""What a lookup that ended in a fault is answered with."""


def c_header() -> str:
    """Return the shim's `layout.h`."""
    lines = ["/* Made of p2mbatch/compiled/child/layout.py. */"]
    for prefix, names in (
        ("C", WORDS), ("OP", OPS), ("ANSWER", ANSWERS), ("STATUS", STATUSES), ("ENTRY", ENTRIES),
    ):  # fmt: skip
        lines += [f"#define {prefix}_{name} {k}" for k, name in enumerate(names)]
    lines += [f"#define AREA_{name} {at}" for name, at in AREAS.items() if name != "end"]
    for name in (
        "KNOWN_POINTERS", "KNOWN_TOP_MFN", "ENTRY_WORDS", "LOG_ENTRIES", "TOUCHED_PAGES",
        "STACK_BYTES", "TICK_MICROSECONDS", "NUM_ARRAYS", "MAX_FLAT_BYTES",
    ):  # fmt: skip
        lines.append(f"#define {name} {globals()[name]}")
    lines += [f"#define CONTROL_BYTES {8 * CONTROL_WORDS}", f"#define NOT_READ ({NOT_READ}LL)", ""]
    return "\n".join(lines)
