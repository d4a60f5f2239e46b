/*
 * A kernel's unit in this process, on plain memory: what tests hold the files of tests/kernels to
 * the recordings with. Nothing is guarded here but what ends a guest; users' files never come here.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

typedef unsigned long word;

enum { ASK_PAGE, ASK_BOOT_PAGES, ASK_FREE, ASK_M2P, ASK_BRK };

/* Answers that are no page. */
#define NO_PAGE (~0UL)
#define BRK_CLOSED (~0UL - 1)

struct shared { word max_pfn, list_list, cr3, vaddr, generation; } p2mk_shared_info;
struct start { word nr_pages, mfn_list, flags; } p2mk_start_info;
word p2mk_hotplug_limit_gib;
word p2mk_page_offset, p2mk_start_kernel_map;
int p2mk_init_mm;

char *plain_memory, *plain_area;
word plain_area_bytes, plain_vaddr, plain_pgd, plain_mfn_list, plain_extra[64];
int plain_fd, plain_booted;
word plain_warned;
word (*plain_ask)(int what, word value);
word plain_static[8];
char plain_said[256];

static sigjmp_buf out;
static word last_address, last_pmd_address;
static word *last_pte, *last_pmd;

static word *page(word pfn) { return (word *)(plain_memory + (pfn << 12)); }

__attribute__((noreturn)) static void end(const char *kind, const char *text)
{
	snprintf(plain_said, sizeof plain_said, "%s %s", kind, text);
	siglongjmp(out, 1);
}

__attribute__((noreturn)) void p2mk_bug(const char *text, int line) { end("bug", text); }
__attribute__((noreturn)) void p2mk_panic(const char *text, int line) { end("bug", text); }
void p2mk_warn(const char *text, int line) { plain_warned++; }

static void *page_or_null(word pfn) { return pfn == NO_PAGE ? NULL : (void *)page(pfn); }

void *p2mk_extend_brk(word num_bytes, word align)
{
	word pfn = plain_ask(ASK_BRK, num_bytes >> 12);

	if (pfn >= BRK_CLOSED)
		end("bug", pfn == BRK_CLOSED ? "_brk_start == 0" : "brk overflow");
	return page(pfn);
}

word p2mk_alloc_page(void) { return (word)page_or_null(plain_ask(ASK_PAGE, 0)); }
word p2mk_get_zeroed_page(void) { return p2mk_alloc_page(); }
void p2mk_free_page(word address) { plain_ask(ASK_FREE, address); }
int p2mk_slab_is_available(void) { return plain_booted; }
void *p2mk_alloc_bootmem(word num_bytes, word align)
{
	return page_or_null(plain_ask(ASK_BOOT_PAGES, num_bytes >> 12));
}
void *p2mk_memblock_alloc(word num_bytes, word align)
{
	return p2mk_alloc_bootmem(num_bytes, align);
}
void p2mk_copy_page(word *to, const word *from)
{
	int i;

	for (i = 0; i < 512; i++)
		to[i] = from[i];
}
void p2mk_free_bootmem(word address, word num_bytes) { }
void *p2mk_va(word pfn) { return page(pfn); }
word p2mk_mfn_to_pfn(word mfn) { return plain_ask(ASK_M2P, mfn); }
void *p2mk_note_mfn_to_virt(word mfn, word pfn) { return page(pfn); }
word p2mk_note_virt_to_mfn(word pfn, word mfn) { return mfn; }

/* The unit's arrays are in the image: pages of the guest all the same. */
word p2mk_pa_pfn(const void *address)
{
	const char *at = address;
	int i;

	for (i = 0; p2mk_arrays[i].name; i++) {
		const char *begin = p2mk_arrays[i].address;

		if (at >= begin && at < begin + ((p2mk_arrays[i].num_bytes + 4095) & ~4095UL))
			return plain_static[i] + ((at - begin) >> 12);
	}
	/* The domain builder's list is at another address than the same pages of the direct map. */
	return (word)(at - plain_memory) >> 12;
}

