/* The kernel's words that the machine does, as the user's unit calls them. */

/* As `include/xen.h` has them; their places are among the unit's variables, which may store there. */
struct shared_info {
    word max_pfn, frame_list_list, p2m_cr3, p2m_vaddr, p2m_generation;
};
struct start_info {
    word nr_pages, mfn_list, flags;
};
struct shared_info p2mk_shared_info GIVEN;
struct start_info p2mk_start_info GIVEN;
/* Where the kernel asks which of the two an address is: none is below either. */
word p2mk_page_offset GIVEN;
word p2mk_start_kernel_map GIVEN;

/* The unit's functions, one that it has not got NULL (made of `roots.py`). */
extern const struct p2mk_roots p2mk_roots;

#define ENTRY()                                                                                   \
    do {                                                                                          \
        call_pc = PC;                                                                             \
        settle();                                                                                 \
    } while (0)

/* Memory is copied and filled by the user's calls of these, and by the compiler's for the user's
 * code; the shim itself calls none. */

static int copied_page(word to, word from, word pc);

static void *filled(void *to, const void *from, int byte, word count, int down, word pc)
{
    unsigned char *at = to;
    const unsigned char *source = from;
    call_pc = pc;
    if (from && count == PAGE_BYTES && pending != (word)to && copied_page((word)to, (word)from, pc))
        return to;
    /* A structure that the compiler copies by a call was announced by a hook. */
    if (pending != (word)to || pending_bytes != count) {
        settle();
        if (from)
            check_range((word)from, count, 0, pc);
        check_range((word)to, count, 1, pc);
    }
    for (word k = 0; k < count; k++) {
        word i = down ? count - 1 - k : k;
        at[i] = source ? source[i] : byte;
        __asm__ volatile(""); /* so that it becomes no call of itself */
    }
    return to;
}

void *memset(void *to, int byte, word count) { return filled(to, 0, byte, count, 0, PC); }
void *memcpy(void *to, const void *from, word n) { return filled(to, from, 0, n, 0, PC); }
void *memmove(void *to, const void *from, word n)
{
    return filled(to, from, 0, n, (word)to > (word)from, PC);
}
int memcmp(const void *one, const void *other, word count)
{
    const unsigned char *a = one, *b = other;
    ENTRY();
    check_range((word)one, count, 0, call_pc);
    check_range((word)other, count, 0, call_pc);
    for (word i = 0; i < count; i++)
        if (a[i] != b[i])
            return a[i] - b[i];
    return 0;
}
word strlen(const char *text)
{
    word n = 0;
    ENTRY();
    for (check_read((word)text, 1, call_pc); text[n]; n++)
        check_read((word)text + n + 1, 1, call_pc);
    return n;
}

/* --- addresses ------------------------------------------------------------------------------- */

static word m2p_asked = ~0UL, m2p_answer = ~0UL;

static void *at_page(word pfn)
{
    word found = pfn - arrays_page < arrays_pages ? array_at_page(pfn) : 0;
    return (void *)(found ? found : guest_form(guest_base + (pfn << PAGE_SHIFT)));
}

static word page_of(word runner)
{
    word where = guest_form(runner);
#ifdef __x86_64__
    if (has_image && where >= GUEST_IMAGE)
        return (where - GUEST_IMAGE) >> PAGE_SHIFT;
#endif
    return ((where - guest_base) >> PAGE_SHIFT) & page_mask;
}

static void *known_as(word pfn, int image)
{
#ifdef __x86_64__
    if (image && has_image)
        return (void *)(IMAGE + (pfn << PAGE_SHIFT));
#endif
    (void)image;
    return at_page(pfn);
}

/* Note that the page at `where` was found by an MFN, and which entry of the list that was. */
static void note_found(word mfn, void *where)
{
    u64 at = wide(guest_form((word)where)), top = last_top_word == mfn ? last_top_index : ~0ULL;
    if (top != ~0ULL && found_top == top && found_mfn == mfn && found_at == at)
        return;
    found_mfn = mfn;
    found_at = at;
    found_top = top;
    note(ENTRY_FOUND, wide(mfn), at, top);
}

void *p2mk_va(word pfn)
{
    void *where = at_page(pfn);
    ENTRY();
    if (m2p_asked != ~0UL && pfn == m2p_answer) {
        note_found(m2p_asked, where);
        m2p_asked = ~0UL;
    }
    return where;
}

/* The address whose page was asked for last, and its page; 0 where none was. */
static word last_looked, last_page;

