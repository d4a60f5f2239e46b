/* What the compiler calls at each load and store of the user's code. */

static word stack_top, stack_low;
static unsigned char *touched; /* of each page of the guest: 1 once it may hold something */
/* Pages some of which hold what the parent has not worked out yet. */
static word lazy_first, lazy_count;

struct known {
    word where, last;
};
static struct known known[KNOWN_POINTERS];

static void stopped(u64 status, word address, word pc) __attribute__((noreturn));

/* Where the arrays lie in what is shared with the parent: behind the guest's memory. */
static word arrays_offset;

COLD void touch(word page)
{
    touched[page] = 1;
    if (C(TOUCHED) < TOUCHED_PAGES)
        AREA(TOUCHED)[C(TOUCHED)++] = page;
    else
        stopped(STATUS_PAGES, 0, call_pc);
}

/* The offset in the guest's memory, or ~0 where the address is none of its pages. */
HOT word offset_of(word where)
{
    word offset = where - DIRECT;
    if (offset < direct_bytes)
        return offset;
#ifdef __x86_64__
    offset = where - IMAGE;
    if (offset < image_bytes)
        return offset;
#endif
    offset = where - arrays_at;
    if (offset < arrays_bytes)
        return arrays_offset + offset;
    return ~0UL;
}

#ifdef __x86_64__
/* A linear p2m's own addresses (`flat.h`). */
static void look_at_flat(word where, word bytes, word flags, word pc);
static void settle_flat(word where, word bytes, word pc);
HOT int is_flat(word where) { return where - FLAT < flat_bytes; }
#else
HOT int is_flat(word where) { return (void)where, 0; }
HOT void look_at_flat(word a, word b, word c, word d) { (void)a, (void)b, (void)c, (void)d; }
HOT void settle_flat(word a, word b, word c) { (void)a, (void)b, (void)c; }
#endif
#define TO_READ 1UL
#define TO_WRITE 3UL

COLD void settle_any(word where, word bytes, word pc)
{
    word at = where & ~(WORD_BYTES - 1);
    if (is_flat(where)) {
        settle_flat(where, bytes, pc);
        return;
    }
    if (offset_of(where) != ~0UL) {
        for (; at < where + bytes; at += WORD_BYTES)
            note_store(at, *(word *)at, 0, pc);
        return;
    }
    for (int i = 0; i < KNOWN_POINTERS; i++) {
        word value;
        if (!known[i].where || known[i].where + WORD_BYTES <= where ||
            where + bytes <= known[i].where)
            continue;
        value = *(word *)known[i].where;
        if (value == known[i].last)
            continue;
        known[i].last = value;
        if (i == KNOWN_TOP_MFN)
            top_mfn_page = value;
        note(ENTRY_STATIC, i, wide(guest_form(value)), 0);
    }
}

static __attribute__((noinline)) void settle_one(word where)
{
    pending = 0;
    if (pending_bytes == WORD_BYTES && offset_of(where) != ~0UL && !(where & (WORD_BYTES - 1)))
        note_store(where, *(word *)where, pending_old, pending_pc);
    else
        settle_any(where, pending_bytes, pending_pc);
}

/* Note the store that was announced last: by now it is done. */
HOT void settle(void)
{
    if (pending)
        settle_one(pending);
}

HOT int within(word where, word bytes, void *begin, void *end)
{
    return where >= (word)begin && where + bytes <= (word)end && where + bytes >= where;
}

COLD void check_other(word where, word bytes, int write, word pc)
{
    if (within(where, bytes, (void *)stack_low, (void *)stack_top))
        return;
    if (within(where, bytes, p2mk_data_begin, p2mk_bss_end))
        return;
    if (!write && within(where, bytes, p2mk_text_begin, p2mk_image_end))
        return;
    stopped(stack_low - where <= STACK_BYTES ? STATUS_STACK : STATUS_FAULT, where, pc);
}

static void ask_page(word page);

