/*
 * The p2m and the mfn list list of a PV guest, as kernels from 3.7 to 3.13 have them in p2m.c.
 *
 * PFNs that are the machine's own say so in a bit of their entry, or by a leaf that many of them
 * share. With 64 bits the leaves leave the domain builder's list at the end of boot.
 *
 * Written for the tests of p2mbatch, in the kernel's vocabulary. It is no part of any kernel.
 */
#include <linux/init.h>
#include <linux/module.h>
#include <linux/list.h>
#include <linux/hash.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/bootmem.h>

#include <asm/cache.h>
#include <asm/setup.h>

#include <asm/xen/page.h>
#include <asm/xen/hypercall.h>
#include <asm/xen/hypervisor.h>
#include <xen/grant_table.h>

#include "multicalls.h"
#include "xen-ops.h"

static void __init m2p_override_init(void);

unsigned long xen_max_p2m_pfn __read_mostly;

#define P2M_PER_PAGE		(PAGE_SIZE / sizeof(unsigned long))
#define P2M_MID_PER_PAGE	(PAGE_SIZE / sizeof(unsigned long *))
#define P2M_TOP_PER_PAGE	(PAGE_SIZE / sizeof(unsigned long **))
#define P2M_PER_MID		(P2M_MID_PER_PAGE * P2M_PER_PAGE)

#define MAX_P2M_PFN		(P2M_TOP_PER_PAGE * P2M_PER_MID)

/* Placeholders: what has no frames names these, in both trees. */
static RESERVE_BRK_ARRAY(unsigned long, p2m_missing, P2M_PER_PAGE);
static RESERVE_BRK_ARRAY(unsigned long *, p2m_mid_missing, P2M_MID_PER_PAGE);
static RESERVE_BRK_ARRAY(unsigned long, p2m_mid_missing_mfn, P2M_MID_PER_PAGE);

static RESERVE_BRK_ARRAY(unsigned long **, p2m_top, P2M_TOP_PER_PAGE);
static RESERVE_BRK_ARRAY(unsigned long, p2m_top_mfn, P2M_TOP_PER_PAGE);
static RESERVE_BRK_ARRAY(unsigned long *, p2m_top_mfn_p, P2M_TOP_PER_PAGE);

/* All PFNs of a leaf are the machine's own. */
static RESERVE_BRK_ARRAY(unsigned long, p2m_identity, P2M_PER_PAGE);

RESERVE_BRK(p2m_mid, PAGE_SIZE * (MAX_DOMAIN_PAGES / P2M_PER_MID));
RESERVE_BRK(p2m_mid_mfn, PAGE_SIZE * (MAX_DOMAIN_PAGES / P2M_PER_MID));
RESERVE_BRK(p2m_mid_identity, PAGE_SIZE * 2 * 3);

static inline unsigned p2m_top_index(unsigned long pfn)
{
	BUG_ON(pfn >= MAX_P2M_PFN);
	return pfn / P2M_PER_MID;
}

static inline unsigned p2m_mid_index(unsigned long pfn)
{
	return pfn / P2M_PER_PAGE % P2M_MID_PER_PAGE;
}

static inline unsigned p2m_index(unsigned long pfn)
{
	return pfn % P2M_PER_PAGE;
}

/* Every word of a page of longs becomes @word. */
static void fill_page(void *page, unsigned long word)
{
	unsigned long *out = page;
	unsigned i;

	for (i = 0; i < P2M_PER_PAGE; i++)
		out[i] = word;
}

static void *brk_page(unsigned long word)
{
	void *page = extend_brk(PAGE_SIZE, PAGE_SIZE);

	fill_page(page, word);
	return page;
}

