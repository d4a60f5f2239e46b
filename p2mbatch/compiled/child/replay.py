"""What a child did, done over the guest's tables: entry by entry of its log.

Each means what the same does in a policy of the user's own in Python (`own/memory`): which store
is stray, which pages are the list's, where each leaf is. Whatever the log says is looked at before
it is used.
"""

from __future__ import annotations

from p2mbatch.base.arrays import Int64Array
from p2mbatch.base.geometry import INVALID
from p2mbatch.compiled import grow, lists
from p2mbatch.compiled.child.era_memory import (
    boot_pages,
    copied,
    era_run,
    is_era,
    known_set,
    show_leaf,
    take_shared,
)
from p2mbatch.compiled.child.flat_tables import extra_leaf
from p2mbatch.compiled.child.layout import (
    A_LOG,
    ANSWER_M2P,
    ANSWER_MORE_LOG,
    ANSWER_PAGE,
    C_ADDRESS,
    C_ASKED,
    C_OP,
    C_PC,
    C_RESULT,
    C_STATUS,
    C_TEXT,
    CHILD_ASKS,
    CHILD_MEMORY,
    CHILD_NO_MEMORY,
    CHILD_RANGE,
    CHILD_WORDS,
    E_ALLOC,
    E_BOOT_PAGES,
    E_BRK,
    E_COPY,
    E_DONE,
    E_EXTRA,
    E_FOUND,
    E_FREE,
    E_SET,
    E_STATIC,
    E_STORE,
    ENTRY_WORDS,
    HEADER,
    KNOWN_POINTERS,
    LOG_ENTRIES,
    OP_GO_ON,
    R_AT,
    R_BUILDS,
    R_ENTRY,
    R_LENGTH,
    R_MAPPED,
    R_OPEN,
    S_AREA,
    S_BOOTMEM,
    S_BUG,
    S_DIVIDE,
    S_FAULT,
    S_MEMORY,
    S_OK,
)
from p2mbatch.compiled.child.request import (
    answer_of,
    area_at,
    broken,
    check_wait,
    child_at,
    wake,
    write_page,
)
from p2mbatch.compiled.child.status import CHILD_ENDED
from p2mbatch.compiled.child.wire import words_at
from p2mbatch.compiled.jit import as_int, inline_kernel, inner_kernel, never_inline
from p2mbatch.compiled.own.memory import given_back, store, taken, top_asked_for
from p2mbatch.compiled.own.registers import (
    K_MISSING,
    OWN_BUG,
    OWN_FAULT,
    OWN_ROOM,
    R_FOUND,
    R_FOUND_TOP,
    R_SET_MFN,
    R_SET_PFN,
    R_SITE,
    R_TOP,
    R_TOP_WORD,
    may_hit,
    stop,
)
from p2mbatch.compiled.own.words import noted
from p2mbatch.compiled.owners import guest_m2p
from p2mbatch.compiled.pages import (
    make_leaf,
    page_code,
    page_word,
    reached_page,
)
from p2mbatch.compiled.status import (
    BUG_BOOTMEM,
    BUG_BRK_OVERFLOW,
    BUG_NULL,
    BUG_OUT_OF_MEMORY,
    BUG_PANIC,
    FAULT_LIST,
    FAULT_MID,
    FAULT_STORE,
    FAULT_TOP,
)
from p2mbatch.compiled.tables import (
    IMAGE_BASE,
    LAZY,
    LEAF,
    MID_MFN,
    NO_PAGE,
    P_CLEAN,
    P_KIND,
    P_PAGE,
    TAKEN,
    UNREACHABLE,
    HostTables,
    P2MTables,
)

END = -1
"""What `advance` returns once the call is done."""


