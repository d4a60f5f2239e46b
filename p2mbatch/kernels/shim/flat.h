/* A linear p2m: page tables, the addresses that they map, stores that may fault. 64-bit alone.
 *
 * An entry holds a PFN and flags. What is mapped is not so in the child: its addresses are memory
 * of their own, and each access that a hook sees brings the one word there, or takes it away. */

word p2mk_hotplug_limit_gib GIVEN;
int p2mk_init_mm GIVEN;

#define PRESENT 1UL
#define WRITABLE 2UL
#define SAVED_PTES 256

/* Where the level-1 entries of pages of the table are, while no level-2 entry changes. */
static struct {
    word page;
    word *pte;
} saved_ptes[SAVED_PTES];

static void forget_ptes(void)
{
    for (unsigned i = 0; i < SAVED_PTES; i++)
        saved_ptes[i].page = ~0UL;
}

static word *table_at(word pfn)
{
    if (pfn >= direct_bytes >> PAGE_SHIFT)
        return 0;
    if (!touched[pfn])
        touch(pfn);
    return (word *)(DIRECT + (pfn << PAGE_SHIFT));
}

static void changed(word *place, word entry, word pc)
{
    check_write((word)place, WORD_BYTES, pc);
    *place = entry;
    settle();
}

/* The entry of a level (0: of pages, 1: of level-1 tables) for an address of the table; NULL where
 * there is none and none is to be made. */
static word *entry_of(word where, int low, int make)
{
    word at = where - FLAT + C(VADDR), *table = table_at(C(PGD));
    if (where - FLAT >= flat_bytes)
        return 0;
    for (int level = 3; table && level > low; level--) {
        word *entry = table + (at >> (12 + 9 * level) & 511);
        if (!(*entry & PRESENT)) {
            word fresh;
            if (!make)
                return 0;
            fresh = boot_pages(1);
            if (fresh == ~0UL)
                stopped(STATUS_BOOTMEM, 0, call_pc);
            changed(entry, fresh << PAGE_SHIFT | PRESENT | WRITABLE, call_pc);
        }
        table = table_at((*entry & ~(1UL << 63)) >> PAGE_SHIFT);
    }
    return table ? table + (at >> (12 + 9 * low) & 511) : 0;
}

static word *pte_of(word where)
{
    word page = (where - FLAT) >> PAGE_SHIFT;
    unsigned i = page % SAVED_PTES;
    if (saved_ptes[i].page != page || !saved_ptes[i].pte) {
        saved_ptes[i].pte = entry_of(where, 0, 0);
        saved_ptes[i].page = page;
    }
    return saved_ptes[i].pte;
}

/* The word of the guest's that a word of the table is; the call ends where there is none. */
static word *mapped_word(word where, word flags, word pc)
{
    word *pte = pte_of(where), page;
    if (!pte || (*pte & flags) != flags)
        stopped(STATUS_FAULT, where, pc);
    page = (*pte & ~(1UL << 63)) >> PAGE_SHIFT;
    if (page >= direct_bytes >> PAGE_SHIFT)
        stopped(STATUS_FAULT, where, pc);
    if (page - lazy_first < lazy_count)
        ask_page(page);
    if (!touched[page])
        touch(page);
    return (word *)(DIRECT + (page << PAGE_SHIFT) + (where & (PAGE_BYTES - 1) & ~(WORD_BYTES - 1)));
}

/* In which life each page of the table was looked at last, and how many were in this one: each is
 * memory of the child's own from then on. */
static unsigned *flat_looked, flat_life;
static word flat_pages;

static void begin_flat_life(void)
{
    flat_life++;
    flat_pages = 0;
}

static void count_flat(word where, word pc)
{
    unsigned *last = flat_looked + ((where - FLAT) >> PAGE_SHIFT);
    if (*last == flat_life)
        return;
    *last = flat_life;
    if (++flat_pages > TOUCHED_PAGES)
        stopped(STATUS_PAGES, 0, pc);
}

