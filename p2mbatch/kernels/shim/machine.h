/* The child's own ground: system calls, what is shared with the parent, where the guest lies. */

typedef unsigned long word;
typedef unsigned long long u64;

#define WORD_BYTES sizeof(word)
#define PAGE_SHIFT 12
#define PAGE_BYTES (1UL << PAGE_SHIFT)
#define HOT static inline __attribute__((always_inline))
#define GIVEN __attribute__((section(".given,\"aw\",@nobits#")))
#define COLD static __attribute__((noinline, cold))

/* Where the linker put the user's variables, and the program itself. */
extern char p2mk_data_begin[], p2mk_data_end[], p2mk_bss_begin[], p2mk_bss_end[];
extern char p2mk_static_begin[], p2mk_static_end[];
extern char p2mk_text_begin[], p2mk_text_end[], p2mk_image_end[], p2mk_own_text_begin[], p2mk_own_text_end[];

#ifdef __x86_64__
#define SYS_READ 0
#define SYS_WRITE 1
#define SYS_CLOSE 3
#define SYS_MMAP 9
#define MMAP_SHIFT 0
#define SYS_SIGACTION 13
#define SYS_SIGRETURN 15
#define SYS_SETITIMER 38
#define SYS_GETPPID 110
#define SYS_SETRLIMIT 160
#define SYS_PRCTL 157
#define SYS_SIGALTSTACK 131
#define SYS_EXIT 231
#define AUDIT_ARCH 0xc000003e
HOT long system_call(long n, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#else
#define SYS_READ 3
#define SYS_WRITE 4
#define SYS_CLOSE 6
#define SYS_MMAP 192 /* mmap2: the offset is in pages */
#define MMAP_SHIFT 12
#define SYS_SIGACTION 174
#define SYS_SIGRETURN 173
#define SYS_SETITIMER 104
#define SYS_GETPPID 64
#define SYS_SETRLIMIT 75
#define SYS_PRCTL 172
#define SYS_SIGALTSTACK 186
#define SYS_EXIT 252
#define AUDIT_ARCH 0x40000003
HOT long system_call(long n, long a, long b, long c, long d, long e, long f)
{
    long result;
    struct {
        long first, sixth;
    } pair = {a, f};
    /* %ebp and %ebx can't be asked for by name in every compiler's mode. */
    __asm__ volatile("push %%ebx\n\tpush %%ebp\n\tmov 4(%%ebx), %%ebp\n\tmov (%%ebx), %%ebx\n\t"
                     "int $0x80\n\tpop %%ebp\n\tpop %%ebx"
                     : "=a"(result)
                     : "a"(n), "b"(&pair), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "memory");
    return result;
}
#endif

#define CALL3(n, a, b, c) system_call(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)

#define SYS_CLOSE_RANGE 436

/* Behind a user's stack: the shim's own functions, and signals, still have some. */
#define SPARE_STACK (1UL << 17)
#define STACK_GAP (1UL << 16)

/* Descriptors as the parent hands them over. */
#define CONTROL_FD 3
#define MEMORY_FD 4
#define REQUEST_FD 5
#define ANSWER_FD 6

/* The guest's pages, once by the direct map's addresses and once by those of the kernel's image. */
#ifdef __x86_64__
#define DIRECT 0x100000000000UL
#define IMAGE 0x300000000000UL
#define GUEST_IMAGE 0xffffffff80000000UL
#define IMAGE_BYTES 0x7fe00000UL
#define FLAT 0x400000000000UL
#else
#define DIRECT 0xc0000000UL
#endif

/* What is shared with the parent: words by C_ names, then areas (layout.h is made of layout.py). */
static u64 *control;
#define C(name) control[C_##name]
#define AREA(name) (control + AREA_##name)

/* Copies of what the hooks ask for at every access. */
static word direct_bytes, guest_base, page_mask, flat_bytes;
#ifdef __x86_64__
static word image_bytes;
#endif
static int has_image;

/* The static arrays of a p2m of two levels: pages of the guest that lie in this program. */
static struct {
    word at, guest, page, bytes;
} arrays[NUM_ARRAYS];
/* Where all of them are here, 0 bytes where there are none; between which pages of the guest. */
static word arrays_at, arrays_bytes, arrays_page, arrays_pages;

/* An address within an array as the guest's kernel has it. There is no way back for values: a word of
 * the guest's that only looks like one stays what it is. */
COLD word array_form(word value)
{
    for (int i = 0; i < NUM_ARRAYS; i++)
        if (value - arrays[i].at < arrays[i].bytes)
            return value - arrays[i].at + arrays[i].guest;
    return value;
}

/* Where a page of an array is here; 0 for any other page. */
COLD word array_at_page(word page)
{
    for (int i = 0; i < NUM_ARRAYS; i++)
        if (page - arrays[i].page < arrays[i].bytes >> PAGE_SHIFT)
            return arrays[i].at + ((page - arrays[i].page) << PAGE_SHIFT);
    return 0;
}

/* An address as the guest's kernel has it, and back: the ranges change places, so that one function
 * does both, and whatever is no address of a page stays what it is. */
HOT word guest_form(word value)
{
    if (value - arrays_at < arrays_bytes)
        return array_form(value);
#ifdef __x86_64__
    word size = C(RANGE);
    if (value - DIRECT < size)
        return value - DIRECT + guest_base;
    if (value - guest_base < size)
        return value - guest_base + DIRECT;
    if (has_image) {
        if (value - IMAGE < IMAGE_BYTES)
            return value - IMAGE + GUEST_IMAGE;
        if (value - GUEST_IMAGE < IMAGE_BYTES)
            return value - GUEST_IMAGE + IMAGE;
    }
#endif
    return value;
}

/* A word as the parent has it: INVALID is -1 in either width. */
HOT u64 wide(word value)
{
#ifdef __x86_64__
    return value;
#else
    return value == ~0UL ? ~0ULL : value;
#endif
}

/* Set `count` words to zero. */
HOT void clear(void *to, word count)
{
#ifdef __x86_64__
    __asm__ volatile("cld; rep stosq" : "+D"(to), "+c"(count) : "a"(0UL) : "memory");
#else
    __asm__ volatile("cld; rep stosl" : "+D"(to), "+c"(count) : "a"(0UL) : "memory");
#endif
}

HOT void copy(void *to, const void *from, word bytes)
{
    __asm__ volatile("cld; rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}