/* Called at boot, and again by the resume: the frames are others then. */
void __ref xen_build_mfn_list_list(void)
{
	unsigned long pfn = 0;

	if (p2m_top_mfn == NULL) {
		p2m_mid_missing_mfn = extend_brk(PAGE_SIZE, PAGE_SIZE);
		fill_page(p2m_mid_missing_mfn, virt_to_mfn(p2m_missing));

		p2m_top_mfn_p = extend_brk(PAGE_SIZE, PAGE_SIZE);
		fill_page(p2m_top_mfn_p, (unsigned long)p2m_mid_missing_mfn);

		p2m_top_mfn = extend_brk(PAGE_SIZE, PAGE_SIZE);
		fill_page(p2m_top_mfn, virt_to_mfn(p2m_mid_missing_mfn));
	} else {
		fill_page(p2m_mid_missing_mfn, virt_to_mfn(p2m_missing));
	}

	while (pfn < xen_max_p2m_pfn) {
		unsigned topidx = p2m_top_index(pfn);
		unsigned mididx = p2m_mid_index(pfn);
		unsigned long **mid = p2m_top[topidx];
		unsigned long *mid_mfn_p = p2m_top_mfn_p[topidx];

		if (mid == p2m_mid_missing) {
			BUG_ON(mididx);
			BUG_ON(mid_mfn_p != p2m_mid_missing_mfn);
			p2m_top_mfn[topidx] = virt_to_mfn(p2m_mid_missing_mfn);
			pfn += P2M_PER_MID;
			continue;
		}

		if (mid_mfn_p == p2m_mid_missing_mfn) {
			/* Boot alone comes here: alloc_p2m makes later ones. */
			mid_mfn_p = brk_page(virt_to_mfn(p2m_missing));
			p2m_top_mfn_p[topidx] = mid_mfn_p;
		}

		p2m_top_mfn[topidx] = virt_to_mfn(mid_mfn_p);
		mid_mfn_p[mididx] = virt_to_mfn(mid[mididx]);
		pfn += P2M_PER_PAGE;
	}
}

/* Tells the toolstack where the list is and how far it goes. */
void xen_setup_mfn_list_list(void)
{
	BUG_ON(HYPERVISOR_shared_info == &xen_dummy_shared_info);

	HYPERVISOR_shared_info->arch.pfn_to_mfn_frame_list_list = virt_to_mfn(p2m_top_mfn);
	HYPERVISOR_shared_info->arch.max_pfn = xen_max_p2m_pfn;
}

/* The leaves are the domain builder's flat list itself, page by page, for now. */
void __init xen_build_dynamic_phys_to_machine(void)
{
	unsigned long *mfn_list = (unsigned long *)xen_start_info->mfn_list;
	unsigned long max_pfn = min(MAX_DOMAIN_PAGES, xen_start_info->nr_pages);
	unsigned long pfn;

	xen_max_p2m_pfn = max_pfn;

	p2m_missing = extend_brk(PAGE_SIZE, PAGE_SIZE);
	fill_page(p2m_missing, INVALID_P2M_ENTRY);

	p2m_mid_missing = brk_page((unsigned long)p2m_missing);
	p2m_top = brk_page((unsigned long)p2m_mid_missing);
	p2m_identity = brk_page(INVALID_P2M_ENTRY);

	for (pfn = 0; pfn < max_pfn; pfn += P2M_PER_PAGE) {
		unsigned long ***slot = p2m_top + p2m_top_index(pfn);
		unsigned long i;

		if (*slot == p2m_mid_missing)
			*slot = brk_page((unsigned long)p2m_missing);

		/* The rest of the last page has never been a PFN's. */
		for (i = max_pfn; i < pfn + P2M_PER_PAGE; i++)
			mfn_list[i] = INVALID_P2M_ENTRY;

		(*slot)[p2m_mid_index(pfn)] = mfn_list + pfn;
	}

	m2p_override_init();
}

unsigned long get_phys_to_machine(unsigned long pfn)
{
	unsigned long *leaf;

	if (unlikely(pfn >= MAX_P2M_PFN))
		return INVALID_P2M_ENTRY;

	leaf = p2m_top[p2m_top_index(pfn)][p2m_mid_index(pfn)];
	/* A missing leaf is full of the same word. */
	if (leaf == p2m_identity)
		return IDENTITY_FRAME(pfn);

	return leaf[p2m_index(pfn)];
}
EXPORT_SYMBOL_GPL(get_phys_to_machine);

static void *alloc_p2m_page(void)
{
	return (void *)__get_free_page(GFP_KERNEL | __GFP_REPEAT);
}

static void free_p2m_page(void *page)
{
	free_page((unsigned long)page);
}

/*
 * Makes what @pfn lacks of mid, list page and leaf. What was hung in before the memory ran out
 * stays where it is.
 */
