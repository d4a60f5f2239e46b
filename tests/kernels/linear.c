/*
 * The linear p2m of a PV guest and its mfn list list, as kernels from 5.14 on have them in p2m.c.
 *
 * The p2m is one array in virtual memory; what a tree would be are the page tables over it. Leaves
 * and whole level-1 pages without frames, or of nothing but identity, are shared and read-only: a
 * store there faults, and then they are replaced.
 *
 * Written for the tests of p2mbatch, in the kernel's vocabulary. It is no part of any kernel.
 */
#include <linux/init.h>
#include <linux/export.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/memblock.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include <asm/cache.h>
#include <asm/setup.h>
#include <linux/uaccess.h>

#include <asm/xen/page.h>
#include <asm/xen/hypercall.h>
#include <asm/xen/hypervisor.h>
#include <xen/balloon.h>
#include <xen/grant_table.h>

#include "multicalls.h"
#include "xen-ops.h"

#define P2M_MID_PER_PAGE	(PAGE_SIZE / sizeof(unsigned long *))
#define P2M_TOP_PER_PAGE	(PAGE_SIZE / sizeof(unsigned long **))
#define P2M_PER_MID		(P2M_MID_PER_PAGE * P2M_PER_PAGE)

#define MAX_P2M_PFN		(P2M_TOP_PER_PAGE * P2M_PER_MID)

unsigned long *xen_p2m_addr __read_mostly;
EXPORT_SYMBOL_GPL(xen_p2m_addr);
unsigned long xen_p2m_size __read_mostly;
EXPORT_SYMBOL_GPL(xen_p2m_size);
unsigned long xen_max_p2m_pfn __read_mostly;
EXPORT_SYMBOL_GPL(xen_max_p2m_pfn);

#ifdef CONFIG_XEN_MEMORY_HOTPLUG_LIMIT
#define P2M_LIMIT CONFIG_XEN_MEMORY_HOTPLUG_LIMIT
#else
#define P2M_LIMIT 0
#endif

static DEFINE_SPINLOCK(p2m_update_lock);

static unsigned long *p2m_missing, *p2m_identity;
static pte_t *p2m_missing_pte, *p2m_identity_pte;

static unsigned long *p2m_mid_missing_mfn;
static unsigned long *p2m_top_mfn;
static unsigned long **p2m_top_mfn_p;

/* Up to here PFNs may have frames: what the toolstack is told. */
static unsigned long xen_p2m_last_pfn;

enum p2m_kind {
	P2M_KIND_MISSING,
	P2M_KIND_IDENTITY,
	P2M_KIND_REAL,
};

static inline unsigned p2m_top_index(unsigned long pfn)
{
	BUG_ON(pfn >= MAX_P2M_PFN);
	return pfn / P2M_PER_MID;
}

static inline unsigned p2m_mid_index(unsigned long pfn)
{
	return pfn / P2M_PER_PAGE % P2M_MID_PER_PAGE;
}

/* Every word of a page becomes @word. */
static void fill_page(unsigned long *page, unsigned long word)
{
	unsigned i;

	for (i = 0; i < P2M_PER_PAGE; i++)
		page[i] = word;
}

static void fill_identity(unsigned long *page, unsigned long pfn)
{
	unsigned i;

	for (i = 0; i < P2M_PER_PAGE; i++)
		page[i] = IDENTITY_FRAME(pfn + i);
}

static void * __ref alloc_p2m_page(void)
{
	void *page;

	if (likely(slab_is_available()))
		return (void *)__get_free_page(GFP_KERNEL);

	page = memblock_alloc(PAGE_SIZE, PAGE_SIZE);
	if (!page)
		panic("%s: no memory left at boot\n", __func__);
	return page;
}

static void __ref free_p2m_page(void *page)
{
	if (likely(slab_is_available()))
		free_page((unsigned long)page);
	else
		memblock_free(page, PAGE_SIZE);
}

/* The level-1 entry of @pfn. */
static pte_t *p2m_pte(unsigned long pfn)
{
	unsigned int level;
	pte_t *ptep = lookup_address((unsigned long)(xen_p2m_addr + pfn), &level);

	BUG_ON(!ptep || level != PG_LEVEL_4K);
	return ptep;
}

