/* Requests of the parent, and how a call of the user's code ends. */

typedef word jump[5];
static jump end_of_call;
static int in_call, abandoned;
static word known_max; /* where `xen_max_p2m_pfn` is */
static u64 ticks, tick_call, num_requests;

static word user_data_bytes, user_bss_bytes;
static char *user_data;

COLD __attribute__((noreturn)) void leave(void)
{
    for (;;)
        CALL3(SYS_EXIT, 0, 0, 0);
}

/* Tell the parent something and wait for what it says; 0 where a new request has come. */
static int told(u64 what)
{
    char byte = 0;
    C(LOG) = log_length;
    C(ANSWER) = what;
    log_length = 0;
    run_next = 0;
    if (CALL3(SYS_WRITE, ANSWER_FD, &byte, 1) != 1)
        leave();
    if (CALL3(SYS_READ, REQUEST_FD, &byte, 1) != 1)
        leave();
    return C(OP) == OP_GO_ON;
}

static void ask(u64 what)
{
    if (told(what))
        return;
    abandoned = 1;
    __builtin_longjmp((void **)end_of_call, 1);
}

static void ask_page(word page)
{
    word x = page - lazy_first;
    if (AREA(MADE)[x >> 6] >> (x & 63) & 1)
        return;
    C(ASKED) = page;
    ask(ANSWER_PAGE);
    made(page);
}

static void stopped(u64 status, word address, word pc)
{
    pending = 0;
    C(STATUS) = status;
    C(ADDRESS) = wide(guest_form(address));
    C(PC) = pc;
    in_call = 0;
    __builtin_longjmp((void **)end_of_call, 1);
}

/* --- signals --------------------------------------------------------------------------------- */

#ifdef __x86_64__
#define UC_PC 168
#define UC_SP 160
#else
#define UC_PC 76
#define UC_SP 48
#endif
#define SI_ADDRESS (WORD_BYTES == 8 ? 16 : 12)
#define SI_SYSCALL (WORD_BYTES == 8 ? 24 : 16)

static char signal_stack[16384] __attribute__((aligned(16)));

static void on_signal(int number, char *info, char *context)
{
    word pc = *(word *)(context + UC_PC), sp = *(word *)(context + UC_SP);
    word address = *(word *)(info + SI_ADDRESS);
    int own = within(pc, 1, p2mk_own_text_begin, p2mk_own_text_end);
    if (number == 27) { /* SIGPROF: so much of the processor's time was used */
        if (CALL3(SYS_GETPPID, 0, 0, 0) != (long)C(PARENT))
            leave();
        if (!in_call || tick_call != num_requests) {
            tick_call = num_requests;
            ticks = 0;
            return;
        }
        if (++ticks < C(TICKS))
            return;
    }
    if (!in_call)
        leave();
    /* Where it is not the user's code that runs, the last of the user's that was seen; where it is no
     * code at all, whence it was called. */
    if (own)
        pc = call_pc;
    else if (!within(pc, 1, p2mk_own_text_end, p2mk_text_end)) {
        pc = call_pc;
        if (within(sp, WORD_BYTES, (void *)stack_low, (void *)stack_top) &&
            within(*(word *)sp, 1, p2mk_own_text_end, p2mk_text_end))
            pc = *(word *)sp;
    }
    pending = 0;
    if (number == 27)
        stopped(STATUS_LOOP, 0, pc);
    if (number == 31)
        stopped(STATUS_SYSCALL, *(int *)(info + SI_SYSCALL), pc);
    if (number == 8)
        stopped(STATUS_DIVIDE, 0, pc);
    if (number == 4 || number == 5)
        stopped(STATUS_ILLEGAL, 0, pc);
    if (address + 65536 > sp && address < stack_low && address + (1UL << 24) > stack_low)
        stopped(STATUS_STACK, 0, pc);
    stopped(STATUS_FAULT, address, pc);
}

#ifdef __x86_64__
__asm__(".text\np2mk_return_from_signal: mov $15, %eax\n\tsyscall\n");
#else
__asm__(".text\np2mk_return_from_signal: mov $173, %eax\n\tint $0x80\n");
#endif
void p2mk_return_from_signal(void);

struct action {
    void *handler;
    word flags;
    void *restorer;
    u64 mask;
};

static void catch_signals(void)
{
    static const int numbers[] = {4, 5, 7, 8, 11, 27, 31};
    struct {
        void *at;
        long flags;
        word size;
    } alternative = {signal_stack, 0, sizeof signal_stack};
    CALL3(SYS_SIGALTSTACK, &alternative, 0, 0);
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        /* SA_SIGINFO, SA_ONSTACK, SA_NODEFER, SA_RESTORER */
        struct action action = {(void *)on_signal, 4 | 0x08000000 | 0x40000000 | 0x04000000,
                                (void *)p2mk_return_from_signal, 0};
        system_call(SYS_SIGACTION, numbers[i], (long)&action, 0, 8, 0, 0);
    }
}

/* --- requests -------------------------------------------------------------------------------- */

