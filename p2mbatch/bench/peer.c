/*
 * The peer of p2mbatch's benchmarks: one Xen PV guest's p2m as a tree of pointers, in plain C.
 *
 * It does what p2mbatch's kernels do, the way one writes it at first: a page is 512 words, the tree
 * is walked by pointers, a page's MFN is found by looking its PFN up. Build: cc -O2 peer.c -o peer.
 *
 *     peer <pages> <seed>
 *
 * boots a guest of <pages> pages (4 KiB each) and then answers one JSON line for each line read:
 * "<kernel> <repeats>" gives {"kernel": ..., "items": ..., "check": ..., "samples_ns": [...]}.
 * Source: docs/model.md sections 2 to 7.
 */
#define _POSIX_C_SOURCE 199309L
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ENTRIES 512u
#define SHIFT 9
#define INVALID UINT64_MAX
#define FOREIGN_BIT (UINT64_C(1) << 31)
#define MAX_P2M_PFN (UINT64_C(1) << 27)
#define BRK_PFN 4096u
#define RESERVED 512u
#define NUM_LOOKUPS (1u << 20)

typedef uint64_t word;

/* The structures' pages lie side by side: brk first, then mfn_list, whose pages are the leaves. */
static word *arena;
static uint64_t arena_pages, num_pages, num_leaves;
static word ***top, **mid_missing, *missing;
static word *top_mfn, **top_mfn_p, *mid_mfn_missing;
static word *brk_next;

/* The host: frames handed out in extents of 2^order pages, shuffled by a keyed Feistel network. */
struct host {
    uint64_t frames, extents, left;
    unsigned order, bits;
    uint32_t key[4];
};
static struct host host;

