/* What the machine has a say in, whoever's page.h stood before. */
#undef MAX_DOMAIN_PAGES
#define MAX_DOMAIN_PAGES P2MK_MAX_DOMAIN_PAGES
#undef virt_to_pfn
#undef virt_to_mfn
#undef virt_to_gfn
#undef mfn_to_virt
#define virt_to_pfn(address) p2mk_pa_pfn((const void *)(address))
#define virt_to_mfn(address) p2mk_noted_mfn((const void *)(address))
#define virt_to_gfn(address) virt_to_mfn(address)
#define mfn_to_virt(mfn) p2mk_noted_virt(mfn)