word p2mk_pa_pfn(const void *where)
{
    if ((word)where != last_looked) {
        last_looked = (word)where;
        last_page = page_of(last_looked);
    }
    return last_page;
}

word p2mk_note_virt_to_mfn(word pfn, word mfn)
{
    ENTRY();
#ifdef __x86_64__
    /* Where pointers lie in a leaf's place, the foreign bit was taken from one. */
    if (guest_form(mfn) != mfn && mfn < 1UL << 63)
        mfn = guest_form(mfn) & ~(1UL << 63);
#endif
    if (asked[(asked_at - 1) & 3].pfn == pfn && asked[(asked_at - 1) & 3].mfn == mfn)
        return mfn;
    asked[asked_at & 3].pfn = pfn;
    asked[asked_at++ & 3].mfn = mfn;
    return mfn;
}

static struct {
    word mfn, pfn;
    u64 call;
} m2p[1024];

static word m2p_read(word mfn)
{
    unsigned at = mfn & 1023;
    if (m2p[at].call != C(CALL) || m2p[at].mfn != mfn) {
        C(ASKED) = wide(mfn);
        ask(ANSWER_M2P);
        m2p[at].mfn = mfn;
        m2p[at].pfn = C(RESULT);
        m2p[at].call = C(CALL);
    }
    return m2p[at].pfn;
}

word p2mk_mfn_to_pfn(word mfn)
{
    ENTRY();
    m2p_asked = mfn;
    m2p_answer = m2p_read(mfn);
    return m2p_answer;
}

void *p2mk_note_mfn_to_virt(word mfn, word pfn)
{
    void *where = at_page(pfn);
    ENTRY();
    m2p_asked = ~0UL;
    note_found(mfn, where);
    return where;
}

/* --- memory ---------------------------------------------------------------------------------- */

void *p2mk_extend_brk(word size, word align)
{
    word first, pages = (size + PAGE_BYTES - 1) >> PAGE_SHIFT;
    (void)align;
    ENTRY();
    first = C(BRK) + C(BRK_USED);
    if (!pages || pages > C(BRK_PAGES) + 1)
        pages = C(BRK_PAGES) + 1;
    for (word i = 0; i < pages; i++) {
        note(ENTRY_BRK, first + i, i ? 0 : pages, 0);
        if (C(BRK_CLOSED) || C(BRK_USED) >= C(BRK_PAGES))
            stopped(STATUS_BRK, 0, call_pc);
        C(BRK_USED)++;
    }
    return known_as(first, 1);
}

static word taken(int clear)
{
    word turn, skip, page = 0;
    u64 *runs = AREA(POOL);
    settle();
    turn = C(ALLOCS)++;
    if (turn == C(FAIL_AT)) {
        note(ENTRY_ALLOC, ~0ULL, 0, 0);
        return 0;
    }
    skip = C(POOL_USED);
    for (word i = 0; i < C(POOL_RUNS); i++) {
        if (skip < runs[2 * i + 1]) {
            page = runs[2 * i] + skip + 1;
            break;
        }
        skip -= runs[2 * i + 1];
    }
    if (!page && C(POOL_CUT))
        stopped(STATUS_POOL, 0, call_pc);
    note(ENTRY_ALLOC, page ? page - 1 : ~0ULL, 0, 0);
    if (!page)
        return 0;
    C(POOL_USED)++;
    made(page - 1);
    if (clear) {
        word *at = at_page(page - 1);
        for (word i = 0; i < PAGE_BYTES / WORD_BYTES; i++) {
            if (!at[i])
                continue;
            check_write((word)(at + i), WORD_BYTES, call_pc);
            at[i] = 0;
        }
        settle();
    }
    return (word)at_page(page - 1);
}

word p2mk_alloc_page(void)
{
    call_pc = PC;
    return taken(0);
}

word p2mk_get_zeroed_page(void)
{
    call_pc = PC;
    return taken(1);
}

void p2mk_free_page(word where)
{
    ENTRY();
    note(ENTRY_FREE, wide(guest_form(where)), 0, 0);
}

/* --- ends ------------------------------------------------------------------------------------ */

void p2mk_bug(const char *text, int line)
{
    (void)line;
    ENTRY();
    C(TEXT) = (word)text;
    stopped(STATUS_BUG, 0, call_pc);
}

/* Another name alone: one that calls the other would be whence it was called. */
void p2mk_panic(const char *text, int line) __attribute__((alias("p2mk_bug")));

void p2mk_warn(const char *text, int line)
{
    (void)text, (void)line;
    C(WARNINGS)++;
}