static bool alloc_p2m(unsigned long pfn)
{
	unsigned topidx = p2m_top_index(pfn);
	unsigned mididx = p2m_mid_index(pfn);
	unsigned long ***top_p = &p2m_top[topidx];
	unsigned long *top_mfn_p = &p2m_top_mfn[topidx];
	unsigned long **mid = *top_p;
	unsigned long *mid_mfn;

	if (mid == p2m_mid_missing) {
		mid = alloc_p2m_page();
		if (!mid)
			return false;

		fill_page(mid, (unsigned long)p2m_missing);
		if (cmpxchg(top_p, p2m_mid_missing, mid) != p2m_mid_missing)
			free_p2m_page(mid);
	}

	mid_mfn = p2m_top_mfn_p[topidx];
	BUG_ON(virt_to_mfn(mid_mfn) != *top_mfn_p);

	if (mid_mfn == p2m_mid_missing_mfn) {
		unsigned long missing_mfn = virt_to_mfn(p2m_mid_missing_mfn);

		mid_mfn = alloc_p2m_page();
		if (!mid_mfn)
			return false;

		fill_page(mid_mfn, virt_to_mfn(p2m_missing));
		if (cmpxchg(top_mfn_p, missing_mfn, virt_to_mfn(mid_mfn)) != missing_mfn)
			free_p2m_page(mid_mfn);
		else
			p2m_top_mfn_p[topidx] = mid_mfn;
	}

	if (mid[mididx] == p2m_missing || mid[mididx] == p2m_identity) {
		unsigned long *old = mid[mididx];
		unsigned long *leaf = alloc_p2m_page();

		if (!leaf)
			return false;

		fill_page(leaf, INVALID_P2M_ENTRY);
		if (cmpxchg(&mid[mididx], old, leaf) != old)
			free_p2m_page(leaf);
		else
			mid_mfn[mididx] = virt_to_mfn(leaf);
	}

	return true;
}

/* A mid of its own for @pfn while the kernel boots, and a page of the list. */
static void __init early_mid(unsigned long pfn)
{
	unsigned topidx = p2m_top_index(pfn);
	unsigned long *mid_mfn_p = p2m_top_mfn_p[topidx];

	if (p2m_top[topidx] == p2m_mid_missing) {
		p2m_top[topidx] = brk_page((unsigned long)p2m_missing);
		BUG_ON(mid_mfn_p != p2m_mid_missing_mfn);
	}

	if (mid_mfn_p == p2m_mid_missing_mfn) {
		mid_mfn_p = brk_page(virt_to_mfn(p2m_missing));
		p2m_top_mfn_p[topidx] = mid_mfn_p;
		p2m_top_mfn[topidx] = virt_to_mfn(mid_mfn_p);
	}
}

/* A leaf of its own where @pfn parts 1:1 PFNs from others. */
static void __init early_leaf(unsigned long pfn)
{
	unsigned topidx = p2m_top_index(pfn);
	unsigned mididx = p2m_mid_index(pfn);
	unsigned long *leaf;

	if (p2m_index(pfn) == 0)
		return;

	WARN_ON(p2m_top[topidx][mididx] == p2m_identity);
	if (p2m_top[topidx][mididx] != p2m_missing)
		return;

	leaf = brk_page(INVALID_P2M_ENTRY);
	p2m_top[topidx][mididx] = leaf;

	WARN_ON(p2m_top_mfn_p[topidx][mididx] != virt_to_mfn(p2m_missing));
	p2m_top_mfn_p[topidx][mididx] = virt_to_mfn(leaf);
}

bool __set_phys_to_machine(unsigned long pfn, unsigned long mfn);

unsigned long __init set_phys_range_identity(unsigned long pfn_s, unsigned long pfn_e)
{
	unsigned long pfn;

	if (unlikely(pfn_s >= MAX_P2M_PFN || pfn_e >= MAX_P2M_PFN))
		return 0;

	if (pfn_s > pfn_e)
		return 0;

	for (pfn = round_down(pfn_s, P2M_PER_MID); pfn < ALIGN(pfn_e, P2M_PER_MID);
	     pfn += P2M_PER_MID)
		early_mid(pfn);

	early_leaf(pfn_s);
	early_leaf(pfn_e);

	for (pfn = pfn_s; pfn < pfn_e; pfn++)
		if (!__set_phys_to_machine(pfn, IDENTITY_FRAME(pfn)))
			break;

	WARN_ON(pfn != pfn_e);
	return pfn - pfn_s;
}