static void look_at_flat(word where, word bytes, word flags, word pc)
{
    for (word at = where & ~(WORD_BYTES - 1); at < where + bytes; at += WORD_BYTES) {
        word found = *mapped_word(at, flags, pc);
        count_flat(at, pc);
        *(word *)at = found;
    }
}

static void settle_flat(word where, word bytes, word pc)
{
    for (word at = where & ~(WORD_BYTES - 1); at < where + bytes; at += WORD_BYTES) {
        word *to = mapped_word(at, PRESENT | WRITABLE, pc), old = *to;
        *to = *(word *)at;
        note_store((word)to, *to, old, pc);
    }
}

/* --- what the kernel calls ------------------------------------------------------------------- */

word *p2mk_lookup_address(word where, unsigned int *level)
{
    word *found;
    ENTRY();
    found = entry_of(where, 0, 0);
    check_write((word)level, sizeof *level, call_pc);
    *level = 1;
    settle();
    return found;
}

word *p2mk_lookup_pmd_address(word where)
{
    ENTRY();
    return entry_of(where, 1, 0);
}

word *p2mk_populate_pte(word where)
{
    ENTRY();
    return entry_of(where, 0, 1);
}

word *p2mk_populate_pmd(word where)
{
    ENTRY();
    return entry_of(where, 1, 1);
}

void p2mk_set_pte(word *place, word entry)
{
    ENTRY();
    changed(place, entry, call_pc);
}

void p2mk_set_pmd(word *place, word entry)
{
    ENTRY();
    changed(place, entry, call_pc);
    forget_ptes();
}

void *p2mk_vm_area(word bytes, word align)
{
    (void)align;
    ENTRY();
    if (bytes != C(AREA_BYTES))
        stopped(STATUS_AREA, bytes, call_pc);
    flat_bytes = bytes;
    return (void *)FLAT;
}

int p2mk_safe_write(word *place, word value)
{
    word where = (word)place, *pte;
    ENTRY();
    if (where - FLAT < flat_bytes) {
        word *to, old;
        pte = pte_of(where);
        if (!pte || (*pte & (PRESENT | WRITABLE)) != (PRESENT | WRITABLE))
            return -14;
        /* No hook has announced it: it goes where it belongs at once. */
        to = mapped_word(where, PRESENT | WRITABLE, call_pc);
        old = *to;
        *to = value;
        note_store((word)to, value, old, call_pc);
        return 0;
    }
    if (offset_of(where) == ~0UL) {
        return -14;
    }
    changed(place, value, call_pc);
    return 0;
}

void *p2mk_swapper_pg_dir(void)
{
    return at_page(C(PGD));
}

word p2mk_chk_extra_mem(word pfn)
{
    u64 *runs = AREA(EXTRA);
    for (u64 i = 0; i < C(EXTRA); i++)
        if (pfn - runs[2 * i] < runs[2 * i + 1])
            return ~0UL;
    return pfn | 1UL << 62;
}

void p2mk_inv_extra_mem(void)
{
    u64 *runs = AREA(EXTRA);
    ENTRY();
    for (u64 i = 0; i < C(EXTRA); i++) {
        word first = runs[2 * i], end = first + runs[2 * i + 1];
        for (word pfn = first; pfn < end; pfn++) {
            p2mk_roots.set(pfn, ~0UL);
            if ((pfn & 511) == 511 && pfn - 511 >= first) {
                settle();
                note(ENTRY_EXTRA, pfn - 511, 0, 0);
            }
        }
    }
}

/* What the kernel has told the toolstack, as the guest has it, and back. */
static word flat_form(word where)
{
    if (where - FLAT < flat_bytes)
        return where - FLAT + C(VADDR);
    if (where - C(VADDR) < flat_bytes)
        return where - C(VADDR) + FLAT;
    return where;
}
