/* What a call did, entry by entry, for the parent to do over the guest's tables. */

static u64 log_length;
static word call_pc; /* where the user's code was last seen */

/* A store that a hook has announced and that is done by the time of the next one. */
static word pending, pending_pc, pending_old;
static word pending_bytes;

/* Whose MFNs were asked for last. */
static struct {
    word pfn, mfn;
} asked[4];
static unsigned asked_at;

/* What `mfn_to_virt` was told of last, so that the same is not told again. */
static u64 found_mfn, found_at, found_top;

static word top_mfn_page = 1, last_top_entry; /* no address of a page yet */
static u64 last_top_index = ~0ULL, last_top_word;

/* Where the next word of the run in the log's last entry would be, if that is a run of one word
 * again and again, else 0; what it must be, from where, and when its page was asked for. */
static word run_next, run_value, run_pc;
static unsigned run_asked_at;

static void ask(u64 what);

HOT u64 *new_entry(u64 kind, word pc)
{
    u64 *entry;
    if (log_length == LOG_ENTRIES)
        ask(ANSWER_MORE_LOG);
    entry = AREA(LOG) + log_length++ * ENTRY_WORDS;
    run_next = 0;
    entry[0] = kind | (u64)pc << 8;
    return entry;
}

COLD void note(u64 kind, u64 a, u64 b, u64 c)
{
    u64 *entry = new_entry(kind, call_pc);
    entry[1] = a;
    entry[2] = b;
    entry[3] = c;
}

HOT word asked_for(word mfn)
{
    for (unsigned i = 1; i <= 4; i++)
        if (asked[(asked_at - i) & 3].mfn == mfn)
            return asked[(asked_at - i) & 3].pfn + 1;
    return 0;
}

/* Where the next word is, 0 where it is in no part of the same page. */
HOT word next_in_page(word where)
{
    if ((where & ~(PAGE_BYTES - 1)) == top_mfn_page)
        return 0;
    return (where + WORD_BYTES) & (PAGE_BYTES - 1) ? where + WORD_BYTES : 0;
}

/* Note a store of one word of the guest's, in a run with those before where it is like them. */
static void note_store(word where, word value, word old, word pc)
{
    word from;
    u64 at, kept, *last;
    if (where == run_next && value == run_value && pc == run_pc && asked_at == run_asked_at) {
        AREA(LOG)[(log_length - 1) * ENTRY_WORDS + 4]++;
        run_next = next_in_page(where);
        return;
    }
    from = asked_for(value);
    at = wide(guest_form(where));
    kept = wide(guest_form(value));
    last = AREA(LOG) + (log_length - 1) * ENTRY_WORDS;
    if ((where & ~(PAGE_BYTES - 1)) == top_mfn_page) {
        /* The same MFN stored in the same entry again changes nothing. */
        if (where == last_top_entry && value == old && from)
            return;
        last_top_entry = where;
    }
    if (log_length && last[0] == (ENTRY_STORE | (u64)pc << 8) && (where & (PAGE_BYTES - 1)) &&
        at == last[1] + last[4] * WORD_BYTES && !from == !last[3]) {
        u64 count = last[4];
        if (count == 1) {
            last[5] = kept - last[2];
            last[6] = from - last[3];
        }
        if (kept == last[2] + count * last[5] && (!from || from == last[3] + count * last[6])) {
            last[4] = count + 1;
            run_next = last[5] || last[6] ? 0 : next_in_page(where);
            run_value = value;
            run_pc = pc;
            run_asked_at = asked_at;
            return;
        }
    }
    last = new_entry(ENTRY_STORE, pc);
    last[1] = at;
    last[2] = kept;
    last[3] = from;
    last[4] = 1;
}
