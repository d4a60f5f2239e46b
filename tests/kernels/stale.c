/*
 * The p2m and the mfn list list of a PV guest, as a kernel of 2.6.37's time has them in its mmu.c.
 *
 * The list's pages are found by the MFNs that p2m_top_mfn has for them, which after a migration
 * are numbers of the old host.
 *
 * Written for the tests of p2mbatch, in the kernel's vocabulary. It is no part of any kernel.
 */
#include <linux/sched.h>
#include <linux/highmem.h>
#include <linux/bug.h>
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/gfp.h>

#include <asm/pgtable.h>
#include <asm/tlbflush.h>
#include <asm/setup.h>
#include <asm/xen/hypercall.h>
#include <asm/xen/hypervisor.h>
#include <asm/xen/page.h>

#include <xen/interface/xen.h>

#include "multicalls.h"
#include "mmu.h"
#include "debugfs.h"

#define TICKS_OF_A_FLUSH 64

#ifdef CONFIG_XEN_DEBUG_FS
static struct {
	u32 num_pinned;
	u32 by_batch[TICKS_OF_A_FLUSH];
} pin_stats;

static inline void count_pin(unsigned int batch)
{
	pin_stats.num_pinned++;
	pin_stats.by_batch[min(batch, (unsigned int)TICKS_OF_A_FLUSH - 1)]++;
}
#else
static inline void count_pin(unsigned int batch)
{
}
#endif

/* Page tables of the vcpu that runs, before and after a batch is flushed. */
DEFINE_PER_CPU(unsigned long, cr3_wanted);
DEFINE_PER_CPU(unsigned long, cr3_loaded);

unsigned long xen_max_p2m_pfn __read_mostly;

#define P2M_PER_PAGE		(PAGE_SIZE / sizeof(unsigned long))
#define P2M_MID_PER_PAGE	(PAGE_SIZE / sizeof(unsigned long *))
#define P2M_TOP_PER_PAGE	(PAGE_SIZE / sizeof(unsigned long **))

#define MAX_P2M_PFN		(P2M_TOP_PER_PAGE * P2M_MID_PER_PAGE * P2M_PER_PAGE)

/* Placeholders: what has no frames names these, in both trees. */
static RESERVE_BRK_ARRAY(unsigned long, p2m_missing, P2M_PER_PAGE);
static RESERVE_BRK_ARRAY(unsigned long *, p2m_mid_missing, P2M_MID_PER_PAGE);
static RESERVE_BRK_ARRAY(unsigned long, p2m_mid_missing_mfn, P2M_MID_PER_PAGE);

static RESERVE_BRK_ARRAY(unsigned long **, p2m_top, P2M_TOP_PER_PAGE);
static RESERVE_BRK_ARRAY(unsigned long, p2m_top_mfn, P2M_TOP_PER_PAGE);

RESERVE_BRK(p2m_mid, PAGE_SIZE * (MAX_DOMAIN_PAGES / (P2M_PER_PAGE * P2M_MID_PER_PAGE)));
RESERVE_BRK(p2m_mid_mfn, PAGE_SIZE * (MAX_DOMAIN_PAGES / (P2M_PER_PAGE * P2M_MID_PER_PAGE)));

