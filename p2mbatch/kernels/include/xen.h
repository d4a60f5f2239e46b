/* What Xen and its toolstack give a guest: start info, shared info, the m2p. */
struct arch_shared_info {
	unsigned long max_pfn;
	unsigned long pfn_to_mfn_frame_list_list;
	unsigned long p2m_cr3;
	unsigned long p2m_vaddr;
	unsigned long p2m_generation;
};

struct shared_info {
	struct arch_shared_info arch;
};

struct start_info {
	unsigned long nr_pages;
	unsigned long mfn_list;
	unsigned long flags;
};

extern struct shared_info p2mk_shared_info;
extern struct start_info p2mk_start_info;
static struct shared_info xen_dummy_shared_info;

/* The m2p as the guest reads it; a read that faults yields what its handler leaves. */
unsigned long p2mk_mfn_to_pfn(unsigned long mfn);
/* Notes for the record: which page an MFN was taken for, and which MFN a page was said to have. */
void *p2mk_note_mfn_to_virt(unsigned long mfn, unsigned long pfn);
unsigned long p2mk_note_virt_to_mfn(unsigned long pfn, unsigned long mfn);

static inline unsigned long pfn_to_mfn(unsigned long pfn);
static inline unsigned long mfn_to_pfn(unsigned long mfn);

static inline unsigned long p2mk_noted_mfn(const void *address)
{
	unsigned long pfn = p2mk_pa_pfn(address);

	return p2mk_note_virt_to_mfn(pfn, pfn_to_mfn(pfn));
}

static inline void *p2mk_noted_virt(unsigned long mfn)
{
	return p2mk_note_mfn_to_virt(mfn, mfn_to_pfn(mfn));
}

#define HYPERVISOR_shared_info (&p2mk_shared_info)
#define xen_start_info (&p2mk_start_info)

#define DOMID_SELF 0x7ff0U
#define UVMF_INVLPG 2UL

/* Page tables are not simulated beyond those of a linear p2m. */
#define HYPERVISOR_update_va_mapping(...) (P2MK_NOT_SIMULATED("HYPERVISOR_update_va_mapping"), 0)
#define HYPERVISOR_mmu_update(...) (P2MK_NOT_SIMULATED("HYPERVISOR_mmu_update"), 0)
#define HYPERVISOR_mmuext_op(...) (P2MK_NOT_SIMULATED("HYPERVISOR_mmuext_op"), 0)

#define SIF_PRIVILEGED (1 << 0)
#define SIF_INITDOMAIN (1 << 1)
#define SIF_MOD_START_PFN (1 << 3)
#define SIF_VIRT_P2M_4TOOLS (1 << 4)

#define XENFEAT_writable_page_tables 0
#define XENFEAT_writable_descriptor_tables 1
#define XENFEAT_auto_translated_physmap 2
#define XENFEAT_mmu_pt_update_preserve_ad 5
#define xen_feature(feature) 0
#define xen_domain() 1
#define xen_pv_domain() 1
#define xen_hvm_domain() 0
#define xen_initial_domain() 0

/* The m2p as an array of bytes at 0: a word's address is its MFN, and what reads it asks Xen. */
static const unsigned char *machine_to_phys_mapping;
static const unsigned long machine_to_phys_nr = ~0UL;
static const unsigned int machine_to_phys_order = BITS_PER_LONG - 1;
#define __get_user(value, place) ((value) = p2mk_mfn_to_pfn((unsigned long)(place)), 0)

static inline int xen_safe_read_ulong(const void *place, unsigned long *value)
{
	*value = p2mk_mfn_to_pfn((unsigned long)place);
	return 0;
}