static inline pte_t *pte_page_of(pte_t *ptep)
{
	return (pte_t *)((unsigned long)ptep & PAGE_MASK);
}

static inline bool is_shared_pte_page(const pte_t *page)
{
	return page == p2m_missing_pte || page == p2m_identity_pte;
}

static inline bool maps_leaf(pte_t pte, const unsigned long *leaf)
{
	return pte_pfn(pte) == PFN_DOWN(__pa(leaf));
}

/* Called at boot, and again by the resume; memory can be had at either time. */
void __ref xen_build_mfn_list_list(void)
{
	unsigned long pfn = 0;

	if (xen_start_info->flags & SIF_VIRT_P2M_4TOOLS)
		return;

	if (p2m_top_mfn) {
		fill_page(p2m_mid_missing_mfn, virt_to_mfn(p2m_missing));
	} else {
		p2m_mid_missing_mfn = alloc_p2m_page();
		fill_page(p2m_mid_missing_mfn, virt_to_mfn(p2m_missing));

		p2m_top_mfn_p = alloc_p2m_page();
		fill_page((unsigned long *)p2m_top_mfn_p, (unsigned long)p2m_mid_missing_mfn);

		p2m_top_mfn = alloc_p2m_page();
		fill_page(p2m_top_mfn, virt_to_mfn(p2m_mid_missing_mfn));
	}

	while (pfn < xen_max_p2m_pfn && pfn < MAX_P2M_PFN) {
		unsigned topidx = p2m_top_index(pfn);
		unsigned mididx = p2m_mid_index(pfn);
		unsigned long *mid_mfn_p = p2m_top_mfn_p[topidx];
		pte_t *ptep = p2m_pte(pfn);

		if (is_shared_pte_page(pte_page_of(ptep))) {
			BUG_ON(mididx);
			BUG_ON(mid_mfn_p != p2m_mid_missing_mfn);
			p2m_top_mfn[topidx] = virt_to_mfn(p2m_mid_missing_mfn);
			pfn += P2M_PER_MID;
			continue;
		}

		if (mid_mfn_p == p2m_mid_missing_mfn) {
			mid_mfn_p = alloc_p2m_page();
			fill_page(mid_mfn_p, virt_to_mfn(p2m_missing));
			p2m_top_mfn_p[topidx] = mid_mfn_p;
		}

		p2m_top_mfn[topidx] = virt_to_mfn(mid_mfn_p);
		mid_mfn_p[mididx] = pte_mfn(*ptep);
		pfn += P2M_PER_PAGE;
	}
}

/* Tells the toolstack where list and array are, and how far they go. */
void xen_setup_mfn_list_list(void)
{
	struct arch_shared_info *arch = &HYPERVISOR_shared_info->arch;

	BUG_ON(HYPERVISOR_shared_info == &xen_dummy_shared_info);

	arch->pfn_to_mfn_frame_list_list = ~0UL;
	if (!(xen_start_info->flags & SIF_VIRT_P2M_4TOOLS))
		arch->pfn_to_mfn_frame_list_list = virt_to_mfn(p2m_top_mfn);
	arch->max_pfn = xen_p2m_last_pfn;
	arch->p2m_generation = 0;
	arch->p2m_vaddr = (unsigned long)xen_p2m_addr;
	arch->p2m_cr3 = xen_pfn_to_cr3(virt_to_mfn(swapper_pg_dir));
}

/* The domain builder's flat list is the p2m, until it moves. */
void __init xen_build_dynamic_phys_to_machine(void)
{
	unsigned long pfn;

	xen_p2m_addr = (unsigned long *)xen_start_info->mfn_list;
	xen_p2m_size = ALIGN(xen_start_info->nr_pages, P2M_PER_PAGE);
	xen_max_p2m_pfn = xen_p2m_size;

	for (pfn = xen_start_info->nr_pages; pfn < xen_p2m_size; pfn++)
		xen_p2m_addr[pfn] = INVALID_P2M_ENTRY;
}

static enum p2m_kind kind_of(unsigned long pfn)
{
	unsigned long entry;

	if (pfn >= xen_p2m_size)
		return P2M_KIND_IDENTITY;

	entry = xen_p2m_addr[pfn];
	if (entry == INVALID_P2M_ENTRY)
		return P2M_KIND_MISSING;