static void set_arrays(void)
{
    word end = 0, end_page = 0;
    arrays_at = arrays_page = ~0UL;
    for (int i = 0; i < NUM_ARRAYS; i++) {
        word pages;
        arrays[i].at = AREA(ARRAYS)[4 * i];
        arrays[i].guest = AREA(ARRAYS)[4 * i + 1];
        arrays[i].page = AREA(ARRAYS)[4 * i + 2];
        arrays[i].bytes = AREA(ARRAYS)[4 * i + 3];
        pages = arrays[i].bytes >> PAGE_SHIFT;
        if (!pages)
            continue;
        if (arrays[i].at < arrays_at)
            arrays_at = arrays[i].at;
        if (arrays[i].at + arrays[i].bytes > end)
            end = arrays[i].at + arrays[i].bytes;
        if (arrays[i].page < arrays_page)
            arrays_page = arrays[i].page;
        if (arrays[i].page + pages > end_page)
            end_page = arrays[i].page + pages;
    }
    arrays_bytes = end ? end - arrays_at : 0;
    arrays_pages = end ? end_page - arrays_page : 0;
    arrays_offset = C(RANGE) + (arrays_at - (word)p2mk_static_begin);
}

static void set_addresses(void)
{
    lazy_first = C(LAZY_FIRST);
    lazy_count = C(LAZY_COUNT);
    direct_bytes = C(DIRECTMAP) << PAGE_SHIFT;
    guest_base = C(VA_BASE);
    page_mask = C(VA_MASK);
    has_image = C(IMAGE_MAP) != 0;
    flat_bytes = C(OP) == OP_BOOT ? 0 : C(AREA_BYTES);
#ifdef __x86_64__
    image_bytes = has_image ? (direct_bytes < IMAGE_BYTES ? direct_bytes : IMAGE_BYTES) : 0;
#endif
    set_arrays();
}

static void set_up(void)
{
    word n = 0;
    for (u64 i = 0; i < C(PAGES); i++) {
        word page = AREA(PAGES)[i];
        if (!touched[page])
            touch(page);
    }
    for (u64 i = 0; i < C(M2P); i++) {
        word mfn = AREA(M2P)[2 * i];
        m2p[mfn & 1023].mfn = mfn;
        m2p[mfn & 1023].pfn = AREA(M2P)[2 * i + 1];
        m2p[mfn & 1023].call = C(CALL);
    }
    if (known_max && (C(OP) != OP_BOOT || !C(AREA_BYTES)))
        *(word *)known_max = C(XEN_MAX);
    p2mk_shared_info.frame_list_list = C(SHARED_FLL);
    p2mk_shared_info.max_pfn = C(SHARED_MAX);
    p2mk_start_info.flags = C(FLAGS);
#ifdef __x86_64__
    p2mk_shared_info.p2m_cr3 = C(SHARED_CR3);
    p2mk_shared_info.p2m_vaddr = flat_form(C(SHARED_VADDR));
    p2mk_shared_info.p2m_generation = C(GENERATION);
    forget_ptes();
#endif
    for (; n < 4; n++)
        asked[n].pfn = asked[n].mfn = ~0UL - 1;
    last_top_index = last_top_word = ~0ULL;
    last_top_entry = 0;
    found_top = ~0ULL;
    m2p_asked = ~0UL;
    last_looked = 0;
    pending = 0;
}

/* Forget the guest before; the parent has cleared its pages. */
static void begin_life(void)
{
    for (u64 i = 0; i < C(TOUCHED); i++)
        touched[AREA(TOUCHED)[i]] = 0;
    C(TOUCHED) = 0;
    copy(p2mk_data_begin, user_data, user_data_bytes);
    clear(p2mk_bss_begin, user_bss_bytes / WORD_BYTES);
    for (int i = 0; i < KNOWN_POINTERS; i++)
        known[i].last = 0;
    top_mfn_page = 1;
#ifdef __x86_64__
    p2mk_hotplug_limit_gib = C(HOTPLUG);
    begin_flat_life();
#endif
    p2mk_start_info.nr_pages = C(NR_PAGES);
    p2mk_start_info.mfn_list = (word)known_as(C(MFN_LIST), 1);
}

static void set_pages(void)
{
    u64 *runs = AREA(RUNS), skip = C(FROM);
    for (u64 i = 0; i < C(COUNT); i++, runs += 3) {
        u64 k = skip < runs[2] ? skip : runs[2];
        skip -= k;
        for (; k < runs[2]; k++) {
            word mfn = runs[1] == ~0ULL ? ~0UL : runs[1] + k;
            long done;
            note(ENTRY_SET, runs[0] + k, wide(mfn), 0);
            found_top = ~0ULL;
            done = p2mk_roots.set(runs[0] + k, mfn);
            settle();
            note(ENTRY_DONE, done, 0, 0);
            if (!(int)done)
                return;
            /* What the set changed of m2p is the parent's to say. */
            C(CALL)++;
        }
    }
}