/* Whether a word is the first of a page of `mfn_list`, which are all there at some boots. */
HOT int is_peeked(word offset)
{
    return (offset >> PAGE_SHIFT) - lazy_first < C(PEEKED) && !(offset & (PAGE_BYTES - WORD_BYTES));
}

/* Note that a page is as the guest has it. */
static void made(word page)
{
    word x = page - lazy_first;
    if (x < lazy_count)
        AREA(MADE)[x >> 6] |= 1ULL << (x & 63);
}

HOT void look_at(word where, word bytes, word pc)
{
    word offset = offset_of(where);
    call_pc = pc;
    settle();
    if (offset == ~0UL) {
        if (is_flat(where))
            look_at_flat(where, bytes, TO_READ, pc);
        else
            check_other(where, bytes, 0, pc);
        return;
    }
    if (where - top_mfn_page < PAGE_BYTES) {
        last_top_index = (where & (PAGE_BYTES - 1)) / WORD_BYTES;
        last_top_word = *(word *)(where & ~(WORD_BYTES - 1));
    }
    if ((offset >> PAGE_SHIFT) - lazy_first < lazy_count) {
        /* The parent takes that word away again. */
        if (is_peeked(offset))
            return;
        ask_page(offset >> PAGE_SHIFT);
    }
    /* Even what is only read takes memory from then on. */
    if (!touched[offset >> PAGE_SHIFT])
        touch(offset >> PAGE_SHIFT);
}

static __attribute__((noinline)) void check_read(word where, word bytes, word pc)
{
    look_at(where, bytes, pc);
}

static __attribute__((noinline)) void check_write(word where, word bytes, word pc)
{
    word offset = offset_of(where);
    call_pc = pc;
    settle();
    if (offset == ~0UL) {
        if (is_flat(where))
            look_at_flat(where, bytes, TO_WRITE, pc);
        else
            check_other(where, bytes, 1, pc);
        pending_old = 0;
    } else {
        word page = offset >> PAGE_SHIFT;
        if (page - lazy_first < lazy_count)
            ask_page(page);
        if (!touched[page])
            touch(page);
        if ((where + bytes - 1) >> PAGE_SHIFT != where >> PAGE_SHIFT &&
            offset_of(where + bytes - 1) == ~0UL)
            stopped(STATUS_FAULT, where + bytes - 1, pc);
        pending_old = *(word *)(where & ~(WORD_BYTES - 1));
    }
    pending = where;
    pending_bytes = bytes;
    pending_pc = pc;
}

#define PC ((word)__builtin_return_address(0))

/* Reads of a word are most of all calls. */
void __tsan_read4(void *p) { look_at((word)p, 4, PC); }
void __tsan_read8(void *p) { look_at((word)p, 8, PC); }
void __tsan_read1(void *p) { check_read((word)p, 1, PC); }
void __tsan_read2(void *p) { check_read((word)p, 2, PC); }
void __tsan_read16(void *p) { check_read((word)p, 16, PC); }

#define HOOKS(size)                                                                               \
    void __tsan_write##size(void *p) { check_write((word)p, size, PC); }                          \
    void __tsan_unaligned_read##size(void *p) { check_read((word)p, size, PC); }                  \
    void __tsan_unaligned_write##size(void *p) { check_write((word)p, size, PC); }                \
    void __tsan_volatile_read##size(void *p) { check_read((word)p, size, PC); }                   \
    void __tsan_volatile_write##size(void *p) { check_write((word)p, size, PC); }

HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

COLD void check_range(word where, word bytes, int write, word pc)
{
    word end = where + bytes;
    if (!bytes)
        return;
    if (end < where)
        stopped(STATUS_FAULT, where, pc);
    /* Page by page: each end lies in a page of the guest's or nowhere else. */
    for (word at = where; at < end; at = (at | (PAGE_BYTES - 1)) + 1) {
        word part = (at | (PAGE_BYTES - 1)) + 1 - at;
        if (part > end - at)
            part = end - at;
        if (write)
            check_write(at, part, pc);
        else
            check_read(at, part, pc);
        pending = 0;
    }
    if (write) {
        pending = where;
        pending_bytes = bytes;
        pending_pc = pc;
    }
}