	return entry & IDENTITY_FRAME_BIT ? P2M_KIND_IDENTITY : P2M_KIND_REAL;
}

/* How many PFNs from @pfn on are of one kind that a shared page stands for; 0 or @most. */
static bool is_of_one_kind(unsigned long pfn, unsigned long most)
{
	enum p2m_kind kind = kind_of(pfn);
	unsigned long i;

	if (kind == P2M_KIND_REAL)
		return false;

	/* Beyond the list all is identity: no need to look at each. */
	if (pfn >= xen_p2m_size)
		return true;

	for (i = 1; i < most; i++)
		if (kind_of(pfn + i) != kind)
			return false;

	return true;
}

static void __init make_shared_pages(void)
{
	unsigned i;

	p2m_missing = alloc_p2m_page();
	fill_page(p2m_missing, INVALID_P2M_ENTRY);
	p2m_identity = alloc_p2m_page();
	fill_page(p2m_identity, INVALID_P2M_ENTRY);

	p2m_missing_pte = alloc_p2m_page();
	paravirt_alloc_pte(&init_mm, PFN_DOWN(__pa(p2m_missing_pte)));
	p2m_identity_pte = alloc_p2m_page();
	paravirt_alloc_pte(&init_mm, PFN_DOWN(__pa(p2m_identity_pte)));

	for (i = 0; i < PTRS_PER_PTE; i++) {
		set_pte(&p2m_missing_pte[i], pfn_pte(PFN_DOWN(__pa(p2m_missing)), PAGE_KERNEL_RO));
		set_pte(&p2m_identity_pte[i], pfn_pte(PFN_DOWN(__pa(p2m_identity)), PAGE_KERNEL_RO));
	}
}

/* Maps the PFNs of one leaf at @area: a copy of theirs, or the page that all such share. */
static void __init map_leaf(unsigned long *area, unsigned long pfn)
{
	unsigned long *leaf;
	pgprot_t prot = PAGE_KERNEL_RO;
	pte_t *ptep;

	if (is_of_one_kind(pfn, P2M_PER_PAGE)) {
		leaf = kind_of(pfn) == P2M_KIND_MISSING ? p2m_missing : p2m_identity;
	} else {
		leaf = alloc_p2m_page();
		copy_page(leaf, xen_p2m_addr + pfn);
		prot = PAGE_KERNEL;
	}

	ptep = populate_extra_pte((unsigned long)(area + pfn));
	set_pte(ptep, pfn_pte(PFN_DOWN(__pa(leaf)), prot));
}

static void __init map_area(unsigned long *area)
{
	unsigned long pfn = 0;

	make_shared_pages();

	while (pfn < xen_max_p2m_pfn) {
		if (pfn % P2M_PER_MID == 0 && is_of_one_kind(pfn, P2M_PER_MID)) {
			pte_t *shared = kind_of(pfn) == P2M_KIND_MISSING ?
				p2m_missing_pte : p2m_identity_pte;
			pmd_t *pmdp = populate_extra_pmd((unsigned long)(area + pfn));

			set_pmd(pmdp, __pmd(__pa(shared) | _KERNPG_TABLE));
			pfn += P2M_PER_MID;
		} else {
			map_leaf(area, pfn);
			pfn += P2M_PER_PAGE;
		}
	}
}

/* Moves the p2m to an area of its own, wide enough for what may be plugged in. */
void __init xen_vmalloc_p2m_tree(void)
{
	static struct vm_struct vm;
	unsigned long p2m_limit = (phys_addr_t)P2M_LIMIT * 1024 * 1024 * 1024 / PAGE_SIZE;

	xen_p2m_last_pfn = xen_max_p2m_pfn;

	vm.flags = VM_ALLOC;
	vm.size = ALIGN(sizeof(unsigned long) * max(xen_max_p2m_pfn, p2m_limit), PMD_SIZE);
	vm_area_register_early(&vm, PMD_SIZE);
	pr_notice("p2m at %p, %lx bytes\n", vm.addr, vm.size);

	xen_max_p2m_pfn = vm.size / sizeof(unsigned long);
	map_area(vm.addr);

	xen_p2m_addr = vm.addr;
	xen_p2m_size = xen_max_p2m_pfn;

	xen_inv_extra_mem();
}