@inner_kernel
def advance(t: P2MTables, h: HostTables) -> int:
    """Do what the child did up to the next entry that is its caller's: a SET, GROW, DONE, PHASE.

    Returns its kind, or END; stops the policy's call where it came to no good end.
    """
    log = words_at(area_at(t, as_int(A_LOG)), as_int(LOG_ENTRIES * ENTRY_WORDS))
    s = t.statics
    while True:
        while s[R_AT] < s[R_LENGTH]:
            at = s[R_AT] * ENTRY_WORDS
            s[R_AT] += 1
            # What is looked at is what is used: each word is read once.
            for i in range(ENTRY_WORDS):
                s[R_ENTRY + i] = log[at + i]
            kind = s[R_ENTRY] & 0xFF
            pc = s[R_ENTRY] >> 8
            if kind == E_STORE:
                _stored(t, h, s[R_ENTRY : R_ENTRY + ENTRY_WORDS], pc)
            elif kind >= E_SET:
                return as_int(kind)
            else:
                _other(t, h, kind, s[R_ENTRY : R_ENTRY + ENTRY_WORDS], pc)
        if not _goes_on(t, h):
            return END


@inline_kernel
def entry_word(t: P2MTables, i: int) -> int:
    """Return word `i` of the entry that `advance` returned last."""
    return as_int(t.statics[R_ENTRY + i])


@inner_kernel
def _goes_on(t: P2MTables, h: HostTables) -> bool:
    """Answer what the child asks and let it go on; False where its call is done."""
    never_inline()
    c = words_at(area_at(t, as_int(0)), as_int(HEADER))
    answer = answer_of(t)
    if ANSWER_MORE_LOG <= answer <= ANSWER_PAGE:
        check_wait(t, _last_pc(t))
    if answer == ANSWER_M2P:
        words_at(child_at(t), as_int(CHILD_WORDS))[CHILD_ASKS] = 1
        c[C_RESULT] = guest_m2p(t, h, c[C_ASKED])
    elif answer == ANSWER_PAGE:
        _make_page(t, h, as_int(c[C_ASKED]))
    elif answer != ANSWER_MORE_LOG:
        t.statics[R_OPEN] = 0
        if is_era(t):
            take_shared(t)
        if c[C_STATUS] != S_OK:
            _stopped(t, h, c)
        return False
    c[C_OP] = OP_GO_ON
    wake(t)
    return True


@inner_kernel
def _last_pc(t: P2MTables) -> int:
    """Return where in the program the last entry of the log was made."""
    log = words_at(area_at(t, as_int(A_LOG)), as_int(LOG_ENTRIES * ENTRY_WORDS))
    return as_int(log[max(t.statics[R_AT] - 1, 0) * ENTRY_WORDS] >> 8)


@inner_kernel
def _make_page(t: P2MTables, h: HostTables, page: int) -> None:
    """Let the child have the words of a leaf that was not made yet.

    An era's boot reads leaves that it then leaves as they are: they are not made by that.
    """
    code = page_code(t, page)
    if code <= LAZY and is_era(t) and t.state[0].word_bits == 64:
        show_leaf(t, h, page, LAZY - code)
        return
    if code <= LAZY:
        if not may_hit(t):
            c = words_at(area_at(t, as_int(0)), as_int(HEADER))
            stop(t, OWN_ROOM, as_int(c[C_PC]))
        code = make_leaf(t, h, LAZY - code)
    if code >= 0:
        child = words_at(child_at(t), as_int(CHILD_WORDS))
        write_page(t, child[CHILD_MEMORY], child[CHILD_RANGE], code)


@inner_kernel
def _stopped(t: P2MTables, h: HostTables, c: Int64Array) -> None:
    """Stop the policy's call as the child's was."""
    pc, status = as_int(c[C_PC]), as_int(c[C_STATUS])
    if status == S_BUG:
        t.statics[R_SITE] = c[C_TEXT]
        child = words_at(child_at(t), as_int(CHILD_WORDS))
        stop(t, BUG_NULL if c[C_TEXT] == child[CHILD_NO_MEMORY] else OWN_BUG, pc)
    t.statics[R_SITE] = c[C_ADDRESS]
    if status == S_FAULT:
        stop(t, _fault_at(t, h, as_int(c[C_ADDRESS])), pc)
    if status == S_BOOTMEM:
        stop(t, as_int(BUG_BOOTMEM if t.state[0].pgd == NO_PAGE else BUG_PANIC), pc)
    if status == S_MEMORY:
        stop(t, as_int(BUG_OUT_OF_MEMORY), pc)
    if not S_DIVIDE <= status <= S_AREA:
        broken(t, pc)
    stop(t, as_int(CHILD_ENDED) + status, pc)