static inline unsigned p2m_top_index(unsigned long pfn)
{
	BUG_ON(pfn >= MAX_P2M_PFN);
	return pfn / (P2M_MID_PER_PAGE * P2M_PER_PAGE);
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
static void fill_page(unsigned long *page, unsigned long word)
{
	unsigned long *end = page + P2M_PER_PAGE;

	while (page < end)
		*page++ = word;
}

static void p2m_init(unsigned long *leaf)
{
	fill_page(leaf, INVALID_P2M_ENTRY);
}

static void p2m_mid_init(unsigned long **mid)
{
	fill_page((unsigned long *)mid, (unsigned long)p2m_missing);
}

static void p2m_top_init(unsigned long ***top)
{
	fill_page((unsigned long *)top, (unsigned long)p2m_mid_missing);
}

static void p2m_mid_mfn_init(unsigned long *mid_mfn)
{
	fill_page(mid_mfn, virt_to_mfn(p2m_missing));
}

static void p2m_top_mfn_init(unsigned long *top_mfn)
{
	fill_page(top_mfn, virt_to_mfn(p2m_mid_missing_mfn));
}

/* Called at boot, and again by the resume: the frames are others then. */
void xen_build_mfn_list_list(void)
{
	unsigned long pfn;

	if (!p2m_top_mfn) {
		p2m_mid_missing_mfn = extend_brk(PAGE_SIZE, PAGE_SIZE);
		p2m_mid_mfn_init(p2m_mid_missing_mfn);

		p2m_top_mfn = extend_brk(PAGE_SIZE, PAGE_SIZE);
		p2m_top_mfn_init(p2m_top_mfn);
	}

	for (pfn = 0; pfn < xen_max_p2m_pfn; pfn += P2M_PER_PAGE) {
		unsigned topidx = p2m_top_index(pfn);
		unsigned mididx = p2m_mid_index(pfn);
		unsigned long *leaf = p2m_top[topidx][mididx];
		unsigned long *mid_mfn_p;

		if (leaf == p2m_missing)
			continue;

		mid_mfn_p = mfn_to_virt(p2m_top_mfn[topidx]);
		if (mid_mfn_p == p2m_mid_missing_mfn) {
			/* Boot alone comes here: alloc_p2m makes later ones. */
			mid_mfn_p = extend_brk(PAGE_SIZE, PAGE_SIZE);
			p2m_mid_mfn_init(mid_mfn_p);
			p2m_top_mfn[topidx] = virt_to_mfn(mid_mfn_p);
		}
		mid_mfn_p[mididx] = virt_to_mfn(leaf);
	}
}

/* Tells the toolstack where the list is and how far it goes. */
void xen_setup_mfn_list_list(void)
{
	BUG_ON(HYPERVISOR_shared_info == &xen_dummy_shared_info);

	HYPERVISOR_shared_info->arch.pfn_to_mfn_frame_list_list = virt_to_mfn(p2m_top_mfn);
	HYPERVISOR_shared_info->arch.max_pfn = xen_max_p2m_pfn;
}

/* The leaves are the domain builder's flat list itself, page by page. */
void __init xen_build_dynamic_phys_to_machine(void)
{
	unsigned long *mfn_list = (unsigned long *)xen_start_info->mfn_list;
	unsigned long max_pfn = min(MAX_DOMAIN_PAGES, xen_start_info->nr_pages);
	unsigned long pfn;

	xen_max_p2m_pfn = max_pfn;

	p2m_missing = extend_brk(PAGE_SIZE, PAGE_SIZE);
	p2m_init(p2m_missing);

	p2m_mid_missing = extend_brk(PAGE_SIZE, PAGE_SIZE);
	p2m_mid_init(p2m_mid_missing);

	p2m_top = extend_brk(PAGE_SIZE, PAGE_SIZE);
	p2m_top_init(p2m_top);

	for (pfn = 0; pfn < max_pfn; pfn += P2M_PER_PAGE) {
		unsigned long ***slot = p2m_top + p2m_top_index(pfn);

		if (*slot == p2m_mid_missing) {
			unsigned long **mid = extend_brk(PAGE_SIZE, PAGE_SIZE);

			p2m_mid_init(mid);
			*slot = mid;
		}
		(*slot)[p2m_mid_index(pfn)] = mfn_list + pfn;
	}
}

unsigned long get_phys_to_machine(unsigned long pfn)
{
	if (unlikely(pfn >= MAX_P2M_PFN))
		return INVALID_P2M_ENTRY;

	return p2m_top[p2m_top_index(pfn)][p2m_mid_index(pfn)][p2m_index(pfn)];
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

		p2m_mid_init(mid);
		if (cmpxchg(top_p, p2m_mid_missing, mid) != p2m_mid_missing)
			free_p2m_page(mid);
	}

	mid_mfn = mfn_to_virt(*top_mfn_p);

	if (mid_mfn == p2m_mid_missing_mfn) {
		unsigned long missing_mfn, mid_mfn_mfn;

		mid_mfn = alloc_p2m_page();
		if (!mid_mfn)
			return false;

		p2m_mid_mfn_init(mid_mfn);

		missing_mfn = virt_to_mfn(p2m_mid_missing_mfn);
		mid_mfn_mfn = virt_to_mfn(mid_mfn);
		if (cmpxchg(top_mfn_p, missing_mfn, mid_mfn_mfn) != missing_mfn)
			free_p2m_page(mid_mfn);
	}

	if (p2m_top[topidx][mididx] == p2m_missing) {
		unsigned long *leaf = alloc_p2m_page();

		if (!leaf)
			return false;

		p2m_init(leaf);
		if (cmpxchg(&mid[mididx], p2m_missing, leaf) != p2m_missing)
			free_p2m_page(leaf);
		else
			mid_mfn[mididx] = virt_to_mfn(leaf);
	}

	return true;
}

