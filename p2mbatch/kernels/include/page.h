/*
 * What a kernel's asm/xen/page.h says of entries and MFNs, for files that come without their tree.
 * P2MK_ERA is 2 (two levels), 3 (three levels) or 4 (linear); P2MK_IDENTITY is set where entries
 * have an identity bit.
 */
#define INVALID_P2M_ENTRY (~0UL)

#if P2MK_IDENTITY
#define FOREIGN_FRAME_BIT (1UL << (BITS_PER_LONG - 1))
#define IDENTITY_FRAME_BIT (1UL << (BITS_PER_LONG - 2))
#define IDENTITY_FRAME(mfn) ((mfn) | IDENTITY_FRAME_BIT)
#define P2MK_MARKS (FOREIGN_FRAME_BIT | IDENTITY_FRAME_BIT)
#else
#define FOREIGN_FRAME_BIT (1UL << 31)
#define P2MK_MARKS FOREIGN_FRAME_BIT
#endif
#define FOREIGN_FRAME(mfn) ((mfn) | FOREIGN_FRAME_BIT)

/* How many times its own memory a guest's p2m has room for, where nothing else says. */
#define XEN_EXTRA_MEM_RATIO 10

#define P2M_PER_PAGE (PAGE_SIZE / sizeof(unsigned long))
#define P2M_MID_PER_PAGE (PAGE_SIZE / sizeof(unsigned long *))
#define P2M_TOP_PER_PAGE (PAGE_SIZE / sizeof(unsigned long **))
#define MAX_P2M_PFN (P2M_TOP_PER_PAGE * P2M_MID_PER_PAGE * P2M_PER_PAGE)

unsigned long get_phys_to_machine(unsigned long pfn);

#if P2MK_ERA == 4
extern unsigned long *xen_p2m_addr;
extern unsigned long xen_p2m_size;
extern unsigned long xen_max_p2m_pfn;

static inline unsigned long __pfn_to_mfn(unsigned long pfn)
{
	unsigned long entry = INVALID_P2M_ENTRY;

	if (pfn >= xen_p2m_size && pfn >= xen_max_p2m_pfn)
		return IDENTITY_FRAME(pfn);
	if (pfn < xen_p2m_size)
		entry = xen_p2m_addr[pfn];
	return entry == INVALID_P2M_ENTRY ? get_phys_to_machine(pfn) : entry;
}
#else
static inline unsigned long __pfn_to_mfn(unsigned long pfn)
{
	return get_phys_to_machine(pfn);
}
#endif

static inline unsigned long pfn_to_mfn(unsigned long pfn)
{
	unsigned long entry = __pfn_to_mfn(pfn);

#if P2MK_ERA > 2
	if (entry == INVALID_P2M_ENTRY)
		return entry;
#endif
	return entry & ~P2MK_MARKS;
}

static inline unsigned long mfn_to_pfn(unsigned long mfn)
{
	unsigned long pfn = p2mk_mfn_to_pfn(mfn);

#if P2MK_IDENTITY
	/* A frame that no PFN has may be one that stands for itself. */
	if (__pfn_to_mfn(pfn) != mfn && __pfn_to_mfn(mfn) == IDENTITY_FRAME(mfn))
		return mfn;
#endif
	return pfn;
}

static inline int phys_to_machine_mapping_valid(unsigned long pfn)
{
	return __pfn_to_mfn(pfn) != INVALID_P2M_ENTRY;
}

static inline xmaddr_t phys_to_machine(xpaddr_t phys)
{
	return XMADDR(PFN_PHYS(pfn_to_mfn(PFN_DOWN(phys.paddr))) | (phys.paddr & ~PAGE_MASK));
}

#define virt_to_machine(address) (phys_to_machine(XPADDR(__pa(address))))