@inner_kernel
def _fault_at(t: P2MTables, h: HostTables, where: int) -> int:
    """Return the code of a fault at an address: by which pointer of the tree it was reached."""
    top = page_code(t, t.state[0].top)
    status = as_int(OWN_FAULT)
    if top < 0:
        # Nobody looks whether there was a page for a linear p2m's list.
        null_list = t.state[0].pgd != NO_PAGE and 0 <= where < 4096
        return as_int(FAULT_LIST) if null_list else status
    last = as_int(-1)
    for i in range(t.words.shape[1]):
        word = t.words[top, i]
        if 0 <= where - word < 4096:
            return as_int(FAULT_TOP)
        page = reached_page(t, word)
        if page >= UNREACHABLE or page == last:
            continue
        last = page
        for k in range(t.words.shape[1]):
            if 0 <= where - page_word(t, h, page, k) < 4096:
                status = as_int(FAULT_MID)
    if status == OWN_FAULT and where - (where & 4095) == t.statics[R_FOUND]:
        return as_int(FAULT_STORE)
    return status


# --- stores ------------------------------------------------------------------------------------


@inner_kernel
def _stored(t: P2MTables, h: HostTables, entry: Int64Array, pc: int) -> None:
    """Do a run of stores."""
    where, word, page, count = as_int(entry[1]), as_int(entry[2]), as_int(entry[3]), entry[4]
    step, page_step = as_int(entry[5]), as_int(entry[6])
    n = t.words.shape[1]
    shift = 2 if t.state[0].word_bits == 32 else 3
    i = (where & 4095) >> shift
    base = where - (where & 4095)
    if count < 1 or count > n - i:
        broken(t, pc)
    if count == 1:
        step = page_step = as_int(0)
    if is_era(t):
        if era_run(t, h, base, i, word, page, step, page_step, as_int(count), pc):
            return
    elif t.statics[R_BUILDS] != 0:
        _built(t, h, base, i, word, step, as_int(count), pc)
        return
    elif t.statics[R_SET_PFN] >= 0 and _is_set(t, h, base, i, word, step, as_int(count), pc):
        return
    if _plain_run(t, base, i, word, page, step, page_step, as_int(count), pc):
        return
    for k in range(count):
        if page > 0:
            noted(t, page - 1 + k * page_step, word + k * step)
        store(t, h, base, i + k, word + k * step, pc)


@inner_kernel
def _plain_run(
    t: P2MTables,
    base: int,
    i: int,
    word: int,
    page: int,
    step: int,
    page_step: int,
    count: int,
    line: int,
) -> bool:
    """Do a run of stores whose meaning is the same for each: into a fresh page, or the list.

    Return False, with nothing done, for any other.
    """
    code = page_code(t, reached_page(t, base))
    if code < 0 or count < 2 or (t.state[0].word_bits == 32 and word + count * step > 0xFFFFFFFF):
        return False
    kind = t.slots[code, P_KIND]
    where, state = t.slots[code, P_PAGE], t.state[0]
    found = base == t.statics[R_FOUND]
    listed = False
    if kind == TAKEN:
        plain = not found and t.statics[R_SET_PFN] < 0
    elif kind == MID_MFN and where == state.mid_missing_mfn:
        plain = not found
    elif kind == MID_MFN:
        listed = True
        image = state.image_map != 0 and IMAGE_BASE <= base < 0
        plain = image or state.presence == 0
        if found:
            top = t.statics[R_FOUND_TOP]
            plain = top >= 0 and where == t.true_mid_mfn[top] and state.presence == 0
    else:
        plain = False
    if not plain:
        return False
    if page > 0:
        noted(t, page - 1, word)
        noted(t, page - 1 + (count - 1) * page_step, word + (count - 1) * step)
    row = t.words[code, i : i + count]
    for k in range(len(row)):
        row[k] = word + k * step
    if listed:
        state.entries_written += count
    return True