/* Never grows: false where @pfn has no leaf that could hold @mfn. */
bool __set_phys_to_machine(unsigned long pfn, unsigned long mfn)
{
	unsigned long *leaf;

	if (unlikely(pfn >= MAX_P2M_PFN)) {
		BUG_ON(mfn != INVALID_P2M_ENTRY);
		return true;
	}

	leaf = p2m_top[p2m_top_index(pfn)][p2m_mid_index(pfn)];
	if (leaf == p2m_missing)
		return mfn == INVALID_P2M_ENTRY;

	leaf[p2m_index(pfn)] = mfn;
	return true;
}

bool set_phys_to_machine(unsigned long pfn, unsigned long mfn)
{
	if (unlikely(xen_feature(XENFEAT_auto_translated_physmap))) {
		BUG_ON(pfn != mfn && mfn != INVALID_P2M_ENTRY);
		return true;
	}

	if (__set_phys_to_machine(pfn, mfn))
		return true;

	return alloc_p2m(pfn) && __set_phys_to_machine(pfn, mfn);
}

/* From here on nothing has to do with the p2m. */

xmaddr_t arbitrary_virt_to_machine(void *vaddr)
{
	unsigned long address = (unsigned long)vaddr;
	unsigned int level;
	pte_t *pte;

	if (virt_addr_valid(vaddr))
		return virt_to_machine(vaddr);

	pte = lookup_address(address, &level);
	BUG_ON(pte == NULL);
	return XMADDR(((phys_addr_t)pte_mfn(*pte) << PAGE_SHIFT) + (address & ~PAGE_MASK));
}

static void set_pte_batched(struct mm_struct *mm, unsigned long addr, pte_t *ptep, pte_t pteval)
{
	struct mmu_update u;

	xen_mc_batch();
	u.ptr = virt_to_machine(ptep).maddr | MMU_NORMAL_PT_UPDATE;
	u.val = pte_val_ma(pteval);
	extend_mmu_update(&u);
	count_pin(1);
	xen_mc_issue(PARAVIRT_LAZY_MMU);
}

static void flush_everything(void *unused)
{
	struct mmuext_op *op;
	struct multicall_space mcs = xen_mc_entry(sizeof(*op));

	op = mcs.args;
	op->cmd = MMUEXT_TLB_FLUSH_LOCAL;
	MULTI_mmuext_op(mcs.mc, op, 1, NULL, DOMID_SELF);
	asm volatile("mfence" ::: "memory");
	xen_mc_issue(PARAVIRT_LAZY_MMU);
}
PV_CALLEE_SAVE_REGS_THUNK(flush_everything);

static const struct pv_mmu_ops own_mmu_ops __initdata = {
	.flush_tlb_kernel = flush_everything,
	.set_pte_at = set_pte_batched,
	.read_cr2 = (unsigned long (*)(void))arbitrary_virt_to_machine,
};

void __init xen_init_mmu_ops(void)
{
	pv_mmu_ops = own_mmu_ops;
	memset(dummy_mapping, 0xff, PAGE_SIZE);
}

static int __init debug_files(void)
{
	struct dentry *d = debugfs_create_dir("mmu", xen_init_debugfs());

	if (d == NULL)
		return -ENOMEM;

	debugfs_create_u32("pinned", 0444, d, &pin_stats.num_pinned);
	return 0;
}
fs_initcall(debug_files);