/* Page tables: pages of the guest, their entries PFN << 12 and flags. */
static word *entry_at(word address, int levels, int make)
{
	word at = address - (word)plain_area + plain_vaddr;
	word *table = page(plain_pgd);
	int level;

	if (address - (word)plain_area >= plain_area_bytes)
		return NULL;
	for (level = 3; level > levels; level--) {
		word *entry = table + (at >> (12 + 9 * level) & 511);

		if (!(*entry & 1)) {
			word fresh;

			if (!make)
				return NULL;
			fresh = plain_ask(ASK_BOOT_PAGES, 1);
			if (fresh == NO_PAGE)
				end("bug", "panic");
			*entry = fresh << 12 | 3;
		}
		table = page(*entry >> 12);
	}
	return table + (at >> (12 + 9 * levels) & 511);
}

word *p2mk_lookup_address(word address, unsigned int *level)
{
	word *entry = entry_at(address, 0, 0);

	*level = 1;
	last_pte = entry;
	last_address = address;
	return entry;
}

word *p2mk_populate_pte(word address)
{
	last_address = address;
	return last_pte = entry_at(address, 0, 1);
}

word *p2mk_lookup_pmd_address(word address)
{
	last_pmd_address = address;
	return last_pmd = entry_at(address, 1, 0);
}

word *p2mk_populate_pmd(word address)
{
	last_pmd_address = address;
	return last_pmd = entry_at(address, 1, 1);
}

static void forget(word address, word num_bytes)
{
	mmap((void *)(address & ~(num_bytes - 1)), num_bytes, PROT_NONE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

void p2mk_set_pte(word *place, word entry)
{
	*place = entry;
	if (place == last_pte)
		forget(last_address, 4096);
}

void p2mk_set_pmd(word *place, word entry)
{
	*place = entry;
	if (place == last_pmd)
		forget(last_pmd_address, 2 << 20);
}

void *p2mk_vm_area(word num_bytes, word align)
{
	if (num_bytes != plain_area_bytes)
		end("fault", "another size than the trace's area");
	return plain_area;
}

int p2mk_safe_write(word *address, word value)
{
	word *entry = entry_at((word)address, 0, 0);

	if (!entry || !(*entry & 2))
		return -1;
	page(*entry >> 12)[(word)address >> 3 & 511] = value;
	return 0;
}

void *p2mk_swapper_pg_dir(void) { return page(plain_pgd); }
word p2mk_chk_extra_mem(word pfn) { end("fault", "xen_chk_extra_mem"); }

void p2mk_inv_extra_mem(void)
{
	word pfn, *run;

	for (run = plain_extra; run[1]; run += 2)
		for (pfn = run[0]; pfn < run[0] + run[1]; pfn++)
			p2mk_roots.set(pfn, ~0UL);
}

/* A page of the area that is not there yet, or a store through NULL. */
static void faulted(int number, siginfo_t *info, void *context)
{
	word address = (word)info->si_addr;
	word *entry = entry_at(address, 0, 0);

	if (!entry || !(*entry & 1))
		end("fault", address < 4096 ? "null list page" : "elsewhere");
	mmap((void *)(address & ~4095UL), 4096, PROT_READ | (*entry & 2 ? PROT_WRITE : 0),
	     MAP_SHARED | MAP_FIXED, plain_fd, (long)(*entry & ~4095UL));
}

/* Calls a root; 0 and its answer, or 1 and what ended it in plain_said. */
int plain_call(const char *root, word a, word b, word *answer)
{
	struct sigaction ours = { .sa_sigaction = faulted, .sa_flags = SA_SIGINFO | SA_NODEFER };
	struct sigaction segv, bus;
	int ended;

	sigaction(SIGSEGV, &ours, &segv);
	sigaction(SIGBUS, &ours, &bus);
	ended = sigsetjmp(out, 1);
	if (!ended) {
		if (!strcmp(root, "boot"))
			p2mk_roots.boot();
		else if (!strcmp(root, "list"))
			p2mk_roots.list();
		else if (!strcmp(root, "report"))
			p2mk_roots.report();
		else if (!strcmp(root, "revector"))
			*answer = p2mk_roots.revector();
		else if (!strcmp(root, "vmalloc"))
			p2mk_roots.vmalloc();
		else if (!strcmp(root, "identity"))
			*answer = p2mk_roots.identity(a, b);
		else if (!strcmp(root, "get"))
			*answer = p2mk_roots.get(a);
		else if (!strcmp(root, "set"))
			*answer = (word)p2mk_roots.set(a, b);
	}
	sigaction(SIGSEGV, &segv, NULL);
	sigaction(SIGBUS, &bus, NULL);
	return ended;
}