void __tsan_read_range(void *p, word bytes) { check_range((word)p, bytes, 0, PC); }
void __tsan_write_range(void *p, word bytes) { check_range((word)p, bytes, 1, PC); }
void __tsan_init(void) {}
void __tsan_func_entry(void *p) { (void)p; }
void __tsan_func_exit(void) {}

/* One processor: an atomic access is a plain one. */
#define ATOMIC_OP(bits, type, name, expression)                                                   \
    type __tsan_atomic##bits##_##name(volatile type *p, type v, int order)                        \
    {                                                                                             \
        type old;                                                                                 \
        (void)order;                                                                              \
        check_read((word)p, sizeof(type), PC);                                                    \
        old = *p;                                                                                 \
        check_write((word)p, sizeof(type), PC);                                                   \
        *p = (expression);                                                                        \
        return old;                                                                               \
    }

#define ATOMIC_SWAP(bits, type, name)                                                             \
    int __tsan_atomic##bits##_compare_exchange_##name(volatile type *p, type *expected, type v,   \
                                                      int order, int failed)                      \
    {                                                                                             \
        type old;                                                                                 \
        (void)order, (void)failed;                                                                \
        check_read((word)p, sizeof(type), PC);                                                    \
        old = *p;                                                                                 \
        if (old != *expected) {                                                                   \
            *expected = old;                                                                      \
            return 0;                                                                             \
        }                                                                                         \
        check_write((word)p, sizeof(type), PC);                                                   \
        *p = v;                                                                                   \
        return 1;                                                                                 \
    }

#define ATOMICS(bits, type)                                                                       \
    type __tsan_atomic##bits##_load(const volatile type *p, int order)                            \
    {                                                                                             \
        (void)order;                                                                              \
        check_read((word)p, sizeof(type), PC);                                                    \
        return *p;                                                                                \
    }                                                                                             \
    void __tsan_atomic##bits##_store(volatile type *p, type v, int order)                         \
    {                                                                                             \
        (void)order;                                                                              \
        check_write((word)p, sizeof(type), PC);                                                   \
        *p = v;                                                                                   \
    }                                                                                             \
    ATOMIC_OP(bits, type, exchange, v)                                                            \
    ATOMIC_OP(bits, type, fetch_add, old + v)                                                     \
    ATOMIC_OP(bits, type, fetch_sub, old - v)                                                     \
    ATOMIC_OP(bits, type, fetch_and, old & v)                                                     \
    ATOMIC_OP(bits, type, fetch_or, old | v)                                                      \
    ATOMIC_OP(bits, type, fetch_xor, old ^ v)                                                     \
    ATOMIC_OP(bits, type, fetch_nand, ~(old & v))                                                 \
    ATOMIC_SWAP(bits, type, strong)                                                               \
    ATOMIC_SWAP(bits, type, weak)                                                                 \
    type __tsan_atomic##bits##_compare_exchange_val(volatile type *p, type expected, type v,      \
                                                    int order, int failed)                        \
    {                                                                                             \
        (void)order, (void)failed;                                                                \
        check_read((word)p, sizeof(type), PC);                                                    \
        if (*p == expected) {                                                                     \
            check_write((word)p, sizeof(type), PC);                                               \
            *p = v;                                                                               \
        } else {                                                                                  \
            expected = *p;                                                                        \
        }                                                                                         \
        return expected;                                                                          \
    }

ATOMICS(8, unsigned char)
ATOMICS(16, unsigned short)
ATOMICS(32, unsigned int)
ATOMICS(64, u64)

void __tsan_atomic_thread_fence(int order) { (void)order; }
void __tsan_atomic_signal_fence(int order) { (void)order; }
