/*
 * The peer of p2mbatch's benchmarks: one Xen PV guest's p2m as a tree of pointers, in plain C.
 *
 * It does to the same guest what p2mbatch's kernels do, the way one writes it at first: a page is
 * 512 words, the tree is walked by pointers, a page's MFN is found by looking its PFN up. Build:
 * cc -O2 -shared -fPIC peer.c -o peer.so. `open_guest` says whose tree it is; there is one at a
 * time. Every function returns how many items it did, 0 where the guest is not sound.
 * Source: docs/model.md sections 2 to 7.
 */
#include <stdint.h>
#include <stdlib.h>

#define ENTRIES 512u
#define SHIFT 9
#define INVALID UINT64_MAX
#define FOREIGN_BIT (UINT64_C(1) << 31)
#define MAX_P2M_PFN (UINT64_C(1) << 27)

typedef uint64_t word;

/* The structures' pages: brk's anywhere among them, mfn_list's (the leaves) side by side. */
struct guest {
    word *pages;
    const int64_t *pfns;
    uint64_t num_pages, num_leaves, first_leaf, mfn_list_pfn;
    uint64_t brk_pfn, num_brk;
    const int64_t *brk_slots;
    uint64_t missing, mid_mfn_missing, top_mfn;
    const int64_t *lists;
};

/* Frames handed out in extents of 2^order pages, shuffled by a keyed Feistel network. */
struct host {
    const int64_t *shuffle; /* extents, left half's values, right half's bits, four keys */
    uint64_t frames, reserved, order;
};

static struct guest g;
static word **top[ENTRIES], *mid_missing[ENTRIES], *missing;
static word *top_mfn, *top_mfn_p[ENTRIES], *mid_mfn_missing;

static uint32_t mix(uint64_t value, int64_t key)
{
    uint32_t h = ((uint32_t)value ^ (uint32_t)key) * 0x7FEB352Du;
    return (h ^ (h >> 15)) * 0x5BD1E995u;
}

static uint64_t extent_of(const int64_t *s, uint64_t x)
{
    const uint64_t left = (uint64_t)s[1], bits = (uint64_t)s[2], mask = (UINT64_C(1) << bits) - 1;
    do {
        uint64_t a = x >> bits, b = x & mask;
        b = (b + (mix(a, s[3]) >> (32 - bits))) & mask;
        a = (a + (((mix(b, s[4]) >> 16) * left) >> 16)) % left;
        b = (b + (mix(a, s[5]) >> (32 - bits))) & mask;
        a = (a + (((mix(b, s[6]) >> 16) * left) >> 16)) % left;
        x = (a << bits) | b;
    } while (x >= (uint64_t)s[0]);
    return x;
}

static uint64_t index_of(const int64_t *s, uint64_t x)
{
    const uint64_t left = (uint64_t)s[1], bits = (uint64_t)s[2], mask = (UINT64_C(1) << bits) - 1;
    do {
        uint64_t a = x >> bits, b = x & mask;
        a = (a + left - (((mix(b, s[6]) >> 16) * left) >> 16)) % left;
        b = (b - (mix(a, s[5]) >> (32 - bits))) & mask;
        a = (a + left - (((mix(b, s[4]) >> 16) * left) >> 16)) % left;
        b = (b - (mix(a, s[3]) >> (32 - bits))) & mask;
        x = (a << bits) | b;
    } while (x >= (uint64_t)s[0]);
    return x;
}

static word frame_of(const struct host *h, uint64_t pfn)
{
    uint64_t low = pfn & ((UINT64_C(1) << h->order) - 1);
    return h->reserved + ((extent_of(h->shuffle, pfn >> h->order) << h->order) | low);
}

/* What the host's m2p holds: the guest's PFN, or INVALID where the frame is not the guest's. */
static word m2p(const struct host *h, word mfn)
{
    uint64_t at = mfn - h->reserved, low = at & ((UINT64_C(1) << h->order) - 1), pfn;
    if (mfn < h->reserved || mfn >= h->frames || at >> h->order >= (uint64_t)h->shuffle[0])
        return INVALID;
    pfn = (index_of(h->shuffle, at >> h->order) << h->order) | low;
    return pfn < g.num_pages ? pfn : INVALID;
}