#ifdef CONFIG_X86_64
/* The leaves move out of the domain builder's list, whose pages are then free. */
unsigned long __init xen_revector_p2m_tree(void)
{
	unsigned long va_start = xen_start_info->mfn_list;
	unsigned long size = PAGE_ALIGN(xen_start_info->nr_pages * sizeof(unsigned long));
	unsigned long va_end = va_start + size;
	unsigned long pfn, pfn_free = 0;
	unsigned long *mfn_list;

	if (va_start <= __START_KERNEL_map && va_start >= __PAGE_OFFSET)
		return 0;

	mfn_list = alloc_bootmem_align(size, PAGE_SIZE);

	for (pfn = 0; pfn < ALIGN(MAX_DOMAIN_PAGES, P2M_PER_PAGE); pfn += P2M_PER_PAGE) {
		unsigned topidx = p2m_top_index(pfn);
		unsigned mididx = p2m_mid_index(pfn);
		unsigned long *leaf;

		if (p2m_top[topidx] == p2m_mid_missing) {
			pfn += P2M_PER_MID - P2M_PER_PAGE;
			continue;
		}

		leaf = p2m_top[topidx][mididx];
		if ((unsigned long)leaf < va_start || (unsigned long)leaf >= va_end)
			continue;

		copy_page(&mfn_list[pfn_free], leaf);
		p2m_top[topidx][mididx] = &mfn_list[pfn_free];
		p2m_top_mfn_p[topidx][mididx] = virt_to_mfn(&mfn_list[pfn_free]);
		pfn_free += P2M_PER_PAGE;
	}

	return (unsigned long)mfn_list;
}
#endif

/* Never grows: false where @pfn has no leaf that could hold @mfn. */
bool __set_phys_to_machine(unsigned long pfn, unsigned long mfn)
{
	unsigned long ***top_p, **mid_p, *leaf;

	if (unlikely(pfn >= MAX_P2M_PFN)) {
		BUG_ON(mfn != INVALID_P2M_ENTRY);
		return true;
	}

	top_p = &p2m_top[p2m_top_index(pfn)];
	mid_p = &(*top_p)[p2m_mid_index(pfn)];
	leaf = *mid_p;

	if (mfn != INVALID_P2M_ENTRY && (mfn & IDENTITY_FRAME_BIT)) {
		if (leaf == p2m_identity)
			return true;
		if (leaf == p2m_missing) {
			WARN_ON(cmpxchg(mid_p, p2m_missing, p2m_identity) != p2m_missing);
			return true;
		}
	}

	if (leaf == p2m_missing)
		return mfn == INVALID_P2M_ENTRY;

	leaf[p2m_index(pfn)] = mfn;
	return true;
}

bool set_phys_to_machine(unsigned long pfn, unsigned long mfn)
{
	if (unlikely(!__set_phys_to_machine(pfn, mfn)))
		return alloc_p2m(pfn) && __set_phys_to_machine(pfn, mfn);

	return true;
}

/* From here on nothing is of the p2m itself, but that it lies in brk. */

#define M2P_OVERRIDE_HASH_SHIFT	10
#define M2P_OVERRIDE_HASH	(1 << M2P_OVERRIDE_HASH_SHIFT)

static RESERVE_BRK_ARRAY(struct list_head, m2p_overrides, M2P_OVERRIDE_HASH);

static void __init m2p_override_init(void)
{
	unsigned i;

	m2p_overrides = extend_brk(sizeof(*m2p_overrides) * M2P_OVERRIDE_HASH,
				   sizeof(unsigned long));

	for (i = 0; i < M2P_OVERRIDE_HASH; i++)
		INIT_LIST_HEAD(&m2p_overrides[i]);
}

#ifdef CONFIG_XEN_DEBUG_FS
#include <linux/debugfs.h>

static int p2m_dump_show(struct seq_file *m, void *v)
{
	seq_printf(m, "%lu PFNs\n", xen_max_p2m_pfn);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(p2m_dump);
#endif
