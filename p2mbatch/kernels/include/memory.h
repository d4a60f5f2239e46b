/* The guest's memory: addresses, brk, the boot allocator, pages after boot. */
void *p2mk_extend_brk(size_t num_bytes, size_t align);
void *p2mk_alloc_bootmem(unsigned long num_bytes, unsigned long align);
void *p2mk_memblock_alloc(unsigned long num_bytes, unsigned long align);
void p2mk_free_bootmem(unsigned long address, unsigned long num_bytes);
int p2mk_slab_is_available(void);
unsigned long p2mk_alloc_page(void);
unsigned long p2mk_get_zeroed_page(void);
void p2mk_free_page(unsigned long address);
void *p2mk_va(unsigned long pfn);
unsigned long p2mk_pa_pfn(const void *address);
/* Where the direct map and the kernel image map begin. */
extern unsigned long p2mk_page_offset;
extern unsigned long p2mk_start_kernel_map;

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096UL
#define PAGE_MASK (~(PAGE_SIZE - 1))
#define PAGE_ALIGN(address) (((address) + PAGE_SIZE - 1) & PAGE_MASK)
#define PAGE_OFFSET p2mk_page_offset
#define __PAGE_OFFSET p2mk_page_offset
#define __START_KERNEL_map p2mk_start_kernel_map
#define PFN_ALIGN(address) PAGE_ALIGN((unsigned long)(address))
#define PFN_UP(address) (((unsigned long)(address) + PAGE_SIZE - 1) >> PAGE_SHIFT)
#define PFN_DOWN(address) ((unsigned long)((address) >> PAGE_SHIFT))
#define PFN_PHYS(pfn) ((phys_addr_t)(pfn) << PAGE_SHIFT)

/* An address within a page keeps its offset. */
#define __pa(address) \
	(((phys_addr_t)p2mk_pa_pfn((const void *)(address)) << PAGE_SHIFT) | \
	 ((unsigned long)(address) & (PAGE_SIZE - 1)))
#define __pa_symbol(address) __pa(address)
#define __va(paddr) \
	((void *)((char *)p2mk_va((unsigned long)((phys_addr_t)(paddr) >> PAGE_SHIFT)) + \
		  ((unsigned long)(paddr) & (PAGE_SIZE - 1))))
#define virt_to_pfn(address) p2mk_pa_pfn((const void *)(address))
#define virt_to_phys(address) __pa(address)
#define phys_to_virt(paddr) __va(paddr)
#define pfn_to_kaddr(pfn) p2mk_va(pfn)

#define RESERVE_BRK(name, num_bytes)
#define RESERVE_BRK_ARRAY(type, name, num_entries) type *name
#define extend_brk(num_bytes, align) p2mk_extend_brk(num_bytes, align)

#define GFP_KERNEL 0U
#define GFP_ATOMIC 0U
#define GFP_NOWAIT 0U
#define GFP_NOIO 0U
#define __GFP_NOFAIL 0U
#define __GFP_REPEAT 0U
#define __GFP_RETRY_MAYFAIL 0U
#define __GFP_NORETRY 0U
#define __GFP_NOWARN 0U
#define __GFP_ZERO 0U
#define __get_free_page(flags) p2mk_alloc_page()
#define __get_free_pages(flags, order) ({ \
	if (order) \
		P2MK_NOT_SIMULATED("__get_free_pages of more than one page"); \
	p2mk_alloc_page(); })
#define get_zeroed_page(flags) p2mk_get_zeroed_page()
#define free_page(address) p2mk_free_page((unsigned long)(address))
#define free_pages(address, order) do { \
	if (order) \
		P2MK_NOT_SIMULATED("free_pages of more than one page"); \
	p2mk_free_page((unsigned long)(address)); } while (0)