static word get_phys_to_machine(uint64_t pfn)
{
    if (pfn >= MAX_P2M_PFN)
        return INVALID;
    return top[pfn >> (2 * SHIFT)][(pfn >> SHIFT) & (ENTRIES - 1)][pfn & (ENTRIES - 1)];
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

static word virt_to_mfn(const word *page)
{
    uint64_t slot = (uint64_t)(page - g.pages) / ENTRIES, x = slot - g.first_leaf;
    word mfn = get_phys_to_machine(x < g.num_leaves ? g.mfn_list_pfn + x : (uint64_t)g.pfns[slot]);
    return mfn == INVALID ? INVALID : mfn & ~FOREIGN_BIT;
}

/* The page of the tree that `pfn` is, or none. */
static word *page_of(uint64_t pfn)
{
    uint64_t x = pfn - g.mfn_list_pfn, b = pfn - g.brk_pfn;
    if (x < g.num_leaves)
        return g.pages + (g.first_leaf + x) * ENTRIES;
    return b < g.num_brk && g.brk_slots[b] >= 0 ? g.pages + g.brk_slots[b] * ENTRIES : NULL;
}

uint64_t open_guest(const struct guest *guest)
{
    for (unsigned i = 0; i < ENTRIES; i++)
        if (top[i] != mid_missing)
            free(top[i]);
    g = *guest;
    missing = g.pages + g.missing * ENTRIES;
    mid_mfn_missing = g.pages + g.mid_mfn_missing * ENTRIES;
    top_mfn = g.pages + g.top_mfn * ENTRIES;
    for (unsigned i = 0; i < ENTRIES; i++) {
        mid_missing[i] = missing;
        top[i] = mid_missing;
        top_mfn_p[i] = mid_mfn_missing;
    }
    for (uint64_t x = 0; x < g.num_leaves; x++) {
        if (x % ENTRIES == 0) {
            word **mid = top[x / ENTRIES] = malloc(ENTRIES * sizeof *mid);
            for (unsigned i = 0; mid && i < ENTRIES; i++)
                mid[i] = missing;
            if (!mid)
                return 0;
            top_mfn_p[x / ENTRIES] = g.pages + (uint64_t)g.lists[x / ENTRIES] * ENTRIES;
        }
        top[x / ENTRIES][x % ENTRIES] = g.pages + (g.first_leaf + x) * ENTRIES;
    }
    return g.num_leaves;
}

uint64_t lookup(const word *pfns, word *out, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        out[i] = get_phys_to_machine(pfns[i]);
    return count;
}

uint64_t lookup_m2p(const struct host *h, const word *mfns, word *out, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        out[i] = m2p(h, mfns[i]);
    return count;
}

uint64_t rebuild(void)
{
    for (unsigned i = 0; i < ENTRIES; i++)
        mid_mfn_missing[i] = virt_to_mfn(missing);
    for (uint64_t pfn = 0; pfn < g.num_pages; pfn += ENTRIES) {
        unsigned t = (unsigned)(pfn >> (2 * SHIFT)), m = (pfn >> SHIFT) & (ENTRIES - 1);
        if (top[t] == mid_missing) {
            top_mfn[t] = virt_to_mfn(mid_mfn_missing);
            pfn += (ENTRIES - 1) * ENTRIES;
            continue;
        }
        top_mfn[t] = virt_to_mfn(top_mfn_p[t]);
        top_mfn_p[t][m] = virt_to_mfn(top[t][m]);
    }
    return g.num_leaves;
}

static int bad_mfn(const struct host *h, word mfn)
{
    return mfn == 0 || mfn > h->frames;
}

/* The toolstack's checks, in order; every one must hold in a sound guest. */
uint64_t save_walk(const struct host *h)
{
    uint64_t max_pfn = g.num_pages - 1, last = 0, num_fll = (max_pfn >> (2 * SHIFT)) + 1;
    word fll_mfn = virt_to_mfn(top_mfn), *fll = page_of(m2p(h, fll_mfn)), *fl[ENTRIES];
    if (num_fll > ENTRIES || bad_mfn(h, fll_mfn) || !fll)
        return 0;
    for (uint64_t x = 0; x < num_fll; x++) {
        if (bad_mfn(h, fll[x]))
            return 0;
        if (fll[x] != fll[last])
            last = x;
    }
    if (((last + 1) << (2 * SHIFT)) - 1 < max_pfn) {
        max_pfn = ((last + 1) << (2 * SHIFT)) - 1;
        num_fll = last + 1;
    }
    for (uint64_t x = 0; x < num_fll; x++) {
        fl[x] = page_of(m2p(h, fll[x]));
        if (!fl[x])
            return 0;
    }
    for (uint64_t x = 0; x <= max_pfn >> SHIFT; x++)
        if (bad_mfn(h, fl[x >> SHIFT][x & (ENTRIES - 1)]))
            return 0;
    for (uint64_t x = 0; x <= max_pfn >> SHIFT; x++)
        if (m2p(h, fl[x >> SHIFT][x & (ENTRIES - 1)]) == INVALID)
            return 0;
    for (uint64_t x = 0; x <= max_pfn >> SHIFT; x++) {
        word mfn = fl[x >> SHIFT][x & (ENTRIES - 1)], pfn = m2p(h, mfn), *leaf;
        if (pfn > max_pfn)
            return 0;
        leaf = page_of(m2p(h, fl[pfn >> (2 * SHIFT)][(pfn >> SHIFT) & (ENTRIES - 1)]));
        if (!leaf || leaf[pfn & (ENTRIES - 1)] != mfn)
            return 0;
    }
    return (max_pfn >> SHIFT) + 1;
}

uint64_t restore(const struct host *h)
{
    for (uint64_t x = 0; x < g.num_leaves; x++) {
        word *leaf = top[x >> SHIFT][x & (ENTRIES - 1)];
        for (unsigned i = 0; i < ENTRIES; i++)
            if (leaf[i] != INVALID)
                leaf[i] = frame_of(h, (x << SHIFT) | i);
    }
    return g.num_pages;
}

/* Balloon runs (first PFN, first MFN or INVALID, pages) out and in again. */
uint64_t populate(const word *runs, uint64_t num_runs)
{
    uint64_t done = 0;
    for (const word *run = runs; run < runs + 3 * num_runs; run += 3)
        for (uint64_t k = 0; k < run[2]; k++, done++)
            if (!set_phys_to_machine(run[0] + k, run[1] == INVALID ? INVALID : run[1] + k))
                return 0;
    return done;
}
