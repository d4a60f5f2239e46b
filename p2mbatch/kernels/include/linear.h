/*
 * Page tables over the linear p2m. An entry holds a PFN and flags, as it reads after the kernel has
 * translated it; pte_mfn gives the MFN that stands in the machine's own.
 */
typedef unsigned long pteval_t;

typedef struct {
	unsigned long pte;
} pte_t;

typedef struct {
	unsigned long pmd;
} pmd_t;

typedef struct {
	unsigned long pgprot;
} pgprot_t;

struct mm_struct {
	int users;
};

struct vm_struct {
	void *addr;
	unsigned long size;
	unsigned long flags;
};

pte_t *p2mk_lookup_address(unsigned long address, unsigned int *level);
pmd_t *p2mk_lookup_pmd_address(unsigned long address);
pte_t *p2mk_populate_pte(unsigned long address);
pmd_t *p2mk_populate_pmd(unsigned long address);
void p2mk_set_pte(pte_t *place, pte_t entry);
void p2mk_set_pmd(pmd_t *place, pmd_t entry);
void *p2mk_vm_area(unsigned long num_bytes, unsigned long align);
int p2mk_safe_write(unsigned long *address, unsigned long word);
void *p2mk_swapper_pg_dir(void);
void p2mk_inv_extra_mem(void);
unsigned long p2mk_chk_extra_mem(unsigned long pfn);
extern unsigned long p2mk_hotplug_limit_gib;
extern struct mm_struct p2mk_init_mm;

#define CONFIG_XEN_MEMORY_HOTPLUG_LIMIT p2mk_hotplug_limit_gib
#define CONFIG_XEN_BALLOON_MEMORY_HOTPLUG_LIMIT p2mk_hotplug_limit_gib
#define PTRS_PER_PTE 512
#define PTRS_PER_PMD 512
#define PMD_SHIFT 21
#define PMD_SIZE (1UL << PMD_SHIFT)
#define PMD_MASK (~(PMD_SIZE - 1))
#define PG_LEVEL_4K 1
#define _PAGE_PRESENT 1UL
#define _PAGE_RW 2UL
#define _KERNPG_TABLE (_PAGE_PRESENT | _PAGE_RW)
#define PAGE_KERNEL ((pgprot_t){ _PAGE_PRESENT | _PAGE_RW })
#define PAGE_KERNEL_RO ((pgprot_t){ _PAGE_PRESENT })
#define VM_ALLOC 2

#define init_mm p2mk_init_mm
#define swapper_pg_dir p2mk_swapper_pg_dir()
#define xen_pfn_to_cr3(pfn) ((unsigned long)(pfn) << PAGE_SHIFT)
#define __pte(value) ((pte_t){ (value) })
#define __pmd(value) ((pmd_t){ (value) })
#define __pgprot(value) ((pgprot_t){ (value) })
#define pte_val(entry) ((entry).pte)
#define pmd_val(entry) ((entry).pmd)
#define paravirt_alloc_pte(mm, pfn) do { (void)(pfn); } while (0)
#define paravirt_release_pte(pfn) do { (void)(pfn); } while (0)

static inline unsigned long pte_pfn(pte_t entry)
{
	return entry.pte >> PAGE_SHIFT;
}

static inline unsigned long pte_mfn(pte_t entry)
{
	return pfn_to_mfn(entry.pte >> PAGE_SHIFT);
}

static inline pte_t *lookup_address(unsigned long address, unsigned int *level)
{
	return p2mk_lookup_address(address, level);
}

static inline pmd_t *lookup_pmd_address(unsigned long address)
{
	return p2mk_lookup_pmd_address(address);
}

static inline pte_t *populate_extra_pte(unsigned long address)
{
	return p2mk_populate_pte(address);
}

static inline pmd_t *populate_extra_pmd(unsigned long address)
{
	return p2mk_populate_pmd(address);
}

static inline void set_pte(pte_t *place, pte_t entry)
{
	p2mk_set_pte(place, entry);
}

static inline void set_pmd(pmd_t *place, pmd_t entry)
{
	p2mk_set_pmd(place, entry);
}

static inline pte_t pfn_pte(unsigned long pfn, pgprot_t prot)
{
	return (pte_t){ (pfn << PAGE_SHIFT) | prot.pgprot };
}

static inline void vm_area_register_early(struct vm_struct *area, size_t align)
{
	area->addr = p2mk_vm_area(area->size, align);
}

static inline void xen_inv_extra_mem(void)
{
	p2mk_inv_extra_mem();
}

static inline unsigned long xen_chk_extra_mem(unsigned long pfn)
{
	return p2mk_chk_extra_mem(pfn);
}

static inline int xen_safe_write_ulong(unsigned long *address, unsigned long word)
{
	return p2mk_safe_write(address, word);
}

#define __put_user(word, address) p2mk_safe_write((unsigned long *)(address), (word))

static inline pte_t *pte_offset_kernel(pmd_t *place, unsigned long address)
{
	return (pte_t *)p2mk_va(place->pmd >> PAGE_SHIFT) + address / PAGE_SIZE % PTRS_PER_PTE;
}
