/*
 * The p2m and the mfn list list of a PV guest, as the kernels before 2.6.37 have them in their mmu.c.
 *
 * Two levels in static arrays of the image; the list is built in full, and again at each resume.
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

#define P2M_ENTRIES_PER_PAGE	(PAGE_SIZE / sizeof(unsigned long))
#define TOP_ENTRIES		(MAX_DOMAIN_PAGES / P2M_ENTRIES_PER_PAGE)

/* What has no frames is in this leaf. */
static unsigned long p2m_missing[P2M_ENTRIES_PER_PAGE] __page_aligned_data =
	{ [0 ... P2M_ENTRIES_PER_PAGE - 1] = ~0UL };

/* A leaf's address, for each leaf there can be. */
static unsigned long *p2m_top[TOP_ENTRIES] __page_aligned_data =
	{ [0 ... TOP_ENTRIES - 1] = p2m_missing };

/* The same as MFNs, page by page, and the MFNs of those pages: what the toolstack reads. */
static unsigned long p2m_top_mfn[TOP_ENTRIES] __page_aligned_bss;
static unsigned long p2m_top_mfn_list[P2M_ENTRIES_PER_PAGE] __page_aligned_bss;

static inline unsigned p2m_top_index(unsigned long pfn)
{
	BUG_ON(pfn >= MAX_DOMAIN_PAGES);
	return pfn / P2M_ENTRIES_PER_PAGE;
}

static inline unsigned p2m_index(unsigned long pfn)
{
	return pfn % P2M_ENTRIES_PER_PAGE;
}

/* Called at boot, and by the resume: no number of an old host is left. */
void xen_build_mfn_list_list(void)
{
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(p2m_top); i++)
		p2m_top_mfn[i] = virt_to_mfn(p2m_top[i]);

	for (i = 0; i < TOP_ENTRIES / P2M_ENTRIES_PER_PAGE; i++)
		p2m_top_mfn_list[i] = virt_to_mfn(p2m_top_mfn + i * P2M_ENTRIES_PER_PAGE);
}

/* Tells the toolstack where the list is and how far it goes. */
void xen_setup_mfn_list_list(void)
{
	BUG_ON(HYPERVISOR_shared_info == &xen_dummy_shared_info);

	HYPERVISOR_shared_info->arch.pfn_to_mfn_frame_list_list = virt_to_mfn(p2m_top_mfn_list);
	HYPERVISOR_shared_info->arch.max_pfn = xen_start_info->nr_pages;
}

/* The leaves are the domain builder's flat list itself, page by page. */
void __init xen_build_dynamic_phys_to_machine(void)
{
	unsigned long *mfn_list = (unsigned long *)xen_start_info->mfn_list;
	unsigned long max_pfn = min(MAX_DOMAIN_PAGES, xen_start_info->nr_pages);
	unsigned long pfn;

	for (pfn = 0; pfn < max_pfn; pfn += P2M_ENTRIES_PER_PAGE)
		p2m_top[p2m_top_index(pfn)] = mfn_list + pfn;

	xen_build_mfn_list_list();
}

unsigned long get_phys_to_machine(unsigned long pfn)
{
	if (unlikely(pfn >= MAX_DOMAIN_PAGES))
		return INVALID_P2M_ENTRY;

	return p2m_top[p2m_top_index(pfn)][p2m_index(pfn)];
}
EXPORT_SYMBOL_GPL(get_phys_to_machine);

/* Makes a leaf at @pp, and names it at @mfnp, unless somebody was faster. */
static void alloc_p2m(unsigned long **pp, unsigned long *mfnp)
{
	unsigned long *p = (void *)__get_free_page(GFP_KERNEL | __GFP_NOFAIL);
	unsigned i;

	BUG_ON(p == NULL);

	for (i = 0; i < P2M_ENTRIES_PER_PAGE; i++)
		p[i] = INVALID_P2M_ENTRY;

	if (cmpxchg(pp, p2m_missing, p) == p2m_missing)
		*mfnp = virt_to_mfn(p);
	else
		free_page((unsigned long)p);
}

void set_phys_to_machine(unsigned long pfn, unsigned long mfn)
{
	unsigned topidx;

	if (unlikely(xen_feature(XENFEAT_auto_translated_physmap))) {
		BUG_ON(pfn != mfn && mfn != INVALID_P2M_ENTRY);
		return;
	}

	if (unlikely(pfn >= MAX_DOMAIN_PAGES)) {
		BUG_ON(mfn != INVALID_P2M_ENTRY);
		return;
	}

	topidx = p2m_top_index(pfn);
	if (p2m_top[topidx] == p2m_missing) {
		/* A hole has no frames already. */
		if (mfn == INVALID_P2M_ENTRY)
			return;
		alloc_p2m(&p2m_top[topidx], &p2m_top_mfn[topidx]);
	}

	p2m_top[topidx][p2m_index(pfn)] = mfn;
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