#define slab_is_available() p2mk_slab_is_available()
#define alloc_bootmem_align(num_bytes, align) p2mk_alloc_bootmem(num_bytes, align)
#define alloc_bootmem_pages(num_bytes) p2mk_alloc_bootmem(num_bytes, PAGE_SIZE)
#define alloc_bootmem_low_pages(num_bytes) p2mk_alloc_bootmem(num_bytes, PAGE_SIZE)
#define free_bootmem(address, num_bytes) p2mk_free_bootmem(address, num_bytes)
#define memblock_alloc(num_bytes, align) p2mk_memblock_alloc(num_bytes, align)
#define memblock_alloc_raw(num_bytes, align) p2mk_memblock_alloc(num_bytes, align)
#define memblock_alloc_low(num_bytes, align) p2mk_memblock_alloc(num_bytes, align)
#define alloc_bootmem(num_bytes) p2mk_alloc_bootmem(num_bytes, PAGE_SIZE)
#define alloc_bootmem_pages_nopanic(num_bytes) p2mk_memblock_alloc(num_bytes, PAGE_SIZE)
/* What is reserved is no page that the allocator has here. */
#define memblock_reserve(paddr, num_bytes) ((void)(paddr), (void)(num_bytes), 0)
#define memblock_x86_reserve_range(start, end, name) ((void)(start), (void)(end))
#define reserve_early(start, end, name) ((void)(start), (void)(end))
#define memblock_virt_alloc(num_bytes, align) p2mk_alloc_bootmem(num_bytes, align)
#define memblock_alloc_or_panic(num_bytes, align) p2mk_alloc_bootmem(num_bytes, align)
#define memblock_free(address, num_bytes) \
	p2mk_free_bootmem((unsigned long)(address), num_bytes)
#define memblock_free_late(address, num_bytes) do { } while (0)

void p2mk_copy_page(void *to, const void *from);

static inline void copy_page(void *to, const void *from)
{
	p2mk_copy_page(to, from);
}

static inline void clear_page(void *page)
{
	unsigned long *out = page;
	unsigned i;

	for (i = 0; i < PAGE_SIZE / sizeof(unsigned long); i++)
		out[i] = 0;
}

static inline phys_addr_t memblock_phys_alloc(phys_addr_t num_bytes, phys_addr_t align)
{
	void *found = p2mk_memblock_alloc(num_bytes, align);

	return found ? __pa(found) : 0;
}

/* The slab: a page for each, whatever it is asked for. */
#define kmalloc(num_bytes, flags) ({ \
	if ((num_bytes) > PAGE_SIZE) \
		P2MK_NOT_SIMULATED("kmalloc of more than one page"); \
	(void *)p2mk_alloc_page(); })
#define kzalloc(num_bytes, flags) ({ \
	if ((num_bytes) > PAGE_SIZE) \
		P2MK_NOT_SIMULATED("kzalloc of more than one page"); \
	(void *)p2mk_get_zeroed_page(); })

static inline void kfree(const void *address)
{
	if (address)
		p2mk_free_page((unsigned long)address);
}

static inline int get_order(unsigned long num_bytes)
{
	int order = 0;

	while (PAGE_SIZE << order < num_bytes)
		order++;
	return order;
}

/* Where no memory is: what a page's structure holds can't be looked at, only whose it is. */
#ifdef CONFIG_X86_64
#define P2MK_MEMMAP ((struct page *)0x500000000000UL)
#else
#define P2MK_MEMMAP ((struct page *)0x20000000UL)
#endif
#define pfn_to_page(pfn) (P2MK_MEMMAP + (pfn))
#define page_to_pfn(page) ((unsigned long)((page) - P2MK_MEMMAP))
#define virt_to_page(address) pfn_to_page(virt_to_pfn(address))
#define page_address(page) p2mk_va(page_to_pfn(page))
#define alloc_pages(flags, order) ({ \
	unsigned long p2mk_new = __get_free_pages(flags, order); \
	p2mk_new ? virt_to_page(p2mk_new) : (struct page *)NULL; })
#define alloc_page(flags) alloc_pages(flags, 0)
#define __free_page(page) p2mk_free_page((unsigned long)page_address(page))
#define __free_pages(page, order) free_pages((unsigned long)page_address(page), order)

/* A kernel that has its own of these has them in its mmu.c; here all of memory is writable. */
static inline void make_lowmem_page_readonly(void *address)
{
}

static inline void make_lowmem_page_readwrite(void *address)
{
}