unsigned long get_phys_to_machine(unsigned long pfn)
{
	if (unlikely(pfn >= xen_p2m_size)) {
		if (pfn < xen_max_p2m_pfn)
			return xen_chk_extra_mem(pfn);

		return IDENTITY_FRAME(pfn);
	}

	/* Both shared leaves are full of the same word: which of them it is tells the page table. */
	if (maps_leaf(*p2m_pte(pfn), p2m_identity))
		return IDENTITY_FRAME(pfn);

	return xen_p2m_addr[pfn];
}
EXPORT_SYMBOL_GPL(get_phys_to_machine);

/* What the toolstack compares is odd while an entry changes. */
static inline void entry_changes(void)
{
	HYPERVISOR_shared_info->arch.p2m_generation++;
	wmb();
}

static inline void entry_has_changed(void)
{
	wmb();
	HYPERVISOR_shared_info->arch.p2m_generation++;
}

/* A level-1 page of its own in the place of @shared; its entry of @pfn. NULL: no memory. */
static pte_t *alloc_p2m_pmd(unsigned long pfn, pte_t *shared)
{
	unsigned long addr = (unsigned long)(xen_p2m_addr + pfn) & PMD_MASK;
	pte_t *page = alloc_p2m_page();
	unsigned long flags;
	unsigned int level;
	pmd_t *pmdp;

	if (!page)
		return NULL;

	copy_page(page, shared);
	paravirt_alloc_pte(&init_mm, PFN_DOWN(__pa(page)));
	pmdp = lookup_pmd_address(addr);
	BUG_ON(!pmdp);

	spin_lock_irqsave(&p2m_update_lock, flags);
	if (lookup_address(addr, &level) == shared) {
		entry_changes();
		set_pmd(pmdp, __pmd(__pa(page) | _KERNPG_TABLE));
		entry_has_changed();
		page = NULL;
	}
	spin_unlock_irqrestore(&p2m_update_lock, flags);

	if (page) {
		paravirt_release_pte(PFN_DOWN(__pa(page)));
		free_p2m_page(page);
	}

	return p2m_pte(pfn);
}

/* The list's page for @pfn, made if it is not there. NULL: no memory. */
static unsigned long *alloc_mid_mfn(unsigned long pfn)
{
	unsigned topidx = p2m_top_index(pfn);
	unsigned long *top_mfn_p = &p2m_top_mfn[topidx];
	unsigned long *mid_mfn = READ_ONCE(p2m_top_mfn_p[topidx]);
	unsigned long missing_mfn, old_mfn;

	BUG_ON(virt_to_mfn(mid_mfn) != *top_mfn_p);

	if (mid_mfn != p2m_mid_missing_mfn)
		return mid_mfn;

	mid_mfn = alloc_p2m_page();
	if (!mid_mfn)
		return NULL;

	fill_page(mid_mfn, virt_to_mfn(p2m_missing));

	missing_mfn = virt_to_mfn(p2m_mid_missing_mfn);
	old_mfn = cmpxchg(top_mfn_p, missing_mfn, virt_to_mfn(mid_mfn));
	if (old_mfn != missing_mfn) {
		free_p2m_page(mid_mfn);
		return mfn_to_virt(old_mfn);
	}

	p2m_top_mfn_p[topidx] = mid_mfn;
	return mid_mfn;
}