static void grow_leaves(void)
{
    u64 *pfns = AREA(RUNS);
    for (u64 i = 0; i < C(COUNT); i++) {
        long done;
        note(ENTRY_GROW, pfns[i], 0, 0);
        found_top = ~0ULL;
        done = p2mk_roots.grow(pfns[i]);
        settle();
        note(ENTRY_DONE, done, 0, 0);
        if (!(int)done)
            return;
    }
}

static u64 getting;

static void get_pages(void)
{
    u64 *pfns = AREA(RUNS);
    for (; getting < C(COUNT); getting++) {
        /* What a lookup that ends in a fault is taken for. */
        u64 pfn = pfns[getting];
        pfns[getting] = (u64)NOT_READ;
        pfns[getting] = wide(guest_form(p2mk_roots.get(pfn)));
        settle();
    }
}

static void next_phase(void)
{
    settle();
    note(ENTRY_PHASE, 0, 0, 0);
}

static void report(void)
{
    next_phase();
    p2mk_roots.report();
    settle();
}

static void set_known_max(void)
{
    C(XEN_MAX) = C(MAX_PFN);
    if (known_max)
        *(word *)known_max = C(MAX_PFN);
}

/* 1:1 ranges, each of [start, end). */
static void mark_ranges(void)
{
    u64 *ranges = AREA(MARKED);
    for (u64 i = 0; p2mk_roots.identity && i < C(MARKED); i++) {
        C(MARKED_PAGES) += p2mk_roots.identity(ranges[2 * i], ranges[2 * i + 1]);
        settle();
    }
}

/* What the kernel calls while it boots, in its era's order. */
static void boot(void)
{
    begin_life();
    set_up();
    if (arrays_bytes) {
        /* The parent reads what they hold from the beginning. */
        note(ENTRY_PHASE, 0, 0, 0);
        ask(ANSWER_MORE_LOG);
    }
    p2mk_roots.boot();
    if (C(AREA_BYTES)) {
        mark_ranges();
        p2mk_roots.vmalloc();
    }
    next_phase();
    if (!p2mk_roots.boot_builds_list && !C(LATE_LIST))
        p2mk_roots.list();
    settle();
    if (C(MARKS)) {
        next_phase();
        mark_ranges();
        if (p2mk_roots.revector)
            p2mk_roots.revector();
        next_phase();
    }
    if (C(LATE_LIST)) {
        set_known_max();
        p2mk_roots.list();
        settle();
    }
    C(BRK_CLOSED) = 1;
    if (!C(AREA_BYTES))
        set_known_max();
    report();
}

static __attribute__((noinline)) void run(void)
{
    /* What lies above are the shim's own frames. */
    stack_top = (word)__builtin_frame_address(0);
    stack_low = stack_top - STACK_BYTES;
    in_call = 1;
    C(STATUS) = STATUS_OK;
    switch (C(OP)) {
    case OP_BOOT:
        boot();
        break;
    case OP_RESUME:
        if (p2mk_roots.list)
            p2mk_roots.list();
        report();
        break;
    case OP_REPORT:
        report();
        break;
    case OP_SET:
        set_pages();
        break;
    case OP_GROW:
        grow_leaves();
        break;
    case OP_GET:
        get_pages();
        break;
    }
    in_call = 0;
}

/* Do a call far below the shim's own frames, which a user's array that is written past its end
 * must not reach. */
static __attribute__((noinline)) void run_apart(void (*what)(void))
{
    volatile char gap[STACK_GAP];
    gap[0] = 0;
    what();
    gap[1] = 0;
}

/* Lookups go on behind one that came to a bad end. */
static int goes_on(void)
{
    if (C(OP) != OP_GET || C(STATUS) == STATUS_LOOP || ++getting >= C(COUNT))
        return 0;
    return 1;
}

static void serve(void)
{
    char byte;
    if (CALL3(SYS_READ, REQUEST_FD, &byte, 1) != 1)
        leave();
    for (;;) {
        getting = 0;
        num_requests++;
        set_addresses();
        if (!__builtin_setjmp((void **)end_of_call)) {
            if (C(OP) != OP_BOOT)
                set_up();
            run_apart(run);
        } else if (!abandoned && goes_on()) {
            in_call = 1;
            if (!__builtin_setjmp((void **)end_of_call))
                run_apart(get_pages);
        }
        in_call = 0;
        if (!abandoned) {
            if (known_max)
                C(XEN_MAX) = *(word *)known_max;
            C(SHARED_FLL) = wide(p2mk_shared_info.frame_list_list);
            C(SHARED_MAX) = p2mk_shared_info.max_pfn;
#ifdef __x86_64__
            C(SHARED_CR3) = p2mk_shared_info.p2m_cr3;
            C(SHARED_VADDR) = flat_form(p2mk_shared_info.p2m_vaddr);
            C(GENERATION) = p2mk_shared_info.p2m_generation;
#endif
            if (p2mk_roots.xen_p2m_last_pfn)
                C(HINT) = *(word *)p2mk_roots.xen_p2m_last_pfn;
            told(ANSWER_DONE);
        }
        abandoned = 0;
    }
}