@inner_kernel
def _built(
    t: P2MTables, h: HostTables, base: int, i: int, word: int, step: int, count: int, pc: int
) -> None:
    """Do a run of stores while the p2m is being built: nothing there is in use yet."""
    page = reached_page(t, base)
    code = page_code(t, page)
    if code <= LAZY:
        if not may_hit(t):
            stop(t, OWN_ROOM, pc)
        code = make_leaf(t, h, LAZY - code)
    if code < 0:
        for k in range(count):
            store(t, h, base, i + k, word + k * step, pc)
        return
    for k in range(count):
        t.words[code, i + k] = word + k * step
    if t.slots[code, P_KIND] == LEAF:
        t.slots[code, P_CLEAN] = 0


@inner_kernel
def _is_set(
    t: P2MTables, h: HostTables, base: int, i: int, word: int, step: int, count: int, pc: int
) -> bool:
    """Do the store of the entry that is being set, with the frames' ownership; False if it isn't.

    A run of stores may hold it among others: then they are done one by one.
    """
    pfn, mfn, n = t.statics[R_SET_PFN], t.statics[R_SET_MFN], t.words.shape[1]
    if count != 1 or i != pfn & (n - 1) or word != mfn:
        return False
    code = page_code(t, reached_page(t, base))
    if code <= LAZY:
        if not may_hit(t):
            stop(t, OWN_ROOM, pc)
        code = make_leaf(t, h, LAZY - code)
    if code < 0 or t.slots[code, P_KIND] not in (LEAF, TAKEN):
        return False
    grow.write_entry(t, h, code, pfn, mfn)
    return True


# --- the other entries -------------------------------------------------------------------------


@inner_kernel
def _other(t: P2MTables, h: HostTables, kind: int, entry: Int64Array, pc: int) -> None:
    """Do an entry that is no store."""
    never_inline()
    s = t.statics
    if kind == E_FOUND:
        mfn, top = as_int(entry[1]), as_int(entry[3])
        s[R_TOP] = top if 0 <= top < t.words.shape[1] else -1
        s[R_TOP_WORD] = mfn
        s[R_FOUND] = entry[2]
        s[R_FOUND_TOP] = top_asked_for(t, mfn)
        words_at(child_at(t), as_int(CHILD_WORDS))[CHILD_ASKS] = 1
    elif kind == E_BRK:
        if not may_hit(t):
            stop(t, OWN_ROOM, pc)
        if t.state[0].brk_closed == 0 and entry[2] > t.state[0].brk_pages - t.state[0].brk_used:
            stop(t, as_int(BUG_BRK_OVERFLOW), pc)
        slot = lists.extend_brk(t)
        if slot < 0:
            stop(t, -slot, pc)
        if t.slots[slot, P_PAGE] != entry[1]:
            broken(t, pc)
        t.slots[slot, P_KIND] = TAKEN
    elif kind == E_ALLOC:
        page = grow.alloc_p2m_page(t)
        if page != entry[1]:
            broken(t, pc)
        if page >= 0:
            taken(t, page, pc)
    elif kind == E_FREE:
        # A table may be one no more.
        s[R_MAPPED] = 1
        given_back(t, as_int(entry[1]))
    elif kind == E_STATIC and 0 <= entry[1] < KNOWN_POINTERS:
        if s[R_BUILDS] != 0 and not is_era(t):
            s[K_MISSING + entry[1]] = entry[2]
        else:
            known_set(t, K_MISSING + as_int(entry[1]), as_int(entry[2]))
    elif kind == E_BOOT_PAGES:
        boot_pages(t, as_int(entry[1]), as_int(entry[2]), pc)
    elif kind == E_COPY:
        copied(t, h, as_int(entry[1]), as_int(entry[2]), pc)
    elif kind == E_EXTRA:
        extra_leaf(t, h, as_int(entry[1]))


@inline_kernel
def set_done(t: P2MTables, h: HostTables) -> int:
    """Do what the child did up to the end of one set or growth; return what it answered."""
    kind = advance(t, h)
    if kind != E_DONE:
        broken(t, as_int(0))
    return entry_word(t, as_int(1)) & 0xFFFFFFFF


__all__ = ["END", "INVALID", "NO_PAGE", "advance", "entry_word", "set_done"]