/* Gives @pfn a leaf of its own. */
int xen_alloc_p2m_entry(unsigned long pfn)
{
	unsigned long *mid_mfn = NULL;
	unsigned long *leaf;
	unsigned long flags;
	pte_t *ptep = p2m_pte(pfn);
	pte_t old;

	if (is_shared_pte_page(pte_page_of(ptep))) {
		ptep = alloc_p2m_pmd(pfn, pte_page_of(ptep));
		if (!ptep)
			return -ENOMEM;
	}

	if (p2m_top_mfn && pfn < MAX_P2M_PFN) {
		mid_mfn = alloc_mid_mfn(pfn);
		if (!mid_mfn)
			return -ENOMEM;
	}

	old = READ_ONCE(*ptep);
	if (maps_leaf(old, p2m_missing) || maps_leaf(old, p2m_identity)) {
		leaf = alloc_p2m_page();
		if (!leaf)
			return -ENOMEM;

		if (maps_leaf(old, p2m_missing))
			fill_page(leaf, INVALID_P2M_ENTRY);
		else
			fill_identity(leaf, pfn & ~(P2M_PER_PAGE - 1));

		spin_lock_irqsave(&p2m_update_lock, flags);
		if (pte_pfn(*ptep) == pte_pfn(old)) {
			entry_changes();
			set_pte(ptep, pfn_pte(PFN_DOWN(__pa(leaf)), PAGE_KERNEL));
			entry_has_changed();
			if (mid_mfn)
				mid_mfn[p2m_mid_index(pfn)] = virt_to_mfn(leaf);
			leaf = NULL;
		}
		spin_unlock_irqrestore(&p2m_update_lock, flags);

		if (leaf)
			free_p2m_page(leaf);
	}

	if (pfn >= xen_p2m_last_pfn) {
		xen_p2m_last_pfn = ALIGN(pfn + 1, P2M_PER_PAGE);
		HYPERVISOR_shared_info->arch.max_pfn = xen_p2m_last_pfn;
	}

	return 0;
}
EXPORT_SYMBOL(xen_alloc_p2m_entry);

unsigned long __init set_phys_range_identity(unsigned long pfn_s, unsigned long pfn_e)
{
	unsigned long pfn;

	if (unlikely(pfn_s >= xen_p2m_size || pfn_s > pfn_e))
		return 0;

	for (pfn = pfn_s; pfn < min(pfn_e, xen_p2m_size); pfn++)
		xen_p2m_addr[pfn] = IDENTITY_FRAME(pfn);

	return pfn - pfn_s;
}

/* Never grows: false where @pfn has no leaf of its own that could hold @mfn. */
bool __set_phys_to_machine(unsigned long pfn, unsigned long mfn)
{
	pte_t pte;

	if (unlikely(pfn >= xen_p2m_size))
		return mfn == INVALID_P2M_ENTRY;

	/* Where the leaf is shared the store faults, and nothing is stored. */
	if (likely(!xen_safe_write_ulong(xen_p2m_addr + pfn, mfn)))
		return true;

	pte = *p2m_pte(pfn);
	if (maps_leaf(pte, p2m_missing))
		return mfn == INVALID_P2M_ENTRY;
	if (maps_leaf(pte, p2m_identity))
		return mfn == IDENTITY_FRAME(pfn);

	return false;
}

bool set_phys_to_machine(unsigned long pfn, unsigned long mfn)
{
	if (likely(__set_phys_to_machine(pfn, mfn)))
		return true;

	if (xen_alloc_p2m_entry(pfn) < 0)
		return false;

	return __set_phys_to_machine(pfn, mfn);
}

/* From here on nothing is of the p2m itself. */

int clear_foreign_p2m_mapping(struct gnttab_unmap_grant_ref *unmap_ops,
			      struct gnttab_unmap_grant_ref *kunmap_ops,
			      struct page **pages, unsigned int count)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < count; i++) {
		unsigned long pfn = page_to_pfn(pages[i]);

		if (__pfn_to_mfn(pfn) & FOREIGN_FRAME_BIT)
			set_phys_to_machine(pfn, INVALID_P2M_ENTRY);
		else
			ret = -EINVAL;
	}

	if (kunmap_ops)
		ret = HYPERVISOR_grant_table_op(GNTTABOP_unmap_grant_ref, kunmap_ops, count) ?: ret;

	return ret;
}

#ifdef CONFIG_XEN_DEBUG_FS
#include <linux/debugfs.h>

static int p2m_kinds_show(struct seq_file *m, void *v)
{
	unsigned long pfn;

	for (pfn = 0; pfn < xen_p2m_size; pfn += P2M_PER_PAGE)
		seq_printf(m, "%lx %d\n", pfn, kind_of(pfn));

	return 0;
}
DEFINE_SHOW_ATTRIBUTE(p2m_kinds);

static struct dentry *d_mmu_debug;

static int __init xen_p2m_debugfs(void)
{
	d_mmu_debug = debugfs_create_dir("mmu", xen_init_debugfs());
	debugfs_create_file("p2m", 0600, d_mmu_debug, NULL, &p2m_kinds_fops);
	return 0;
}
fs_initcall(xen_p2m_debugfs);
#endif
