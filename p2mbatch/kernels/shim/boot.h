/* Pages of the boot allocator, and what else a kernel asks for while it boots. */

int p2mk_slab_is_available(void)
{
    return C(BRK_CLOSED) != 0;
}

/* The first of `count` pages, or ~0 where so many are not left. Where they are in runs of one page
 * each, what is asked for at once is nowhere in one piece: its first page stands for it. */
static word boot_pages(word count)
{
    u64 *runs = AREA(BOOT), skip = C(BOOT_USED), left = 0;
    word first = ~0UL;
    settle();
    for (u64 i = 0; i < C(BOOT_RUNS); i++) {
        u64 here = skip < runs[2 * i + 1] ? skip : runs[2 * i + 1];
        skip -= here;
        if (here < runs[2 * i + 1] && first == ~0UL)
            first = runs[2 * i] + here;
        left += runs[2 * i + 1] - here;
    }
    if (!count || left < count)
        return ~0UL;
    note(ENTRY_BOOT_PAGES, first, count, 0);
    C(BOOT_USED) += count;
    for (word i = 0; i < count; i++)
        made(first + i);
    return first;
}

static void *boot_memory(word bytes, int may_fail)
{
    word count = (bytes + PAGE_BYTES - 1) >> PAGE_SHIFT, first;
    if (C(BRK_CLOSED)) {
        /* It warns, and asks the slab; of that the model has one page at a time. */
        word where = taken(1);
        if (!where)
            stopped(STATUS_MEMORY, 0, call_pc);
        note(ENTRY_BOOT_PAGES, 0, 0, 0);
        return (void *)where;
    }
    first = boot_pages(count);
    if (first != ~0UL)
        return at_page(first);
    if (!may_fail)
        stopped(STATUS_BOOTMEM, 0, call_pc);
    return 0;
}

void *p2mk_alloc_bootmem(word bytes, word align)
{
    (void)align;
    ENTRY();
    return boot_memory(bytes, 0);
}

void *p2mk_memblock_alloc(word bytes, word align)
{
    (void)align;
    ENTRY();
    return boot_memory(bytes, 1);
}

void p2mk_free_bootmem(word where, word bytes)
{
    (void)bytes;
    ENTRY();
    note(ENTRY_FREE, wide(guest_form(where)), 0, 0);
}

/* --- a page that is copied whole ------------------------------------------------------------- */

/* Whether the parent has not worked out yet what a page of the guest's holds. */
static int is_unmade(word page)
{
    word x = page - lazy_first;
    return x < lazy_count && !(AREA(MADE)[x >> 6] >> (x & 63) & 1);
}

/* Copy a page as one entry of the log; 0 where it is not two pages of an era's guest. */
static int copied_page(word to, word from, word pc)
{
    word at = offset_of(to), source = offset_of(from);
    word page = at >> PAGE_SHIFT, other = source >> PAGE_SHIFT;
    if (!C(ERA) || at == ~0UL || source == ~0UL || (at | source) & (PAGE_BYTES - 1))
        return 0;
    call_pc = pc;
    settle();
    if (!touched[page])
        touch(page);
    note(ENTRY_COPY, wide(guest_form(to)), wide(guest_form(from)), 0);
    if (is_unmade(other)) {
        word x = page - lazy_first;
        if (x >= lazy_count) {
            ask_page(other);
        } else {
            AREA(MADE)[x >> 6] &= ~(1ULL << (x & 63));
            return 1;
        }
    }
    made(page);
    copy((void *)(DIRECT + at), (void *)(DIRECT + source), PAGE_BYTES);
    return 1;
}

void p2mk_copy_page(void *to, const void *from)
{
    word *out = to;
    const word *in = from;
    if (copied_page((word)to, (word)from, PC))
        return;
    for (word i = 0; i < PAGE_BYTES / WORD_BYTES; i++) {
        check_read((word)(in + i), WORD_BYTES, PC);
        check_write((word)(out + i), WORD_BYTES, PC);
        out[i] = in[i];
    }
    settle();
}