static void die(const char *what)
{
    fprintf(stderr, "peer: %s\n", what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint32_t mix(uint32_t value, uint32_t key)
{
    uint32_t h = (value ^ key) * 0x7FEB352Du;
    return (h ^ (h >> 15)) * 0x5BD1E995u;
}

static void host_init(struct host *h, unsigned order, uint32_t seed)
{
    unsigned length = 0;
    h->frames = 4 * num_pages;
    h->order = order;
    h->extents = (h->frames - RESERVED) >> order;
    while ((h->extents - 1) >> length)
        length++;
    h->bits = length / 2 ? length / 2 : 1;
    h->left = (h->extents + (UINT64_C(1) << h->bits) - 1) >> h->bits;
    for (int i = 0; i < 4; i++)
        h->key[i] = mix(seed + 1, 0x9E3779B9u * (uint32_t)(i + 1));
}

static uint64_t extent_of(const struct host *h, uint64_t x)
{
    const uint64_t mask = (UINT64_C(1) << h->bits) - 1;
    do {
        uint64_t a = x >> h->bits, b = x & mask;
        b = (b + (mix((uint32_t)a, h->key[0]) >> (32 - h->bits))) & mask;
        a = (a + (((mix((uint32_t)b, h->key[1]) >> 16) * h->left) >> 16)) % h->left;
        b = (b + (mix((uint32_t)a, h->key[2]) >> (32 - h->bits))) & mask;
        a = (a + (((mix((uint32_t)b, h->key[3]) >> 16) * h->left) >> 16)) % h->left;
        x = (a << h->bits) | b;
    } while (x >= h->extents);
    return x;
}

static uint64_t index_of(const struct host *h, uint64_t x)
{
    const uint64_t mask = (UINT64_C(1) << h->bits) - 1;
    do {
        uint64_t a = x >> h->bits, b = x & mask;
        a = (a + h->left - (((mix((uint32_t)b, h->key[3]) >> 16) * h->left) >> 16)) % h->left;
        b = (b - (mix((uint32_t)a, h->key[2]) >> (32 - h->bits))) & mask;
        a = (a + h->left - (((mix((uint32_t)b, h->key[1]) >> 16) * h->left) >> 16)) % h->left;
        b = (b - (mix((uint32_t)a, h->key[0]) >> (32 - h->bits))) & mask;
        x = (a << h->bits) | b;
    } while (x >= h->extents);
    return x;
}

static word frame_of(const struct host *h, uint64_t pfn)
{
    uint64_t low = pfn & ((UINT64_C(1) << h->order) - 1);
    return RESERVED + ((extent_of(h, pfn >> h->order) << h->order) | low);
}

/* What the host's m2p holds: the guest's PFN, or INVALID where the frame is not the guest's. */
static word m2p(const struct host *h, word mfn)
{
    uint64_t at, pfn;
    if (mfn < RESERVED || mfn >= h->frames)
        return INVALID;
    at = mfn - RESERVED;
    if (at >> h->order >= h->extents)
        return INVALID;
    pfn = (index_of(h, at >> h->order) << h->order) | (at & ((UINT64_C(1) << h->order) - 1));
    return pfn < num_pages ? pfn : INVALID;
}

/* --- the tree ------------------------------------------------------------------------------- */

static word get_phys_to_machine(uint64_t pfn)
{
    if (pfn >= MAX_P2M_PFN)
        return INVALID;
    return top[pfn >> (2 * SHIFT)][(pfn >> SHIFT) & (ENTRIES - 1)][pfn & (ENTRIES - 1)];
}

static word virt_to_mfn(const void *page)
{
    uint64_t pfn = BRK_PFN + (uint64_t)((const word *)page - arena) / ENTRIES;
    word mfn = get_phys_to_machine(pfn);
    return mfn == INVALID ? INVALID : mfn & ~FOREIGN_BIT;
}

static word *page_of(uint64_t pfn)
{
    return arena + (pfn - BRK_PFN) * ENTRIES;
}

static void *extend_brk(void)
{
    word *page = brk_next;
    brk_next += ENTRIES;
    return page;
}

static void boot(void)
{
    uint64_t mids = (num_leaves + ENTRIES - 1) / ENTRIES;
    uint64_t brk_pages = 6 + 2 * mids;
    word *mfn_list;
    arena_pages = brk_pages + num_leaves;
    if (BRK_PFN + arena_pages > num_pages)
        die("too few pages for the structures");
    arena = calloc(arena_pages, ENTRIES * sizeof(word));
    if (!arena)
        die("out of memory");
    brk_next = arena;
    mfn_list = arena + brk_pages * ENTRIES;
    for (uint64_t pfn = 0; pfn < num_pages; pfn++)
        mfn_list[pfn] = frame_of(&host, pfn);
    missing = extend_brk();
    mid_missing = extend_brk();
    top = extend_brk();
    for (unsigned i = 0; i < ENTRIES; i++) {
        missing[i] = INVALID;
        mid_missing[i] = missing;
        top[i] = mid_missing;
    }
    for (uint64_t x = 0; x < num_leaves; x++) {
        if (top[x / ENTRIES] == mid_missing) {
            word **mid = extend_brk();
            for (unsigned i = 0; i < ENTRIES; i++)
                mid[i] = missing;
            top[x / ENTRIES] = mid;
        }
        top[x / ENTRIES][x % ENTRIES] = mfn_list + x * ENTRIES;
    }
    mid_mfn_missing = extend_brk();
    top_mfn_p = extend_brk();
    top_mfn = extend_brk();
    for (unsigned i = 0; i < ENTRIES; i++) {
        mid_mfn_missing[i] = virt_to_mfn(missing);
        top_mfn_p[i] = mid_mfn_missing;
        top_mfn[i] = virt_to_mfn(mid_mfn_missing);
    }
}

static uint64_t rebuild(void)
{
    for (unsigned i = 0; i < ENTRIES; i++)
        mid_mfn_missing[i] = virt_to_mfn(missing);
    for (uint64_t pfn = 0; pfn < num_pages; pfn += ENTRIES) {
        unsigned t = (unsigned)(pfn >> (2 * SHIFT)), m = (pfn >> SHIFT) & (ENTRIES - 1);
        word **mid = top[t], *mid_mfn = top_mfn_p[t];
        if (mid == mid_missing) {
            if (m != 0 || mid_mfn != mid_mfn_missing)
                die("BUG");
            top_mfn[t] = virt_to_mfn(mid_mfn_missing);
            pfn += (ENTRIES - 1) * ENTRIES;
            continue;
        }
        if (mid_mfn == mid_mfn_missing) {
            mid_mfn = extend_brk();
            for (unsigned i = 0; i < ENTRIES; i++)
                mid_mfn[i] = virt_to_mfn(missing);
            top_mfn_p[t] = mid_mfn;
        }
        top_mfn[t] = virt_to_mfn(mid_mfn);
        mid_mfn[m] = virt_to_mfn(mid[m]);
    }
    return num_leaves;
}

/* --- a migration ---------------------------------------------------------------------------- */

static int bad_mfn(word mfn)
{
    return mfn == 0 || mfn > host.frames;
}

/* The toolstack's checks, in order; every one must hold in a sound guest. */
static uint64_t save_walk(void)
{
    uint64_t max_pfn = num_pages - 1, last = 0, num_fll = (max_pfn >> (2 * SHIFT)) + 1;
    word fll_mfn = virt_to_mfn(top_mfn);
    word *fll, *fl[ENTRIES];
    if (num_fll > ENTRIES || bad_mfn(fll_mfn) || m2p(&host, fll_mfn) == INVALID)
        die("save: frame list list");
    fll = page_of(m2p(&host, fll_mfn));
    for (uint64_t x = 0; x < num_fll; x++) {
        if (bad_mfn(fll[x]))
            die("save: bad-mfn-in-fll");
        if (fll[x] != fll[last])
            last = x;
    }
    if (((last + 1) << (2 * SHIFT)) - 1 < max_pfn) {
        max_pfn = ((last + 1) << (2 * SHIFT)) - 1;
        num_fll = last + 1;
    }
    for (uint64_t x = 0; x < num_fll; x++) {
        word pfn = m2p(&host, fll[x]);
        if (pfn == INVALID)
            die("save: map-fl-failed");
        fl[x] = page_of(pfn);
    }
    for (uint64_t x = 0; x <= max_pfn >> SHIFT; x++)
        if (bad_mfn(fl[x >> SHIFT][x & (ENTRIES - 1)]))
            die("save: bad-mfn-in-fl");
    for (uint64_t x = 0; x <= max_pfn >> SHIFT; x++)
        if (m2p(&host, fl[x >> SHIFT][x & (ENTRIES - 1)]) == INVALID)
            die("save: map-leaves-failed");
    for (uint64_t x = 0; x <= max_pfn >> SHIFT; x++) {
        word mfn = fl[x >> SHIFT][x & (ENTRIES - 1)], pfn = m2p(&host, mfn), *leaf;
        if (pfn > max_pfn)
            die("save: bad-mfn-in-p2m-frame-list");
        leaf = page_of(m2p(&host, fl[pfn >> (2 * SHIFT)][(pfn >> SHIFT) & (ENTRIES - 1)]));
        if (leaf[pfn & (ENTRIES - 1)] != mfn)
            die("save: bad-mfn-in-p2m-frame-list");
    }
    return (max_pfn >> SHIFT) + 1;
}

static uint64_t restore(unsigned order, uint32_t seed)
{
    host_init(&host, order, seed);
    for (uint64_t x = 0; x < num_leaves; x++) {
        word *leaf = top[x >> SHIFT][x & (ENTRIES - 1)];
        for (unsigned i = 0; i < ENTRIES; i++)
            if (leaf[i] != INVALID)
                leaf[i] = frame_of(&host, (x << SHIFT) | i);
    }
    return num_pages;
}

static int set_phys_to_machine(uint64_t pfn, word mfn)
{
    word **mid;
    if (pfn >= MAX_P2M_PFN)
        return mfn == INVALID;
    mid = top[pfn >> (2 * SHIFT)];
    if (mid[(pfn >> SHIFT) & (ENTRIES - 1)] == missing)
        return mfn == INVALID;
    mid[(pfn >> SHIFT) & (ENTRIES - 1)][pfn & (ENTRIES - 1)] = mfn;
    return 1;
}

/* Balloon runs of pages out and in again. */
static uint64_t populate(const word *runs, unsigned num_runs)
{
    uint64_t done = 0;
    for (unsigned r = 0; r < num_runs; r++)
        for (uint64_t k = 0; k < runs[3 * r + 2]; k++) {
            word mfn = runs[3 * r + 1];
            if (!set_phys_to_machine(runs[3 * r] + k, mfn == INVALID ? INVALID : mfn + k))
                die("populate");
            done++;
        }
    return done;
}

/* --- measuring ------------------------------------------------------------------------------ */

static uint64_t state = 88172645463325252u;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static int compare(const void *a, const void *b)
{
    word x = *(const word *)a, y = *(const word *)b;
    return (x > y) - (x < y);
}

static void answer(const char *kernel, int repeats)
{
    static word *in, *out, runs[2 * 3 * 256];
    uint64_t items = 0, check = 0;
    if (!in) {
        in = malloc(NUM_LOOKUPS * sizeof *in);
        out = malloc(NUM_LOOKUPS * sizeof *out);
        if (!in || !out)
            die("out of memory");
    }
    printf("{\"kernel\": \"%s\", \"samples_ns\": [", kernel);
    for (int repeat = 0; repeat < repeats; repeat++) {
        uint64_t begin, first = num_pages > NUM_LOOKUPS ? next_random() % (num_pages - NUM_LOOKUPS) : 0;
        for (unsigned k = 0; k < NUM_LOOKUPS && !strncmp(kernel, "lookup", 6); k++)
            in[k] = strcmp(kernel, "lookup_sequential") ? next_random() % num_pages
                                                        : (first + k) % num_pages;
        if (!strcmp(kernel, "lookup_sorted"))
            qsort(in, NUM_LOOKUPS, sizeof *in, compare);
        if (!strcmp(kernel, "lookup_m2p"))
            for (unsigned k = 0; k < NUM_LOOKUPS; k++)
                in[k] = get_phys_to_machine(in[k]);
        for (unsigned r = 0; r < 256 && !strcmp(kernel, "populate"); r++) {
            uint64_t pfn = num_pages / 512 / 512 * r * 512 + 7;
            word mfn = get_phys_to_machine(pfn);
            runs[3 * r] = pfn;
            runs[3 * r + 1] = INVALID;
            runs[3 * r + 2] = 300;
            memcpy(runs + 3 * (256 + r), runs + 3 * r, 3 * sizeof(word));
            runs[3 * (256 + r) + 1] = mfn;
        }
        begin = now_ns();
        if (!strcmp(kernel, "rebuild"))
            items = rebuild();
        else if (!strcmp(kernel, "save_walk"))
            items = save_walk();
        else if (!strcmp(kernel, "restore_order9"))
            items = restore(9, (uint32_t)next_random());
        else if (!strcmp(kernel, "restore_order0"))
            items = restore(0, (uint32_t)next_random());
        else if (!strcmp(kernel, "populate"))
            items = populate(runs, 512);
        else if (!strcmp(kernel, "lookup_m2p"))
            for (items = 0; items < NUM_LOOKUPS; items++)
                out[items] = m2p(&host, in[items]);
        else if (!strncmp(kernel, "lookup_", 7))
            for (items = 0; items < NUM_LOOKUPS; items++)
                out[items] = get_phys_to_machine(in[items]);
        else
            die("no such kernel");
        printf("%s%llu", repeat ? ", " : "", (unsigned long long)(now_ns() - begin));
        if (!strncmp(kernel, "restore", 7))
            rebuild();
        check ^= out[repeat % NUM_LOOKUPS];
    }
    check ^= top_mfn[0] ^ top_mfn_p[0][0];
    printf("], \"items\": %llu, \"check\": %llu}\n", (unsigned long long)items,
           (unsigned long long)check);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    char line[64], kernel[32];
    int repeats;
    if (argc != 3)
        die("usage: peer <pages> <seed>");
    num_pages = strtoull(argv[1], NULL, 10);
    num_leaves = num_pages / ENTRIES;
    if (num_pages == 0 || num_pages % ENTRIES || num_pages > MAX_P2M_PFN)
        die("pages: a multiple of 512 up to 2^27");
    host_init(&host, 9, (uint32_t)strtoul(argv[2], NULL, 10));
    boot();
    rebuild();
    save_walk();
    printf("{\"ready\": %llu}\n", (unsigned long long)num_pages);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin))
        if (sscanf(line, "%31s %d", kernel, &repeats) == 2)
            answer(kernel, repeats);
    return 0;
}
